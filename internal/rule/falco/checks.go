package falco

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"whodunit/internal/audit"
	"whodunit/internal/match"
)

// check turns one comparison into an expression and gives the level of event that it needs. Whatever is missing makes it false.
func (c *compiler) check(k *check) (match.Expr, int, *syntaxError) {
	o, err := c.operand(k.left)
	if err != nil {
		return nil, 0, err
	}
	op := k.op
	if op == "==" {
		op = "="
	}
	if err := allowed(o, k, op); err != nil {
		return nil, 0, err
	}
	if k.right != nil {
		r, err := c.operand(k.right)
		if err != nil {
			return nil, 0, err
		}
		e, err := c.fieldToField(o, r, k, op)
		return e, max(o.level, r.level), err
	}
	var e match.Expr
	switch {
	case op == "exists":
		e = o.exists()
	case k.mod != "":
		e, err = c.modified(o, k, op)
	case op == "in" || op == "intersects":
		e, err = c.set(o, k, op)
	default:
		e, err = c.compare(o, op, k.values.texts, k.values.at)
	}
	return e, o.level, err
}

// allowed refuses operators that Falco refuses for what is asked.
func allowed(o *operand, k *check, op string) *syntaxError {
	set := op == "exists" || op == "in" || op == "intersects"
	switch {
	case o.list && (!set || k.mod != ""):
		return &syntaxError{at: k.opAt, text: fmt.Sprintf("%s is a list: operator %s is not for it; exists, in and intersects are", o.name, strings.TrimSpace(op+" "+k.mod))}
	case o.number && !set && op != "=" && op != "!=" && !slices.Contains(numberOps, op):
		return &syntaxError{at: k.opAt, text: fmt.Sprintf("%s is a number: operator %s is not for it", o.name, op)}
	case k.right != nil && (op == "pmatch" || op == "regex"):
		return &syntaxError{at: k.right.at, text: fmt.Sprintf("operator %s takes no field on its right side", op)}
	}
	return nil
}

// pred is a predicate on the operand.
func (o *operand) pred(op match.Op, fold bool, values ...string) *match.Pred {
	p := &match.Pred{Op: op, Values: values, Fold: fold}
	if o.path != "" {
		p.Path = o.path
	} else {
		p.Field = o.field
	}
	return p
}

// exists: a scalar is there, be it null, as the plugin takes null for the text "null"; a list has a value.
func (o *operand) exists() match.Expr {
	switch {
	case o.always:
		return match.Const(true)
	case o.path == "":
		return o.pred(match.Exists, false)
	case o.list:
		return o.pred(match.Prefix, false, "")
	}
	return o.pred(match.Present, false)
}

// set is in and intersects. Of a list all values must be in the set, or any.
func (c *compiler) set(o *operand, k *check, op string) (match.Expr, *syntaxError) {
	values := k.values.texts
	if o.number {
		values = make([]string, 0, len(k.values.texts))
		for _, v := range k.values.texts {
			n, ok := numeral(v)
			if !ok {
				return nil, &syntaxError{at: k.values.at, text: fmt.Sprintf("%.60q is no number", v)}
			}
			values = append(values, n)
		}
	}
	if len(values) == 0 {
		return match.Const(false), nil
	}
	p := o.pred(match.Equal, false, values...)
	p.All = o.list && op == "in"
	return p, nil
}

// compare is an operator with one constant; pmatch may have several.
func (c *compiler) compare(o *operand, op string, values []string, at int) (match.Expr, *syntaxError) {
	v := ""
	if len(values) > 0 {
		v = values[0]
	}
	if o.number {
		n, ok := numeral(v)
		if !ok {
			return nil, &syntaxError{at: at, text: fmt.Sprintf("%.60q is no number", v)}
		}
		v = n
	}
	switch op {
	case "=":
		if o.always && (v == "" || v[0] < '1' || v[0] > '9') {
			return match.Const(false), nil // a time is never 0
		}
		return o.pred(match.Equal, false, v), nil
	case "!=":
		return match.And{o.exists(), match.Not{X: o.pred(match.Equal, false, v)}}, nil
	case "contains":
		return o.pred(match.Contains, false, v), nil
	case "icontains":
		return o.pred(match.Contains, true, v), nil
	case "startswith":
		return o.pred(match.Prefix, false, v), nil
	case "endswith":
		return o.pred(match.Suffix, false, v), nil
	case "bcontains", "bstartswith":
		b, err := hex.DecodeString(v)
		if err != nil {
			return nil, &syntaxError{at: at, text: fmt.Sprintf("%.60q: an even number of hexadecimal digits is expected", v)}
		}
		if op == "bcontains" {
			return o.pred(match.Contains, false, string(b)), nil
		}
		return o.pred(match.Prefix, false, string(b)), nil
	case "glob", "iglob":
		return c.glob(o, v, op == "iglob", at)
	case "regex":
		return c.regex(o, fullMatch(v), v, at)
	case "pmatch":
		return c.pathPrefixes(o, values, at)
	}
	if o.always && v == "0" && (op == ">" || op == ">=") {
		return match.Const(true), nil
	}
	return c.order(o, op, v)
}

