package sigma

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"whodunit/internal/match"
)

// naive matches a Sigma string against a value as the specification tells it, character by character.
func naive(p, s []rune) bool {
	if len(p) == 0 {
		return len(s) == 0
	}
	if p[0] == '*' {
		for i := 0; i <= len(s); i++ {
			if naive(p[1:], s[i:]) {
				return true
			}
		}
		return false
	}
	if p[0] == '?' {
		return len(s) > 0 && naive(p[1:], s[1:])
	}
	if p[0] == '\\' && len(p) > 1 && strings.ContainsRune(`*?\`, p[1]) {
		p = p[1:]
	}
	return len(s) > 0 && strings.EqualFold(string(p[0]), string(s[0])) && naive(p[1:], s[1:])
}

func TestWildcards(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(`[aAbé*?\\-]{0,7}`)
		p, s := text.Draw(t, "pattern"), text.Draw(t, "value")
		op, v, ok := parsePattern(p).shape()
		got := true
		if ok {
			got = (&match.Pred{Path: "x", Op: op, Values: []string{v}, Fold: true}).Accepts(s)
		}
		if want := naive([]rune(p), []rune(s)); got != want {
			t.Fatalf("%q on %q: %t by %s %q, want %t", p, s, got, op, v, want)
		}
	})
}

// TestDashes holds the regular expression that many dashes become against all of them written out.
func TestDashes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := parsePattern(rapid.StringMatching(`[ab*? /-]{0,5}`).Draw(t, "pattern")).windash()
		s := rapid.StringMatching(`[ab /–-]{0,6}`).Draw(t, "value")
		if p.dashes() == 0 || p.dashes() > 3 {
			return
		}
		want := false
		for _, q := range p.spread() {
			op, v, _ := q.shape()
			want = want || (&match.Pred{Path: "x", Op: op, Values: []string{v}, Fold: true}).Accepts(s)
		}
		if got := (&match.Pred{Path: "x", Op: match.Regex, Values: []string{p.regex(true)}}).Accepts(s); got != want {
			t.Fatalf("%v on %q: %t, want %t", p, s, got, want)
		}
	})
}

func FuzzCondition(f *testing.F) {
	for _, s := range []string{"a and not (b or c1)", "1 of c* and all of them", "all of _*", "not", "((((a", "a | count() > 5", "1 of", "of of of"} {
		f.Add(s)
	}
	names := []string{"a", "b", "c1", "c2", "_d"}
	of := map[string]sized{}
	for _, n := range names {
		of[n] = sized{match.Const(n == "a"), 1}
	}
	f.Fuzz(func(t *testing.T, s string) {
		c, err := parseCondition(s, names)
		if err != nil {
			if err.Error() == "" {
				t.Error("an error says nothing")
			}
			return
		}
		budget := 1 << 20
		_ = match.Eval(c.expr(of, &budget), nil)
		c.negative(false)
	})
}
