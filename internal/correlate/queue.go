package correlate

import (
	"bytes"
	"cmp"
	"container/heap"
	"slices"

	"whodunit/internal/audit"
	"whodunit/internal/rule"
)

// item is an event that waits for its place in time.
type item struct {
	micros int64
	id     audit.Identity
	event  *audit.Event // our own copy
	rules  []*rule.Rule
	tie    audit.Identity // the identity, where that decides between events of one time
	order  int            // of arrival, which decides then
	bytes  int
}

// itemBytes is what an item costs beside its event's text: itself, audit.Event and their places in lists.
const itemBytes = 800

func newItem(ev *audit.Event, id audit.Identity, at int64, rules []*rule.Rule) *item {
	it := &item{micros: at, id: id, event: ev.Clone(), rules: slices.Clone(rules)}
	it.bytes = itemBytes + len(ev.Raw) + len(ev.Cluster) + 8*len(rules)
	return it
}

// queue holds items, and the times of events that only matter as such, in the order of time.
type queue struct {
	items   items
	marks   marks
	bytes   int
	count   int
	arrival bool // of one time, as they came; else by identity, whatever the order in which they came
}

// mark is an event that no rule is true of.
type mark struct {
	micros int64
	order  int
}

// markBytes is what a mark costs, with room to grow.
const markBytes = 32

func (q *queue) push(it *item) {
	q.count++
	it.order = q.count
	if !q.arrival {
		it.tie = it.id
	}
	q.bytes += it.bytes
	heap.Push(&q.items, it)
}

func (q *queue) mark(at int64) {
	q.count++
	q.bytes += markBytes
	heap.Push(&q.marks, mark{at, q.count})
}

func (q *queue) len() int { return len(q.items) + len(q.marks) }

// next is the earliest time.
func (q *queue) next() (int64, bool) {
	switch {
	case len(q.items) == 0 && len(q.marks) == 0:
		return 0, false
	case q.itemFirst():
		return q.items[0].micros, true
	}
	return q.marks[0].micros, true
}

// itemFirst reports whether the earliest is an item. The queue must not be empty.
func (q *queue) itemFirst() bool {
	if len(q.marks) == 0 || len(q.items) == 0 {
		return len(q.marks) == 0
	}
	it, m := q.items[0], q.marks[0]
	return it.micros < m.micros || it.micros == m.micros && it.order < m.order
}

// pop takes the earliest. The queue must not be empty.
func (q *queue) pop() (it *item, marked bool) {
	if q.itemFirst() {
		it = heap.Pop(&q.items).(*item) //nolint:forcetypeassert // it holds nothing else
		q.bytes -= it.bytes
		return it, false
	}
	heap.Pop(&q.marks)
	q.bytes -= markBytes
	return nil, true
}

type items []*item

func (h items) Len() int      { return len(h) }
func (h items) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h items) Less(i, j int) bool {
	a, b := h[i], h[j]
	return cmp.Or(cmp.Compare(a.micros, b.micros), bytes.Compare(a.tie[:], b.tie[:]), cmp.Compare(a.order, b.order)) < 0
}
func (h *items) Push(x any) { *h = append(*h, x.(*item)) } //nolint:forcetypeassert // heap.Interface

// Pop is heap.Interface's.
func (h *items) Pop() any {
	old := *h
	it := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return it
}

type marks []mark

func (h marks) Len() int      { return len(h) }
func (h marks) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h marks) Less(i, j int) bool {
	return cmp.Or(cmp.Compare(h[i].micros, h[j].micros), cmp.Compare(h[i].order, h[j].order)) < 0
}
func (h *marks) Push(x any) { *h = append(*h, x.(mark)) } //nolint:forcetypeassert // heap.Interface

// Pop is heap.Interface's.
func (h *marks) Pop() any {
	old := *h
	m := old[len(old)-1]
	*h = old[:len(old)-1]
	return m
}

// timers is a heap of the groups whose window is open, by its end.
type timers []*group

func (h timers) Len() int { return len(h) }
func (h timers) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].timer, h[j].timer = i, j
}
func (h timers) Less(i, j int) bool {
	a, b := h[i], h[j]
	return cmp.Or(cmp.Compare(a.end, b.end), cmp.Compare(a.p.place, b.p.place), cmp.Compare(a.key, b.key)) < 0
}

// Push is heap.Interface's.
func (h *timers) Push(x any) {
	g := x.(*group) //nolint:forcetypeassert // heap.Interface
	g.timer = len(*h)
	*h = append(*h, g)
}

// Pop is heap.Interface's.
func (h *timers) Pop() any {
	old := *h
	g := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return g
}

// next is when the first window closes.
func (h timers) next() (int64, bool) {
	if len(h) == 0 {
		return 0, false
	}
	return h[0].end, true
}
