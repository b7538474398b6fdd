package falco

import (
	"strconv"
	"strings"
)

// numberValue reads a number, or the name of a list that holds one.
func (p *parser) numberValue() *values {
	p.blank()
	at := p.i
	if p.i < len(p.s) && isLetter(p.s[p.i]) {
		w := p.bare()
		if l, ok := p.named(w, at); ok && len(l) == 1 {
			if _, ok := numeral(l[0]); ok {
				return &values{l, at}
			}
		}
		p.i = at
	}
	n := p.number()
	if n == "" {
		p.fail(at, "%s: a number is expected", p.here())
	}
	if p.i < len(p.s) && wordByte(p.s[p.i]) {
		p.fail(at, "%.60q is no number", p.s[at:p.i+1])
	}
	return &values{[]string{n}, at}
}

// number reads a number as Falco writes them: hexadecimal with 0x, or decimal with sign, fraction and a signed exponent. "" where none
// stands.
func (p *parser) number() string {
	start, s := p.i, p.s
	run := func(i int, ok func(byte) bool) int {
		for i < len(s) && ok(s[i]) {
			i++
		}
		return i
	}
	if strings.HasPrefix(s[start:], "0x") || strings.HasPrefix(s[start:], "0X") {
		if end := run(start+2, func(c byte) bool { return isDigit(c) || isLetter(c) }); end > start+2 {
			p.i = end
			return s[start:end]
		}
	}
	i := start
	if i < len(s) && (s[i] == '+' || s[i] == '-') {
		i++
	}
	end := run(i, isDigit)
	if end == i {
		return ""
	}
	if end < len(s) && s[end] == '.' {
		end = run(end+1, isDigit)
	}
	if end+1 < len(s) && s[end]|0x20 == 'e' && (s[end+1] == '+' || s[end+1] == '-') {
		if e := run(end+2, isDigit); e > end+2 {
			end = e
		}
	}
	p.i = end
	return s[start:end]
}

// numeral is a number in the form that JSON writes, which match.Compare reads.
func numeral(s string) (string, bool) {
	if h, ok := strings.CutPrefix(strings.ToLower(s), "0x"); ok {
		n, err := strconv.ParseUint(h, 16, 64)
		return strconv.FormatUint(n, 10), err == nil
	}
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return strconv.FormatInt(n, 10), true
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || strings.ContainsAny(s, "nNxXpP_") {
		return "", false
	}
	return strconv.FormatFloat(f, 'g', -1, 64), true
}

// list reads constants in parentheses, in which further parentheses count for nothing.
func (p *parser) list() *values {
	p.blank()
	v := &values{at: p.i}
	p.i++
	if p.blank(); p.take(")") {
		return v
	}
	shared := false
	for {
		p.blank()
		got, own := p.part()
		switch {
		case v.texts == nil:
			v.texts, shared = got, !own
		case shared:
			v.texts, shared = append(v.texts[:len(v.texts):len(v.texts)], got...), false
		default:
			v.texts = append(v.texts, got...)
		}
		if len(v.texts) > maxValues {
			p.fail(v.at, "more than %d values", maxValues)
		}
		if p.blank(); !p.take(",") {
			break
		}
	}
	p.want(")")
	if !shared && !p.lists.spend(len(v.texts)) {
		p.fail(v.at, "all rules together copy too many values of lists")
	}
	return v
}

// part reads one constant of a list, the name of a list, or a list. own says whether the caller may append to the result.
func (p *parser) part() (texts []string, own bool) {
	at := p.i
	if p.i < len(p.s) {
		switch p.s[p.i] {
		case '"', '\'':
			return []string{p.quoted()}, true
		case '(':
			p.enter()
			l := p.list()
			p.depth--
			return l.texts[:len(l.texts):len(l.texts)], true
		}
	}
	w := p.bare()
	if w == "" {
		p.fail(at, "%s: a text is expected", p.here())
	}
	if l, ok := p.named(w, at); ok {
		return l, false
	}
	return []string{w}, true
}

// quoted reads a text in quotes of either kind. As in Falco a quote behind a backslash never ends it, unless it would not end at all.
func (p *parser) quoted() string {
	quote, start := p.s[p.i], p.i
	end := -1
	for i := start + 1; i < len(p.s); i++ {
		if p.s[i] == quote && (p.s[i-1] != '\\' || i == start+1) {
			end = i
			break
		}
	}
	if end < 0 {
		for i := start + 1; i < len(p.s) && end < 0; i++ {
			switch p.s[i] {
			case '\\':
				i++
			case quote:
				end = i
			}
		}
	}
	if end < 0 {
		p.fail(start, "the text that begins here has no end: %c is expected", quote)
	}
	p.i = end + 1
	return p.unescape(start, end, quote)
}

// unescape decodes the text between the quotes at start and end.
func (p *parser) unescape(start, end int, quote byte) string {
	s := p.s[start+1 : end]
	if strings.IndexByte(s, '\\') < 0 {
		return s
	}
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			out = append(out, s[i])
			continue
		}
		i++
		switch c := s[i]; c {
		case 'b':
			out = append(out, '\b')
		case 'f':
			out = append(out, '\f')
		case 'n':
			out = append(out, '\n')
		case 'r':
			out = append(out, '\r')
		case 't':
			out = append(out, '\t')
		case ' ', '\\': // a blank is lost behind a backslash, as in Falco
			out = append(out, '\\')
		case '/', quote:
			out = append(out, c)
		case 'x':
			n, err := strconv.ParseUint(s[i+1:min(i+3, len(s))], 16, 8)
			if err != nil || i+2 >= len(s) || n == 0 {
				p.fail(start+i, "\\x: two hexadecimal digits, not 00, are expected")
			}
			out = append(out, byte(n))
			i += 2
		default:
			p.fail(start+i, "unknown escape \\%c in a text", c)
		}
	}
	return string(out)
}
