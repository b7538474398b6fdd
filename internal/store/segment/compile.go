package segmentstore

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"whodunit/internal/journal/segment"
	"whodunit/internal/match"
)

type nodeKind uint8

const (
	isConst nodeKind = iota
	isAnd
	isOr
	isNot
	isColumn // a predicate that a column answers
	isRaw    // a predicate or text that only the raw event answers
)

// node is a compiled expression.
type node struct {
	kind  nodeKind
	value bool // of a constant
	kids  []*node
	pred  *match.Pred
	col   segment.Column
	peer  bool       // the last of the list alone
	words [][]uint64 // of isRaw: an event must have all the words of one of these; nil: nothing is known
	cost  int
}

// compile prepares an expression; the parts of And and Or are put in order of cost.
func compile(e match.Expr) *node {
	switch e := e.(type) {
	case nil:
		return &node{kind: isConst, value: true}
	case match.Const:
		return &node{kind: isConst, value: bool(e)}
	case match.And:
		return compileList(isAnd, e)
	case match.Or:
		return compileList(isOr, e)
	case match.Not:
		k := compile(e.X)
		return &node{kind: isNot, kids: []*node{k}, cost: k.cost}
	case *match.Text:
		n := &node{kind: isRaw, cost: 1000}
		if w := segment.WordHashes(e.Tokens()); len(w) > 0 {
			n.words = [][]uint64{w}
		}
		return n
	case *match.Pred:
		return compilePred(e)
	}
	return &node{kind: isRaw, cost: 1000} // match.Eval knows
}

func compileList(kind nodeKind, parts []match.Expr) *node {
	n := &node{kind: kind}
	for _, p := range parts {
		k := compile(p)
		n.kids = append(n.kids, k)
		n.cost += k.cost
	}
	slices.SortStableFunc(n.kids, func(a, b *node) int { return a.cost - b.cost })
	return n
}

func compilePred(p *match.Pred) *node {
	if p.Field != nil {
		return &node{kind: isRaw, cost: 2000} // its values are nowhere in the event's text
	}
	n := &node{kind: isColumn, pred: p, cost: 10}
	// A column does not tell null from nothing, and says of a list what some value is.
	raw := p.Op == match.Present || p.All
	if p.Path == "peer" && !raw {
		n.col, n.peer = segment.SourceIPs, true
		return n
	}
	if c, ok := segment.PathColumn(p.Path); ok && !raw {
		n.col = c
		switch {
		case c == segment.AuditID || c == segment.RequestURI:
			n.cost = 30
		case c == segment.Name || c.IsList():
			n.cost = 20
		}
		return n
	}
	n.kind, n.cost = isRaw, 1000
	if _, ok := segment.PathColumn(p.Path); ok || p.Path == "peer" {
		return n // the path's own words need not be in the text
	}
	names := words(p.Path, true, true)
	if p.Op == match.Exists || p.Op > match.Glob {
		n.words = [][]uint64{segment.WordHashes(names)}
	} else {
		for _, v := range p.Values {
			n.words = append(n.words, segment.WordHashes(append(valueWords(p.Op, v), names...)))
		}
	}
	if slices.ContainsFunc(n.words, func(h []uint64) bool { return len(h) == 0 }) {
		n.words = nil
	}
	return n
}

// valueWords are words that a value must have as a whole to satisfy the operator for the constant.
func valueWords(op match.Op, c string) []string {
	switch op {
	case match.Equal:
		return words(c, true, true)
	case match.Prefix:
		return words(c, true, false)
	case match.Suffix:
		return words(c, false, true)
	case match.Contains:
		return words(c, false, false)
	case match.Glob:
		return globWords(c)
	}
	return nil
}

// words are the words of s, without the first one if something may stand directly before s and it begins with a letter or
// digit, and without the last one accordingly.
func words(s string, closedStart, closedEnd bool) []string {
	var out []string
	match.Tokens(s, func(w string) bool { out = append(out, w); return true })
	folded := match.Fold(s)
	if first, _ := utf8.DecodeRuneInString(folded); !closedStart && len(out) > 0 && letter(first) {
		out = out[1:]
	}
	if last, _ := utf8.DecodeLastRuneInString(folded); !closedEnd && len(out) > 0 && letter(last) {
		out = out[:len(out)-1]
	}
	return out
}

func letter(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) }

func globWords(glob string) []string {
	var out []string
	var lit strings.Builder
	first := true
	flush := func(last bool) {
		out = append(out, words(lit.String(), first, last)...)
		lit.Reset()
		first = false
	}
	for i := 0; i < len(glob); i++ {
		switch c := glob[i]; {
		case c == '*' || c == '?':
			flush(false)
		case c == '\\' && i+1 < len(glob):
			i++
			lit.WriteByte(glob[i])
		default:
			lit.WriteByte(c)
		}
	}
	flush(true)
	return out
}
