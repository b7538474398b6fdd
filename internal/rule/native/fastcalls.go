package native

import (
	"path"
	"strings"
	"unicode/utf8"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"

	"whodunit/internal/match"
)

func (k *fastCompiler) call(c ast.CallExpr) term {
	fn, exprs := c.FunctionName(), c.Args()
	if c.IsMemberFunction() {
		exprs = append([]ast.Expr{c.Target()}, exprs...)
	}
	switch fn {
	case operators.OptSelect:
		return k.optSelect(exprs)
	case operators.Index:
		return k.index(exprs)
	case operators.LogicalAnd:
		return k.and(exprs)
	case "values", "exists", "present", "text", "field", "fold", "compares":
		if n := k.eventCall(fn, exprs); n != nil || fn != "fold" {
			return n
		}
	}
	if n := k.withConstant(fn, exprs); n != nil {
		return n
	}
	args := k.compileAll(exprs)
	switch {
	case args == nil:
		return nil
	case fn == operators.In && len(exprs) == 2 && isEmptyLiteral(exprs[1]): // as CEL does, without a look at what might be in it
		return always1(boolVal(false))
	case fn == operators.Add && (k.isText(exprs[0]) || k.isText(exprs[1])):
		return concat(args[0], args[1])
	case fn == operators.LogicalOr:
		return logical(args, false)
	case fn == operators.Conditional && len(args) == 3:
		return func(f *frame) val {
			switch v := args[0](f); {
			case v.isTrue():
				return args[1](f)
			case v.isFalse():
				return args[2](f)
			default:
				return overload(v)
			}
		}
	case fn == "or" && len(args) == 2, fn == "orValue" && len(args) == 2:
		return orElse(args[0], args[1], fn == "orValue")
	case len(args) == 1:
		return unary(fn, args[0])
	case len(args) == 2:
		return binary(fn, args[0], args[1])
	}
	return nil
}

// and compiles a && b && …, with what the engine cannot decide first: the rest is true whenever the engine has let an event through.
func (k *fastCompiler) and(exprs []ast.Expr) term {
	var first, rest []term
	var add func(es []ast.Expr) bool
	add = func(es []ast.Expr) bool {
		for _, e := range es {
			if e.Kind() == ast.CallKind && e.AsCall().FunctionName() == operators.LogicalAnd {
				if !add(e.AsCall().Args()) {
					return false
				}
				continue
			}
			t := k.compile(e)
			if t == nil {
				return false
			}
			if d := (deriver{consts: k.consts, field: k.env.field}).derive(e); d.exact && len(k.scope) == 0 {
				rest = append(rest, t)
			} else {
				first = append(first, t)
			}
		}
		return true
	}
	if !add(exprs) {
		return nil
	}
	return logical(append(first, rest...), true)
}

// isText reports whether e can be nothing but a text.
func (k *fastCompiler) isText(e ast.Expr) bool {
	if c := (deriver{consts: k.consts}).constant(e); c != nil {
		return c.Type() == types.StringType
	}
	p := pathOf(e)
	root, _, _ := strings.Cut(p, ".")
	return headerTexts[p] != nil && k.lookup(root) == nil
}

// concat is the sum of two texts.
func concat(a, b term) term {
	return func(f *frame) val {
		x := a(f)
		if x.k != kString {
			return overload(x)
		}
		y := b(f)
		if y.k != kString {
			return overload(y)
		}
		f.spend((len(x.s) + len(y.s)) << 3)
		return stringVal(x.s + y.s)
	}
}

// logical is && or ||: what decides wins over errors.
func logical(args []term, and bool) term {
	return func(f *frame) val {
		out := boolVal(and)
		for _, a := range args {
			switch v := a(f); {
			case v.k == kBool && (v.n == 1) != and:
				return v
			case v.k != kBool && out.k != kErr:
				out = overload(v)
			}
		}
		return out
	}
}

func orElse(a, b term, value bool) term {
	return func(f *frame) val {
		v := a(f)
		switch {
		case v.k != kOptional:
			return overload(v)
		case len(v.list) == 0:
			return b(f)
		case value:
			return v.list[0]
		}
		return v
	}
}

func (k *fastCompiler) optSelect(exprs []ast.Expr) term {
	if len(exprs) != 2 || exprs[1].Kind() != ast.LiteralKind {
		return nil
	}
	name, ok := exprs[1].AsLiteral().(types.String)
	operand := k.compile(exprs[0])
	if !ok || operand == nil {
		return nil
	}
	return func(f *frame) val { return f.optional(operand(f), string(name)) }
}

// index is x["name"] or x[0].
func (k *fastCompiler) index(exprs []ast.Expr) term {
	if len(exprs) != 2 || exprs[1].Kind() != ast.LiteralKind || optional(exprs[0]) && exprs[0].Kind() == ast.SelectKind {
		return nil
	}
	operand := k.compile(exprs[0])
	if operand == nil {
		return nil
	}
	switch at := exprs[1].AsLiteral().(type) {
	case types.String:
		return func(f *frame) val {
			if v := operand(f); v.k != kOptional {
				return f.get(v, string(at))
			}
			return overload(val{})
		}
	case types.Int:
		return func(f *frame) val { return f.at(operand(f), int(at)) }
	}
	return nil
}

