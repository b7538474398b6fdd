package native

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"cel.dev/cel-go/common/types/traits"

	"whodunit/internal/audit"
	"whodunit/internal/finding"
	"whodunit/internal/match"
	"whodunit/internal/rule"
)

// ErrInexpressible is wrapped by Encode for a rule that no native one means the same as. It is permanent.
var ErrInexpressible = errors.New("cannot be expressed as a native rule")

// document is a native rule as it is written.
type document struct {
	ID             string           `yaml:"id"`
	Title          string           `yaml:"title,omitempty"`
	Description    string           `yaml:"description,omitempty"`
	Severity       finding.Severity `yaml:"severity,omitempty"`
	Tags           []string         `yaml:"tags,omitempty,flow"`
	Level          audit.Level      `yaml:"level,omitempty"`
	Stages         []audit.Stage    `yaml:"stages,omitempty,flow"`
	PerEvent       bool             `yaml:"per_event,omitempty"`
	Silent         bool             `yaml:"silent,omitempty"`
	Enabled        *bool            `yaml:"enabled,omitempty"`
	Params         map[string]any   `yaml:"params,omitempty"`
	Lists          []string         `yaml:"lists,omitempty,flow"`
	Condition      string           `yaml:"condition,omitempty"`
	Count          *written         `yaml:"count,omitempty"`
	Distinct       *written         `yaml:"distinct,omitempty"`
	FirstSeen      *written         `yaml:"first_seen,omitempty"`
	Sequence       *written         `yaml:"sequence,omitempty"`
	Message        string           `yaml:"message,omitempty"`
	GroupBy        []string         `yaml:"group_by,omitempty,flow"`
	References     []string         `yaml:"references,omitempty"`
	FalsePositives []string         `yaml:"false_positives,omitempty"`
	Runbook        string           `yaml:"runbook,omitempty"`
	Actions        []string         `yaml:"actions,omitempty,flow"`
}

// written is a correlation as it is written.
type written struct {
	Over     string        `yaml:"over,omitempty"`
	Within   string        `yaml:"within,omitempty"`
	Learn    string        `yaml:"learn,omitempty"`
	Of       []string      `yaml:"of,omitempty,flow"`
	By       []string      `yaml:"by,omitempty,flow"`
	AtLeast  *float64      `yaml:"at_least,omitempty"`
	MoreThan *float64      `yaml:"more_than,omitempty"`
	AtMost   *float64      `yaml:"at_most,omitempty"`
	LessThan *float64      `yaml:"less_than,omitempty"`
	Exactly  *float64      `yaml:"exactly,omitempty"`
	Quiet    string        `yaml:"quiet,omitempty"`
	Ordered  *bool         `yaml:"ordered,omitempty"`
	Rules    []string      `yaml:"rules,omitempty,flow"`
	Steps    []writtenStep `yaml:"steps,omitempty"`
}

type writtenStep struct {
	Name string `yaml:"name,omitempty"`
	Rule string `yaml:"rule"`
}

// Encode is Format.Encode for a single rule: it makes a Format, which takes some milliseconds.
func Encode(r *rule.Rule) ([]byte, error) {
	f, err := New()
	if err != nil {
		return nil, err
	}
	return f.Encode(r)
}

// Encode writes a rule of any format as a native document, which matches the same events. Its id is that of NativeID; ids of rules that a
// correlation looks at are turned in the same way, so all of them have to be written. Tests, and messages that are no native template,
// are left out. The error says what cannot be expressed, and wraps ErrInexpressible.
func (f *Format) Encode(r *rule.Rule) ([]byte, error) {
	d := document{ID: NativeID(r.ID), Title: r.Title, Description: r.Description, Tags: r.Tags, PerEvent: r.PerEvent, Silent: r.Silent,
		References: r.References, FalsePositives: r.FalsePositives, Stages: r.Stages, Runbook: r.Runbook, Actions: r.Actions}
	if slices.Contains(severities, r.Severity) {
		d.Severity = r.Severity
	}
	if slices.Contains([]audit.Level{audit.LevelMetadata, audit.LevelRequest, audit.LevelRequestResponse}, r.Level) {
		d.Level = r.Level
	}
	if len(d.Stages) == 0 {
		d.Stages = []audit.Stage{audit.StageRequestReceived, audit.StageResponseStarted, audit.StageResponseComplete, audit.StagePanic}
	} else if slices.Equal(d.Stages, rule.DefaultStages()) {
		d.Stages = nil
	}
	if r.Off != "" {
		d.Enabled = new(bool)
	}
	for _, p := range r.GroupBy {
		if knownPath(p) == nil {
			d.GroupBy = append(d.GroupBy, p)
		}
	}
	d.message(r, f.env)
	var err error
	if r.Correlation != nil {
		err = d.correlation(r.Correlation)
	} else {
		err = d.condition(r, encoder{f.env.field})
	}
	if err != nil {
		return nil, fmt.Errorf("rule %s: %w", r.ID, err)
	}
	var b bytes.Buffer
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	if err := e.Encode(&d); err != nil {
		return nil, fmt.Errorf("rule %s: cannot encode: %w", r.ID, err)
	}
	return b.Bytes(), f.readable(r.ID, b.Bytes())
}

