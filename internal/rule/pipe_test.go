//go:build unix

package rule_test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"whodunit/internal/rule"
)

// A pipe in a folder of rules would keep the loader for ever, a device would give it what is no rule.
func TestLoadPassesPipesOver(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe.yaml"), 0o600); err != nil {
		t.Skipf("SKIPPED: cannot make a pipe: %v", err)
	}
	for link, to := range map[string]string{"zero.yaml": "/dev/zero", "loop": ".", "none.yaml": "nowhere", "good.yaml": "rule"} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "rule"), []byte("id: one\ncondition: verb == 'get'\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := rule.OpenLayer(dir)
	if err != nil {
		t.Fatal(err)
	}
	l.Name = "r"
	loaded := rule.Load([]rule.Layer{l}, format(t))
	var problems []string
	for _, p := range loaded.Problems {
		problems = append(problems, p.Error())
	}
	want := []string{"r/none.yaml: cannot read: stat none.yaml: no such file or directory", "r/pipe.yaml: cannot read: not a regular file", "r/zero.yaml: cannot read: not a regular file"}
	if diff := cmp.Diff(want, problems); diff != "" {
		t.Error(diff)
	}
	if len(loaded.Rules) != 1 {
		t.Errorf("%d rules, want 1", len(loaded.Rules))
	}
}
