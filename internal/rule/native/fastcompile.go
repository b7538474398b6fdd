package native

import (
	"strings"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"

	"whodunit/internal/audit"
)

// fastCompiler makes nodes of a checked condition. A nil term is a part that has no fast form, and then the condition has none.
type fastCompiler struct {
	env    *environment
	consts constants
	scope  []variableSlot
	slots  int
}

// variableSlot is a variable of a comprehension or of cel.bind. The last of a name counts.
type variableSlot struct {
	name   string
	slot   int
	init   term     // of cel.bind: asked for when the variable is, once
	one    []string // the constants that it ranges over, if it does
	hidden bool     // an accumulator: conditions cannot name it
}

// fastForm is the program of a checked condition, nil if it has none.
func (env *environment) fastForm(e ast.Expr, c constants) *fastProgram {
	k := &fastCompiler{env: env, consts: c}
	root := k.compile(e)
	if root == nil {
		return nil
	}
	return &fastProgram{root: root, slots: k.slots}
}

func always1(v val) term { return func(*frame) val { return v } }

func (k *fastCompiler) compile(e ast.Expr) term {
	if c := (deriver{consts: k.consts}).constant(e); c != nil {
		if v, ok := fromRef(c); ok {
			return always1(v)
		}
		return nil
	}
	switch e.Kind() {
	case ast.IdentKind:
		return k.ident(e.AsIdent())
	case ast.SelectKind:
		return k.selection(e)
	case ast.CallKind:
		return k.call(e.AsCall())
	case ast.ListKind:
		return k.listOf(e.AsList())
	case ast.ComprehensionKind:
		return k.comprehension(e.AsComprehension())
	}
	return nil
}

func (k *fastCompiler) compileAll(es []ast.Expr) []term {
	out := make([]term, len(es))
	for i, e := range es {
		if out[i] = k.compile(e); out[i] == nil {
			return nil
		}
	}
	return out
}

// lookup is the variable of that name in scope, nil if there is none.
func (k *fastCompiler) lookup(name string) *variableSlot {
	for i := len(k.scope) - 1; i >= 0; i-- {
		if k.scope[i].name == name {
			return &k.scope[i]
		}
	}
	return nil
}

func (k *fastCompiler) ident(name string) term {
	if v := k.lookup(name); v != nil {
		slot, init := v.slot, v.init
		switch {
		case v.hidden:
			return nil
		case init == nil:
			return func(f *frame) val { return f.vars[slot] }
		}
		return func(f *frame) val {
			if f.vars[slot].k == kNone {
				f.vars[slot] = init(f)
			}
			return f.vars[slot]
		}
	}
	if get := headerTexts[name]; get != nil {
		return func(f *frame) val { return stringVal(get(f.ev)) }
	}
	switch name {
	case "requestObject":
		return (*frame).requestObject
	case "responseObject":
		return (*frame).responseObject
	case "annotations":
		return func(f *frame) val { return objectOf(f.ev.Annotations) }
	case "idReused":
		return func(f *frame) val { return boolVal(f.ev.Flags&audit.FlagIDReused != 0) }
	case "sourceIPs":
		return func(f *frame) val { return f.texts(f.ev.SourceIPs) }
	}
	return nil
}

