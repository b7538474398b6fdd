package native

import (
	"testing"

	"whodunit/internal/match"
)

// TestBodiesAlone: the engine makes no whole event for a field that only looks at bodies, and for others it does.
func TestBodiesAlone(t *testing.T) {
	for condition, alone := range map[string]bool{
		`requestObject.type == "a"`:                                                            true,
		`containers(requestObject).exists(c, c.image.startsWith("x"))`:                         true,
		`[requestObject, responseObject].exists(o, o.rules.exists(r, "*" in r.verbs))`:         true,
		`requestObject.spec.name == user.username`:                                             false,
		`cel.bind(u, user.username, requestObject.spec.name == u)`:                             false,
		`requestObject.name == annotations["x"]`:                                               false,
		`requestObject.spec.user == requestURI`:                                                false,
		`requestObject.items.exists(i, i == "a" && size(i) > 0 && objectRef.name == "b")`:      true, // the element's part
		`(requestObject.a == objectRef.name ? "x" : "y") == "x"`:                               false,
		`cel.bind(o, requestObject.spec, o.hostPID == true && o.nodes.exists(n, n.x == "1"))`:  true,
		`requestObject.metadata.annotations["a/b"] != "" && requestObject.metadata.name != ""`: true,
	} {
		x, errs := format(t).env.compile(condition, constants{})
		if len(errs) > 0 {
			t.Fatalf("%s: %v", condition, errs)
		}
		fields := computed(x.expr)
		if len(fields) == 0 {
			t.Errorf("%s: no computed field", condition)
		}
		for _, f := range fields {
			if f.Bodies != alone {
				t.Errorf("%s: field %s: %v, want %v", condition, f.Name, f.Bodies, alone)
			}
		}
	}
}

func computed(x match.Expr) (out []*match.Field) {
	switch x := x.(type) {
	case match.And:
		for _, p := range x {
			out = append(out, computed(p)...)
		}
	case match.Or:
		for _, p := range x {
			out = append(out, computed(p)...)
		}
	case match.Not:
		return computed(x.X)
	case *match.Pred:
		if x.Field != nil {
			return []*match.Field{x.Field}
		}
	}
	return out
}
