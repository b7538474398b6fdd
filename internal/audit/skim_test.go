package audit

import (
	"bytes"
	"os"
	"reflect"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// skimmed fails unless Skim reads raw as Parse does, where Parse does.
func skimmed(t *testing.T, raw []byte) {
	t.Helper()
	want, err := Parse("c", bytes.Clone(raw))
	got, skimErr := Skim("c", bytes.Clone(raw))
	if err != nil {
		return
	}
	if skimErr != nil {
		t.Fatalf("%q: %v", raw, skimErr)
	}
	if d := cmp.Diff(want, got, cmpopts.IgnoreUnexported(Event{})); d != "" {
		t.Fatalf("%q: %s", raw, d)
	}
	if c := want.Clone(); !reflect.DeepEqual(*c, want) || c.Identity() != want.Identity() {
		t.Fatalf("%q: cloned: %+v", raw, c)
	}
	given := bytes.Clone(raw)
	if e, err := Parse("c", given); err == nil {
		c := e.Clone()
		if clear(given); !reflect.DeepEqual(*c, want) {
			t.Fatalf("%q: a clone holds the original's memory: %+v", raw, c)
		}
	}
	var values [len(TopNames)][]byte
	for name, v := range Members(want.Raw) {
		if i := slices.Index(TopNames[:], name); i >= 0 {
			values[i] = v
		}
	}
	made, err := Assemble("c", raw, &values)
	if err != nil {
		t.Fatalf("%q: %v", raw, err)
	}
	if d := cmp.Diff(want, made, cmpopts.IgnoreUnexported(Event{})); d != "" {
		t.Fatalf("%q: assembled: %s", raw, d)
	}
}

func TestSkim(t *testing.T) {
	b, err := os.ReadFile("testdata/events.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(b) {
		skimmed(t, line)
	}
	for _, bad := range []string{``, `{`, `[]`, `{"auditID":"1","stage":"Panic"}x`, `{"auditID":"1" "stage":"Panic"}`, `{"auditID":"1","stage":"Panic","a":{`,
		`{"auditID":"1"}`, `{"kind":"EventList","auditID":"1","stage":"Panic"}`, `{"a":}`, `{"a"`, `{"a":"`} {
		if e, err := Skim("", []byte(bad)); err == nil {
			t.Errorf("%s: %+v", bad, e)
		}
	}
}

func FuzzSkim(f *testing.F) {
	f.Add([]byte(` {"auditID":"1","stage":"Panic","user":{"username":"a\u0041","groups":["x",[1],null]},"sourceIPs":["1",{}],"a":[{"b":"]"}] , "\u0061uditID":"2"} `))
	f.Add([]byte(`{"auditID":1,"stage":true,"objectRef":{"apiVersion":"apps/v1"},"user":[],"responseStatus":{"code":-0}}`))
	f.Add([]byte(`{"auditID":"1","stage":"Panic","user":{"username":"\`))
	f.Fuzz(func(t *testing.T, raw []byte) { skimmed(t, raw) })
}
