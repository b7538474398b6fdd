// Package parseable reads Parseable's alert files, version v1 (of Parseable 0.6 to 1.7): column and composite rules. A rule's targets are
// kept for package alert/target, which posts to them. docs/reference/rules-parseable.md says what is the same and what is not.
package parseable

import (
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"whodunit/internal/finding"
	"whodunit/internal/match"
	"whodunit/internal/rule"
)

// Options of the format. The zero value is for audit events.
type Options struct {
	Generic bool // events are any JSON objects, so every column name may be one of theirs
}

// Format is the front end; it implements rule.Format. Immutable, safe for concurrent use.
type Format struct{ o Options }

// New makes the front end.
func New(o Options) *Format { return &Format{o} }

// Name implements rule.Format.
func (f *Format) Name() string { return "parseable" }

// Claims implements rule.Format: a mapping with a list of alerts, whose own form tells it from other files with that key.
func (f *Format) Claims(doc *yaml.Node) bool {
	alerts := rule.Member(doc, "alerts")
	return alerts != nil && alerts.Kind == yaml.SequenceNode && rule.Member(doc, "groups") == nil && rule.Member(doc, "detection") == nil
}

// Loader implements rule.Format.
func (f *Format) Loader() rule.Loader { return &loader{o: f.o, ids: map[string]int{}} }

type loader struct {
	o        Options
	ids      map[string]int
	rules    []*rule.Rule
	problems []*rule.Problem
}

// Finish implements rule.Loader.
func (s *loader) Finish() ([]*rule.Rule, []*rule.Problem) { return s.rules, s.problems }

// Add implements rule.Loader.
func (s *loader) Add(at rule.Place, doc *yaml.Node) {
	l := s.reader(at)
	if v := l.Members(doc, "alert file", "version", "alerts")["version"]; v == nil {
		l.Fail(doc, "", "no version; v1 is expected")
	} else if v.Value != "v1" {
		l.Fail(v, "", "version %.40q is unknown; v1 is expected", v.Value)
	}
	if len(l.Problems) > 0 {
		s.problems = append(s.problems, l.Problems...)
		return // of another version nothing is known
	}
	names := map[string]bool{}
	for _, a := range rule.Member(doc, "alerts").Content {
		l := s.reader(at)
		l.alert(rule.Resolve(a), names)
		s.problems = append(s.problems, l.Problems...)
	}
}

// reader reads one alert and gathers everything that is wrong with it.
type reader struct {
	*loader
	rule.Reporter
	at rule.Place
}

func (s *loader) reader(at rule.Place) *reader {
	return &reader{loader: s, Reporter: rule.Reporter{File: at.File}, at: at}
}

func (l *reader) alert(n *yaml.Node, names map[string]bool) {
	m := l.Members(n, "alert", "version", "id", "name", "message", "rule", "targets")
	if m == nil {
		return
	}
	name, _ := l.text(n, m, "name")
	l.Rule = name
	switch {
	case m["name"] != nil && strings.TrimSpace(name) == "":
		l.Fail(m["name"], "", "name is empty; every alert needs one")
	case names[name]:
		l.Fail(m["name"], "", "name %.60q is used already in this file", name)
	}
	names[name] = true
	message, _ := l.text(n, m, "message")
	if m["message"] != nil && message == "" {
		l.Fail(m["message"], "", "message is empty")
	}
	targets := l.targets(n, m["targets"])
	r := &rule.Rule{
		ID: l.id(name), Title: name, Severity: finding.Medium, Format: "parseable", Layer: l.at.Layer, File: l.at.File, Line: n.Line, Column: n.Column, PerEvent: true,
	}
	if m["message"] != nil {
		r.Message = l.template(m["message"], message)
	}
	repeats := l.rule(n, m["rule"], r)
	if len(l.Problems) > 0 {
		return
	}
	r.Level, r.Targets = level(r.Expr), targets
	r.Description = l.words(m["rule"], targets, max(repeats, 1))
	if repeats == 0 {
		l.rules = append(l.rules, r)
		return
	}
	base := *r
	base.ID, base.Silent, base.Message, base.Targets = r.ID+"#1", true, nil, nil
	r.Expr = nil
	r.Correlation = &rule.Correlation{Type: rule.Streak, Of: []string{base.ID}, Conds: []rule.Compare{{Op: "gte", Value: float64(repeats)}}, Resolves: true}
	l.rules = append(l.rules, &base, r)
}

// id makes the rule's id of its name.
func (l *reader) id(name string) string {
	id := "parseable." + rule.Slug(name)
	if l.ids[id]++; l.ids[id] > 1 {
		id += "-" + strconv.Itoa(l.ids[id])
	}
	return id
}

