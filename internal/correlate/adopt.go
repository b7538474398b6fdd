package correlate

import (
	"container/heap"
	"reflect"
	"slices"
)

// Adopt takes over what old knows: what waits, how far time has gone, and the groups of every correlation that is the same in both. old must
// not be used any more.
func (c *Correlator) Adopt(old *Correlator) {
	arrival := c.queue.arrival
	c.queue, c.max, c.maxAt, c.ahead, c.clock, c.bound = old.queue, old.max, old.maxAt, old.ahead, old.clock, old.bound
	c.queue.arrival = arrival
	c.lastID, c.lastMicros = old.lastID, old.lastMicros
	before := map[string]*plan{}
	for _, p := range old.plans {
		before[p.rule.ID] = p
	}
	var all []*group
	for _, p := range c.plans {
		was := before[p.rule.ID]
		if was == nil || !reflect.DeepEqual(was.c, p.c) {
			continue
		}
		p.first, p.any, p.firing = was.first, was.any, was.firing
		for e := was.idle.Front(); e != nil; e = e.Next() {
			g := asGroup(e)
			g.p = p
			p.groups[g.key] = g
			all = append(all, g)
		}
	}
	slices.SortStableFunc(all, compareGroups)
	for _, g := range all {
		g.inPlan, g.inAll = g.p.idle.PushBack(g), c.lru.PushBack(g)
		c.state += g.bytes
		if g.open {
			heap.Push(&c.timers, g)
		}
	}
}
