package sigma

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"whodunit/internal/audit"
	"whodunit/internal/rule"
)

var correlationTypes = []string{
	string(rule.EventCount), string(rule.ValueCount), string(rule.Temporal), string(rule.TemporalOrdered),
	string(rule.ValueSum), string(rule.ValueAvg), string(rule.ValuePercentile), "value_median",
}

var correlationKeys = []string{"type", "rules", "group-by", "timespan", "timeframe", "condition", "aliases", "generate", "field"}

var comparators = []string{"gt", "gte", "lt", "lte", "eq", "neq"}

// units of a timespan; a month and a year are the mean ones.
var units = map[byte]time.Duration{
	's': time.Second, 'm': time.Minute, 'h': time.Hour, 'd': 24 * time.Hour, 'w': 7 * 24 * time.Hour, 'M': 2629746 * time.Second, 'y': 31556952 * time.Second,
}

// correlation reads one; every rule is known by now.
func (l *loader) correlation(d *draft, doc *yaml.Node) error {
	n := field(doc, "correlation")
	if n.Kind != yaml.MappingNode {
		return at(n, errors.New("a correlation is a map"))
	}
	for k := range pairs(n) {
		if !slices.Contains(correlationKeys, k.Value) {
			return at(k, &nearError{fmt.Sprintf("unknown field %.40q of a correlation", k.Value), rule.Nearest(k.Value, correlationKeys)})
		}
	}
	r := d.rule
	c := &rule.Correlation{}
	typ := field(n, "type")
	switch {
	case typ == nil:
		return at(n, fmt.Errorf("type is missing: one of %s", strings.Join(correlationTypes, ", ")))
	case !slices.Contains(correlationTypes, typ.Value):
		return at(typ, &nearError{fmt.Sprintf("unknown type %.40q of a correlation", typ.Value), rule.Nearest(typ.Value, correlationTypes)})
	}
	c.Type = rule.CorrelationType(typ.Value)
	if typ.Value == "value_median" {
		c.Type, c.Percentile = rule.ValuePercentile, 50
	}
	if err := l.references(d, c, n); err != nil {
		return err
	}
	if err := timespan(c, n); err != nil {
		return err
	}
	aliases, err := l.aliases(d, c, field(n, "aliases"))
	if err != nil {
		return err
	}
	if g := field(n, "group-by"); g != nil {
		for _, name := range l.list(g) {
			c.GroupBy = append(c.GroupBy, l.key(name, aliases))
		}
	}
	if err := l.counts(c, n, typ.Value, aliases); err != nil {
		return err
	}
	for _, k := range c.GroupBy {
		r.GroupBy = append(r.GroupBy, k.Path)
	}
	for _, from := range []*yaml.Node{n, doc} {
		if g := field(from, "generate"); g != nil && strings.EqualFold(g.Value, "true") {
			for _, o := range d.of {
				o.generate = true
			}
		}
	}
	r.Correlation, r.PerEvent, r.Level = c, false, audit.LevelMetadata
	return nil
}

// references finds the rules that the correlation looks at.
func (l *loader) references(d *draft, c *rule.Correlation, n *yaml.Node) error {
	refs := field(n, "rules")
	var list []*yaml.Node
	switch cond := field(n, "condition"); {
	case refs != nil && refs.Kind == yaml.SequenceNode:
		list = refs.Content
	case refs != nil && refs.Kind == yaml.ScalarNode:
		list = []*yaml.Node{refs}
	case refs == nil && cond != nil && cond.Kind == yaml.ScalarNode: // an extended condition names them
		for _, w := range tokens(cond.Value) {
			if !slices.Contains(reserved, strings.ToLower(w.text)) && !slices.ContainsFunc(list, func(n *yaml.Node) bool { return n.Value == w.text }) {
				list = append(list, &yaml.Node{Kind: yaml.ScalarNode, Value: w.text, Line: cond.Line, Column: cond.Column + w.at})
			}
		}
	}
	if len(list) == 0 {
		return at(n, errors.New("rules is missing: a list of ids and names"))
	}
	for _, ref := range list {
		ref = resolve(ref)
		o := l.find(ref.Value)
		if o == nil {
			return at(ref, &nearError{fmt.Sprintf("unknown rule %.80q", ref.Value), l.nearest(ref.Value)})
		}
		d.of = append(d.of, o)
		c.Of, c.Names = append(c.Of, o.rule.ID), append(c.Names, ref.Value)
	}
	return nil
}

