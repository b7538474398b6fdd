package segment

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"whodunit/internal/audit"
)

func TestWriteFails(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.parquet")
	err := atomically(path, func(f *os.File) error {
		_, _ = f.Write([]byte("half"))
		return &os.PathError{Op: "write", Path: f.Name(), Err: syscall.ENOSPC}
	})
	if !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("a full disk gives %v", err)
	}
	if left, _ := filepath.Glob(path + "*"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	records := sample(t)
	for _, r := range [][2]uint64{{5, 4}, {1, 100}, {102, 500}} {
		if _, err := Write(path, records, r[0], r[1]); err == nil {
			t.Errorf("records %d to %d were taken for the range %v", records[0].Seq, records[len(records)-1].Seq, r)
		}
	}
}

func TestMergeWantsNeighbours(t *testing.T) {
	records := sample(t)
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	for name, rs := range map[string][]audit.Record{"a": records[:5], "b": records[5:9], "c": records[9:]} {
		if _, err := Write(path(name), rs, rs[0].Seq, rs[len(rs)-1].Seq); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Merge(path("x"), []string{path("a"), path("c")}); err == nil {
		t.Error("segments with a gap between them were merged")
	}
	if _, err := Merge(path("x"), nil); err == nil {
		t.Error("nothing was merged")
	}
	if _, err := Merge(path("ab"), []string{path("a"), path("b")}); err != nil {
		t.Fatal(err)
	}
	m, err := Merge(path("abc"), []string{path("ab"), path("c")})
	if err != nil {
		t.Fatal(err)
	}
	f := open(t, path("abc"))
	if f.Meta() != m {
		t.Errorf("Meta is %+v, Merge said %+v", f.Meta(), m)
	}
	got, damaged := scan(t, f, 0)
	if damaged != 0 {
		t.Errorf("%d damaged", damaged)
	}
	same(t, got, records)
	for i := range records {
		if ok, err := f.Contains(records[i].Identity); err != nil || !ok {
			t.Errorf("event %d is not contained: %v", records[i].Seq, err)
		}
	}
	if ok, err := f.Contains(audit.Identity{1}); err != nil || ok {
		t.Errorf("a strange identity is contained: %v", err)
	}
	n := 0
	err = f.Identities(t.Context(), 110, func(seq uint64, id audit.Identity, key [8]byte) {
		w := &records[seq-101]
		if seq != uint64(110+n) || id != w.Identity || key != w.Event.RequestKey() {
			t.Errorf("%d: identity %s, want %s", seq, id, w.Identity)
		}
		n++
	})
	if want := len(records) - 9; err != nil || n != want {
		t.Errorf("%d identities, want %d, %v", n, want, err)
	}
	if _, err := Write(path("empty"), nil, 7, 9); err != nil {
		t.Fatal(err)
	}
	if m := open(t, path("empty")).Meta(); m.MinSeq != 7 || m.MaxSeq != 9 || m.Rows != 0 {
		t.Errorf("empty: %+v", m)
	}
	if err := Move(path("empty"), t.TempDir()); err != nil {
		t.Error(err)
	}
	if err := Remove(path("empty")); err != nil {
		t.Errorf("removing what is gone: %v", err)
	}
}
