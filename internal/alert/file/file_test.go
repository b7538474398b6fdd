package file

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"whodunit/internal/alert"
	"whodunit/internal/alert/alerttest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newFindings(t *testing.T, path string) (f *Findings, put func(texts ...string)) {
	t.Helper()
	f, err := NewFindings(Config{Path: path})
	must(t, err)
	t.Cleanup(f.Close)
	return f, func(texts ...string) {
		t.Helper()
		must(t, f.Notify(t.Context(), findings(t, texts...)))
	}
}

func findings(t *testing.T, texts ...string) []alert.Finding {
	out := make([]alert.Finding, len(texts))
	for i, text := range texts {
		out[i] = alerttest.Finding(t, text)
	}
	return out
}

// messages are the words after "somebody" of the findings in a file, "" for a line that is none.
func messages(t *testing.T, b []byte) (out []string) {
	t.Helper()
	if len(b) > 0 && b[len(b)-1] != '\n' {
		t.Errorf("the last line has no end: %.200q", b)
	}
	for line := range bytes.Lines(b) {
		var d struct{ Cluster, Message string }
		_ = json.Unmarshal(line, &d)
		out = append(out, strings.TrimPrefix(d.Message, "somebody "))
	}
	return out
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	must(t, err)
	return b
}

func holds(t *testing.T, path string, want ...string) {
	t.Helper()
	if got := messages(t, read(t, path)); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%s holds %.300q, want %.300q", filepath.Base(path), got, want)
	}
}

func TestFileIsAppendedAndRotated(t *testing.T) {
	path := filepath.Join(t.TempDir(), "findings.jsonl")
	_, put := newFindings(t, path)
	st, err := os.Stat(path)
	must(t, err)
	if st.Mode() != 0o600 {
		t.Errorf("mode %v", st.Mode())
	}
	put("1", "2")
	put("3")
	holds(t, path, "1", "2", "3")

	must(t, os.Rename(path, path+".1"))
	put("4")
	holds(t, path+".1", "1", "2", "3")
	holds(t, path, "4")

	must(t, os.Rename(path, path+".1"))
	must(t, os.WriteFile(path, nil, 0o640)) // as logrotate's create does
	put("5")
	holds(t, path, "5")

	must(t, os.Truncate(path, 0))
	put("6")
	holds(t, path, "6")

	must(t, os.Remove(path))
	put("7")
	holds(t, path, "7")

	_, put = newFindings(t, path) // a restart
	put("8")
	holds(t, path, "7", "8")
}

func TestHalfLineOfACrash(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	must(t, os.WriteFile(path, []byte(`{"message":"somebody 1"}`+"\n"+`{"mess`), 0o600))
	_, put := newFindings(t, path)
	put("2")
	put("3")
	holds(t, path, "1", "", "2", "3")
}

// A limit on the size of files stops a write in its middle, as a full disk does.
func TestFullDisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	f, put := newFindings(t, path)
	put("1")
	st, err := os.Stat(path)
	must(t, err)
	unlimited := limit(t, uint64(st.Size())+100)
	err = f.Notify(t.Context(), findings(t, "2", "3"))
	unlimited()
	if !errors.Is(err, syscall.EFBIG) || errors.Is(err, alert.ErrRejected) {
		t.Fatal(err)
	}
	holds(t, path, "1")
	put("2", "3")
	holds(t, path, "1", "2", "3")
}

func limit(t *testing.T, bytes uint64) (undo func()) {
	t.Helper()
	signal.Ignore(syscall.SIGXFSZ)
	var old syscall.Rlimit
	must(t, syscall.Getrlimit(syscall.RLIMIT_FSIZE, &old))
	must(t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: bytes, Max: old.Max}))
	undo = func() { must(t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &old)) }
	t.Cleanup(undo)
	return undo
}

func TestMissingFolderComesBack(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "d")
	if _, err := NewFindings(Config{Path: filepath.Join(dir, "f")}); err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("a folder that is missing: %v", err)
	}
	must(t, os.Mkdir(dir, 0o700))
	path := filepath.Join(dir, "f")
	f, put := newFindings(t, path)
	put("1")
	must(t, os.RemoveAll(dir))
	if err := f.Notify(t.Context(), findings(t, "2")); err == nil || errors.Is(err, alert.ErrRejected) {
		t.Errorf("the folder is gone: %v", err)
	}
	must(t, os.Mkdir(dir, 0o700))
	put("2")
	holds(t, path, "2")
	f.Close()
	put("3") // after Close it is opened again
	holds(t, path, "2", "3")
}

func TestConfig(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	must(t, syscall.Mkfifo(fifo, 0o600))
	for _, c := range []Config{{}, {Path: Stdout}, {Path: dir}, {Path: fifo}, {Path: os.DevNull}} {
		if _, err := NewFindings(c); err == nil {
			t.Errorf("findings: %+v is taken", c)
		}
		if _, err := NewGroups(c); err == nil {
			t.Errorf("groups: %+v is taken", c)
		}
	}
}

func TestEndOfContext(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	f, _ := newFindings(t, path)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := f.Notify(ctx, findings(t, "1")); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	holds(t, path)
}

func TestConcurrentGroupsAreWholeLines(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	g, err := NewGroups(Config{Path: path})
	must(t, err)
	defer g.Close()
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			for range 10 {
				if err := g.Notify(t.Context(), alerttest.Group(alerttest.Hostile)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	b := read(t, path)
	alerttest.Lines(t, b)
	if n := bytes.Count(b, []byte("\n")); n != 100 {
		t.Errorf("%d lines", n)
	}
}

// tap is a writer that takes so many bytes.
type tap struct {
	bytes.Buffer
	left int
}

func (w *tap) Write(b []byte) (int, error) {
	n := min(w.left, len(b))
	w.left -= n
	_, _ = w.Buffer.Write(b[:n])
	if n < len(b) {
		return n, syscall.EIO
	}
	return n, nil
}

func TestStdout(t *testing.T) {
	w := &tap{left: 50}
	f, err := NewFindings(Config{Path: Stdout, Stdout: w})
	must(t, err)
	defer f.Close()
	fs := findings(t, alerttest.Hostile)
	for range 2 { // the second time not a byte is taken
		if err := f.Notify(t.Context(), fs); !errors.Is(err, syscall.EIO) || errors.Is(err, alert.ErrRejected) {
			t.Fatal(err)
		}
	}
	w.left = 1 << 20
	must(t, f.Notify(t.Context(), fs))
	must(t, f.Notify(t.Context(), fs))
	lines := bytes.SplitAfter(w.Bytes(), []byte("\n"))
	if len(lines) != 4 || len(lines[0]) != 51 {
		t.Fatalf("%d lines: %q", len(lines), w.Bytes())
	}
	alerttest.Lines(t, bytes.Join(lines[1:], nil))

	g, err := NewGroups(Config{Path: Stdout, Stdout: w})
	must(t, err)
	defer g.Close()
	w.Reset()
	must(t, g.Notify(t.Context(), alerttest.Group("x")))
	if !strings.HasPrefix(w.String(), `{"version":"1","receiver":"ops"`) || strings.Count(w.String(), "\n") != 1 {
		t.Errorf("%q", w.Bytes())
	}
}
