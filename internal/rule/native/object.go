package native

import (
	"fmt"
	"reflect"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"

	"whodunit/internal/audit"
)

// Names of the header's object types, as they appear in messages of the type checker.
const (
	typeUser   = "audit.User"
	typeRef    = "audit.ObjectRef"
	typeStatus = "audit.ResponseStatus"
)

// object is a typed part of the header as a CEL value. Its fields always exist: a missing one has its type's zero value, and
// has() tells. So a misspelt field is an error when the rule is loaded, and no comparison fails when it runs.
type object struct {
	typ    *types.Type
	fields map[string]*types.FieldType
	v      any // *audit.User, *audit.ObjectRef or *audit.Status
}

var (
	_ traits.Indexer     = (*object)(nil)
	_ traits.FieldTester = (*object)(nil)
)

func (o *object) ConvertToNative(t reflect.Type) (any, error) {
	return nil, fmt.Errorf("cannot convert %s to %v", o.typ, t)
}

func (o *object) ConvertToType(t ref.Type) ref.Val {
	if t == types.TypeType {
		return o.typ
	}
	return types.NewErr("type conversion error from %q to %q", o.typ, t)
}

func (o *object) Equal(other ref.Val) ref.Val {
	p, ok := other.(*object)
	return types.Bool(ok && o.typ == p.typ && reflect.DeepEqual(o.v, p.v))
}

func (o *object) Type() ref.Type { return o.typ }
func (o *object) Value() any     { return o.v }

func (o *object) Get(key ref.Val) ref.Val {
	f := o.field(key)
	if f == nil {
		return types.NewErr("no such key: %v", key)
	}
	v, _ := f.GetFrom(o.v)
	return types.DefaultTypeAdapter.NativeToValue(v)
}

func (o *object) IsSet(key ref.Val) ref.Val {
	f := o.field(key)
	if f == nil {
		return types.NewErr("no such key: %v", key)
	}
	return types.Bool(f.IsSet(o.v))
}

func (o *object) field(key ref.Val) *types.FieldType {
	k, _ := key.Value().(string)
	return o.fields[k]
}

// provider adds the header's object types to the standard ones.
type provider struct {
	*types.Registry
	fields map[string]map[string]*types.FieldType
	order  map[string][]string
	types  map[string]*types.Type
}

func newProvider() (*provider, error) {
	reg, err := types.NewRegistry()
	if err != nil {
		return nil, fmt.Errorf("cannot make CEL types: %w", err)
	}
	p := &provider{Registry: reg, fields: map[string]map[string]*types.FieldType{}, order: map[string][]string{}, types: map[string]*types.Type{}}
	text := func(typ, name string, get func(any) string) {
		p.add(typ, name, types.StringType, func(v any) bool { return get(v) != "" }, func(v any) (any, error) { return types.String(get(v)), nil })
	}
	user := func(v any) *audit.User { return v.(*audit.User) }
	text(typeUser, "username", func(v any) string { return user(v).Username })
	text(typeUser, "uid", func(v any) string { return user(v).UID })
	p.add(typeUser, "groups", types.NewListType(types.StringType), func(v any) bool { return len(user(v).Groups) > 0 },
		func(v any) (any, error) { return texts(user(v).Groups), nil })
	p.add(typeUser, "extra", types.NewMapType(types.StringType, types.DynType), func(v any) bool { return len(user(v).Extra) > 0 },
		func(v any) (any, error) { return object0(user(v).Extra), nil })

	r := func(v any) *audit.ObjectRef { return v.(*audit.ObjectRef) }
	text(typeRef, "resource", func(v any) string { return r(v).Resource })
	text(typeRef, "subresource", func(v any) string { return r(v).Subresource })
	text(typeRef, "namespace", func(v any) string { return r(v).Namespace })
	text(typeRef, "name", func(v any) string { return r(v).Name })
	text(typeRef, "apiGroup", func(v any) string { return r(v).APIGroup })
	text(typeRef, "apiVersion", func(v any) string { return r(v).APIVersion })
	text(typeRef, "uid", func(v any) string { return r(v).UID })
	text(typeRef, "resourceVersion", func(v any) string { return r(v).ResourceVersion })

	st := func(v any) *audit.Status { return v.(*audit.Status) }
	p.add(typeStatus, "code", types.IntType, func(v any) bool { return st(v).Code != 0 },
		func(v any) (any, error) { return types.Int(st(v).Code), nil })
	text(typeStatus, "status", func(v any) string { return st(v).Status })
	text(typeStatus, "reason", func(v any) string { return st(v).Reason })
	text(typeStatus, "message", func(v any) string { return st(v).Message })
	return p, nil
}

