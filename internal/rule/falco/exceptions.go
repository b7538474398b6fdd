package falco

import (
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"whodunit/internal/rule"
)

// exception is a part of a rule that says when it does not hold: when each of its fields compares with the value of one of its tuples.
type exception struct {
	name   string
	single bool // fields is one field, and tuples hold one value each, compared as one list
	fields []string
	comps  []string // one for each field
	tuples [][]exceptionValue
	at     place
}

// exceptionValue is one text, or several for operators that take a list.
type exceptionValue struct {
	texts []string
	list  bool
}

// exceptions reads the key of that name. ours: its operators are checked. In an item that appends, fields may be missing.
func (it *item) exceptions(ours, appends bool) []*exception {
	v := it.values["exceptions"]
	if v == nil || v.Tag == "!!null" {
		return nil
	}
	if v.Kind != yaml.SequenceNode {
		it.fail(v, "exceptions: a list is expected")
		return nil
	}
	if len(v.Content) > maxExceptions {
		it.fail(v, "more than %d exceptions", maxExceptions)
		return nil
	}
	var out []*exception
	for _, n := range v.Content {
		e := it.exception(rule.Resolve(n), appends)
		if e == nil {
			continue
		}
		if slices.ContainsFunc(out, func(o *exception) bool { return o.name == e.name }) {
			it.fail(n, "exceptions: %.60q stands twice", e.name)
		}
		if ours && len(e.fields) > 0 {
			it.checkException(n, e)
		}
		out = append(out, e)
	}
	return out
}

func (it *item) exception(n *yaml.Node, appends bool) *exception {
	if n.Kind != yaml.MappingNode {
		it.fail(n, "exceptions: a mapping with name, fields, comps and values is expected")
		return nil
	}
	e := &exception{at: it.place(n)}
	var comps *yaml.Node
	known := []string{"name", "fields", "comps", "values"}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := rule.Resolve(n.Content[i]), rule.Resolve(n.Content[i+1])
		switch k.Value {
		case "name":
			e.name = v.Value
		case "fields":
			e.fields, e.single = it.words(v, "fields")
		case "comps":
			comps = v
		case "values":
			e.tuples = it.tuples(v)
		default:
			it.failNear(k, rule.Nearest(k.Value, known), "exceptions: unknown key %.60q; one of %s is expected", k.Value, strings.Join(known, ", "))
		}
	}
	switch {
	case e.name == "":
		it.fail(n, "exceptions: every exception needs a name")
	case len(e.fields) == 0 && !appends:
		it.fail(n, "exceptions: %.60q has no fields", e.name)
	}
	it.comps(e, comps)
	return e
}

// words reads one text or a list of texts.
func (it *item) words(v *yaml.Node, key string) (words []string, single bool) {
	if v.Kind == yaml.ScalarNode && v.Value != "" {
		return []string{v.Value}, true
	}
	if v.Kind != yaml.SequenceNode {
		it.fail(v, "exceptions: %s: a text or a list is expected", key)
		return nil, false
	}
	for _, c := range v.Content {
		if c = rule.Resolve(c); c.Kind != yaml.ScalarNode || c.Value == "" {
			it.fail(c, "exceptions: %s: a text is expected", key)
			return nil, false
		}
		words = append(words, c.Value)
	}
	return words, false
}

// comps reads the operators: by default `in` for a single field, `=` for each of several.
func (it *item) comps(e *exception, v *yaml.Node) {
	if v == nil {
		for range e.fields {
			if e.single {
				e.comps = append(e.comps, "in")
			} else {
				e.comps = append(e.comps, "=")
			}
		}
		return
	}
	comps, single := it.words(v, "comps")
	e.comps = comps
	switch {
	case len(e.fields) == 0:
		it.fail(v, "exceptions: %.60q: comps without fields; only values can be appended to an exception", e.name)
	case single != e.single:
		it.fail(v, "exceptions: %.60q: fields and comps must both be texts or both be lists", e.name)
	case len(comps) != len(e.fields):
		it.fail(v, "exceptions: %.60q has %d fields and %d comps", e.name, len(e.fields), len(comps))
	}
}

// tuples reads the values.
func (it *item) tuples(v *yaml.Node) [][]exceptionValue {
	if v.Tag == "!!null" {
		return nil
	}
	if v.Kind != yaml.SequenceNode {
		it.fail(v, "exceptions: values: a list is expected")
		return nil
	}
	out := make([][]exceptionValue, 0, len(v.Content))
	for _, c := range v.Content {
		c = rule.Resolve(c)
		if c.Kind == yaml.ScalarNode {
			out = append(out, []exceptionValue{it.value(c)})
			continue
		}
		tuple := make([]exceptionValue, 0, len(c.Content))
		if c.Kind != yaml.SequenceNode {
			it.fail(c, "exceptions: values: a list is expected")
			continue
		}
		for _, e := range c.Content {
			tuple = append(tuple, it.value(rule.Resolve(e)))
		}
		out = append(out, tuple)
	}
	return out
}

