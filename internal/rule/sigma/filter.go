package sigma

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"whodunit/internal/match"
	"whodunit/internal/rule"
)

// filter applies a filter document. A filter takes events away from rules: AND NOT its condition, as in the specification's example
// (`condition: selection`). Where every selection of the condition is negated (`condition: not selection`, the form of pySigma and of SigmaHQ's
// documentation) it already says what stays, and is joined by AND: both forms take the selected events away.
func (l *loader) filter(w *late) {
	fail := func(err error) {
		id := ""
		for _, key := range []string{"id", "name", "title"} {
			if n := field(w.doc, key); n != nil && id == "" {
				id = n.Value
			}
		}
		l.problems = append(l.problems, problem(w.at, id, w.doc, err))
	}
	n := field(w.doc, "filter")
	source := l.logsource(field(w.doc, "logsource"))
	rules, err := l.filtered(w, n, source, fail)
	if err != nil {
		fail(err)
		return
	}
	if !l.c.o.Generic && field(w.doc, "logsource") != nil && !source.audit() && !source.has(logsource{product: "kubernetes", service: "audit", category: source.category}) {
		return // for logs that are not read here
	}
	l.c.start(!l.c.o.Generic || source.product == "kubernetes", version(w.doc))
	conds, of, err := l.c.parts(n, map[string]bool{"rules": true})
	if err == nil && len(conds) != 1 {
		err = at(n, errors.New("a filter has one condition"))
	}
	if err != nil {
		fail(err)
		return
	}
	x := conds[0].expr(of, &l.c.budget)
	if l.c.budget < 0 {
		fail(at(n, errTooBig))
		return
	}
	if !conds[0].negative(false) {
		x = match.Not{X: x}
	}
	if l.c.o.WebsocketVerbs && !l.c.o.Generic {
		x = websocket(x)
	}
	for _, d := range rules {
		if d.rule.Expr != nil {
			d.rule.Expr = match.And{d.rule.Expr, x}
		}
	}
}

// filtered are the rules that a filter names, or all of its log source.
func (l *loader) filtered(w *late, n *yaml.Node, source logsource, fail func(error)) ([]*draft, error) {
	if n.Kind != yaml.MappingNode {
		return nil, at(n, errors.New("a filter is a map of rules, selections and a condition"))
	}
	refs := field(n, "rules")
	if refs == nil {
		return nil, at(n, errors.New("rules is missing: a list of ids and names, or any"))
	}
	if refs.Kind == yaml.ScalarNode && (strings.EqualFold(refs.Value, "any") || strings.EqualFold(refs.Value, "all")) || refs.Kind == yaml.SequenceNode && len(refs.Content) == 0 {
		var out []*draft
		for _, d := range l.drafts {
			if !d.broken && source.has(d.logsource) {
				out = append(out, d)
			}
		}
		return out, nil
	}
	list := []*yaml.Node{refs}
	if refs.Kind == yaml.SequenceNode {
		list = refs.Content
	}
	var out []*draft
	for _, r := range list {
		r = resolve(r)
		d := l.find(r.Value)
		switch {
		case r.Kind != yaml.ScalarNode || d == nil:
			fail(at(r, &nearError{fmt.Sprintf("unknown rule %.80q", r.Value), l.nearest(r.Value)}))
		case d.broken, d.rule.Off != "":
		case slices.ContainsFunc(l.late, func(o *late) bool { return o.draft == d }):
			fail(at(r, fmt.Errorf("rule %.80q is a correlation; a filter is for rules with a detection", r.Value)))
		case !source.has(d.logsource):
			fail(at(r, fmt.Errorf("rule %.80q has logsource %s, the filter %s", r.Value, d.logsource, source)))
		default:
			if all := l.by[r.Value]; len(all) > 1 {
				for _, o := range all { // of several layers, whichever will be in force
					if o != d && !o.broken && source.has(o.logsource) {
						out = append(out, o)
					}
				}
			}
			out = append(out, d)
		}
	}
	return out, nil
}

var _ rule.Format = (*Format)(nil)
