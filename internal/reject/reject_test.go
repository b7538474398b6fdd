package reject

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"whodunit/internal/audit"
	"whodunit/internal/source"
	"whodunit/internal/source/sourcetest"
)

var _ source.Reject = (&Log{}).Reject

func read(t *testing.T, path string) []record {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var out []record
	sc := bufio.NewScanner(bytes.NewReader(b))
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		var r record
		if err := json.Unmarshal(sc.Bytes(), &r); err != nil {
			t.Fatalf("%q: %v", sc.Text(), err)
		}
		out = append(out, r)
	}
	return out
}

func TestKeeps(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "rejects")
	reg := prometheus.NewRegistry()
	now := func() time.Time { return time.Unix(1, 5).UTC() }
	l, err := New(dir, Options{Metrics: NewMetrics(reg), Now: now})
	if err != nil {
		t.Fatal(err)
	}
	o := audit.Origin{Source: "s", Position: "p:1"}
	l.Reject(source.Rejected{Origin: o, Reason: "syntax", Err: errors.New("bad \x1b"), Bytes: []byte("<a>\x00é"), Size: 6})
	l.Reject(source.Rejected{Origin: o, Reason: "not_audit", Bytes: []byte("\xff\x00"), Size: 2})
	long := strings.Repeat("x", maxKept-1) + "é"
	l.Reject(source.Rejected{Origin: o, Reason: "made up", Bytes: []byte(long), Size: 1 << 30})
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	at := "1970-01-01T00:00:01.000000005Z"
	want := []record{
		{Time: at, Source: "s", Position: "p:1", Reason: "syntax", Error: "bad \x1b", Size: 6, Text: "<a>\x00é"},
		{Time: at, Source: "s", Position: "p:1", Reason: "not_audit", Size: 2, Base64: []byte("\xff\x00")},
		{Time: at, Source: "s", Position: "p:1", Reason: "made up", Size: 1 << 30, Text: long[:maxKept-1]},
	}
	path := filepath.Join(dir, FileName)
	if diff := cmp.Diff(want, read(t, path)); diff != "" {
		t.Error(diff)
	}
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", fi.Mode(), err)
	}
	for _, reason := range []string{"syntax", "not_audit", "other"} {
		if got := sourcetest.Metric(t, reg, "whodunit_rejected_total", "source", "s", "reason", reason); got != 1 {
			t.Errorf("%v counted as %s, want 1", got, reason)
		}
	}
}

func TestRotatesAndIsConcurrent(t *testing.T) {
	dir := t.TempDir()
	l, err := New(dir, Options{MaxBytes: 4096})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				l.Reject(source.Rejected{Reason: "syntax", Bytes: []byte("0123456789"), Size: 10})
			}
		})
	}
	wg.Wait()
	for _, name := range []string{FileName, OldName} {
		path := filepath.Join(dir, name)
		if len(read(t, path)) == 0 {
			t.Errorf("%s is empty", name)
		}
		if fi, _ := os.Stat(path); fi.Size() > 4096 {
			t.Errorf("%s has %d bytes", name, fi.Size())
		}
	}
	if e, _ := os.ReadDir(dir); len(e) != 2 {
		t.Errorf("%d files", len(e))
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestHalfLineOfACrash(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, FileName)
	if err := os.WriteFile(path, []byte(`{"reason":"a"}`+"\n"+`{"reas`), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := New(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	l.Reject(source.Rejected{Reason: "syntax", Bytes: []byte("b")})
	_ = l.Close()
	b, _ := os.ReadFile(path)
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	if len(lines) != 3 || !strings.Contains(lines[2], `"text":"b"`) {
		t.Fatalf("%q", lines)
	}
}

// A disk that takes nothing costs the kept copy, never the count, and heals by itself.
func TestDiskFails(t *testing.T) {
	dir := t.TempDir()
	reg := prometheus.NewRegistry()
	l, err := New(dir, Options{Metrics: NewMetrics(reg)})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.f.Close(); err != nil { // every write fails from here on
		t.Fatal(err)
	}
	l.Reject(source.Rejected{Reason: "syntax", Bytes: []byte("lost")})
	l.Reject(source.Rejected{Reason: "syntax", Bytes: []byte("kept")})
	if got := sourcetest.Metric(t, reg, "whodunit_rejects_unkept_total", "reason", "disk"); got != 1 {
		t.Errorf("%v unkept, want 1", got)
	}
	if got := read(t, filepath.Join(dir, FileName)); len(got) != 1 || got[0].Text != "kept" {
		t.Errorf("%+v", got)
	}
	_ = l.Close()
}
