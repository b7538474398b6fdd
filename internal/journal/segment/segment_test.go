package segment

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/klauspost/compress/zstd"

	"whodunit/internal/audit"
)

// recorded gives real events, at most n.
func recorded(tb testing.TB, name string, n int) []audit.Record {
	tb.Helper()
	dir := os.Getenv("WHODUNIT_SHARED")
	if dir == "" {
		dir = "../../../../shared"
	}
	z, err := os.ReadFile(filepath.Join(dir, "data/audit", name))
	if err != nil {
		if os.Getenv("CI") == "true" {
			tb.Fatal(err)
		}
		tb.Skip("SKIPPED: no recorded events: ", err)
	}
	d, err := zstd.NewReader(nil)
	if err != nil {
		tb.Fatal(err)
	}
	defer d.Close()
	b, err := d.DecodeAll(z, nil)
	if err != nil {
		tb.Fatal(err)
	}
	var out []audit.Record
	for line := range bytes.Lines(b) {
		if len(out) == n {
			break
		}
		ev, err := audit.Parse("prod", bytes.TrimSuffix(line, []byte("\n")))
		if err != nil {
			tb.Fatal(err)
		}
		out = append(out, audit.Record{Seq: uint64(len(out) + 1), IngestedMicros: ev.Micros() + 1000, Source: "webhook", Identity: ev.Identity(), Event: ev})
	}
	return out
}

func same(tb testing.TB, got, want []audit.Record) {
	tb.Helper()
	if len(got) != len(want) {
		tb.Fatalf("%d records, want %d", len(got), len(want))
	}
	for i := range got {
		g, w := &got[i], &want[i]
		if g.Seq != w.Seq || g.IngestedMicros != w.IngestedMicros || g.Source != w.Source || g.Identity != w.Identity ||
			g.Event.Flags != w.Event.Flags || g.Event.Cluster != w.Event.Cluster || !bytes.Equal(g.Event.Raw, w.Event.Raw) {
			tb.Fatalf("record %d: got %d %s, want %d %s", i, g.Seq, g.Event.Raw, w.Seq, w.Event.Raw)
		}
	}
}

func scan(tb testing.TB, f *File, from uint64) (out []audit.Record, damaged int64) {
	tb.Helper()
	damaged, err := f.Scan(context.Background(), from, func(rs []audit.Record) error {
		out = append(out, rs...)
		return nil
	})
	if err != nil {
		tb.Fatal(err)
	}
	return out, damaged
}

func open(tb testing.TB, path string) *File {
	tb.Helper()
	f, err := Open(path)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = f.Close() })
	return f
}

func TestRoundTrip(t *testing.T) {
	for _, name := range []string{"apiserver-1.36.log.zst", "edge-1.36.log.zst"} {
		t.Run(name, func(t *testing.T) {
			records := recorded(t, name, -1)
			path := filepath.Join(t.TempDir(), "a.parquet")
			m, err := Write(path, records, 1, uint64(len(records)))
			if err != nil {
				t.Fatal(err)
			}
			f := open(t, path)
			if f.Meta() != m {
				t.Errorf("Meta is %+v, Write said %+v", f.Meta(), m)
			}
			got, damaged := scan(t, f, 0)
			if damaged != 0 {
				t.Errorf("%d damaged", damaged)
			}
			same(t, got, records)
			got, _ = scan(t, f, 200)
			same(t, got, records[199:])
			r, err := f.Verify(context.Background())
			if err != nil || !r.OK() || r.Rows != int64(len(records)) {
				t.Errorf("Verify: %+v, %v", r, err)
			}
			irregular := 0
			for i := range f.groups {
				irregular += f.groups[i].Irregular()
			}
			t.Logf("%d groups, ratio %.2f, irregular %d, %+v", len(f.groups), float64(m.RawBytes)/float64(m.FileBytes), irregular, m)
		})
	}
}

func BenchmarkWrite(b *testing.B) {
	records := recorded(b, "apiserver-1.36.log.zst", -1)
	path := filepath.Join(b.TempDir(), "a.parquet")
	for b.Loop() {
		m, err := Write(path, records, 1, uint64(len(records)))
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(m.RawBytes)/float64(m.FileBytes), "ratio")
		b.ReportMetric(float64(m.RawBytes)/float64(m.Rows), "bytes/event")
	}
	b.ReportMetric(float64(b.N*len(records))/b.Elapsed().Seconds(), "events/s")
	f := open(b, path)
	sizes(b, f)
}

// sizes logs where the bytes of a file are.
func sizes(tb testing.TB, f *File) {
	s := schema()
	var sum [numColumns]int
	words, blooms := 0, 0
	for _, g := range f.index.groups {
		for c := range g.columns {
			sum[c] += g.columns[c].size
			blooms += g.columns[c].bloom.size
		}
		for _, t := range g.tokens {
			words += t.size
		}
	}
	for c := range sum {
		tb.Logf("%-24s %9d", s[c].name, sum[c])
	}
	tb.Logf("words %d, blooms %d, file %d, start %d", words, blooms, f.meta.FileBytes, f.start)
}
