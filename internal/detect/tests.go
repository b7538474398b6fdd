package detect

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"whodunit/internal/rule"
)

// RunTests runs the tests of rules and returns one Problem for each that fails. A test of one event asks its rule; a test of several runs them
// through the rule and, of a correlation, all that it looks at, which are found among rules and then others; its message is that of the first finding.
// Rules that are off are not run.
func RunTests(rules []*rule.Rule, o ProgramOptions, others ...*rule.Rule) []*rule.Problem {
	byID := map[string]*rule.Rule{}
	for _, r := range slices.Concat(others, rules) {
		byID[r.ID] = r // of a later layer, the last
	}
	var out []*rule.Problem
	for _, r := range rules {
		out = append(out, r.RunTests()...)
		for i := range r.Tests {
			t := &r.Tests[i]
			subject, known := t.Subject(r), byID
			if t.Events == nil || subject.Off != "" {
				continue
			}
			if len(t.With) > 0 {
				known = maps.Clone(byID)
				for _, w := range t.With {
					known[w.ID] = w
				}
			}
			for _, wrong := range runTest(subject, t, known, o) {
				out = append(out, &rule.Problem{File: r.File, Line: t.Line, Rule: r.ID, Text: fmt.Sprintf("test %q: %s", t.Name, wrong)})
			}
		}
	}
	return out
}

// runTest gives what is wrong.
func runTest(r *rule.Rule, t *rule.Test, byID map[string]*rule.Rule, o ProgramOptions) []string {
	heard := *r
	heard.Silent = false
	set, _ := rule.NewSet(needed(&heard, byID))
	p, problems := Compile(set, o)
	if len(problems) > 0 {
		return []string{problems[0].Text}
	}
	w, j := p.Worker(), p.Judge(JudgeOptions{Lateness: -1})
	var found []Result
	keep := func(results []Result) {
		for _, x := range results {
			if x.Rule == &heard {
				found = append(found, x)
			}
		}
	}
	for i := range t.Events {
		keep(j.Add(&t.Events[i], w.Match(&t.Events[i])))
	}
	keep(j.Flush())
	var errs []string
	w.Stats(func(r *rule.Rule, s RuleStats) {
		for i, err := range s.First {
			if err != nil && ErrorReason(i) != "missing" {
				errs = append(errs, fmt.Sprintf("rule %s: %v", r.ID, err))
			}
		}
	})
	switch {
	case len(found) > 0 != t.Match && len(errs) > 0:
		return []string{fmt.Sprintf("match is %t, want %t: %s", len(found) > 0, t.Match, strings.Join(errs, "; "))}
	case len(found) > 0 != t.Match:
		return []string{fmt.Sprintf("match is %t, want %t", len(found) > 0, t.Match)}
	case t.Message == "" || len(found) == 0:
		return nil
	}
	if m := found[0].Message; m != t.Message {
		return []string{fmt.Sprintf("message is %q, want %q", m, t.Message)}
	}
	return nil
}

// needed is r and every rule that it looks at, directly or through others.
func needed(r *rule.Rule, byID map[string]*rule.Rule) []*rule.Rule {
	out, have := []*rule.Rule{r}, map[string]bool{r.ID: true}
	for i := 0; i < len(out); i++ {
		if out[i].Correlation == nil {
			continue
		}
		for _, id := range out[i].Correlation.Of {
			if base := byID[id]; base != nil && !have[id] {
				have[id] = true
				out = append(out, base)
			}
		}
	}
	return out
}
