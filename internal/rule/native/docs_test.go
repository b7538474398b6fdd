package native

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"whodunit/internal/rule"
)

// TestEverythingIsDocumented wants every variable, field and function of ours in the reference.
func TestEverythingIsDocumented(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", "reference", "rules.md"))
	if err != nil {
		t.Fatal(err)
	}
	env := format(t).env
	want := []string{"glob(", "isServiceAccount(", "serviceAccountNamespace(", "serviceAccountName(", "uriParam(", "inCIDR(", "podSpecs(", "containers(", "cleanPath(",
		"images(", "hostPaths(", "imageRegistry(", "imageRepository(", "execCommand(", "isSystemUser(", "isPublicIP(",
		"values(", "exists(", "present(", "text(", "fold(", "compares(", "field("}
	for _, v := range variables {
		want = append(want, "`"+v.name+"`")
	}
	for _, p := range placeholders {
		want = append(want, "{"+p.name+"}")
	}
	for _, p := range rule.CorrelationPaths {
		want = append(want, "{"+p+"}")
	}
	for _, fields := range env.types.order {
		for _, f := range fields {
			want = append(want, "`."+f+"`")
		}
	}
	for _, w := range want {
		if !strings.Contains(string(b), w) {
			t.Errorf("rules.md lacks %s", w)
		}
	}
}
