// Package alert passes findings on to people and machines. Each notifier reads the findings' journal by itself, with a
// cursor of its own that is saved once the receiver has taken what came before: so a slow or dead receiver holds up neither
// the detector nor another receiver, nothing is lost in a restart, and nothing is queued in memory. Delivery is at least once.
package alert

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"whodunit/internal/audit"
	"whodunit/internal/finding"
)

// Reader gives the findings' journal in order of sequence. Next waits for at least one record; io.EOF ends a finite reader.
type Reader interface {
	Next(ctx context.Context) ([]audit.Record, error)
}

// Notifier hands findings to one receiver. It is called by one goroutine. An error that wraps ErrRejected is permanent:
// the receiver will never take these findings. Any other is tried again, not before RetryAfter if it gives one.
type Notifier interface {
	Notify(ctx context.Context, findings []Finding) error
}

// ErrRejected marks findings that the receiver refuses for what they are.
var ErrRejected = errors.New("receiver rejects the findings")

// retryAfter is an error of a receiver that says when to come back.
type retryAfter struct {
	error
	pause time.Duration
}

func (r *retryAfter) Unwrap() error { return r.error }

// Finding is one finding of the journal: the document as it is, and what notifiers need of it.
type Finding struct {
	Cluster string
	Seq     uint64          // in the findings' journal
	Doc     json.RawMessage // docs/reference/finding.md; not to be changed
	// Event is the document read as an audit event: user, objectRef, times and so on of the event that the finding is about.
	Event *audit.Event
	ID, Rule, Title, Message,
	AuditID, Verb, User string
	Priority, Format string
	Tags             []string
	Severity         finding.Severity
	Events           []finding.Evidence
	Group            map[string]string // values of what the rule groups by; nil: it does not say
	State            string            // "" or finding.Resolved
	Time             time.Time
}

// Age is how long ago the event was. One that does not say when it was counts as new.
func (f *Finding) Age(now time.Time) time.Duration {
	if f.Time.IsZero() || f.Time.Equal(time.UnixMicro(0)) {
		return 0
	}
	return now.Sub(f.Time)
}

// Limits of one call of Notify.
const (
	maxFindings = 100
	maxBytes    = 1 << 20
)

// Options are what a Pump needs. Name, Reader and Notifier are wanted.
type Options struct {
	Name        string // of the receiver in the configuration; a metric label
	Reader      Reader
	Notifier    Notifier
	Save        func(ctx context.Context, next uint64) error
	MinSeverity finding.Severity // "": all
	Metrics     *Metrics
	Logger      *slog.Logger
	Wait        func(ctx context.Context, d time.Duration) error // between tries; returns ctx's error when ctx ends first
	Jitter      func() float64                                   // in [0, 1)
}

// Pump takes findings from the journal to one notifier. Run it once.
type Pump struct {
	o      Options
	mu     sync.Mutex
	status Status
}

// Status says how a receiver of findings fares since the start. LastError shows no secret.
type Status struct {
	Name         string
	OK, Failed   int64 // calls
	LastOK       time.Time
	LastFailure  time.Time
	LastError    string    // of LastFailure; it stays after a success
	FailingSince time.Time // the first failure after the last success; zero: it does not fail
}

// Status is how the receiver fares. It is safe for concurrent use.
func (p *Pump) Status() Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.status
}

func (p *Pump) note(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s, now := &p.status, time.Now()
	if err == nil {
		s.OK++
		s.LastOK, s.FailingSince = now, time.Time{}
		return
	}
	s.Failed++
	s.LastFailure, s.LastError = now, err.Error()
	if s.FailingSince.IsZero() {
		s.FailingSince = now
	}
}

