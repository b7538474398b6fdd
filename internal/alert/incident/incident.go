// Package incident makes alerts of findings: findings of one rule that belong together are one alert, which lasts until they have
// stopped for a while. It knows what is open, keeps that over restarts, and hands every change to one taker of alerts.
package incident

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"whodunit/internal/alert"
	"whodunit/internal/audit"
	"whodunit/internal/finding"
)

// Info is what the current rules say about a rule, beyond what its findings hold.
type Info struct {
	Description string
	Runbook     string   // a link to what to do
	References  []string // the first link among them stands in for a runbook
}

// Options are what a Tracker needs. Taker is wanted. Functions are safe for concurrent use.
type Options struct {
	Taker   alert.Taker
	Rule    func(id string) (Info, bool) // by the current set of rules; nil: nothing is known
	Link    func(a *alert.Alert) string  // where people see the findings of a, which has all but its link; nil: no links
	Command func(ev *audit.Event) string // what the user most likely typed; nil: that is left out
	// Owed reports whether somebody is to be told of the alert with these labels and was not yet. Until somebody was told (see Told) its end is
	// held back then, for a day at most: receivers that are down for longer than an alert lasts would never hear of it. nil: nobody is. It
	// must be fast, and must not call the Tracker.
	Owed       func(labels map[string]string) bool
	Saved      func(next uint64) error // called when all findings before next are in the state on disk; nil: nobody asks
	Now        func() time.Time        // nil: time.Now
	Logger     *slog.Logger            // nil: silent
	Registerer prometheus.Registerer   // nil: unregistered

	ResolveAfter time.Duration // an alert is over when no finding of it was read for so long; 0: 5 minutes
	MaxAge       time.Duration // findings about older events make no alert; 0: there is no such limit
	MaxActive    int           // open alerts at most; 0: 10,000
	MaxPerRule   int           // of one rule; 0: 500

	StateFile  string // "": a restart forgets
	JournalEnd uint64 // the next sequence that the findings' journal gives; a state beyond it is of another journal. 0: not known
}

// Defaults of Options.
const (
	DefaultResolveAfter = 5 * time.Minute
	DefaultMaxAge       = 24 * time.Hour
	DefaultMaxActive    = 10_000
	DefaultMaxPerRule   = 500
)

const (
	// maxOverflow bounds the alerts that stand for findings beyond the limits.
	maxOverflow = 1000
	// maxOver bounds the ended alerts that are told again. The taker sees the end of the others by their last EndsAt.
	maxOver = 1000
	// maxHold is for how long the end of an alert is held back at most, maxHeldStep how much at a time: it ends that soon after it was told.
	maxHold     = 24 * time.Hour
	maxHeldStep = 30 * time.Second
	// tick is how exact the end of an alert is.
	tick = time.Second
)

// Tracker makes alerts of findings. One goroutine calls Notify and Save (a Pump does), another is in Run; Active is for all.
type Tracker struct {
	o    Options
	m    *metrics
	step time.Duration // between two puts of an alert whose end moves
	wake chan struct{} // an alert began or ended
	born time.Time     // what began before was told of, as far as we know

	saving sync.Mutex // held while the state is written

	mu        sync.Mutex
	next      uint64            // findings before it are counted
	active    map[string]*entry // by the key of their labels
	over      map[string]*entry // ended of late
	perRule   map[string]int    // of active, without overflow
	overflow  int               // of active
	nextSweep time.Time
	nextSave  time.Time
	dirty     bool // the state on disk is behind
	ended     bool // by time, and the state on disk does not say so
}

// entry is an alert and what the taker knows of it.
type entry struct {
	record
	key     string
	held    time.Time // since when its end is held back
	fresh   bool      // it began or ended, and the taker does not know
	putAt   time.Time
	putEnds time.Time
}

