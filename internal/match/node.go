package match

import (
	"cmp"
	"slices"
)

// Boolean expressions over numbered predicates, hash-consed: equal expressions have equal numbers.
const (
	nodeFalse int32 = iota
	nodeTrue
	firstNode
)

type nodeKind uint8

const (
	leafNode nodeKind = iota // a predicate
	notNode
	andNode
	orNode
)

const noRank = int32(1) << 30 // of constants

// node is one expression. Its rank is the least of the fields in it: fields are numbered in the order in which they are asked.
type node struct {
	kind nodeKind
	rank int32
	a    int32 // leaf: the predicate; not: the operand; and, or: where the operands begin
	n    int32 // operands of and, or: in order of (rank, number), none twice, none of the same kind, no constant
	gate int32 // leaf: the predicate; and: its first operand's gate; -1: none. If the gate is false, so is the node
}

// nodes is a table of them. One with a base goes on from it and leaves it as it is.
type nodes struct {
	base  *nodes
	from  int32 // number of the first of list
	list  []node
	kids  []int32
	table []int32 // hash table of numbers; 0 is free
	tails []int32 // of a table with a base, by number: what is left of an and without its first operand; 0: not known yet
	pick  []int32 // scratch of operands
}

func newNodes(base *nodes) *nodes {
	t := &nodes{base: base, table: make([]int32, 64)}
	if base == nil {
		t.list = []node{{rank: noRank, gate: -1}, {rank: noRank, gate: -1}}
	} else {
		t.from = int32(len(base.list))
		t.tails = make([]int32, len(base.list))
	}
	return t
}

func (t *nodes) at(id int32) *node {
	if id < t.from {
		return &t.base.list[id]
	}
	return &t.list[id-t.from]
}

// operands of node id, which is an and or an or.
func (t *nodes) operands(id int32) []int32 {
	if id < t.from {
		t = t.base
	}
	n := &t.list[id-t.from]
	return t.kids[n.a : n.a+n.n]
}

func hashMix(h, v uint64) uint64 {
	h = (h ^ v) * 0x9E3779B97F4A7C15
	return h ^ h>>29
}

func hashNode(kind nodeKind, a int32, kids []int32) uint64 {
	h := hashMix(uint64(kind)+1, uint64(uint32(a)))
	for _, k := range kids {
		h = hashMix(h, uint64(uint32(k)))
	}
	return h ^ h>>32
}

func (t *nodes) find(h uint64, kind nodeKind, a int32, kids []int32) int32 {
	mask := uint64(len(t.table) - 1)
	for i := h & mask; t.table[i] != 0; i = (i + 1) & mask {
		id := t.table[i]
		n := &t.list[id-t.from]
		if n.kind != kind {
			continue
		}
		if kind < andNode && n.a == a || kind >= andNode && slices.Equal(t.kids[n.a:n.a+n.n], kids) {
			return id
		}
	}
	return -1
}

// intern gives the number of a node: a of a leaf or not, kids of the others.
func (t *nodes) intern(kind nodeKind, rank, a int32, kids []int32) int32 {
	h := hashNode(kind, a, kids)
	if t.base != nil {
		if id := t.base.find(h, kind, a, kids); id >= 0 {
			return id
		}
	}
	if id := t.find(h, kind, a, kids); id >= 0 {
		return id
	}
	id := t.from + int32(len(t.list))
	n := node{kind: kind, rank: rank, a: a, gate: -1}
	switch kind {
	case leafNode:
		n.gate = a
	case andNode:
		n.gate = t.at(kids[0]).gate
	}
	if kind >= andNode {
		n.a, n.n = int32(len(t.kids)), int32(len(kids))
		t.kids = append(t.kids, kids...)
	}
	t.list = append(t.list, n)
	if 2*len(t.list) > len(t.table) {
		t.rehash()
	} else {
		t.insert(h, id)
	}
	return id
}

func (t *nodes) insert(h uint64, id int32) {
	mask := uint64(len(t.table) - 1)
	i := h & mask
	for t.table[i] != 0 {
		i = (i + 1) & mask
	}
	t.table[i] = id
}

