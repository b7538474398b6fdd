package native

import (
	"errors"
	"fmt"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/interpreter"

	"whodunit/internal/audit"
	"whodunit/internal/match"
	"whodunit/internal/rule"
)

// condition is a compiled CEL expression.
type condition struct {
	program cel.Program
	types   *provider
	params  map[string]ref.Val
}

// compileError is a fault at a place in a condition's text.
type compileError struct {
	line, column int // in the text, from 1
	text, near   string
}

// compile checks and plans a condition. params are the rule's constants, by their full names ("params.x").
func (env *environment) compile(text string, params map[string]ref.Val) (*condition, match.Expr, []compileError) {
	e := env.cel
	names := env.names
	if len(params) > 0 {
		var opts []cel.EnvOption
		for name, v := range params {
			opts = append(opts, cel.Variable(name, paramType(v)))
			names = append(names[:len(names):len(names)], name)
		}
		var err error
		if e, err = e.Extend(opts...); err != nil {
			return nil, nil, []compileError{{text: err.Error()}}
		}
	}
	checked, issues := e.Compile(text)
	if issues != nil && issues.Err() != nil {
		return nil, nil, env.explain(issues, names)
	}
	if t := checked.OutputType(); !t.IsExactType(cel.BoolType) && !t.IsExactType(cel.DynType) {
		return nil, nil, []compileError{{line: 1, column: 1, text: fmt.Sprintf("condition gives a %s; a bool is expected", t)}}
	}
	p, err := e.Program(checked, cel.EvalOptions(cel.OptOptimize), cel.CostTracking(costs{}), cel.CostLimit(costLimit))
	if err != nil {
		return nil, nil, []compileError{{line: 1, column: 1, text: err.Error()}}
	}
	return &condition{program: p, types: env.types, params: params}, prefilterOf(checked.NativeRep().Expr(), params), nil
}

func paramType(v ref.Val) *cel.Type {
	switch v.Type() {
	case types.StringType:
		return cel.StringType
	case types.IntType:
		return cel.IntType
	case types.BoolType:
		return cel.BoolType
	case types.DoubleType:
		return cel.DoubleType
	}
	return cel.ListType(cel.StringType)
}

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
	out, _, err := c.program.Eval(&activation{ev: ev, types: c.types, params: c.params})
	if err != nil {
		return false, classify(err)
	}
	b, ok := out.(types.Bool)
	if !ok {
		return false, fmt.Errorf("%w: it gives a %s, not a bool", rule.ErrEval, out.Type())
	}
	return bool(b), nil
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