// New checks the options and loads the state. Run hands the alerts over; Close writes the state.
func New(o Options) (*Tracker, error) {
	if o.Taker == nil {
		return nil, errors.New("cannot make alerts: a taker is wanted")
	}
	if o.ResolveAfter == 0 {
		o.ResolveAfter = DefaultResolveAfter
	}
	if o.ResolveAfter < tick || o.MaxAge < 0 || o.MaxActive < 0 || o.MaxPerRule < 0 {
		return nil, errors.New("cannot make alerts: limits are not negative, and alerts last a second at least")
	}
	if o.MaxActive == 0 {
		o.MaxActive = DefaultMaxActive
	}
	if o.MaxPerRule == 0 {
		o.MaxPerRule = DefaultMaxPerRule
	}
	if o.Saved == nil {
		o.Saved = func(uint64) error { return nil }
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	o.Logger = o.Logger.With("component", "alerts")
	t := &Tracker{
		o: o, m: newMetrics(o.Registerer), step: max(o.ResolveAfter/10, tick), wake: make(chan struct{}, 1), born: o.Now(),
		active: map[string]*entry{}, over: map[string]*entry{}, perRule: map[string]int{},
	}
	if err := t.load(); err != nil {
		return nil, err
	}
	return t, nil
}

// Next is the sequence in the findings' journal to begin reading at; 0 if there was no state, so that the journal's own cursor
// decides. Findings before it are counted already: Notify passes them over.
func (t *Tracker) Next() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.next
}

// Save remembers that all records before next were read. It is what a Pump calls; the state on disk follows within seconds.
func (t *Tracker) Save(_ context.Context, next uint64) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if next > t.next {
		t.next, t.dirty = next, true
	}
	return nil
}

// Close writes the state. Run and Notify are over by then.
func (t *Tracker) Close() error { return t.persist(true) }

// Notify counts findings to their alerts, which Run hands over. It implements alert.Notifier, and neither waits for the taker nor fails.
func (t *Tracker) Notify(_ context.Context, findings []alert.Finding) error {
	for i := range findings {
		f := &findings[i]
		labels := identify(f)
		if !t.take(f, labels, false) {
			// After a crash the ended alerts that are not on disk would be open again, and this finding, read again, be counted to them.
			_ = t.persist(true) // its failure is counted and logged; alerts matter more than their exact counts
			t.take(f, labels, true)
		}
	}
	return nil
}

// take counts f to its alert. It gives false, and has done nothing, if f begins an alert after others ended by time alone, and those
// ends are not on disk.
func (t *Tracker) take(f *alert.Finding, labels identity, force bool) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.o.Now().UTC()
	t.sweep(now)
	at := now
	if f.Event.Micros() != 0 && f.Time.Before(now) {
		at = f.Time
	}
	key, rule := labels.key(), labels.value("rule")
	e := t.active[key]
	skip, beyond := "", false
	switch {
	case f.Seq < t.next:
		skip = "replayed"
	case t.o.MaxAge > 0 && now.Sub(at) > t.o.MaxAge:
		skip = "old"
	case e != nil:
	case f.State == finding.Resolved:
		skip = "no_alert"
	case len(t.active)-t.overflow >= t.o.MaxActive || t.perRule[rule] >= t.o.MaxPerRule:
		labels, beyond = labels.overflow(), true
		key = labels.key()
		if e = t.active[key]; e == nil && t.overflow >= maxOverflow {
			skip = "full"
		}
	}
	if skip == "" && e == nil {
		if t.ended && !force {
			return false
		}
		e = t.begin(key, labels, f, at)
	}
	t.m.findings.Inc()
	if f.Seq >= t.next {
		t.next, t.dirty = f.Seq+1, true
	}
	if skip != "" {
		t.m.skipped.WithLabelValues(skip).Inc()
		return true
	}
	if beyond {
		t.m.overflow.Inc()
	}
	t.see(e, f, at, now)
	if f.State == finding.Resolved {
		e.Ends = now
		t.end(e)
	}
	return true
}

func (t *Tracker) begin(key string, labels identity, f *alert.Finding, at time.Time) *entry {
	e := &entry{key: key, fresh: true, record: record{Labels: labels.labels(), Starts: at, First: at, FirstEvent: evidence(f, 0), Told: at.Before(t.born)}}
	t.add(e)
	t.m.started.Inc()
	return e
}

// add opens e, which replaces an earlier alert of the same labels.
func (t *Tracker) add(e *entry) {
	delete(t.over, e.key)
	t.active[e.key] = e
	if e.isOverflow() {
		t.overflow++
	} else {
		t.perRule[e.Labels["rule"]]++
	}
	t.m.active.Set(float64(len(t.active)))
	t.nudge()
}