// at is the element of a list at i.
func (f *frame) at(v val, i int) val {
	out, n := missing("index"), 0
	switch v.k {
	case kErr:
		return v
	case kOptional:
		return overload(val{})
	case kList:
		if i >= 0 && i < len(v.list) {
			return v.list[i]
		}
	case kArray:
		f.spend(len(v.s))
		eachElement(bytesOf(v.s), func(el []byte) bool {
			if n++; n > i && i >= 0 {
				out = fromJSON(el)
				return false
			}
			return true
		})
	}
	return out
}

// lowered maps the 26 ASCII letters from lo on to those that are by apart.
func lowered(s string, lo byte, by int) string {
	change, ascii := false, true
	for i := 0; i < len(s); i++ {
		change = change || s[i]-lo < 26
		ascii = ascii && s[i] < utf8.RuneSelf
	}
	switch {
	case ascii && !change, !change && utf8.ValidString(s):
		return s
	case ascii:
		b := []byte(s)
		for i, c := range b {
			if c-lo < 26 {
				b[i] = byte(int(c) + by)
			}
		}
		return textOf(b)
	}
	return strings.Map(func(r rune) rune { // which sets invalid UTF-8 right, as CEL does
		if r >= rune(lo) && r <= rune(lo)+25 {
			r += rune(by)
		}
		return r
	}, s)
}

// textFunctions take one text.
var textFunctions = map[string]func(string) val{
	"lowerAscii": func(s string) val { return stringVal(lowered(s, 'A', 'a'-'A')) },
	"upperAscii": func(s string) val { return stringVal(lowered(s, 'a', 'A'-'a')) },
	"fold":       func(s string) val { return stringVal(match.Fold(s)) },
	"cleanPath":  func(s string) val { return stringVal(path.Clean(s)) },
	"isServiceAccount": func(s string) val {
		ns, name := serviceAccount(types.String(s))
		return boolVal(ns != "" && name != "")
	},
	"serviceAccountNamespace": func(s string) val { ns, _ := serviceAccount(types.String(s)); return stringVal(ns) },
	"serviceAccountName":      func(s string) val { _, n := serviceAccount(types.String(s)); return stringVal(n) },
	"isSystemUser":            func(s string) val { return boolVal(isSystemUser(s)) },
	"isPublicIP":              func(s string) val { return boolVal(isPublicIP(s)) },
	"imageRegistry":           func(s string) val { r, _ := splitImage(s); return stringVal(r) },
	"imageRepository": func(s string) val {
		r, p := splitImage(s)
		return stringVal(strings.TrimPrefix(r+"/"+p, "/"))
	},
	"execCommand": func(s string) val { return stringVal(execCommand(s)) },
}

// valueFunctions take a value of any type but an error.
var valueFunctions = map[string]func(*frame, val) val{
	"size":       (*frame).size,
	"podSpecs":   (*frame).podSpecs,
	"containers": (*frame).containers,
	"images":     (*frame).images,
	"hostPaths":  (*frame).hostPaths,
}

func unary(fn string, arg term) term {
	if fn == operators.LogicalNot {
		return func(f *frame) val {
			v := arg(f)
			if v.k != kBool {
				return overload(v)
			}
			return boolVal(v.n == 0)
		}
	}
	if g := valueFunctions[fn]; g != nil {
		return func(f *frame) val {
			v := arg(f)
			if v.k == kErr || v.k == kOptional {
				return overload(v)
			}
			return g(f, v)
		}
	}
	g := textFunctions[fn]
	if g == nil {
		return nil
	}
	return func(f *frame) val {
		v := arg(f)
		if v.k != kString {
			return overload(v)
		}
		f.spend(len(v.s) << 3)
		return g(v.s)
	}
}

func binary(fn string, a, b term) term {
	var g func(f *frame, a, b val) val
	switch fn {
	case operators.Equals:
		g = func(_ *frame, a, b val) val { return equal(a, b) }
	case operators.NotEquals:
		g = func(_ *frame, a, b val) val {
			v := equal(a, b)
			if v.k == kBool {
				v.n = 1 - v.n
			}
			return v
		}
	case operators.Less, operators.LessEquals, operators.Greater, operators.GreaterEquals:
		g = func(_ *frame, a, b val) val { return order(fn, a, b) }
	case operators.In:
		g = (*frame).in
	default:
		return nil
	}
	return func(f *frame) val {
		x := a(f)
		if x.k == kErr {
			return x
		}
		y := b(f)
		if y.k == kErr {
			return y
		}
		f.spend(len(x.s) + len(y.s))
		return g(f, x, y)
	}
}

// in is CEL's operator of this name, of values that are no errors.
func (f *frame) in(x, list val) val {
	switch list.k {
	case kObject:
		if x.k == kOptional {
			return overload(val{})
		}
		return boolVal(x.k == kString && named(bytesOf(list.s), x.s) != nil)
	case kArray, kList:
		out := boolVal(false)
		if bad := f.each(list, func(el val) bool {
			if equal(x, el).isTrue() {
				out = boolVal(true)
			}
			return !out.isTrue()
		}); bad.k == kErr {
			return bad
		}
		return out
	}
	return overload(val{})
}

func (f *frame) size(v val) val {
	n := int64(0)
	switch v.k {
	case kString:
		n = int64(utf8.RuneCountInString(v.s))
	case kArray, kList, kObject:
		f.each(v, func(val) bool { n++; return true })
	default:
		return overload(v)
	}
	return intVal(n)
}
