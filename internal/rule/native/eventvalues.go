package native

import (
	"fmt"
	"net/netip"
	"reflect"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"whodunit/internal/audit"
	"whodunit/internal/match"
)

// eventVariable is the whole event. No condition can name it; the macros below do.
const eventVariable = "@event"

var eventType = cel.OpaqueType("audit.Event")

// eventValue is an event as a CEL value, which only our functions look into.
type eventValue struct{ ev *audit.Event }

func (e eventValue) ConvertToNative(t reflect.Type) (any, error) {
	return nil, fmt.Errorf("cannot convert an event to %v", t)
}

func (e eventValue) ConvertToType(t ref.Type) ref.Val {
	return types.NewErr("type conversion error from event to %q", t)
}
func (e eventValue) Equal(other ref.Val) ref.Val { return types.Bool(e == other) }
func (e eventValue) Type() ref.Type              { return eventType }
func (e eventValue) Value() any                  { return e.ev }

// eventFunctions are the searches' view of the event (package match) for conditions: by path, with numbers as texts, lists entered.
func (env *environment) eventFunctions() []cel.EnvOption {
	str, boolean := cel.StringType, cel.BoolType
	event := func(v ref.Val) *audit.Event { return v.(eventValue).ev }
	text := func(v ref.Val) string { return string(v.(types.String)) }
	macro := func(name string, args int) cel.Macro {
		return cel.GlobalMacro(name, args, func(f cel.MacroExprFactory, _ ast.Expr, a []ast.Expr) (ast.Expr, *common.Error) {
			return f.NewCall(name, append([]ast.Expr{f.NewIdent(eventVariable)}, a...)...), nil
		})
	}
	return []cel.EnvOption{
		cel.Variable(eventVariable, eventType),
		cel.Macros(macro("values", 1), macro("exists", 1), macro("present", 1), macro("text", 1), macro("text", 2), macro("field", 1)),
		cel.Function("values", cel.Overload("values_event_string", []*cel.Type{eventType, str}, cel.ListType(str), cel.BinaryBinding(func(e, p ref.Val) ref.Val {
			var out []string
			for v := range match.Values(event(e), text(p)) {
				out = append(out, v)
			}
			return texts(out)
		}))),
		cel.Function("field", cel.Overload("field_event_string", []*cel.Type{eventType, str}, cel.ListType(str), cel.BinaryBinding(func(e, name ref.Val) ref.Val {
			f := env.field(text(name))
			if f == nil {
				return types.NewErr("field: %.100q is unknown", text(name))
			}
			var out []string
			f.Values(event(e), func(v string) bool { out = append(out, strings.Clone(v)); return true })
			return texts(out)
		}))),
		cel.Function("exists", cel.Overload("exists_event_string", []*cel.Type{eventType, str}, boolean, cel.BinaryBinding(func(e, p ref.Val) ref.Val {
			return types.Bool(match.Has(event(e), text(p)))
		}))),
		cel.Function("present", cel.Overload("present_event_string", []*cel.Type{eventType, str}, boolean, cel.BinaryBinding(func(e, p ref.Val) ref.Val {
			return types.Bool(match.IsPresent(event(e), text(p)))
		}))),
		cel.Function("text",
			cel.Overload("text_event_string", []*cel.Type{eventType, str}, boolean, cel.BinaryBinding(func(e, w ref.Val) ref.Val {
				return types.Bool((&match.Text{Word: text(w)}).Occurs(event(e).Raw))
			})),
			cel.Overload("text_event_string_bool", []*cel.Type{eventType, str, boolean}, boolean, cel.FunctionBinding(func(a ...ref.Val) ref.Val {
				return types.Bool((&match.Text{Word: text(a[1]), Open: bool(a[2].(types.Bool))}).Occurs(event(a[0]).Raw))
			}))),
		cel.Function("fold", cel.Overload("fold_string", []*cel.Type{str}, str, cel.UnaryBinding(func(v ref.Val) ref.Val { return types.String(match.Fold(text(v))) }))),
		cel.Function("compares", cel.Overload("compares_string_string_string", []*cel.Type{str, str, str}, boolean, cel.FunctionBinding(func(a ...ref.Val) ref.Val {
			n, ok := match.Compare(text(a[0]), text(a[2]))
			switch text(a[1]) {
			case "<":
				return types.Bool(ok && n < 0)
			case "<=":
				return types.Bool(ok && n <= 0)
			case ">":
				return types.Bool(ok && n > 0)
			case ">=":
				return types.Bool(ok && n >= 0)
			}
			return types.NewErr("compares: %q: one of <, <=, >, >= is wanted", text(a[1]))
		}))),
	}
}

// badNetwork reports whether c is neither a network nor an address.
func badNetwork(c string) bool {
	if _, err := netip.ParsePrefix(c); err == nil {
		return false
	}
	_, err := netip.ParseAddr(c)
	return err != nil
}
