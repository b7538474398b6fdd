// Package detect runs the current set of rules over the journal's events, in order, and hands findings on. It delivers at
// least once: after a crash the records since the last saved cursor are evaluated again and give the same findings, byte for
// byte, which the findings' journal drops as duplicates.
package detect

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"time"

	"whodunit/internal/audit"
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
	// From is the first sequence number whose findings are handed on. A Reader that begins earlier only refills the memory: of
	// requests that gave a finding already, of windows, and of what waits for late events.
	From    uint64
	Program ProgramOptions
	Judge   JudgeOptions // Metrics are set to those below, Resolved to true
	// Own tells the events of requests that this server made itself, to act on what was found: no rule looks at them, or an action would
	// set itself off. nil: there are none.
	Own func(ev *audit.Event) bool
	// Compiled is where Rules leaves the program of its set, so that it is compiled once. It may be nil.
	Compiled *Compiled
	Metrics  *Metrics
	Logger   *slog.Logger
	// Now tells how long things take, and how long nothing has come: never what a finding says.
	Now  func() time.Time
	Wait func(ctx context.Context, d time.Duration) error // between tries; returns ctx's error when ctx ends first
}

// Detector is one reader of the journal. Run it once.
type Detector struct {
	o       Options
	set     *rule.Set // that program was compiled of
	program *Program
	workers []*Worker
	hits    [][]Hit // by record of the batch
	judge   *Judge
	next    uint64          // the sequence number behind the last record
	said    map[string]bool // rule and reason whose first error was logged, and problems
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
	o.Judge.Metrics, o.Judge.Resolved = o.Metrics, true
	return &Detector{o: o, said: map[string]bool{}}, nil
}

// Run reads until ctx ends (nil), the reader ends (nil), or the reader fails (its error).
func (d *Detector) Run(ctx context.Context) error {
	for {
		recs, err := d.read(ctx)
		if len(recs) > 0 {
			if err := d.batch(ctx, recs); err != nil {
				return ended(ctx, err)
			}
		}
		switch {
		case errors.Is(err, errIdle):
			if err := d.idle(ctx); err != nil {
				return ended(ctx, err)
			}
		case errors.Is(err, io.EOF):
			if d.judge == nil {
				return nil
			}
			return ended(ctx, d.emit(ctx, d.documents(nil, d.judge.Flush())))
		case err != nil:
			return ended(ctx, fmt.Errorf("cannot read journal: %w", err))
		}
	}
}

// errIdle: nothing was read, and it is time to look at what waits.
var errIdle = errors.New("nothing came")

// idleSlack is how much longer than needed the detector waits before it takes it that nothing was taken in meanwhile: an event is given
// its time of arrival before it can be read. So what is found then is what a replay finds, which has the times of arrival alone.
const idleSlack = 5 * time.Second

// leastWait keeps a clock that was set back from making the detector spin.
const leastWait = 100 * time.Millisecond

// read waits for records, but no longer than until something that waits for late events is due.
func (d *Detector) read(ctx context.Context) ([]audit.Record, error) {
	if d.judge == nil {
		return d.o.Reader.Next(ctx)
	}
	due, ok := d.judge.Waiting()
	if !ok {
		return d.o.Reader.Next(ctx)
	}
	until := time.UnixMicro(due).Add(idleSlack).Sub(d.o.Now())
	limited, cancel := context.WithTimeout(ctx, max(until, leastWait))
	defer cancel()
	recs, err := d.o.Reader.Next(limited)
	if len(recs) == 0 && err != nil && limited.Err() != nil && ctx.Err() == nil {
		err = errIdle
	}
	return recs, err
}

// idle lets time pass for correlations.
func (d *Detector) idle(ctx context.Context) error {
	d.refresh()
	found := d.judge.Advance(d.o.Now().Add(-idleSlack).UnixMicro())
	if d.next < d.o.From {
		found = nil // still refilling
	}
	return d.emit(ctx, d.documents(nil, found))
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
	if err := d.emit(ctx, d.evaluate(recs)); err != nil {
		return err
	}
	d.o.Metrics.Events.Add(float64(len(recs)))
	next := recs[len(recs)-1].Seq + 1
	d.o.Metrics.Cursor.Set(float64(next))
	if next <= d.o.From {
		return nil // still refilling: the saved cursor is ahead
	}
	return d.again(ctx, "save", func() error { return d.o.Save(ctx, next) })
}

// emit makes findings durable.
func (d *Detector) emit(ctx context.Context, events []audit.Event) error {
	b := audit.Batch{Origin: audit.Origin{Source: "detect"}, Events: events}
	for _, part := range b.Split() {
		if err := d.again(ctx, "emit", func() error { return d.o.Emit(ctx, clone(part)) }); err != nil {
			return err
		}
	}
	return nil
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
