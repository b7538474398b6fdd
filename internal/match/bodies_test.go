package match

import (
	"slices"
	"testing"

	"whodunit/internal/audit"
)

// TestBodies: a field of the bodies alone gets them as one of the whole event does, and only them.
func TestBodies(t *testing.T) {
	see := func(ev *audit.Event, yield func(string) bool) {
		_ = yield("request "+string(ev.RequestObject)) && yield("response "+string(ev.ResponseObject))
	}
	bodies := &Field{Name: "bodies", Values: see, Bodies: true}
	whole := &Field{Name: "whole", Values: func(ev *audit.Event, yield func(string) bool) { yield(ev.Verb) }}
	e := mustEngine(t, []Expr{
		&Pred{Field: bodies, Op: Equal, Values: []string{`request {"a":1}`}},
		&Pred{Field: bodies, Op: Equal, Values: []string{`response [2]`}},
		&Pred{Field: bodies, Op: Equal, Values: []string{"request "}},
		&Pred{Field: bodies, Op: Equal, Values: []string{"response "}},
		&Pred{Field: whole, Op: Equal, Values: []string{"get"}},
	})
	m := e.Matcher()
	for _, c := range []struct {
		raw  string
		want []int
	}{
		{`{"auditID":"1","stage":"Panic","verb":"get","requestObject":{"a":1},"responseObject":[2]}`, []int{0, 1, 4}},
		{` {"auditID":"1","stage":"Panic","verb":"get"}`, []int{2, 3, 4}},
		{`{"auditID":"1","stage":"Panic","requestObject":null,"responseObject": [2] }`, []int{1, 2}},
		{`{"auditID":"1","stage":"Panic","requestObject":{},"requestObject":{"a":1}}`, []int{0, 3}},
	} {
		got, err := m.MatchRaw("c", []byte(c.raw), nil)
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s: %v %v, want %v", c.raw, got, err, c.want)
		}
		ev, err := audit.Parse("c", []byte(c.raw))
		if err != nil {
			t.Fatal(err)
		}
		if got := m.Match(&ev, nil); !slices.Equal(got, c.want) {
			t.Errorf("%s: parsed: %v, want %v", c.raw, got, c.want)
		}
	}
}
