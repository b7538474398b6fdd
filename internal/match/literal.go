package match

import (
	"fmt"
	"regexp"
	"regexp/syntax"
	"strings"
	"unicode/utf8"
)

// needed is a set of folded literals one of which at least must occur in the folded value for a pattern to match it. nil: nothing is known.
type needed []string

const maxNeeded = 64

// globParts splits a pattern at its stars and question marks. meta holds those, one run each: "" at no place.
func globParts(pattern string) (lits []string, bare string) {
	var lit, shape strings.Builder
	for i := 0; i < len(pattern); i++ {
		switch c := pattern[i]; {
		case c == '*' || c == '?':
			if lit.Len() > 0 {
				lits = append(lits, lit.String())
				lit.Reset()
				shape.WriteByte('x')
			}
			if s := shape.String(); c == '?' || s == "" || s[len(s)-1] != '*' {
				shape.WriteByte(c)
			}
		case c == '\\' && i+1 < len(pattern):
			i++
			lit.WriteByte(pattern[i])
		default:
			lit.WriteByte(c)
		}
	}
	if lit.Len() > 0 {
		lits = append(lits, lit.String())
		shape.WriteByte('x')
	}
	return lits, shape.String()
}

// simpleGlob is the plain operator that a pattern comes to, if there is one.
func simpleGlob(pattern string) (op Op, constant string, ok bool) {
	if !utf8.ValidString(pattern) {
		return Glob, pattern, false // a glob goes by characters, the others by bytes
	}
	lits, shape := globParts(pattern)
	switch shape {
	case "":
		return Equal, "", true
	case "*":
		return Contains, "", true
	case "x":
		return Equal, lits[0], true
	case "x*":
		return Prefix, lits[0], true
	case "*x":
		return Suffix, lits[0], true
	case "*x*":
		return Contains, lits[0], true
	}
	return Glob, pattern, false
}

// globNeeds gives one set for each literal part of the pattern.
func globNeeds(pattern string) []needed {
	if !utf8.ValidString(pattern) {
		return nil
	}
	lits, _ := globParts(pattern)
	out := make([]needed, len(lits))
	for i, l := range lits {
		out[i] = needed{Fold(l)}
	}
	return out
}

// readPattern compiles a regular expression and gives sets of literals of which every match meets each one.
func readPattern(s string) (*regexp.Regexp, []needed, error) {
	re, err := regexp.Compile(s)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot compile regular expression %.200q: %w", s, err)
	}
	tree, err := syntax.Parse(s, syntax.Perl)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot read regular expression %.200q: %w", s, err)
	}
	return re, needs(tree.Simplify()), nil
}

func needs(re *syntax.Regexp) []needed {
	switch re.Op {
	case syntax.OpLiteral:
		return []needed{{Fold(string(re.Rune))}}
	case syntax.OpCapture, syntax.OpPlus:
		return needs(re.Sub[0])
	case syntax.OpRepeat:
		if re.Min > 0 {
			return needs(re.Sub[0])
		}
	case syntax.OpConcat:
		var out []needed
		for _, s := range re.Sub {
			out = append(out, needs(s)...)
		}
		return out
	case syntax.OpAlternate:
		var all needed
		for _, s := range re.Sub {
			n := longest(needs(s))
			if n == nil || len(all)+len(n) > maxNeeded {
				return nil
			}
			all = append(all, n...)
		}
		return []needed{all}
	}
	return nil
}

// shortest is the length of the shortest literal of the set.
func (n needed) shortest() int {
	least := 0
	for i, l := range n {
		if i == 0 || len(l) < least {
			least = len(l)
		}
	}
	return least
}

// longest is the set whose shortest literal is longest.
func longest(sets []needed) needed {
	var best needed
	for _, n := range sets {
		if n.shortest() > best.shortest() {
			best = n
		}
	}
	return best
}

// rarest is the set whose literals fewest patterns need, by uses; the longest of those that are alike. Two bytes tell more than one, so
// sets of single bytes come last.
func rarest(sets []needed, uses map[string]int) needed {
	var best needed
	var bestUses, bestLen int
	for _, n := range sets {
		most := 0
		for _, l := range n {
			most = max(most, uses[l])
		}
		size := n.shortest()
		if size == 0 {
			continue
		}
		better := most < bestUses || most == bestUses && size > bestLen
		if short := size < 2; short != (bestLen < 2) {
			better = !short
		}
		if best == nil || better {
			best, bestUses, bestLen = n, most, size
		}
	}
	return best
}
