// Package correlate counts, adds up and orders what rules match, over windows of event time: Sigma's correlations and those of native
// rules. docs/reference/correlation.md says what each type means.
//
// Events are put in the order of their times before they are looked at: each waits until the watermark, which is the newest event's time less
// the lateness, has passed it, and events of one time go by identity. So the same events give the same findings, in the same order, however
// they arrived within the lateness, and a replay gives what the live run gave. Nothing here reads a clock: how time passes while nothing
// comes is told by Advance, in the terms of the journal's own times of arrival.
package correlate

import (
	"math"
	"time"

	"whodunit/internal/audit"
	"whodunit/internal/finding"
	"whodunit/internal/rule"
)

const (
	defaultLateness = time.Minute
	defaultBytes    = 64 << 20
	// maxAhead is how far an event's time may lie ahead of its arrival. Clocks of API servers differ; beyond an hour it is an error or a lie.
	maxAhead = int64(time.Hour / time.Microsecond)
)

// Options of New. The zero value is good for production.
type Options struct {
	Lateness time.Duration // 0 is a minute; below 0 events wait for Flush, whatever their times
	MaxBytes int           // of what is kept, by a reckoning that depends on the events alone; 0 is 64 MiB
	// Repeated reports whether the rule has had the event's request before, and remembers it. Asked in the order of event time. nil: never.
	Repeated func(r *rule.Rule, ev *audit.Event) bool
	Metrics  *Metrics
	// Resolved asks for findings that say that a streak is over, of rules whose correlation has Resolves.
	Resolved bool
}

// Finding is what a correlation found.
type Finding struct {
	Rule     *rule.Rule
	Event    *audit.Event // the last; a copy that shares no memory with what came in
	Identity audit.Identity
	Facts    rule.Facts
	Evidence []finding.Evidence // at most 20: the first ten and the last ten
	// Resolved: the streak of which Event was the last is over. All but Facts.Last, the time of what broke it, is as in its finding.
	Resolved bool
}

// Correlator runs correlations. It is for one goroutine and has none of its own.
type Correlator struct {
	o        Options
	lateness int64
	plans    []*plan            // each behind those that it looks at
	feeds    map[string][]*plan // by rule id
	streaks  []*plan

	queue  queue
	timers timers
	lru    lru // every group, the one that was touched longest ago first
	state  int // bytes of groups

	max, maxAt int64 // the newest event's time, never ahead of its arrival, and that arrival
	ahead      int64 // the newest time that ever waited
	clock      int64 // the newest arrival
	bound      int64 // events of an earlier time are late
	todo       []task
	out        []Finding
	lastID     audit.Identity // of the last event that was looked at, and its time
	lastMicros int64
}

// New makes a correlator of rules with a Correlation, each of which stands behind those of them that it looks at.
func New(rules []*rule.Rule, o Options) *Correlator {
	if o.Lateness == 0 {
		o.Lateness = defaultLateness
	}
	if o.MaxBytes <= 0 {
		o.MaxBytes = defaultBytes
	}
	if o.Metrics == nil {
		o.Metrics = NewMetrics(nil)
	}
	c := &Correlator{o: o, lateness: o.Lateness.Microseconds(), feeds: map[string][]*plan{}, bound: math.MinInt64, max: math.MinInt64, ahead: math.MinInt64,
		lastMicros: math.MinInt64}
	if o.Lateness < 0 {
		c.lateness = -1
	}
	for i, r := range rules {
		p := newPlan(r, i)
		c.plans = append(c.plans, p)
		fed := map[string]bool{}
		for _, id := range r.Correlation.Of {
			if !fed[id] {
				fed[id] = true
				c.feeds[id] = append(c.feeds[id], p)
			}
		}
		if p.c.Type == rule.Streak {
			c.streaks = append(c.streaks, p)
			c.queue.arrival = true // what breaks a streak may have the time of what makes it
		}
	}
	return c
}

// Add takes an event that rules are true of: those of them that correlations look at count. ingested is when the event arrived, in
// microseconds since 1970 UTC, 0 where nobody knows. ev is not kept. The findings are of events that need not wait any more.
func (c *Correlator) Add(ev *audit.Event, id audit.Identity, ingested int64, rules []*rule.Rule) []Finding {
	c.out = nil
	at := c.time(ev, ingested)
	c.pass(ingested)
	switch {
	case at < c.bound:
		c.o.Metrics.dropped("late")
	case ingested > 0 && at > ingested+maxAhead:
		c.o.Metrics.dropped("future")
	default:
		c.queue.push(newItem(ev, id, at, rules))
		c.ahead = max(c.ahead, at)
	}
	c.seen(at, ingested)
	return c.finish()
}

// See tells of an event that no such rule is true of: time passes, and streaks end.
func (c *Correlator) See(ev *audit.Event, ingested int64) []Finding {
	c.out = nil
	at := c.time(ev, ingested)
	c.pass(ingested)
	if len(c.streaks) > 0 && at >= c.bound && (ingested == 0 || at <= ingested+maxAhead) {
		c.queue.mark(at)
	}
	c.seen(at, ingested)
	return c.finish()
}

// Advance says that nothing arrived until clock, in microseconds since 1970 UTC. What came a lateness before it waits no more, and
// windows close. Calling it between events, with times not after the next arrival, changes when findings come but not which.
func (c *Correlator) Advance(clock int64) []Finding {
	c.out = nil
	c.pass(clock)
	return c.finish()
}

// Flush decides everything that waits: the input is at its end.
func (c *Correlator) Flush() []Finding {
	c.out = nil
	c.release(math.MaxInt64, math.MaxInt64)
	return c.finish()
}

