package segment

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"whodunit/internal/audit"
)

// FuzzOpenScan reads any bytes as a segment. They may be refused or read with damage; they may not panic.
func FuzzOpenScan(f *testing.F) {
	b, err := os.ReadFile("testdata/v1.parquet")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(b[:len(b)/2])
	f.Add([]byte("PAR1WDX1\xff\xff\xff\xff\x00\x00\x00\x00"))
	path := filepath.Join(f.TempDir(), "x.parquet")
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Open(path)
		if err != nil {
			return
		}
		defer func() { _ = s.Close() }()
		if _, err := s.Scan(context.Background(), 0, func([]audit.Record) error { return nil }); err != nil && !errors.Is(err, ErrCorrupt) {
			t.Fatal(err)
		}
		if _, err := s.Verify(context.Background()); err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzIndex reads any bytes as an index, behind the checksum that keeps FuzzOpenScan from it.
func FuzzIndex(f *testing.F) {
	s, err := Open("testdata/v1.parquet")
	if err != nil {
		f.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	frame, err := s.index.frame()
	if err != nil {
		f.Fatal(err)
	}
	raw, err := decompress(frame[frameHead:], -1)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	file, err := os.Open("testdata/v1.parquet")
	if err != nil {
		f.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	f.Fuzz(func(t *testing.T, b []byte) {
		x, err := readIndex(b)
		if err != nil {
			return
		}
		s := &File{path: "x", f: file, index: x, meta: x.meta, start: 4}
		for i := range x.groups {
			s.groups = append(s.groups, Group{f: s, g: &x.groups[i]})
		}
		for i := range s.groups {
			g := &s.groups[i]
			if g.Rows() > 1<<16 {
				continue // a list of so many rows is taken as it is; its pages then lack them
			}
			_, _, _ = g.Records(t.Context())
			for c := range numColumns {
				_, _ = g.Texts(c)
			}
			for _, w := range g.WordRuns() {
				_ = g.MayHaveAnyWords(w, [][]uint64{{1}})
			}
			_ = g.MayHold(Username, "alice")
		}
	})
}

// FuzzPages reads any bytes as the content of pages.
func FuzzPages(f *testing.F) {
	f.Add([]byte{3, 0x10, 1}, uint16(8), uint8(3))
	f.Add(hybrid(nil, []uint32{1, 2, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 1}, 2), uint16(15), uint8(2))
	d, _ := deltas(nil, []int64{5, 6, -900, 1 << 60})
	f.Add(d, uint16(4), uint8(0))
	f.Fuzz(func(t *testing.T, b []byte, n uint16, width uint8) {
		if vs, err := unhybrid(nil, b, int(width), int(n)); err == nil && len(vs) != int(n) {
			t.Errorf("%d values, not %d", len(vs), n)
		}
		_, _, _ = unlevels(b, int(n))
		_ = unplain(b, int(n), func(int, []byte) {})
		if len(b) < 64 { // the decoder trusts sizes; a page's checksum stands before it
			_, _ = undelta(b, int(n))
		}
		_, _ = dictIndexes(nil, b, int(n), 10)
		_, _ = decompress(b, int(n))
	})
}
