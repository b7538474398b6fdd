package falco

import (
	"slices"
	"testing"

	"whodunit/internal/audit"
	"whodunit/internal/match"
	"whodunit/internal/rule"
)

// TestField finds every computed field of a rule again by its name, with the same values.
func TestField(t *testing.T) {
	ev, err := audit.Parse("c", []byte(`{"auditID":"a","stage":"ResponseComplete","verb":"create","requestURI":"/x?command=sh%20-c","objectRef":{"resource":"pods"},
"requestObject":{"spec":{"containers":[{"image":"r.test/a/b:1","securityContext":{"privileged":true}}],"volumes":[{"hostPath":{"path":"/proc/x"}}]}}}`))
	if err != nil {
		t.Fatal(err)
	}
	f, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	loaded := rule.Parse("f.yaml", []byte(`- rule: r
  desc: d
  condition: >
    ka.req.pod.containers.image.repository intersects (x) or ka.req.volume.hostpath[/proc*]=true or tolower(ka.uri.param[command]) = sh or jevt.value[/requestObject/a~1b] = y
    or ka.req.pod.containers.image[0] in (z) or json.value[/requestObject/spec/containers/0/image] contains r
  output: o
  priority: WARNING
  source: k8s_audit
`), f)
	if len(loaded.Problems) > 0 {
		t.Fatal(loaded.Problems[0])
	}
	values := func(f *match.Field) (out []string) {
		f.Values(&ev, func(v string) bool { out = append(out, v); return true })
		return out
	}
	n := 0
	match.Walk(loaded.Rules[0].Expr, func(x match.Expr) {
		p, ok := x.(*match.Pred)
		if !ok || p.Field == nil {
			return
		}
		n++
		again := Field(p.Field.Name)
		if again == nil || again.Name != p.Field.Name || !slices.Equal(values(again), values(p.Field)) {
			t.Errorf("%s: %+v", p.Field.Name, again)
		}
	})
	if n < 4 {
		t.Errorf("only %d computed fields in %s", n, loaded.Rules[0].Expr)
	}
	for _, bad := range []string{"", "falco:", "falco:ka.nothing", "falco:)(", "column x", "falco-upstream:ka.verb ="} {
		if Field(bad) != nil {
			t.Errorf("%q is a field", bad)
		}
	}
}
