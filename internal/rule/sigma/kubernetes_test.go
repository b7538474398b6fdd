package sigma_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"whodunit/internal/audit"
	"whodunit/internal/rule"
	"whodunit/internal/rule/sigma"
)

func sharedDir(t testing.TB) string {
	t.Helper()
	dir := os.Getenv("WHODUNIT_SHARED")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "..", "shared")
	}
	dir = filepath.Join(dir, "data", "sigma")
	if _, err := os.Stat(dir); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skipf("SKIPPED: %v", err)
	}
	return dir
}

// event is an audit event with these members beside the usual ones.
func event(t testing.TB, members string) *audit.Event {
	t.Helper()
	ev, err := audit.Parse("c", []byte(`{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"RequestResponse","auditID":"1","stage":"ResponseComplete","user":{"username":"bob"},`+members+`}`))
	if err != nil {
		t.Fatalf("%v: %s", err, members)
	}
	return &ev
}

func object(verb, group, resource, more string) string {
	return fmt.Sprintf(`"verb":%q,"requestURI":"/x","objectRef":{"apiGroup":%q,"resource":%q,"namespace":"default","name":"x"},"responseStatus":{"code":200}%s`, verb, group, resource, more)
}

func TestPublishedRules(t *testing.T) {
	l, err := rule.OpenLayer(sharedDir(t))
	if err != nil {
		t.Fatal(err)
	}
	out := rule.Load([]rule.Layer{l}, sigma.New(sigma.Options{WebsocketVerbs: true}))
	if len(out.Problems) > 0 || len(out.Rules) != 16 {
		t.Fatalf("%d rules, %v", len(out.Rules), out.Problems)
	}
	body := `,"requestObject":{"spec":{"containers":[{"name":"a","securityContext":{%s}}],"volumes":[{"name":"v","%s":{"path":"/etc"}}]}}`
	pod := object("create", "", "pods", fmt.Sprintf(body, `"capabilities":{"add":["SYS_ADMIN"]}`, "hostPath"))
	plain := object("create", "", "pods", fmt.Sprintf(body, "", "emptyDir"))
	exec := `"verb":"get","requestURI":"/api/v1/namespaces/d/pods/p/exec?command=%2Fbin%2Fsh","objectRef":{"resource":"pods","namespace":"d","name":"p","subresource":"exec"},"annotations":{"authorization.k8s.io/decision":"allow"}`
	for file, c := range map[string][2]string{
		"audit_events_deleted":              {object("delete", "", "events", ""), object("get", "", "events", "")},
		"audit_cronjob_modification":        {object("patch", "batch", "cronjobs", ""), object("list", "batch", "cronjobs", "")},
		"audit_pod_in_system_namespace":     {strings.Replace(pod, "default", "kube-system", 1), pod},
		"unauthorized_unauthenticated":      {`"verb":"get","responseStatus":{"code":403}`, `"verb":"get","responseStatus":{"code":404}`},
		"audit_hostpath_mount":              {pod, plain},
		"audit_privileged_pod_creation":     {pod, plain},
		"audit_serviceaccount_creation":     {object("create", "", "serviceaccounts", ""), object("update", "", "serviceaccounts", "")},
		"audit_secrets_modified_or_deleted": {object("patch", "", "secrets", ""), object("get", "", "secrets", "")},
		"audit_potential_enumeration":       {exec, strings.Replace(exec, `"allow"`, `"forbid"`, 1)},
		"audit_deployment_deleted":          {object("delete", "apps", "deployments", ""), object("delete", "apps", "replicasets", "")},
		"audit_exec_into_container":         {exec, strings.Replace(exec, `"exec"`, `"log"`, 1)},
		"audit_change_admission_controller": {object("update", "admissionregistration.k8s.io", "validatingwebhookconfigurations", ""), object("update", "", "validatingwebhookconfigurations", "")},
		"audit_rbac_perm":                   {object("create", "authorization.k8s.io", "selfsubjectrulesreviews", ""), object("create", "authorization.k8s.io", "selfsubjectaccessreviews", "")},
		"audit_secrets_enumeration":         {object("list", "", "secrets", ""), object("watch", "", "secrets", "")},
		"audit_sidecar_injection":           {object("patch", "apps", "deployments", ""), object("patch", "apps", "daemonsets", "")},
		"audit_rolebinding_modification":    {object("create", "rbac.authorization.k8s.io", "rolebindings", ""), object("create", "rbac.authorization.k8s.io", "roles", "")},
	} {
		found := false
		for _, r := range out.Rules {
			if !strings.Contains(r.File, file) {
				continue
			}
			found = true
			for i, m := range c {
				ev := event(t, m)
				if got, _ := r.Match(ev); got != (i == 0) {
					t.Errorf("%s: %t of %s\n%s", file, got, m, r.Expr)
				}
				if !strings.HasPrefix(r.Text(ev), r.Title) {
					t.Errorf("%s: message %q", file, r.Text(ev))
				}
			}
			if r.Priority == "" || len(r.Tags) == 0 || len(r.References) == 0 || r.PerEvent || r.Off != "" || len(r.ID) != 36 {
				t.Errorf("%s: %+v", file, r)
			}
			if want := strings.Contains(file, "hostpath") || strings.Contains(file, "privileged"); (r.Level == audit.LevelRequest) != want {
				t.Errorf("%s: level %s", file, r.Level)
			}
		}
		if !found {
			t.Errorf("no rule %s", file)
		}
	}
}

