package sigma

import (
	"slices"
	"testing"

	"whodunit/internal/audit"
)

func TestField(t *testing.T) {
	ev, err := audit.Parse("c", []byte(`{"auditID":"a","stage":"Panic","requestObject":[{"op":"add","value":{"hostPath":{"path":"/etc","type":""}}}]}`))
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
	for _, other := range []string{"", "requestObject.**.", "hostPath", "any value"} {
		if Field(other) != nil {
			t.Errorf("%q is a field", other)
		}
	}
}
