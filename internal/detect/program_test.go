package detect

import (
	"fmt"
	"testing"
	"time"

	"whodunit/internal/match"
	"whodunit/internal/rule"
)

// TestLongChain: correlations that each look at the next in the file are put in order, in no more than the time that takes.
func TestLongChain(t *testing.T) {
	const n = 100_000
	var rules []*rule.Rule
	for i := range n {
		rules = append(rules, &rule.Rule{ID: fmt.Sprint("c", i), Line: i, Correlation: &rule.Correlation{Type: rule.EventCount, Of: []string{fmt.Sprint("c", i+1)}, Timespan: time.Hour}})
	}
	rules = append(rules, &rule.Rule{ID: fmt.Sprint("c", n), Line: n, Expr: match.Const(true)})
	set, _ := rule.NewSet(rules)
	begin := time.Now()
	p, problems := Compile(set, ProgramOptions{})
	if len(problems) > 0 || len(p.correlations) != n || p.correlations[0].ID != fmt.Sprint("c", n-1) || time.Since(begin) > 30*time.Second {
		t.Error(len(p.correlations), time.Since(begin), problems[:min(len(problems), 3)])
	}
}
