// Package segmentstore searches the journal: its Parquet segments and its head that is not sealed yet.
//
// A question is answered group by group (a row group of a segment, a block of the head), newest first. What bloom filters,
// bounds and word filters rule out is not read; predicates on columns are evaluated once for each distinct value of a
// group; only for the rows that this leaves undecided the raw event is read and asked. So an answer is always that of match.Eval.
//
// Memory, for each question: the columns of one group that it names (some hundred kilobytes each), 24 bytes for each match of
// a window of some 2 million events, as many identities where groups overlap in time, and the events of a block of the head or
// of a damaged group while it is looked into. Shared by all: the cache of raw pages (Options.CacheBytes).
package segmentstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strconv"
	"time"

	"whodunit/internal/audit"
	"whodunit/internal/journal"
	"whodunit/internal/store"
)

// Source gives what is to be searched. Search closes the snapshot.
type Source interface {
	Snapshot() (*journal.Snapshot, error)
}

// Options of New. Zero values take the defaults.
type Options struct {
	CacheBytes int64 // of decompressed raw pages; default 128 MiB
	Workers    int   // goroutines that one question reads raw pages with; default GOMAXPROCS
	Distinct   bool  // the source holds each event once, as a journal does (docs/adr/0007): counts need not look for copies
	Metrics    *Metrics
	Now        func() time.Time // for the metrics alone; default time.Now
}

// Store answers questions over the journal. Safe for concurrent use.
type Store struct {
	source  Source
	workers int
	cache   *cache
	metrics *Metrics
	now     func() time.Time
	window  float64 // windowRows, but for tests

	distinct bool
}

var _ store.Searcher = (*Store)(nil)

// New makes a store over source.
func New(source Source, o Options) *Store {
	if o.CacheBytes <= 0 {
		o.CacheBytes = 128 << 20
	}
	if o.Workers <= 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	if o.Metrics == nil {
		o.Metrics = NewMetrics(nil)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Store{source: source, metrics: o.Metrics, now: o.Now, workers: o.Workers, cache: newCache(o.CacheBytes), window: windowRows, distinct: o.Distinct}
}

// maxValues is how many distinct values Top holds at most.
const maxValues = 1_000_000

func (s *Store) ask(ctx context.Context, q *store.Query, in span) (*asked, func(), error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	snap, err := s.source.Snapshot()
	if err != nil {
		return nil, nil, fmt.Errorf("cannot search the journal: %w", err)
	}
	a := &asked{store: s, expr: q.Expr, node: compile(q.Expr), in: in, files: make([]bool, len(snap.Segments)), damaged: map[pageKey]int64{}}
	a.units = units(snap, in)
	return a, snap.Close, nil
}

// Search is as store.Searcher says.
func (s *Store) Search(ctx context.Context, q store.Query, yield func(*audit.Record) error) (st store.Stats, err error) {
	begin := s.now()
	defer func() { s.metrics.count("search", begin, s.now(), st) }()
	in := bounds(&q, true)
	a, done, err := s.ask(ctx, &q, in)
	if err != nil {
		return store.Stats{}, err
	}
	defer done()
	r := &ranking{a: a, q: &q, yield: yield}
	if in.from <= in.to {
		for _, w := range windows(a.units, in, s.window) {
			if err = r.window(ctx, w); err != nil || r.full() {
				break
			}
		}
	}
	st = a.stats()
	st.Matched = r.shown
	if errors.Is(err, errFull) {
		err = nil
	}
	return st, err
}

// Top is as store.Searcher says. Several fields of which some are lists count each combination of their values.
func (s *Store) Top(ctx context.Context, q store.Query, fields []string, n int) ([]store.Bucket, store.Stats, error) {
	t := newTop(fields)
	begin := s.now()
	st, err := s.aggregate(ctx, &q, t)
	s.metrics.count("top", begin, s.now(), st)
	if err != nil {
		return nil, st, err
	}
	out := make([]store.Bucket, 0, len(t.counts))
	for v, c := range t.counts {
		out = append(out, store.Bucket{Value: v, Count: c})
	}
	slices.SortFunc(out, func(a, b store.Bucket) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Value, b.Value))
	})
	if n > 0 && len(out) > n {
		out = out[:n:n]
	}
	return out, st, nil
}

// Histogram is as store.Searcher says.
func (s *Store) Histogram(ctx context.Context, q store.Query, width int64) ([]store.Bucket, store.Stats, error) {
	if width <= 0 {
		return nil, store.Stats{}, fmt.Errorf("cannot make a histogram of intervals of %d microseconds", width)
	}
	h := &histogram{width: width, counts: map[int64]int64{}}
	begin := s.now()
	st, err := s.aggregate(ctx, &q, h)
	s.metrics.count("histogram", begin, s.now(), st)
	if err != nil {
		return nil, st, err
	}
	starts := make([]int64, 0, len(h.counts))
	for at := range h.counts {
		starts = append(starts, at)
	}
	slices.Sort(starts)
	out := make([]store.Bucket, 0, len(starts))
	for _, at := range starts {
		out = append(out, store.Bucket{Value: strconv.FormatInt(at, 10), Count: h.counts[at]})
	}
	return out, st, nil
}

// floor is the start of the interval that t is in; intervals are aligned to 0, before 1970 too.
func floor(t, width int64) int64 {
	r := t % width
	if r < 0 {
		r += width
	}
	if t < math.MinInt64+r {
		return math.MinInt64
	}
	return t - r
}
