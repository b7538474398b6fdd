// Package file searches audit logs where they lie: plain, gzip or zstd files of one event a line, without an index. Every
// question reads the files from start to end.
package file

import (
	"bytes"
	"cmp"
	"container/heap"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"whodunit/internal/audit"
	"whodunit/internal/match"
	"whodunit/internal/source/lines"
	"whodunit/internal/store"
)

// maxValues is how many distinct values Top holds.
const maxValues = 1_000_000

// Options of a Store.
type Options struct {
	Paths   []string
	Stdin   io.Reader // what the path "-" stands for; it can be read by one question only
	Cluster string    // of every event
	// Bad is told of each line that is no event, with its 1-based number. It may be nil.
	Bad func(path string, line int64, err error)
	// Progress is told how many bytes of a file were read since it was told last. It may be nil.
	Progress func(path string, bytes int64)
}

// Store is a store.Searcher over files. Sequence numbers are places in reading order, so they hold as long as the files stay
// as they are. Search holds all its results in memory before the first is handed out, or Limit of them.
type Store struct{ o Options }

// New makes a store; files are opened by each question.
func New(o Options) *Store {
	if o.Bad == nil {
		o.Bad = func(string, int64, error) {}
	}
	if o.Progress == nil {
		o.Progress = func(string, int64) {}
	}
	return &Store{o: o}
}

// ErrTooMany is wrapped when an answer would need more memory than it may have.
var ErrTooMany = errors.New("too many distinct values")

// Search is store.Searcher's. Of an event that is there several times the last copy is shown, as of one in the journal.
func (s *Store) Search(ctx context.Context, q store.Query, yield func(*audit.Record) error) (store.Stats, error) {
	paged := q.Before != (store.Position{})
	best := newest{place: map[audit.Identity]int{}}
	stats, err := s.scan(ctx, q, func(r *audit.Record) error {
		r.Identity = r.Event.Identity()
		limit := q.Limit
		if paged {
			limit = 0 // an event in the page may yet turn out to be a copy of one before it
		}
		best.add(r, limit)
		return nil
	})
	if err != nil {
		return stats, err
	}
	found := best.records
	slices.SortFunc(found, func(a, b *audit.Record) int {
		return cmp.Or(cmp.Compare(b.Event.Micros(), a.Event.Micros()), cmp.Compare(b.Seq, a.Seq))
	})
	stats.Matched = 0
	for _, r := range found {
		if paged && !later(q.Before, at(r)) {
			continue
		}
		if q.Limit > 0 && stats.Matched == int64(q.Limit) {
			break
		}
		if err := ctx.Err(); err != nil {
			return stats, err
		}
		stats.Matched++
		if err := yield(r); err != nil {
			return stats, err
		}
	}
	return stats, nil
}

// own gives r memory of its own: what it has is shared with a whole block of lines.
func own(r *audit.Record) *audit.Record {
	e, err := audit.Parse(r.Event.Cluster, bytes.Clone(r.Event.Raw))
	if err != nil {
		return r // not after it was parsed once
	}
	c := *r
	c.Event = e
	return &c
}

func at(r *audit.Record) store.Position { return store.Position{Micros: r.Event.Micros(), Seq: r.Seq} }

// later reports whether a comes before b in the order of results.
func later(a, b store.Position) bool {
	return a.Micros > b.Micros || a.Micros == b.Micros && a.Seq > b.Seq
}

// newest is a heap whose first element is the last in the order of results.
type newest struct {
	records []*audit.Record
	place   map[audit.Identity]int // of each record in records
}

// add puts r in, in place of its earlier copy or, where limit are there already, of the last.
func (h *newest) add(r *audit.Record, limit int) {
	i, again := h.place[r.Identity]
	switch {
	case again:
		h.records[i] = own(r)
		heap.Fix(h, i)
	case limit > 0 && len(h.records) == limit:
		if !later(at(r), at(h.records[0])) {
			return
		}
		delete(h.place, h.records[0].Identity)
		h.records[0] = own(r)
		h.place[r.Identity] = 0
		heap.Fix(h, 0)
	default:
		heap.Push(h, own(r))
	}
}

func (h *newest) Len() int           { return len(h.records) }
func (h *newest) Less(i, j int) bool { return later(at(h.records[j]), at(h.records[i])) }
func (h *newest) Swap(i, j int) {
	h.records[i], h.records[j] = h.records[j], h.records[i]
	h.place[h.records[i].Identity], h.place[h.records[j].Identity] = i, j
}
func (h *newest) Push(x any) {
	r := x.(*audit.Record)
	h.place[r.Identity] = len(h.records)
	h.records = append(h.records, r)
}

// Pop is never used: the heap only grows or changes.
func (h *newest) Pop() any {
	r := h.records[len(h.records)-1]
	h.records = h.records[:len(h.records)-1]
	delete(h.place, r.Identity)
	return r
}

