package native

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"cel.dev/cel-go/common/types/ref"

	"whodunit/internal/audit"
	"whodunit/internal/finding"
	"whodunit/internal/rule"
)

// draft is a rule as its document says it, before lists and overrides. It holds no node but scalars: the document is let go.
type draft struct {
	rule      *rule.Rule // what needs no compiling
	params    map[string]ref.Val
	lists     []string
	condition *yaml.Node // nil: none
	corr      *correlation
	tests     []test
	written   *draft // the rule without overrides; nil: there are none
}

// loader reads one document and gathers everything that is wrong with it.
type loader struct {
	env      *environment
	loads    *loads
	at       rule.Place
	id       string
	problems []*rule.Problem

	draft   *draft
	message *yaml.Node
	groupBy []*yaml.Node
}

func (l *loader) fail(n *yaml.Node, format string, a ...any) { l.failNear(n, "", format, a...) }

func (l *loader) failNear(n *yaml.Node, near, format string, a ...any) {
	l.problems = append(l.problems, &rule.Problem{File: l.at.File, Line: n.Line, Column: n.Column, Rule: l.id,
		Text: fmt.Sprintf(format, a...), Nearest: near})
}

var idPattern = regexp.MustCompile(`^[a-z0-9]([a-z0-9._-]{0,126}[a-z0-9])?$`)

var severities = []finding.Severity{finding.Info, finding.Low, finding.Medium, finding.High, finding.Critical}

// load gives nil where the rule is wrong.
func (l *loader) load(d *yaml.Node) *draft {
	r := &rule.Rule{Layer: l.at.Layer, File: l.at.File, Line: d.Line, Column: d.Column, Format: "native"}
	l.draft = &draft{rule: r}
	var tests *yaml.Node
	l.fields(d, "rule", append([]field{
		{"id", func(n *yaml.Node) {
			if s, ok := l.text(n); ok && !idPattern.MatchString(s) {
				l.fail(n, "id %.60q: lower case letters, digits, dots, dashes and underscores are expected, at most 128", s)
			} else {
				r.ID, l.id = s, s
			}
		}},
		{"title", func(n *yaml.Node) { r.Title, _ = l.text(n) }},
		{"description", func(n *yaml.Node) { r.Description, _ = l.text(n) }},
		{"severity", func(n *yaml.Node) { r.Severity = oneOfWords(l, n, severities) }},
		{"tags", func(n *yaml.Node) { r.Tags = l.texts(n) }},
		{"level", func(n *yaml.Node) {
			r.Level = oneOfWords(l, n, []audit.Level{audit.LevelMetadata, audit.LevelRequest, audit.LevelRequestResponse})
		}},
		{"stages", l.stages},
		{"params", func(n *yaml.Node) { l.draft.params = l.readParams(n) }},
		{"condition", func(n *yaml.Node) { l.draft.condition = n }},
		{"message", func(n *yaml.Node) { l.message = n }},
		{"group_by", func(n *yaml.Node) { l.groupBy = l.list(n); r.GroupBy = l.texts(n) }},
		{"enabled", func(n *yaml.Node) {
			if !l.boolean(n) {
				r.Off = switchedOff
			}
		}},
		{"per_event", func(n *yaml.Node) { r.PerEvent = l.boolean(n) }},
		{"silent", func(n *yaml.Node) { r.Silent = l.boolean(n) }},
		{"references", func(n *yaml.Node) { r.References = l.texts(n) }},
		{"runbook", func(n *yaml.Node) { r.Runbook = l.link(n) }},
		{"actions", func(n *yaml.Node) { r.Actions = l.texts(n) }},
		{"false_positives", func(n *yaml.Node) { r.FalsePositives = l.texts(n) }},
		{"tests", func(n *yaml.Node) { tests = n }},
		{"lists", l.listNames},
	}, l.correlations()...))
	for _, p := range l.problems {
		p.Rule = l.id // the id may come after what is wrong
	}
	if d.Kind == yaml.MappingNode {
		l.finish(d, tests)
	}
	if len(l.problems) > 0 {
		return nil
	}
	return l.draft
}

// link is a URL that a person may follow.
func (l *loader) link(n *yaml.Node) string {
	s, ok := l.text(n)
	if u, err := url.Parse(s); ok && (err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http") {
		l.fail(n, "%.60q is no link: a URL that begins with https:// or http:// is expected", s)
	}
	return s
}

const switchedOff = "enabled: false"

// finish sets what needs the whole document, and the defaults.
func (l *loader) finish(d, tests *yaml.Node) {
	r := l.draft.rule
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
	l.needs(d)
	l.messageOf(d)
	for i, p := range r.GroupBy {
		if err := knownPath(p); err != nil {
			l.failPath(l.groupBy[i], "group_by", err)
		}
	}
	if c := l.draft.corr; c != nil && len(r.GroupBy) == 0 {
		for _, k := range c.spec.GroupBy {
			r.GroupBy = append(r.GroupBy, k.Path)
		}
	}
	if tests != nil && !l.loads.noTests {
		l.tests(tests)
	}
}

// needs says what a rule that has no condition lacks.
func (l *loader) needs(d *yaml.Node) {
	c := l.draft.condition
	if c != nil {
		if c = resolve(c); c.Kind != yaml.ScalarNode || c.Tag == "!!null" {
			l.fail(c, "a text is expected, not %s", kind(c))
		}
		l.draft.condition = c
	}
	if corr := l.draft.corr; corr != nil {
		corr.needs(l, c)
		return
	}
	if c == nil && l.draft.rule.Off == "" {
		l.fail(d, "no condition; a CEL expression is expected")
	}
}

func (l *loader) stages(n *yaml.Node) {
	known := []audit.Stage{audit.StageRequestReceived, audit.StageResponseStarted, audit.StageResponseComplete, audit.StagePanic}
	for _, c := range l.list(n) {
		if s := oneOfWords(l, c, known); s != "" {
			l.draft.rule.Stages = append(l.draft.rule.Stages, s)
		}
	}
}

func (l *loader) listNames(n *yaml.Node) {
	for _, c := range l.list(n) {
		switch s, ok := l.text(c); {
		case !ok:
		case !isIdentifier(s):
			l.fail(resolve(c), "lists: the name %.60q: letters, digits and _ are expected", s)
		case slices.Contains(l.draft.lists, s):
			l.fail(resolve(c), "lists: %q stands twice", s)
		default:
			l.draft.lists = append(l.draft.lists, s)
		}
	}
}
