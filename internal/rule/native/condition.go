package native

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/interpreter"

	"whodunit/internal/audit"
	"whodunit/internal/match"
	"whodunit/internal/rule"
)

// condition is a CEL expression that has been checked. Its program is made when it is first asked: a plan takes more memory than all
// else of a rule, and many rules are never asked.
type condition struct {
	env    *environment
	text   string
	consts constants

	once    sync.Once
	fast    *fastProgram // in place of program, where the condition has one
	program cel.Program
	lists   ref.Val
	err     error
}

// compileError is a fault at a place in a condition's text.
type compileError struct {
	line, column int // in the text, from 1
	text, near   string
}

// compiled is a condition in its two forms. Without a condition the expression says all; without an expression the condition does.
type compiled struct {
	expr      match.Expr
	condition *condition
}

// compile checks a condition and derives its expression.
func (env *environment) compile(text string, c constants) (compiled, []compileError) {
	expr, exact, ok := env.quickCheck(text, c)
	if !ok {
		checked, errs := env.check(text, c)
		if len(errs) > 0 {
			return compiled{}, errs
		}
		expr, exact = env.derive(checked.NativeRep().Expr(), c)
	}
	if exact {
		return compiled{expr: expr}, nil
	}
	return compiled{expr, &condition{env: env, text: text, consts: c}}, nil
}

// quickCheck is check and derive for conditions that have no fault, in a fraction of the time: CEL's second parser, which words its
// errors otherwise, and no type check where the expression says all, since what derive takes whole has the right types.
func (env *environment) quickCheck(text string, c constants) (expr match.Expr, exact, ok bool) {
	parsed, faults := env.quick.Parse(common.NewTextSource(text))
	if len(faults.GetErrors()) > 0 || len(env.putConstants(parsed, c)) > 0 {
		return nil, false, false
	}
	if expr, exact = env.derive(parsed.Expr(), c); exact {
		return expr, true, true
	}
	// The checker takes what its own parser made: a root with a number that no other node has, into which the expression is put.
	root, _ := env.roots.Get().(*cel.Ast)
	if root == nil {
		made, issues := env.cel.Parse("true")
		if issues != nil && issues.Err() != nil {
			return nil, false, false
		}
		made.NativeRep().Expr().RenumberIDs(func(int64) int64 { return 1 << 40 })
		root = made
	}
	root.NativeRep().Expr().SetKindCase(parsed.Expr())
	defer func() {
		root.NativeRep().Expr().SetKindCase(nil)
		env.roots.Put(root)
	}()
	checked, issues := env.cel.Check(root)
	if issues != nil && issues.Err() != nil || wrongType(checked) != nil {
		return nil, false, false
	}
	return expr, false, true
}

// wrongType is the fault of an expression that gives no bool.
func wrongType(checked *cel.Ast) []compileError {
	if t := checked.OutputType(); !t.IsExactType(cel.BoolType) && !t.IsExactType(cel.DynType) {
		return []compileError{{line: 1, column: 1, text: fmt.Sprintf("condition gives a %s; a bool is expected", t)}}
	}
	return nil
}

// check parses and checks a condition. Constants are put in before that: a single value as a literal, a list as a member of the
// variable of lists.
func (env *environment) check(text string, c constants) (*cel.Ast, []compileError) {
	parsed, issues := env.cel.Parse(text)
	if issues != nil && issues.Err() != nil {
		return nil, env.explain(issues, env.names)
	}
	if errs := env.putConstants(parsed.NativeRep(), c); len(errs) > 0 {
		return nil, errs
	}
	checked, issues := env.cel.Check(parsed)
	if issues != nil && issues.Err() != nil {
		return nil, env.explain(issues, env.names)
	}
	return checked, wrongType(checked)
}

// putConstants replaces params.x and lists.x.
func (env *environment) putConstants(a *ast.AST, c constants) []compileError {
	var errs []compileError
	factory := ast.NewExprFactory()
	ast.PostOrderVisit(a.Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		if e.Kind() == ast.CallKind {
			if text := env.checkCall(e.AsCall(), c); text != "" {
				at := a.SourceInfo().GetStartLocation(e.ID())
				errs = append(errs, compileError{at.Line(), at.Column() + 1, text, ""})
			}
			return
		}
		if e.Kind() != ast.SelectKind || e.AsSelect().Operand().Kind() != ast.IdentKind {
			return
		}
		root := e.AsSelect().Operand()
		name := root.AsIdent() + "." + e.AsSelect().FieldName()
		isList := strings.HasPrefix(name, listPrefix)
		if !isList && !strings.HasPrefix(name, paramPrefix) {
			return
		}
		value, ok := c.params[name]
		if _, l := c.lists[strings.TrimPrefix(name, listPrefix)]; isList {
			ok = l
		}
		switch {
		case !ok:
			at := a.SourceInfo().GetStartLocation(e.ID())
			text := fmt.Sprintf("unknown name %q in condition; a field of the audit event or a function is expected", name)
			if isList {
				text = fmt.Sprintf("unknown list %q in condition; one that the rule names under lists is expected", name)
			}
			errs = append(errs, compileError{at.Line(), at.Column() + 1, text, rule.Nearest(name, append(c.names(), env.names...))})
		case e.AsSelect().IsTestOnly():
			e.SetKindCase(factory.NewLiteral(e.ID(), types.True))
		case isList || value.Type() == types.ListType:
			e.SetKindCase(factory.NewSelect(e.ID(), factory.NewIdent(root.ID(), listsVariable), name))
		default:
			e.SetKindCase(factory.NewLiteral(e.ID(), value))
		}
	}))
	return errs
}