// rule reads the condition into r. repeats is 0 for a composite rule.
func (l *reader) rule(alert, n *yaml.Node, r *rule.Rule) (repeats int) {
	if n == nil {
		l.Fail(alert, "", "no rule; {type: column|composite, config: …} is expected")
		return 0
	}
	m := l.Members(n, "rule", "type", "config")
	if m == nil {
		return 0
	}
	kind, ok := l.text(n, m, "type")
	config := m["config"]
	switch {
	case !ok:
	case config == nil:
		l.Fail(n, "", "no config")
	case kind == "column":
		return l.column(config, r)
	case kind == "composite" && config.Kind == yaml.ScalarNode:
		x, err := parseComposite(config.Value, l)
		if err != nil {
			l.Fail(config, err.near, "config: at character %d: %s", err.at+1, err.text)
			return 0
		}
		r.Expr = x
	case kind == "composite":
		r.Expr = l.tree(config, 0)
	default:
		l.Fail(m["type"], rule.Nearest(kind, []string{"column", "composite"}), "type %.40q: column or composite is expected", kind)
	}
	return 0
}

// column reads a column rule: one comparison and how often it must hold.
func (l *reader) column(n *yaml.Node, r *rule.Rule) (repeats int) {
	m := l.Members(n, "config", "column", "operator", "value", "repeats", "ignoreCase", "ignore_case")
	if m == nil {
		return 0
	}
	repeats = 1
	if v := m["repeats"]; v != nil {
		i, err := strconv.Atoi(v.Value)
		if err != nil || i < 1 || i > 1_000_000_000 {
			l.Fail(v, "", "repeats %.40q: a whole number from 1 is expected", v.Value)
		}
		repeats = i
	}
	r.Expr = l.leaf(n, m, "")
	return repeats
}

// leaf reads a comparison; kind is "string", "numeric" or "" where the value's type decides.
func (l *reader) leaf(n *yaml.Node, m map[string]*yaml.Node, kind string) match.Expr {
	column, ok := l.text(n, m, "column")
	if !ok || !l.knownColumn(m["column"], column) {
		return nil
	}
	v := m["value"]
	if v == nil || v.Kind != yaml.ScalarNode {
		l.Fail(n, "", "no value; a text or a number is expected")
		return nil
	}
	number := v.Tag == "!!int" || v.Tag == "!!float"
	if kind == "" && number || kind == "numeric" {
		kind = "numeric"
		if !number {
			l.Fail(v, "", "value %.40q: a number is expected", v.Value)
			return nil
		}
	} else if kind = "string"; v.Tag != "!!str" {
		l.Fail(v, "", "value %.40q: a text is expected", v.Value)
		return nil
	}
	op := map[string]string{"string": "contains", "numeric": "equalTo"}[kind]
	if o := m["operator"]; o != nil {
		op = o.Value
	}
	fold := false
	for _, key := range []string{"ignoreCase", "ignore_case"} {
		if c := m[key]; c != nil {
			if c.Tag != "!!bool" {
				l.Fail(c, "", "%s: true or false is expected", key)
			}
			fold = strings.EqualFold(c.Value, "true")
		}
	}
	x, known, err := compare(column, kind, op, v.Value, fold)
	switch {
	case err != nil:
		l.Fail(v, "", "value: %v", err)
	case x == nil:
		at := m["operator"]
		l.Fail(at, rule.Nearest(op, known), "operator %.40q does not fit a %s value; one of %s is expected", op, kind, strings.Join(known, ", "))
	}
	return x
}

// maxDepth bounds nested rules.
const maxDepth = 200

// tree reads a composite rule in its JSON form.
func (l *reader) tree(n *yaml.Node, depth int) match.Expr {
	n = rule.Resolve(n)
	if depth > maxDepth {
		l.Fail(n, "", "rule is nested deeper than %d", maxDepth)
		return nil
	}
	if n.Kind != yaml.MappingNode || len(n.Content) != 2 {
		l.Fail(n, "", "one of and, or, not, numeric, string is expected")
		return nil
	}
	key, v := n.Content[0], rule.Resolve(n.Content[1])
	switch key.Value {
	case "and", "or":
		if v.Kind != yaml.SequenceNode || len(v.Content) == 0 {
			l.Fail(v, "", "%s: a list of rules is expected", key.Value)
			return nil
		}
		var parts []match.Expr
		for _, c := range v.Content {
			parts = append(parts, l.tree(c, depth+1))
		}
		if key.Value == "and" {
			return match.And(parts)
		}
		return match.Or(parts)
	case "not":
		return match.Not{X: l.tree(v, depth+1)}
	case "numeric", "string":
		if m := l.Members(v, key.Value, "column", "operator", "value", "ignoreCase", "ignore_case"); m != nil {
			return l.leaf(v, m, key.Value)
		}
		return nil
	}
	l.Fail(key, rule.Nearest(key.Value, []string{"and", "or", "not", "numeric", "string"}), "%.40q: one of and, or, not, numeric, string is expected", key.Value)
	return nil
}

// text is a wanted text of a mapping that known has read.
func (l *reader) text(n *yaml.Node, m map[string]*yaml.Node, key string) (string, bool) {
	v := m[key]
	if v == nil {
		l.Fail(n, "", "no %s", key)
		return "", false
	}
	if v.Kind != yaml.ScalarNode || v.Tag == "!!null" {
		l.Fail(v, "", "%s: a text is expected", key)
		return "", false
	}
	return v.Value, true
}
