// Package detect runs the current set of rules over the journal's events, in order, and hands findings on. It delivers at
// least once: after a crash the records since the last saved cursor are evaluated again and give the same findings, byte for
// byte, which the findings' journal drops as duplicates.
package detect

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime/debug"
	"slices"
	"time"

	"whodunit/internal/audit"
	"whodunit/internal/match"
	"whodunit/internal/rule"
)

// Reader gives the journal's records in order of their sequence. Next waits for at least one; io.EOF ends a finite
// reader (a backtest). Next is called by one goroutine, which may keep what it is given.
type Reader interface {
	Next(ctx context.Context) ([]audit.Record, error)
}

// Emit makes the finding documents durable, as source.Emit does for events. The detector waits for it: an error is tried again.
type Emit func(ctx context.Context, b audit.Batch) error

// Options are what a Detector needs. Reader, Rules and Emit are wanted, the others have defaults.
type Options struct {
	Reader Reader
	Rules  *rule.Current
	Emit   Emit
	// Save keeps the sequence number at which to begin after a restart. It is called after the findings of everything
	// before it are durable. An error is tried again.
	Save func(ctx context.Context, next uint64) error
	// From is the first sequence number whose findings are handed on. A Reader that begins earlier only refills the
	// memory of requests that gave a finding already.
	From    uint64
	Metrics *Metrics
	Logger  *slog.Logger
	Now     func() time.Time                                 // for durations alone
	Wait    func(ctx context.Context, d time.Duration) error // between tries; returns ctx's error when ctx ends first
}

// Detector is one reader of the journal. Run it once.
type Detector struct {
	o       Options
	seen    *seen
	panics  map[string]bool // rules whose panic was logged
	evalErr map[string]bool // rule and reason whose first error was logged
}

