package match

import (
	"bytes"
	"iter"
	"net/netip"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"whodunit/internal/audit"
)

// Eval is the plain interpreter: whether e is true of ev. It is the meaning that every faster back end is held to. A nil e
// is true. It does not change ev and is safe for concurrent use.
func Eval(e Expr, ev *audit.Event) bool {
	switch e := e.(type) {
	case nil:
		return true
	case Const:
		return bool(e)
	case And:
		for _, p := range e {
			if !Eval(p, ev) {
				return false
			}
		}
		return true
	case Or:
		for _, p := range e {
			if Eval(p, ev) {
				return true
			}
		}
		return false
	case Not:
		return !Eval(e.X, ev)
	case *Pred:
		return e.eval(ev)
	case *Text:
		return e.Occurs(ev.Raw)
	case *Func:
		return e.Eval(ev)
	}
	return false
}

func (p *Pred) eval(ev *audit.Event) bool {
	switch {
	case p.Field == nil && p.Op == Exists:
		return Has(ev, p.Path)
	case p.Field == nil && p.Op == Present:
		return IsPresent(ev, p.Path)
	case p.Op == Present && p.Field.Null != nil && p.Field.Null(ev):
		return true
	}
	found := false
	for v := range p.values(ev) {
		if found = p.Accepts(v); found != p.All {
			return found
		}
	}
	return found
}

func (p *Pred) values(ev *audit.Event) iter.Seq[string] {
	if p.Field != nil {
		return func(yield func(string) bool) { p.Field.Values(ev, yield) }
	}
	return Values(ev, p.Path)
}

// Accepts reports whether one value satisfies the operator for at least one of the constants. Exists and Present accept every
// value.
func (p *Pred) Accepts(v string) bool {
	if p.Op.bare() {
		return true
	}
	fold := p.Fold && p.Op <= Glob
	if fold {
		v = Fold(v)
	}
	for _, c := range p.Values {
		if fold {
			c = Fold(c)
		}
		if accepts(p.Op, v, c) {
			return true
		}
	}
	return false
}

func accepts(op Op, v, c string) bool {
	switch op {
	case Equal:
		return v == c
	case Contains:
		return strings.Contains(v, c)
	case Prefix:
		return strings.HasPrefix(v, c)
	case Suffix:
		return strings.HasSuffix(v, c)
	case Glob:
		return MatchGlob(c, v)
	case Less, LessEqual, Greater, GreaterEqual:
		n, ok := Compare(v, c)
		return ok && inOrder(op, n)
	case Regex:
		// The interpreter is for meaning, not for speed; a bad pattern matches nothing, and front ends refuse it before.
		ok, err := regexp.MatchString(c, v)
		return err == nil && ok
	case CIDR:
		return InCIDR(v, c)
	}
	return false
}

// InCIDR reports whether v is an IP address inside the network c, which may be a single address. An IPv4 address in IPv6 form counts as
// IPv4; a zone is ignored.
func InCIDR(v, c string) bool {
	a, err := netip.ParseAddr(v)
	if err != nil {
		return false
	}
	a = a.Unmap().WithZone("")
	n, err := netip.ParsePrefix(c)
	if err != nil {
		one, err := netip.ParseAddr(c)
		return err == nil && one.Unmap().WithZone("") == a
	}
	if n.Addr().Is4In6() && n.Bits() >= 96 {
		n = netip.PrefixFrom(n.Addr().Unmap(), n.Bits()-96)
	}
	return n.Contains(a)
}

// Fold maps all strings that differ by case alone (Unicode simple folding, as strings.EqualFold) to the same string, which
// is lower case as far as it is ASCII. Invalid UTF-8 becomes U+FFFD. What has nothing to fold is returned as it is.
func Fold(s string) string {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c >= utf8.RuneSelf || c >= 'A' && c <= 'Z' {
			return string(appendFolded(make([]byte, 0, len(s)+8), s))
		}
	}
	return s
}