func (it *item) value(v *yaml.Node) exceptionValue {
	switch {
	case v.Kind == yaml.ScalarNode && v.Value != "":
		return exceptionValue{texts: []string{v.Value}}
	case v.Kind == yaml.SequenceNode:
		out := exceptionValue{list: true}
		for _, c := range v.Content {
			if c = rule.Resolve(c); c.Kind != yaml.ScalarNode {
				it.fail(c, "exceptions: values: a text is expected")
				continue
			}
			out.texts = append(out.texts, c.Value)
		}
		return out
	}
	it.fail(v, "exceptions: values: a text that is not empty, or a list, is expected")
	return exceptionValue{}
}

// operator splits an operator of an exception from its modifier.
func operator(comp string) (op, mod string, ok bool) {
	op, mod, _ = strings.Cut(comp, " ")
	mod = strings.TrimSpace(mod)
	str := slices.Contains(signOps, op) || slices.Contains(wordOps, op)
	return op, mod, slices.Contains(allOps, op) && (mod == "" || str && slices.Contains(modifiers, mod))
}

func (it *item) checkException(n *yaml.Node, e *exception) {
	for _, c := range e.comps {
		op, mod, ok := operator(c)
		switch {
		case !ok || op == "exists":
			it.failNear(n, rule.Nearest(op, allOps), "exceptions: %.60q: unknown operator %.60q; one of %s is expected", e.name, c, strings.Join(allOps[1:], " "))
		case e.single && mod == "" && !slices.Contains(listOps, op):
			it.fail(n, "exceptions: %.60q: for a single field comps must be in, pmatch, intersects, or an operator with oneof, anyof or allof", e.name)
		}
	}
	it.checkTuples(n, e)
}

func (it *item) checkTuples(n *yaml.Node, e *exception) {
	for _, t := range e.tuples {
		if len(t) != len(e.fields) || e.single && len(t) == 1 && t[0].list {
			it.fail(n, "exceptions: %.60q: each of the values must have as many parts as there are fields (%d)", e.name, len(e.fields))
			return
		}
	}
}

// mergeExceptions appends exceptions to those of a rule: new ones whole, to others of the same name values alone.
func (it *item) mergeExceptions(d *ruleDef, more []*exception) {
	d.exceptions = slices.Clone(d.exceptions)
	for _, e := range more {
		i := slices.IndexFunc(d.exceptions, func(o *exception) bool { return o.name == e.name })
		node := it.values["exceptions"]
		switch {
		case i < 0 && (len(e.fields) == 0 || len(e.tuples) == 0):
			it.fail(node, "exceptions: %.60q is new and needs fields and values", e.name)
		case i < 0 && len(d.exceptions) == maxExceptions:
			it.fail(node, "more than %d exceptions", maxExceptions)
		case i < 0:
			d.exceptions = append(d.exceptions, e)
		case len(e.fields) > 0:
			it.fail(node, "exceptions: %.60q is there already; only values can be appended to it", e.name)
		default:
			merged := *d.exceptions[i]
			if e.fields, e.single = merged.fields, merged.single; d.source == Source {
				it.checkTuples(node, e)
			}
			merged.tuples = append(merged.tuples, e.tuples...)
			d.exceptions[i] = &merged
		}
	}
}

// node is the exception as a condition, nil if it has no values.
func (e *exception) node(lists lister) (*node, *syntaxError) {
	if len(e.tuples) == 0 {
		return nil, nil
	}
	terms := make([]*term, len(e.fields))
	for i, f := range e.fields {
		t, err := parseTerm(f, lists)
		if err != nil {
			return nil, err
		}
		terms[i] = t
	}
	if e.single {
		v := exceptionValue{list: true}
		for _, t := range e.tuples {
			v.texts = append(v.texts, t[0].texts...)
		}
		return exceptionCheck(terms[0], e.comps[0], v, lists)
	}
	or := &node{kind: orNode}
	for _, tuple := range e.tuples {
		all := &node{kind: andNode}
		for i, v := range tuple {
			c, err := exceptionCheck(terms[i], e.comps[i], v, lists)
			if err != nil {
				return nil, err
			}
			all.parts = append(all.parts, c)
		}
		or.parts = append(or.parts, all)
	}
	return or, nil
}

func exceptionCheck(t *term, comp string, v exceptionValue, lists lister) (*node, *syntaxError) {
	op, mod, _ := operator(comp)
	many := mod != "" || slices.Contains(listOps, op)
	if v.list && !many {
		return nil, &syntaxError{text: "operator " + op + " takes one value, not a list"}
	}
	var out []string
	for _, s := range v.texts {
		// A text in parentheses is a list of its own, as it would be in a condition.
		if many && !v.list && strings.HasPrefix(s, "(") {
			l, err := parseList(s, lists)
			if err != nil {
				return nil, err
			}
			out = append(out, l...)
			continue
		}
		t := itemTexts(s, lists)
		if !many && len(t) > 1 && !isList(lists, s) {
			t = []string{s} // a comma within one value
		}
		out = append(out, t...)
	}
	if !many && len(out) != 1 {
		return nil, &syntaxError{text: "operator " + op + " takes one value"}
	}
	if !lists.spend(len(out)) {
		return nil, &syntaxError{text: "all rules together copy too many values of lists"}
	}
	return &node{kind: checkNode, check: &check{left: t, op: op, mod: mod, values: &values{texts: out}}}, nil
}

func isList(lists lister, name string) bool {
	_, ok := lists.values(name)
	return ok
}
