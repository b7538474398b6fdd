package sigma

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"whodunit/internal/match"
	"whodunit/internal/rule"
)

// modifierKind groups the modifiers by what may stand together.
type modifierKind uint8

const (
	linking   modifierKind = iota // all, neq, cased, expand
	affix                         // contains and its like: wildcards around
	rewriting                     // windash and the encodings
	regex                         // re
	flag                          // of a regular expression
	ordering                      // numbers
	timePart                      // of a timestamp
	typed                         // cidr, fieldref, exists
)

// modifiers is the specification's list (appendix "Modifiers", version 2.1.0).
var modifiers = map[string]modifierKind{
	"all": linking, "neq": linking, "cased": linking, "expand": linking,
	"contains": affix, "startswith": affix, "endswith": affix,
	"windash": rewriting, "base64": rewriting, "base64offset": rewriting, "utf16": rewriting, "utf16le": rewriting, "utf16be": rewriting, "wide": rewriting,
	"re": regex, "i": flag, "ignorecase": flag, "m": flag, "multiline": flag, "s": flag, "dotall": flag,
	"lt": ordering, "lte": ordering, "gt": ordering, "gte": ordering,
	"minute": timePart, "hour": timePart, "day": timePart, "week": timePart, "month": timePart, "year": timePart,
	"cidr": typed, "fieldref": typed, "exists": typed,
}

var orderings = map[string]match.Op{"lt": match.Less, "lte": match.LessEqual, "gt": match.Greater, "gte": match.GreaterEqual}

// exclusive are pairs of groups that do not go together.
var exclusive = [][2]modifierKind{
	{regex, rewriting}, {regex, ordering}, {regex, timePart}, {regex, typed}, {ordering, affix}, {ordering, rewriting}, {ordering, typed},
	{timePart, affix}, {timePart, rewriting}, {timePart, typed}, {typed, rewriting},
}

// chain is a field's modifiers.
type chain struct {
	rewrite []string // affixes, windash and encodings, in order
	has     map[string]bool
	order   match.Op // of ordering modifiers; 0: none
	part    string   // of a time
	flags   string   // of a regular expression
}

// parseChain reads the modifiers behind a field's name.
func parseChain(words []string) (chain, error) {
	c := chain{}
	if len(words) == 0 {
		return c, nil
	}
	c.has = make(map[string]bool, len(words))
	kinds := map[modifierKind]string{}
	for _, w := range words {
		kind, ok := modifiers[w]
		if !ok {
			return c, &nearError{fmt.Sprintf("unknown modifier %.40q", w), rule.Nearest(w, slices.Sorted(maps.Keys(modifiers)))}
		}
		switch kind {
		case affix, rewriting:
			c.rewrite = append(c.rewrite, w)
		case flag:
			if kinds[regex] == "" {
				return c, fmt.Errorf("modifier %s belongs behind re", w)
			}
			if l := flagLetter(w); !strings.Contains(c.flags, l) {
				c.flags += l
			}
		case ordering:
			c.order = orderings[w]
		case timePart:
			c.part = w
		}
		if before, ok := kinds[kind]; ok && before != w && (kind == ordering || kind == timePart || kind == typed) {
			return c, fmt.Errorf("modifiers %s and %s exclude each other", before, w)
		}
		if w == "exists" && len(words) > 1 {
			return c, fmt.Errorf("modifier exists stands alone, not in %.80s", strings.Join(words, "|"))
		}
		kinds[kind], c.has[w] = w, true
	}
	for _, pair := range exclusive {
		if a, b := kinds[pair[0]], kinds[pair[1]]; a != "" && b != "" {
			return c, fmt.Errorf("modifiers %s and %s exclude each other", a, b)
		}
	}
	if c.has["cidr"] && kinds[affix] != "" {
		return c, fmt.Errorf("modifiers cidr and %s exclude each other", kinds[affix])
	}
	return c, nil
}

// flagLetter is Go's letter of a flag; ignorecase is i, multiline m, dotall s.
func flagLetter(w string) string {
	if w == "dotall" {
		return "s"
	}
	return w[:1]
}

// nearError is an error with the nearest known name.
type nearError struct{ text, near string }

func (e *nearError) Error() string { return e.text }
