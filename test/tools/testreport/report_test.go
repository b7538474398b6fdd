package main

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// run pipes a real `go test -json` over the module in testdata/sample through a report.
func run(t *testing.T, strict bool, args ...string) (string, bool) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"test", "-json"}, args...)...)
	cmd.Dir = filepath.Join("testdata", "sample")
	out, _ := cmd.Output() // it fails where a test fails: the report is to say so
	var buf bytes.Buffer
	r := newReport(&buf)
	if err := r.read(bytes.NewReader(out)); err != nil {
		t.Fatal(err)
	}
	good := r.close(strict)
	return buf.String(), good
}

func TestReport(t *testing.T) {
	tests := []struct {
		name    string
		strict  bool
		args    []string
		good    bool
		want    []string
		without []string
	}{
		{name: "passes", args: []string{"./good"}, good: true,
			want:    []string{"ok  \tsample/good\t", "\ntests: 2 passed, 0 failed, 0 skipped\n"},
			without: []string{"chatter", "Skipped"}},
		{name: "skips", args: []string{"./skips", "./main"}, good: true,
			want: []string{"  sample/skips.TestMissing: no testcluster here\n", "  sample/skips.TestOther: skips_test.go:7: only as root\n", "  sample/main: no shared data\n",
				"\ntests: 1 passed, 0 failed, 3 skipped\n"}},
		{name: "a missing part fails in CI", strict: true, args: []string{"./skips"},
			want: []string{"FAIL: 1 tests miss something that CI must have", "\ntests: 1 passed, 0 failed, 2 skipped\n"}},
		{name: "fails", args: []string{"./fails"},
			want: []string{"the reason it failed", "--- FAIL: TestBad/sub", "FAIL\tsample/fails", "  sample/fails.TestBad/sub\n", "\ntests: 0 passed, 2 failed, 0 skipped\n"}},
		{name: "panics", args: []string{"./panics"},
			want: []string{"panic: far from home", "\ntests: 0 passed, 1 failed, 0 skipped\n"}},
		{name: "does not build", args: []string{"./broken", "./good"},
			want: []string{"undefined: nothingOfThisName", "  sample/broken (no test of it failed", "ok  \tsample/good\t"}},
		{name: "nothing to run", args: []string{"./empty"}, want: []string{"FAIL: no test ran"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, good := run(t, tt.strict, tt.args...)
			if good != tt.good {
				t.Errorf("good = %v, want %v", good, tt.good)
			}
			for _, w := range tt.want {
				if !strings.Contains(got, w) {
					t.Errorf("no %q in:\n%s", w, got)
				}
			}
			for _, w := range tt.without {
				if strings.Contains(got, w) {
					t.Errorf("%q in:\n%s", w, got)
				}
			}
		})
	}
}
