package match

import (
	"cmp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Compare orders v against c, as numbers when both read as JSON numbers, as times when both read as RFC 3339. ok is false
// when they read as neither. Integers of up to 64 bits are compared exactly, other numbers as float64.
func Compare(v, c string) (order int, ok bool) {
	if number(v) && number(c) {
		a, errA := strconv.ParseInt(v, 10, 64)
		b, errB := strconv.ParseInt(c, 10, 64)
		if errA == nil && errB == nil {
			return cmp.Compare(a, b), true
		}
		x, _ := strconv.ParseFloat(v, 64) // out of range gives the infinity that orders rightly
		y, _ := strconv.ParseFloat(c, 64)
		return cmp.Compare(x, y), true
	}
	a, errA := time.Parse(time.RFC3339Nano, v)
	if errA != nil {
		return 0, false
	}
	b, errB := time.Parse(time.RFC3339Nano, c)
	return a.Compare(b), errB == nil
}

// number reports whether s is a number as JSON writes them (RFC 8259, section 6).
func number(s string) bool {
	s = strings.TrimPrefix(s, "-")
	whole := digits(s)
	if whole == 0 || whole > 1 && s[0] == '0' {
		return false
	}
	s = s[whole:]
	if strings.HasPrefix(s, ".") {
		n := digits(s[1:])
		if n == 0 {
			return false
		}
		s = s[1+n:]
	}
	if s != "" && s[0]|0x20 == 'e' {
		s = s[1:]
		if s != "" && (s[0] == '+' || s[0] == '-') {
			s = s[1:]
		}
		n := digits(s)
		return n > 0 && n == len(s)
	}
	return s == ""
}

// digits counts the ASCII digits that s begins with.
func digits(s string) int {
	n := 0
	for n < len(s) && s[n]-'0' <= 9 {
		n++
	}
	return n
}

// MatchGlob reports whether the whole of s matches the pattern: * is any run of characters, ? one character (a rune, or a
// byte of invalid UTF-8), \ takes the next character literally and stands for itself at the end. Its time is at most the
// product of the lengths.
func MatchGlob(pattern, s string) bool {
	p, i := 0, 0
	starP, starI := -1, 0 // behind the last star, and where it is tried now
	for i < len(s) || p < len(pattern) {
		if p < len(pattern) {
			if pattern[p] == '*' {
				p++
				starP, starI = p, i
				continue
			}
			if i < len(s) {
				if np, ni, ok := globStep(pattern, s, p, i); ok {
					p, i = np, ni
					continue
				}
			}
		}
		if starP < 0 || starI >= len(s) {
			return false
		}
		_, n := utf8.DecodeRuneInString(s[starI:])
		starI += n
		p, i = starP, starI
	}
	return true
}

// globStep matches one character of s at i against the pattern at p, which is no star.
func globStep(pattern, s string, p, i int) (nextP, nextI int, ok bool) {
	_, n := utf8.DecodeRuneInString(s[i:])
	if pattern[p] == '?' {
		return p + 1, i + n, true
	}
	if pattern[p] == '\\' && p+1 < len(pattern) {
		p++
	}
	if !strings.HasPrefix(pattern[p:], s[i:i+n]) {
		return p, i, false
	}
	return p + n, i + n, true
}

// QuoteGlob is the pattern that matches s alone.
func QuoteGlob(s string) string {
	if !strings.ContainsAny(s, `*?\`) {
		return s
	}
	return strings.NewReplacer(`*`, `\*`, `?`, `\?`, `\`, `\\`).Replace(s)
}

// GlobPrefix is the literal text that all matches of the pattern begin with, and whether that is the whole pattern.
func GlobPrefix(pattern string) (prefix string, whole bool) {
	var b strings.Builder
	for i := 0; i < len(pattern); i++ {
		switch c := pattern[i]; {
		case c == '*' || c == '?':
			return b.String(), false
		case c == '\\' && i+1 < len(pattern):
			i++
			b.WriteByte(pattern[i])
		default:
			b.WriteByte(c)
		}
	}
	return b.String(), true
}