// Waiting is the clock at which Advance would have something to do. ok is false where nothing waits, or where arrivals are not known.
func (c *Correlator) Waiting() (clock int64, ok bool) {
	if c.maxAt == 0 || c.lateness < 0 {
		return 0, false
	}
	at := int64(math.MaxInt64)
	if t, some := c.queue.next(); some {
		at = t
	}
	if t, some := c.timers.next(); some {
		at = min(at, t)
	}
	if at == math.MaxInt64 {
		return 0, false
	}
	return c.maxAt + (at - c.max) + c.lateness + 1, true
}

// time is the event's. One that has none counts as of its arrival, or as the newest so far.
func (c *Correlator) time(ev *audit.Event, ingested int64) int64 {
	at := Micros(ev)
	switch {
	case at != 0:
		return at
	case ingested != 0:
		return ingested
	}
	return max(c.max, 0)
}

// pass lets time pass until clock without an event. What waits is released as if time went on from the newest event, but lateness is
// reckoned from no later than that: a source that comes back after an hour with what it kept is not late.
func (c *Correlator) pass(clock int64) {
	if clock <= c.clock {
		return
	}
	c.clock = clock
	if c.maxAt == 0 || c.lateness < 0 {
		return
	}
	now := c.max + (clock - c.maxAt) - c.lateness
	c.release(min(now, max(c.max, c.ahead)+1), now)
}

// seen moves the watermark on for an event of that time.
func (c *Correlator) seen(at, ingested int64) {
	if ingested > 0 {
		at = min(at, ingested)
	}
	if at > c.max {
		c.max, c.maxAt = at, ingested
	}
	if c.lateness >= 0 && c.max > math.MinInt64+c.lateness {
		c.release(c.max-c.lateness, c.max-c.lateness)
	}
	for c.queue.bytes > c.o.MaxBytes/2 {
		t, _ := c.queue.next()
		c.o.Metrics.hurried.Inc()
		c.release(t+1, t)
	}
}

// release looks at everything that waits for a time before bound, and closes windows that end before closing, in the order of time.
func (c *Correlator) release(bound, closing int64) {
	c.bound = max(c.bound, bound)
	closing = max(closing, bound)
	for {
		item, some := c.queue.next()
		some = some && item < bound
		end, open := c.timers.next()
		open = open && end < closing
		switch {
		case open && (!some || end < item):
			c.close()
		case some:
			it, marked := c.queue.pop()
			if marked {
				c.broken(nil, item)
			} else {
				c.look(it)
			}
		default:
			return
		}
		c.bounded()
	}
}

func (c *Correlator) finish() []Finding {
	c.o.Metrics.bytes.Set(float64(c.state + c.queue.bytes))
	c.o.Metrics.waiting.Set(float64(c.queue.len()))
	out := c.out
	c.out = nil
	return out
}

// task is what one plan gets of an event or of a finding.
type task struct {
	p   *plan
	occ []occurrence
}

// look takes an event in its place in time.
func (c *Correlator) look(it *item) {
	if it.micros == c.lastMicros && it.id == c.lastID && it.event.Flags&audit.FlagGeneric == 0 {
		return // the same event again
	}
	c.lastMicros, c.lastID = it.micros, it.id
	for _, r := range it.rules {
		if len(c.feeds[r.ID]) == 0 || !r.PerEvent && it.event.Flags&audit.FlagGeneric == 0 && c.o.Repeated != nil && c.o.Repeated(r, it.event) {
			continue
		}
		c.feed(occurrence{micros: it.micros, id: it.id, event: it.event, rule: r})
	}
	c.broken(it, it.micros)
	c.work()
}

// broken ends the streaks of rules that an event of the time at is not true of; of all where it is nil.
func (c *Correlator) broken(it *item, at int64) {
	for _, p := range c.streaks {
		if p.firing == 0 {
			continue
		}
		hit := false
		if it != nil {
			for _, r := range it.rules {
				hit = hit || len(p.positions[r.ID]) > 0
			}
		}
		if !hit {
			c.resolve(p, at)
		}
	}
}

// feed gives every plan that looks at the rule its occurrence.
func (c *Correlator) feed(o occurrence) {
next:
	for _, p := range c.feeds[o.rule.ID] {
		i := len(c.todo)
		for i > 0 && c.todo[i-1].p.place >= p.place {
			i--
			if c.todo[i].p == p {
				c.todo[i].occ = append(c.todo[i].occ, o)
				continue next
			}
		}
		c.todo = append(c.todo, task{})
		copy(c.todo[i+1:], c.todo[i:])
		c.todo[i] = task{p: p, occ: []occurrence{o}}
	}
}

// work does what there is to do, plans that others look at first.
func (c *Correlator) work() {
	for len(c.todo) > 0 {
		t := c.todo[0]
		copy(c.todo, c.todo[1:])
		c.todo[len(c.todo)-1] = task{}
		c.todo = c.todo[:len(c.todo)-1]
		c.run(t.p, t.occ)
	}
}

// found hands a finding out and on to the correlations over it. at is when it counts for those.
func (c *Correlator) found(p *plan, g *group, last occurrence, at int64, f rule.Facts, evidence []finding.Evidence) {
	if !p.rule.Silent {
		c.out = append(c.out, Finding{Rule: p.rule, Event: last.event, Identity: last.id, Facts: f, Evidence: evidence})
	}
	if len(c.feeds[p.rule.ID]) > 0 {
		c.feed(occurrence{micros: at, id: last.id, event: last.event, rule: p.rule, group: p.values(g.key), plan: p})
	}
}
