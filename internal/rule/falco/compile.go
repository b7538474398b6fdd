package falco

import (
	"fmt"
	"maps"

	"whodunit/internal/match"
	"whodunit/internal/rule"
)

// Bounds on what conditions become once macros are put in. Macros that name others twice double with each step.
const (
	maxChecks    = 20_000     // of one rule
	maxAllChecks = 20_000_000 // of all rules
	maxAllParts  = 5_000_000  // of all rules' and macros' own expressions
	maxChain     = 500        // macros, or lists, that lead to each other
)

// compiled is a condition as an expression.
type compiled struct {
	expr   match.Expr
	checks int
	// yes and no are the places among levels that the condition, and its negation, need; never for one that cannot be.
	yes, no int
}

const never = len(levels)

// compiler makes expressions. It shares what is the same: operands, and the conditions of macros.
type compiler struct {
	l        *loader
	read     reader
	operands map[string]*operand
	regexes  map[string]error
	all      int // checks
	parts    int
	path     int // macros being compiled
	insts    int // of regular expressions
}

func newCompiler(l *loader) *compiler {
	return &compiler{l: l, read: l.read, operands: map[string]*operand{}, regexes: map[string]error{}}
}

// compile turns a condition into an expression.
func (c *compiler) compile(n *node) (compiled, *syntaxError) {
	switch n.kind {
	case macroNode:
		return c.macro(n)
	case checkNode:
		e, level, err := c.check(n.check)
		if err != nil {
			return compiled{}, err
		}
		return simple(e, level), nil
	case notNode:
		x, err := c.compile(n.parts[0])
		return x.negate(), err
	}
	parts := make([]compiled, 0, len(n.parts))
	for _, p := range n.parts {
		x, err := c.compile(p)
		if err != nil {
			return compiled{}, err
		}
		parts = append(parts, x)
	}
	out := combine(parts, n.kind == andNode)
	if out.checks > maxChecks {
		return compiled{}, &syntaxError{at: n.at, text: fmt.Sprintf("too large: more than %d checks once macros are put in", maxChecks)}
	}
	if c.parts += width(out.expr); c.parts > maxAllParts {
		return compiled{}, &syntaxError{at: n.at, text: "all conditions together are too large"}
	}
	return out, nil
}

// width is how many parts an expression has by itself.
func width(e match.Expr) int {
	switch e := e.(type) {
	case match.And:
		return len(e)
	case match.Or:
		return len(e)
	}
	return 1
}

// simple is one check.
func simple(e match.Expr, level int) compiled {
	out := compiled{expr: e, checks: 1, yes: level, no: level}
	if b, ok := e.(match.Const); ok {
		out.yes, out.no = never, 0
		if bool(b) {
			out.yes, out.no = 0, never
		}
	}
	return out
}

func (x compiled) negate() compiled {
	switch e := x.expr.(type) {
	case match.Const:
		x.expr = !e
	case match.Not:
		x.expr = e.X
	default:
		x.expr = match.Not{X: e}
	}
	x.yes, x.no = x.no, x.yes
	return x
}

// combine joins parts by and, or by or, without those that decide nothing.
func combine(parts []compiled, and bool) compiled {
	out := compiled{}
	var kept []match.Expr
	// all is what every part must have, some what one of them must: for and the levels of yes and no, for or the other way round.
	all, some := 0, never
	for _, p := range parts {
		out.checks += p.checks
		if and {
			all, some = max(all, p.yes), min(some, p.no)
		} else {
			all, some = max(all, p.no), min(some, p.yes)
		}
		if b, ok := p.expr.(match.Const); ok && bool(b) == and {
			continue
		}
		kept = appendPart(kept, p.expr, and)
	}
	if out.yes, out.no = all, some; !and {
		out.yes, out.no = some, all
	}
	for _, e := range kept {
		if b, ok := e.(match.Const); ok { // it decides
			out.expr = b
			return out
		}
	}
	switch {
	case len(kept) == 0:
		out.expr = match.Const(and)
	case len(kept) == 1:
		out.expr = kept[0]
	case and:
		out.expr = match.And(kept)
	default:
		out.expr = match.Or(kept)
	}
	return out
}

// appendPart appends an expression, or its parts where it is of the same kind.
func appendPart(to []match.Expr, e match.Expr, and bool) []match.Expr {
	switch e := e.(type) {
	case match.And:
		if and {
			return append(to, e...)
		}
	case match.Or:
		if !and {
			return append(to, e...)
		}
	}
	return append(to, e)
}

// macro compiles a macro once and for all rules.
func (c *compiler) macro(n *node) (compiled, *syntaxError) {
	d := c.l.macros[n.macro]
	if d == nil {
		if c.l.broken["macro "+n.macro] {
			return compiled{}, &syntaxError{at: n.at, text: fmt.Sprintf("macro %s has an error of its own", n.macro)}
		}
		return compiled{}, &syntaxError{at: n.at, text: fmt.Sprintf("unknown macro %.100q", n.macro), near: c.l.nearest(n.macro, maps.Keys(c.l.macros))}
	}
	switch {
	case d.busy:
		return compiled{}, &syntaxError{at: n.at, text: fmt.Sprintf("macro %s leads back to itself", n.macro)}
	case d.err != nil:
		return compiled{}, broken(n, d.err)
	case d.done != nil:
		return *d.done, nil
	}
	if c.path++; c.path > maxChain {
		c.path--
		return compiled{}, &syntaxError{at: n.at, text: fmt.Sprintf("more than %d macros lead to each other", maxChain)}
	}
	d.busy = true
	var x compiled
	parsed, err := parse(d.condition.String(), c.l)
	if err == nil {
		x, err = c.compile(parsed)
	}
	d.busy = false
	c.path--
	if err != nil {
		if d.err = err.root; d.err == nil {
			d.err = c.problem(&d.condition, err, "macro "+d.name+": ")
			c.l.problems = append(c.l.problems, d.err)
		}
		return compiled{}, broken(n, d.err)
	}
	d.done = &x
	return x, nil
}

// broken is the fault of naming a macro that has one.
func broken(n *node, p *rule.Problem) *syntaxError {
	return &syntaxError{at: n.at, text: fmt.Sprintf("macro %s has an error, see %s:%d:%d", n.macro, p.File, p.Line, p.Column), root: p}
}

// problem is a fault in a text.
func (c *compiler) problem(t *snippet, err *syntaxError, prefix string) *rule.Problem {
	file, line, column := t.where(err.at)
	return &rule.Problem{File: file, Line: line, Column: column, Text: prefix + err.text, Nearest: err.near}
}
