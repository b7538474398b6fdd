package native

import (
	"slices"
	"strconv"
	"strings"
	"sync"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"

	"whodunit/internal/audit"
	"whodunit/internal/match"
)

// bodyDeriver takes from the parts of a condition that look into bodies, or compute, an expression that is true whenever they are: tests
// of computed fields, which the engine asks once for all rules. What it gives is never exact: the condition itself decides what is left.
type bodyDeriver struct {
	deriver
	env   *environment
	scope []link
}

// link is a variable that is in scope.
type link struct {
	name string
	list ast.Expr // what it ranges over; nil: value is what it stands for
	// value is a cel.bind's.
	value ast.Expr
}

// maxLinks bounds how deep ranges lie in each other: each level may multiply the work.
const maxLinks = 4

// derive gives nil where nothing is known.
func (d bodyDeriver) derive(e ast.Expr) match.Expr {
	switch e.Kind() {
	case ast.ComprehensionKind:
		return d.comprehension(e.AsComprehension())
	case ast.CallKind:
		c := e.AsCall()
		switch c.FunctionName() {
		case operators.LogicalAnd:
			return d.and(c.Args())
		case operators.LogicalOr:
			var parts match.Or
			for _, a := range c.Args() {
				x := d.derive(a)
				if x == nil {
					return nil
				}
				parts = append(parts, x)
			}
			return parts
		}
		if x := d.test(c); x != nil {
			return x
		}
	}
	if len(d.scope) == 0 { // of the header alone
		if x := d.deriver.derive(e); x.x != nil {
			return x.x
		}
	}
	if f := d.field(e, "is"); f != nil {
		return &match.Pred{Field: f, Op: match.Exists}
	}
	return nil
}

func (d bodyDeriver) and(args []ast.Expr) match.Expr {
	var parts match.And
	for _, a := range args {
		switch x := d.derive(a).(type) {
		case nil:
		case match.And:
			parts = append(parts, x...)
		default:
			parts = append(parts, x)
		}
	}
	switch len(parts) {
	case 0:
		return nil
	case 1:
		return parts[0]
	}
	return parts
}

// comprehension derives exists() and cel.bind().
func (d bodyDeriver) comprehension(c ast.ComprehensionExpr) match.Expr {
	if c.HasIterVar2() || len(d.scope) >= maxLinks {
		return nil
	}
	if on := c.LoopCondition(); on.Kind() == ast.LiteralKind && on.AsLiteral() == types.False && isEmptyLiteral(c.IterRange()) {
		d.scope = append(slices.Clone(d.scope), link{name: c.AccuVar(), value: c.AccuInit()})
		return d.derive(c.Result())
	}
	test := existsTest(c)
	if test == nil {
		return nil
	}
	if over, ok := strs(d.constant(c.IterRange())); ok {
		return d.patterns(c.IterVar(), over, test)
	}
	d.scope = append(slices.Clone(d.scope), link{name: c.IterVar(), list: c.IterRange()})
	return d.derive(test)
}

// existsTest is what an exists() asks of each element, nil if c is none.
func existsTest(c ast.ComprehensionExpr) ast.Expr {
	step := c.LoopStep()
	if step.Kind() != ast.CallKind || step.AsCall().FunctionName() != operators.LogicalOr || !isFalse(c.AccuInit()) ||
		c.Result().Kind() != ast.IdentKind || c.Result().AsIdent() != c.AccuVar() {
		return nil
	}
	args := step.AsCall().Args()
	if len(args) != 2 || args[0].Kind() != ast.IdentKind || args[0].AsIdent() != c.AccuVar() {
		return nil
	}
	return args[1]
}

// patterns derives constants.exists(p, text.matches(p)).
func (d bodyDeriver) patterns(name string, constants []string, e ast.Expr) match.Expr {
	if e.Kind() != ast.CallKind {
		return nil
	}
	c := e.AsCall()
	if c.FunctionName() != "matches" || !c.IsMemberFunction() || len(c.Args()) != 1 || pathOf(c.Args()[0]) != name || len(constants) == 0 ||
		slices.ContainsFunc(constants, badRegex) || slices.ContainsFunc(d.scope, func(l link) bool { return l.name == name }) {
		return nil
	}
	return d.texts(c.Target(), match.Regex, constants)
}

// texts tests the texts that e may be.
func (d bodyDeriver) texts(e ast.Expr, op match.Op, constants []string) match.Expr {
	f := d.field(e, "text")
	if f == nil {
		return nil
	}
	return &match.Pred{Field: f, Op: op, Values: constants}
}