// headerTexts are the texts of an event's header by the names that conditions have for them.
var headerTexts = map[string]func(*audit.Event) string{
	"verb": func(e *audit.Event) string { return e.Verb }, "requestURI": func(e *audit.Event) string { return e.RequestURI },
	"userAgent": func(e *audit.Event) string { return e.UserAgent }, "peer": func(e *audit.Event) string { return e.Peer() },
	"decision": func(e *audit.Event) string { return e.Decision }, "reason": func(e *audit.Event) string { return e.Reason },
	"stage": func(e *audit.Event) string { return string(e.Stage) }, "level": func(e *audit.Event) string { return string(e.Level) },
	"auditID": func(e *audit.Event) string { return e.AuditID }, "cluster": func(e *audit.Event) string { return e.Cluster },
	"user.username": func(e *audit.Event) string { return e.User.Username }, "user.uid": func(e *audit.Event) string { return e.User.UID },
	"impersonatedUser.username": func(e *audit.Event) string { return e.Impersonated.Username },
	"impersonatedUser.uid":      func(e *audit.Event) string { return e.Impersonated.UID },
	"objectRef.resource":        func(e *audit.Event) string { return e.ObjectRef.Resource },
	"objectRef.subresource":     func(e *audit.Event) string { return e.ObjectRef.Subresource },
	"objectRef.namespace":       func(e *audit.Event) string { return e.ObjectRef.Namespace },
	"objectRef.name":            func(e *audit.Event) string { return e.ObjectRef.Name },
	"objectRef.uid":             func(e *audit.Event) string { return e.ObjectRef.UID },
	"objectRef.apiGroup":        func(e *audit.Event) string { return e.ObjectRef.APIGroup },
	"objectRef.apiVersion":      func(e *audit.Event) string { return e.ObjectRef.APIVersion },
	"objectRef.resourceVersion": func(e *audit.Event) string { return e.ObjectRef.ResourceVersion },
	"responseStatus.status":     func(e *audit.Event) string { return e.Response.Status },
	"responseStatus.reason":     func(e *audit.Event) string { return e.Response.Reason },
	"responseStatus.message":    func(e *audit.Event) string { return e.Response.Message },
}

func objectOf(raw []byte) val {
	if len(raw) == 0 || raw[0] != '{' {
		return val{k: kObject, s: "{}"}
	}
	return val{k: kObject, s: textOf(raw)}
}

func (f *frame) texts(s []string) val {
	return f.gather(func() {
		for _, t := range s {
			f.arena = append(f.arena, stringVal(t))
		}
	})
}

// headerPart is a field of the header that is no variable of its own.
func headerPart(path string) term {
	if get := headerTexts[path]; get != nil {
		return func(f *frame) val { return stringVal(get(f.ev)) }
	}
	switch path {
	case codePath:
		return func(f *frame) val { return intVal(int64(f.ev.Response.Code)) }
	case "user.groups":
		return func(f *frame) val { return f.texts(f.ev.User.Groups) }
	case "impersonatedUser.groups":
		return func(f *frame) val { return f.texts(f.ev.Impersonated.Groups) }
	case "user.extra":
		return func(f *frame) val { return objectOf(f.ev.User.Extra) }
	case "impersonatedUser.extra":
		return func(f *frame) val { return objectOf(f.ev.Impersonated.Extra) }
	}
	return nil
}

// headerRoots are the variables that are objects of the header.
var headerRoots = map[string]bool{"user": true, "impersonatedUser": true, "objectRef": true, "responseStatus": true}

// selection is x.name or has(x.name).
func (k *fastCompiler) selection(e ast.Expr) term {
	s := e.AsSelect()
	name := s.FieldName()
	if op := s.Operand(); op.Kind() == ast.IdentKind && headerRoots[op.AsIdent()] && k.lookup(op.AsIdent()) == nil {
		part := headerPart(op.AsIdent() + "." + name)
		if part == nil || !s.IsTestOnly() {
			return part
		}
		return func(f *frame) val { // it is there if it is not its type's zero value
			v := part(f)
			return boolVal(v.k == kString && v.s != "" || v.k == kInt && v.n != 0 || len(v.list) > 0 || v.k == kObject && len(v.s) > 2)
		}
	}
	operand := k.compile(s.Operand())
	if operand == nil {
		return nil
	}
	if s.IsTestOnly() {
		if optional(s.Operand()) {
			return nil
		}
		return func(f *frame) val {
			v := operand(f)
			if v.k == kErr {
				return v
			}
			out, found := f.find(v, name)
			if out.k == kErr {
				return out
			}
			return boolVal(found)
		}
	}
	return func(f *frame) val {
		if v := operand(f); v.k != kOptional {
			return f.get(v, name)
		} else {
			return f.optional(v, name)
		}
	}
}

