package match

import (
	"math/bits"
	"slices"
	"strings"
)

// automaton finds all occurrences of many literals in one pass (Aho and Corasick 1975). Nodes are numbered level by level; the first of
// them, as many as the limit allows, have a row of the full transition table, the rest keep their edges and the way back. Immutable.
type automaton struct {
	class   [256]uint8 // bytes that no literal holds share class 0
	classes int
	shift   uint8   // a row has 1<<shift entries
	dense   int32   // nodes below have rows
	rows    []int32 // by node<<shift + class
	edges   []edgeTo
	first   []uint32 // of a node's edges; one more at the end
	fail    []int32
	out     []int32 // the literal that ends here, -1: none
	more    []int32 // the next node on the way back that has one, 0: none
	hit     []bool  // some literal ends here
	lens    []int32 // of the literals
	anyCase bool    // ASCII letters of the text may be capital
}

type edgeTo struct {
	c  uint8
	to int32
}

// denseInts bounds the rows of one automaton, in entries of four bytes.
const denseInts = 1 << 17

// newAutomaton takes distinct literals, none empty.
func newAutomaton(literals []string) *automaton {
	a := &automaton{classes: 1}
	for _, l := range literals {
		a.lens = append(a.lens, int32(len(l)))
		for i := range len(l) {
			if a.class[l[i]] == 0 && a.classes < 255 {
				a.class[l[i]] = uint8(a.classes)
				a.classes++
			}
		}
	}
	if a.classes == 255 { // one class for each byte
		for c := range a.class {
			a.class[c] = uint8(c)
		}
		a.classes = 256
	}
	a.levels(literals)
	a.back()
	a.table()
	a.hit = make([]bool, len(a.out))
	for n := range a.hit {
		a.hit[n] = a.out[n] >= 0 || a.more[n] > 0
	}
	return a
}

// levels makes the trie. Sorted literals that share a beginning stand together, so a level is made from runs of the one above.
func (a *automaton) levels(literals []string) {
	order := make([]int32, len(literals))
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortFunc(order, func(x, y int32) int { return strings.Compare(literals[x], literals[y]) })
	type run struct{ from, to int32 } // in order
	level := []run{{0, int32(len(order))}}
	a.out, a.first = []int32{-1}, []uint32{0}
	node := int32(0)
	for depth := 0; len(level) > 0; depth++ {
		var next []run
		for _, r := range level {
			i := r.from
			if i < r.to && len(literals[order[i]]) == depth {
				a.out[node] = order[i]
				i++
			}
			for i < r.to {
				c, from := literals[order[i]][depth], i
				for i < r.to && literals[order[i]][depth] == c {
					i++
				}
				a.edges = append(a.edges, edgeTo{c, int32(len(a.out))})
				a.out = append(a.out, -1)
				next = append(next, run{from, i})
			}
			a.first = append(a.first, uint32(len(a.edges)))
			node++
		}
		level = next
	}
}

// back fills fail and more, parents first.
func (a *automaton) back() {
	a.fail, a.more = make([]int32, len(a.out)), make([]int32, len(a.out))
	for n := range a.out {
		for _, e := range a.edges[a.first[n]:a.first[n+1]] {
			if n > 0 {
				f := a.fail[n]
				for {
					if t := a.child(f, e.c); t > 0 {
						a.fail[e.to] = t
						break
					}
					if f == 0 {
						break
					}
					f = a.fail[f]
				}
			}
			if f := a.fail[e.to]; a.out[f] >= 0 {
				a.more[e.to] = f
			} else {
				a.more[e.to] = a.more[f]
			}
		}
	}
}

func (a *automaton) child(n int32, c uint8) int32 {
	for _, e := range a.edges[a.first[n]:a.first[n+1]] {
		if e.c == c {
			return e.to
		}
	}
	return 0
}

func (a *automaton) table() {
	a.shift = uint8(bits.Len(uint(a.classes - 1)))
	a.dense = int32(min(len(a.out), denseInts>>a.shift))
	a.rows = make([]int32, int(a.dense)<<a.shift)
	for n := range a.dense {
		row := a.rows[int(n)<<a.shift:][:a.classes]
		if n > 0 {
			copy(row, a.rows[int(a.fail[n])<<a.shift:][:a.classes])
		}
		for _, e := range a.edges[a.first[n]:a.first[n+1]] {
			row[a.class[e.c]] = e.to
		}
	}
}

// ignoreCase makes text of any case match literals that have no capital letters, as far as that is ASCII.
func (a *automaton) ignoreCase() {
	if a.classes < 256 {
		for c := 'A'; c <= 'Z'; c++ {
			a.class[c] = a.class[c+'a'-'A']
		}
		a.anyCase = true
	}
}

// step is the node after n and the byte c.
func (a *automaton) step(n int32, c uint8) int32 {
	low := c
	if a.anyCase && c >= 'A' && c <= 'Z' {
		low += 'a' - 'A'
	}
	for n >= a.dense {
		if t := a.child(n, low); t > 0 {
			return t
		}
		n = a.fail[n]
	}
	return a.rows[int(n)<<(a.shift&31)+int(a.class[c])]
}

// next goes on from node n at b[i] up to the next byte at which literals end: the node there (walk its out and more), and the place behind
// the byte; a node below 0 where there are no more.
func (a *automaton) next(n int32, b []byte, i int) (int32, int) {
	for ; i < len(b); i++ {
		if n < a.dense {
			n = a.rows[int(n)<<(a.shift&31)+int(a.class[b[i]])]
		} else {
			n = a.step(n, b[i])
		}
		if a.hit[n] {
			return n, i + 1
		}
	}
	return -1, i
}