func TestWebsocketVerbs(t *testing.T) {
	rules := func(o sigma.Options) []*rule.Rule {
		return load(t, o, `
title: exec
logsource: {product: kubernetes, service: audit}
detection: {s: {verb: create, objectRef.subresource: [exec, log]}, condition: s}
---
title: pods
logsource: {product: kubernetes, service: audit}
detection: {s: {verb: create, objectRef.resource: pods}, condition: s}
`)
	}
	get := func(sub string) *audit.Event {
		return event(t, `"verb":"get","objectRef":{"resource":"pods","subresource":"`+sub+`"}`)
	}
	for _, c := range []struct {
		on   bool
		i    int
		sub  string
		want bool
	}{{true, 0, "exec", true}, {true, 0, "log", false}, {false, 0, "exec", false}, {true, 1, "exec", false}} {
		if got, _ := rules(sigma.Options{WebsocketVerbs: c.on})[c.i].Match(get(c.sub)); got != c.want {
			t.Errorf("%+v: %t", c, got)
		}
	}
}

func TestLogsourcesAndPatches(t *testing.T) {
	rules := load(t, sigma.Options{Fields: map[string]string{"who": "user.username"}}, `
title: Windows thing
id: w
logsource: {product: windows, category: process_creation}
detection: {s: {A: x}, condition: s}
level: informational
---
title: Patch
logsource: {product: kubernetes}
fields: [objectRef.name, who]
detection: {s: {hostPath.path|startswith: /etc, who: bob}, condition: s}
`)
	if r := rules[0]; r.Off != "logsource windows/process_creation is not kubernetes audit" || r.Severity != "info" || r.Priority != "informational" {
		t.Errorf("%+v", r)
	}
	ev := event(t, `"verb":"patch","requestURI":"/p","objectRef":{"name":"n"},"requestObject":[{"op":"add","path":"/spec/volumes/-","value":{"name":"x","hostPath":{"path":"/etc/kubernetes"}}}]`)
	if ok, _ := rules[1].Match(ev); !ok {
		t.Error("a JSON Patch hides a volume")
	}
	if got, want := rules[1].Text(ev), "Patch: bob patch /p (objectRef.name=n, who=bob)"; got != want {
		t.Errorf("message %q, want %q", got, want)
	}
}

func TestGenericKubernetes(t *testing.T) {
	r := load(t, sigma.Options{Generic: true}, "title: T\nlogsource: {product: kubernetes}\ndetection: {s: {apiGroup: apps, capabilities: '*', responseStatus.code: ALLOW}, condition: s}")[0]
	yes := `{"objectRef":{"apiGroup":"apps"},"requestObject":{"a":{"capabilities":{"add":["X"]}}},"responseStatus":{"code":201}}`
	if ok, _ := r.Match(generic(t, yes)); !ok || !r.PerEvent {
		t.Error("no match")
	}
	if ok, _ := r.Match(generic(t, strings.Replace(yes, "201", "403", 1))); ok {
		t.Error("a match")
	}
}
