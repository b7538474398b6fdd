package segmentstore

import (
	"testing"

	"whodunit/internal/match"
)

// What columns and bloom filters do not know exactly is left to the event itself.
func TestCompileLeavesRulesToTheEvent(t *testing.T) {
	field := &match.Field{Name: "images"}
	for _, c := range []struct {
		e     match.Expr
		kind  nodeKind
		words bool
	}{
		{&match.Pred{Path: "verb", Op: match.Equal, Values: []string{"get"}}, isColumn, false},
		{&match.Pred{Path: "verb", Op: match.Regex, Values: []string{"g.t"}}, isColumn, false},
		{&match.Pred{Path: "sourceIPs", Op: match.CIDR, Values: []string{"10.0.0.0/8"}}, isColumn, false},
		{&match.Pred{Path: "sourceIPs", Op: match.CIDR, Values: []string{"10.0.0.0/8"}, All: true}, isRaw, false},
		{&match.Pred{Path: "cluster", Op: match.Present}, isRaw, false},
		{&match.Pred{Path: "peer", Op: match.Present}, isRaw, false},
		{&match.Pred{Path: "objectRef.apiGroup", Op: match.Equal, Values: []string{"apps"}, All: true}, isRaw, false},
		{&match.Pred{Path: "requestObject.spec", Op: match.Present}, isRaw, true},
		{&match.Pred{Path: "requestObject.spec", Op: match.Regex, Values: []string{"x"}}, isRaw, true},
		{&match.Pred{Field: field, Op: match.Equal, Values: []string{"nginx"}}, isRaw, false},
		{&match.Func{Name: "cel"}, isRaw, false},
	} {
		if n := compile(c.e); n.kind != c.kind || (n.words != nil) != c.words {
			t.Errorf("%v: kind %d, words %v", c.e, n.kind, n.words)
		}
	}
}
