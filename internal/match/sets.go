package match

import (
	"bytes"
	"hash/maphash"
	"slices"
)

// sets numbers sets of predicates: ascending lists. The empty set is 0.
type sets struct {
	off   []uint32 // of each set's end in all; its beginning is the end before
	all   []int32
	table []int32 // hash table of numbers plus one
}

func newSets() *sets { return &sets{off: []uint32{0}, table: make([]int32, 64)} }

func (t *sets) list(id int32) []int32 {
	if id == 0 {
		return nil
	}
	return t.all[t.off[id-1]:t.off[id]]
}

func hashList(l []int32) uint64 {
	h := uint64(len(l))
	for _, v := range l {
		h = hashMix(h, uint64(uint32(v)))
	}
	return h ^ h>>32
}

func (t *sets) intern(l []int32) int32 {
	if len(l) == 0 {
		return 0
	}
	mask := uint64(len(t.table) - 1)
	i := hashList(l) & mask
	for ; t.table[i] != 0; i = (i + 1) & mask {
		if id := t.table[i]; slices.Equal(t.list(id), l) {
			return id
		}
	}
	t.all = append(t.all, l...)
	id := int32(len(t.off))
	t.off = append(t.off, uint32(len(t.all)))
	t.table[i] = id
	if 2*len(t.off) > len(t.table) {
		t.table = make([]int32, 4*len(t.table))
		mask = uint64(len(t.table) - 1)
		for id := int32(1); id < int32(len(t.off)); id++ {
			i := hashList(t.list(id)) & mask
			for t.table[i] != 0 {
				i = (i + 1) & mask
			}
			t.table[i] = id
		}
	}
	return id
}

func (t *sets) bytes() int { return 4 * (len(t.off) + len(t.all) + len(t.table)) }

func (t *sets) reset() {
	t.off, t.all = append(t.off[:0], 0), t.all[:0]
	clear(t.table)
}

const (
	memoEntries = 1 << 12 // of one field at most
	memoText    = 1 << 18 // bytes of values of one field at most
	memoLongest = 1 << 10 // a longer value is not remembered
	memoWindow  = 1 << 11 // lookups after which the hits are counted
	memoPause   = 1 << 15 // lookups for which a memo that does not pay is left out
)

// memo remembers the set of predicates that a value of one field satisfies. Bounded; one that hardly ever knows the answer rests.
type memo struct {
	table   []memoEntry
	n       int
	text    []byte
	lookups uint32
	hits    uint32
	rest    uint32    // lookups until it is tried again
	last    memoEntry // what was found last: events come in runs
	size    int       // bytes, as far as the matcher has counted them
}

type memoEntry struct {
	hash uint64 // 0: free
	off  uint32
	len  uint32
	set  int32
}

func hashText(seed maphash.Seed, v []byte) uint64 { return maphash.Bytes(seed, v) | 1 }

// again gives the set of v if it is what was found last.
func (m *memo) again(v []byte) (set int32, ok bool) {
	l := &m.last
	if l.hash == 0 || int(l.len) != len(v) || !bytes.Equal(m.text[l.off:l.off+l.len], v) {
		return 0, false
	}
	m.lookups++
	m.hits++
	return l.set, true
}

// find gives the set of v. want says that the caller may add it where it is not known.
func (m *memo) find(h uint64, v []byte) (set int32, ok bool) {
	if m.lookups++; m.lookups >= memoWindow {
		poor := m.hits*4 < m.lookups
		m.lookups, m.hits = 0, 0
		if poor {
			m.forget()
			m.rest = memoPause
			return 0, false
		}
	}
	if m.table == nil {
		return 0, false
	}
	mask := uint64(len(m.table) - 1)
	for i := h >> 7 & mask; m.table[i].hash != 0; i = (i + 1) & mask {
		e := &m.table[i]
		if e.hash == h && int(e.len) == len(v) && bytes.Equal(m.text[e.off:e.off+e.len], v) {
			m.hits++
			m.last = *e
			return e.set, true
		}
	}
	return 0, false
}

// add takes the set of v, which find did not know, and gives how many bytes the memo has grown by.
func (m *memo) add(h uint64, v []byte, set int32) int {
	grown, full := 0, 2*m.n >= len(m.table)
	switch {
	case full && len(m.table) >= 2*memoEntries, len(m.text)+len(v) > memoText:
		m.n, m.text, m.last = 0, m.text[:0], memoEntry{}
		clear(m.table)
	case full:
		grown = m.grow()
	}
	was := cap(m.text)
	e := memoEntry{h, uint32(len(m.text)), uint32(len(v)), set}
	m.text = append(m.text, v...)
	m.put(e)
	m.n++
	return grown + cap(m.text) - was
}

func (m *memo) grow() int {
	old := m.table
	m.table = make([]memoEntry, max(32, 4*len(old)))
	for _, e := range old {
		if e.hash != 0 {
			m.put(e)
		}
	}
	return 24 * (len(m.table) - len(old))
}

func (m *memo) put(e memoEntry) {
	mask := uint64(len(m.table) - 1)
	i := e.hash >> 7 & mask
	for m.table[i].hash != 0 {
		i = (i + 1) & mask
	}
	m.table[i] = e
}

func (m *memo) forget() { m.table, m.text, m.n, m.last = nil, nil, 0, memoEntry{} }
