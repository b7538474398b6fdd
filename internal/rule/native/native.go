// Package native reads whodunit's own rule format: YAML with a condition in CEL. docs/reference/rules.md specifies it.
package native

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"cel.dev/cel-go/common/types/ref"

	"whodunit/internal/audit"
	"whodunit/internal/finding"
	"whodunit/internal/rule"
)

// Format is the native front end; it implements rule.Format. Immutable, safe for concurrent use.
type Format struct{ env *environment }

// New makes the front end. It fails only if the CEL library refuses our declarations.
func New() (*Format, error) {
	env, err := newEnvironment()
	if err != nil {
		return nil, err
	}
	return &Format{env: env}, nil
}

// Claims reports whether doc has a native rule's condition: text under the key `condition` beside an `id`, and nothing that
// marks a Falco or Sigma rule (which are a list, or have a `detection`).
func (f *Format) Claims(doc *yaml.Node) bool {
	var id, condition, detection bool
	if doc.Kind != yaml.MappingNode {
		return false
	}
	for i := 0; i+1 < len(doc.Content); i += 2 {
		switch doc.Content[i].Value {
		case "id":
			id = true
		case "condition":
			condition = true
		case "detection", "logsource":
			detection = true
		}
	}
	return id && condition && !detection
}

// Name implements rule.Format.
func (f *Format) Name() string { return "native" }

// Loader implements rule.Format.
func (f *Format) Loader() rule.Loader { return &loads{env: f.env} }

// loads gathers the rules of one load.
type loads struct {
	env      *environment
	rules    []*rule.Rule
	problems []*rule.Problem
}

// Add implements rule.Loader.
func (s *loads) Add(at rule.Place, d *yaml.Node) {
	l := loader{env: s.env, rule: &rule.Rule{Layer: at.Layer, File: at.File, Line: d.Line, Column: d.Column, Format: "native"}}
	if r := l.load(d); r != nil {
		s.rules = append(s.rules, r)
	}
	s.problems = append(s.problems, l.problems...)
}

// Finish implements rule.Loader.
func (s *loads) Finish() ([]*rule.Rule, []*rule.Problem) { return s.rules, s.problems }

// loader reads one rule and gathers everything that is wrong with it.
type loader struct {
	env      *environment
	rule     *rule.Rule
	problems []*rule.Problem

	params    map[string]ref.Val
	condition *yaml.Node
	message   *yaml.Node
	groupBy   *yaml.Node
}

func (l *loader) fail(n *yaml.Node, format string, a ...any) { l.failNear(n, "", format, a...) }

func (l *loader) failNear(n *yaml.Node, near, format string, a ...any) {
	l.problems = append(l.problems, &rule.Problem{File: l.rule.File, Line: n.Line, Column: n.Column, Rule: l.rule.ID,
		Text: fmt.Sprintf(format, a...), Nearest: near})
}

var idPattern = regexp.MustCompile(`^[a-z0-9]([a-z0-9._-]{0,126}[a-z0-9])?$`)

// load gives nil where the rule is wrong.
func (l *loader) load(d *yaml.Node) *rule.Rule {
	r := l.rule
	l.fields(d, "rule", []field{
		{"id", func(n *yaml.Node) {
			if s, ok := l.text(n); ok && !idPattern.MatchString(s) {
				l.fail(n, "id %.60q: lower case letters, digits, dots, dashes and underscores are expected, at most 128", s)
			} else {
				r.ID = s
			}
		}},
		{"title", func(n *yaml.Node) { r.Title, _ = l.text(n) }},
		{"description", func(n *yaml.Node) { r.Description, _ = l.text(n) }},
		{"severity", func(n *yaml.Node) {
			r.Severity = oneOfWords(l, n, []finding.Severity{finding.Info, finding.Low, finding.Medium, finding.High, finding.Critical})
		}},
		{"tags", func(n *yaml.Node) { r.Tags = l.texts(n) }},
		{"level", func(n *yaml.Node) {
			r.Level = oneOfWords(l, n, []audit.Level{audit.LevelMetadata, audit.LevelRequest, audit.LevelRequestResponse})
		}},
		{"stages", l.stages},
		{"params", l.readParams},
		{"condition", func(n *yaml.Node) { l.condition = n }},
		{"message", func(n *yaml.Node) { l.message = n }},
		{"group_by", func(n *yaml.Node) { l.groupBy = n; r.GroupBy = l.texts(n) }},
		{"enabled", func(n *yaml.Node) {
			if !l.boolean(n) {
				r.Off = "enabled: false"
			}
		}},
		{"references", func(n *yaml.Node) { r.References = l.texts(n) }},
		{"false_positives", func(n *yaml.Node) { r.FalsePositives = l.texts(n) }},
		{"tests", l.tests},
	})
	for _, p := range l.problems {
		p.Rule = r.ID // the id may come after what is wrong
	}
	l.finish(d)
	if len(l.problems) > 0 {
		return nil
	}
	return r
}

