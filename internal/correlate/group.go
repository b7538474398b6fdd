package correlate

import (
	"cmp"
	"container/heap"
	"container/list"
	"strings"

	"whodunit/internal/audit"
	"whodunit/internal/finding"
	"whodunit/internal/rule"
)

// What things cost, by reckoning: with maps' and lists' own needs, rounded up.
const (
	groupBytes    = 300
	stateBytes    = 400 // of what all types but first_seen need beside
	timeBytes     = 16
	evidenceBytes = 120
	valueBytes    = 160 // of a distinct value, beside its text
	slotBytes     = 32
)

// lru is a list of groups.
type lru = list.List

// group is one group of one plan.
type group struct {
	p       *plan
	key     string // its values, see plan.key
	bytes   int
	touched int64
	inPlan  *list.Element
	inAll   *list.Element

	fired   bool // and when
	firedAt int64

	open  bool // a window that is decided when it closes, its end, and the group's place in timers
	end   int64
	timer int

	firing bool // of a streak
	*state      // nil of first_seen, which may have very many groups
}

// state is what is in a group's window.
type state struct {
	times    ring[int64]    // of all events in the window
	evidence ring[evidence] // of them, the middle may be missing
	distinct distinct
	numbers  numbers
	temporal temporal
	last     occurrence // of an open window
	streak   int
	fires    *Finding // of a streak that goes on, kept to say when it is over; nil where nobody asks
}

// evidence is what a finding says of an event.
type evidence struct {
	micros           int64
	id               audit.Identity
	cluster, auditID string
	stage            audit.Stage
}

func (o *occurrence) evidence() evidence {
	return evidence{micros: o.micros, id: o.id, cluster: strings.Clone(o.event.Cluster), auditID: strings.Clone(o.event.AuditID),
		stage: audit.Stage(strings.Clone(string(o.event.Stage)))}
}

func (e *evidence) size() int { return evidenceBytes + len(e.cluster) + len(e.auditID) + len(e.stage) }

func (e *evidence) finding() finding.Evidence {
	return finding.Evidence{Cluster: e.cluster, AuditID: e.auditID, Stage: e.stage, Identity: e.id.String()}
}

// run gives a plan all that one event has for it: one entry a group.
func (c *Correlator) run(p *plan, all []occurrence) {
	type part struct {
		key string
		occ []occurrence
	}
	var parts []part
next:
	for _, o := range all {
		key := p.key(&o)
		for i := range parts {
			if parts[i].key == key {
				parts[i].occ = append(parts[i].occ, o)
				continue next
			}
		}
		parts = append(parts, part{key, []occurrence{o}})
	}
	for _, pt := range parts {
		c.enter(p, pt.key, pt.occ)
	}
}

// enter adds one event to a group. Of one event's occurrences all have its time and identity.
func (c *Correlator) enter(p *plan, key string, occ []occurrence) {
	o := occ[0]
	c.expire(p, o.micros)
	if !p.any {
		p.any, p.first = true, o.micros
	}
	g, known := p.groups[key]
	if !known {
		g = &group{p: p, key: key}
		p.groups[key] = g
		g.inPlan, g.inAll = p.idle.PushBack(g), c.lru.PushBack(g)
		n := groupBytes + len(key)
		if p.c.Type != rule.FirstSeen {
			g.state = &state{}
			n += stateBytes
		}
		c.charge(g, n)
	}
	before := g.touched
	g.touched = o.micros
	p.idle.MoveToBack(g.inPlan)
	c.lru.MoveToBack(g.inAll)
	switch p.c.Type {
	case rule.FirstSeen:
		if (!known || o.micros-before > p.span) && o.micros-p.first >= p.c.Baseline.Microseconds() {
			e := o.evidence()
			c.found(p, g, o, o.micros, rule.Facts{Number: 1, Events: 1, First: o.micros, Last: o.micros}, []finding.Evidence{e.finding()})
		}
	case rule.Streak:
		c.streakOf(g, o)
	default:
		c.window(g, occ)
	}
}

// streakOf counts a match of a streak: the one with which the conditions hold fires, and then none until the streak is broken.
func (c *Correlator) streakOf(g *group, o occurrence) {
	if g.firing {
		return
	}
	g.streak++
	c.push(g, &o)
	if !holds(g.p.c.Conds, float64(g.streak)) {
		return
	}
	f := rule.Facts{Number: float64(g.streak), Events: g.streak, First: g.times.front(), Last: o.micros}
	proof := g.proof()
	c.found(g.p, g, o, o.micros, f, proof)
	g.firing, g.streak = true, 0
	if c.o.Resolved && g.p.c.Resolves && !g.p.rule.Silent {
		g.fires = &Finding{Event: o.event, Identity: o.id, Facts: f, Evidence: proof}
		c.charge(g, g.fires.cost())
	}
	g.p.firing++
	c.charge(g, -g.times.len()*timeBytes-g.evidenceSize())
	g.times, g.evidence = ring[int64]{}, ring[evidence]{}
}

// resolve ends all streaks of p at a time.
func (c *Correlator) resolve(p *plan, at int64) {
	for e := p.idle.Back(); e != nil && p.firing > 0; e = e.Prev() {
		g := asGroup(e)
		if !g.firing {
			continue
		}
		g.firing = false
		p.firing--
		if g.fires != nil {
			c.charge(g, -g.fires.cost())
			f := *g.fires
			f.Rule, f.Resolved, f.Facts.Last = p.rule, true, at
			c.out = append(c.out, f)
			g.fires = nil
		}
	}
}