// readable reads the document back, and plans its condition: limits of texts, nodes and regular expressions show here.
func (f *Format) readable(id string, b []byte) error {
	loaded := rule.Parse("rule.yaml", b, f)
	for _, p := range loaded.Problems {
		return fmt.Errorf("rule %s: %w: %s", id, ErrInexpressible, p.Text)
	}
	for _, r := range loaded.Rules {
		if c, ok := r.Condition.(*condition); ok {
			if c.once.Do(c.plan); c.err != nil {
				return fmt.Errorf("rule %s: %w: %w", id, ErrInexpressible, c.err)
			}
		}
	}
	return nil
}

// NativeID is an id as native rules have them: in lower case, with dashes for all that is no letter, digit, dot, dash or underscore.
func NativeID(id string) string {
	s := strings.Map(func(c rune) rune {
		switch {
		case c >= 'A' && c <= 'Z':
			return c + 'a' - 'A'
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '.', c == '-', c == '_':
			return c
		}
		return '-'
	}, id)
	for strings.Contains(s, "--") {
		s = strings.ReplaceAll(s, "--", "-")
	}
	s = s[:min(len(s), 128)]
	if s = strings.Trim(s, ".-_"); s == "" {
		return "rule"
	}
	return s
}

// message keeps a template that native rules know.
func (d *document) message(r *rule.Rule, env *environment) {
	text := ""
	switch m := r.Message.(type) {
	case *rule.Message:
		text = m.String()
	case rule.Templater:
		text = m.Template()
	}
	if text == "" {
		return
	}
	l := loader{env: env, draft: &draft{}, loads: &loads{}}
	if r.Correlation != nil {
		l.draft.corr = &correlation{}
	}
	if _, err := rule.ParseTemplate(text, l.placeholder); err == nil {
		d.Message = text
	}
}

func (d *document) condition(r *rule.Rule, e encoder) error {
	switch c := r.Condition.(type) {
	case nil:
		if r.Expr == nil && r.Off != "" {
			return nil
		}
		text, err := e.celText(r.Expr)
		d.Condition = text
		return err
	case *condition:
		d.Condition = c.text
		for name, v := range c.consts.params {
			if d.Params == nil {
				d.Params = map[string]any{}
			}
			if _, ok := v.(traits.Lister); ok {
				l, _ := strs(v)
				d.Params[strings.TrimPrefix(name, paramPrefix)] = append([]string{}, l...)
			} else {
				d.Params[strings.TrimPrefix(name, paramPrefix)] = v.Value()
			}
		}
		for name := range c.consts.lists {
			d.Lists = append(d.Lists, name)
		}
		slices.Sort(d.Lists)
		return nil
	}
	return fmt.Errorf("its condition %w: it is code of the format %s", ErrInexpressible, r.Format)
}

