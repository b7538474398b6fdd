package rule

import (
	"fmt"

	"whodunit/internal/audit"
)

// Test is one event that a rule must or must not match; for a correlation, several that must or must not set it off.
type Test struct {
	Name    string
	Line    int
	Event   audit.Event
	Events  []audit.Event // in place of Event; run by detect.RunTests, passed over by Rule.RunTests
	Match   bool
	Message string // the expected message; "" leaves it unchecked
	// With is what the test runs against in place of the rule as it is in force: the rule, then the silent ones that it looks at, with
	// the lists that the test gives and the params that the rule was written with. nil: the rule itself.
	With []*Rule
}

// Subject is the rule that t, a test of r, runs against.
func (t *Test) Subject(r *Rule) *Rule {
	if len(t.With) > 0 {
		return t.With[0]
	}
	return r
}

// RunTests runs the rule's own tests and returns one Problem for each that fails.
func (r *Rule) RunTests() []*Problem {
	var out []*Problem
	fail := func(t *Test, format string, a ...any) {
		out = append(out, &Problem{File: r.File, Line: t.Line, Rule: r.ID, Text: fmt.Sprintf("test %q: ", t.Name) + fmt.Sprintf(format, a...)})
	}
	for i := range r.Tests {
		t := &r.Tests[i]
		if t.Events != nil {
			continue
		}
		subject := t.Subject(r)
		got, err := subject.Match(&t.Event)
		switch {
		case got != t.Match && err != nil:
			fail(t, "match is %t, want %t: %v", got, t.Match, err)
		case got != t.Match:
			fail(t, "match is %t, want %t", got, t.Match)
		case got && t.Message != "":
			if m := subject.Text(&t.Event); m != t.Message {
				fail(t, "message is %q, want %q", m, t.Message)
			}
		}
	}
	return out
}