// test derives a test of one text against constants.
func (d bodyDeriver) test(c ast.CallExpr) match.Expr {
	args := c.Args()
	if c.IsMemberFunction() {
		args = append([]ast.Expr{c.Target()}, args...)
	}
	if len(args) != 2 {
		return nil
	}
	fn, a, b := c.FunctionName(), args[0], args[1]
	if k, ok := d.constant(a).(types.String); ok && fn == operators.Equals {
		return d.texts(b, match.Equal, []string{string(k)})
	} else if ok && fn == operators.In && len(d.scope) < maxLinks { // in a list, or a name of an object
		d.scope = append(slices.Clone(d.scope), link{name: "@in", list: b})
		if f := d.element("@in"); f != nil && k != "" {
			return &match.Pred{Field: f, Op: match.Equal, Values: []string{string(k)}}
		}
		return nil
	}
	constants, ok := strs(d.constant(b))
	_, one := d.constant(b).(types.String)
	if !ok || len(constants) == 0 {
		return nil
	}
	switch {
	case fn == operators.Equals && one, fn == operators.In && !one:
		return d.texts(a, match.Equal, constants)
	case fn == "glob":
		return d.texts(a, match.Glob, constants)
	case fn == "startsWith" && one:
		return d.texts(a, match.Prefix, constants)
	case fn == "endsWith" && one:
		return d.texts(a, match.Suffix, constants)
	case fn == "contains" && one:
		return d.texts(a, match.Contains, constants)
	case fn == "matches" && one && !slices.ContainsFunc(constants, badRegex):
		return d.texts(a, match.Regex, constants)
	}
	return nil
}

// element is the field of the texts that the variable of that name takes.
func (d bodyDeriver) element(name string) *match.Field { return d.make(nil, name, "text") }

// field is the field of the texts that e is over all values of the variables in scope, or of "true" for each for which it is true; nil:
// it has no fast form, or is about the header alone and not worth one.
func (d bodyDeriver) field(e ast.Expr, how string) *match.Field { return d.make(e, "", how) }

func (d bodyDeriver) make(e ast.Expr, variable, how string) *match.Field {
	var b strings.Builder
	b.WriteString("native-body:" + how)
	r := renderer{b: &b, consts: d.deriver}
	for _, l := range d.scope {
		b.WriteByte(' ')
		if l.list != nil {
			if !r.render(l.list) {
				return nil
			}
			r.names = append(r.names, l.name)
			r.values = append(r.values, nil)
		} else {
			r.names, r.values = append(r.names, l.name), append(r.values, l.value)
		}
	}
	b.WriteByte(' ')
	if variable != "" {
		b.WriteString("@" + strconv.Itoa(len(r.names)-1))
	} else if !r.render(e) {
		return nil
	}
	if !r.body && (how == "is" || !r.calls) { // the header's fields have expressions of their own
		return nil
	}
	name := b.String()
	if f, ok := d.env.fields.Load(name); ok {
		known, _ := f.(*match.Field)
		return known
	}
	f := d.compileField(name, e, how)
	if f != nil {
		f.Bodies = !r.header
	}
	if f != nil && d.env.fieldCount.Add(1) <= maxKnownFields {
		d.env.fields.Store(name, f)
	}
	return f
}

// maxKnownFields bounds the fields that rules share: what is beyond is each rule's own.
const maxKnownFields = 10_000

// compileField makes the field.
func (d bodyDeriver) compileField(name string, e ast.Expr, how string) *match.Field {
	k := &fastCompiler{env: d.env, consts: d.consts}
	var loops []loop
	for _, l := range d.scope {
		part := l.list
		if part == nil {
			part = l.value
		}
		t := k.compile(part)
		if t == nil {
			return nil
		}
		slot := k.slots
		k.slots++
		v := variableSlot{name: l.name, slot: slot}
		if l.list == nil {
			v.init = t
			t = nil
		}
		k.scope = append(k.scope, v)
		loops = append(loops, loop{t, slot})
	}
	last := k.slots - 1
	leaf := func(f *frame) val { return f.vars[last] }
	if e != nil {
		if leaf = k.compile(e); leaf == nil {
			return nil
		}
	}
	p := &bodyField{loops: loops, leaf: leaf, slots: k.slots, frames: &d.env.frames, text: how == "text"}
	return &match.Field{Name: name, Values: p.values}
}

// loop sets a variable to each of a list's elements; without a list, to nothing yet.
type loop struct {
	list term
	slot int
}