// settle looks at the rules below: a cycle, a rule that could not be read, one that is off.
func (l *loader) settle(d *draft) error {
	if err := l.cycle(d); err != nil {
		return err
	}
	for _, o := range d.of {
		o.used = true
		switch {
		case o.broken:
			return fmt.Errorf("it looks at rule %.80q, which has an error", o.rule.ID)
		case o.rule.Off != "" && d.rule.Off == "":
			d.rule.Off = fmt.Sprintf("it looks at rule %s, which is off: %s", o.rule.ID, o.rule.Off)
		}
	}
	return nil
}

func (l *loader) cycle(d *draft) error {
	const deepest = 1000
	var visit func(d *draft, depth int) error
	visit = func(d *draft, depth int) error {
		switch {
		case d.state == 2:
			return nil
		case d.state == 1:
			return fmt.Errorf("correlations look at each other in a circle, by rule %.80q", d.rule.ID)
		case depth > deepest:
			return fmt.Errorf("correlations look at each other %d deep", deepest)
		}
		d.state = 1
		defer func() { d.state = 0 }()
		for _, o := range d.of {
			if err := visit(o, depth+1); err != nil {
				return err
			}
		}
		return nil
	}
	if err := visit(d, 0); err != nil {
		return err
	}
	d.state = 2
	return nil
}

func timespan(c *rule.Correlation, n *yaml.Node) error {
	t := field(n, "timespan")
	if t == nil {
		t = field(n, "timeframe")
	}
	if t == nil {
		return at(n, errors.New("timespan is missing, such as 5m"))
	}
	bad := at(t, fmt.Errorf("a timespan is a whole number and one of s, m, h, d, w, M, y, not %.40q", t.Value))
	if len(t.Value) < 2 {
		return bad
	}
	unit, ok := units[t.Value[len(t.Value)-1]]
	k, err := strconv.ParseUint(t.Value[:len(t.Value)-1], 10, 32)
	if err != nil || !ok || k == 0 {
		return bad
	}
	if k > uint64(math.MaxInt64/2/unit) {
		return at(t, fmt.Errorf("the timespan %.40s is too long", t.Value))
	}
	c.Timespan = time.Duration(k) * unit
	return nil
}

// aliases reads the names that stand for different fields of different rules.
func (l *loader) aliases(d *draft, c *rule.Correlation, n *yaml.Node) (map[string]map[string]string, error) {
	if n == nil {
		return nil, nil
	}
	if n.Kind != yaml.MappingNode {
		return nil, at(n, errors.New("aliases is a map of names, each a map of rules and their fields"))
	}
	out := map[string]map[string]string{}
	for k, v := range pairs(n) {
		v = resolve(v)
		if v.Kind != yaml.MappingNode {
			return nil, at(v, errors.New("a map of rules and their fields is expected"))
		}
		by := map[string]string{}
		for rk, fv := range pairs(v) {
			i := slices.Index(c.Names, rk.Value)
			if i < 0 {
				i = slices.Index(c.Of, rk.Value)
			}
			if i < 0 {
				return nil, at(rk, &nearError{fmt.Sprintf("the correlation looks at no rule %.80q", rk.Value), rule.Nearest(rk.Value, c.Names)})
			}
			by[c.Of[i]] = l.path(resolve(fv).Value)
		}
		out[k.Value] = by
	}
	return out, nil
}

func (l *loader) key(name string, aliases map[string]map[string]string) rule.Key {
	k := rule.Key{Name: name, Path: l.path(name)}
	if by, ok := aliases[name]; ok {
		k.Path, k.ByRule = name, by
	}
	if l.c.o.Generic {
		k.Values = l.c.views.values
	}
	return k
}

// path is where a field's name is in the event.
func (l *loader) path(name string) string {
	if p, ok := l.c.o.Fields[name]; ok {
		return p
	}
	if p, ok := aliases[name]; ok && !l.c.o.Generic {
		return p
	}
	return l.c.intern(name)
}