// Top is store.Searcher's.
func (s *Store) Top(ctx context.Context, q store.Query, fields []string, n int) ([]store.Bucket, store.Stats, error) {
	counts := map[string]int64{}
	stats, err := s.once(ctx, q, func(r *audit.Record) error {
		keys, err := store.Keys(&r.Event, fields)
		if err != nil {
			return err
		}
		for _, k := range keys {
			if _, ok := counts[k]; !ok && len(counts) == maxValues {
				return fmt.Errorf("cannot count %s: %w: over %d; narrow the search or the time", strings.Join(fields, ", "), ErrTooMany, maxValues)
			}
			counts[strings.Clone(k)]++
		}
		return nil
	})
	out := buckets(counts)
	slices.SortFunc(out, func(a, b store.Bucket) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Value, b.Value))
	})
	if n > 0 && len(out) > n {
		out = out[:n]
	}
	return out, stats, err
}

func buckets(counts map[string]int64) []store.Bucket {
	out := make([]store.Bucket, 0, len(counts))
	for v, c := range counts {
		out = append(out, store.Bucket{Value: v, Count: c})
	}
	return out
}

// Histogram is store.Searcher's.
func (s *Store) Histogram(ctx context.Context, q store.Query, width int64) ([]store.Bucket, store.Stats, error) {
	if width <= 0 {
		return nil, store.Stats{}, fmt.Errorf("cannot count by intervals of %d µs", width)
	}
	counts := map[int64]int64{}
	stats, err := s.once(ctx, q, func(r *audit.Record) error {
		t := r.Event.Micros()
		counts[t-((t%width)+width)%width]++
		return nil
	})
	var out []store.Bucket
	for t, c := range counts {
		out = append(out, store.Bucket{Value: strconv.FormatInt(t, 10), Count: c})
	}
	slices.SortFunc(out, func(a, b store.Bucket) int {
		x, _ := strconv.ParseInt(a.Value, 10, 64)
		y, _ := strconv.ParseInt(b.Value, 10, 64)
		return cmp.Compare(x, y)
	})
	return out, stats, err
}

// once hands each matching event on, the first of its copies.
func (s *Store) once(ctx context.Context, q store.Query, f func(*audit.Record) error) (store.Stats, error) {
	seen := map[audit.Identity]struct{}{}
	stats, err := s.scan(ctx, q, func(r *audit.Record) error {
		r.Identity = r.Event.Identity()
		if _, twice := seen[r.Identity]; twice {
			return nil
		}
		seen[r.Identity] = struct{}{}
		return f(r)
	})
	stats.Matched = int64(len(seen))
	return stats, err
}

// scan reads all files and hands on each matching event, without its identity. Stats.Matched is the caller's.
func (s *Store) scan(ctx context.Context, q store.Query, f func(*audit.Record) error) (store.Stats, error) {
	var stats store.Stats
	expr := q.Expr
	if expr == nil {
		expr = match.Const(true)
	}
	seq := uint64(0)
	for _, path := range s.o.Paths {
		if ctx.Err() != nil {
			return stats, ctx.Err()
		}
		err := s.each(ctx, path, func(e *audit.Event) error {
			seq++
			stats.Rows++
			if t := e.Micros(); q.From != 0 && t < q.From || q.To != 0 && t >= q.To {
				return nil
			}
			if !match.Eval(expr, e) {
				return nil
			}
			return f(&audit.Record{Seq: seq, Source: path, Event: *e})
		})
		if err != nil {
			return stats, err
		}
	}
	return stats, nil
}

// each parses one file.
func (s *Store) each(ctx context.Context, path string, f func(*audit.Event) error) (err error) {
	in := s.o.Stdin
	if path != "-" {
		file, err := os.Open(path)
		if err != nil {
			return fmt.Errorf("cannot read events: %w", err)
		}
		defer file.Close()
		in = &counting{r: file, add: func(n int64) { s.o.Progress(path, n) }}
	}
	plain, _, err := lines.Decode(in)
	if err != nil {
		return fmt.Errorf("cannot read events of %s: %w", path, err)
	}
	defer func() { err = errors.Join(err, plain.Close()) }()
	r := lines.NewReader(plain, audit.MaxEventBytes, 0)
	for n := int64(1); ; n++ {
		if n%256 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		l, err := r.Next()
		if errors.Is(err, io.EOF) {
			if l, ok := r.Rest(); ok && len(l.Bytes) > 0 {
				return s.line(path, n, l, f)
			}
			return nil
		}
		if err != nil {
			return fmt.Errorf("cannot read events of %s: %w", path, err)
		}
		if err := s.line(path, n, l, f); err != nil {
			return err
		}
	}
}

func (s *Store) line(path string, n int64, l lines.Line, f func(*audit.Event) error) error {
	if l.TooLong {
		s.o.Bad(path, n, fmt.Errorf("line of %d bytes is longer than %d", l.Size, audit.MaxEventBytes))
		return nil
	}
	if len(strings.TrimSpace(string(l.Bytes[:min(len(l.Bytes), 64)]))) == 0 {
		return nil
	}
	e, err := audit.Parse(s.o.Cluster, l.Bytes)
	if err != nil {
		s.o.Bad(path, n, err)
		return nil
	}
	return f(&e)
}

// counting tells how much is read.
type counting struct {
	r   io.Reader
	add func(int64)
}

func (c *counting) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	if n > 0 {
		c.add(int64(n))
	}
	return n, err
}
