package coverage

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"whodunit/internal/audit"
	"whodunit/internal/match"
	"whodunit/internal/rule"
)

func is(path string, values ...string) match.Expr {
	return &match.Pred{Path: path, Op: match.Equal, Values: values}
}

func newRule(id string, level audit.Level, x ...match.Expr) *rule.Rule {
	return &rule.Rule{ID: id, Level: level, Stages: rule.DefaultStages(), Expr: match.And(x)}
}

func TestMatrices(t *testing.T) {
	rules := []*rule.Rule{
		{ID: "a", Tags: []string{"ms-ta9025", "attack.t1552.007", "attack.credential_access", "attack.t1499"}},
		{ID: "b", Tags: []string{"MS-TA9025", "attack.t1552", "ms-ta9999", "attack.T9998.001", "t1611"}},
		{ID: "off", Off: "x", Tags: []string{"ms-ta9006"}}, {ID: "base", Silent: true, Tags: []string{"ms-ta9006"}},
	}
	for _, tt := range []struct {
		m       *Matrix
		size    int
		covered map[string][]string
		others  []string
	}{
		{ThreatMatrix(), 40, map[string][]string{"MS-TA9025": {"a", "b"}}, []string{"MS-TA9999"}},
		{Attack(), 29, map[string][]string{"T1552": {"a", "b"}, "T1499": {"a"}}, []string{"T9998"}},
	} {
		others := tt.m.Cover(rules)
		got := map[string][]string{}
		for _, x := range tt.m.Techniques {
			if len(x.Rules) > 0 {
				got[x.ID] = x.Rules
			}
		}
		if diff := cmp.Diff(tt.covered, got); diff != "" {
			t.Errorf("%s: %s", tt.m.Name, diff)
		}
		if len(tt.m.Techniques) != tt.size || tt.m.Covered() != len(tt.covered) || !cmp.Equal(others, tt.others) {
			t.Errorf("%s: %d techniques, %d covered, others %v", tt.m.Name, len(tt.m.Techniques), tt.m.Covered(), others)
		}
	}
}

func event(t *testing.T, level, stage, verb, resource, sub string) *audit.Event {
	t.Helper()
	ev, err := audit.Parse("c", fmt.Appendf(nil, `{"auditID":"a","level":%q,"stage":%q,"verb":%q,"objectRef":{"resource":%q,"subresource":%q}}`, level, stage, verb, resource, sub))
	if err != nil {
		t.Fatal(err)
	}
	return &ev
}

func TestBlind(t *testing.T) {
	a := NewArrivals()
	a.Add(event(t, "Metadata", "ResponseComplete", "create", "pods", ""))
	a.Add(event(t, "Metadata", "ResponseComplete", "delete", "secrets", ""))
	a.Add(event(t, "RequestResponse", "RequestReceived", "patch", "deployments", ""))
	rules := []*rule.Rule{
		newRule("seen", audit.LevelMetadata, is("verb", "create", "update"), is("objectRef.resource", "pods")),
		newRule("unsure", audit.LevelMetadata, is("user.username", "x"), match.Not{X: is("objectRef.name", "y")}),
		newRule("level", audit.LevelRequest, is("verb", "create"), is("objectRef.resource", "pods")),
		newRule("body", audit.LevelMetadata, is("verb", "create"), is("requestObject.spec.hostPID", "true")),
		newRule("verb", audit.LevelMetadata, is("verb", "list"), is("objectRef.resource", "secrets")),
		newRule("resource", audit.LevelMetadata, is("verb", "create"), is("objectRef.resource", "nodes")),
		newRule("stage", audit.LevelRequest, is("objectRef.resource", "deployments")),
		newRule("several", audit.LevelRequest, is("verb", "list"), is("objectRef.resource", "nodes")),
		newRule("negated", audit.LevelMetadata, match.Not{X: is("verb", "create", "delete", "patch")}),
		{ID: "either", Correlation: &rule.Correlation{Type: rule.EventCount, Of: []string{"verb", "seen"}}},
		{ID: "both", Correlation: &rule.Correlation{Type: rule.TemporalOrdered, Of: []string{"verb", "seen"}}},
	}
	var got []string
	blind, err := a.Blind(rules)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range blind {
		got = append(got, b.Rule.ID+": "+b.Reason)
	}
	want := []string{
		"level: it needs events of level Request; those of create pods arrive at Metadata",
		"body: it needs events of level Request; those of create pods arrive at Metadata",
		"verb: none of its verbs arrives for secrets",
		"resource: no event of what it looks at arrives: nodes",
		"stage: its stages (ResponseStarted, ResponseComplete, Panic) do not arrive for patch deployments",
		"several: no event that arrives fits it",
		"negated: none of its verbs arrives for pods",
		"both: none of its verbs arrives for secrets",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestPolicy(t *testing.T) {
	rules := []*rule.Rule{
		newRule("secrets", audit.LevelRequest, is("verb", "create"), is("objectRef.resource", "secrets")),
		newRule("pods", audit.LevelRequest, is("verb", "create"), is("objectRef.resource", "pods")),
		newRule("exec", audit.LevelMetadata, is("verb", "get"), is("objectRef.resource", "pods"), is("objectRef.subresource", "exec")),
		newRule("events", audit.LevelMetadata, is("verb", "delete"), is("objectRef.resource", "events")),
		newRule("custom", audit.LevelMetadata, is("objectRef.resource", "widgets"), is("objectRef.apiGroup", "example.test")),
		{ID: "received", Level: audit.LevelMetadata, Stages: []audit.Stage{audit.StageRequestReceived}, Expr: is("objectRef.resource", "pods")},
	}
	a, err := Policy([]byte(`
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - {level: None, resources: [{group: "", resources: [events]}, {group: events.k8s.io, resources: [events]}]}
  - {level: Metadata, resources: [{group: "", resources: [secrets, configmaps]}]}
  - {level: RequestResponse, resources: [{group: ""}]}
  - {level: Metadata}
`), rules)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	blind, err := a.Blind(rules)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range blind {
		got = append(got, b.Rule.ID)
	}
	if diff := cmp.Diff([]string{"secrets", "events", "received"}, got); diff != "" {
		t.Error(diff)
	}
	if _, err := Policy([]byte("kind: Pod"), rules); err == nil || !strings.Contains(err.Error(), "cannot read audit policy") {
		t.Error(err)
	}
}

// TestTooMany: of more than can be looked at nothing is claimed.
func TestTooMany(t *testing.T) {
	rules := []*rule.Rule{newRule("a", audit.LevelMetadata, is("objectRef.resource", "pods")), newRule("b", audit.LevelMetadata)}
	var subs []string
	for i := range maxTargets + 1 {
		subs = append(subs, fmt.Sprint("sub", i))
	}
	rules[1].Expr = is("objectRef.subresource", subs...)
	if targets, whole := resources(rules); len(targets) != maxTargets || whole {
		t.Error(len(targets), whole)
	}
	a := NewArrivals()
	for i := range maxShapes + 1 {
		a.Add(event(t, "Metadata", "ResponseComplete", fmt.Sprint("verb", i), "pods", ""))
	}
	if blind, err := a.Blind(rules); err == nil || blind != nil {
		t.Error(blind, err)
	}
}
