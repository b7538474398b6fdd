package native

import (
	"reflect"
	"strconv"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"

	"whodunit/internal/audit"
)

// jsonMap is a JSON object as a CEL map over its raw bytes. Only the levels that a condition walks through are ever decoded.
// It belongs to one evaluation and is not safe for concurrent use.
type jsonMap struct {
	raw    []byte
	loaded traits.Mapper
}

var _ traits.Mapper = (*jsonMap)(nil)

// jsonValue makes a CEL value of one raw JSON value; nothing becomes null. Integers become int, other numbers double.
func jsonValue(v []byte) ref.Val {
	if len(v) == 0 {
		return types.NullValue
	}
	switch v[0] {
	case '{':
		return &jsonMap{raw: v}
	case '[':
		return &jsonList{raw: v}
	case '"':
		t, _ := audit.Text(v)
		return types.String(t)
	case 't':
		return types.True
	case 'f':
		return types.False
	case 'n':
		return types.NullValue
	}
	t, _ := audit.Text(v)
	if i, err := strconv.ParseInt(t, 10, 64); err == nil {
		return types.Int(i)
	}
	f, _ := strconv.ParseFloat(t, 64) // out of range gives an infinity, which compares as it should
	return types.Double(f)
}

func (m *jsonMap) load() traits.Mapper {
	if m.loaded == nil {
		members := map[ref.Val]ref.Val{}
		for k, v := range audit.Members(m.raw) { // the last of duplicates wins
			members[types.String(k)] = jsonValue(v)
		}
		m.loaded = types.NewRefValMap(types.DefaultTypeAdapter, members)
	}
	return m.loaded
}

func (m *jsonMap) ConvertToNative(t reflect.Type) (any, error) { return m.load().ConvertToNative(t) }

func (m *jsonMap) ConvertToType(t ref.Type) ref.Val {
	if t == types.MapType {
		return m
	}
	return m.load().ConvertToType(t)
}

func (m *jsonMap) Equal(other ref.Val) ref.Val      { return m.load().Equal(other) }
func (m *jsonMap) Type() ref.Type                   { return types.MapType }
func (m *jsonMap) Value() any                       { return m.load().Value() }
func (m *jsonMap) Contains(key ref.Val) ref.Val     { return m.load().Contains(key) }
func (m *jsonMap) Get(key ref.Val) ref.Val          { return m.load().Get(key) }
func (m *jsonMap) Find(key ref.Val) (ref.Val, bool) { return m.load().Find(key) }
func (m *jsonMap) Iterator() traits.Iterator        { return m.load().Iterator() }
func (m *jsonMap) Size() ref.Val                    { return m.load().Size() }

// jsonList is a JSON array as a CEL list, as jsonMap is for objects: a client can nest arrays 10,000 deep, and reading each level
// of them would read the deepest 10,000 times.
type jsonList struct {
	raw    []byte
	loaded traits.Lister
}

var _ traits.Lister = (*jsonList)(nil)

func (l *jsonList) load() traits.Lister {
	if l.loaded == nil {
		var els []ref.Val
		for el := range audit.Elements(l.raw) {
			els = append(els, jsonValue(el))
		}
		l.loaded = types.NewRefValList(types.DefaultTypeAdapter, els)
	}
	return l.loaded
}

func (l *jsonList) ConvertToNative(t reflect.Type) (any, error) { return l.load().ConvertToNative(t) }

func (l *jsonList) ConvertToType(t ref.Type) ref.Val {
	if t == types.ListType {
		return l
	}
	return l.load().ConvertToType(t)
}

func (l *jsonList) Add(other ref.Val) ref.Val      { return l.load().Add(other) }
func (l *jsonList) Contains(value ref.Val) ref.Val { return l.load().Contains(value) }
func (l *jsonList) Equal(other ref.Val) ref.Val    { return l.load().Equal(other) }
func (l *jsonList) Get(index ref.Val) ref.Val      { return l.load().Get(index) }
func (l *jsonList) Iterator() traits.Iterator      { return l.load().Iterator() }
func (l *jsonList) Size() ref.Val                  { return l.load().Size() }
func (l *jsonList) Type() ref.Type                 { return types.ListType }
func (l *jsonList) Value() any                     { return l.load().Value() }
