package detect

import (
	"testing"

	"whodunit/internal/audit"
	"whodunit/internal/match"
	"whodunit/internal/rule"
)

// TestPanicInField: a rule whose field panics is counted, and the others are heard, before and after.
func TestPanicInField(t *testing.T) {
	bad := &rule.Rule{ID: "bad", Expr: &match.Pred{Op: match.Equal, Values: []string{"x"}, Field: &match.Field{Name: "bad", Values: func(ev *audit.Event, yield func(string) bool) {
		if ev.Verb == "delete" {
			panic("field")
		}
		yield("x")
	}}}}
	fun := &rule.Rule{ID: "fun", Expr: &match.Func{Name: "fun", Eval: func(ev *audit.Event) bool { return ev.Verb != "delete" || panics() }}}
	good := &rule.Rule{ID: "good", Expr: &match.Pred{Path: "user.username", Op: match.Equal, Values: []string{"u"}}}
	p := compile(t, ProgramOptions{}, bad, fun, good)
	w := p.Worker()
	for _, tt := range []struct {
		verb string
		want int
	}{{"get", 3}, {"delete", 1}, {"get", 3}} {
		raw := []byte(`{"auditID":"a","stage":"ResponseComplete","verb":"` + tt.verb + `","user":{"username":"u"}}`)
		ev, err := audit.Parse("c", raw)
		if err != nil {
			t.Fatal(err)
		}
		if got := w.Match(&ev); len(got) != tt.want {
			t.Errorf("%s: %v", tt.verb, got)
		}
		if _, got, err := w.MatchRaw("c", raw); len(got) != tt.want || err != nil {
			t.Errorf("raw %s: %v, %v", tt.verb, got, err)
		}
	}
	panicked := map[string]int64{}
	w.Stats(func(r *rule.Rule, s RuleStats) { panicked[r.ID] = s.Errors[len(errorReasons)-1] })
	if panicked["bad"] != 2 || panicked["fun"] != 2 || panicked["good"] != 0 {
		t.Error(panicked)
	}
}

func panics() bool { panic("func") }
