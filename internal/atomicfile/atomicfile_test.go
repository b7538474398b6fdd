package atomicfile_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"whodunit/internal/atomicfile"
)

func TestWrite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	if err := os.WriteFile(path+".tmp", []byte("what a crash left, longer than what comes"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"a longer text", "text", ""} {
		if err := atomicfile.Write(path, 0o600, []byte(text)); err != nil {
			t.Fatal(err)
		}
		want(t, path, text)
	}
	for _, mode := range []fs.FileMode{0o600, 0o644} {
		if err := atomicfile.Write(path, mode, nil); err != nil {
			t.Fatal(err)
		}
		if fi, err := os.Stat(path); err != nil || fi.Mode() != mode {
			t.Errorf("mode is %v, %v; want %v", fi.Mode(), err, mode)
		}
	}
}

func TestFailure(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	if err := atomicfile.Write(path, 0o600, []byte("old")); err != nil {
		t.Fatal(err)
	}
	full := errors.New("no room")
	err := atomicfile.WriteFunc(path, 0o600, func(f *os.File) error {
		_, err := f.WriteString("ne")
		return errors.Join(err, full)
	})
	if !errors.Is(err, full) {
		t.Errorf("error is %v", err)
	}
	want(t, path, "old")

	nowhere := filepath.Join(t.TempDir(), "none", "state")
	if err := atomicfile.Write(nowhere, 0o600, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a folder: %v", err)
	}
	if err := atomicfile.Write(t.TempDir(), 0o600, nil); err == nil {
		t.Error("a folder was replaced")
	}
}

// want checks the file and that nothing is left beside it.
func want(t *testing.T, path, text string) {
	t.Helper()
	if b, err := os.ReadFile(path); err != nil || string(b) != text {
		t.Errorf("the file holds %q, %v; want %q", b, err, text)
	}
	if _, err := os.Stat(path + ".tmp"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the temporary file is still there: %v", err)
	}
}