// bodyField computes the values of one field.
type bodyField struct {
	loops  []loop
	leaf   term
	slots  int
	frames *sync.Pool
	text   bool
}

// fieldBudget is out of reach: a field's work is linear in the event, see renderer.ident.
const fieldBudget = 1 << 40

func (p *bodyField) values(ev *audit.Event, yield func(string) bool) {
	f := takeFrame(ev, p.slots, fieldBudget, p.frames)
	defer f.release(p.frames)
	p.loop(f, 0, yield)
}

func (p *bodyField) loop(f *frame, i int, yield func(string) bool) bool {
	if i == len(p.loops) {
		switch v := p.leaf(f); {
		case p.text && v.k == kString:
			return yield(v.s)
		case !p.text && v.isTrue():
			return yield("true")
		}
		return true
	}
	l := p.loops[i]
	if l.list == nil {
		f.vars[l.slot] = val{}
		return p.loop(f, i+1, yield)
	}
	more := true
	f.each(l.list(f), func(v val) bool {
		f.vars[l.slot] = v
		more = p.loop(f, i+1, yield)
		return more
	})
	return more
}

// renderer writes an expression so that two that mean the same by their own text are written alike.
type renderer struct {
	b           *strings.Builder
	consts      deriver
	names       []string   // of variables
	values      []ast.Expr // of those that stand for an expression
	body, calls bool       // what it is about
	header      bool       // and that it is not about the bodies alone
	depth       int
}

func (r *renderer) render(e ast.Expr) bool {
	if r.depth++; r.depth > 64 || r.b.Len() > 4096 {
		return false
	}
	defer func() { r.depth-- }()
	switch e.Kind() {
	case ast.IdentKind:
		return r.ident(e.AsIdent())
	case ast.SelectKind:
		s := e.AsSelect()
		if s.IsTestOnly() {
			r.b.WriteString("has ")
		}
		if p := pathOf(s.Operand()); headerRoots[p] && !slices.Contains(r.names, p) {
			r.header = true
			r.b.WriteString(p + "." + s.FieldName())
			return !slices.Contains(r.values, nil) // no list is in scope
		}
		if !r.render(s.Operand()) {
			return false
		}
		r.b.WriteString("." + strconv.Quote(s.FieldName()))
		return true
	case ast.LiteralKind:
		r.literal(e)
		return true
	case ast.CallKind:
		r.calls = true
		c := e.AsCall()
		r.b.WriteString(c.FunctionName() + "(")
		args := c.Args()
		if c.IsMemberFunction() {
			args = append([]ast.Expr{c.Target()}, args...)
		}
		for _, a := range args {
			if !r.render(a) {
				return false
			}
			r.b.WriteByte(',')
		}
		r.b.WriteByte(')')
		return true
	case ast.ListKind:
		r.b.WriteByte('[')
		for _, el := range e.AsList().Elements() {
			if !r.render(el) {
				return false
			}
			r.b.WriteByte(',')
		}
		r.b.WriteByte(']')
		return len(e.AsList().OptionalIndices()) == 0
	}
	return false
}

func (r *renderer) literal(e ast.Expr) {
	v := e.AsLiteral()
	if s, ok := v.(types.String); ok {
		r.b.WriteString(strconv.Quote(string(s)))
		return
	}
	r.b.WriteString(v.Type().TypeName() + " ")
	switch v := v.(type) {
	case types.Int:
		r.b.WriteString(strconv.FormatInt(int64(v), 10))
	case types.Bool:
		r.b.WriteString(strconv.FormatBool(bool(v)))
	case types.Double:
		r.b.WriteString(strconv.FormatFloat(float64(v), 'x', -1, 64))
	case types.Null:
	default:
		r.depth = 1 << 20 // no form
	}
}

// ident writes a variable. Within a list only its elements may be asked, and not what they are compared with again for each, so that the
// work of a field is linear in the event however deep its lists lie in each other.
func (r *renderer) ident(name string) bool {
	for i := len(r.names) - 1; i >= 0; i-- {
		v := r.values[i]
		if r.names[i] != name {
			if v == nil {
				return false
			}
			continue
		}
		if v != nil {
			names, values := r.names, r.values
			r.names, r.values = names[:i], values[:i]
			ok := r.render(v)
			r.names, r.values = names, values
			return ok
		}
		r.b.WriteString("@" + strconv.Itoa(i))
		return true
	}
	switch name {
	case "requestObject", "responseObject":
		r.body = true
	case "annotations":
		r.header = true
	default:
		r.header = true
		if headerTexts[name] == nil {
			return false
		}
	}
	r.b.WriteString(name)
	return true
}