func (t *nodes) rehash() {
	t.table = make([]int32, 4*len(t.table))
	for i := range t.list {
		id := t.from + int32(i)
		if id < firstNode {
			continue
		}
		n := &t.list[i]
		if n.kind >= andNode {
			t.insert(hashNode(n.kind, 0, t.kids[n.a:n.a+n.n]), id)
		} else {
			t.insert(hashNode(n.kind, n.a, nil), id)
		}
	}
}

func (t *nodes) leaf(pred, rank int32) int32 { return t.intern(leafNode, rank, pred, nil) }

func (t *nodes) not(id int32) int32 {
	switch {
	case id == nodeFalse:
		return nodeTrue
	case id == nodeTrue:
		return nodeFalse
	}
	n := t.at(id)
	if n.kind == notNode {
		return n.a
	}
	return t.intern(notNode, n.rank, id, nil)
}

// join makes an and or an or of operands, which it may reorder.
func (t *nodes) join(kind nodeKind, operands []int32) int32 {
	whole, neutral := nodeFalse, nodeTrue
	if kind == orNode {
		whole, neutral = nodeTrue, nodeFalse
	}
	from := len(t.pick)
	defer func() { t.pick = t.pick[:from] }()
	for _, id := range operands {
		switch {
		case id == whole:
			return whole
		case id == neutral:
		case t.at(id).kind == kind:
			t.pick = append(t.pick, t.operands(id)...)
		default:
			t.pick = append(t.pick, id)
		}
	}
	kids := t.pick[from:]
	if len(kids) > 1 {
		slices.SortFunc(kids, func(x, y int32) int {
			if n := cmp.Compare(t.at(x).rank, t.at(y).rank); n != 0 {
				return n
			}
			return cmp.Compare(x, y)
		})
		kids = slices.Compact(kids)
	}
	switch len(kids) {
	case 0:
		return neutral
	case 1:
		return kids[0]
	}
	return t.intern(kind, t.at(kids[0]).rank, 0, kids)
}

// given is node id once the predicates of the field of this rank are known: those true whose place in truth has gen. Every field of a
// lower rank is known already.
func (t *nodes) given(id, rank int32, truth []uint32, gen uint32) int32 {
	n := t.at(id)
	if n.rank != rank {
		return id
	}
	switch n.kind {
	case leafNode:
		if truth[n.a] == gen {
			return nodeTrue
		}
		return nodeFalse
	case notNode:
		return t.not(t.given(n.a, rank, truth, gen))
	}
	kind, whole := n.kind, nodeFalse
	if kind == orNode {
		whole = nodeTrue
	}
	from := len(t.pick)
	defer func() { t.pick = t.pick[:from] }()
	kids := t.operands(id)
	for i, k := range kids {
		if t.at(k).rank != rank { // nor has any behind it
			t.pick = append(t.pick, kids[i:]...)
			break
		}
		g := t.given(k, rank, truth, gen)
		if g == whole {
			return whole
		}
		t.pick = append(t.pick, g)
	}
	return t.join(kind, t.pick[from:])
}

// opened is node id, an and, once its gate is known to be true: mostly the same and without its first operand, which is made once.
func (t *nodes) opened(id, rank int32, truth []uint32, gen uint32) int32 {
	if int(id) < len(t.tails) && t.tails[id] != 0 {
		return t.tails[id]
	}
	kids := t.operands(id)
	alone := t.at(kids[0]).kind == leafNode && t.at(kids[1]).rank != rank
	left := t.given(id, rank, truth, gen)
	for len(t.tails) < int(t.from)+len(t.list) {
		t.tails = append(t.tails, 0)
	}
	if alone {
		t.tails[id] = left
	}
	return left
}

func (t *nodes) bytes() int { return 4*len(t.tails) + 20*len(t.list) + 4*len(t.kids) + 4*len(t.table) }

// reset forgets all that is not the base's.
func (t *nodes) reset() {
	t.list, t.kids = t.list[:0], t.kids[:0]
	clear(t.table)
	t.tails = t.tails[:t.from]
	clear(t.tails)
}
