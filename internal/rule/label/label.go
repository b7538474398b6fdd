// Package label reads label rules: K8sCop's idea, regular expressions that sort events into labels, as a file instead of code.
// docs/reference/rules-label.md specifies the format.
package label

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"whodunit/internal/audit"
	"whodunit/internal/finding"
	"whodunit/internal/match"
	"whodunit/internal/rule"
)

// Options of the format. The zero value is for audit events.
type Options struct {
	Generic bool // events are any JSON objects, so every field name may be one of theirs
}

// Format is the front end; it implements rule.Format. Immutable, safe for concurrent use.
type Format struct{ o Options }

// New makes the front end.
func New(o Options) *Format { return &Format{o} }

// Name implements rule.Format.
func (f *Format) Name() string { return "label" }

// Claims implements rule.Format: a mapping with a list `labels` of mappings, or a single label.
func (f *Format) Claims(doc *yaml.Node) bool {
	if l := rule.Member(doc, "labels"); l != nil && l.Kind == yaml.SequenceNode {
		return true
	}
	return rule.Member(doc, "label") != nil && rule.Member(doc, "condition") == nil && rule.Member(doc, "detection") == nil
}

// Loader implements rule.Format.
func (f *Format) Loader() rule.Loader { return &loader{o: f.o, ids: map[string]int{}} }

type loader struct {
	o        Options
	ids      map[string]int
	rules    []*rule.Rule
	problems []*rule.Problem
}

// maxBefore bounds the labels of a file that are to be tried in order: each is asked with all those before it.
const maxBefore = 2000

// Finish implements rule.Loader.
func (s *loader) Finish() ([]*rule.Rule, []*rule.Problem) { return s.rules, s.problems }

// Add implements rule.Loader.
func (s *loader) Add(at rule.Place, doc *yaml.Node) {
	list := rule.Member(doc, "labels")
	if list == nil {
		l := s.reader(at)
		s.take(l, l.label(doc))
		return
	}
	file := s.reader(at)
	m := file.Members(doc, "label file", "labels", "first_match")
	first := true
	if n := m["first_match"]; n != nil {
		first = file.boolean(n, "first_match")
	}
	s.problems = append(s.problems, file.Problems...)
	var before match.Or
	for _, n := range list.Content {
		l := s.reader(at)
		r := l.label(rule.Resolve(n))
		if r != nil && first {
			if len(before) == maxBefore {
				l.Fail(n, "", "more than %d labels in one file; without first_match: false the rest is not read", maxBefore)
				s.take(l, nil)
				return
			}
			// The engine sees the same parts in every rule and asks for each once. All share before's memory.
			x := r.Expr
			if len(before) > 0 {
				r.Expr = match.And{x, match.Not{X: before[:len(before):len(before)]}}
			}
			if r.Off == "" {
				before = append(before, x)
			}
		}
		s.take(l, r)
	}
}

func (s *loader) take(l *reader, r *rule.Rule) {
	s.problems = append(s.problems, l.Problems...)
	if r != nil {
		r.Order = len(s.rules)
		s.rules = append(s.rules, r)
	}
}

// reader reads one label and gathers everything that is wrong with it.
type reader struct {
	*loader
	rule.Reporter
	at rule.Place
}

func (s *loader) reader(at rule.Place) *reader {
	return &reader{loader: s, Reporter: rule.Reporter{File: at.File}, at: at}
}

// label gives nil where the label is wrong.
func (l *reader) label(n *yaml.Node) *rule.Rule {
	m := l.Members(n, "label", "label", "id", "description", "priority", "enabled", "verb", "code", "match", "not", "message", "tags", "references")
	if m == nil {
		return nil
	}
	name := l.text(m["label"])
	l.Rule = name
	if name == "" {
		l.Fail(n, "", "no label; a word is expected")
	}
	r := &rule.Rule{
		Title: name, Description: l.text(m["description"]), Severity: finding.Medium, Priority: l.text(m["priority"]), Tags: l.texts(m["tags"]), References: l.texts(m["references"]),
		Format: "label", Layer: l.at.Layer, File: l.at.File, Line: n.Line, Column: n.Column, Stages: rule.DefaultStages(),
	}
	if e := m["enabled"]; e != nil && !l.boolean(e, "enabled") {
		r.Off = "enabled: false"
	}
	if p := m["priority"]; p != nil {
		words := finding.SeverityWords()
		if !slices.Contains(words, strings.ToLower(p.Value)) {
			l.Fail(p, rule.Nearest(p.Value, words), "priority %.40q: one of %s is expected", p.Value, strings.Join(words, ", "))
		}
		r.Severity = finding.Severity(strings.ToLower(p.Value))
	}
	var and match.And
	if v := m["verb"]; v != nil {
		and = append(and, &match.Pred{Path: "verb", Op: match.Equal, Values: l.texts(v)})
	}
	if c := m["code"]; c != nil {
		and = append(and, l.codes(c))
	}
	and = append(and, l.patterns(m["match"])...)
	for _, x := range l.patterns(m["not"]) {
		and = append(and, match.Not{X: x})
	}
	if m["verb"] == nil && m["code"] == nil && m["match"] == nil && m["not"] == nil {
		l.Fail(n, "", "nothing to match; match, not, verb or code is expected")
	}
	r.Expr = and
	r.Level = level(and)
	l.message(m, r)
	if len(l.Problems) > 0 {
		return nil
	}
	r.ID = l.id(m["id"], name)
	return r
}

