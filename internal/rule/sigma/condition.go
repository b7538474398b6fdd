package sigma

import (
	"fmt"
	"slices"
	"strings"

	"whodunit/internal/match"
	"whodunit/internal/rule"
)

// Limits on hostile conditions; real ones have a dozen words.
const (
	maxConditionWords = 5_000
	maxConditionDepth = 200
)

// token is one word of a condition and where it begins, in bytes.
type token struct {
	text string
	at   int
}

func tokens(s string) []token {
	var out []token
	for i := 0; i < len(s); {
		switch c := s[i]; c {
		case ' ', '\t', '\n', '\r':
			i++
		case '(', ')', '|':
			out = append(out, token{s[i : i+1], i})
			i++
		default:
			n := strings.IndexAny(s[i:], " \t\n\r()|")
			if n < 0 {
				n = len(s) - i
			}
			out = append(out, token{s[i : i+n], i})
			i += n
		}
	}
	return out
}

// condition is a parsed condition: operators over the names of search identifiers.
type condition struct {
	op    byte // 'a' and, 'o' or, 'n' not, 'i' identifier
	parts []*condition
	name  string
}

// conditionParser reads one condition. names are the search identifiers in the rule's order.
type conditionParser struct {
	words []token
	i     int
	names []string
	depth int
}

// parseCondition reads a condition over names.
func parseCondition(s string, names []string) (*condition, error) {
	p := &conditionParser{words: tokens(s), names: names}
	switch {
	case len(p.words) == 0:
		return nil, fmt.Errorf("the condition is empty; name a search identifier%s", list(names))
	case len(p.words) > maxConditionWords:
		return nil, fmt.Errorf("the condition has %d words; at most %d are allowed", len(p.words), maxConditionWords)
	}
	c, err := p.or()
	if err == nil && p.i < len(p.words) {
		err = p.fail("and, or or the end is expected")
	}
	return c, err
}

func list(names []string) string {
	if len(names) == 0 {
		return ""
	}
	return ": " + strings.Join(names[:min(len(names), 10)], ", ")
}

// conditionError has a place in the condition.
type conditionError struct {
	text, near string
	at         int
}

func (e *conditionError) Error() string { return e.text }

func (p *conditionParser) fail(want string) error {
	if p.i >= len(p.words) {
		at := 0
		if len(p.words) > 0 {
			last := p.words[len(p.words)-1]
			at = last.at + len(last.text)
		}
		return &conditionError{text: "the condition ends early: " + want, at: at}
	}
	w := p.words[p.i]
	return &conditionError{text: fmt.Sprintf("%s, not %.60q", want, w.text), at: w.at}
}

func (p *conditionParser) next(word string) bool {
	if p.i < len(p.words) && strings.EqualFold(p.words[p.i].text, word) {
		p.i++
		return true
	}
	return false
}

func (p *conditionParser) or() (*condition, error)  { return p.chain('o', "or", p.and) }
func (p *conditionParser) and() (*condition, error) { return p.chain('a', "and", p.not) }

func (p *conditionParser) chain(op byte, word string, sub func() (*condition, error)) (*condition, error) {
	first, err := sub()
	if err != nil {
		return nil, err
	}
	parts := []*condition{first}
	for p.next(word) {
		c, err := sub()
		if err != nil {
			return nil, err
		}
		parts = append(parts, c)
	}
	if len(parts) == 1 {
		return first, nil
	}
	return &condition{op: op, parts: parts}, nil
}

func (p *conditionParser) not() (*condition, error) {
	if p.depth++; p.depth > maxConditionDepth {
		return nil, p.fail(fmt.Sprintf("the condition is nested deeper than %d", maxConditionDepth))
	}
	defer func() { p.depth-- }()
	if p.next("not") {
		c, err := p.not()
		if err != nil {
			return nil, err
		}
		return &condition{op: 'n', parts: []*condition{c}}, nil
	}
	if p.next("(") {
		c, err := p.or()
		if err == nil && !p.next(")") {
			err = p.fail(") is expected")
		}
		return c, err
	}
	return p.primary()
}

var reserved = []string{"and", "or", "not", "of", "(", ")", "|"}

func (p *conditionParser) primary() (*condition, error) {
	if p.i+1 < len(p.words) && strings.EqualFold(p.words[p.i+1].text, "of") {
		return p.of()
	}
	if p.i >= len(p.words) || slices.Contains(reserved, strings.ToLower(p.words[p.i].text)) {
		return nil, p.fail("a search identifier is expected" + list(p.names))
	}
	w := p.words[p.i]
	if !slices.Contains(p.names, w.text) {
		if strings.Contains(w.text, "*") {
			return nil, p.fail("a pattern stands behind `1 of` or `all of`: 1 of " + fmt.Sprintf("%.60s", w.text))
		}
		return nil, &conditionError{text: fmt.Sprintf("unknown search identifier %.60q", w.text), near: rule.Nearest(w.text, p.names), at: w.at}
	}
	p.i++
	return &condition{op: 'i', name: w.text}, nil
}

// of reads `1 of them`, `all of filter_*` and their like. Names that begin with _ are meant only by a pattern that does, too.
func (p *conditionParser) of() (*condition, error) {
	op := byte('o')
	switch strings.ToLower(p.words[p.i].text) {
	case "1", "any":
	case "all":
		op = 'a'
	default:
		return nil, p.fail("`1 of` or `all of` is expected")
	}
	p.i += 2
	if p.i >= len(p.words) || slices.Contains(reserved, strings.ToLower(p.words[p.i].text)) {
		return nil, p.fail("them or a pattern of search identifiers is expected")
	}
	w := p.words[p.i]
	glob := w.text
	if strings.EqualFold(glob, "them") {
		glob = "*"
	}
	var parts []*condition
	for _, n := range p.names {
		if (n[0] != '_' || glob[0] == '_') && match.MatchGlob(strings.ReplaceAll(glob, "?", `\?`), n) {
			parts = append(parts, &condition{op: 'i', name: n})
		}
	}
	if len(parts) == 0 {
		return nil, &conditionError{text: fmt.Sprintf("%.60q means no search identifier; there are%s", w.text, list(p.names)),
			near: rule.Nearest(strings.TrimRight(w.text, "*"), p.names), at: w.at}
	}
	p.i++
	if len(parts) == 1 {
		return parts[0], nil
	}
	return &condition{op: op, parts: parts}, nil
}

// expr puts the identifiers' expressions in. budget counts down the size of the outcome, which may name an identifier many times.
func (c *condition) expr(of map[string]sized, budget *int) match.Expr {
	switch c.op {
	case 'i':
		s := of[c.name]
		*budget -= s.size
		return s.Expr
	case 'n':
		return match.Not{X: c.parts[0].expr(of, budget)}
	}
	out := make([]match.Expr, 0, len(c.parts))
	for _, q := range c.parts {
		if *budget < 0 {
			break
		}
		out = append(out, q.expr(of, budget))
	}
	if c.op == 'a' {
		return match.And(out)
	}
	return match.Or(out)
}

// negative reports whether every identifier stands under a not.
func (c *condition) negative(under bool) bool {
	switch c.op {
	case 'i':
		return under
	case 'n':
		return c.parts[0].negative(!under)
	}
	for _, q := range c.parts {
		if !q.negative(under) {
			return false
		}
	}
	return true
}

// sized is an expression and how many nodes and constants it has.
type sized struct {
	match.Expr
	size int
}

func size(x match.Expr) int {
	n := 0
	match.Walk(x, func(x match.Expr) {
		n++
		if p, ok := x.(*match.Pred); ok {
			n += len(p.Values)
		}
	})
	return n
}