// optional reports whether e is, or may be, an optional value.
func optional(e ast.Expr) bool {
	for e.Kind() == ast.SelectKind {
		e = e.AsSelect().Operand()
	}
	return e.Kind() == ast.CallKind || e.Kind() == ast.ComprehensionKind
}

// optional is v.?name.
func (f *frame) optional(v val, name string) val {
	if v.k == kOptional {
		if len(v.list) == 0 {
			return v
		}
		v = v.list[0]
	}
	if v.k == kErr {
		return v
	}
	out, found := f.find(v, name)
	switch {
	case out.k == kErr:
		return out
	case !found:
		return val{k: kOptional}
	}
	some := f.gather(func() { f.arena = append(f.arena, out) })
	return val{k: kOptional, list: some.list}
}

// listOf is [a, b].
func (k *fastCompiler) listOf(l ast.ListExpr) term {
	parts := k.compileAll(l.Elements())
	if parts == nil || len(l.OptionalIndices()) > 0 {
		return nil
	}
	return func(f *frame) val {
		vs := make([]val, len(parts))
		for i, p := range parts {
			if vs[i] = p(f); vs[i].k == kErr {
				return vs[i]
			}
		}
		return val{k: kList, list: vs}
	}
}

// comprehension compiles exists(), all() and cel.bind().
func (k *fastCompiler) comprehension(c ast.ComprehensionExpr) term {
	if c.HasIterVar2() || c.Result() == nil {
		return nil
	}
	defer func(n int) { k.scope = k.scope[:n] }(len(k.scope))
	if bound := c.LoopCondition(); bound.Kind() == ast.LiteralKind && bound.AsLiteral() == types.False {
		return k.bind(c)
	}
	next := c.LoopStep()
	if c.Result().Kind() != ast.IdentKind || c.Result().AsIdent() != c.AccuVar() || next.Kind() != ast.CallKind || c.AccuInit().Kind() != ast.LiteralKind {
		return nil
	}
	fn, args := next.AsCall().FunctionName(), next.AsCall().Args()
	if len(args) != 2 || args[0].Kind() != ast.IdentKind || args[0].AsIdent() != c.AccuVar() {
		return nil
	}
	all := fn == operators.LogicalAnd
	if c.AccuInit().AsLiteral() != types.Bool(all) || !all && fn != operators.LogicalOr {
		return nil
	}
	list := k.compile(c.IterRange())
	if list == nil {
		return nil
	}
	slot := k.slots
	k.slots++
	v := variableSlot{name: c.IterVar(), slot: slot}
	if over := (deriver{consts: k.consts}).constant(c.IterRange()); over != nil {
		v.one, _ = strs(over)
	}
	k.scope = append(k.scope, variableSlot{name: c.AccuVar(), hidden: true}, v)
	test := k.compile(args[1])
	if test == nil {
		return nil
	}
	return func(f *frame) val {
		out := boolVal(all)
		bad := f.each(list(f), func(v val) bool {
			f.vars[slot] = v
			got := test(f)
			switch {
			case got.k == kBool && (got.n == 1) == all: // says nothing
			case got.k == kBool:
				out = got
				return false
			case out.k != kErr:
				out = overload(got)
			}
			return true
		})
		if bad.k == kErr {
			return bad
		}
		return out
	}
}

// bind is cel.bind(name, value, body): a comprehension over nothing.
func (k *fastCompiler) bind(c ast.ComprehensionExpr) term {
	if !isEmptyLiteral(c.IterRange()) || strings.HasPrefix(c.AccuVar(), "@") {
		return nil
	}
	init := k.compile(c.AccuInit())
	if init == nil {
		return nil
	}
	slot := k.slots
	k.slots++
	k.scope = append(k.scope, variableSlot{name: c.AccuVar(), slot: slot, init: init})
	body := k.compile(c.Result())
	if body == nil {
		return nil
	}
	return func(f *frame) val {
		f.vars[slot] = val{}
		return body(f)
	}
}

func isEmptyLiteral(e ast.Expr) bool { return e.Kind() == ast.ListKind && e.AsList().Size() == 0 }
