package segmentstore

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"whodunit/internal/audit"
	"whodunit/internal/journal/segment"
	"whodunit/internal/match"
	"whodunit/internal/store"
)

const million = 1_000_000

func recorded(tb testing.TB, name string) [][]byte {
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
	return bytes.Split(bytes.TrimSuffix(b, []byte("\n")), []byte("\n"))
}

// again is the event with another auditID and another time.
func again(raw []byte, turn int, shift time.Duration) []byte {
	ev, err := audit.Parse("prod", raw)
	if err != nil {
		panic(err)
	}
	out := bytes.Clone(raw)
	if i := bytes.Index(out, []byte(ev.AuditID)); i >= 0 && len(ev.AuditID) == 36 {
		copy(out[i:], fmt.Sprintf("%08x", uint32(turn+1)*2654435761^hex(ev.AuditID[:8])))
	}
	for _, m := range []int64{ev.ReceivedMicros, ev.StageMicros} {
		const form = "2006-01-02T15:04:05.000000Z"
		t := time.UnixMicro(m).UTC()
		out = bytes.ReplaceAll(out, []byte(t.Format(form)), []byte(t.Add(shift).Format(form)))
	}
	return out
}

func hex(s string) (n uint32) {
	_, _ = fmt.Sscanf(s, "%08x", &n)
	return n
}

// millionEvents makes segments of about 64 MB of events each, and their merger, once for all runs in WHODUNIT_BENCH_DIR.
func millionEvents(tb testing.TB) (parts, merged *fixed, id string) {
	tb.Helper()
	dir := os.Getenv("WHODUNIT_BENCH_DIR")
	if dir == "" {
		dir = tb.TempDir()
	}
	whole := filepath.Join(dir, "merged.parquet")
	if _, err := os.Stat(whole); err != nil {
		makeMillion(tb, dir, whole)
	}
	parts, merged = &fixed{}, &fixed{files: []*segment.File{open(tb, whole)}}
	names, _ := filepath.Glob(filepath.Join(dir, "part*.parquet"))
	for _, n := range names {
		parts.files = append(parts.files, open(tb, n))
	}
	groups := merged.files[0].Groups()
	t, err := groups[len(groups)/2].Texts(segment.AuditID)
	if err != nil {
		tb.Fatal(err)
	}
	return parts, merged, t.At(1234)
}

func makeMillion(tb testing.TB, dir, whole string) {
	lines := recorded(tb, "load-1.36.log.zst")
	var batch []audit.Record
	var sources []string
	size, written := 0, time.Duration(0)
	flush := func() {
		path := filepath.Join(dir, fmt.Sprintf("part%03d.parquet", len(sources)))
		begin := time.Now()
		write(tb, path, batch)
		written += time.Since(begin)
		sources = append(sources, path)
		batch, size = batch[:0], 0
	}
	for i := range million {
		raw := again(lines[i%len(lines)], i/len(lines), time.Duration(i/len(lines))*time.Hour)
		ev, err := audit.Parse("prod", raw)
		if err != nil {
			tb.Fatal(err)
		}
		batch = append(batch, audit.Record{Seq: uint64(i + 1), IngestedMicros: ev.Micros(), Source: "webhook", Identity: ev.Identity(), Event: ev})
		if size += len(raw); size >= 64<<20 {
			flush()
		}
	}
	flush()
	begin := time.Now()
	m, err := segment.Merge(whole, sources)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Logf("wrote in %v, merged in %v: %+v", written, time.Since(begin), m)
}

func is(path, v string) match.Expr {
	return &match.Pred{Path: path, Op: match.Equal, Values: []string{v}}
}

func BenchmarkMillion(b *testing.B) {
	parts, merged, id := millionEvents(b)
	for _, form := range []struct {
		name   string
		source *fixed
	}{{"parts", parts}, {"merged", merged}} {
		s := New(form.source, Options{})
		search := func(name string, q store.Query) {
			b.Run(form.name+"/"+name, func(b *testing.B) {
				b.ReportAllocs()
				var st store.Stats
				for b.Loop() {
					var err error
					if st, err = s.Search(b.Context(), q, func(*audit.Record) error { return nil }); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(st.Matched), "matched")
				b.ReportMetric(float64(st.Rows), "rows")
			})
		}
		search("auditID", store.Query{Expr: is("auditID", id)})
		search("delete-secrets-50", store.Query{Expr: match.And{is("verb", "delete"), is("objectRef.resource", "secrets")}, Limit: 50})
		search("delete-secrets", store.Query{Expr: match.And{is("verb", "delete"), is("objectRef.resource", "secrets")}})
		search("newest-50", store.Query{Limit: 50})
		search("text-id", store.Query{Expr: &match.Text{Word: match.Fold(id)}})
		search("text-secrets-50", store.Query{Expr: &match.Text{Word: "secrets"}, Limit: 50})
		search("body-absent", store.Query{Expr: is("requestObject.spec.containers.image", "evil.example/miner:latest")})
		search("403-50", store.Query{Expr: is("responseStatus.code", "403"), Limit: 50})
		top := func(name string, q store.Query, fields ...string) {
			b.Run(form.name+"/top-"+name, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if _, _, err := s.Top(b.Context(), q, fields, 10); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
		top("users", store.Query{}, "user.username")
		top("users-verbs", store.Query{}, "user.username", "verb")
		top("users-of-403", store.Query{Expr: is("responseStatus.code", "403")}, "user.username")
		b.Run(form.name+"/histogram", func(b *testing.B) {
			for b.Loop() {
				if _, _, err := s.Histogram(b.Context(), store.Query{}, 60_000_000); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	b.Logf("heap in use %d MB", m.HeapInuse>>20)
}