// counts reads the condition.
func (l *loader) counts(c *rule.Correlation, n *yaml.Node, typ string, names map[string]map[string]string) error {
	cond := field(n, "condition")
	temporal := c.Type == rule.Temporal || c.Type == rule.TemporalOrdered
	var err error
	switch {
	case cond == nil && temporal:
		return nil
	case cond == nil:
		return at(n, errors.New("condition is missing, such as {gte: 10}"))
	case cond.Kind == yaml.ScalarNode && temporal:
		c.Logic, err = logic(cond, c.Names)
		return err
	case cond.Kind != yaml.MappingNode:
		return at(cond, errors.New("a condition is a map such as {gte: 10}"))
	}
	percentile := typ == "value_median"
	if f := field(n, "field"); f != nil {
		c.Fields = l.keys(f, names)
	}
	for k, v := range pairs(cond) {
		v = resolve(v)
		switch {
		case slices.Contains(comparators, k.Value):
			s, err := number(v)
			if err != nil {
				return at(v, err)
			}
			f, _ := strconv.ParseFloat(s, 64)
			c.Conds = append(c.Conds, rule.Compare{Op: k.Value, Value: f})
		case k.Value == "field":
			c.Fields = l.keys(v, names)
		case k.Value == "percentile":
			s, err := number(v)
			if err != nil {
				return at(v, err)
			}
			if c.Percentile, _ = strconv.ParseFloat(s, 64); c.Percentile < 0 || c.Percentile > 100 {
				return at(v, errors.New("percentile is from 0 to 100"))
			}
			percentile = true
		default:
			known := append(slices.Clone(comparators), "field", "percentile")
			return at(k, &nearError{fmt.Sprintf("unknown condition %.40q; known are %s", k.Value, strings.Join(known, ", ")), rule.Nearest(k.Value, known)})
		}
	}
	values := c.Type != rule.EventCount && !temporal
	switch {
	case len(c.Conds) == 0:
		return at(cond, fmt.Errorf("a number to compare with is missing: one of %s", strings.Join(comparators, ", ")))
	case values && len(c.Fields) == 0:
		return at(cond, fmt.Errorf("%s needs a field in its condition", typ))
	case values && c.Type != rule.ValueCount && len(c.Fields) > 1:
		return at(cond, fmt.Errorf("%s takes one field", typ))
	case c.Type == rule.ValuePercentile && !percentile:
		return at(cond, errors.New("value_percentile needs a percentile in its condition, such as percentile: 95"))
	}
	return nil
}

func (l *loader) keys(n *yaml.Node, names map[string]map[string]string) []rule.Key {
	var out []rule.Key
	for _, s := range l.list(n) {
		out = append(out, l.key(s, names))
	}
	return out
}

// logic is an extended condition over rules, in disjunctive form.
func logic(n *yaml.Node, names []string) ([][]int, error) {
	c, err := parseCondition(n.Value, names)
	if err != nil {
		f := &fault{n: n, err: err}
		var ce *conditionError
		if errors.As(err, &ce) {
			f.offset = ce.at
		}
		return nil, f
	}
	const most = 200
	var expand func(c *condition) ([][]int, error)
	expand = func(c *condition) ([][]int, error) {
		switch c.op {
		case 'i':
			return [][]int{{slices.Index(names, c.name)}}, nil
		case 'n':
			return nil, errors.New("not is not supported between rules: that something did not happen is no event")
		}
		var out [][]int
		for i, q := range c.parts {
			x, err := expand(q)
			switch {
			case err != nil:
				return nil, err
			case c.op == 'o':
				out = append(out, x...)
			case i == 0:
				out = x
			default:
				var product [][]int
				for _, a := range out {
					for _, b := range x {
						both := slices.Concat(a, b)
						slices.Sort(both)
						product = append(product, slices.Compact(both))
					}
					if len(product) > most {
						break
					}
				}
				out = product
			}
			if len(out) > most {
				return nil, fmt.Errorf("the condition has more than %d alternatives", most)
			}
		}
		return out, nil
	}
	out, err := expand(c)
	if err != nil {
		return nil, at(n, err)
	}
	return out, nil
}
