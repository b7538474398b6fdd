package sigma

import (
	"encoding/base64"
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"whodunit/internal/match"
)

// pattern is a Sigma string value: literal texts and wildcards.
type pattern []part

type part struct {
	kind partKind
	text string // of a literal
}

type partKind uint8

const (
	literal partKind = iota
	many             // *
	one              // ?
	dash             // any of the five dashes, from windash
)

// parsePattern reads wildcards and escapes (specification, "Escaping"): a backslash takes *, ? and \ literally and stands for itself
// before all else.
func parsePattern(s string) pattern {
	if !strings.ContainsAny(s, `*?\`) {
		return parseLiteral(s)
	}
	var p pattern
	var lit strings.Builder
	flush := func() {
		if lit.Len() > 0 {
			p = append(p, part{text: lit.String()})
			lit.Reset()
		}
	}
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\' && i+1 < len(s) && strings.IndexByte(`*?\`, s[i+1]) >= 0:
			i++
			lit.WriteByte(s[i])
		case c == '*':
			flush()
			p = p.with(part{kind: many})
		case c == '?':
			flush()
			p = append(p, part{kind: one})
		default:
			lit.WriteByte(c)
		}
	}
	flush()
	return p
}

// with is p with one part more; stars next to each other are one.
func (p pattern) with(q part) pattern {
	if q.kind == many && len(p) > 0 && p[len(p)-1].kind == many {
		return p
	}
	return append(p, q)
}

// open is p with a star before or behind it.
func (p pattern) open(before, behind bool) pattern {
	var out pattern
	if before {
		out = append(out, part{kind: many})
	}
	for _, q := range p {
		out = out.with(q)
	}
	if behind {
		out = out.with(part{kind: many})
	}
	return out
}

// plain is the text of a pattern without wildcards.
func (p pattern) plain() (string, bool) {
	switch {
	case len(p) == 0:
		return "", true
	case len(p) == 1 && p[0].kind == literal:
		return p[0].text, true
	}
	var b strings.Builder
	for _, q := range p {
		if q.kind != literal {
			return "", false
		}
		b.WriteString(q.text)
	}
	return b.String(), true
}

// shape is the operator and constant that p is as a whole. ok is false for *, which asks for presence.
func (p pattern) shape() (op match.Op, text string, ok bool) {
	if len(p) == 1 && p[0].kind == many {
		return match.Exists, "", false
	}
	before, behind := len(p) > 0 && p[0].kind == many, len(p) > 0 && p[len(p)-1].kind == many
	inner := p
	if before {
		inner = inner[1:]
	}
	if behind {
		inner = inner[:len(inner)-1]
	}
	if s, ok := inner.plain(); ok {
		switch {
		case before && behind:
			return match.Contains, s, true
		case before:
			return match.Suffix, s, true
		case behind:
			return match.Prefix, s, true
		}
		return match.Equal, s, true
	}
	return match.Glob, p.glob(), true
}

func (p pattern) glob() string {
	var b strings.Builder
	for _, q := range p {
		switch q.kind {
		case many:
			b.WriteByte('*')
		case one:
			b.WriteByte('?')
		default:
			b.WriteString(match.QuoteGlob(q.text))
		}
	}
	return b.String()
}

// dashes are what windash holds for the same, as Windows does: hyphen, slash, en dash, em dash, horizontal bar.
const dashes = "-/–—―"

// maxDashes is how many dashes of one value are written out; a value with more becomes a regular expression.
const maxDashes = 3

// windash puts the class of dashes for every dash that begins a word: with no letter, digit or _ before it and one behind it.
func (p pattern) windash() pattern {
	var out pattern
	for _, q := range p {
		if q.kind != literal || !strings.ContainsAny(q.text, dashes) {
			out = append(out, q)
			continue
		}
		from, before := 0, ' '
		for i, r := range q.text {
			if strings.ContainsRune(dashes, r) && !wordRune(before) {
				after, _ := utf8.DecodeRuneInString(q.text[i+utf8.RuneLen(r):])
				if wordRune(after) {
					if i > from {
						out = append(out, part{text: q.text[from:i]})
					}
					out = append(out, part{kind: dash})
					from = i + utf8.RuneLen(r)
				}
			}
			before = r
		}
		if from < len(q.text) {
			out = append(out, part{text: q.text[from:]})
		}
	}
	return out
}

func wordRune(r rune) bool {
	return r != utf8.RuneError && (r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r))
}

func (p pattern) dashes() int {
	n := 0
	for _, q := range p {
		if q.kind == dash {
			n++
		}
	}
	return n
}

// spread writes the dashes out: every combination of them.
func (p pattern) spread() []pattern {
	out := []pattern{nil}
	for _, q := range p {
		if q.kind != dash {
			for i := range out {
				out[i] = out[i].glue(q)
			}
			continue
		}
		var next []pattern
		for _, o := range out {
			for _, r := range dashes {
				next = append(next, append(pattern{}, o...).glue(part{text: string(r)}))
			}
		}
		out = next
	}
	return out
}

// glue is with, and joins literals.
func (p pattern) glue(q part) pattern {
	if n := len(p); n > 0 && q.kind == literal && p[n-1].kind == literal {
		p[n-1].text += q.text
		return p
	}
	return p.with(q)
}

// regex is p as a regular expression for the whole value.
func (p pattern) regex(fold bool) string {
	var b strings.Builder
	b.WriteString("(?s")
	if fold {
		b.WriteByte('i')
	}
	b.WriteString(")")
	open := func(at int) bool { return p[at].kind == many }
	if !open(0) {
		b.WriteString(`\A`)
	}
	for i, q := range p {
		switch q.kind {
		case many:
			if i > 0 && i < len(p)-1 {
				b.WriteString(".*")
			}
		case one:
			b.WriteByte('.')
		case dash:
			b.WriteString("[" + dashes + "]")
		default:
			b.WriteString(regexp.QuoteMeta(q.text))
		}
	}
	if !open(len(p) - 1) {
		b.WriteString(`\z`)
	}
	return b.String()
}

// parseLiteral is the pattern of s alone.
func parseLiteral(s string) pattern {
	if s == "" {
		return nil
	}
	return pattern{{text: s}}
}

// wide is p in UTF-16: utf16be, or little endian with (utf16) or without (utf16le, wide) a byte order mark.
func (p pattern) wide(word string) pattern {
	var out pattern
	if word == "utf16" {
		out = pattern{{text: "\xff\xfe"}} // the specification's mark
	}
	for _, q := range p {
		if q.kind == literal {
			var b strings.Builder
			for _, u := range utf16.Encode([]rune(q.text)) {
				hi, lo := byte(u>>8), byte(u)
				if word == "utf16be" {
					hi, lo = lo, hi
				}
				b.WriteByte(lo)
				b.WriteByte(hi)
			}
			q.text = b.String()
		}
		out = out.glue(q)
	}
	return out
}

// base64Offsets is the part of s's encoding that does not depend on what stands around it, for each of the three places that s may begin at.
func base64Offsets(s string) []string {
	var out []string
	for i := range 3 {
		e := base64.StdEncoding.EncodeToString([]byte(strings.Repeat(" ", i) + s))
		from, cut := [3]int{0, 2, 3}[i], [3]int{0, 3, 2}[(len(s)+i)%3]
		if from < len(e)-cut {
			out = append(out, e[from:len(e)-cut])
		}
	}
	return out
}

// encode is base64 or base64offset of s.
func encode(mod, s string) ([]string, error) {
	if mod == "base64" {
		return []string{base64.StdEncoding.EncodeToString([]byte(s))}, nil
	}
	o := base64Offsets(s)
	if len(o) == 0 {
		return nil, fmt.Errorf("%s of %.40q leaves nothing to look for: the value is too short", mod, s)
	}
	return o, nil
}
