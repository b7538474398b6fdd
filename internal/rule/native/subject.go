package native

import (
	"strconv"
	"strings"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"

	"whodunit/internal/audit"
	"whodunit/internal/match"
)

// subject is a text that an expression can test: without a value it is "" in CEL, unless strict.
type subject struct {
	match.Pred
	strict bool // without a value CEL fails; an element of a list always has one
}

func (s *subject) with(op match.Op, values ...string) *match.Pred {
	return &match.Pred{Path: s.Path, Field: s.Field, Op: op, Values: values, Fold: s.Fold && op <= match.Glob && op != match.Exists}
}

func (d deriver) subject(e ast.Expr) *subject {
	p := pathOf(e)
	switch {
	case d.element != "" && p == d.element:
		return d.list
	case d.element != "":
		return nil
	case textPaths[p]:
		return &subject{match.Pred{Path: p}, false}
	case annotationPaths[p] != "":
		return &subject{match.Pred{Path: annotationPaths[p]}, false}
	case strings.HasPrefix(p, "annotations."):
		return &subject{match.Pred{Path: p}, true}
	case e.Kind() != ast.CallKind:
		return nil
	}
	c := e.AsCall()
	args := c.Args()
	switch fn := c.FunctionName(); {
	case fn == "execCommand" && len(args) == 1 && pathOf(args[0]) == "requestURI":
		return &subject{match.Pred{Field: commandText}, false}
	case fn == "fold" && len(args) == 1 && !c.IsMemberFunction():
		if s := d.subject(args[0]); s != nil {
			folded := *s
			folded.Fold = true
			return &folded
		}
	case fn == operators.Index && pathOf(args[0]) == "annotations":
		if k, ok := d.constant(args[1]).(types.String); ok && k != "" {
			return &subject{match.Pred{Path: "annotations." + string(k)}, true}
		}
	case fn == operators.Index && d.isURIParts(args[0]) && d.constant(args[1]) == types.IntZero:
		return &subject{match.Pred{Field: uriPath}, false}
	case fn == "lowerAscii" && c.IsMemberFunction() && len(args) == 0:
		if s := d.subject(c.Target()); s != nil && !s.strict && !s.Fold {
			return &subject{match.Pred{Field: s.lower()}, false}
		}
	}
	return nil
}

// isURIParts reports whether e is requestURI.split("?").
func (d deriver) isURIParts(e ast.Expr) bool {
	if e.Kind() != ast.CallKind {
		return false
	}
	c := e.AsCall()
	return c.FunctionName() == "split" && c.IsMemberFunction() && pathOf(c.Target()) == "requestURI" && len(c.Args()) == 1 && d.constant(c.Args()[0]) == types.String("?")
}

// listOf is a list of texts whose elements can be tested.
func (d deriver) listOf(e ast.Expr) *subject {
	if p := pathOf(e); listPaths[p] {
		return &subject{match.Pred{Path: p}, true}
	}
	if e.Kind() != ast.CallKind || d.element != "" {
		return nil
	}
	c := e.AsCall()
	if args := c.Args(); c.FunctionName() == "uriParam" && len(args) == 2 && !c.IsMemberFunction() && pathOf(args[0]) == "requestURI" {
		if name, ok := d.constant(args[1]).(types.String); ok {
			return &subject{match.Pred{Field: uriParamField(string(name))}, true}
		}
	} else if c.FunctionName() == "field" && len(args) == 2 && pathOf(args[0]) == eventVariable {
		if name, ok := d.constant(args[1]).(types.String); ok {
			if f := d.field(string(name)); f != nil {
				return &subject{match.Pred{Field: f}, true}
			}
		}
	}
	return nil
}

// What conditions know and no path names. Encode knows the names.
var (
	idReused    = &match.Func{Name: "native:idReused", Flags: audit.FlagIDReused, Eval: func(ev *audit.Event) bool { return ev.Flags&audit.FlagIDReused != 0 }}
	commandText = &match.Field{Name: "native:execCommand()", Values: func(ev *audit.Event, yield func(string) bool) {
		if s := execCommand(ev.RequestURI); s != "" {
			yield(s)
		}
	}}
	uriPath = &match.Field{Name: `native:requestURI.split("?")[0]`, Values: func(ev *audit.Event, yield func(string) bool) {
		if s, _, _ := strings.Cut(ev.RequestURI, "?"); s != "" {
			yield(s)
		}
	}}
)

const fieldPrefix = "native:" // of the names of our fields; what follows is how CEL names the same

func uriParamField(name string) *match.Field {
	return &match.Field{Name: fieldPrefix + "uriParam(" + strconv.Quote(name) + ")", Values: func(ev *audit.Event, yield func(string) bool) {
		for _, v := range uriParam(ev.RequestURI, name) {
			if !yield(v) {
				return
			}
		}
	}}
}

// lower is the text of s with ASCII letters in lower case.
func (s *subject) lower() *match.Field {
	path, field := s.Path, s.Field
	name := path
	if field != nil {
		name = strings.TrimPrefix(field.Name, fieldPrefix)
	} else if n := headerName(path); n != "" {
		name = n
	}
	return &match.Field{Name: fieldPrefix + name + ".lowerAscii()", Values: func(ev *audit.Event, yield func(string) bool) {
		low := func(v string) bool {
			return yield(strings.Map(func(c rune) rune {
				if c >= 'A' && c <= 'Z' {
					c += 'a' - 'A'
				}
				return c
			}, v))
		}
		if field != nil {
			field.Values(ev, low)
			return
		}
		match.Values(ev, path)(low)
	}}
}
