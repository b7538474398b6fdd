package query

import (
	"errors"
	"fmt"
	"strings"
	"unicode"

	"whodunit/internal/match"
)

// ErrNoForm is wrapped by Format for expressions that the search language has no words for.
var ErrNoForm = errors.New("no form in the search language")

// Format writes an expression as a query whose Parse means the same. Expressions that Parse gave always have one; of others,
// comparisons without case and patterns with ? have none.
func Format(e match.Expr) (string, error) {
	var f formatter
	f.expr(e, 0)
	return f.b.String(), f.err
}

type formatter struct {
	b   strings.Builder
	err error
}

// Binding strengths: an operand that binds weaker than its place needs parentheses.
const (
	bindOr = iota + 1
	bindAnd
	bindNot
)

func (f *formatter) expr(e match.Expr, place int) {
	switch e := e.(type) {
	case nil:
		f.b.WriteString("*")
	case match.Const:
		if !e {
			f.b.WriteString("not ")
		}
		f.b.WriteString("*")
	case match.And:
		f.chain(e, " and ", "*", bindAnd, place)
	case match.Or:
		f.chain(e, " or ", "not *", bindOr, place)
	case match.Not:
		f.b.WriteString("not ")
		f.expr(e.X, bindNot)
	case *match.Text:
		f.text(e)
	case *match.Pred:
		f.pred(e)
	default:
		f.fail(e)
	}
}

func (f *formatter) chain(parts []match.Expr, word, empty string, bind, place int) {
	switch len(parts) {
	case 0:
		f.b.WriteString(empty)
		return
	case 1:
		f.expr(parts[0], place)
		return
	}
	if bind <= place {
		f.b.WriteByte('(')
		defer f.b.WriteByte(')')
	}
	for i, p := range parts {
		if i > 0 {
			f.b.WriteString(word)
		}
		f.expr(p, bind)
	}
}

func (f *formatter) fail(e match.Expr) {
	if f.err == nil {
		f.err = fmt.Errorf("cannot write %.200q as a query: %w", e.String(), ErrNoForm)
	}
}

func (f *formatter) text(t *match.Text) {
	switch {
	case t.Word == "":
		f.fail(t)
	case t.Open:
		f.b.WriteString(escaped(t.Word) + "*")
	default:
		f.b.WriteString(value(t.Word))
	}
}

func (f *formatter) pred(p *match.Pred) {
	field := shortName(p.Path)
	if p.Fold || p.All || p.Path == "" || p.Op != match.Exists && len(p.Values) == 0 {
		f.fail(p)
		return
	}
	switch p.Op {
	case match.Exists:
		f.b.WriteString(field + ":*")
		return
	case match.Less, match.LessEqual, match.Greater, match.GreaterEqual:
		if _, ok := match.Compare(p.Values[0], p.Values[0]); !ok {
			f.fail(p)
			return
		}
		f.b.WriteString(field + " " + p.Op.String() + " " + value(p.Values[0]))
		return
	}
	f.b.WriteString(field + ":")
	if len(p.Values) > 1 {
		f.b.WriteByte('(')
		defer f.b.WriteByte(')')
	}
	for i, v := range p.Values {
		if i > 0 {
			f.b.WriteString(" or ")
		}
		f.constant(p, v)
	}
}

func (f *formatter) constant(p *match.Pred, v string) {
	if v == "" && p.Op != match.Equal {
		f.fail(p)
		return
	}
	switch p.Op {
	case match.Equal:
		f.b.WriteString(value(v))
	case match.Prefix:
		f.b.WriteString(escaped(v) + "*")
	case match.Suffix:
		f.b.WriteString("*" + escaped(v))
	case match.Contains:
		f.b.WriteString("*" + escaped(v) + "*")
	case match.Glob:
		s, ok := globText(v)
		if !ok {
			f.fail(p)
		}
		f.b.WriteString(s)
	default:
		f.fail(p)
	}
}

// globText is the pattern as a word of a query, unless it has a ?.
func globText(pattern string) (string, bool) {
	var b, lit strings.Builder
	stars := 0
	for i := 0; i < len(pattern); i++ {
		switch c := pattern[i]; {
		case c == '?':
			return "", false
		case c == '*':
			b.WriteString(escaped(lit.String()) + "*")
			lit.Reset()
			stars++
		case c == '\\' && i+1 < len(pattern):
			i++
			lit.WriteByte(pattern[i])
		default:
			lit.WriteByte(c)
		}
	}
	if stars == 0 {
		return value(lit.String()), true
	}
	b.WriteString(escaped(lit.String()))
	return b.String(), true
}

// shortName is the field name that Format writes: the first short name of the path, else the path itself, quoted where a
// short name stands in its way.
func shortName(path string) string {
	for _, f := range Fields() {
		if f.Path == path {
			return f.Name
		}
	}
	if Path(path) != path {
		return quote(path)
	}
	return value(path)
}

// value writes a text without wildcards: as it is where that is safe, else quoted.
func value(s string) string {
	if s == "" || token.keyword(token{kind: word, text: s}) != "" {
		return quote(s)
	}
	for _, r := range s {
		if strings.ContainsRune(special, r) || r == unicode.ReplacementChar || unicode.IsSpace(r) || !unicode.IsPrint(r) {
			return quote(s)
		}
	}
	return s
}

func quote(s string) string {
	return `"` + strings.NewReplacer(`"`, `\"`, `\`, `\\`, "\t", `\t`, "\n", `\n`, "\r", `\r`).Replace(s) + `"`
}

// escaped writes a text as part of a word.
func escaped(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\t':
			b.WriteString(`\t`)
		case c == '\n':
			b.WriteString(`\n`)
		case c == '\r':
			b.WriteString(`\r`)
		case c == ' ' || strings.IndexByte(special, c) >= 0:
			b.WriteByte('\\')
			b.WriteByte(c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}
