package native

import (
	"cmp"
	"regexp"
	"slices"
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
// objectRef.apiVersion is not among them, because Parse takes the group out of it.
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

// derive gives from a condition, checked or not, an expression that is true whenever the condition is, nil if none is known, and whether
// it is true of nothing else.
func (env *environment) derive(e ast.Expr, c constants) (x match.Expr, exact bool) {
	own := deriver{consts: c, field: env.field}
	parts := conjuncts(nil, e)
	one := make([]derived, len(parts))
	for i, part := range parts {
		one[i] = own.derive(part)
	}
	d := join(one)
	if d.exact {
		return d.x, true
	}
	var more match.And
	for i, part := range parts {
		if one[i].exact {
			continue
		}
		if b := (bodyDeriver{deriver: own, env: env}).derive(part); b != nil {
			more = append(more, b)
		}
	}
	switch whole, ok := d.x.(match.And); {
	case len(more) == 0:
		return d.x, false
	case len(parts) == 1: // which says at least as much
		return more[0], false
	case ok:
		return append(slices.Clip(whole), more...), false
	case d.x != nil:
		return append(match.And{d.x}, more...), false
	}
	return more, false
}

// conjuncts are the parts that && joins.
func conjuncts(to []ast.Expr, e ast.Expr) []ast.Expr {
	if e.Kind() != ast.CallKind || e.AsCall().FunctionName() != operators.LogicalAnd {
		return append(to, e)
	}
	for _, a := range e.AsCall().Args() {
		to = conjuncts(to, a)
	}
	return to
}

type deriver struct {
	consts constants
	field  func(name string) *match.Field
	// element is the variable of an exists() over the list path; "": none.
	element string
	list    *subject
}

// derived is what is known of a condition.
type derived struct {
	x     match.Expr // true whenever the condition is; nil: nothing is known
	exact bool       // x is true of nothing else
	total bool       // the condition never fails, so that its negation is true where x is false
}

// always is what both agrees with the condition and never fails.
func always(x match.Expr) derived { return derived{x, true, true} }

func (d deriver) derive(e ast.Expr) derived {
	if d.element != "" && e.Kind() != ast.CallKind { // says nothing of the element: of an empty list it is false
		return derived{}
	}
	switch e.Kind() {
	case ast.LiteralKind:
		if b, ok := e.AsLiteral().(types.Bool); ok {
			return always(match.Const(b))
		}
	case ast.IdentKind:
		if e.AsIdent() == "idReused" {
			return always(idReused)
		}
	case ast.SelectKind:
		s := e.AsSelect()
		p := pathOf(s.Operand())
		switch {
		case !s.IsTestOnly() || p == "":
		case p == "annotations":
			return always(&match.Pred{Path: p + "." + s.FieldName(), Op: match.Present})
		case textPaths[p+"."+s.FieldName()]:
			return always(&match.Pred{Path: p + "." + s.FieldName(), Op: match.Glob, Values: []string{anyText}})
		}
	case ast.ComprehensionKind:
		return d.exists(e.AsComprehension())
	case ast.CallKind:
		return d.call(e.AsCall())
	}
	return derived{}
}

func (d deriver) call(c ast.CallExpr) derived {
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
		if x := d.derive(args[0]); x.exact && x.total && d.element == "" {
			return always(match.Not{X: x.x})
		}
		return derived{}
	}
	fn := c.FunctionName()
	switch {
	case fn == "text" && d.element == "" && !c.IsMemberFunction():
		return d.text(args)
	case members[fn] != c.IsMemberFunction() && fn != "matches":
		return derived{}
	case len(args) == 1:
		return d.unary(fn, args[0])
	case len(args) == 2:
		return d.compare(fn, args[0], args[1])
	}
	return derived{}
}

// text derives text("word") and text("wor", true).
func (d deriver) text(args []ast.Expr) derived {
	if len(args) < 2 || len(args) > 3 || pathOf(args[0]) != eventVariable {
		return derived{}
	}
	word, ok := d.constant(args[1]).(types.String)
	out := &match.Text{Word: match.Fold(string(word))}
	if len(args) == 3 && ok {
		var open types.Bool
		open, ok = d.constant(args[2]).(types.Bool)
		out.Open = bool(open)
	}
	switch {
	case !ok:
		return derived{}
	case out.Word == "":
		return always(match.Const(false))
	}
	return always(out)
}