// correlation writes what native rules have of a correlation.
func (d *document) correlation(c *rule.Correlation) error {
	w := &written{Over: c.Timespan.String()}
	if c.Quiet > 0 {
		w.Quiet = c.Quiet.String()
	}
	if c.Logic != nil {
		return fmt.Errorf("its condition on other rules %w", ErrInexpressible)
	}
	var err error
	if w.By, err = paths(c.GroupBy); err == nil {
		w.Of, err = paths(c.Fields)
	}
	if err != nil {
		return err
	}
	for _, cond := range c.Conds {
		at := map[string]**float64{"gte": &w.AtLeast, "gt": &w.MoreThan, "lte": &w.AtMost, "lt": &w.LessThan, "eq": &w.Exactly}[cond.Op]
		if at == nil || *at != nil || cond.Value < 0 || cond.Value != float64(int32(cond.Value)) {
			return fmt.Errorf("the comparison %s %v %w", cond.Op, cond.Value, ErrInexpressible)
		}
		*at = &cond.Value
	}
	for i, id := range c.Of {
		if id = NativeID(id); c.Type != rule.Temporal && c.Type != rule.TemporalOrdered {
			w.Rules = append(w.Rules, id)
			continue
		}
		s := writtenStep{Rule: id}
		if i < len(c.Names) && c.Names[i] != id {
			s.Name = c.Names[i]
		}
		w.Steps = append(w.Steps, s)
	}
	switch c.Type {
	case rule.EventCount:
		d.Count = w
	case rule.ValueCount:
		d.Distinct = w
	case rule.FirstSeen:
		w.Within, w.Over, w.Of, w.By = w.Over, "", w.By, nil
		w.Learn = c.Baseline.String()
		d.FirstSeen = w
	case rule.Temporal, rule.TemporalOrdered:
		ordered := c.Type == rule.TemporalOrdered
		w.Ordered, d.Sequence = &ordered, w
	default:
		return fmt.Errorf("a correlation of type %s %w", c.Type, ErrInexpressible)
	}
	return nil
}

func paths(keys []rule.Key) ([]string, error) {
	var out []string
	for _, k := range keys {
		if len(k.ByRule) > 0 {
			return nil, fmt.Errorf("the alias %q %w", k.Name, ErrInexpressible)
		}
		if err := knownPath(k.Path); err != nil {
			return nil, fmt.Errorf("counting by %q %w: %w", k.Path, ErrInexpressible, err)
		}
		out = append(out, k.Path)
	}
	return out, nil
}

// encoder writes expressions as conditions.
type encoder struct {
	field func(name string) *match.Field
}

// celText writes an expression as a condition that is true of the same events; nil is always true.
func (enc encoder) celText(e match.Expr) (string, error) {
	switch e := e.(type) {
	case nil:
		return "true", nil
	case match.Const:
		return strconv.FormatBool(bool(e)), nil
	case match.And:
		return enc.celJoin(e, " && ", "true")
	case match.Or:
		return enc.celJoin(e, " || ", "false")
	case match.Not:
		s, err := enc.celText(e.X)
		return "!(" + s + ")", err
	case *match.Text:
		w, err := celString(e.Word)
		return fmt.Sprintf("text(%s, %t)", w, e.Open), err
	case *match.Pred:
		return enc.celPred(e)
	case *match.Func:
		if e.Name == idReused.Name {
			return "idReused", nil
		}
		return "", fmt.Errorf("%q %w: it is code", e.Name, ErrInexpressible)
	}
	return "", fmt.Errorf("%T %w", e, ErrInexpressible)
}

func (enc encoder) celJoin(parts []match.Expr, op, empty string) (string, error) {
	if len(parts) == 0 {
		return empty, nil
	}
	out := make([]string, len(parts))
	for i, p := range parts {
		s, err := enc.celText(p)
		if err != nil {
			return "", err
		}
		out[i] = s
	}
	if len(out) == 1 {
		return out[0], nil
	}
	return "(" + strings.Join(out, op) + ")", nil
}

// celPred writes a predicate: with the header's own name where CEL and match read the same, else over values.
func (enc encoder) celPred(p *match.Pred) (string, error) {
	if p.Field != nil {
		return enc.celField(p)
	}
	path, err := celString(p.Path)
	if err != nil {
		return "", err
	}
	switch p.Op {
	case match.Exists:
		return "exists(" + path + ")", nil
	case match.Present:
		return "present(" + path + ")", nil
	}
	if name := headerName(p.Path); name != "" && !p.All && !p.Fold && !slices.ContainsFunc(p.Values, func(c string) bool { return acceptsEmpty(p.Op, c) }) {
		if p.Op <= match.Glob || p.Op == match.Regex || p.Op == match.CIDR {
			return celTest(p, name)
		}
	}
	test, err := celTest(p, "v")
	values := "values(" + path + ")"
	if p.All {
		return fmt.Sprintf("(%s != [] && %s.all(v, %s))", values, values, test), err
	}
	return fmt.Sprintf("%s.exists(v, %s)", values, test), err
}