// cost is what keeping the finding takes.
func (f *Finding) cost() int {
	n := itemBytes + len(f.Event.Raw)
	for _, e := range f.Evidence {
		n += evidenceBytes + len(e.Cluster) + len(e.AuditID) + len(e.Stage) + len(e.Identity)
	}
	return n
}

func holds(conds []rule.Compare, n float64) bool {
	for _, c := range conds {
		if !c.Holds(n) {
			return false
		}
	}
	return true
}

// window adds an event to a sliding window, or to one that is decided when it closes.
func (c *Correlator) window(g *group, occ []occurrence) {
	o := occ[0]
	if g.p.atClose {
		if !g.open {
			g.open, g.end = true, o.micros+g.p.span
			heap.Push(&c.timers, g)
		} else {
			c.charge(g, -g.last.cost())
		}
		g.last = o
		c.charge(g, o.cost())
	} else {
		c.trim(g, o.micros-g.p.span)
	}
	c.push(g, &o)
	c.measure(g, occ)
	if g.bytes > c.o.MaxBytes/4 || g.numbers.crowded() {
		c.o.Metrics.evicted.WithLabelValues("group").Inc()
		c.trim(g, g.times.at(g.times.len()/2)+1)
	}
	if !g.p.atClose {
		c.decide(g, o, o.micros)
	}
}

// cost is what keeping the event takes.
func (o *occurrence) cost() int { return itemBytes + len(o.event.Raw) }

// close decides the window that closes first.
func (c *Correlator) close() {
	g := heap.Pop(&c.timers).(*group) //nolint:forcetypeassert // it holds nothing else
	g.open = false
	last := g.last
	g.last = occurrence{}
	c.charge(g, -last.cost())
	c.decide(g, last, g.end)
	c.trim(g, g.end+1)
	c.work()
}

// decide makes a finding if the group's conditions hold and it is not quiet. now is the event's time, or the window's end.
func (c *Correlator) decide(g *group, o occurrence, now int64) {
	if g.fired && now-g.firedAt <= g.p.quiet || g.times.len() == 0 {
		return
	}
	n, proof, ok := g.verdict(now)
	if !ok {
		return
	}
	g.fired, g.firedAt = true, now
	f := rule.Facts{Number: n, Events: g.times.len(), First: g.times.front(), Last: g.times.back()}
	c.found(g.p, g, o, now, f, proof)
}

// Findings name the first and the last events. Of more than keepEvidence in a window those in the middle are forgotten.
const (
	proofEnds    = 10
	keepEvidence = 512
)

// push adds an event's time and evidence.
func (c *Correlator) push(g *group, o *occurrence) {
	e := o.evidence()
	g.times.push(o.micros)
	g.evidence.push(e)
	n := timeBytes + e.size()
	if g.evidence.len() > keepEvidence {
		kept := ring[evidence]{}
		for i := range g.evidence.len() {
			if e := g.evidence.at(i); i < proofEnds || i >= keepEvidence/2 {
				kept.push(e)
			} else {
				n -= e.size()
			}
		}
		g.evidence = kept
	}
	c.charge(g, n)
}

// proof is the evidence of the window.
func (g *group) proof() []finding.Evidence {
	var out []finding.Evidence
	n := g.evidence.len()
	for i := range n {
		if i < proofEnds || i >= n-proofEnds {
			e := g.evidence.at(i)
			out = append(out, e.finding())
		}
	}
	return out
}

func (g *group) evidenceSize() (n int) {
	for i := range g.evidence.len() {
		e := g.evidence.at(i)
		n += e.size()
	}
	return n
}

// trim forgets what is older than from.
func (c *Correlator) trim(g *group, from int64) {
	n := 0
	for g.times.len() > 0 && g.times.front() < from {
		g.times.pop()
		n += timeBytes
	}
	for g.evidence.len() > 0 && g.evidence.front().micros < from {
		e := g.evidence.pop()
		n += e.size()
	}
	n += g.distinct.trim(from) + g.numbers.trim(from)
	c.charge(g, -n)
}

func (c *Correlator) charge(g *group, n int) {
	g.bytes += n
	c.state += n
}

// expire forgets the groups of p that can have no part in any finding any more.
func (c *Correlator) expire(p *plan, now int64) {
	if p.c.Type == rule.Streak {
		return
	}
	for e := p.idle.Front(); e != nil; e = p.idle.Front() {
		g := asGroup(e)
		if g.open || now-g.touched <= p.horizon() || g.fired && now-g.firedAt <= p.quiet {
			return
		}
		c.forget(g)
	}
}

// bounded forgets groups while there is too much: the ones that were touched longest ago.
func (c *Correlator) bounded() {
	for c.state > c.o.MaxBytes/2 && c.lru.Len() > 0 {
		c.o.Metrics.evicted.WithLabelValues("memory").Inc()
		c.forget(asGroup(c.lru.Front()))
	}
}

func (c *Correlator) forget(g *group) {
	if g.open {
		heap.Remove(&c.timers, g.timer)
	}
	if g.firing {
		g.p.firing--
	}
	delete(g.p.groups, g.key)
	g.p.idle.Remove(g.inPlan)
	c.lru.Remove(g.inAll)
	c.state -= g.bytes
}

// compareGroups is the order of their last events; between those of one time the plan's and the key's.
func compareGroups(a, b *group) int {
	return cmp.Or(cmp.Compare(a.touched, b.touched), cmp.Compare(a.p.place, b.p.place), strings.Compare(a.key, b.key))
}
