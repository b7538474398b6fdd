package detect

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"time"

	"whodunit/internal/audit"
	"whodunit/internal/correlate"
	"whodunit/internal/finding"
	"whodunit/internal/match"
	"whodunit/internal/rule"
)

// JudgeOptions bound what a Judge remembers. The zero value is the detector's.
type JudgeOptions struct {
	// Lateness is how much later than a newer event an event may come and still count in correlations; 0 is a minute. Below 0 nothing
	// is late: what correlations look at is kept until Flush and then put in order, as is right for a finite input.
	Lateness time.Duration
	MaxBytes int // of what correlations keep; 0 is 64 MiB
	Metrics  *Metrics
	// Correlations counts what correlations drop. It must not be shared by judges.
	Correlations *correlate.Metrics
	// Resolved asks for results that say that an earlier one of the same rule is over, too.
	Resolved bool
}

// Result is what a rule found: one finding.
type Result struct {
	Rule *rule.Rule
	// Event is what it is about: of a single event's result the one that was given to Add, of a correlation's a copy of the last.
	Event    *audit.Event
	Identity audit.Identity     // of Event
	Facts    *rule.Facts        // of a correlation, else nil
	Evidence []finding.Evidence // of a correlation at most 20 of its events, the first ten and the last ten; else the one event
	Message  string             // hostile text
	// Resolved: what an earlier result with the same event said is over.
	Resolved bool
}

// Micros is the event's time in microseconds since 1970 UTC, of any JSON object where the usual logs have it; 0 where there is none.
func (r *Result) Micros() int64 { return correlate.Micros(r.Event) }

// Finding is the result for the journal and for receivers.
func (r *Result) Finding() finding.Finding {
	f := r.Rule.Finding(r.Event, r.Identity)
	f.Message, f.Events = r.Message, r.Evidence
	if r.Resolved {
		f.State = finding.Resolved
	}
	return f
}

// Judge makes findings of hits: one a request where a rule wants no more, and those of correlations. Events go through it one by one,
// in the order of the journal or the input. It is for one goroutine and has none of its own.
type Judge struct {
	p          *Program
	o          JudgeOptions
	seen       *seen
	again      *seen // the same for correlations, which meet events in another order
	correlator *correlate.Correlator
	rules      []*rule.Rule // scratch
}

// Judge makes one that remembers nothing yet.
func (p *Program) Judge(o JudgeOptions) *Judge {
	o.Metrics = cmp.Or(o.Metrics, NewMetrics(nil))
	o.Correlations = cmp.Or(o.Correlations, correlate.NewMetrics(nil))
	j := &Judge{o: o, seen: newSeen(seenPerGeneration), again: newSeen(seenPerGeneration)}
	j.Use(p)
	return j
}

// Use goes on with another program. Requests that gave a finding stay known, and so do the windows of correlations that have not changed;
// others begin empty.
func (j *Judge) Use(p *Program) {
	j.p = p
	old := j.correlator
	if len(p.correlations) == 0 && old == nil {
		return
	}
	j.correlator = correlate.New(p.correlations, correlate.Options{Lateness: j.o.Lateness, MaxBytes: j.o.MaxBytes, Metrics: j.o.Correlations, Resolved: j.o.Resolved,
		Repeated: func(r *rule.Rule, ev *audit.Event) bool { return !j.again.add(requestKey(r.ID, ev)) }})
	if old != nil {
		j.correlator.Adopt(old)
	}
}

// Add takes an event and the hits that a Worker of the same program gave for it. It may be left out for events without hits where the
// Judge has no Lateness and MatchRaw gave no event. ev is not kept, but for the results.
func (j *Judge) Add(ev *audit.Event, hits []Hit) []Result { return j.add(ev, nil, 0, hits) }

// AddRecord is Add for an event of the journal: its identity is known, and when it was taken in serves as the clock.
func (j *Judge) AddRecord(rec *audit.Record, hits []Hit) []Result {
	return j.add(&rec.Event, &rec.Identity, rec.IngestedMicros, hits)
}

