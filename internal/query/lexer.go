package query

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

type kind uint8

const (
	end kind = iota
	word
	quoted
	open
	closing
	colon
	compare
	brace
)

// token is one piece of a query.
type token struct {
	kind kind
	at   int     // its first byte
	text string  // as typed; of quoted, between the quotes and decoded
	segs pattern // of word and quoted
}

// keyword is the token's keyword in lower case, "" where it is none.
func (t token) keyword() string {
	if t.kind != word {
		return ""
	}
	switch k := strings.ToLower(t.text); k {
	case "and", "or", "not":
		return k
	}
	return ""
}

// name is the token as an error message shows it.
func (t token) name() string {
	switch t.kind {
	case end:
		return "the end"
	case quoted:
		return strconv.Quote(t.text)
	}
	return t.text
}

const special = `\():<>"*{}`

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\r' || c == '\n' }

// lex cuts the query into tokens, the last of which is the end.
func lex(q string) ([]token, *Error) {
	var out []token
	for i := 0; ; {
		for i < len(q) && isSpace(q[i]) {
			i++
		}
		if i == len(q) {
			return append(out, token{kind: end, at: i}), nil
		}
		t := token{at: i}
		switch c := q[i]; c {
		case '(', ')', ':', '{', '}':
			t.kind = map[byte]kind{'(': open, ')': closing, ':': colon, '{': brace, '}': brace}[c]
			i++
		case '<', '>':
			t.kind = compare
			i++
			if i < len(q) && q[i] == '=' {
				i++
			}
		case '"':
			text, n, err := lexQuoted(q, i)
			if err != nil {
				return nil, err
			}
			out, i = append(out, token{kind: quoted, at: i, text: text, segs: pattern{text}}), n
			continue
		default:
			segs, n, err := lexWord(q, i)
			if err != nil {
				return nil, err
			}
			t.kind, t.segs = word, segs
			i = n
		}
		t.text = q[t.at:i]
		out = append(out, t)
	}
}

// lexQuoted reads the quoted text that begins at i; next is the byte behind it.
func lexQuoted(q string, i int) (text string, next int, err *Error) {
	var b strings.Builder
	for j := i + 1; j < len(q); j++ {
		switch c := q[j]; c {
		case '"':
			return b.String(), j + 1, nil
		case '\\':
			s, n := escape(q[j:])
			if n == 0 || n == 2 && !strings.ContainsAny(q[j+1:j+2], `"\trn`) {
				b.WriteByte(c) // inside quotes a lone backslash is itself
				continue
			}
			b.WriteString(s)
			j += n - 1
		default:
			b.WriteByte(c)
		}
	}
	return "", 0, fail(q, i, `the quote that opens here is not closed`)
}

// lexWord reads the word that begins at i.
func lexWord(q string, i int) (segs pattern, next int, err *Error) {
	start := i
	var b strings.Builder
	for i < len(q) && !isSpace(q[i]) {
		switch c := q[i]; {
		case c == '*':
			if b.Len() > 0 || len(segs) == 0 { // a run of stars is one
				segs = append(segs, b.String())
				b.Reset()
			}
			i++
		case c == '\\':
			if i == start {
				if k := escapedKeyword(q[i:]); k != "" {
					return pattern{k}, i + 1 + len(k), nil
				}
			}
			s, n := escape(q[i:])
			if n == 0 {
				return nil, 0, fail(q, i, `expected a special character behind the backslash; write \\ for a backslash`)
			}
			b.WriteString(s)
			i += n
		case strings.IndexByte(special, c) >= 0:
			return append(segs, b.String()), i, nil
		default:
			b.WriteByte(c)
			i++
		}
	}
	return append(segs, b.String()), i, nil
}

// escapedKeyword is the keyword that the word \and, \or or \not means.
func escapedKeyword(q string) string {
	for _, k := range []string{"and", "or", "not"} {
		if len(q) > len(k) && strings.EqualFold(q[1:1+len(k)], k) &&
			(len(q) == len(k)+1 || isSpace(q[len(k)+1]) || strings.IndexByte(special, q[len(k)+1]) >= 0) {
			return q[1 : 1+len(k)]
		}
	}
	return ""
}

// escape decodes the escape that q begins with and says how long it is, 0 where it is none.
func escape(q string) (string, int) {
	if len(q) < 2 {
		return "", 0
	}
	switch c := q[1]; {
	case c == 't':
		return "\t", 2
	case c == 'r':
		return "\r", 2
	case c == 'n':
		return "\n", 2
	case c == 'u' && len(q) >= 6:
		if n, err := strconv.ParseUint(q[2:6], 16, 16); err == nil && utf8.ValidRune(rune(n)) {
			return string(rune(n)), 6
		}
		return "", 0
	case c < utf8.RuneSelf && !(c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z'):
		return q[1:2], 2
	}
	return "", 0
}
