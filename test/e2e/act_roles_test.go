package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"whodunit/internal/act"
	"whodunit/internal/audit"
	"whodunit/test/e2e/cluster"
)

// story is what people do that actions are then about.
func (s *acting) story() {
	const ns = "team-a"
	robot := "system:serviceaccount:team-a:robot"
	s.kubectl(cluster.Admin, "create", "serviceaccount", "robot", "-n", ns)
	for _, pod := range []string{"label", "delete-pod", "evict", "cordon", "quarantine", "event", "revoke"} {
		args := []string{"run", pod, "--image=registry.example.test/x:1", "-n", ns, "--labels=app=" + pod}
		if pod == "revoke" {
			args = append(args, `--overrides={"spec":{"serviceAccountName":"robot"}}`)
		}
		s.kubectl(cluster.Alice, args...)
		s.kubectl(cluster.Alice, "wait", "--for=condition=Ready", "--timeout=90s", "pod/"+pod, "-n", ns)
		s.events[pod] = []*audit.Event{s.event(cluster.Alice, "create", "pods", pod)}
	}
	s.kubectl(cluster.Bob, "exec", "delete-pod", "-n", ns, "--", "id")
	s.events["delete-pod"] = []*audit.Event{s.event(cluster.Bob, "get", "pods/exec", "delete-pod")} // it has no uid
	s.events["webhook"] = s.events["label"]
	s.kubectl(cluster.Alice, "create", "deployment", "web", "--image=registry.example.test/web:1", "-n", ns)
	s.events["annotate"] = []*audit.Event{s.event(cluster.Alice, "create", "deployments", "web")}
	s.events["scale"] = []*audit.Event{s.event("system:serviceaccount:kube-system:replicaset-controller", "create", "pods", "web-")} // whose name the API server made
	s.kubectl(cluster.Admin, "create", "clusterrolebinding", "unbind", "--clusterrole=view", "--user="+cluster.Mallory)
	s.kubectl(cluster.Carol, "create", "rolebinding", "unbind", "--clusterrole=view", "--user="+cluster.Mallory, "-n", ns)
	s.events["unbind"] = []*audit.Event{s.event(cluster.Admin, "create", "clusterrolebindings", "unbind"), s.event(cluster.Carol, "create", "rolebindings", "unbind")}
	for _, kind := range []string{"rolebinding", "clusterrolebinding"} {
		s.kubectl(cluster.Admin, "create", kind, "made", "--clusterrole=view", "--user="+cluster.Mallory, "-n", ns)
		s.kubectl(cluster.Admin, "create", kind, "changed", "--clusterrole=view", "--user="+cluster.Bob, "-n", ns)
		s.kubectl(cluster.Admin, "patch", kind, "changed", "-n", ns, "--type=json", `--patch=[{"op":"add","path":"/subjects/-","value":{"apiGroup":"rbac.authorization.k8s.io","kind":"User","name":"`+cluster.Mallory+`"}}]`)
		s.events["revert"] = append(s.events["revert"], s.event(cluster.Admin, "create", kind+"s", "made"), s.event(cluster.Admin, "patch", kind+"s", "changed"))
	}
	s.apply("apiVersion: v1\nkind: Secret\nmetadata: {name: robot-token, namespace: team-a, annotations: {kubernetes.io/service-account.name: robot}}\ntype: kubernetes.io/service-account-token\n")
	s.kubectl(cluster.Admin, "wait", "--for=jsonpath={.data.token}", "--timeout=60s", "secret/robot-token", "-n", ns)
	s.events["revoke"] = nil
	for _, token := range []string{
		s.kubectl(cluster.Admin, "create", "token", "robot", "-n", ns, "--bound-object-kind=Pod", "--bound-object-name=revoke"),
		s.kubectl(cluster.Admin, "get", "secret", "robot-token", "-n", ns, "-o", `go-template={{.data.token | base64decode}}`),
	} {
		if err := s.c.Connect(s.t.Context(), robot, "127.0.0.1", cluster.Credentials{Token: strings.TrimSpace(token)}); err != nil {
			s.t.Fatal(err)
		}
		r := s.c.Kubectl(s.t.Context(), robot, "get", "configmaps", "-n", "shop") // may not, which is no reason to spare the token
		if !strings.Contains(r.Stderr, "Forbidden") {
			s.t.Fatalf("%v", r.Err)
		}
		s.events["revoke"] = append(s.events["revoke"], s.event(robot, "list", "configmaps", ""))
	}
	s.events["event"] = append(s.events["event"], s.events["unbind"][0]) // has no namespace
}