// see notes what f says about e.
func (t *Tracker) see(e *entry, f *alert.Finding, at, now time.Time) {
	if f.State != finding.Resolved {
		e.Count++
	}
	e.Ends, e.held = now.Add(t.o.ResolveAfter), time.Time{}
	e.Last, e.LastEvent = at, evidence(f, len(f.Events)-1)
	e.Summary = clean(f.Message, maxText)
	e.User = clean(f.User, maxValue)
	e.Namespace = clean(f.Event.ObjectRef.Namespace, maxValue)
	e.Resource = clean(resource(f.Event), maxValue)
	e.SourceIP = clean(f.Event.Peer(), maxValue)
	if t.o.Command != nil {
		e.Command = clean(t.o.Command(f.Event), maxText)
	}
}

// end closes e, whose end is set.
func (t *Tracker) end(e *entry) {
	delete(t.active, e.key)
	if e.isOverflow() {
		t.overflow--
	} else if rule := e.Labels["rule"]; t.perRule[rule] > 1 {
		t.perRule[rule]--
	} else {
		delete(t.perRule, rule)
	}
	if len(t.over) < maxOver {
		e.Over, e.fresh = true, true
		t.over[e.key] = e
	}
	t.dirty = true
	t.m.resolved.Inc()
	t.m.active.Set(float64(len(t.active)))
	t.nudge()
}

// sweep ends what has been quiet for long enough, and forgets what ended long ago. An alert that nobody took yet does not end: it would
// never have been told.
func (t *Tracker) sweep(now time.Time) {
	if now.Before(t.nextSweep) {
		return
	}
	t.nextSweep = now.Add(tick)
	for _, e := range t.active {
		t.hold(e, now)
		switch {
		case e.Ends.After(now):
		case e.putAt.IsZero():
			e.Ends = now.Add(t.o.ResolveAfter)
		default:
			t.end(e)
			t.ended = t.o.StateFile != ""
		}
	}
	for key, e := range t.over {
		if now.Sub(e.Ends) > tellOver {
			delete(t.over, key)
			t.dirty = true
		}
	}
}

// hold puts off the end of an alert that is owed to somebody, in time for the taker not to see it end.
func (t *Tracker) hold(e *entry, now time.Time) {
	if t.o.Owed == nil || e.Told || e.Ends.Sub(now) > 2*t.step+tick || !e.held.IsZero() && now.Sub(e.held) > maxHold || !t.o.Owed(e.Labels) {
		return
	}
	if e.held.IsZero() {
		e.held = now
		t.m.held.Inc()
	}
	e.Ends = now.Add(min(t.o.ResolveAfter, maxHeldStep) + 2*t.step)
}

// Told says that somebody was told of the alert with these labels. It is safe for concurrent use.
func (t *Tracker) Told(labels map[string]string) {
	key := identityOf(labels).key()
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.active[key]; e != nil && !e.Told {
		e.Told, t.dirty = true, true
	}
}

// nudge wakes Run.
func (t *Tracker) nudge() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// Status is an open alert, for people and for the API. The caller owns it. Its text is clean and hostile, like an alert's.
type Status struct {
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
	Count       uint64            `json:"count"` // findings
	FirstTime   time.Time         `json:"firstTime"`
	LastTime    time.Time         `json:"lastTime"`
	StartsAt    time.Time         `json:"startsAt"`
	EndsAt      time.Time         `json:"endsAt"` // if no further finding comes
	Link        string            `json:"link,omitempty"`
}

// Active gives the open alerts, the most severe first, and of these the ones with the latest findings.
func (t *Tracker) Active() []Status {
	t.mu.Lock()
	open := make([]entry, 0, len(t.active))
	for _, e := range t.active {
		open = append(open, *e)
	}
	t.mu.Unlock()
	slices.SortFunc(open, func(a, b entry) int {
		rank := func(e *entry) int { return finding.Severity(e.Labels["severity"]).Rank() }
		if d := rank(&b) - rank(&a); d != 0 {
			return d
		}
		if d := b.Last.Compare(a.Last); d != 0 {
			return d
		}
		return strings.Compare(a.key, b.key)
	})
	out := make([]Status, len(open))
	for i := range open {
		r := &open[i].record
		a := t.alert(r)
		out[i] = Status{Labels: a.Labels, Annotations: a.Annotations, Count: r.Count, FirstTime: r.First, LastTime: r.Last, StartsAt: a.StartsAt,
			EndsAt: a.EndsAt, Link: a.Link}
	}
	return out
}