func (p *provider) add(typ, name string, t *types.Type, set func(any) bool, get func(any) (any, error)) {
	if p.fields[typ] == nil {
		p.fields[typ] = map[string]*types.FieldType{}
		p.types[typ] = types.NewObjectType(typ, traits.FieldTesterType|traits.IndexerType)
	}
	p.fields[typ][name] = &types.FieldType{Type: t, IsSet: set, GetFrom: get}
	p.order[typ] = append(p.order[typ], name)
}

func (p *provider) FindStructType(name string) (*types.Type, bool) {
	if t, ok := p.types[name]; ok {
		return types.NewTypeTypeWithParam(t), true
	}
	return p.Registry.FindStructType(name)
}

func (p *provider) FindStructFieldNames(name string) ([]string, bool) {
	if o, ok := p.order[name]; ok {
		return o, true
	}
	return p.Registry.FindStructFieldNames(name)
}

func (p *provider) FindStructFieldType(name, field string) (*types.FieldType, bool) {
	if fs, ok := p.fields[name]; ok {
		f, ok := fs[field]
		return f, ok
	}
	return p.Registry.FindStructFieldType(name, field)
}

func (p *provider) object(typ string, v any) *object {
	return &object{typ: p.types[typ], fields: p.fields[typ], v: v}
}

func texts(s []string) ref.Val { return types.NewStringList(types.DefaultTypeAdapter, s) }

// object0 is a raw JSON object as a map, empty where it is missing.
func object0(raw []byte) ref.Val {
	if len(raw) == 0 || raw[0] != '{' {
		raw = []byte("{}")
	}
	return &jsonMap{raw: raw}
}

// activation gives a program the variables that it names, each made when it is first asked for. One evaluation each.
type activation struct {
	ev                *audit.Event
	types             *provider
	lists             ref.Val
	request, response ref.Val
}

var _ cel.Activation = (*activation)(nil)

// Parent implements cel.Activation.
func (a *activation) Parent() cel.Activation { return nil }

// ResolveName implements cel.Activation.
func (a *activation) ResolveName(name string) (any, bool) {
	switch name {
	case "user":
		return a.types.object(typeUser, &a.ev.User), true
	case "impersonatedUser":
		return a.types.object(typeUser, &a.ev.Impersonated), true
	case "objectRef":
		return a.types.object(typeRef, &a.ev.ObjectRef), true
	case "responseStatus":
		return a.types.object(typeStatus, &a.ev.Response), true
	case eventVariable:
		return eventValue{a.ev}, true
	case listsVariable:
		return a.lists, true
	case "requestObject":
		if a.request == nil {
			a.request = jsonValue(body(a.ev.RequestObject))
		}
		return a.request, true
	case "responseObject":
		if a.response == nil {
			a.response = jsonValue(a.ev.ResponseObject)
		}
		return a.response, true
	}
	for i := range variables {
		if variables[i].name == name && variables[i].get != nil {
			return variables[i].get(a.ev), true
		}
	}
	return nil, false
}

func stamp(micros int64) ref.Val { return types.Timestamp{Time: time.UnixMicro(micros).UTC()} }
