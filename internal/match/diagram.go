package match

import "slices"

// item is an expression that is still open, and what is left of it.
type item struct{ root, node int32 }

// state is a set of open expressions, and the field that is asked next.
type state struct {
	field    int32
	from, to uint32 // of items
}

type edge struct {
	key   uint64 // state and class; 0: free
	next  int32
	comes int32 // place in ends of what comes out true; 0: nothing
}

// diagram is the states that a Matcher has met. State 0 is the end: nothing is open.
type diagram struct {
	first   []item  // what is open at the beginning
	always  []int32 // expressions that are true whatever the event
	root    int32
	nodes   *nodes
	states  []state
	items   []item
	accepts []int32
	ends    []uint32 // of parts of accepts
	table   []int32  // hash table of states
	edges   []edge   // hash table
	n       int      // of edges
	least   int      // bytes when it is begun
	asked   uint64   // events since then
	frozen  uint64   // events for which it stays as it is, because it filled up too fast
	full    bool     // to be begun anew before the next event

	open []item // scratch
}

func newDiagram(e *Engine) *diagram {
	d := &diagram{nodes: newNodes(e.nodes)}
	for _, r := range e.roots {
		switch r.node {
		case nodeTrue:
			d.always = append(d.always, r.root)
		case nodeFalse:
		default:
			d.first = append(d.first, r)
		}
	}
	d.begin()
	return d
}

// begin forgets all states.
func (d *diagram) begin() {
	d.nodes.reset()
	d.states, d.items, d.accepts = append(d.states[:0], state{field: -1}), slices.Grow(d.items[:0], 16*len(d.first)), d.accepts[:0]
	d.ends = append(d.ends[:0], 0)
	d.table, d.edges, d.n = make([]int32, 1024), make([]edge, 1024), 0
	d.full, d.asked, d.frozen = false, 0, 0
	d.root = d.intern(d.first)
	d.least = d.bytes()
}

func (d *diagram) bytes() int {
	return d.nodes.bytes() + 12*len(d.states) + 8*len(d.items) + 4*(len(d.accepts)+len(d.table)) + 16*len(d.edges) + 4*len(d.ends)
}

func hashItems(l []item) uint64 {
	h := uint64(len(l))
	for _, it := range l {
		h = hashMix(h, uint64(uint32(it.root))<<32|uint64(uint32(it.node)))
	}
	return h ^ h>>32
}

// intern is the state of these open expressions, which are in order of root.
func (d *diagram) intern(open []item) int32 {
	if len(open) == 0 {
		return 0
	}
	mask := uint64(len(d.table) - 1)
	i := hashItems(open) & mask
	for ; d.table[i] != 0; i = (i + 1) & mask {
		if st := d.states[d.table[i]]; slices.Equal(d.items[st.from:st.to], open) {
			return d.table[i]
		}
	}
	id, from := int32(len(d.states)), uint32(len(d.items))
	if len(d.items)+len(open) > cap(d.items) {
		d.items = slices.Grow(d.items, len(d.items)+len(open)) // twice as much
	}
	d.items = append(d.items, open...)
	rank := noRank
	for _, it := range open {
		rank = min(rank, d.nodes.at(it.node).rank)
	}
	d.states = append(d.states, state{rank, from, uint32(len(d.items))})
	d.table[i] = id
	if 2*len(d.states) > len(d.table) {
		d.table = make([]int32, 4*len(d.table))
		mask = uint64(len(d.table) - 1)
		for id := 1; id < len(d.states); id++ {
			st := d.states[id]
			i := hashItems(d.items[st.from:st.to]) & mask
			for d.table[i] != 0 {
				i = (i + 1) & mask
			}
			d.table[i] = int32(id)
		}
	}
	return id
}

func edgeKey(s, class int32) uint64 { return uint64(uint32(s))<<32 | uint64(uint32(class)) }

func edgeHash(key uint64) uint64 { return key * 0x9E3779B97F4A7C15 >> 32 }