// roles are the manifests for the actions.
func (s *acting) roles(actions []act.Action) []map[string]any {
	s.t.Helper()
	b, err := act.RBAC(actions, "whodunit", "act")
	if err != nil {
		s.t.Fatal(err)
	}
	var out []map[string]any
	for dec := yaml.NewDecoder(strings.NewReader(string(b))); ; {
		var doc map[string]any
		if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
			return out
		} else if err != nil {
			s.t.Fatal(err)
		}
		out = append(out, doc)
	}
}

// grant makes manifests all that the account may do.
func (s *acting) grant(manifests []map[string]any) {
	s.t.Helper()
	s.kubectl(cluster.Admin, "delete", "roles,rolebindings", "-A", "--field-selector=metadata.name=whodunit-act", "--ignore-not-found")
	s.kubectl(cluster.Admin, "delete", "clusterrole/whodunit-act", "clusterrolebinding/whodunit-act", "--ignore-not-found")
	var b strings.Builder
	enc := yaml.NewEncoder(&b)
	for _, doc := range manifests {
		if err := enc.Encode(doc); err != nil {
			s.t.Fatal(err)
		}
	}
	if err := enc.Close(); err != nil {
		s.t.Fatal(err)
	}
	s.apply(b.String())
}

// state is all that the actions would change.
func (s *acting) state() string {
	s.t.Helper()
	return s.kubectl(cluster.Admin, "get", "pods,secrets,rolebindings,networkpolicies", "-n", "team-a", "-o", `jsonpath={range .items[*]}{.kind}/{.metadata.name} {.metadata.labels} {.metadata.deletionTimestamp} {.subjects[*].name}{"\n"}{end}`) +
		s.kubectl(cluster.Admin, "get", "clusterrolebindings/unbind", "clusterrolebindings/made", "clusterrolebindings/changed", "-o", `jsonpath={range .items[*]}{.metadata.name} {.subjects[*].name}{"\n"}{end}`) +
		s.kubectl(cluster.Admin, "get", "deployment", "web", "-n", "team-a", "-o", "jsonpath={.spec.replicas} {.metadata.annotations}") +
		s.kubectl(cluster.Admin, "get", "nodes", "-o", "jsonpath={.items[*].spec.unschedulable}") +
		s.kubectl(cluster.Admin, "get", "events", "-A", "--field-selector=reason=WhodunitFinding", "-o", "name")
}

// leastPrivilege: dry runs work under what is printed for one action alone, change nothing, and each rule of it is needed.
func (s *acting) leastPrivilege() {
	before := s.state()
	for _, a := range s.actions {
		roles := s.roles([]act.Action{a})
		s.grant(roles)
		s.becomes(a, "all its roles", func(messages []string) bool {
			return !slices.ContainsFunc(messages, func(m string) bool { return !strings.Contains(m, ": dry run") })
		})
		for _, role := range roles {
			rules, _ := role["rules"].([]any)
			for i, r := range rules {
				role["rules"] = slices.Delete(slices.Clone(rules), i, i+1)
				s.grant(roles)
				s.becomes(a, fmt.Sprintf("all its roles but %v", r), func(messages []string) bool {
					return slices.ContainsFunc(messages, func(m string) bool { return strings.Contains(m, ": failed: ") && strings.Contains(m, "forbidden") })
				})
			}
			if rules != nil {
				role["rules"] = rules
			}
		}
	}
	s.grant(s.roles(s.actions))
	if after := s.state(); after != before {
		s.t.Errorf("dry runs changed\n%s\nto\n%s", before, after)
	}
	if len(s.hooked) > 0 {
		s.t.Errorf("a dry run was told: %q", s.hooked)
	}
}

// becomes waits until the outcomes of an action about its events are as wanted: the authorizer learns of changed roles a little later.
func (s *acting) becomes(a act.Action, with string, ok func(messages []string) bool) {
	s.t.Helper()
	eventually(s.t, soonLimit, fmt.Sprintf("action %s with %s comes out as it should", a.Name, with), func(context.Context) error {
		var messages []string
		for _, ev := range s.events[a.Name] {
			messages = append(messages, s.try(a, ev))
		}
		if !ok(messages) {
			return fmt.Errorf("%q", messages)
		}
		return nil
	})
}