// appendFolded appends Fold(s) to b.
func appendFolded(b []byte, s string) []byte {
	for i := 0; i < len(s); {
		if c := s[i]; c < utf8.RuneSelf {
			if c >= 'A' && c <= 'Z' {
				c += 'a' - 'A'
			}
			b = append(b, c)
			i++
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		b = utf8.AppendRune(b, foldRune(r))
		i += n
	}
	return b
}

// foldRune is the smallest of the letters that r folds to. U+0345, a combining mark, is passed over: it is the smallest of
// iota's fellows, and a word's letters must stay letters.
func foldRune(r rune) rune {
	least := r
	for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
		if least == 0x345 || f < least && f != 0x345 {
			least = f
		}
	}
	if least >= 'A' && least <= 'Z' {
		least += 'a' - 'A'
	}
	return least
}

// wordRune reports whether the folded rune r is part of a word: a letter or a digit.
func wordRune(r rune) bool {
	if r < utf8.RuneSelf {
		return r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r >= 'A' && r <= 'Z'
	}
	return unicode.IsLetter(r) || unicode.IsDigit(r)
}

// Occurs reports whether the text occurs in the raw event, as the comment of Text says. raw must be well-formed JSON. It
// reads each byte once or twice and does not recurse.
func (t *Text) Occurs(raw []byte) bool {
	word := []byte(Fold(t.Word))
	if len(word) == 0 {
		return false
	}
	var buf []byte
	found := false
	scalars(raw, func(s string) bool {
		if len(s) < len(word)/3 { // folding makes no text more than three times as long (a byte of invalid UTF-8)
			return true
		}
		buf = appendFolded(buf[:0], s)
		found = t.in(buf, word)
		return !found
	})
	return found
}

// in looks for word in one folded text, at a word's boundaries.
func (t *Text) in(text, word []byte) bool {
	for from := 0; ; {
		i := bytes.Index(text[from:], word)
		if i < 0 {
			return false
		}
		i += from
		before, _ := utf8.DecodeLastRune(text[:i])
		after, _ := utf8.DecodeRune(text[i+len(word):])
		if (i == 0 || !wordRune(before)) && (t.Open || i+len(word) == len(text) || !wordRune(after)) {
			return true
		}
		_, n := utf8.DecodeRune(text[i:])
		from = i + n
	}
}

// scalars hands every name and scalar of well-formed JSON to yield, decoded, in order, until it returns false. null has no
// text.
func scalars(raw []byte, yield func(string) bool) {
	for i := 0; i < len(raw); {
		start := i
		switch raw[i] {
		case '{', '}', '[', ']', ':', ',', ' ', '\t', '\n', '\r':
			i++
			continue
		case '"':
			i = stringEnd(raw, i)
		default:
			for i < len(raw) && strings.IndexByte(",]} \t\n\r", raw[i]) < 0 {
				i++
			}
		}
		if s, ok := audit.Text(raw[start:i]); ok && !yield(s) {
			return
		}
	}
}

// stringEnd is the place behind the string that begins at i.
func stringEnd(raw []byte, i int) int {
	for i++; i < len(raw); i++ {
		switch raw[i] {
		case '"':
			return i + 1
		case '\\':
			i++
		}
	}
	return len(raw)
}

// Tokens hands the words of s to yield: its runs of letters and digits, folded. It stops when yield returns false and says
// whether it ran to the end.
func Tokens(s string, yield func(string) bool) bool {
	s = Fold(s)
	start := -1
	for i, r := range s {
		switch {
		case wordRune(r):
			if start < 0 {
				start = i
			}
		case start >= 0:
			if !yield(s[start:i]) {
				return false
			}
			start = -1
		}
	}
	return start < 0 || yield(s[start:])
}

// EventTokens hands the words of every name and scalar of the raw event to yield, repeated ones as often as they come. A
// Text can only be true of an event that has all of Text.Tokens among them.
func EventTokens(raw []byte, yield func(string) bool) {
	scalars(raw, func(s string) bool { return Tokens(s, yield) })
}

// Tokens is the words that an event must have as a whole for t to be true: all of Word's, but for one that its open end
// cuts off. It may be empty.
func (t *Text) Tokens() []string {
	var out []string
	Tokens(t.Word, func(w string) bool { out = append(out, w); return true })
	if last, _ := utf8.DecodeLastRuneInString(Fold(t.Word)); t.Open && wordRune(last) {
		out = out[:len(out)-1]
	}
	return out
}
