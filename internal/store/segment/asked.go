package segmentstore

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sync/errgroup"

	"whodunit/internal/audit"
	"whodunit/internal/journal/segment"
	"whodunit/internal/match"
	"whodunit/internal/store"
)

// asked is one question under way.
type asked struct {
	store *Store
	expr  match.Expr
	node  *node
	in    span
	units []*unit // newest first

	files []bool // of each segment: it was looked into
	seen  int    // units considered so far
	rows  int64
	bad   int // blocks that could not be read

	mu      sync.Mutex
	damaged map[pageKey]int64
}

func (a *asked) stats() store.Stats {
	st := store.Stats{Rows: a.rows, Unreadable: a.bad}
	considered := make(map[int]bool)
	for _, u := range a.units[:a.seen] {
		considered[u.file] = true
	}
	for i, read := range a.files {
		if read {
			st.Segments++
		} else if considered[i] || a.seen == len(a.units) {
			st.Pruned++
		}
	}
	for k, n := range a.damaged {
		whole := k
		whole.page = wholeGroup
		if _, ok := a.damaged[whole]; !ok || k.page == wholeGroup {
			st.Damaged += n
		}
	}
	return st
}

// wholeGroup stands for all pages where damage is counted.
const wholeGroup = -1

func (a *asked) lost(k pageKey, n int64) {
	a.mu.Lock()
	a.damaged[k] = n
	a.mu.Unlock()
}

// found is what matches in one unit and one window.
type found struct {
	a    *asked
	u    *unit
	cols *columns // of a group
	rows rowset   // of a group
	// records instead, of a block or a damaged group
	records []audit.Record

	keeper *segment.Keeper
	pages  []segment.RawPage
}

// look finds the events of the unit that match within the time.
func (a *asked) look(ctx context.Context, u *unit, w span) (*found, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if u.block != nil {
		return a.lookBlock(u, w)
	}
	f, err := a.lookGroup(ctx, u, w)
	if errors.Is(err, segment.ErrCorrupt) {
		return a.lookSlow(ctx, u, w)
	}
	return f, err
}

// lookSlow goes by the raw events alone, because a column is damaged.
func (a *asked) lookSlow(ctx context.Context, u *unit, w span) (*found, error) {
	records, damaged, err := u.group.Records(ctx)
	if err != nil {
		return nil, fmt.Errorf("cannot search the journal: %w", err)
	}
	if damaged > 0 {
		low, _ := u.group.Seqs()
		a.lost(pageKey{u.group.Path(), low, wholeGroup}, damaged)
	}
	a.files[u.file] = true
	return a.among(u, records, w), nil
}

func (a *asked) lookBlock(u *unit, w span) (*found, error) {
	records, damaged, err := u.block.Load()
	if err != nil {
		a.bad++
		return &found{a: a, u: u}, nil //nolint:nilerr // counted as damage in the answer
	}
	if damaged > 0 {
		a.lost(pageKey{group: u.block.First}, damaged)
	}
	return a.among(u, records, w), nil
}

func (a *asked) among(u *unit, records []audit.Record, w span) *found {
	a.rows += int64(len(records))
	f := &found{a: a, u: u}
	for i := range records {
		ev := &records[i].Event
		if w.has(ev.Micros()) && match.Eval(a.expr, ev) {
			f.records = append(f.records, records[i])
		}
	}
	return f
}

func (a *asked) lookGroup(ctx context.Context, u *unit, w span) (*found, error) {
	g := u.group
	f := &found{a: a, u: u, cols: newColumns(g), rows: newRows(g.Rows())}
	possible := a.node.possible(g)
	if !possible && g.Irregular() == 0 {
		return f, nil
	}
	a.rows += int64(g.Rows())
	defer func() { a.files[u.file] = a.files[u.file] || f.cols.read }()
	alive := allRows(g.Rows())
	if !w.covers(u) {
		times, err := f.cols.time()
		if err != nil {
			return nil, err
		}
		clear(alive)
		for i, t := range times {
			if w.has(t) {
				alive.add(i)
			}
		}
	}
	odd, err := f.cols.irregular()
	if err != nil {
		return nil, err
	}
	odd.and(alive)
	alive.without(odd)
	maybe := newRows(g.Rows())
	if possible {
		if f.rows, maybe, err = a.node.eval(f.cols, alive); err != nil {
			return nil, err
		}
	}
	maybe.or(odd)
	if !maybe.empty() {
		if err := f.decide(ctx, maybe); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// decide adds those of the rows whose raw event matches.
func (f *found) decide(ctx context.Context, maybe rowset) error {
	cluster, err := f.cols.text(segment.Cluster)
	if err != nil {
		return err
	}
	f.cols.read = true
	f.pages = f.u.group.RawPages()
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(f.a.store.workers)
	var mu sync.Mutex
	for i, p := range f.pages {
		if !maybe.within(p.First, p.First+p.Rows) {
			continue
		}
		g.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			raws, err := f.page(i)
			if err != nil {
				return err
			}
			var yes []int
			for j, raw := range raws {
				if row := p.First + j; maybe.has(row) {
					ev, err := audit.Parse(cluster.At(row), raw)
					if err == nil && match.Eval(f.a.expr, &ev) {
						yes = append(yes, row)
					}
				}
			}
			mu.Lock()
			defer mu.Unlock()
			for _, row := range yes {
				f.rows.add(row)
			}
			return nil
		})
	}
	return g.Wait()
}

// page gives the raw events of a page, by way of the cache; none, and counted, where it is damaged.
func (f *found) page(i int) ([][]byte, error) {
	low, _ := f.u.group.Seqs()
	k := pageKey{f.u.group.Path(), low, i}
	c := f.a.store.cache
	if raws := c.get(k); raws != nil {
		f.a.store.metrics.pagesFound.Inc()
		return raws, nil
	}
	f.a.store.metrics.pagesRead.Inc()
	raws, err := f.u.group.RawPage(i)
	if errors.Is(err, segment.ErrCorrupt) {
		f.a.lost(k, int64(f.pages[i].Rows))
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot search the journal: %w", err)
	}
	c.put(k, raws, int64(f.pages[i].Bytes))
	return raws, nil
}

// raw gives the raw event of a row; nil where it is damaged.
func (f *found) raw(row int) ([]byte, error) {
	if f.pages == nil {
		f.pages = f.u.group.RawPages()
	}
	lo, hi := 0, len(f.pages)-1
	for lo < hi {
		if mid := (lo + hi + 1) / 2; f.pages[mid].First <= row {
			lo = mid
		} else {
			hi = mid - 1
		}
	}
	raws, err := f.page(lo)
	if err != nil || raws == nil {
		return nil, err
	}
	return raws[row-f.pages[lo].First], nil
}
