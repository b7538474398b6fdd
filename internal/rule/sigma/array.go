package sigma

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"whodunit/internal/audit"
	"whodunit/internal/match"
	"whodunit/internal/rule"
)

// The array selectors of sigma-version 3 (Sigma Enhancement Proposal 212): field[any], [all], [all_or_empty], [none] and field[N].

var quantifiers = []string{"any", "all", "all_or_empty", "none"}

var unescapeBrackets = strings.NewReplacer(`\[`, "[", `\]`, "]")

// step is one part of a selector: a dotted path, and an index or a quantifier behind it.
type step struct {
	path  string
	index *int
	quant string
}

// selector is a field's name with brackets.
type selector struct {
	steps []step // the last has the first quantifier, if there is one
	rest  string // behind the quantifier
}

// parseSelector reads a name; nil: it has no selector.
func parseSelector(name string) (*selector, error) {
	sel := &selector{}
	var path strings.Builder
	for i := 0; i < len(name); i++ {
		switch c := name[i]; {
		case c == '\\' && i+1 < len(name) && (name[i+1] == '[' || name[i+1] == ']'):
			i++
			path.WriteByte(name[i])
		case c == '[':
			n := strings.IndexByte(name[i:], ']')
			if n < 0 {
				return nil, fmt.Errorf("[ without ] in %.60q; a bracket of the name is written \\[", name)
			}
			word := name[i+1 : i+n]
			st := step{path: path.String()}
			path.Reset()
			if k, err := strconv.Atoi(word); err == nil {
				st.index = &k
			} else {
				st.quant = strings.ToLower(word)
				if !known(st.quant) {
					return nil, &nearError{fmt.Sprintf("a number or any, all, all_or_empty, none is expected in the brackets, not %.40q", word), rule.Nearest(word, quantifiers)}
				}
			}
			sel.steps = append(sel.steps, st)
			i += n
			rest := strings.TrimPrefix(name[i+1:], ".")
			if st.quant != "" {
				sel.rest = rest
				return sel, nil
			}
			i = len(name) - len(rest) - 1
		default:
			path.WriteByte(c)
		}
	}
	if len(sel.steps) == 0 {
		return nil, nil
	}
	if path.Len() > 0 {
		sel.steps = append(sel.steps, step{path: path.String()})
	}
	return sel, nil
}

func known(q string) bool { return q == "any" || q == "all" || q == "all_or_empty" || q == "none" }

// follow calls f for the raw values that the steps lead to from v.
func follow(v []byte, steps []step, f func([]byte) bool) bool {
	if len(steps) == 0 {
		return f(v)
	}
	return reach(v, steps[0].path, false, func(v []byte) bool { return index(v, steps, f) })
}

// index picks the element that the first step asks for and goes on.
func index(v []byte, steps []step, f func([]byte) bool) bool {
	if steps[0].index == nil {
		return follow(v, steps[1:], f)
	}
	if len(v) == 0 || v[0] != '[' {
		return true
	}
	k := *steps[0].index
	if k < 0 {
		for range audit.Elements(v) {
			k++
		}
	}
	if k < 0 {
		return true
	}
	for el := range audit.Elements(v) {
		if k == 0 {
			return follow(el, steps[1:], f)
		}
		k--
	}
	return true
}

// selected compiles an item whose field has a selector.
func (c *compiler) selected(key *yaml.Node, sel *selector, mods []string, value *yaml.Node) (match.Expr, error) {
	first := c.lookup(sel.steps[0].path)
	c.need(first)
	last := sel.steps[len(sel.steps)-1]
	name := first.id()
	for i, st := range sel.steps {
		if i > 0 {
			name += "." + st.path
		}
		if st.index != nil {
			name += fmt.Sprintf("[%d]", *st.index)
		}
	}
	t := rawTarget(name, func(ev *audit.Event, yield func([]byte) bool) {
		first.raw(ev, func(v []byte) bool { return index(v, sel.steps, yield) })
	})
	if last.quant == "" {
		plain := "\x00" + name // a name that no field has, for item to find the target by
		c.targets[c.scope.key()+plain] = t
		version := c.version
		c.version = 2
		defer func() { c.version = version }()
		return c.item(key, plain, mods, value)
	}
	body, err := c.members(key, sel.rest, mods, value)
	if err != nil {
		return nil, err
	}
	return &match.Func{Name: fmt.Sprintf("%s of %q: %s", last.quant, name, body), Eval: func(ev *audit.Event) bool {
		n, hits := 0, 0
		member := func(el []byte) bool {
			n++
			if match.Eval(body, &audit.Event{Raw: el, Flags: audit.FlagGeneric}) {
				hits++
			}
			return hits == n && last.quant != "any" && last.quant != "none" || hits == 0 && (last.quant == "any" || last.quant == "none")
		}
		t.raw(ev, func(v []byte) bool {
			switch {
			case len(v) == 0 || v[0] == 'n':
				return true
			case v[0] != '[':
				return member(v)
			}
			for el := range audit.Elements(v) {
				if !member(el) {
					return false
				}
			}
			return true
		})
		switch last.quant {
		case "any":
			return hits > 0
		case "none":
			return hits == 0
		case "all":
			return n > 0 && hits == n
		}
		return hits == n
	}}, nil
}

// members compiles what is asked of one member of an array: a value, a map of fields, or a detection with a condition.
func (c *compiler) members(key *yaml.Node, rest string, mods []string, value *yaml.Node) (match.Expr, error) {
	if c.depth++; c.depth > maxNesting {
		return nil, at(key, fmt.Errorf("array blocks are nested deeper than %d", maxNesting))
	}
	outer := c.scope
	c.scope.element = true
	defer func() { c.scope = outer; c.depth-- }()
	value = resolve(value)
	if rest != "" || value.Kind != yaml.MappingNode {
		if rest == "" {
			rest = "."
		}
		return c.item(key, rest, mods, value)
	}
	if len(mods) > 0 {
		return nil, at(key, errors.New("modifiers belong to the fields in the block"))
	}
	for k, v := range pairs(value) {
		if k.Value == "condition" && resolve(v).Kind == yaml.ScalarNode {
			return c.detection(value)
		}
	}
	return c.selection(value)
}