// checkCall says what is wrong with the constants of a call: it would fail on every event. Of a list of the user's, entries that are no
// networks are taken out where networks are wanted; the rule goes on with the others.
func (env *environment) checkCall(call ast.CallExpr, c constants) string {
	args := call.Args()
	if len(args) == 0 {
		return ""
	}
	last := args[len(args)-1]
	constants, ok := strs(deriver{consts: c}.constant(last))
	if !ok {
		return ""
	}
	switch call.FunctionName() {
	case "matches":
		for _, s := range constants {
			if _, err := regexp.Compile(s); err != nil {
				return fmt.Sprintf("not a regular expression: %v", err)
			}
		}
	case "field":
		if len(constants) == 1 && env.field(constants[0]) == nil {
			return fmt.Sprintf("unknown field %.100q; a field of another rule format is expected", constants[0])
		}
	case "inCIDR":
		i := slices.IndexFunc(constants, badNetwork)
		if i < 0 {
			return ""
		}
		if name, ok := strings.CutPrefix(pathOf(last), listsVariable+"."+listPrefix); ok {
			c.lists[name] = slices.DeleteFunc(constants, badNetwork)
			return ""
		}
		return fmt.Sprintf("%.60q is neither a network nor an address", constants[i])
	}
	return ""
}

// names are the full names of the constants.
func (c constants) names() []string {
	out := slices.Collect(maps.Keys(c.params))
	for n := range c.lists {
		out = append(out, listPrefix+n)
	}
	return out
}

// list is the constant of that full name; nil: there is none, or it is no list.
func (c constants) list(name string) ref.Val {
	if l, ok := c.lists[strings.TrimPrefix(name, listPrefix)]; ok && strings.HasPrefix(name, listPrefix) {
		return texts(l)
	}
	return c.params[name]
}

// listsVariable holds the lists by their full names. No condition can name it.
const listsVariable = "@lists"

// explain turns the checker's messages into ours, with the nearest known name.
func (env *environment) explain(issues *cel.Issues, names []string) []compileError {
	var out []compileError
	for _, is := range issues.Errors() {
		c := compileError{text: is.Message}
		if is.Location != nil {
			c.line, c.column = is.Location.Line(), is.Location.Column()+1
		}
		if name, ok := quoted(is.Message, "undeclared reference to '"); ok {
			c.text = fmt.Sprintf("unknown name %q in condition; a field of the audit event or a function is expected", name)
			c.near = rule.Nearest(name, names)
		} else if name, ok := quoted(is.Message, "undefined field '"); ok {
			c.text = fmt.Sprintf("unknown field %q in condition", name)
			var fields []string
			for _, fs := range env.types.order {
				fields = append(fields, fs...)
			}
			c.near = rule.Nearest(name, fields)
		}
		out = append(out, c)
	}
	return out
}

func quoted(s, prefix string) (string, bool) {
	rest, ok := strings.CutPrefix(s, prefix)
	if !ok {
		return "", false
	}
	name, _, ok := strings.Cut(rest, "'")
	return name, ok
}

// Match implements rule.Condition.
func (c *condition) Match(ev *audit.Event) (bool, error) {
	c.once.Do(c.plan)
	if c.err != nil {
		return false, c.err
	}
	if c.fast != nil {
		return c.fast.run(ev, &c.env.frames)
	}
	return c.matchCEL(ev)
}

// matchCEL asks CEL.
func (c *condition) matchCEL(ev *audit.Event) (bool, error) {
	out, _, err := c.program.Eval(&activation{ev: ev, types: c.env.types, lists: c.lists})
	if err != nil {
		return false, classify(err)
	}
	b, ok := out.(types.Bool)
	if !ok {
		return false, fmt.Errorf("%w: it gives a %s, not a bool", rule.ErrEval, out.Type())
	}
	return bool(b), nil
}

// plan makes the program, of the quick parser's tree if that will do: the condition was checked before.
func (c *condition) plan() {
	if parsed, faults := c.env.quick.Parse(common.NewTextSource(c.text)); len(faults.GetErrors()) == 0 && len(c.env.putConstants(parsed, c.consts)) == 0 {
		if c.fast = c.env.fastForm(parsed.Expr(), c.consts); c.fast != nil {
			return
		}
	}
	checked, errs := c.env.check(c.text, c.consts)
	if len(errs) > 0 {
		c.err = fmt.Errorf("%w: %s", rule.ErrEval, errs[0].text)
		return
	}
	c.planCEL(checked)
}

// planCEL makes CEL's program.
func (c *condition) planCEL(checked *cel.Ast) {
	p, err := c.env.cel.Program(checked, cel.EvalOptions(cel.OptOptimize), cel.CostTracking(costs{}), cel.CostLimit(costLimit))
	if err != nil {
		c.err = fmt.Errorf("%w: %w", rule.ErrEval, err)
		return
	}
	lists := map[ref.Val]ref.Val{}
	for _, name := range c.consts.names() {
		if v := c.consts.list(name); v.Type() == types.ListType {
			lists[types.String(name)] = v
		}
	}
	c.program, c.lists = p, types.NewRefValMap(types.DefaultTypeAdapter, lists)
}

func classify(err error) error {
	var cancelled interpreter.EvalCancelledError
	if errors.As(err, &cancelled) {
		return fmt.Errorf("%w: %w", rule.ErrCost, err)
	}
	msg := err.Error()
	for _, s := range []string{"no such key", "no such attribute", "index out of bounds"} {
		if strings.Contains(msg, s) {
			return fmt.Errorf("%w: %w", rule.ErrMissing, err)
		}
	}
	return fmt.Errorf("%w: %w", rule.ErrEval, err)
}
