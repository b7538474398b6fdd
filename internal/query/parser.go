// Package query reads the search language: KQL as Kibana's users type it (docs/reference/query.md), to match expressions and
// back, and the time ranges of the command line and the API.
package query

import (
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode"

	"whodunit/internal/match"
)

const (
	// MaxLength bounds a query, in bytes.
	MaxLength = 64 << 10
	// MaxDepth bounds how deep parentheses and nots nest.
	MaxDepth = 64
)

// Parse reads a query. An empty one is true of every event. Errors are of type *Error.
func Parse(q string) (match.Expr, error) {
	if len(q) > MaxLength {
		return nil, fail(q[:MaxLength], MaxLength, "the query is longer than %d bytes", MaxLength)
	}
	tokens, err := lex(q)
	if err != nil {
		return nil, err
	}
	p := parser{q: q, tokens: tokens}
	if p.peek().kind == end {
		return match.Const(true), nil
	}
	e, err := p.or(0, p.condition)
	if err != nil {
		return nil, err
	}
	switch t := p.peek(); {
	case t.kind == end:
		return e, nil
	case t.kind == closing:
		return nil, fail(q, t.at, `found ")" where no "(" is open`)
	default:
		return nil, p.wantOperator()
	}
}

type parser struct {
	q      string
	tokens []token
	i      int
}

func (p *parser) peek() token { return p.tokens[p.i] }

func (p *parser) ahead() token { return p.tokens[min(p.i+1, len(p.tokens)-1)] }

// operand reads what stands between operators: a condition, or one value of a list.
type operand func(depth int) (match.Expr, *Error)

func (p *parser) or(depth int, one operand) (match.Expr, *Error) {
	parts, err := p.chain("or", func() (match.Expr, *Error) { return p.and(depth, one) })
	if err != nil || len(parts) == 1 {
		return first(parts), err
	}
	return match.Or(flatten[match.Or](parts)), nil
}

func (p *parser) and(depth int, one operand) (match.Expr, *Error) {
	parts, err := p.chain("and", func() (match.Expr, *Error) { return p.not(depth, one) })
	if err != nil || len(parts) == 1 {
		return first(parts), err
	}
	return match.And(flatten[match.And](parts)), nil
}

func (p *parser) chain(operator string, one func() (match.Expr, *Error)) ([]match.Expr, *Error) {
	var parts []match.Expr
	for {
		e, err := one()
		if err != nil {
			return nil, err
		}
		parts = append(parts, e)
		if p.peek().keyword() != operator {
			return parts, nil
		}
		p.i++
	}
}

func (p *parser) not(depth int, one operand) (match.Expr, *Error) {
	t := p.peek()
	if t.keyword() != "not" {
		return one(depth)
	}
	if depth >= MaxDepth {
		return nil, fail(p.q, t.at, "nested deeper than %d", MaxDepth)
	}
	p.i++
	e, err := p.not(depth+1, one)
	if err != nil {
		return nil, err
	}
	return negate(e), nil
}

func negate(e match.Expr) match.Expr {
	switch e := e.(type) {
	case match.Const:
		return !e
	case match.Not:
		return e.X
	}
	return match.Not{X: e}
}

func first(parts []match.Expr) match.Expr {
	if len(parts) == 0 {
		return nil
	}
	return parts[0]
}

// flatten takes apart those parts that have the same operator.
func flatten[T match.And | match.Or](parts []match.Expr) []match.Expr {
	out := make([]match.Expr, 0, len(parts))
	for _, e := range parts {
		if inner, ok := any(e).(T); ok {
			out = append(out, []match.Expr(inner)...)
			continue
		}
		out = append(out, e)
	}
	return out
}

// group reads a parenthesis of operands.
func (p *parser) group(depth int, one operand) (match.Expr, *Error) {
	opened := p.peek()
	if depth >= MaxDepth {
		return nil, fail(p.q, opened.at, "nested deeper than %d", MaxDepth)
	}
	p.i++
	e, err := p.or(depth+1, one)
	if err != nil {
		return nil, err
	}
	switch t := p.peek(); t.kind {
	case closing:
		p.i++
		return e, nil
	case end:
		return nil, fail(p.q, opened.at, `the "(" that opens here is not closed`)
	}
	return nil, p.wantOperator()
}