// New checks the options and sets their defaults.
func New(o Options) (*Pump, error) {
	if o.Name == "" || o.Reader == nil || o.Notifier == nil {
		return nil, errors.New("cannot make notifier: name, reader and notifier are wanted")
	}
	if o.MinSeverity != "" && o.MinSeverity.Rank() == 0 {
		return nil, fmt.Errorf("cannot make notifier %s: severity %q: info, low, medium, high or critical is expected", o.Name, o.MinSeverity)
	}
	if o.Save == nil {
		o.Save = func(context.Context, uint64) error { return nil }
	}
	if o.Metrics == nil {
		o.Metrics = NewMetrics(nil)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	o.Logger = o.Logger.With("component", "alert", "receiver", o.Name)
	if o.Wait == nil {
		o.Wait = wait
	}
	if o.Jitter == nil {
		o.Jitter = rand.Float64
	}
	return &Pump{o: o, status: Status{Name: o.Name}}, nil
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

// Run delivers until ctx ends (nil), the reader ends (nil), or the reader fails (its error).
func (p *Pump) Run(ctx context.Context) error {
	for {
		recs, err := p.o.Reader.Next(ctx)
		if len(recs) > 0 && p.batch(ctx, recs) != nil {
			return nil //nolint:nilerr // only the end of ctx stops a delivery
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil && ctx.Err() != nil:
			return nil //nolint:nilerr // the error is that end
		case err != nil:
			return fmt.Errorf("cannot read findings for %s: %w", p.o.Name, err)
		}
	}
}

// batch delivers recs and saves the cursor behind each part that was taken. It fails only when ctx ends.
func (p *Pump) batch(ctx context.Context, recs []audit.Record) error {
	var part []Finding
	size := 0
	for i := range recs {
		f, ok := p.read(&recs[i])
		if ok && len(part) > 0 && (len(part) == maxFindings || size+len(f.Doc) > maxBytes) {
			if err := p.deliver(ctx, part, recs[i].Seq); err != nil {
				return err
			}
			part, size = nil, 0
		}
		if ok {
			part, size = append(part, f), size+len(f.Doc)
		}
	}
	return p.deliver(ctx, part, recs[len(recs)-1].Seq+1)
}

// read takes from the journal what notifiers need. What is no finding, or below the severity, is passed over.
func (p *Pump) read(rec *audit.Record) (Finding, bool) {
	ev := &rec.Event
	if ev.Kind != audit.KindFinding {
		p.o.Metrics.Skipped.WithLabelValues(p.o.Name, "no_finding").Inc()
		return Finding{}, false
	}
	f := Read(rec)
	if p.o.MinSeverity != "" && f.Severity.Rank() < p.o.MinSeverity.Rank() {
		p.o.Metrics.Skipped.WithLabelValues(p.o.Name, "severity").Inc()
		return Finding{}, false
	}
	return f, true
}

// Read takes from a record whose kind is Finding what notifiers need. What cannot be read is left out: our own detector wrote it.
func Read(rec *audit.Record) Finding {
	ev := &rec.Event
	f := Finding{Cluster: ev.Cluster, Seq: rec.Seq, Doc: json.RawMessage(ev.Raw), Event: ev, AuditID: ev.AuditID, Verb: ev.Verb, User: ev.User.Username, Time: ev.Time()}
	texts := map[string]*string{"id": &f.ID, "rule": &f.Rule, "title": &f.Title, "message": &f.Message, "severity": (*string)(&f.Severity),
		"priority": &f.Priority, "format": &f.Format, "state": &f.State}
	lists := map[string]any{"tags": &f.Tags, "events": &f.Events, "group": &f.Group}
	for k, v := range audit.Members(ev.Raw) {
		if to, ok := texts[k]; ok {
			*to, _ = audit.Text(v)
		} else if to, ok := lists[k]; ok {
			_ = json.Unmarshal(v, to)
		}
	}
	return f
}

func (p *Pump) deliver(ctx context.Context, part []Finding, next uint64) error {
	if err := p.notify(ctx, part); err != nil {
		return err
	}
	p.o.Metrics.Cursor.WithLabelValues(p.o.Name).Set(float64(next))
	_, err := p.again(ctx, "save", func() error { return p.o.Save(ctx, next) })
	return err
}

// notify delivers part. If the receiver rejects several findings, each is tried alone, so that one bad one costs no other.
func (p *Pump) notify(ctx context.Context, part []Finding) error {
	if len(part) == 0 {
		return nil
	}
	rejected, err := p.again(ctx, "notify", func() error {
		err := p.o.Notifier.Notify(ctx, part)
		if ctx.Err() == nil {
			p.note(err)
		}
		return err
	})
	switch {
	case err != nil:
		return err
	case rejected == nil:
		p.o.Metrics.Sent.WithLabelValues(p.o.Name).Add(float64(len(part)))
		return nil
	case len(part) == 1:
		p.o.Metrics.Dropped.WithLabelValues(p.o.Name, "rejected").Inc()
		p.o.Logger.Error("finding not delivered; it stays in the journal", "finding", part[0].ID, "rule", part[0].Rule, "error", rejected)
		return nil
	}
	for i := range part {
		if err := p.notify(ctx, part[i:i+1]); err != nil {
			return err
		}
	}
	return nil
}

const (
	firstPause = 500 * time.Millisecond
	lastPause  = time.Minute
	// longestAsked bounds Retry-After: a receiver may slow us down, not switch us off.
	longestAsked = 10 * time.Minute
)

// again tries f until it succeeds or is rejected (which it returns), or ctx ends. Pauses double up to a minute, each
// shortened by up to half at random so that many senders do not come back at once.
func (p *Pump) again(ctx context.Context, step string, f func() error) (rejected, err error) {
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		err := f()
		if err == nil {
			return nil, nil
		}
		if errors.Is(err, ErrRejected) {
			return err, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		d := time.Duration(float64(pause) * (1 - p.o.Jitter()/2))
		d = max(d, Pause(err))
		p.o.Metrics.Retries.WithLabelValues(p.o.Name, step).Inc()
		p.o.Logger.Warn("findings wait for their receiver", "step", step, "pause", d, "error", err)
		if err := p.o.Wait(ctx, d); err != nil {
			return nil, err
		}
	}
}
