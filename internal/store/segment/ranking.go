package segmentstore

import (
	"bytes"
	"cmp"
	"container/heap"
	"context"
	"errors"
	"fmt"
	"slices"

	"whodunit/internal/audit"
	"whodunit/internal/journal/segment"
	"whodunit/internal/store"
)

// errFull ends a search that has shown as much as was asked for.
var errFull = errors.New("limit reached")

// place is where a match stands.
type place struct {
	micros int64
	seq    uint64
	row    int // of its group, or the index of its record
}

func (p place) less(o place) int {
	return cmp.Or(cmp.Compare(o.micros, p.micros), cmp.Compare(o.seq, p.seq))
}

// cursor hands out the matches of one unit in order.
type cursor struct {
	f      *found
	places []place
}

type cursors []*cursor

func (c cursors) Len() int           { return len(c) }
func (c cursors) Less(i, j int) bool { return c[i].places[0].less(c[j].places[0]) < 0 }
func (c cursors) Swap(i, j int)      { c[i], c[j] = c[j], c[i] }
func (c *cursors) Push(x any)        { *c = append(*c, x.(*cursor)) }
func (c *cursors) Pop() any {
	last := len(*c) - 1
	x := (*c)[last]
	(*c)[last] = nil
	*c = (*c)[:last]
	return x
}

// ranking merges the matches of all units into the order of store.Position.
type ranking struct {
	a     *asked
	q     *store.Query
	yield func(*audit.Record) error
	shown int64
}

func (r *ranking) full() bool { return r.q.Limit > 0 && r.shown >= int64(r.q.Limit) }

// window shows the matches of one window of time. A match is shown as soon as no unit that is not looked into yet can
// hold a newer one.
func (r *ranking) window(ctx context.Context, w span) error {
	var open cursors
	var us []*unit
	for _, u := range r.a.units {
		if w.touches(u) {
			us = append(us, u)
		}
	}
	for len(us) > 0 || len(open) > 0 {
		if len(us) > 0 && (len(open) == 0 || open[0].places[0].micros <= us[0].newest) {
			f, err := r.a.look(ctx, us[0], w)
			if err != nil {
				return err
			}
			r.a.seen = max(r.a.seen, slices.Index(r.a.units, us[0])+1)
			us = us[1:]
			c, err := r.cursor(ctx, f, w)
			if err != nil {
				return err
			}
			if c != nil {
				heap.Push(&open, c)
			}
			continue
		}
		if err := r.show(ctx, &open); err != nil {
			return err
		}
	}
	return nil
}

func (r *ranking) cursor(ctx context.Context, f *found, w span) (*cursor, error) {
	places, err := f.places()
	if errors.Is(err, segment.ErrCorrupt) {
		if f, err = r.a.lookSlow(ctx, f.u, w); err == nil {
			places, err = f.places()
		}
	}
	if err != nil || len(places) == 0 {
		return nil, err
	}
	slices.SortFunc(places, place.less)
	return &cursor{f, places}, nil
}

// show hands out all matches of the newest time, each event once.
func (r *ranking) show(ctx context.Context, open *cursors) error {
	micros := (*open)[0].places[0].micros
	type one struct {
		f *found
		place
	}
	var run []one
	for len(*open) > 0 && (*open)[0].places[0].micros == micros {
		c := (*open)[0]
		run = append(run, one{c.f, c.places[0]})
		if c.places = c.places[1:]; len(c.places) == 0 {
			heap.Pop(open)
		} else {
			heap.Fix(open, 0)
		}
	}
	var seen map[audit.Identity]bool
	if len(run) > 1 {
		seen = make(map[audit.Identity]bool, len(run))
	}
	for _, o := range run {
		if err := ctx.Err(); err != nil {
			return err
		}
		rec, err := o.f.record(o.row)
		if err != nil {
			return err
		}
		if rec == nil || seen[rec.Identity] {
			continue
		}
		if seen != nil {
			seen[rec.Identity] = true
		}
		if b := r.q.Before; b != (store.Position{}) && micros == b.Micros && o.seq >= b.Seq {
			continue // shown on an earlier page
		}
		r.shown++
		if err := r.yield(rec); err != nil {
			return err
		}
		if r.full() {
			return errFull
		}
	}
	return nil
}

// places lists where the matches stand.
func (f *found) places() ([]place, error) {
	if f.u.block != nil || f.records != nil {
		out := make([]place, len(f.records))
		for i := range f.records {
			out[i] = place{f.records[i].Event.Micros(), f.records[i].Seq, i}
		}
		return out, nil
	}
	if f.rows == nil || f.rows.empty() {
		return nil, nil
	}
	times, err := f.cols.time()
	if err != nil {
		return nil, err
	}
	seqs, err := f.u.group.Numbers(segment.Seq)
	if err != nil {
		return nil, err
	}
	out := make([]place, 0, f.rows.count())
	f.rows.rows(func(i int) { out = append(out, place{times[i], uint64(seqs[i]), i}) })
	return out, nil
}

// record makes the record of a match, in memory of its own; nil where its raw event is damaged.
func (f *found) record(row int) (*audit.Record, error) {
	if f.records != nil {
		return &f.records[row], nil
	}
	if f.keeper == nil {
		k, err := f.u.group.Keeper()
		if errors.Is(err, segment.ErrCorrupt) {
			low, _ := f.u.group.Seqs()
			f.a.lost(pageKey{f.u.group.Path(), low, wholeGroup}, int64(f.u.rows))
			return nil, nil
		}
		if err != nil {
			return nil, fmt.Errorf("cannot search the journal: %w", err)
		}
		f.keeper, f.cols = k, nil // the columns are not needed any more
	}
	raw, err := f.raw(row)
	if err != nil || raw == nil {
		return nil, err
	}
	rec, err := f.keeper.Record(row, bytes.Clone(raw))
	if err != nil {
		low, _ := f.u.group.Seqs()
		f.a.lost(pageKey{f.u.group.Path(), low, -2 - row}, 1)
		return nil, nil //nolint:nilerr // counted as damage in the answer
	}
	return &rec, nil
}
