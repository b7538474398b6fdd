package sigma

import (
	"slices"
	"testing"

	"whodunit/internal/audit"
)

func TestField(t *testing.T) {
	ev, err := audit.Parse("c", []byte(`{"auditID":"a","stage":"Panic","requestObject":[{"op":"add","value":{"hostPath":{"path":"/etc","type":""},"none":null}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	f := Field("requestObject.**.hostPath.path")
	if f == nil {
		t.Fatal("no field")
	}
	var got []string
	f.Values(&ev, func(v string) bool { got = append(got, v); return true })
	if !slices.Equal(got, []string{"/etc"}) {
		t.Error(got)
	}
	for _, c := range []struct {
		name string
		want int
	}{
		{"has requestObject.**.hostPath.type", 1},
		{"has requestObject.**.path", 1},
		{"has requestObject.**.none", 0},
		{"present requestObject.**.none", 1},
		{"present requestObject.**.nowhere", 0},
	} {
		n := 0
		Field(c.name).Values(&ev, func(string) bool { n++; return true })
		if n != c.want {
			t.Errorf("%s has %d values", c.name, n)
		}
	}
	for _, other := range []string{"", "has ", "present x", "requestObject.**.", "hostPath", "any value"} {
		if Field(other) != nil {
			t.Errorf("%q is a field", other)
		}
	}
}