// wantOperator is the error for an operand that follows another.
func (p *parser) wantOperator() *Error {
	t := p.peek()
	switch {
	case t.kind == colon:
		return fail(p.q, t.at, `a colon inside a value must be escaped (\:) or the value quoted`)
	case t.kind == brace:
		return fail(p.q, t.at, `braces must be escaped or quoted: every list is searched without a { nested } query`)
	case t.kind == compare:
		return fail(p.q, t.at, `%s must be escaped or quoted inside a value`, t.text)
	}
	return fail(p.q, t.at, `expected "and" or "or" before %s`, t.name())
}

// condition reads `field:value`, `field >= value`, bare words, or a parenthesis.
func (p *parser) condition(depth int) (match.Expr, *Error) {
	t := p.peek()
	switch {
	case t.kind == open:
		return p.group(depth, p.condition)
	case t.kind != word && t.kind != quoted, t.keyword() != "":
		if t.kind == brace {
			return nil, p.wantOperator()
		}
		return nil, fail(p.q, t.at, "expected a condition such as verb:delete, found %s", t.name())
	}
	switch p.ahead().kind {
	case colon:
		p.i += 2
		return p.fieldValue(t, depth)
	case compare:
		return p.compare(t)
	}
	return p.bare()
}

// starts reports whether the next token begins a condition on a field.
func (p *parser) starts() bool { k := p.ahead().kind; return k == colon || k == compare }

// bare reads words that stand alone: each must occur somewhere in the event.
func (p *parser) bare() (match.Expr, *Error) {
	var parts match.And
	for {
		t := p.peek()
		if t.kind != word && t.kind != quoted || t.keyword() != "" {
			break
		}
		if len(parts) > 0 && p.starts() {
			return nil, p.wantOperator()
		}
		e, err := p.text(t)
		if err != nil {
			return nil, err
		}
		parts = append(parts, e)
		p.i++
	}
	if len(parts) == 1 {
		return parts[0], nil
	}
	return parts, nil
}

func (p *parser) text(t token) (match.Expr, *Error) {
	s := t.segs
	switch {
	case len(s) == 2 && s[0] == "" && s[1] == "":
		return match.Const(true), nil
	case len(s) > 2 || len(s) == 2 && s[1] != "":
		return nil, fail(p.q, t.at, "a wildcard may only end a bare word; name a field, such as requestURI:%s", t.text)
	case s[0] == "":
		return nil, fail(p.q, t.at, "expected a word between the quotes")
	}
	return &match.Text{Word: lower(s[0]), Open: len(s) == 2}, nil
}

// lower is s in lower case as far as folding allows: a letter whose lower case is another letter stays (such as İ).
func lower(s string) string {
	return strings.Map(func(r rune) rune {
		if l := unicode.ToLower(r); strings.EqualFold(string(l), string(r)) {
			return l
		}
		return r
	}, s)
}

// field is the path that the token names.
func (p *parser) field(t token) (string, *Error) {
	name, ok := t.segs.literal()
	switch {
	case !ok:
		return "", fail(p.q, t.at, "a field name cannot have a wildcard; for a search in all fields leave the field out")
	case name == "":
		return "", fail(p.q, t.at, "expected a field name")
	case t.kind == quoted:
		return name, nil
	}
	return Path(name), nil
}

// fieldValue reads what follows `field:`.
func (p *parser) fieldValue(f token, depth int) (match.Expr, *Error) {
	if all, t := (pattern{"", ""}), p.peek(); slices.Equal(f.segs, all) && slices.Equal(t.segs, all) {
		p.i++
		return match.Const(true), nil
	}
	path, err := p.field(f)
	if err != nil {
		return nil, err
	}
	one := func(depth int) (match.Expr, *Error) { return p.value(f, path, depth) }
	return one(depth)
}

// value reads one value of the field, or a parenthesis of values.
func (p *parser) value(f token, path string, depth int) (match.Expr, *Error) {
	t := p.peek()
	switch {
	case t.kind == open:
		e, err := p.group(depth, func(depth int) (match.Expr, *Error) { return p.value(f, path, depth) })
		return merge(e), err
	case t.kind == compare:
		return nil, fail(p.q, t.at, "expected a value after %s:, or %s %s without the colon", f.text, f.text, t.text)
	case t.kind != word && t.kind != quoted, t.keyword() != "":
		return nil, fail(p.q, t.at, "expected a value after %s:, found %s", f.text, t.name())
	}
	segs := slices.Clone(t.segs)
	p.i++
	for t.kind == word && p.peek().kind == word && p.peek().keyword() == "" && !p.starts() {
		next := p.peek().segs
		segs[len(segs)-1] += " " + next[0]
		segs = append(segs, next[1:]...)
		p.i++
	}
	if k := p.peek().kind; k == colon || k == word || k == quoted {
		if k == quoted || p.peek().keyword() == "" {
			return nil, p.wantOperator()
		}
	}
	return p.predicate(f, t, path, segs)
}

