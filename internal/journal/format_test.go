package journal

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// testdata/v1 is a journal of version 1 with every kind of file, kept for ever: whoever changes a format must still read it.
func TestSampleOfVersion1(t *testing.T) {
	const sample = "testdata/v1"
	if *update {
		if _, err := os.Stat(sample); err == nil {
			t.Fatal("a version's sample is never replaced")
		}
		j := open(t, sample, Options{SegmentBytes: 1 << 10})
		for i := range 4 {
			mustAppend(t, j, batch(i))
			if err := j.Seal(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
		mustAppend(t, j, batch(4, 5))
		c, err := j.Cursor("detect", 3)
		if err := errors.Join(err, c.Flush(), j.Close(), os.Remove(filepath.Join(sample, "LOCK"))); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(sample)); err != nil {
		t.Fatal(err)
	}
	j := open(t, dir, Options{})
	want(t, contents(t, j), 0, 1, 2, 3, 4, 5)
	c, err := j.Cursor("detect", 1)
	if err != nil || c.Next() != 3 {
		t.Errorf("cursor at %d: %v", c.Next(), err)
	}
	if in := j.Info(); in.Lost != 0 || in.Segments != 4 {
		t.Errorf("info %+v", in)
	}
}

func FuzzLoadManifest(f *testing.F) {
	b, err := os.ReadFile("testdata/v1/MANIFEST")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte("{}\ncrc32c:00000000\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, manifestName), b, 0o600); err != nil {
			t.Fatal(err)
		}
		if m, err := loadManifest(dir); err == nil && m.Version != manifestVersion {
			t.Fatalf("took %+v of %q", m, b)
		}
	})
}
