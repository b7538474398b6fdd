package rules_test

import (
	"fmt"
	"strings"
	"testing"

	"whodunit/internal/audit"
	"whodunit/internal/rule"
	"whodunit/internal/rule/native"
	"whodunit/rules"
)

func load(t testing.TB) *rule.Set {
	t.Helper()
	f, err := native.New()
	if err != nil {
		t.Fatal(err)
	}
	loaded := rule.Load([]rule.Layer{{Name: "rules", FS: rules.FS}}, f)
	set, problems := loaded.Set()
	problems = append(problems, loaded.Problems...)
	for _, p := range problems {
		t.Error(p)
	}
	if t.Failed() {
		t.FailNow()
	}
	return set
}

// TestPack runs every rule's own tests and holds the pack to its own standard.
func TestPack(t *testing.T) {
	set := load(t)
	if n := len(set.Rules()); n < 11 {
		t.Errorf("%d rules, want at least 11", n)
	}
	for _, r := range set.Rules() {
		t.Run(r.ID, func(t *testing.T) {
			if r.File != "rules/"+r.ID+".yaml" {
				t.Errorf("rule %s stands in %s", r.ID, r.File)
			}
			for _, p := range r.RunTests() {
				t.Error(p)
			}
			var yes, no int
			for _, c := range r.Tests {
				if c.Match {
					yes++
				} else {
					no++
				}
			}
			if yes < 2 || no < 2 {
				t.Errorf("%d tests that match and %d that do not; want two of each", yes, no)
			}
			if r.Title == r.ID || r.Description == "" || len(r.Tags) == 0 || len(r.References) == 0 || len(r.FalsePositives) == 0 || len(r.GroupBy) == 0 {
				t.Error("title, description, tags, references, false_positives and group_by are wanted")
			}
			if r.Expr == nil && r.ID != "audit-id-reuse" {
				t.Error("no prefilter: the condition would run on every event")
			}
		})
	}
}

// TestLargestObjects hides the one bad part behind as many harmless ones as etcd takes in an object (1.5 MiB): no rule may
// give up before it gets there.
func TestLargestObjects(t *testing.T) {
	set := load(t)
	for id, c := range map[string]struct{ ref, body, harmless, bad string }{
		"privileged-pod":     {`"resource":"pods"`, `{"spec":{"containers":[%s]}}`, `{"name":"c%d"}`, `{"securityContext":{"privileged":true}}`},
		"sensitive-hostpath": {`"resource":"pods"`, `{"spec":{"volumes":[%s]}}`, `{"name":"v%d","hostPath":{"path":"/mnt"}}`, `{"hostPath":{"path":"/etc"}}`},
		"wildcard-role":      {`"resource":"roles","apiGroup":"rbac.authorization.k8s.io"`, `{"rules":[%s]}`, `{"verbs":["get"],"resources":["r%d"]}`, `{"verbs":["*"]}`},
	} {
		var parts strings.Builder
		for i := 0; parts.Len() < 3<<19; i++ {
			fmt.Fprintf(&parts, c.harmless+",", i)
		}
		raw := fmt.Sprintf(`{"auditID":"a","stage":"ResponseComplete","verb":"create","user":{"username":"u"},"objectRef":{%s},"responseStatus":{"code":201},"requestObject":`+c.body+"}", c.ref, parts.String()+c.bad)
		ev, err := audit.Parse("c", []byte(raw))
		if err != nil {
			t.Fatal(err)
		}
		if ok, err := set.Get(id).Match(&ev); !ok {
			t.Errorf("%s misses it: %v", id, err)
		}
	}
}