// finish sets what needs the whole document, and the defaults.
func (l *loader) finish(d *yaml.Node) {
	r := l.rule
	if d.Kind != yaml.MappingNode {
		return // said already
	}
	if r.ID == "" && !slices.ContainsFunc(l.problems, func(p *rule.Problem) bool { return strings.HasPrefix(p.Text, "id ") }) {
		l.fail(d, "no id; every rule needs one")
	}
	if r.Title == "" {
		r.Title = r.ID
	}
	if r.Severity == "" {
		r.Severity = finding.Medium
	}
	if r.Level == "" {
		r.Level = audit.LevelMetadata
	}
	if len(r.Stages) == 0 {
		r.Stages = rule.DefaultStages()
	}
	l.compile(d)
	template, at := strings.NewReplacer("{", "{{", "}", "}}").Replace(r.Title)+": {user.username|nobody} {verb} {requestURI}", d
	if l.message != nil {
		template, _ = l.text(l.message)
		at = l.message
	}
	m, err := rule.ParseMessage(template, knownPath)
	if err != nil {
		l.failPath(at, "message", err)
	}
	r.Message = m
	for i, p := range r.GroupBy {
		if err := knownPath(p); err != nil {
			l.failPath(l.groupBy.Content[i], "group_by", err)
		}
	}
}

func (l *loader) compile(d *yaml.Node) {
	if l.condition == nil {
		l.fail(d, "no condition; a CEL expression is expected")
		return
	}
	text, ok := l.text(l.condition)
	if !ok {
		return
	}
	c, pre, errs := l.env.compile(text, l.params)
	for _, e := range errs {
		n := *l.condition
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
		l.failNear(&n, e.near, "condition: %s", e.text)
	}
	if len(errs) == 0 {
		l.rule.Condition, l.rule.Expr = c, pre
	}
}

func (l *loader) stages(n *yaml.Node) {
	known := []audit.Stage{audit.StageRequestReceived, audit.StageResponseStarted, audit.StageResponseComplete, audit.StagePanic}
	for _, c := range l.list(n) {
		if s := oneOfWords(l, c, known); s != "" {
			l.rule.Stages = append(l.rule.Stages, s)
		}
	}
}

// pathError is an unknown path in a message or in group_by.
type pathError struct{ name, near string }

func (e *pathError) Error() string { return fmt.Sprintf("unknown path %q", e.name) }

func (l *loader) failPath(n *yaml.Node, what string, err error) {
	near := ""
	if p, ok := errors.AsType[*pathError](err); ok {
		near = p.near
	}
	l.failNear(n, near, "%s: %v", what, err)
}

// headerPaths are the members of an event's header that a message may name; below the other roots anything goes.
var headerPaths = []string{
	"cluster", "peer", "auditID", "stage", "level", "verb", "requestURI", "userAgent", "sourceIPs",
	"user.username", "user.uid", "user.groups", "impersonatedUser.username", "impersonatedUser.uid", "impersonatedUser.groups",
	"objectRef.resource", "objectRef.subresource", "objectRef.namespace", "objectRef.name", "objectRef.uid", "objectRef.apiGroup",
	"objectRef.apiVersion", "objectRef.resourceVersion",
	"responseStatus.code", "responseStatus.status", "responseStatus.reason", "responseStatus.message",
	"requestReceivedTimestamp", "stageTimestamp",
}

var openRoots = []string{"requestObject", "responseObject", "annotations", "user.extra", "impersonatedUser.extra", "responseStatus.details"}

// knownPath refuses paths that no event has.
func knownPath(p string) error {
	if slices.Contains(headerPaths, p) {
		return nil
	}
	for _, r := range openRoots {
		if p == r || strings.HasPrefix(p, r+".") {
			return nil
		}
	}
	return &pathError{p, rule.Nearest(p, append(headerPaths[:len(headerPaths):len(headerPaths)], openRoots...))}
}
