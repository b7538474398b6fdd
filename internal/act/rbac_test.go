package act

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite golden files")

func everything() []Action {
	in := []string{"team-a", "team-b"}
	hook := Action{Name: "tell", Kind: Webhook, Namespaces: in}
	hook.Webhook.URL = "https://hook.example.test/"
	mark := map[string]string{"whodunit.dev/found": "{rule}"}
	return []Action{
		{Name: "label", Kind: Label, Namespaces: in, Labels: mark},
		{Name: "annotate", Kind: Annotate, Namespaces: in, Annotations: mark, Resources: []string{"deployments.apps", "nodes"}, ClusterScoped: true},
		{Name: "delete-pod", Kind: DeletePod, Namespaces: in, Deny: []string{"*-b"}},
		{Name: "evict", Kind: Evict, Namespaces: []string{"team-a"}},
		{Name: "scale", Kind: ScaleToZero, Namespaces: []string{"team-a"}},
		{Name: "cordon", Kind: Cordon, Namespaces: []string{"team-a"}, ClusterScoped: true},
		{Name: "unbind", Kind: DeleteBinding, Namespaces: []string{"team-a"}, ClusterScoped: true},
		{Name: "revert", Kind: RevertBinding, Namespaces: []string{"team-a"}, BindRoles: []string{"ClusterRole/edit", "Role/deployer"}},
		{Name: "revoke", Kind: RevokeToken, Namespaces: []string{"ci-*"}},
		{Name: "quarantine", Kind: Quarantine, Namespaces: in},
		{Name: "event", Kind: Event, Namespaces: in, ClusterScoped: true},
		hook,
	}
}

func TestRBAC(t *testing.T) {
	for name, actions := range map[string][]Action{"everything": everything(), "one": everything()[2:3], "none": nil} {
		got, err := RBAC(actions, "whodunit", "act")
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join("testdata", "rbac-"+name+".yaml")
		if *update {
			if err := os.WriteFile(file, got, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(string(want), string(got)); d != "" {
			t.Errorf("%s:\n%s", file, d)
		}
	}
	if _, err := RBAC(nil, "a\nb", "act"); err == nil {
		t.Error("any text is a namespace")
	}
	if _, err := RBAC([]Action{{Name: "x"}}, "whodunit", "act"); err == nil {
		t.Error("any action is good")
	}
}

func TestCheck(t *testing.T) {
	good := Action{Name: "x", Kind: DeletePod, Namespaces: []string{"team-*"}}
	for want, change := range map[string]func(*Action){
		"":                     func(*Action) {},
		"name":                 func(a *Action) { a.Name = "X" },
		"kind":                 func(a *Action) { a.Kind = "explode" },
		"none is allowed":      func(a *Action) { a.Namespaces = nil },
		"nothing is ever done": func(a *Action) { a.Namespaces = []string{"kube-system"} },
		"namespace":            func(a *Action) { a.Deny = []string{"a/b"} },
		"cluster_scoped":       func(a *Action) { a.Kind = Cordon },
		"none to set":          func(a *Action) { a.Kind = Label },
		"label or annotation":  func(a *Action) { a.Kind, a.Labels = Label, map[string]string{"a b": ""} },
		"resource":             func(a *Action) { a.Resources = []string{"../x"} },
		"role":                 func(a *Action) { a.BindRoles = []string{"edit"} },
		"min_severity":         func(a *Action) { a.MinSeverity = "loud" },
		"rate":                 func(a *Action) { a.Rate.N = 1 },
		"cooldown":             func(a *Action) { a.Cooldown = -1 },
		"webhook":              func(a *Action) { a.Kind, a.Webhook.URL = Webhook, "ftp://x" },
	} {
		a := good
		change(&a)
		if err := a.Check(); (err != nil) != (want != "") || err != nil && !strings.HasPrefix(err.Error(), want) && !strings.Contains(err.Error(), want) {
			t.Errorf("%q wanted: %v", want, err)
		}
	}
}

func TestNew(t *testing.T) {
	a := Action{Name: "x", Kind: DeletePod, Namespaces: []string{"team-*"}}
	b := newBench(t, a)
	for want, change := range map[string]func(*Options){
		"dir and emit":              func(o *Options) { o.Dir = "" },
		"two of this name":          func(o *Options) { o.Actions = append(o.Actions, o.Actions[0]) },
		`action "y"`:                func(o *Options) { o.Actions = []Action{{Name: "y"}} },
		`cluster "one": there are`:  func(o *Options) { o.Clusters = append(o.Clusters, o.Clusters[0]) },
		"the pod's service account": func(o *Options) { o.Clusters = []Cluster{{Name: "in"}} },
		"cannot read kubeconfig":    func(o *Options) { o.Clusters = []Cluster{{Name: "in", Kubeconfig: "/nowhere"}} },
		"impersonates": func(o *Options) {
			c := *o.Clusters[0].Config
			c.Impersonate.UserName = "admin"
			o.Clusters = []Cluster{{Name: "one", Config: &c}}
		},
		"cannot have the key": func(o *Options) { o.Dir = filepath.Join(o.Dir, "missing") },
		"bytes are expected": func(o *Options) {
			o.Dir = t.TempDir()
			if err := os.WriteFile(filepath.Join(o.Dir, "key"), []byte("short"), 0o600); err != nil {
				t.Fatal(err)
			}
		},
	} {
		o := b.o
		change(&o)
		if actor, err := New(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q wanted: %v", want, err)
			if actor != nil {
				actor.Close()
			}
		}
	}
}
