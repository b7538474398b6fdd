package segmentstore

import (
	"fmt"
	"path/filepath"
	"testing"

	"whodunit/internal/audit"
	"whodunit/internal/journal"
	"whodunit/internal/journal/segment"
	"whodunit/internal/store"
	"whodunit/internal/store/storetest"
)

// fixed is a source of open segments and a head.
type fixed struct {
	files []*segment.File
	head  []journal.Block
}

func (f *fixed) Snapshot() (*journal.Snapshot, error) {
	return &journal.Snapshot{Segments: f.files, Head: f.head}, nil
}

func write(tb testing.TB, path string, records []audit.Record) {
	tb.Helper()
	if _, err := segment.Write(path, records, records[0].Seq, records[len(records)-1].Seq); err != nil {
		tb.Fatal(err)
	}
}

func open(tb testing.TB, path string) *segment.File {
	tb.Helper()
	f, err := segment.Open(path)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = f.Close() })
	return f
}

func block(records []audit.Record) journal.Block {
	b := journal.Block{First: records[0].Seq, Last: records[len(records)-1].Seq}
	timed := false
	for i := range records {
		t := records[i].Event.Micros()
		if t == 0 {
			continue
		}
		if !timed || t < b.MinMicros {
			b.MinMicros = t
		}
		b.MaxMicros = max(b.MaxMicros, t)
		timed = true
	}
	b.Load = func() ([]audit.Record, int64, error) { return records, 0, nil }
	return b
}

// layout spreads the records over segments, a merged one among them, and the head.
func layout(tb testing.TB, records []audit.Record) *fixed {
	f := &fixed{}
	dir := tb.TempDir()
	part := func(i int) []audit.Record { return records[i*len(records)/10 : (i+1)*len(records)/10] }
	if len(records) < 10 {
		if len(records) > 0 {
			f.head = append(f.head, block(records))
		}
		return f
	}
	var sources []string
	for i := range 8 {
		path := filepath.Join(dir, fmt.Sprintf("%d.parquet", i))
		write(tb, path, part(i))
		if i < 5 {
			sources = append(sources, path)
		} else {
			f.files = append(f.files, open(tb, path))
		}
	}
	merged := filepath.Join(dir, "merged.parquet")
	if _, err := segment.Merge(merged, sources); err != nil {
		tb.Fatal(err)
	}
	f.files = append([]*segment.File{open(tb, merged)}, f.files...)
	f.head = append(f.head, block(part(8)), block(part(9)))
	return f
}

// TestStoreSmall has so little memory that each question takes many windows of time and pages leave the cache at once.
func TestStoreSmall(t *testing.T) {
	storetest.Test(t, func(t *testing.T, records []audit.Record) store.Searcher {
		s := New(layout(t, records), Options{CacheBytes: 1 << 20, Workers: 1})
		s.window = 30
		return s
	})
}

func TestStore(t *testing.T) {
	storetest.Test(t, func(t *testing.T, records []audit.Record) store.Searcher {
		return New(layout(t, records), Options{})
	})
}
