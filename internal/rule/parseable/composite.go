package parseable

import (
	"fmt"
	"strings"

	"whodunit/internal/match"
	"whodunit/internal/rule"
)

// compositeError is what is wrong with a composite rule's text, and where.
type compositeError struct {
	at         int // byte
	text, near string
}

// parser reads
//
//	expr := term (ws+ "or" ws+ expr)?       term := atom (ws+ "and" ws+ term)?
//	atom := ident ws* sop ws* string | ident ws* nop ws* digits | "!(" expr ")" | "(" ws* expr ws* ")"
//
// It panics with a *compositeError, which parseComposite catches.
type parser struct {
	s     string
	i     int
	depth int
	l     *reader
}

func parseComposite(s string, l *reader) (x match.Expr, err *compositeError) {
	defer func() {
		if p := recover(); p != nil {
			e, ok := p.(*compositeError)
			if !ok {
				panic(p)
			}
			x, err = nil, e
		}
	}()
	p := &parser{s: s, l: l}
	p.space()
	x = p.expr()
	p.space()
	if p.i < len(s) {
		p.fail("and, or, or the end is expected, not %.20q", s[p.i:])
	}
	return x, nil
}

func (p *parser) fail(format string, a ...any) {
	panic(&compositeError{at: p.i, text: fmt.Sprintf(format, a...)})
}

func (p *parser) space() (some bool) {
	start := p.i
	for p.i < len(p.s) && strings.IndexByte(" \t\r\n", p.s[p.i]) >= 0 {
		p.i++
	}
	return p.i > start
}

func (p *parser) expr() match.Expr {
	if p.depth++; p.depth > maxDepth {
		p.fail("nested deeper than %d", maxDepth)
	}
	defer func() { p.depth-- }()
	parts := match.Or{p.term()}
	for p.word("or") {
		parts = append(parts, p.term())
	}
	if len(parts) == 1 {
		return parts[0]
	}
	return parts
}

func (p *parser) term() match.Expr {
	parts := match.And{p.atom()}
	for p.word("and") {
		parts = append(parts, p.atom())
	}
	if len(parts) == 1 {
		return parts[0]
	}
	return parts
}

// word takes a keyword with white space on both sides.
func (p *parser) word(w string) bool {
	start := p.i
	if p.space() && strings.HasPrefix(p.s[p.i:], w) {
		p.i += len(w)
		if p.space() {
			return true
		}
	}
	p.i = start
	return false
}

func (p *parser) atom() match.Expr {
	rest := p.s[p.i:]
	switch {
	case strings.HasPrefix(rest, "!("):
		p.i += 2
		return match.Not{X: p.group()}
	case strings.HasPrefix(rest, "("):
		p.i++
		return p.group()
	}
	start := p.i
	for p.i < len(p.s) && ident(p.s[p.i]) {
		p.i++
	}
	column := p.s[start:p.i]
	if column == "" {
		p.fail("a column name, ( or !( is expected, not %.20q", rest)
	}
	if near, ok := p.l.knows(column); !ok {
		p.i = start
		panic(&compositeError{at: start, text: fmt.Sprintf("unknown column %.60q", column), near: near})
	}
	p.space()
	op := p.op()
	p.space()
	kind, value := "numeric", p.digits()
	if value == "" && p.i < len(p.s) && p.s[p.i] == '"' {
		kind, value = "string", p.text()
	} else if value == "" {
		p.fail("a text in double quotes or digits are expected, not %.20q", p.s[p.i:])
	}
	x, known, err := compare(column, kind, op, value, false)
	if err != nil {
		p.fail("%v", err)
	}
	if x == nil {
		p.fail("operator %s does not fit a %s value; one of %s is expected", op, kind, strings.Join(known, " "))
	}
	return x
}

func (p *parser) group() match.Expr {
	p.space()
	x := p.expr()
	p.space()
	if p.i >= len(p.s) || p.s[p.i] != ')' {
		p.fail("and, or, or ) is expected, not %.20q", p.s[p.i:])
	}
	p.i++
	return x
}

func ident(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_'
}

func (p *parser) op() string {
	for _, op := range []string{"=%", "!%", "!=", "<=", ">=", "=", "<", ">", "~"} {
		if strings.HasPrefix(p.s[p.i:], op) {
			p.i += len(op)
			return op
		}
	}
	p.fail("an operator is expected, not %.20q", p.s[p.i:])
	return ""
}

func (p *parser) digits() string {
	start := p.i
	for p.i < len(p.s) && p.s[p.i] >= '0' && p.s[p.i] <= '9' {
		p.i++
	}
	return p.s[start:p.i]
}

// text reads a text in double quotes.
func (p *parser) text() string {
	escapes := map[byte]byte{'"': '"', '\\': '\\', '/': '/', 'n': '\n', 'r': '\r', 't': '\t', 'b': '\b', 'f': '\f'}
	var b strings.Builder
	start := p.i
	for p.i++; p.i < len(p.s); p.i++ {
		switch c := p.s[p.i]; c {
		case '"':
			p.i++
			return b.String()
		case '\\':
			if p.i++; p.i >= len(p.s) || escapes[p.s[p.i]] == 0 {
				p.i--
				p.fail(`only \" \\ \/ \n \r \t \b \f may follow a backslash`)
			}
			b.WriteByte(escapes[p.s[p.i]])
		default:
			b.WriteByte(c)
		}
	}
	p.i = start
	p.fail("the text has no closing quote")
	return ""
}

// compare makes one comparison. x is nil where the operator is not one of known.
func compare(column, kind, op, value string, fold bool) (x match.Expr, known []string, err error) {
	pred := func(op match.Op, v string) *match.Pred {
		p := &match.Pred{Op: op, Values: []string{v}, Fold: fold && op < match.Less}
		if p.Path = header[column]; p.Path == "" {
			p.Field = Field(fieldPrefix + column)
		}
		return p
	}
	// A null never matches, and of a list one element is enough: so a negation asks for a value that differs.
	other := func(p *match.Pred) match.Expr {
		all := *p
		all.All = true
		return match.And{pred(match.Glob, "*"), match.Not{X: &all}}
	}
	if kind == "string" {
		switch op {
		case "=", "exact":
			return pred(match.Equal, value), nil, nil
		case "!=", "notExact":
			return other(pred(match.Equal, value)), nil, nil
		case "=%", "contains":
			return pred(match.Contains, value), nil, nil
		case "!%", "notContains":
			return other(pred(match.Contains, value)), nil, nil
		case "~", "regex":
			_, err := rule.CompileRegex(value)
			return pred(match.Regex, value), nil, err
		}
		return nil, []string{"exact", "notExact", "contains", "notContains", "regex", "=", "!=", "=%", "!%", "~"}, nil
	}
	equal := match.And{pred(match.GreaterEqual, value), pred(match.LessEqual, value)}
	switch op {
	case "=", "equalTo":
		return equal, nil, nil
	case "!=", "notEqualTo":
		return match.Or{pred(match.Less, value), pred(match.Greater, value)}, nil, nil
	case ">", "greaterThan":
		return pred(match.Greater, value), nil, nil
	case ">=", "greaterThanEquals":
		return pred(match.GreaterEqual, value), nil, nil
	case "<", "lessThan":
		return pred(match.Less, value), nil, nil
	case "<=", "lessThanEquals":
		return pred(match.LessEqual, value), nil, nil
	}
	return nil, []string{"equalTo", "notEqualTo", "greaterThan", "greaterThanEquals", "lessThan", "lessThanEquals", "=", "!=", ">", ">=", "<", "<="}, nil
}
