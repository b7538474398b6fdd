package native

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"go.yaml.in/yaml/v3"

	"cel.dev/cel-go/common/types/ref"

	"whodunit/internal/rule"
)

// Finish implements rule.Loader.
func (s *loads) Finish() ([]*rule.Rule, []*rule.Problem) {
	s.override()
	built := make([]builder, len(s.drafts))
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(s.drafts)) {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(built); i = int(next.Add(1)) - 1 {
				built[i] = builder{env: s.env, lists: s.lists}
				built[i].build(s.drafts[i])
				s.drafts[i] = nil
			}
		})
	}
	wg.Wait()
	rules := make([]*rule.Rule, 0, len(built))
	for _, b := range built {
		s.problems = append(s.problems, b.problems...)
		if len(b.problems) == 0 {
			rules = append(rules, b.rules...)
		}
	}
	return rules, append(s.problems, notNetworks(built)...)
}

// notNetworks says once of each list which of its entries some rule cannot use.
func notNetworks(built []builder) []*rule.Problem {
	var out []*rule.Problem
	said := map[*givenList]bool{}
	for _, b := range built {
		for _, g := range b.notNetworks {
			if i := slices.IndexFunc(g.entries, badNetwork); i >= 0 && !said[g] {
				said[g] = true
				p := g.at
				p.Text = fmt.Sprintf("list %s: %.60q is neither a network nor an address; rules that ask for networks go on without it", g.name, g.entries[i])
				out = append(out, &p)
			}
		}
	}
	return out
}

// builder makes rules of one draft.
type builder struct {
	env      *environment
	lists    map[string]*givenList
	rules    []*rule.Rule
	problems []*rule.Problem

	notNetworks []*givenList // lists of networks that hold something else
}

// build compiles a draft. A rule that lacks a list is off, and all the same checked.
func (b *builder) build(d *draft) {
	c := constants{params: d.params, lists: map[string][]string{}}
	off := d.rule.Off
	for _, name := range d.lists {
		var entries []string
		if g := b.lists[name]; g != nil {
			entries = g.entries
		}
		if c.lists[name] = entries; len(entries) == 0 && off == "" {
			off = fmt.Sprintf("list %s is not given or empty", name)
		}
	}
	b.rules = b.assemble(d, d.rule, c)
	if len(b.problems) > 0 {
		return
	}
	for _, name := range d.lists {
		if g := b.lists[name]; g != nil && len(c.lists[name]) < len(g.entries) {
			b.notNetworks = append(b.notNetworks, g)
		}
	}
	for _, r := range b.rules {
		r.Off = off
	}
	tests := make([]rule.Test, len(d.tests))
	var bare []*rule.Rule // what tests without lists run against, where that is not the rule itself
	for i, t := range d.tests {
		tests[i] = t.Test
		if len(d.lists) == 0 && d.written == nil && off == "" {
			continue
		}
		if len(t.lists) > 0 || bare == nil {
			was := d.asWritten()
			r := *was.rule
			tests[i].With = b.assemble(was, &r, constants{params: was.params, lists: fill(d.lists, t.lists)})
			if len(t.lists) == 0 {
				bare = tests[i].With
			}
		} else {
			tests[i].With = bare
		}
	}
	if len(tests) > 0 {
		b.rules[0].Tests = tests
	}
}

// asWritten is the draft without overrides.
func (d *draft) asWritten() *draft {
	if d.written != nil {
		return d.written
	}
	return d
}

// fill gives every name a list, empty where there is none.
func fill(names []string, given map[string][]string) map[string][]string {
	out := make(map[string][]string, len(names))
	for _, n := range names {
		out[n] = given[n]
	}
	return out
}

// assemble completes r, the rule of a draft or a copy of it, which is on then, and makes the silent rules that it looks at.
func (b *builder) assemble(d *draft, r *rule.Rule, c constants) []*rule.Rule {
	r.Off, r.Expr, r.Condition = "", nil, nil
	out := []*rule.Rule{r}
	if d.corr == nil {
		if d.condition != nil {
			b.compile(r, d.condition, c)
		}
		return out
	}
	corr := d.corr.spec
	silent := func(name string, condition *yaml.Node) string {
		p := &rule.Rule{ID: fmt.Sprintf("%s#%d", r.ID, len(out)), Title: r.Title, Severity: r.Severity, Level: r.Level, Stages: r.Stages,
			Format: r.Format, Layer: r.Layer, File: r.File, Line: r.Line, Column: r.Column, Silent: true, PerEvent: r.PerEvent}
		if name != "" {
			p.Title += ": " + name
		}
		b.compile(p, condition, c)
		out = append(out, p)
		return p.ID
	}
	switch {
	case d.condition != nil:
		corr.Of = []string{silent("", d.condition)}
	case len(d.corr.rules) > 0:
		corr.Of = d.corr.rules
	}
	for _, s := range d.corr.steps {
		id := s.rule
		if s.condition != nil {
			id = silent(s.name, s.condition)
		}
		corr.Of = append(corr.Of, id)
		corr.Names = append(corr.Names, s.name)
	}
	r.Correlation = &corr
	return out
}

// compile sets a rule's condition.
func (b *builder) compile(r *rule.Rule, condition *yaml.Node, c constants) {
	done, errs := b.env.compile(condition.Value, c)
	for _, e := range errs {
		n := *condition
		if n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0 {
			// The text begins on the line after the indicator. Its indentation is not in the node, so columns are the text's
			// own; folded text has lost its lines, so there the place is that of the condition.
			if n.Style&yaml.LiteralStyle != 0 && e.line > 0 {
				n.Line, n.Column = n.Line+e.line, e.column
			}
		} else if e.line == 1 {
			n.Column += e.column - 1
			if n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) != 0 {
				n.Column++
			}
		}
		id, _, _ := strings.Cut(r.ID, "#")
		b.problems = append(b.problems, &rule.Problem{File: r.File, Line: n.Line, Column: n.Column, Rule: id, Text: "condition: " + e.text, Nearest: e.near})
	}
	if len(errs) == 0 {
		r.Expr = done.expr
		if done.condition != nil {
			r.Condition = done.condition
		}
	}
}

const (
	paramPrefix = "params."
	listPrefix  = "lists."
)

// constants are the values that a condition may name.
type constants struct {
	params map[string]ref.Val // by full name, "params.x"
	lists  map[string][]string
}
