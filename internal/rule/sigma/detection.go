package sigma

import (
	"errors"
	"fmt"
	"iter"
	"strings"

	"go.yaml.in/yaml/v3"

	"whodunit/internal/audit"
	"whodunit/internal/match"
	"whodunit/internal/rule"
)

// Limits on one rule.
const (
	maxRuleSize = 100_000 // constants and nodes of its expression
	maxNesting  = 20      // of array blocks
)

// scope says what field names mean.
type scope struct {
	kubernetes bool // the rule is for audit events
	element    bool // a member of an array, in an array block
}

func (s scope) key() string {
	switch {
	case s.element:
		return "member "
	case s.kubernetes:
		return "k8s "
	}
	return ""
}

// compiler makes expressions of detections. It is used by one goroutine.
type compiler struct {
	o       Options
	views   *views
	targets map[string]*target
	strings map[string]string

	// Of the rule in hand.
	scope   scope
	version int // of the specification, its major part
	level   audit.Level
	budget  int
	depth   int
}

// intern gives one copy of equal strings.
func (c *compiler) intern(s string) string {
	if len(s) > 64 {
		return s
	}
	if t, ok := c.strings[s]; ok {
		return t
	}
	if len(c.strings) < 200_000 {
		s = strings.Clone(s)
		c.strings[s] = s
	}
	return s
}

// need notes that the rule reads t.
func (c *compiler) need(t *target) {
	if l := t.level(); l.Covers(c.level) {
		c.level = l
	}
}

// start makes the compiler ready for the next rule.
func (c *compiler) start(kubernetes bool, version int) {
	c.scope, c.version, c.level, c.budget, c.depth = scope{kubernetes: kubernetes}, version, audit.LevelMetadata, maxRuleSize, 0
}

// fault is an error at a place of the document.
type fault struct {
	n      *yaml.Node
	err    error
	offset int // in a scalar of one line
}

func (f *fault) Error() string { return f.err.Error() }
func (f *fault) Unwrap() error { return f.err }

func at(n *yaml.Node, err error) error {
	var f *fault
	if errors.As(err, &f) {
		return err
	}
	return &fault{n: n, err: err}
}

// problem is err as a Problem of the rule at r.
func problem(p rule.Place, id string, doc *yaml.Node, err error) *rule.Problem {
	out := &rule.Problem{File: p.File, Line: doc.Line, Column: doc.Column, Rule: id, Text: err.Error()}
	var f *fault
	if errors.As(err, &f) {
		out.Line, out.Column = f.n.Line, f.n.Column
		if f.n.Kind == yaml.ScalarNode && f.offset > 0 && f.n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) == 0 {
			out.Column += f.offset
		}
	}
	var near *nearError
	var cond *conditionError
	switch {
	case errors.As(err, &near):
		out.Nearest = near.near
	case errors.As(err, &cond):
		out.Nearest = cond.near
	}
	return out
}

// resolve follows aliases.
func resolve(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode && n.Alias != nil {
		n = n.Alias
	}
	return n
}

// pairs ranges over a mapping's keys and values; what is merged into it comes at its place.
func pairs(n *yaml.Node) iter.Seq2[*yaml.Node, *yaml.Node] {
	return func(yield func(k, v *yaml.Node) bool) { eachPair(n, 0, yield) }
}

func eachPair(n *yaml.Node, depth int, yield func(k, v *yaml.Node) bool) bool {
	n = resolve(n)
	if n.Kind == yaml.SequenceNode && depth > 0 { // a list of mappings to merge
		for _, m := range n.Content {
			if !eachPair(m, depth+1, yield) {
				return false
			}
		}
		return true
	}
	if n.Kind != yaml.MappingNode || depth > 10 {
		return true
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := resolve(n.Content[i]), n.Content[i+1]
		if k.Tag == "!!merge" {
			if !eachPair(v, depth+1, yield) {
				return false
			}
			continue
		}
		if !yield(k, v) {
			return false
		}
	}
	return true
}

// field is the value of a mapping's key, nil if it has none.
func field(n *yaml.Node, name string) *yaml.Node {
	for k, v := range pairs(n) {
		if k.Value == name {
			return resolve(v)
		}
	}
	return nil
}

// detection compiles search identifiers and their condition.
func (c *compiler) detection(n *yaml.Node) (match.Expr, error) {
	conds, of, err := c.parts(n, nil)
	if err != nil {
		return nil, err
	}
	out := make(match.Or, len(conds))
	for i, cd := range conds {
		out[i] = cd.expr(of, &c.budget)
	}
	if c.budget < 0 {
		return nil, at(n, errTooBig)
	}
	if len(out) == 1 {
		return out[0], nil
	}
	return out, nil
}

