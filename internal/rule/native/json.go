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
		var els []ref.Val
		for el := range audit.Elements(v) {
			els = append(els, jsonValue(el))
		}
		return types.NewRefValList(types.DefaultTypeAdapter, els)
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
