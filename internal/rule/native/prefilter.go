package native

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"

	"whodunit/internal/audit"
	"whodunit/internal/match"
)

// textPaths are the string fields of the header that a prefilter may test: those for which CEL and match read the same text.
// objectRef.apiVersion is not among them, because Parse takes the group out of it; annotations are not, because
// asking match for them costs as much as CEL.
var textPaths = map[string]bool{
	"verb": true, "requestURI": true, "userAgent": true, "peer": true, "stage": true, "level": true, "auditID": true, "cluster": true,
	"user.username": true, "user.uid": true, "impersonatedUser.username": true, "impersonatedUser.uid": true,
	"objectRef.resource": true, "objectRef.subresource": true, "objectRef.namespace": true, "objectRef.name": true, "objectRef.apiGroup": true,
	"responseStatus.status": true, "responseStatus.reason": true, "responseStatus.message": true,
}

var listPaths = map[string]bool{"user.groups": true, "impersonatedUser.groups": true, "sourceIPs": true}

// annotationPaths are the paths of the variables that hold one annotation.
var annotationPaths = map[string]string{"decision": "annotations." + audit.AnnotationDecision, "reason": "annotations." + audit.AnnotationReason}

const codePath = "responseStatus.code"

// anyText is true of a value with at least one character.
const anyText = "?*"

// derive gives from a checked condition an expression that is true whenever the condition is, nil if none is known, and whether it is
// true of nothing else.
func derive(e ast.Expr, c constants) (x match.Expr, exact bool) {
	return deriver{c}.derive(e)
}

type deriver struct{ consts constants }

// derive gives an expression implied by e, nil if it knows none, and whether the two always agree. Only what always agrees
// may be negated.
func (d deriver) derive(e ast.Expr) (x match.Expr, exact bool) {
	switch e.Kind() {
	case ast.LiteralKind:
		if b, ok := e.AsLiteral().(types.Bool); ok {
			return match.Const(b), true
		}
	case ast.SelectKind:
		if s := e.AsSelect(); s.IsTestOnly() {
			if p := pathOf(s.Operand()); p != "" && textPaths[p+"."+s.FieldName()] {
				return &match.Pred{Path: p + "." + s.FieldName(), Op: match.Glob, Values: []string{anyText}}, true
			}
		}
	case ast.CallKind:
		return d.call(e.AsCall())
	}
	return nil, false
}

func (d deriver) call(c ast.CallExpr) (match.Expr, bool) {
	args := c.Args()
	if c.IsMemberFunction() {
		args = append([]ast.Expr{c.Target()}, args...)
	}
	switch c.FunctionName() {
	case operators.LogicalAnd:
		return d.and(args)
	case operators.LogicalOr:
		return d.or(args)
	case operators.LogicalNot:
		if x, exact := d.derive(args[0]); exact {
			return match.Not{X: x}, true
		}
		return nil, false
	}
	if len(args) != 2 || members[c.FunctionName()] != c.IsMemberFunction() {
		return nil, false
	}
	return d.compare(c.FunctionName(), args[0], args[1])
}

// members are the functions that are written text.f(x).
var members = map[string]bool{"startsWith": true, "endsWith": true, "contains": true}

func (d deriver) and(args []ast.Expr) (match.Expr, bool) {
	var parts match.And
	all := true
	for _, a := range args {
		x, exact := d.derive(a)
		all = all && exact
		switch x := x.(type) {
		case nil:
		case match.And:
			parts = append(parts, x...)
		default:
			parts = append(parts, x)
		}
	}
	switch len(parts) {
	case 0:
		return nil, false
	case 1:
		return parts[0], all
	}
	slices.SortStableFunc(parts, func(a, b match.Expr) int { return cmp.Compare(price(a), price(b)) })
	return parts, all
}

func (d deriver) or(args []ast.Expr) (match.Expr, bool) {
	var parts match.Or
	all := true
	for _, a := range args {
		x, exact := d.derive(a)
		if x == nil {
			return nil, false
		}
		all = all && exact
		parts = append(parts, x)
	}
	return parts, all
}

// price puts the tests that fail most often and cost least first.
func price(e match.Expr) int {
	p, ok := e.(*match.Pred)
	switch {
	case !ok:
		return 3
	case listPaths[p.Path]:
		return 3
	case p.Path == codePath:
		return 2
	case p.Op == match.Equal && strings.HasPrefix(p.Path, "objectRef."):
		return 0
	}
	return 1
}

// compare derives a call of two arguments, one of them a path.
func (d deriver) compare(fn string, a, b ast.Expr) (match.Expr, bool) {
	if fn == operators.In {
		if p := pathOf(b); listPaths[p] {
			if v, ok := d.constant(a).(types.String); ok {
				return &match.Pred{Path: p, Op: match.Equal, Values: []string{string(v)}}, true
			}
			return nil, false
		}
	}
	p, v := pathOf(a), d.constant(b)
	if v == nil {
		if fn = mirrored(fn); fn == "" {
			return nil, false
		}
		p, v = pathOf(b), d.constant(a)
	}
	switch {
	case v == nil:
		return nil, false
	case p == codePath:
		return compareCode(fn, v)
	case textPaths[p]:
		return compareText(fn, p, v)
	}
	return nil, false
}