// parts reads search identifiers and conditions. skip are keys that are neither.
func (c *compiler) parts(n *yaml.Node, skip map[string]bool) ([]*condition, map[string]sized, error) {
	if n.Kind != yaml.MappingNode {
		return nil, nil, at(n, errors.New("a map of search identifiers and a condition is expected"))
	}
	of := map[string]sized{}
	var names []string
	var cond, timeframe *yaml.Node
	for k, v := range pairs(n) {
		v = resolve(v)
		switch {
		case k.Value == "condition":
			cond = v
			continue
		case k.Value == "timeframe" && v.Kind == yaml.ScalarNode:
			timeframe = v
			continue
		case skip[k.Value]:
			continue
		case k.Value == "" || k.Kind != yaml.ScalarNode:
			return nil, nil, at(k, errors.New("a search identifier needs a name"))
		}
		if _, twice := of[k.Value]; twice {
			return nil, nil, at(k, fmt.Errorf("search identifier %.60q is there twice", k.Value))
		}
		x, err := c.selection(v)
		if err != nil {
			return nil, nil, err
		}
		of[k.Value] = sized{x, size(x)}
		names = append(names, k.Value)
	}
	if cond == nil {
		return nil, nil, at(n, &nearError{text: "the condition is missing"})
	}
	var conds []*condition
	list := []*yaml.Node{cond}
	if cond.Kind == yaml.SequenceNode {
		list = cond.Content
	}
	for _, cn := range list {
		cn = resolve(cn)
		if cn.Kind != yaml.ScalarNode {
			return nil, nil, at(cn, errors.New("the condition is a text, or a list of texts"))
		}
		if strings.Contains(cn.Value, "|") {
			return nil, nil, at(cn, legacy(cn.Value, timeframe))
		}
		cd, err := parseCondition(cn.Value, names)
		if err != nil {
			f := &fault{n: cn, err: err}
			var ce *conditionError
			if errors.As(err, &ce) {
				f.offset = ce.at
			}
			return nil, nil, f
		}
		conds = append(conds, cd)
	}
	if len(conds) == 0 {
		return nil, nil, at(cond, errors.New("the list of conditions is empty"))
	}
	return conds, of, nil
}

// selection compiles one search identifier: a map of fields, a list of maps, or keywords.
func (c *compiler) selection(n *yaml.Node) (match.Expr, error) {
	n = resolve(n)
	switch n.Kind {
	case yaml.MappingNode:
		return c.fields(n)
	case yaml.SequenceNode:
		return c.alternatives(n)
	}
	if n.Tag == tagNull {
		return nil, at(n, errors.New("a map of fields, a list of maps or keywords is expected here"))
	}
	return c.item(n, "", nil, n)
}

// fields compiles a map: all of its fields.
func (c *compiler) fields(n *yaml.Node) (match.Expr, error) {
	var out match.And
	seen := map[string]bool{}
	for k, v := range pairs(n) {
		if k.Kind != yaml.ScalarNode {
			return nil, at(k, errors.New("a field's name is expected"))
		}
		if seen[k.Value] {
			return nil, at(k, fmt.Errorf("field %.80q is there twice", k.Value))
		}
		seen[k.Value] = true
		words := strings.Split(k.Value, "|")
		x, err := c.item(k, words[0], words[1:], v)
		if err != nil {
			return nil, err
		}
		out = append(out, x)
	}
	switch len(out) {
	case 0:
		return nil, at(n, errors.New("a field is expected: an empty map says nothing"))
	case 1:
		return out[0], nil
	}
	return out, nil
}

// alternatives compiles a list: any of its maps or keywords.
func (c *compiler) alternatives(n *yaml.Node) (match.Expr, error) {
	var out match.Or
	words := &yaml.Node{Kind: yaml.SequenceNode, Line: n.Line, Column: n.Column}
	for _, el := range n.Content {
		switch el = resolve(el); el.Kind {
		case yaml.ScalarNode:
			words.Content = append(words.Content, el)
		case yaml.MappingNode:
			x, err := c.fields(el)
			if err != nil {
				return nil, err
			}
			out = append(out, x)
		default:
			return nil, at(el, errors.New("a map of fields or a keyword is expected, not a list in a list"))
		}
	}
	if len(words.Content) > 0 {
		x, err := c.item(n, "", nil, words)
		if err != nil {
			return nil, err
		}
		out = append(out, x)
	}
	switch len(out) {
	case 0:
		return nil, at(n, errors.New("the list is empty"))
	case 1:
		return out[0], nil
	}
	return out, nil
}
