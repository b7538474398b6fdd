package falco

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"whodunit/internal/rule"
)

// Finish implements rule.Loader.
func (l *loader) Finish() ([]*rule.Rule, []*rule.Problem) {
	ids := map[string]bool{}
	out := make([]*rule.Rule, 0, len(l.rules))
	others := false
	for i, d := range l.rules {
		r := &rule.Rule{ID: slug(d.name), Title: d.name, Description: strings.TrimSpace(d.desc), Severity: priorities[d.priority].severity,
			Priority: priorities[d.priority].word, Tags: unique(d.tags), Level: none, Format: "falco", Layer: d.layer, File: d.at.file,
			Line: d.at.line, Column: d.at.column, Order: i, PerEvent: true}
		if ids[r.ID] {
			r.ID = hashed(r.ID, d.name)
		}
		ids[r.ID] = true
		if d.source != Source {
			others = true
			r.Off = fmt.Sprintf("source %.60q is not for audit events", d.source)
			out = append(out, r)
			continue
		}
		if l.finish(r, d) {
			out = append(out, r)
		}
	}
	// The macros of a file for other sources are not for us to judge.
	for _, m := range l.order {
		if !others && m.done == nil && m.err == nil {
			if _, err := parse(m.condition.String(), l); err != nil {
				m.err = l.compiler.problem(&m.condition, err, "macro "+m.name+": ")
				l.problems = append(l.problems, m.err)
			}
		}
	}
	return out, l.problems
}

// finish compiles a rule's condition and output. It reports false for a rule with a problem.
func (l *loader) finish(r *rule.Rule, d *ruleDef) bool {
	x, ok := l.condition(r, d)
	if !ok {
		return r.Off != ""
	}
	out, err := l.compiler.output(d.output.String())
	if err != nil {
		return l.refuse(r, d, l.compiler.problem(&d.output, err, "output: "), err)
	}
	if l.compiler.all += x.checks; l.compiler.all > maxAllChecks {
		l.problem(&rule.Problem{File: r.File, Line: r.Line, Column: r.Column, Rule: r.ID}, "all rules together are too large: more than %d checks once macros are put in", maxAllChecks)
		return false
	}
	r.Expr, r.Message = x.expr, out
	if x.yes < never {
		r.Level = levels[x.yes]
	}
	if d.disabled {
		r.Off = "enabled: false"
	}
	return true
}

// condition compiles a rule's condition: what is written, and none of its exceptions.
func (l *loader) condition(r *rule.Rule, d *ruleDef) (compiled, bool) {
	n, err := parse(d.condition.String(), l)
	var x compiled
	if err == nil {
		x, err = l.compiler.compile(n)
	}
	if err != nil {
		l.refuse(r, d, l.compiler.problem(&d.condition, err, "condition: "), err)
		return compiled{}, false
	}
	parts := []compiled{x}
	for _, e := range d.exceptions {
		var y compiled
		n, err := e.node(l)
		if err == nil && n != nil {
			y, err = l.compiler.compile(n)
		}
		if err != nil {
			p := &rule.Problem{File: e.at.file, Line: e.at.line, Column: e.at.column, Text: fmt.Sprintf("exception %.60q: %s", e.name, err.text), Nearest: err.near}
			l.refuse(r, d, p, err)
			return compiled{}, false
		}
		if n != nil {
			parts = append(parts, y.negate())
		}
	}
	return combine(parts, true), true
}

// refuse leaves a rule out with a problem; or switches it off without one, where it asks for that. It reports whether the rule stays.
func (l *loader) refuse(r *rule.Rule, d *ruleDef, p *rule.Problem, err *syntaxError) bool {
	if d.skipUnknown && strings.HasPrefix(err.text, "unknown field") {
		r.Off = "skip-if-unknown-filter: " + err.text
		return true
	}
	p.Rule = r.ID
	l.problems = append(l.problems, p)
	return false
}

// maxSlug keeps ids short of the 128 bytes that an id may have.
const maxSlug = 100

// slug is an id made of a rule's name: falco. and its letters and digits in lower case, with dashes between.
func slug(name string) string {
	var b strings.Builder
	dash := false
	for i := 0; i < len(name) && b.Len() < maxSlug; i++ {
		switch c := name[i]; {
		case isDigit(c), isLetter(c):
			if dash && b.Len() > 0 {
				b.WriteByte('-')
			}
			dash = false
			b.WriteString(strings.ToLower(name[i : i+1]))
		default:
			dash = true
		}
	}
	id := "falco." + b.String()
	if b.Len() == 0 || b.Len() >= maxSlug {
		return hashed(id, name)
	}
	return id
}

// hashed makes an id its name's own.
func hashed(id, name string) string {
	h := sha256.Sum256([]byte(name))
	return strings.TrimSuffix(id, ".") + "." + hex.EncodeToString(h[:6])
}

// unique is the texts without repetitions, in their order.
func unique(texts []string) (out []string) {
	for _, t := range texts {
		if !slices.Contains(out, t) {
			out = append(out, t)
		}
	}
	return out
}