// orders are the ordering operators.
var orders = map[string]match.Op{"<": match.Less, "<=": match.LessEqual, ">": match.Greater, ">=": match.GreaterEqual}

// order compares numbers. The plugin's fields are texts, and Falco orders those byte by byte, so that "1000" comes before "999".
func (c *compiler) order(o *operand, op, v string) (match.Expr, *syntaxError) {
	if o.number || !c.read.upstream {
		n, _ := numeral(v)
		return o.pred(orders[op], false, n), nil
	}
	get := o.get
	return match.And{o.exists(), &match.Func{Name: "falco-upstream:" + o.name + op + v, Eval: func(ev *audit.Event) (holds bool) {
		get(ev, func(s string) bool { holds = ordered(op, strings.Compare(s, v)); return false })
		return holds
	}}}, nil
}

// ordered says whether a comparison came out as the operator wants it.
func ordered(op string, n int) bool {
	switch op {
	case "<":
		return n < 0
	case "<=":
		return n <= 0
	case ">":
		return n > 0
	}
	return n >= 0
}

// modified is an operator with oneof, anyof or allof: exactly one, some, or all of the constants must compare.
func (c *compiler) modified(o *operand, k *check, op string) (match.Expr, *syntaxError) {
	texts := k.values.texts
	if len(texts) == 0 {
		return match.Const(false), nil
	}
	switch {
	case op == "=" && k.mod == "anyof" && !o.number:
		return o.pred(match.Equal, false, texts...), nil
	case op == "!=" && k.mod == "allof" && !o.number:
		return match.And{o.exists(), match.Not{X: o.pred(match.Equal, false, texts...)}}, nil
	}
	if len(texts) > maxModified {
		return nil, &syntaxError{at: k.values.at, text: fmt.Sprintf("more than %d values behind %s", maxModified, k.mod)}
	}
	parts := make([]match.Expr, len(texts))
	for i, t := range texts {
		e, err := c.compare(o, op, []string{t}, k.values.at)
		if err != nil {
			return nil, err
		}
		parts[i] = e
	}
	switch k.mod {
	case "anyof":
		return match.Or(parts), nil
	case "allof":
		return match.And(parts), nil
	}
	name := make([]string, len(texts))
	for i, t := range texts {
		name[i] = fmt.Sprintf("%q", t)
	}
	one := &match.Func{Name: fmt.Sprintf("falco:%s %s oneof (%s)", o.name, op, strings.Join(name, ",")), Eval: func(ev *audit.Event) bool {
		n := 0
		for _, p := range parts {
			if match.Eval(p, ev) {
				if n++; n > 1 {
					return false
				}
			}
		}
		return n == 1
	}}
	if c.read.upstream {
		one.Name = "falco-upstream" + strings.TrimPrefix(one.Name, "falco")
	}
	return match.And{match.Or(parts), one}, nil
}

// maxModified bounds the constants behind a modifier that need a part of the expression each.
const maxModified = 1000

// fieldToField compares two operands.
func (c *compiler) fieldToField(l, r *operand, k *check, op string) (match.Expr, *syntaxError) {
	if l.list != r.list || l.number != r.number {
		return nil, &syntaxError{at: k.right.at, text: fmt.Sprintf("%s and %s cannot be compared: one is a list or a number and the other is not", l.name, r.name)}
	}
	prefix := "falco:"
	if c.read.upstream {
		prefix = "falco-upstream:"
	}
	read := c.read // the expression must not keep the compiler
	f := &match.Func{Name: prefix + l.name + " " + op + " " + r.name, Eval: func(ev *audit.Event) bool {
		a := l.collect(ev)
		if len(a) == 0 {
			return false
		}
		b := r.collect(ev)
		switch {
		case len(b) == 0:
			return false
		case op == "intersects" && l.list:
			return slices.ContainsFunc(a, func(s string) bool { return slices.Contains(b, s) })
		case op == "in" && l.list:
			return !slices.ContainsFunc(a, func(s string) bool { return !slices.Contains(b, s) })
		}
		return read.holds(op, a[0], b[0], l.number)
	}}
	return match.And{l.exists(), r.exists(), f}, nil
}

// holds compares two texts, or two numbers.
func (r reader) holds(op, a, b string, number bool) bool {
	switch op {
	case "=", "in", "intersects":
		return a == b
	case "!=":
		return a != b
	case "contains", "bcontains":
		return strings.Contains(a, b)
	case "icontains":
		return strings.Contains(match.Fold(a), match.Fold(b))
	case "startswith", "bstartswith":
		return strings.HasPrefix(a, b)
	case "endswith":
		return strings.HasSuffix(a, b)
	case "glob", "iglob":
		if op == "iglob" {
			a, b = match.Fold(a), match.Fold(b)
		}
		return match.MatchGlob(b, a)
	}
	if !number && r.upstream {
		return ordered(op, strings.Compare(a, b))
	}
	n, ok := match.Compare(a, b)
	return ok && ordered(op, n)
}
