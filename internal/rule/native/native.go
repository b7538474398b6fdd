// Package native reads whodunit's own rule format: YAML with a condition in CEL. docs/reference/rules.md specifies it.
package native

import (
	"go.yaml.in/yaml/v3"

	"whodunit/internal/match"
	"whodunit/internal/rule"
)

// Format is the native front end; it implements rule.Format. Immutable, safe for concurrent use.
type Format struct {
	env     *environment
	noTests bool
}

// Options are what the front end may know beside its own. The zero value is good.
type Options struct {
	// Fields gives a computed field of another format by its name, nil where it knows none; conditions ask for one as field("name"). It
	// must be safe for concurrent use.
	Fields func(name string) *match.Field
	// NoTests passes over the rules' own tests, which take most of the time in which a rule is read, and are of use to who runs them alone.
	NoTests bool
}

// New makes the front end without options. It fails only if the CEL library refuses our declarations.
func New() (*Format, error) { return NewWith(Options{}) }

// NewWith makes the front end.
func NewWith(o Options) (*Format, error) {
	if o.Fields == nil {
		o.Fields = func(string) *match.Field { return nil }
	}
	env, err := newEnvironment(o.Fields)
	if err != nil {
		return nil, err
	}
	return &Format{env: env, noTests: o.NoTests}, nil
}

// Claims reports whether doc is ours: a rule, which has an `id` beside a condition, a correlation or `enabled`, and nothing that marks a
// rule of Sigma; or a document of `lists` and `overrides`, which has no `id`.
func (f *Format) Claims(doc *yaml.Node) bool {
	if doc.Kind != yaml.MappingNode {
		return false
	}
	var id, ours, settings bool
	for i := 0; i+1 < len(doc.Content); i += 2 {
		switch doc.Content[i].Value {
		case "id":
			id = true
		case "condition", "enabled", keyCount, keyDistinct, keyFirstSeen, keySequence:
			ours = true
		case "lists", "overrides":
			settings = true
		case "detection", "logsource", "correlation", "filter":
			return false
		}
	}
	return id && ours || !id && settings
}

// Name implements rule.Format.
func (f *Format) Name() string { return "native" }

// Loader implements rule.Format.
func (f *Format) Loader() rule.Loader { return &loads{env: f.env, noTests: f.noTests} }

// loads gathers the documents of one load. Rules are built in Finish: a later document may hold lists for them, or override them.
type loads struct {
	env       *environment
	noTests   bool
	drafts    []*draft
	lists     map[string]*givenList
	overrides []*override
	problems  []*rule.Problem

	events    int   // of tests so far, of maxAllEvents
	listBytes int64 // of lists' files so far, of maxAllListBytes
}

// What all documents of one load may make of a few lines.
const (
	maxAllEvents    = 1_000_000
	maxAllListBytes = 64 << 20
)

// Add implements rule.Loader.
func (s *loads) Add(at rule.Place, d *yaml.Node) {
	l := loader{env: s.env, at: at, loads: s}
	if !hasKey(d, "id") && (hasKey(d, "lists") || hasKey(d, "overrides")) {
		s.settings(&l, d)
	} else if r := l.load(d); r != nil {
		s.drafts = append(s.drafts, r)
	}
	s.problems = append(s.problems, l.problems...)
}

func hasKey(n *yaml.Node, key string) bool {
	for i := 0; n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return true
		}
	}
	return false
}
