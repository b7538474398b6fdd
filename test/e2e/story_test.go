// Package e2e holds the whole program against a real Kubernetes API server: real kubectl, real audit backends, real crashes.
package e2e

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"whodunit/test/e2e/cluster"
)

// What people do with kubectl is found again: every request, who did it, and what the rules say to it.
func TestStory(t *testing.T) {
	bin := cluster.BinaryFor(t)
	w := newServer(t, setup{webhook: true})
	c := cluster.For(t, cluster.Config{Binary: bin, Nodes: []string{"node-1"}, Webhook: w.hook(cluster.Batch)})
	requests := work(t, c)

	eventually(t, soonLimit, "every request that kubectl made is found", func(ctx context.Context) error {
		found, err := w.events(ctx, "*")
		if err != nil {
			return err
		}
		ids := map[string]bool{}
		for _, e := range found {
			ids[e.AuditID] = true
		}
		for _, r := range requests {
			if r.Audited() && !ids[r.AuditID] {
				return fmt.Errorf("not found among %d events: %+v", len(found), r)
			}
		}
		return nil
	})
	t.Run("who", func(t *testing.T) { who(t, w) })
	t.Run("findings", func(t *testing.T) { findings(t, w) })
	t.Run("search", func(t *testing.T) { searches(t, w) })
}

// work does what people do, and returns the requests that it took.
func work(t *testing.T, c *cluster.Cluster) []cluster.Request {
	t.Helper()
	const cicd = "system:serviceaccount:dev:k8saas-generic-sa-cicd"
	const settings = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\ndata: {mode: test}\n"
	var requests []cluster.Request
	do := func(o cluster.KubectlOptions, refused bool, args ...string) {
		t.Helper()
		r := c.KubectlWith(t.Context(), o, args...)
		if (r.Err != nil) != refused || refused && !strings.Contains(strings.ToLower(r.Stderr), "forbidden") {
			t.Fatalf("refused = %t wanted: %v, %s", refused, r.Err, r.Stderr)
		}
		requests = append(requests, r.Requests...)
	}
	ok := func(user string, args ...string) { t.Helper(); do(cluster.KubectlOptions{User: user}, false, args...) }
	refused := func(user string, args ...string) { t.Helper(); do(cluster.KubectlOptions{User: user}, true, args...) }

	ok(cluster.Alice, "create", "deployment", "web", "--image=registry.example.test/web:1", "-n", "team-a")
	do(cluster.KubectlOptions{User: cluster.Alice, Stdin: settings}, false, "apply", "-f", "-", "-n", "team-a")
	do(cluster.KubectlOptions{User: cluster.Bob, Env: []string{"KUBE_EDITOR=sed -i.bak -e s/mode:.*/mode:\\ edited/"}}, false,
		"edit", "configmap", "settings", "-n", "team-a")
	ok(cluster.Bob, "scale", "deployment/web", "--replicas=2", "-n", "team-a")
	ok(cluster.Bob, "wait", "--for=condition=Available", "--timeout=90s", "deployment/web", "-n", "team-a")
	ok(cluster.Bob, "exec", "deploy/web", "-n", "team-a", "--", "sh", "-c", "id; env")
	ok(cluster.Admin, "create", "secret", "generic", "db", "-n", "team-a", "--from-literal=password=example")
	ok(cluster.Dave, "get", "secret", "db", "-n", "team-a")
	ok(cluster.Dave, "get", "secrets", "-n", "team-a")
	ok(cluster.Alice, "get", "deployments", "-n", "dev", "--as="+cicd)
	refused(cluster.Mallory, "get", "secrets", "-A")
	refused(cluster.Mallory, "delete", "deployment", "web", "-n", "team-a")
	refused(cluster.Eve, "get", "secret", "db", "-n", "team-a")
	refused(cluster.Bob, "get", "pods", "-n", "dev", "--as="+cicd)
	ok(cluster.Bob, "delete", "deployment", "web", "-n", "team-a")
	if len(requests) < 25 {
		t.Fatalf("kubectl told of %d requests only", len(requests))
	}
	return requests
}