func (p *parser) predicate(f, t token, path string, segs pattern) (match.Expr, *Error) {
	if f.kind == word && f.text == "sa" {
		segs = serviceAccount(segs)
	}
	if v, ok := segs.literal(); ok && addressPath(path) && strings.Contains(v, "/") {
		net, err := netip.ParsePrefix(v)
		switch {
		case err != nil:
			return nil, fail(p.q, t.at, "expected an address or a range such as 10.0.0.0/8")
		case !net.Addr().Is4():
			return nil, fail(p.q, t.at, "ranges of IPv6 addresses cannot be searched; write the beginning and a wildcard, such as fd00\\:*")
		}
		return addresses(path, net), nil
	}
	return segs.pred(path), nil
}

// merge makes one predicate of neighbours in a list of values that differ in the constant alone.
func merge(e match.Expr) match.Expr {
	or, ok := e.(match.Or)
	if !ok {
		return e
	}
	var out match.Or
	for _, part := range or {
		p, ok := part.(*match.Pred)
		if ok && len(out) > 0 && p.Op != match.Exists {
			if last, ok := out[len(out)-1].(*match.Pred); ok && last.Op == p.Op {
				joined := *last
				joined.Values = append(slices.Clone(last.Values), p.Values...)
				out[len(out)-1] = &joined
				continue
			}
		}
		out = append(out, part)
	}
	if len(out) == 1 {
		return out[0]
	}
	return out
}

// compare reads `field >= value`.
func (p *parser) compare(f token) (match.Expr, *Error) {
	path, err := p.field(f)
	if err != nil {
		return nil, err
	}
	operator, t := p.ahead(), p.tokens[min(p.i+2, len(p.tokens)-1)]
	op := map[string]match.Op{"<": match.Less, "<=": match.LessEqual, ">": match.Greater, ">=": match.GreaterEqual}[operator.text]
	if t.kind != word && t.kind != quoted || t.keyword() != "" {
		return nil, fail(p.q, t.at, "expected a number or a time after %s, found %s", operator.text, t.name())
	}
	p.i += 3
	v, ok := t.segs.literal()
	if words := ordered(path); words != nil && ok {
		return p.ranked(t, path, op, words)
	}
	if _, err := time.Parse(time.DateOnly, v); err == nil {
		v += "T00:00:00Z"
	}
	if p.peek().kind == colon {
		return nil, fail(p.q, t.at, `a time has colons and must be quoted, such as "2026-11-21T10:00:00Z"`)
	}
	if _, ordered := match.Compare(v, v); !ok || !ordered {
		return nil, fail(p.q, t.at, `expected a number or a time such as "2026-11-21T10:00:00Z" after %s, found %s`, operator.text, t.name())
	}
	if k := p.peek(); (k.kind == word || k.kind == quoted || k.kind == compare) && k.keyword() == "" {
		return nil, p.wantOperator()
	}
	return &match.Pred{Path: path, Op: op, Values: []string{v}}, nil
}

// ranked is a comparison of words that have an order, as the list of those that it includes.
func (p *parser) ranked(t token, path string, op match.Op, words []string) (match.Expr, *Error) {
	at := slices.IndexFunc(words, func(w string) bool { return strings.EqualFold(w, t.segs[0]) })
	if at < 0 {
		return nil, fail(p.q, t.at, "expected one of %s, found %s", strings.Join(words, ", "), t.name())
	}
	switch op {
	case match.Less:
		words = words[:at]
	case match.LessEqual:
		words = words[:at+1]
	case match.Greater:
		words = words[at+1:]
	default:
		words = words[at:]
	}
	if len(words) == 0 {
		return match.Const(false), nil
	}
	return &match.Pred{Path: path, Op: match.Equal, Values: words}, nil
}
