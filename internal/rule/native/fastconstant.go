package native

import (
	"regexp"
	"slices"
	"strings"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/traits"

	"whodunit/internal/match"
)

// withConstant compiles calls whose last argument is a constant, which is made ready once; nil: there is no such form.
func (k *fastCompiler) withConstant(fn string, exprs []ast.Expr) term {
	if len(exprs) < 2 {
		return nil
	}
	constants := make([][]string, len(exprs))
	isList := false
	for i, e := range exprs[1:] {
		v := (deriver{consts: k.consts}).constant(e)
		texts, ok := strs(v)
		if fn == operators.In && isEmptyLiteral(e) {
			ok = false
		}
		if !ok {
			if fn == "matches" && len(exprs) == 2 {
				return k.matchesOne(exprs)
			}
			return nil
		}
		constants[i+1] = texts
		_, isList = v.(traits.Lister)
	}
	last := constants[len(constants)-1]
	test := stringTest(fn, last, isList)
	if fn == "replace" && len(exprs) == 3 && !isList && len(constants[1]) == 1 {
		test = func(s string) val { return stringVal(strings.ReplaceAll(s, constants[1][0], last[0])) }
	} else if len(exprs) != 2 {
		return nil
	}
	if test == nil {
		return nil
	}
	text := k.compile(exprs[0])
	if text == nil {
		return nil
	}
	in := fn == operators.In // of another type: not in it, where others have no such form
	price := 1 + len(last)
	return func(f *frame) val {
		v := text(f)
		switch {
		case v.k == kString:
			if f.budget -= price * (len(v.s) >> 8); !f.spend(price << 4) {
				return val{k: kErr, n: whyCost, s: errCostText}
			}
			return test(v.s)
		case in && v.k != kErr && v.k != kOptional:
			return boolVal(false)
		}
		return overload(v)
	}
}

// stringTest is a function of one text and of constants, nil if it is none.
func stringTest(fn string, constants []string, isList bool) func(string) val {
	one := ""
	if len(constants) == 1 {
		one = constants[0]
	}
	switch {
	case fn == operators.In && isList:
		if len(constants) <= 8 {
			return func(s string) val { return boolVal(slices.Contains(constants, s)) }
		}
		set := make(map[string]bool, len(constants))
		for _, c := range constants {
			set[c] = true
		}
		return func(s string) val { return boolVal(set[s]) }
	case fn == "glob":
		return func(s string) val {
			return boolVal(slices.ContainsFunc(constants, func(p string) bool { return match.MatchGlob(p, s) }))
		}
	case fn == "inCIDR" && !slices.ContainsFunc(constants, badNetwork):
		return func(s string) val {
			return boolVal(slices.ContainsFunc(constants, func(n string) bool { return match.InCIDR(s, n) }))
		}
	case isList:
		return nil
	}
	switch fn {
	case "startsWith":
		return func(s string) val { return boolVal(strings.HasPrefix(s, one)) }
	case "endsWith":
		return func(s string) val { return boolVal(strings.HasSuffix(s, one)) }
	case "contains":
		return func(s string) val { return boolVal(strings.Contains(s, one)) }
	case "split":
		return func(s string) val { return stringList(strings.Split(s, one)) }
	case "uriParam":
		return func(s string) val { return stringList(uriParam(s, one)) }
	case "matches":
		if re := regexOf(one); re != nil {
			return func(s string) val { return boolVal(re.MatchString(s)) }
		}
	}
	return nil
}

// regexOf is the regular expression, nil where CEL refuses it.
func regexOf(pattern string) *regexp.Regexp {
	if n, err := types.RegexProgramSize(pattern); err != nil || n > maxRegexProgram {
		return nil
	}
	re, err := regexp.Compile(pattern)
	if err != nil {
		return nil
	}
	return re
}

// matchesOne is text.matches(p), where p ranges over constants.
func (k *fastCompiler) matchesOne(exprs []ast.Expr) term {
	if exprs[1].Kind() != ast.IdentKind {
		return nil
	}
	v := k.lookup(exprs[1].AsIdent())
	if v == nil || len(v.one) == 0 {
		return nil
	}
	slot, compiled := v.slot, make(map[string]*regexp.Regexp, len(v.one))
	for _, p := range v.one {
		if compiled[p] = regexOf(p); compiled[p] == nil {
			return nil
		}
	}
	text := k.compile(exprs[0])
	if text == nil {
		return nil
	}
	return func(f *frame) val {
		v := text(f)
		if v.k != kString {
			return overload(v)
		}
		if !f.spend(len(v.s) << 4) {
			return val{k: kErr, n: whyCost, s: errCostText}
		}
		return boolVal(compiled[f.vars[slot].s].MatchString(v.s))
	}
}