func who(t *testing.T, w *server) {
	for _, tt := range []struct {
		verb, object string
		did          string   // the only one who did it
		tried        []string // those who were refused
	}{
		{"deleted", "deploy/web", cluster.Bob, []string{cluster.Mallory}},
		{"created", "deploy/web", cluster.Alice, nil},
		{"scaled", "deploy/web", cluster.Bob, nil},
		{"changed", "cm/settings", cluster.Bob, nil},
		{"read", "secret/db", cluster.Dave, []string{cluster.Eve, cluster.Mallory}},
	} {
		t.Run(tt.verb, func(t *testing.T) {
			out, err := w.run(t.Context(), "who", tt.verb, tt.object, "-n", "team-a")
			if err != nil {
				t.Fatal(err)
			}
			var did, tried []string
			for line := range strings.Lines(out) {
				list := &did
				if strings.Contains(line, " tried to ") {
					list = &tried
				}
				for _, u := range cluster.DefaultUsers() {
					if strings.Contains(line, "] "+u.Name+" ") && !strings.HasPrefix(u.Name, "system:") && !slices.Contains(*list, u.Name) {
						*list = append(*list, u.Name)
					}
				}
			}
			slices.Sort(tried)
			if !slices.Equal(did, []string{tt.did}) || !slices.Equal(tried, tt.tried) {
				t.Errorf("who %s %s: did %q, tried %q; want %q, %q:\n%s", tt.verb, tt.object, did, tried, tt.did, tt.tried, out)
			}
		})
	}
}

func findings(t *testing.T, w *server) {
	for _, tt := range []struct {
		rule, user string
		want       int // 0: at least one
	}{
		{"impersonation-cicd", cluster.Alice, 0},
		{"secret-read", cluster.Dave, 0},
		{"pod-exec", cluster.Bob, 0},
	} {
		t.Run(tt.rule, func(t *testing.T) {
			eventually(t, soonLimit, tt.rule+" names "+tt.user, func(ctx context.Context) error {
				found, err := w.findings(ctx, "rule:"+tt.rule)
				if err != nil {
					return err
				}
				if !slices.ContainsFunc(found, func(f finding) bool {
					return f.Rule == tt.rule && f.User.Username == tt.user && strings.Contains(f.Message, tt.user)
				}) {
					return fmt.Errorf("%d findings, none about %s", len(found), tt.user)
				}
				return nil
			})
		})
	}
	denied, err := w.findings(t.Context(), "rule:secret-read and user:mallory*")
	if err != nil || len(denied) > 0 {
		t.Errorf("secret-read found %d reads by mallory, who was refused: %v", len(denied), err)
	}
}

func searches(t *testing.T, w *server) {
	for _, tt := range []struct {
		kql  string
		ok   func(e cluster.Logged) bool
		want bool
	}{
		{"user:mallory* and code >= 400", func(e cluster.Logged) bool { return e.User.Username == cluster.Mallory && e.ResponseStatus.Code >= 400 }, true},
		{"verb:delete and resource:deployments and ns:team-a and user:bob*", func(e cluster.Logged) bool { return e.Verb == "delete" && e.ObjectRef.Name == "web" }, true},
		{"objectRef.subresource:exec and requestURI:*command=sh*", func(e cluster.Logged) bool { return e.ObjectRef.Subresource == "exec" }, true},
		{"impersonatedUser.username:*cicd", func(e cluster.Logged) bool { return strings.HasSuffix(e.ImpersonatedUser.Username, "cicd") }, true},
		{"user:nobody-of-this-name", nil, false},
	} {
		found, err := w.events(t.Context(), tt.kql)
		if err != nil {
			t.Error(err)
			continue
		}
		if (len(found) > 0) != tt.want {
			t.Errorf("%s: %d events found", tt.kql, len(found))
		}
		for _, e := range found {
			if !tt.ok(e) {
				t.Errorf("%s: found %.300s", tt.kql, e.Raw)
			}
		}
	}
	if _, err := w.events(t.Context(), "verb:(delete"); err == nil {
		t.Error(errors.New("a broken search is no error"))
	}
}
