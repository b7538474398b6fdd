package native

import (
	"strings"
	"testing"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/traits"
)

// Arrays nested as deep as the API server takes them cost a condition what it looks at, not each level of them again: thousands of
// these would take minutes.
func TestDeepArraysCostLittle(t *testing.T) {
	const n = 9_900
	raw := []byte(`{"x":` + strings.Repeat("[", n) + "1" + strings.Repeat("]", n) + "}")
	for range 2_000 {
		x := jsonValue(raw).(traits.Mapper).Get(types.String("x"))
		if got := x.(traits.Sizer).Size(); got != types.Int(1) {
			t.Fatal(got)
		}
	}
}

// A list read when it is asked for is a list like any other.
func TestListsAreReadWhenAsked(t *testing.T) {
	v := jsonValue([]byte(`[1,"a",[2,{"b":null}],[]]`)).(traits.Lister)
	same := jsonValue([]byte(`[ 1 , "a" , [ 2 , {"b":null} ] , [ ] ]`))
	for what, ok := range map[string]bool{
		"equal":     v.Equal(same) == types.True,
		"different": v.Equal(jsonValue([]byte(`[1]`))) == types.False,
		"contains":  v.Contains(types.String("a")) == types.True && v.Contains(types.Int(7)) == types.False,
		"type":      v.Type() == types.ListType && v.ConvertToType(types.TypeType) == types.ListType && v.ConvertToType(types.ListType) == v,
		"get":       v.Get(types.Int(0)) == types.Int(1) && v.Get(types.Int(2)).(traits.Lister).Get(types.Int(0)) == types.Int(2),
		"size":      v.Size() == types.Int(4) && v.Add(v).(traits.Lister).Size() == types.Int(8),
	} {
		if !ok {
			t.Errorf("%s: not as a list", what)
		}
	}
	n := 0
	for it := v.Iterator(); it.HasNext() == types.True; it.Next() {
		n++
	}
	if n != 4 {
		t.Errorf("%d elements", n)
	}
}
