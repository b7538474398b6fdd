package segmentstore

import "math/bits"

// rowset is a set of a group's rows.
type rowset []uint64

func newRows(n int) rowset { return make(rowset, (n+63)/64) }

func allRows(n int) rowset {
	s := newRows(n)
	for i := range s {
		s[i] = ^uint64(0)
	}
	if r := n % 64; r > 0 {
		s[len(s)-1] = 1<<r - 1
	}
	return s
}

func (s rowset) clone() rowset    { return append(rowset(nil), s...) }
func (s rowset) add(i int)        { s[i>>6] |= 1 << (i & 63) }
func (s rowset) has(i int) bool   { return s[i>>6]>>(i&63)&1 == 1 }
func (s rowset) or(o rowset)      { each(s, o, func(a, b uint64) uint64 { return a | b }) }
func (s rowset) and(o rowset)     { each(s, o, func(a, b uint64) uint64 { return a & b }) }
func (s rowset) without(o rowset) { each(s, o, func(a, b uint64) uint64 { return a &^ b }) }

func each(s, o rowset, f func(a, b uint64) uint64) {
	for i := range s {
		s[i] = f(s[i], o[i])
	}
}

func (s rowset) empty() bool {
	for _, w := range s {
		if w != 0 {
			return false
		}
	}
	return true
}

func (s rowset) count() int {
	n := 0
	for _, w := range s {
		n += bits.OnesCount64(w)
	}
	return n
}

// rows calls f for each row, in order.
func (s rowset) rows(f func(i int)) {
	for k, w := range s {
		for ; w != 0; w &= w - 1 {
			f(k<<6 + bits.TrailingZeros64(w))
		}
	}
}

// within reports whether any row from lo to hi, exclusive, is in the set.
func (s rowset) within(lo, hi int) bool {
	for i := lo; i < hi; {
		if i&63 == 0 && hi-i >= 64 {
			if s[i>>6] != 0 {
				return true
			}
			i += 64
			continue
		}
		if s.has(i) {
			return true
		}
		i++
	}
	return false
}

func (s rowset) remove(lo, hi int) {
	for i := lo; i < hi; {
		if i&63 == 0 && hi-i >= 64 {
			s[i>>6] = 0
			i += 64
			continue
		}
		s[i>>6] &^= 1 << (i & 63)
		i++
	}
}