func (l *reader) message(m map[string]*yaml.Node, r *rule.Rule) {
	text, at := l.text(m["message"]), m["message"]
	if at == nil {
		if at = m["description"]; at == nil {
			return
		}
		text = strings.NewReplacer("{", "{{", "}", "}}", "[", "[[").Replace(r.Description) + ": {user.username|nobody} {verb} {requestURI}"
	}
	msg, err := rule.ParseMessage(text, func(path string) error {
		if near, ok := l.knows(path); !ok {
			return fmt.Errorf("unknown field %.60q; did you mean %q?", path, near)
		}
		return nil
	})
	if err != nil {
		l.Fail(at, "", "message: %v", err)
		return
	}
	r.Message = msg
}

func (l *reader) knows(path string) (near string, ok bool) {
	if l.o.Generic {
		return "", true
	}
	return rule.KnownPath(path, ".")
}

// id is the given one, or is made of the label: several labels may bear one word.
func (l *reader) id(n *yaml.Node, name string) string {
	if id := l.text(n); id != "" {
		return id
	}
	id := "label." + rule.Slug(name)
	if l.ids[id]++; l.ids[id] > 1 {
		return id + "-" + strconv.Itoa(l.ids[id])
	}
	return id
}

// codes reads 200, [200, 201], 4xx.
func (l *reader) codes(n *yaml.Node) match.Expr {
	p := &match.Pred{Path: "responseStatus.code", Op: match.Glob}
	for _, c := range l.texts(n) {
		glob := strings.ReplaceAll(strings.ToLower(c), "x", "?")
		if len(c) != 3 || strings.Trim(glob, "0123456789?") != "" {
			l.Fail(n, "", "code %.20q: a status such as 200 or 4xx is expected", c)
		}
		p.Values = append(p.Values, glob)
	}
	return p
}

// patterns reads {path: regex, path: [regex, regex]}: each path must have a value that one of its patterns matches.
func (l *reader) patterns(n *yaml.Node) []match.Expr {
	if n == nil {
		return nil
	}
	if n.Kind != yaml.MappingNode {
		l.Fail(n, "", "a mapping of fields to regular expressions is expected")
		return nil
	}
	var out []match.Expr
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], rule.Resolve(n.Content[i+1])
		if near, ok := l.knows(k.Value); !ok {
			l.Fail(k, near, "unknown field %.60q", k.Value)
			continue
		}
		p := &match.Pred{Path: k.Value, Op: match.Regex, Values: l.texts(v)}
		for j, s := range p.Values {
			if _, err := rule.CompileRegex(s); err != nil {
				at := v
				if v.Kind == yaml.SequenceNode {
					at = v.Content[j]
				}
				l.Fail(at, "", "%s: %v", k.Value, err)
			}
		}
		if len(p.Values) == 0 {
			l.Fail(v, "", "%s: a regular expression is expected", k.Value)
		}
		out = append(out, p)
	}
	return out
}

// level is the lowest audit level whose events have the fields.
func level(x match.Expr) (out audit.Level) {
	out = audit.LevelMetadata
	match.Walk(x, func(x match.Expr) {
		p, ok := x.(*match.Pred)
		switch {
		case !ok:
		case strings.HasPrefix(p.Path, "responseObject"):
			out = audit.LevelRequestResponse
		case strings.HasPrefix(p.Path, "requestObject") && out == audit.LevelMetadata:
			out = audit.LevelRequest
		}
	})
	return out
}

func (l *reader) boolean(n *yaml.Node, key string) bool {
	if n.Tag != "!!bool" {
		l.Fail(n, "", "%s: true or false is expected", key)
	}
	return strings.EqualFold(n.Value, "true")
}

// text is a scalar's text; "" where n is nil.
func (l *reader) text(n *yaml.Node) string {
	if n == nil {
		return ""
	}
	if n.Kind != yaml.ScalarNode {
		l.Fail(n, "", "a text is expected")
		return ""
	}
	return n.Value
}

// texts are those of a list, or one.
func (l *reader) texts(n *yaml.Node) []string {
	if n == nil {
		return nil
	}
	if n.Kind != yaml.SequenceNode {
		return []string{l.text(n)}
	}
	var out []string
	for _, c := range n.Content {
		out = append(out, l.text(rule.Resolve(c)))
	}
	return out
}
