package audit

import (
	"slices"
	"strings"
	"testing"
)

func TestLeaves(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{`[]`, ``},
		{`[[],[[]]]`, ``},
		{`1`, `1`},
		{`"[1]"`, `"[1]"`},
		{` [1, ["a,]", null] , {"x":[1,2]},[[true]] ]`, `1|"a,]"|null|{"x":[1,2]}|true`},
	} {
		var got []string
		for v := range Leaves([]byte(tt.in)) {
			got = append(got, string(v))
		}
		if strings.Join(got, "|") != tt.want {
			t.Errorf("%s: %q, want %s", tt.in, got, tt.want)
		}
	}
	for range Leaves([]byte(`[1,2]`)) {
		break
	}
}

// The deepest nesting that the API server takes costs one pass: a thousand of them would take minutes otherwise.
func TestLeavesOfDeepArrays(t *testing.T) {
	deep := []byte(strings.Repeat("[", 9_990) + "1" + strings.Repeat("]", 9_990))
	for range 1_000 {
		if got := slices.Collect(Leaves(deep)); len(got) != 1 {
			t.Fatalf("%d leaves", len(got))
		}
	}
}
