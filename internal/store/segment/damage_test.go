package segmentstore

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"whodunit/internal/audit"
	"whodunit/internal/journal/segment"
	"whodunit/internal/match"
	"whodunit/internal/store"
	"whodunit/internal/store/storetest"
)

// TestDamage flips bytes all over a segment and asks: what is shown is right, and what is missing is counted.
func TestDamage(t *testing.T) {
	records := storetest.Records(t, 7, 120)
	path := filepath.Join(t.TempDir(), "a.parquet")
	write(t, path, records)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]int{}
	for _, e := range questions() {
		want[e.String()] = count(t, path, e, nil)
	}
	step := 101
	if testing.Short() {
		step = 499
	}
	byIdentity := map[audit.Identity][]byte{}
	for i := range records {
		byIdentity[records[i].Identity] = records[i].Event.Raw
	}
	for i := 0; i < len(good); i += step {
		bad := bytes.Clone(good)
		bad[i] ^= 0x10
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		for _, e := range questions() {
			count(t, path, e, func(n int, st store.Stats, r *audit.Record) {
				if r != nil {
					if !bytes.Equal(byIdentity[r.Identity], r.Event.Raw) {
						t.Fatalf("byte %d: %s shows an event that was never written: %s", i, e, r.Event.Raw)
					}
					return
				}
				if n != want[e.String()] && st.Damaged == 0 {
					t.Fatalf("byte %d: %s shows %d events, not %d, and says nothing of damage", i, e, n, want[e.String()])
				}
			})
		}
	}
}

func questions() []match.Expr {
	return []match.Expr{match.Const(true), is("verb", "get"), &match.Text{Word: "secrets"}, is("user.groups", "system:masters"),
		is("requestObject.spec.containers.image", "busybox"), match.Not{X: is("user.username", "alice")}}
}

// count searches afresh, and hands f each result and then the whole.
func count(t *testing.T, path string, e match.Expr, f func(n int, st store.Stats, r *audit.Record)) int {
	t.Helper()
	file, err := segment.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	s := New(&fixed{files: []*segment.File{file}}, Options{})
	n := 0
	st, err := s.Search(t.Context(), store.Query{Expr: e}, func(r *audit.Record) error {
		n++
		if f != nil {
			f(n, store.Stats{}, r)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if f != nil {
		f(n, st, nil)
	}
	top, _, err := s.Top(t.Context(), store.Query{Expr: e}, []string{"verb"}, 0)
	if err != nil {
		t.Fatal(err)
	}
	sum := 0
	for _, b := range top {
		sum += int(b.Count)
	}
	if sum > n && st.Damaged == 0 {
		t.Fatalf("Top counts %d events of %d", sum, n)
	}
	return n
}
