package correlate

import (
	"bytes"
	"cmp"
	"slices"

	"whodunit/internal/finding"
	"whodunit/internal/rule"
)

// temporal is the state of temporal correlations: which rules matched when.
type temporal struct {
	last []lastOf // by place in Of, for Temporal
	// For TemporalOrdered: chains[k] is the chain of the first k+1 rules that began last, before the events of tieAt and with them.
	before, chains []*link
	tied           []entry
	tieAt          int64
}

type lastOf struct {
	e  evidence
	is bool
}

// link is the end of a chain.
type link struct {
	e     evidence
	start int64
	back  *link
}

// entry is one event and the places in Of of the rules it is true of, ascending.
type entry struct {
	e      evidence
	places []int
}

// maxTied bounds the events of one time that are put in whatever order makes a chain; more are taken as they come.
const maxTied = 32

func (t *temporal) add(p *plan, occ []occurrence) (size int) {
	x := entry{e: occ[0].evidence()}
	for i := range occ {
		x.places = append(x.places, p.positions[occ[i].rule.ID]...)
	}
	slices.Sort(x.places)
	x.places = slices.Compact(x.places)
	if p.c.Type == rule.Temporal {
		if t.last == nil {
			t.last = make([]lastOf, len(p.c.Of))
			size = len(t.last) * 2 * evidenceBytes
		}
		for _, i := range x.places {
			t.last[i] = lastOf{x.e, true}
		}
		return size
	}
	if t.chains == nil {
		t.before, t.chains = make([]*link, len(p.c.Of)), make([]*link, len(p.c.Of))
		size = len(t.chains) * 3 * evidenceBytes
	}
	if x.e.micros != t.tieAt || len(t.tied) >= maxTied {
		t.tieAt, t.tied = x.e.micros, t.tied[:0]
		copy(t.before, t.chains)
	}
	t.tied = append(t.tied, x)
	// Events of one time have no order of their own: the one that begins a chain is taken before the one that goes on.
	slices.SortStableFunc(t.tied, func(a, b entry) int {
		return cmp.Or(cmp.Compare(a.places[0], b.places[0]), bytes.Compare(a.e.id[:], b.e.id[:]))
	})
	copy(t.chains, t.before)
	for _, x := range t.tied {
		t.extend(x)
	}
	return size
}

// extend takes one event into every chain that it makes longer; a chain that began later is better.
func (t *temporal) extend(x entry) {
	for _, k := range slices.Backward(x.places) {
		l := &link{e: x.e, start: x.e.micros}
		if k > 0 {
			if t.chains[k-1] == nil {
				continue
			}
			l.back, l.start = t.chains[k-1], t.chains[k-1].start
		}
		if t.chains[k] == nil || l.start >= t.chains[k].start {
			t.chains[k] = l
		}
	}
}

// together reports whether the rules have matched since from, and gives how many of them did.
func (t *temporal) together(p *plan, from int64) (float64, []finding.Evidence, bool) {
	has := func(i int) bool { return t.last[i].is && t.last[i].e.micros >= from }
	var events []evidence
	n := 0
	for i := range t.last {
		if has(i) {
			n++
			events = append(events, t.last[i].e)
		}
	}
	var ok bool
	switch {
	case p.c.Logic != nil:
		ok = slices.ContainsFunc(p.c.Logic, func(all []int) bool {
			return !slices.ContainsFunc(all, func(i int) bool { return i < 0 || i >= len(t.last) || !has(i) })
		}) && holds(p.c.Conds, float64(n))
	case len(p.c.Conds) > 0:
		ok = holds(p.c.Conds, float64(n))
	default:
		ok = n == len(t.last)
	}
	if !ok {
		return 0, nil, false
	}
	slices.SortFunc(events, func(a, b evidence) int {
		return cmp.Or(cmp.Compare(a.micros, b.micros), bytes.Compare(a.id[:], b.id[:]))
	})
	events = slices.CompactFunc(events, func(a, b evidence) bool { return a == b })
	return float64(n), ends(events), true
}

// inOrder reports whether a chain of all rules has begun since from.
func (t *temporal) inOrder(p *plan, from int64) (float64, []finding.Evidence, bool) {
	l := t.chains[len(t.chains)-1]
	if l == nil || l.start < from {
		return 0, nil, false
	}
	var events []evidence
	for ; l != nil; l = l.back {
		events = append(events, l.e)
	}
	slices.Reverse(events)
	return float64(len(p.c.Of)), ends(events), true
}

// ends is the first ten and the last ten.
func ends(events []evidence) []finding.Evidence {
	var out []finding.Evidence
	for i := range events {
		if i < proofEnds || i >= len(events)-proofEnds {
			out = append(out, events[i].finding())
		}
	}
	return out
}
