package match

import (
	"fmt"
	"strings"
	"testing"

	"whodunit/internal/audit"
)

// Arrays as deep as the API server takes them, asked for what they hold and for what lies below: hundreds would take minutes if each
// level were read again for each above it.
func TestDeepArrays(t *testing.T) {
	const n = 9_900
	e, err := audit.Parse("c", fmt.Appendf(nil, `{"auditID":"1","stage":"Panic","requestObject":%s{"x":"y"},7%s}`, strings.Repeat("[", n), strings.Repeat("]", n)))
	if err != nil {
		t.Fatal(err)
	}
	for range 200 {
		if !Eval(&Pred{Path: "requestObject.x", Op: Equal, Values: []string{"y"}}, &e) || !Eval(&Pred{Path: "requestObject", Op: Equal, Values: []string{"7"}}, &e) {
			t.Fatal("not found")
		}
	}
}