// New checks the options and sets their defaults.
func New(o Options) (*Detector, error) {
	if o.Reader == nil || o.Rules == nil || o.Emit == nil {
		return nil, errors.New("cannot make detector: reader, rules and emit are wanted")
	}
	if o.Metrics == nil {
		o.Metrics = NewMetrics(nil)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	o.Logger = o.Logger.With("component", "detect")
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Wait == nil {
		o.Wait = wait
	}
	if o.Save == nil {
		o.Save = func(context.Context, uint64) error { return nil }
	}
	return &Detector{o: o, seen: newSeen(seenPerGeneration), panics: map[string]bool{}, evalErr: map[string]bool{}}, nil
}

// Run reads until ctx ends (nil), the reader ends (nil), or the reader fails (its error).
func (d *Detector) Run(ctx context.Context) error {
	for {
		recs, err := d.o.Reader.Next(ctx)
		if len(recs) > 0 {
			if err := d.batch(ctx, recs); err != nil {
				return ended(ctx, err)
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return ended(ctx, fmt.Errorf("cannot read journal: %w", err))
		}
	}
}

func ended(ctx context.Context, err error) error {
	select {
	case <-ctx.Done():
		return nil
	default:
		return err
	}
}

func (d *Detector) batch(ctx context.Context, recs []audit.Record) error {
	events := d.evaluate(recs)
	b := audit.Batch{Origin: audit.Origin{Source: "detect"}, Events: events}
	for _, part := range b.Split() {
		if err := d.again(ctx, "emit", func() error { return d.o.Emit(ctx, clone(part)) }); err != nil {
			return err
		}
	}
	d.o.Metrics.Events.Add(float64(len(recs)))
	next := recs[len(recs)-1].Seq + 1
	d.o.Metrics.Cursor.Set(float64(next))
	if next <= d.o.From {
		return nil // still refilling: the saved cursor is ahead
	}
	return d.again(ctx, "save", func() error { return d.o.Save(ctx, next) })
}

// clone protects the batch that a failed Emit may have taken apart. The events themselves are immutable.
func clone(b audit.Batch) audit.Batch {
	b.Events = slices.Clone(b.Events)
	return b
}

// again tries f until it succeeds or ctx ends, with pauses that double up to half a minute.
func (d *Detector) again(ctx context.Context, what string, f func() error) error {
	for pause := 100 * time.Millisecond; ; pause = min(2*pause, 30*time.Second) {
		err := f()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		d.o.Metrics.Retries.WithLabelValues(what).Inc()
		d.o.Logger.Warn("findings wait", "step", what, "pause", pause, "error", err)
		if err := d.o.Wait(ctx, pause); err != nil {
			return err
		}
	}
}

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// hit is a rule that matched a record.
type hit struct {
	rec, rule int
}

// evaluate gives the findings of recs in the order of records, then of rules. It goes rule by rule over the batch, so that
// each rule's time is measured with two looks at the clock.
func (d *Detector) evaluate(recs []audit.Record) []audit.Event {
	rules := d.o.Rules.Load().Rules()
	var hits []hit
	for i, r := range rules {
		hits = d.run(i, r, recs, hits)
	}
	slices.SortFunc(hits, func(a, b hit) int { return cmp.Or(cmp.Compare(a.rec, b.rec), cmp.Compare(a.rule, b.rule)) })
	var out []audit.Event
	for _, h := range hits {
		rec, r := &recs[h.rec], rules[h.rule]
		if !d.seen.add(requestKey(r.ID, &rec.Event)) {
			d.o.Metrics.Repeated.WithLabelValues(r.ID).Inc()
			continue
		}
		if rec.Seq < d.o.From {
			continue
		}
		ev, err := r.Finding(&rec.Event, rec.Identity).Event(&rec.Event)
		if err != nil {
			d.o.Metrics.Errors.WithLabelValues(r.ID, "encode").Inc()
			d.o.Logger.Error("finding lost", "rule", r.ID, "seq", rec.Seq, "error", err)
			continue
		}
		d.o.Metrics.Findings.WithLabelValues(r.ID, string(r.Severity)).Inc()
		out = append(out, ev)
	}
	return out
}

// run evaluates one rule over the batch.
func (d *Detector) run(i int, r *rule.Rule, recs []audit.Record, hits []hit) []hit {
	begin := d.o.Now()
	evaluated := 0
	for j := range recs {
		ev := &recs[j].Event
		if ev.Kind == audit.KindFinding || !match.Eval(r.Whole(), ev) { // a rule about findings would feed on itself
			continue
		}
		evaluated++
		ok, err := d.match(r, ev)
		if err != nil {
			d.failed(r, recs[j].Seq, err)
		} else if ok {
			hits = append(hits, hit{j, i})
		}
	}
	d.o.Metrics.Evaluations.WithLabelValues(r.ID).Add(float64(evaluated))
	d.o.Metrics.Seconds.WithLabelValues(r.ID).Add(d.o.Now().Sub(begin).Seconds())
	return hits
}

// match keeps a panic of one rule from the others.
func (d *Detector) match(r *rule.Rule, ev *audit.Event) (ok bool, err error) {
	defer func() {
		if p := recover(); p != nil {
			if !d.panics[r.ID] {
				d.panics[r.ID] = true
				d.o.Logger.Error("rule panicked; further panics of it are only counted", "rule", r.ID, "panic", p, "stack", string(debug.Stack()))
			}
			ok, err = false, errPanic
		}
	}()
	if r.Condition == nil {
		return true, nil
	}
	return r.Condition.Match(ev)
}

// failed counts an evaluation error. Only the first of each rule and reason is logged, and "missing", which is in the
// nature of events of a lower level, not at all.
func (d *Detector) failed(r *rule.Rule, seq uint64, err error) {
	reason := rule.Reason(err)
	if errors.Is(err, errPanic) {
		reason = "panic"
	}
	d.o.Metrics.Errors.WithLabelValues(r.ID, reason).Inc()
	if key := r.ID + "\x00" + reason; reason == "cost" || reason == "eval" {
		if !d.evalErr[key] {
			d.evalErr[key] = true
			d.o.Logger.Warn("rule cannot decide; further cases of it are only counted", "rule", r.ID, "reason", reason, "seq", seq, "error", err)
		}
	}
}

// Backtest gives the findings of recs under set, without journal, cursor or metrics.
func Backtest(set *rule.Set, recs []audit.Record) ([]audit.Event, error) {
	var cur rule.Current
	cur.Store(set)
	d, err := New(Options{Reader: none{}, Rules: &cur, Emit: func(context.Context, audit.Batch) error { return nil }})
	if err != nil {
		return nil, err
	}
	return d.evaluate(recs), nil
}

type none struct{}

func (none) Next(context.Context) ([]audit.Record, error) { return nil, io.EOF }
