package file

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"whodunit/internal/audit"
	"whodunit/internal/source/lines"
)

func recorded(t testing.TB, name string) string {
	t.Helper()
	dir := os.Getenv("WHODUNIT_SHARED")
	if dir == "" {
		dir = "../../../../shared"
	}
	path := filepath.Join(dir, "data", "audit", name)
	if _, err := os.Stat(path); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skipf("SKIPPED: %v", err)
	}
	return path
}

// What a real API server wrote, lines of 24 MB among it, compressed as it is.
func TestRecorded(t *testing.T) {
	for name, want := range map[string]int{"apiserver-1.36.log.zst": 15451, "edge-1.36.log.zst": 460} {
		r := newRig(t)
		r.cfg.Globs = []string{recorded(t, name)}
		r.start()
		r.wait("all events", func() bool { return len(r.got) >= want })
		r.stop()
		if len(r.got) != want || len(r.rejected) != 0 {
			t.Errorf("%s: %d events, want %d; %d rejected", name, len(r.got), want, len(r.rejected))
		}
	}
}

func BenchmarkBackfill(b *testing.B) {
	f, err := os.Open(recorded(b, "apiserver-1.36.log.zst"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	d, _, err := lines.Decode(f)
	if err != nil {
		b.Fatal(err)
	}
	defer d.Close()
	path := filepath.Join(b.TempDir(), "audit.log")
	out, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	n, err := out.ReadFrom(d)
	if err != nil {
		b.Fatal(err)
	}
	if err := out.Close(); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(n)
	for b.Loop() {
		s, err := New(Config{Name: "x", Globs: []string{path}, StateDir: b.TempDir()})
		if err != nil {
			b.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		got := 0
		_ = s.Run(ctx, func(_ context.Context, batch audit.Batch) error {
			if got += len(batch.Events); got == 15451 {
				cancel()
			}
			return nil
		})
	}
}
