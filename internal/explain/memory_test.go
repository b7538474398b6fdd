package explain

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"whodunit/internal/audit"
	"whodunit/internal/match"
	"whodunit/internal/store"
)

// memory is the plainest store.Searcher: a slice.
type memory []*audit.Record

func (m memory) matching(q store.Query) []*audit.Record {
	var out []*audit.Record
	for _, r := range m {
		t := r.Event.Micros()
		if (q.From == 0 || t >= q.From) && (q.To == 0 || t < q.To) && match.Eval(q.Expr, &r.Event) {
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(a, b *audit.Record) int {
		return cmp.Or(cmp.Compare(b.Event.Micros(), a.Event.Micros()), cmp.Compare(b.Seq, a.Seq))
	})
	return out
}

func (m memory) Search(_ context.Context, q store.Query, yield func(*audit.Record) error) (store.Stats, error) {
	st := store.Stats{Rows: int64(len(m))}
	for _, r := range m.matching(q) {
		if q.Limit > 0 && st.Matched == int64(q.Limit) {
			break
		}
		st.Matched++
		if err := yield(r); err != nil {
			return st, err
		}
	}
	return st, nil
}

func (m memory) Top(_ context.Context, q store.Query, fields []string, n int) ([]store.Bucket, store.Stats, error) {
	count := map[string]int64{}
	found := m.matching(q)
	for _, r := range found {
		keys := []string{""}
		for i, f := range fields {
			values := slices.Collect(match.Values(&r.Event, f))
			slices.Sort(values)
			if values = slices.Compact(values); len(values) == 0 {
				values = []string{""}
			}
			var next []string
			for _, k := range keys {
				for _, v := range values {
					if i > 0 {
						v = k + "\t" + v
					}
					next = append(next, v)
				}
			}
			keys = next
		}
		for _, k := range keys {
			count[k]++
		}
	}
	var out []store.Bucket
	for v, c := range count {
		out = append(out, store.Bucket{Value: v, Count: c})
	}
	slices.SortFunc(out, func(a, b store.Bucket) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Value, b.Value))
	})
	if n > 0 && len(out) > n {
		out = out[:n]
	}
	return out, store.Stats{Matched: int64(len(found)), Rows: int64(len(m))}, nil
}

func (m memory) Histogram(context.Context, store.Query, int64) ([]store.Bucket, store.Stats, error) {
	return nil, store.Stats{}, fmt.Errorf("not in this test")
}

func shared(t testing.TB, name string) string {
	dir := os.Getenv("WHODUNIT_SHARED")
	if dir == "" {
		dir = "../../../shared"
	}
	path := filepath.Join(dir, "data", "audit", name)
	if _, err := os.Stat(path); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip("SKIPPED: no recorded events: ", err)
	}
	return path
}

// recordedEvents is the real cluster's log.
func recordedEvents(t testing.TB) memory { return recordedFile(t, "apiserver-1.36.log.zst") }

func recordedFile(t testing.TB, name string) memory {
	f, err := os.Open(shared(t, name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := zstd.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	var m memory
	lines := bufio.NewScanner(z)
	lines.Buffer(nil, audit.MaxEventBytes)
	for lines.Scan() {
		m = append(m, record(t, len(m)+1, lines.Text()))
	}
	if lines.Err() != nil {
		t.Fatal(lines.Err())
	}
	return m
}

func record(t testing.TB, seq int, line string) *audit.Record {
	t.Helper()
	ev, err := audit.Parse("", []byte(line))
	if err != nil {
		t.Fatalf("%.200s: %v", line, err)
	}
	return &audit.Record{Seq: uint64(seq), Event: ev}
}

func events(t testing.TB, lines ...string) memory {
	var m memory
	for i, l := range lines {
		m = append(m, record(t, i+1, l))
	}
	return m
}

func ask(t testing.TB, s store.Searcher, verb Verb, ns string, object ...string) []*Act {
	t.Helper()
	o, err := ParseObject(ns, object...)
	if err != nil {
		t.Fatal(err)
	}
	acts, cut, _, err := Question{Verb: verb, Object: o}.Acts(context.Background(), s, store.Query{}, 0)
	if err != nil || cut {
		t.Fatal(cut, err)
	}
	return acts
}

func lines(acts []*Act) string {
	var b strings.Builder
	for _, a := range acts {
		b.WriteString(a.Line() + "\n")
	}
	return b.String()
}
