package native

import (
	"strconv"

	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"

	"whodunit/internal/match"
)

// compareCode derives comparisons of the status code, which is 0 in CEL where match has no value.
func compareCode(fn string, v ref.Val) derived {
	if l, ok := v.(traits.Lister); ok && fn == operators.In {
		var codes []string
		for it := l.Iterator(); it.HasNext() == types.True; {
			n, ok := it.Next().(types.Int)
			if !ok || n == 0 {
				return derived{}
			}
			codes = append(codes, strconv.Itoa(int(n)))
		}
		return always(&match.Pred{Path: codePath, Op: match.Equal, Values: codes})
	}
	n, ok := v.(types.Int)
	if !ok {
		return derived{}
	}
	pred := func(op match.Op) match.Expr {
		return &match.Pred{Path: codePath, Op: op, Values: []string{strconv.Itoa(int(n))}}
	}
	not := func(op match.Op) derived { return always(match.Not{X: pred(op)}) }
	switch fn { // where 0 satisfies the comparison, it is the negation of one that a missing value does not satisfy
	case operators.Equals, operators.NotEquals:
		x := pred(match.Equal)
		if n == 0 {
			x = match.Not{X: match.Or{pred(match.Greater), pred(match.Less)}}
		}
		if fn == operators.NotEquals {
			x = match.Not{X: x}
		}
		return always(x)
	case operators.Less:
		if n > 0 {
			return not(match.GreaterEqual)
		}
		return always(pred(match.Less))
	case operators.LessEquals:
		if n >= 0 {
			return not(match.Greater)
		}
		return always(pred(match.LessEqual))
	case operators.Greater:
		if n < 0 {
			return not(match.LessEqual)
		}
		return always(pred(match.Greater))
	case operators.GreaterEquals:
		if n <= 0 {
			return not(match.Less)
		}
		return always(pred(match.GreaterEqual))
	}
	return derived{}
}