func mirrored(fn string) string {
	switch fn {
	case operators.Equals, operators.NotEquals:
		return fn
	case operators.Less:
		return operators.Greater
	case operators.LessEquals:
		return operators.GreaterEquals
	case operators.Greater:
		return operators.Less
	case operators.GreaterEquals:
		return operators.LessEquals
	}
	return ""
}

func compareText(fn, p string, v ref.Val) (match.Expr, bool) {
	constants, ok := strs(v)
	_, isList := v.(traits.Lister)
	if !ok || isList != (fn == operators.In) && fn != "glob" { // derive is asked before the types are checked
		return nil, false
	}
	pred := func(op match.Op) (match.Expr, bool) {
		if slices.Contains(constants, "") { // every text begins with "", a missing one as well
			return match.Const(true), true
		}
		return &match.Pred{Path: p, Op: op, Values: constants}, true
	}
	switch fn {
	case operators.Equals, operators.In:
		return oneOf(p, constants), true
	case operators.NotEquals:
		return match.Not{X: oneOf(p, constants)}, true
	case "startsWith":
		return pred(match.Prefix)
	case "endsWith":
		return pred(match.Suffix)
	case "contains":
		return pred(match.Contains)
	case "glob":
		if slices.ContainsFunc(constants, func(c string) bool { return match.MatchGlob(c, "") }) {
			return nil, false
		}
		return &match.Pred{Path: p, Op: match.Glob, Values: constants}, true
	}
	return nil, false
}

// oneOf is equality with any of the constants, where "" stands for a missing field as well.
func oneOf(p string, constants []string) match.Expr {
	rest := slices.DeleteFunc(slices.Clone(constants), func(c string) bool { return c == "" })
	var x match.Expr = &match.Pred{Path: p, Op: match.Equal, Values: rest}
	if len(rest) == len(constants) {
		return x
	}
	missing := match.Not{X: &match.Pred{Path: p, Op: match.Glob, Values: []string{anyText}}}
	if len(rest) == 0 {
		return missing
	}
	return match.Or{x, missing}
}

// compareCode derives comparisons of the status code, which is 0 in CEL where match has no value.
func compareCode(fn string, v ref.Val) (match.Expr, bool) {
	if l, ok := v.(traits.Lister); ok && fn == operators.In {
		var codes []string
		for it := l.Iterator(); it.HasNext() == types.True; {
			n, ok := it.Next().(types.Int)
			if !ok || n == 0 {
				return nil, false
			}
			codes = append(codes, strconv.Itoa(int(n)))
		}
		return &match.Pred{Path: codePath, Op: match.Equal, Values: codes}, true
	}
	n, ok := v.(types.Int)
	if !ok || n <= 0 {
		return nil, false
	}
	pred := func(op match.Op) match.Expr {
		return &match.Pred{Path: codePath, Op: op, Values: []string{strconv.Itoa(int(n))}}
	}
	switch fn {
	case operators.Equals:
		return pred(match.Equal), true
	case operators.NotEquals:
		return match.Not{X: pred(match.Equal)}, true
	case operators.Less: // true of 0
		return match.Not{X: pred(match.GreaterEqual)}, true
	case operators.LessEquals:
		return match.Not{X: pred(match.Greater)}, true
	case operators.Greater:
		return pred(match.Greater), true
	case operators.GreaterEquals:
		return pred(match.GreaterEqual), true
	}
	return nil, false
}

// pathOf is the dotted path of a variable or of a field of one, "" for anything else.
func pathOf(e ast.Expr) string {
	switch e.Kind() {
	case ast.IdentKind:
		return e.AsIdent()
	case ast.SelectKind:
		s := e.AsSelect()
		if p := pathOf(s.Operand()); p != "" && !s.IsTestOnly() {
			return p + "." + s.FieldName()
		}
	}
	return ""
}

// constant is the value of a literal, a list of literals, or one of the rule's params; nil for anything else.
func (d deriver) constant(e ast.Expr) ref.Val {
	switch e.Kind() {
	case ast.LiteralKind:
		return e.AsLiteral()
	case ast.ListKind:
		l := e.AsList()
		if len(l.OptionalIndices()) > 0 {
			return nil
		}
		vals := make([]ref.Val, 0, l.Size())
		for _, el := range l.Elements() {
			v := d.constant(el)
			if v == nil {
				return nil
			}
			vals = append(vals, v)
		}
		return types.NewRefValList(types.DefaultTypeAdapter, vals)
	}
	if p := pathOf(e); p != "" {
		if name, ok := strings.CutPrefix(p, listsVariable+"."); ok {
			return d.consts.list(name)
		}
	}
	return nil
}

// strs are the strings of a string or of a list of strings.
func strs(v ref.Val) ([]string, bool) {
	switch v := v.(type) {
	case types.String:
		return []string{string(v)}, true
	case traits.Lister:
		var out []string
		for it := v.Iterator(); it.HasNext() == types.True; {
			s, ok := it.Next().(types.String)
			if !ok {
				return nil, false
			}
			out = append(out, string(s))
		}
		return out, true
	}
	return nil, false
}
