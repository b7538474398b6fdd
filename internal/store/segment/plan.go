package segmentstore

import (
	"cmp"
	"math"
	"slices"

	"whodunit/internal/journal"
	"whodunit/internal/journal/segment"
	"whodunit/internal/store"
)

// windowRows is about how many events one window of time holds: what bounds the places and identities that a question keeps.
const windowRows = 2 << 20

// unit is what is looked into as a whole: a row group of a segment, or a block of the head.
type unit struct {
	file           int // place in Snapshot.Segments; -1: the head
	group          *segment.Group
	block          *journal.Block
	oldest, newest int64
	rows           int
	unique         bool
}

// span is a run of event times, both ends inclusive.
type span struct{ from, to int64 }

func (s span) has(t int64) bool     { return s.from <= t && t <= s.to }
func (s span) covers(u *unit) bool  { return s.from <= u.oldest && u.newest <= s.to }
func (s span) touches(u *unit) bool { return s.from <= u.newest && u.oldest <= s.to }

// bounds is the time that q asks for.
func bounds(q *store.Query, paged bool) span {
	s := span{math.MinInt64, math.MaxInt64}
	if q.From != 0 {
		s.from = q.From
	}
	if q.To != 0 {
		s.to = q.To - 1
	}
	if paged && q.Before != (store.Position{}) {
		s.to = min(s.to, q.Before.Micros)
	}
	return s
}

// units lists what may hold events of the time, newest first.
func units(snap *journal.Snapshot, in span) []*unit {
	var out []*unit
	add := func(u *unit) {
		if in.touches(u) && u.rows > 0 {
			out = append(out, u)
		}
	}
	for i, f := range snap.Segments {
		groups := f.Groups()
		for j := range groups {
			g := &groups[j]
			u := &unit{file: i, group: g, rows: g.Rows(), unique: g.Unique()}
			u.oldest, u.newest = g.Times()
			add(u)
		}
	}
	for i := range snap.Head {
		b := &snap.Head[i]
		add(&unit{file: -1, block: b, oldest: min(b.MinMicros, 0), newest: max(b.MaxMicros, 0), rows: int(b.Last-b.First) + 1})
	}
	slices.SortFunc(out, func(a, b *unit) int { return cmp.Or(cmp.Compare(b.newest, a.newest), cmp.Compare(b.oldest, a.oldest)) })
	return out
}

// edge is a time at which units begin or end.
type edge struct {
	at    int64
	depth int
	rate  float64 // events per microsecond
}

// contested are the times of which more than one unit may hold events, and those of units that hold some event twice: only
// there an event can come again. In ascending order.
func contested(us []*unit) []span {
	edges := make([]edge, 0, 2*len(us))
	for _, u := range us {
		d := 1
		if !u.unique {
			d = 2
		}
		edges = append(edges, edge{at: u.oldest, depth: d}, edge{at: u.newest, depth: -d})
	}
	// what begins at a time comes before what ends there: both ends are inclusive
	slices.SortFunc(edges, func(a, b edge) int { return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(b.depth, a.depth)) })
	var out []span
	depth := 0
	for _, e := range edges {
		was := depth
		depth += e.depth
		switch {
		case was < 2 && depth >= 2:
			if n := len(out); n > 0 && out[n-1].to == e.at {
				out[n-1].to = math.MaxInt64
			} else {
				out = append(out, span{e.at, math.MaxInt64})
			}
		case was >= 2 && depth < 2:
			out[len(out)-1].to = e.at
		}
	}
	return out
}

// windows cuts the time into pieces of about windowRows events, newest first, taking each unit's events as evenly spread. Equal
// times are in one window.
func windows(us []*unit, in span, limit float64) []span {
	total := 0.0
	edges := make([]edge, 0, 2*len(us))
	for _, u := range us {
		total += float64(u.rows)
		rate := float64(u.rows) / (float64(u.newest) - float64(u.oldest) + 1)
		edges = append(edges, edge{at: u.newest, rate: rate}, edge{at: u.oldest, rate: -rate})
	}
	if total <= limit {
		return []span{in}
	}
	slices.SortFunc(edges, func(a, b edge) int { return cmp.Or(cmp.Compare(b.at, a.at), cmp.Compare(b.rate, a.rate)) })
	var out []span
	top, rate, have := in.to, 0.0, 0.0
	cut := func(at int64) {
		if at > in.from && at <= top {
			out = append(out, span{at, top})
			top = at - 1
		}
		have = 0
	}
	for i, e := range edges {
		if i > 0 {
			at := edges[i-1].at
			for gap := float64(at) - float64(e.at); rate > 0 && have+rate*gap > limit; {
				step := max(1, (limit-have)/rate)
				at -= int64(min(step, gap))
				gap = float64(at) - float64(e.at)
				cut(at)
				if gap <= 0 {
					break
				}
			}
			have += max(0, rate*(float64(at)-float64(e.at)))
		}
		rate += e.rate
	}
	return append(out, span{in.from, top})
}
