package detect

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"whodunit/internal/audit"
	"whodunit/internal/rule"
)

// resolvedBy runs the detector over recs, in batches of so many, and gives rule, event, state and message of its findings, and their ids.
func resolvedBy(t *testing.T, size int, recs []audit.Record, rules ...*rule.Rule) (said []string, ids map[string]bool) {
	t.Helper()
	set, _ := rule.NewSet(rules)
	cur := new(rule.Current)
	cur.Store(set)
	ids = map[string]bool{}
	d, err := New(Options{Rules: cur, Judge: JudgeOptions{Lateness: -1}, Reader: &sliceReader{size: size, recs: recs}, Emit: func(_ context.Context, b audit.Batch) error {
		for i := range b.Events {
			var doc struct{ ID, Rule, AuditID, State, Message string }
			if err := json.Unmarshal(b.Events[i].Raw, &doc); err != nil {
				return err
			}
			ids[doc.ID] = true
			said = append(said, doc.Rule+" "+doc.AuditID+" "+doc.State+": "+doc.Message)
		}
		again, _ := rule.NewSet(rules) // a reload that changes nothing
		cur.Store(again)
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	return said, ids
}

// TestResolved: the detector says when a streak is over, the same however often it is asked; backtests do not.
func TestResolved(t *testing.T) {
	rules := []*rule.Rule{
		{ID: "p#1", Silent: true, PerEvent: true, Expr: equal("verb", "get")},
		{ID: "p", Title: "Reads", Severity: "medium", Message: newRule(t, "p", nil).Message, Correlation: &rule.Correlation{Type: rule.Streak, Of: []string{"p#1"},
			Conds: []rule.Compare{{Op: "gte", Value: 2}}, Resolves: true}},
	}
	var recs []audit.Record
	for i, verb := range []string{"get", "list", "get", "get", "list", "list", "get", "get", "watch"} {
		recs = append(recs, timed(t, i+1, i, 0, "u", verb))
	}
	want := []string{"p a3 : p get", "p a3 resolved: Reads on c is now resolved", "p a8 : p get", "p a8 resolved: Reads on c is now resolved"}
	for size := 1; size <= len(recs); size++ {
		got, ids := resolvedBy(t, size, recs, rules...)
		if diff := cmp.Diff(want, got); diff != "" || len(ids) != len(want) {
			t.Errorf("in batches of %d: %s, %d ids", size, diff, len(ids))
		}
	}
	set, _ := rule.NewSet(rules)
	evs, err := Backtest(set, recs)
	if err != nil || len(evs) != 2 {
		t.Errorf("backtest: %d findings, %v", len(evs), err)
	}
}
