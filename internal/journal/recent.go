package journal

import "whodunit/internal/audit"

// recent remembers the identities of the last events, so that a webhook's retry or a file read twice is dropped. It holds two
// generations: when the younger is full, the older is forgotten. Not safe for concurrent use.
type recent struct {
	limit     int // events a generation
	cur, old  generation
	fromSeq   uint64 // every event with this sequence number or a higher one is remembered
	trackKeys bool
}

type generation struct {
	ids   map[audit.Identity]struct{}
	keys  map[[8]byte]struct{} // audit.Event.RequestKey
	first uint64               // sequence number of its first event
}

func newRecent(events int, trackKeys bool, next uint64) *recent {
	r := &recent{limit: max(events/2, 1), trackKeys: trackKeys, fromSeq: next}
	r.cur = r.generation(next)
	r.old = r.generation(next)
	return r
}

func (r *recent) generation(first uint64) generation {
	return generation{ids: map[audit.Identity]struct{}{}, keys: map[[8]byte]struct{}{}, first: first}
}

func (r *recent) has(id audit.Identity) bool {
	_, a := r.cur.ids[id]
	if !a {
		_, a = r.old.ids[id]
	}
	return a
}

func (r *recent) hasKey(k [8]byte) bool {
	_, a := r.cur.keys[k]
	if !a {
		_, a = r.old.keys[k]
	}
	return a
}

// add remembers a durable event. Sequence numbers come in rising order.
func (r *recent) add(seq uint64, id audit.Identity, key [8]byte) {
	if len(r.cur.ids) >= r.limit {
		r.fromSeq = r.cur.first
		r.old, r.cur = r.cur, r.generation(seq)
	}
	r.cur.ids[id] = struct{}{}
	if r.trackKeys {
		r.cur.keys[key] = struct{}{}
	}
}