func (j *Judge) add(ev *audit.Event, id *audit.Identity, ingested int64, hits []Hit) (out []Result) {
	if len(hits) == 0 {
		if j.correlator == nil || ev.Kind == audit.KindFinding {
			return nil
		}
		return j.results(nil, j.correlator.See(ev, ingested))
	}
	identity := func() audit.Identity { // it reads the whole event: only where a result has it
		if id == nil {
			own := ev.Identity()
			id = &own
		}
		return *id
	}
	var request [sha256.Size]byte
	hashed := false
	j.rules = j.rules[:0]
	for _, h := range hits {
		r := h.Rule
		if j.p.bases[h.place] {
			j.rules = append(j.rules, r)
		}
		if r.Silent {
			continue
		}
		if !r.PerEvent && ev.Flags&audit.FlagGeneric == 0 {
			if !hashed {
				request, hashed = requestHash(ev), true
			}
			if !j.seen.add(ruleKey(r.ID, request)) {
				j.o.Metrics.Repeated.WithLabelValues(r.ID).Inc()
				continue
			}
		}
		out = append(out, Result{Rule: r, Event: ev, Identity: identity(), Evidence: []finding.Evidence{rule.Evidence(ev, identity())}, Message: r.Text(ev)})
	}
	switch {
	case j.correlator == nil:
		return out
	case len(j.rules) == 0:
		return j.results(out, j.correlator.See(ev, ingested))
	}
	return j.results(out, j.correlator.Add(ev, identity(), ingested, j.rules))
}

// Flush ends a finite input: what waited for late events is decided, and windows are closed.
func (j *Judge) Flush() []Result {
	if j.correlator == nil {
		return nil
	}
	return j.results(nil, j.correlator.Flush())
}

// Advance says that no event has been taken in until clock, in microseconds since 1970 UTC; only for records of a journal.
func (j *Judge) Advance(clock int64) []Result {
	if j.correlator == nil {
		return nil
	}
	return j.results(nil, j.correlator.Advance(clock))
}

// Waiting is the clock at which Advance would have something to decide; ok is false where nothing waits.
func (j *Judge) Waiting() (clock int64, ok bool) {
	if j.correlator == nil {
		return 0, false
	}
	return j.correlator.Waiting()
}

func (j *Judge) results(out []Result, found []correlate.Finding) []Result {
	for i := range found {
		f := &found[i]
		r := Result{Rule: f.Rule, Event: f.Event, Identity: f.Identity, Facts: &f.Facts, Evidence: f.Evidence, Resolved: f.Resolved}
		if f.Resolved {
			r.Message = fmt.Sprintf("%s on %s is now resolved", f.Rule.Title, f.Event.Cluster)
		} else {
			r.Message = message(f.Rule, f.Event, f.Facts)
		}
		out = append(out, r)
	}
	return out
}

// message is the text of a correlation.
func message(r *rule.Rule, ev *audit.Event, f rule.Facts) string {
	switch m := r.Message.(type) {
	case rule.FactsRenderer:
		return m.RenderFacts(ev, f)
	case nil:
		events := "1 event"
		if f.Events != 1 {
			events = fmt.Sprintf("%d events in %s", f.Events, (time.Duration(f.Last-f.First) * time.Microsecond).Truncate(time.Second))
		}
		if ev.Flags&audit.FlagGeneric != 0 {
			return fmt.Sprintf("%s (%s)", ofGroup(r, ev), events)
		}
		return fmt.Sprintf("%s (%s, the last of them this)", r.Text(ev), events)
	}
	return r.Text(ev)
}

// ofGroup is the title and what the events have in common, as far as the last of them tells.
func ofGroup(r *rule.Rule, ev *audit.Event) string {
	const most = 200 // characters of one value
	text, sep := r.Title, ": "
	for _, k := range r.Correlation.GroupBy[:min(len(r.Correlation.GroupBy), 10)] {
		values := k.Values
		if values == nil {
			values = func(ev *audit.Event, path string, yield func(string) bool) { match.Values(ev, path)(yield) }
		}
		values(ev, k.Path, func(v string) bool {
			text += fmt.Sprintf("%s%s=%.*s", sep, k.Name, most, v)
			sep = ", "
			return false
		})
	}
	return text
}
