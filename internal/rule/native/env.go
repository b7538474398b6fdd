package native

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
	"cel.dev/cel-go/ext"
	"cel.dev/cel-go/parser"

	"whodunit/internal/audit"
	"whodunit/internal/match"
)

// costLimit bounds one evaluation, in CEL's cost units (about one an operation, string and list work by size): 200 ms at
// worst, as measured. It is not lower because a rule that gives up is a rule that can be evaded: the shipped ones stay below it on any
// object that etcd takes (1.5 MiB), which TestLargestObjects holds.
const costLimit = 1_000_000

// costs charges our own functions by what they read; CEL charges its own.
type costs struct{}

// CallCost implements cost.ActualCostEstimator.
func (costs) CallCost(function, _ string, args []ref.Val, result ref.Val) *uint64 {
	var c uint64
	switch function {
	case "glob", "inCIDR":
		c = 1 + (5+size(args[0]))*(1+elements(args[1]))/40 // some 10 ns a pattern, where a unit is 100
	case "uriParam", "execCommand":
		c = 1 + size(args[0])/10
	case "values", "exists", "present", "text", "field":
		c = 1 + uint64(len(args[0].(eventValue).ev.Raw))/200 // about as fast as match reads
	case "fold", "compares":
		c = 1 + size(args[0])/10
	case "containers", "podSpecs", "images", "hostPaths":
		c = 1 + size(result)
	default:
		return nil
	}
	return &c
}

func size(v ref.Val) uint64 {
	if s, ok := v.(types.String); ok {
		return uint64(len(s))
	}
	return elements(v)
}

// elements is the length of a list, 0 for anything else.
func elements(v ref.Val) uint64 {
	if l, ok := v.(traits.Lister); ok {
		if n, ok := l.Size().(types.Int); ok {
			return uint64(n)
		}
	}
	return 0
}

// variable is a name that conditions may use. get is nil for those that need more than the event; see activation.
type variable struct {
	name string
	typ  *cel.Type
	get  func(*audit.Event) ref.Val
}

// variables is every top-level name but the functions and a rule's own params. docs/reference/rules.md describes each.
var variables = []variable{
	{"verb", cel.StringType, func(e *audit.Event) ref.Val { return types.String(e.Verb) }},
	{"user", cel.ObjectType(typeUser), nil},
	{"impersonatedUser", cel.ObjectType(typeUser), nil},
	{"objectRef", cel.ObjectType(typeRef), nil},
	{"responseStatus", cel.ObjectType(typeStatus), nil},
	{"requestObject", cel.DynType, nil},
	{"responseObject", cel.DynType, nil},
	{"requestURI", cel.StringType, func(e *audit.Event) ref.Val { return types.String(e.RequestURI) }},
	{"userAgent", cel.StringType, func(e *audit.Event) ref.Val { return types.String(e.UserAgent) }},
	{"sourceIPs", cel.ListType(cel.StringType), func(e *audit.Event) ref.Val { return texts(e.SourceIPs) }},
	{"peer", cel.StringType, func(e *audit.Event) ref.Val { return types.String(e.Peer()) }},
	{"annotations", cel.MapType(cel.StringType, cel.StringType), func(e *audit.Event) ref.Val { return object0(e.Annotations) }},
	{"decision", cel.StringType, func(e *audit.Event) ref.Val { return types.String(e.Decision) }},
	{"reason", cel.StringType, func(e *audit.Event) ref.Val { return types.String(e.Reason) }},
	{"stage", cel.StringType, func(e *audit.Event) ref.Val { return types.String(string(e.Stage)) }},
	{"level", cel.StringType, func(e *audit.Event) ref.Val { return types.String(string(e.Level)) }},
	{"auditID", cel.StringType, func(e *audit.Event) ref.Val { return types.String(e.AuditID) }},
	{"cluster", cel.StringType, func(e *audit.Event) ref.Val { return types.String(e.Cluster) }},
	{"idReused", cel.BoolType, func(e *audit.Event) ref.Val { return types.Bool(e.Flags&audit.FlagIDReused != 0) }},
	{"requestReceivedTimestamp", cel.TimestampType, func(e *audit.Event) ref.Val { return stamp(e.ReceivedMicros) }},
	{"stageTimestamp", cel.TimestampType, func(e *audit.Event) ref.Val { return stamp(e.StageMicros) }},
}

// environment is what every native rule is compiled in. Immutable, safe for concurrent use.
type environment struct {
	cel        *cel.Env
	types      *provider
	names      []string // known top-level names, for suggestions
	field      func(name string) *match.Field
	quick      *parser.Parser
	roots      sync.Pool // of *cel.Ast, see quickCheck
	frames     sync.Pool // of *frame
	fields     sync.Map  // of *match.Field by name: what rules ask bodies for
	fieldCount atomic.Int64
}

// Limits of conditions, for both parsers.
const (
	maxTextPoints = 64 << 10
	maxDepth      = 200
	maxNodes      = 20_000

	maxRegexProgram = 10_000 // instructions
)

func newEnvironment(field func(name string) *match.Field) (*environment, error) {
	p, err := newProvider()
	if err != nil {
		return nil, err
	}
	opts := []cel.EnvOption{
		cel.CustomTypeProvider(p), cel.CustomTypeAdapter(p.Registry),
		cel.OptionalTypes(), cel.CrossTypeNumericComparisons(true), cel.DefaultUTCTimeZone(true),
		cel.ParserExpressionSizeLimit(maxTextPoints), cel.ParserRecursionLimit(maxDepth), cel.ExpressionNodeLimit(maxNodes),
		cel.RegexProgramSizeLimit(maxRegexProgram),
		ext.Strings(), ext.Sets(), ext.Lists(ext.ListsMaxRangeSize(10_000)), ext.Math(), ext.Bindings(), ext.TwoVarComprehensions(),
	}
	e := &environment{types: p, field: field}
	for _, v := range variables {
		opts = append(opts, cel.Variable(v.name, v.typ))
		e.names = append(e.names, v.name)
	}
	opts = append(opts, cel.Variable(listsVariable, cel.MapType(cel.StringType, cel.ListType(cel.StringType))))
	opts = append(opts, functions()...)
	opts = append(opts, e.eventFunctions()...)
	if e.cel, err = cel.NewEnv(opts...); err != nil {
		return nil, fmt.Errorf("cannot make CEL environment: %w", err)
	}
	if e.quick, err = parser.NewParser(parser.EnablePrattParser(true), parser.Macros(e.cel.Macros()...), parser.EnableOptionalSyntax(true),
		parser.EnableHiddenAccumulatorName(true), parser.ExpressionSizeCodePointLimit(maxTextPoints), parser.MaxRecursionDepth(maxDepth),
		parser.MaxExpressionNodeCount(maxNodes)); err != nil {
		return nil, fmt.Errorf("cannot make CEL parser: %w", err)
	}
	for name := range e.cel.Functions() {
		if name[0] >= 'A' && name[0] <= 'z' && name[0] != '_' {
			e.names = append(e.names, name)
		}
	}
	slices.Sort(e.names)
	// The library fills in what it needs for errors at the first one, while other goroutines may read it: so there is one before they do.
	_, _ = e.cel.Compile("nobody.knows.this")
	return e, nil
}