// step is what follows state s for a class, if that is known.
func (d *diagram) step(s, class int32) (next int32, accepts []int32, ok bool) {
	key, mask := edgeKey(s, class), uint64(len(d.edges)-1)
	for i := edgeHash(key) & mask; d.edges[i].key != 0; i = (i + 1) & mask {
		if e := &d.edges[i]; e.key == key {
			if e.comes == 0 {
				return e.next, nil, true
			}
			return e.next, d.accepts[d.ends[e.comes-1]:d.ends[e.comes]], true
		}
	}
	return 0, nil, false
}

// learn makes the step from state s, whose field's truths are given.
func (d *diagram) learn(s, class int32, truth []uint32, gen uint32) (next int32, accepts []int32) {
	st := d.states[s]
	d.open = d.open[:0]
	from := len(d.accepts)
	for _, it := range d.items[st.from:st.to] {
		n := d.nodes.at(it.node)
		if n.rank != st.field {
			d.open = append(d.open, it)
			continue
		}
		if n.gate >= 0 && truth[n.gate] != gen { // what most come to
			continue
		}
		left := nodeTrue
		switch n.kind {
		case leafNode:
		case andNode:
			left = d.nodes.opened(it.node, st.field, truth, gen)
		default:
			left = d.nodes.given(it.node, st.field, truth, gen)
		}
		switch left {
		case nodeFalse:
		case nodeTrue:
			d.accepts = append(d.accepts, it.root)
		default:
			d.open = append(d.open, item{it.root, left})
		}
	}
	next = d.intern(d.open)
	e := edge{key: edgeKey(s, class), next: next}
	if len(d.accepts) > from {
		e.comes = int32(len(d.ends))
		d.ends = append(d.ends, uint32(len(d.accepts)))
	}
	if d.n++; 2*d.n > len(d.edges) {
		old := d.edges
		d.edges = make([]edge, 2*len(old))
		for _, o := range old {
			if o.key != 0 {
				d.put(o)
			}
		}
	}
	d.put(e)
	return next, d.accepts[from:]
}

func (d *diagram) put(e edge) {
	mask := uint64(len(d.edges) - 1)
	i := edgeHash(e.key) & mask
	for d.edges[i].key != 0 {
		i = (i + 1) & mask
	}
	d.edges[i] = e
}

const (
	restEvents = 1 << 16 // for which a diagram that fills up too fast stays as it is
	goodUse    = 8       // events for each state, at least, that make a diagram worth beginning anew
)

// learn makes the step from state s, if there is room for it.
func (m *Matcher) learn(s, class int32) (next int32, accepts []int32, ok bool) {
	d := m.dia
	m.stats.Misses++
	if d.full || d.frozen > 0 {
		return 0, nil, false
	}
	if len(d.states) >= m.e.o.MaxStates || d.bytes()-d.least > learntBytes {
		if d.asked >= goodUse*uint64(len(d.states)) {
			d.full = true
		} else {
			d.frozen = restEvents
		}
		return 0, nil, false
	}
	m.tell(d.states[s].field)
	next, accepts = d.learn(s, class, m.truth, m.gen)
	return next, accepts, true
}

const (
	setBytes  = 4 << 20 // of the classes that a Matcher knows
	memoBytes = 8 << 20 // of all memos
	joinSize  = 1 << 15 // entries of each table that says what a list's classes come to
)

// tidy keeps what is learnt within its bounds. Between two events.
func (m *Matcher) tidy() {
	d := m.dia
	d.asked++
	if d.frozen > 0 {
		if d.frozen--; d.frozen == 0 {
			d.full = true
		}
	}
	if m.held > memoBytes {
		m.forget()
	}
	if len(m.union)+len(m.inter)+len(m.both) > joinSize {
		clear(m.union)
		clear(m.inter)
		clear(m.both)
	}
	if m.sets.bytes() > setBytes { // everything speaks of classes
		m.sets.reset()
		m.forget()
		clear(m.union)
		clear(m.inter)
		clear(m.both)
		d.full = true
	}
	if d.full {
		m.stats.Flushes++
		d.begin()
	}
}

func (m *Matcher) forget() {
	for i := range m.memo {
		m.memo[i].forget()
		m.memo[i].size = 0
	}
	m.held = 0
}