// celField writes a predicate on a field of ours, which has the name that CEL has for it.
func (enc encoder) celField(p *match.Pred) (string, error) {
	name, ours := strings.CutPrefix(p.Field.Name, fieldPrefix)
	isList := strings.HasPrefix(name, "uriParam(")
	if f := enc.field(p.Field.Name); !ours && f != nil && (p.Op != match.Present || f.Null == nil) {
		s, err := celString(p.Field.Name)
		if err != nil {
			return "", err
		}
		name, ours, isList = "field("+s+")", true, true
	}
	switch {
	case !ours:
	case isList && (p.Op == match.Exists || p.Op == match.Present):
		return name + " != []", nil
	case isList && p.All:
		test, err := celTest(p, "v")
		return "(" + name + " != [] && " + name + ".all(v, " + test + "))", err
	case p.Op == match.Exists || p.Op == match.Present || p.All:
	case isList:
		test, err := celTest(p, "v")
		return name + ".exists(v, " + test + ")", err
	case !slices.ContainsFunc(p.Values, func(c string) bool { return acceptsEmpty(p.Op, c) }):
		return celTest(p, name)
	default: // only a text that is there counts
		test, err := celTest(p, name)
		return "(" + name + ` != "" && ` + test + ")", err
	}
	return "", fmt.Errorf("the field %q %w", p.Field.Name, ErrInexpressible)
}

// acceptsEmpty reports whether the operator takes an empty text, which in CEL a missing field is.
func acceptsEmpty(op match.Op, c string) bool {
	return (&match.Pred{Op: op, Values: []string{c}}).Accepts("")
}

// headerName is the variable that has the text at path; "" for none.
func headerName(path string) string {
	for _, n := range []string{"decision", "reason"} {
		if path == annotationPaths[n] {
			return n
		}
	}
	if textPaths[path] {
		return path
	}
	return ""
}

// celTest writes the test of one value, called v.
func celTest(p *match.Pred, v string) (string, error) {
	consts := make([]string, 0, len(p.Values))
	if p.Fold && p.Op <= match.Glob {
		v = "fold(" + v + ")"
	}
	for _, c := range p.Values {
		if p.Op == match.Regex {
			if _, err := regexp.Compile(c); err != nil {
				continue // matches nothing
			}
		}
		if p.Op == match.CIDR && badNetwork(c) {
			continue
		}
		if p.Fold && p.Op <= match.Glob {
			c = match.Fold(c)
		}
		s, err := celString(c)
		if err != nil {
			return "", err
		}
		consts = append(consts, s)
	}
	if len(consts) == 0 {
		return "false", nil
	}
	list := consts[0]
	if len(consts) > 1 {
		list = "[" + strings.Join(consts, ", ") + "]"
	}
	switch p.Op {
	case match.Equal:
		if len(consts) > 1 {
			return v + " in " + list, nil
		}
		return v + " == " + list, nil
	case match.Glob:
		return "glob(" + v + ", " + list + ")", nil
	case match.CIDR:
		return "inCIDR(" + v + ", " + list + ")", nil
	}
	tests := make([]string, len(consts))
	for i, c := range consts {
		switch p.Op {
		case match.Contains:
			tests[i] = v + ".contains(" + c + ")"
		case match.Prefix:
			tests[i] = v + ".startsWith(" + c + ")"
		case match.Suffix:
			tests[i] = v + ".endsWith(" + c + ")"
		case match.Regex:
			tests[i] = v + ".matches(" + c + ")"
		case match.Less, match.LessEqual, match.Greater, match.GreaterEqual:
			tests[i] = fmt.Sprintf("compares(%s, %q, %s)", v, p.Op.String(), c)
		default:
			return "", fmt.Errorf("the operator %s %w", p.Op, ErrInexpressible)
		}
	}
	if len(tests) == 1 {
		return tests[0], nil
	}
	return "(" + strings.Join(tests, " || ") + ")", nil
}

// celString writes a text as CEL does. Its escapes are Go's but for bytes, of which a CEL string has none.
func celString(s string) (string, error) {
	if !utf8.ValidString(s) {
		return "", fmt.Errorf("%q %w: it is not valid UTF-8", s, ErrInexpressible)
	}
	return strconv.Quote(s), nil
}