// members are the functions that are written text.f(x).
var members = map[string]bool{"startsWith": true, "endsWith": true, "contains": true}

func (d deriver) and(args []ast.Expr) derived {
	if d.element != "" { // two conditions on one element are more than two on any
		return derived{}
	}
	parts := make([]derived, len(args))
	for i, a := range args {
		parts[i] = d.derive(a)
	}
	return join(parts)
}

// join is what is known of conditions that && joins.
func join(args []derived) derived {
	if len(args) == 1 {
		return args[0]
	}
	var parts match.And
	out := derived{exact: true, total: true}
	for _, x := range args {
		out.exact, out.total = out.exact && x.exact, out.total && x.total
		switch x := x.x.(type) {
		case nil:
		case match.And:
			parts = append(parts, x...)
		default:
			parts = append(parts, x)
		}
	}
	switch {
	case len(parts) == 0:
		return derived{}
	case len(parts) == 1:
		out.x = parts[0]
	default:
		slices.SortStableFunc(parts, func(a, b match.Expr) int { return cmp.Compare(price(a), price(b)) })
		out.x = parts
	}
	return out
}

func (d deriver) or(args []ast.Expr) derived {
	var parts match.Or
	out := derived{exact: true, total: true}
	for _, a := range args {
		x := d.derive(a)
		if x.x == nil {
			return derived{}
		}
		out.exact, out.total = out.exact && x.exact, out.total && x.total
		parts = append(parts, x.x)
	}
	out.x = parts
	return out
}

// exists derives list.exists(v, …) where the list is one of the header's, and the test one of a single text or several joined by ||.
func (d deriver) exists(c ast.ComprehensionExpr) derived {
	list := d.listOf(c.IterRange())
	step := c.LoopStep()
	if list == nil || d.element != "" || c.HasIterVar2() || step.Kind() != ast.CallKind || step.AsCall().FunctionName() != operators.LogicalOr ||
		!isFalse(c.AccuInit()) || c.Result().Kind() != ast.IdentKind || c.Result().AsIdent() != c.AccuVar() {
		return derived{}
	}
	args := step.AsCall().Args()
	if len(args) != 2 || args[0].Kind() != ast.IdentKind || args[0].AsIdent() != c.AccuVar() {
		return derived{}
	}
	d.element, d.list = c.IterVar(), list
	return d.derive(args[1])
}

func isFalse(e ast.Expr) bool { return e.Kind() == ast.LiteralKind && e.AsLiteral() == types.False }

// unary derives our own functions of one text.
func (d deriver) unary(fn string, arg ast.Expr) derived {
	s := d.subject(arg)
	if s == nil || s.Fold || d.element != "" && s != d.list {
		return derived{}
	}
	switch fn {
	case "isServiceAccount":
		return always(s.with(match.Regex, serviceAccountRegex))
	case "isSystemUser":
		return always(s.with(match.Glob, systemGlobs...))
	case "isPublicIP":
		if d.element == "" {
			return always(match.And{s.with(match.CIDR, "0.0.0.0/0", "::/0"), match.Not{X: s.with(match.CIDR, notPublic...)}})
		}
	}
	return derived{}
}

// price puts the tests that fail most often and cost least first.
func price(e match.Expr) int {
	p, ok := e.(*match.Pred)
	switch {
	case !ok:
		return 3
	case listPaths[p.Path], p.Field != nil:
		return 3
	case p.Path == codePath:
		return 2
	case p.Op == match.Equal && strings.HasPrefix(p.Path, "objectRef."):
		return 0
	}
	return 1
}

// compare derives a call of two arguments, one of them a text or the status code.
func (d deriver) compare(fn string, a, b ast.Expr) derived {
	if fn == operators.In && d.element == "" {
		k, ok := d.constant(a).(types.String)
		switch list := d.listOf(b); {
		case ok && list != nil:
			return always(list.with(match.Equal, string(k)))
		case ok && pathOf(b) == "annotations" && k != "":
			return always(&match.Pred{Path: "annotations." + string(k), Op: match.Present})
		}
	}
	v := d.constant(b)
	if v == nil {
		if fn = mirrored(fn); fn == "" {
			return derived{}
		}
		a, v = b, d.constant(a)
	}
	switch s := d.subject(a); {
	case v == nil:
		return derived{}
	case s != nil:
		return s.compare(fn, v)
	case pathOf(a) == codePath && d.element == "":
		return compareCode(fn, v)
	case d.element != "":
	case isEmptyList(v) && (fn == operators.Equals || fn == operators.NotEquals):
		return d.empty(fn, a)
	default:
		return d.namespace(fn, a, v)
	}
	return derived{}
}

// empty derives uriParam("x") == [].
func (d deriver) empty(fn string, e ast.Expr) derived {
	s := d.listOf(e)
	if s == nil || s.Field == nil { // a path's list may hold what match enters and CEL does not
		return derived{}
	}
	if fn == operators.NotEquals {
		return always(s.with(match.Exists))
	}
	return always(match.Not{X: s.with(match.Exists)})
}

func isEmptyList(v ref.Val) bool {
	l, ok := v.(traits.Lister)
	return ok && l.Size() == types.IntZero
}

// namespace derives serviceAccountNamespace(user) == "x" and in ["x"].
func (d deriver) namespace(fn string, e ast.Expr, v ref.Val) derived {
	if e.Kind() != ast.CallKind || e.AsCall().FunctionName() != "serviceAccountNamespace" || len(e.AsCall().Args()) != 1 {
		return derived{}
	}
	s := d.subject(e.AsCall().Args()[0])
	constants, ok := strs(v)
	_, isList := v.(traits.Lister)
	if s == nil || s.strict || s.Fold || !ok || isList != (fn == operators.In) || fn != operators.In && fn != operators.Equals && fn != operators.NotEquals {
		return derived{}
	}
	var whole, prefixes []string
	for _, c := range constants {
		if c == "" || strings.Contains(c, ":") {
			return derived{}
		}
		whole = append(whole, serviceAccountPrefix+c)
		prefixes = append(prefixes, serviceAccountPrefix+c+":")
	}
	var x match.Expr = match.Or{s.with(match.Prefix, prefixes...), s.with(match.Equal, whole...)}
	if fn == operators.NotEquals {
		x = match.Not{X: x}
	}
	return always(x)
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

// compare derives a test of a text against constants.
func (s *subject) compare(fn string, v ref.Val) derived {
	constants, ok := strs(v)
	_, isList := v.(traits.Lister)
	if !ok || isList != (fn == operators.In) && fn != "glob" && fn != "inCIDR" { // derive is asked before the types are checked
		return derived{}
	}
	ops := map[string]match.Op{operators.Equals: match.Equal, operators.In: match.Equal, operators.NotEquals: match.Equal, "startsWith": match.Prefix,
		"endsWith": match.Suffix, "contains": match.Contains, "glob": match.Glob, "matches": match.Regex, "inCIDR": match.CIDR}
	op, ok := ops[fn]
	// A folded text is held against constants as they are; match folds those, too.
	folds := s.Fold && (op > match.Glob || slices.ContainsFunc(constants, func(c string) bool { return match.Fold(c) != c }))
	bad := folds || op == match.CIDR && slices.ContainsFunc(constants, badNetwork) || op == match.Regex && slices.ContainsFunc(constants, badRegex)
	switch {
	case !ok || bad:
		return derived{}
	case len(constants) == 0: // in an empty list, or like none of no patterns
		return derived{x: match.Const(false), exact: true, total: !s.strict}
	case s.strict && fn == operators.NotEquals: // true of another type of value, too, which match sees as text
		return derived{}
	case s.strict:
		return derived{x: s.with(op, constants...), exact: true}
	}
	x := s.orMissing(op, constants)
	if fn == operators.NotEquals {
		x = match.Not{X: x}
	}
	return always(x)
}

// orMissing is a test for which a missing value is the empty text.
func (s *subject) orMissing(op match.Op, constants []string) match.Expr {
	if !slices.ContainsFunc(constants, func(c string) bool { return acceptsEmpty(op, c) }) {
		return s.with(op, constants...)
	}
	if op == match.Prefix || op == match.Suffix || op == match.Contains {
		return match.Const(true) // every text has the empty one
	}
	missing := match.Not{X: s.with(match.Glob, anyText)}
	rest := slices.DeleteFunc(slices.Clone(constants), func(c string) bool { return op == match.Equal && c == "" })
	if len(rest) == 0 {
		return missing
	}
	return match.Or{s.with(op, rest...), missing}
}

func badRegex(c string) bool {
	_, err := regexp.Compile(c)
	return err != nil
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
