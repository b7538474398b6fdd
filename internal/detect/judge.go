package detect

import (
	"cmp"
	"time"

	"whodunit/internal/audit"
	"whodunit/internal/finding"
	"whodunit/internal/rule"
)

// JudgeOptions bound what a Judge remembers. The zero value is the detector's.
type JudgeOptions struct {
	// Lateness is how much later than a newer event an event may come and still count in correlations; 0 is a minute. Below 0 nothing is late: what
	// correlations look at is kept until Flush and then put in order, as is right for a finite input.
	Lateness time.Duration
	MaxBytes int // of what correlations keep; 0 is 64 MiB
	Metrics  *Metrics
}

// Result is what a rule found: one finding.
type Result struct {
	Rule *rule.Rule
	// Event is what it is about; of several, the last. A single event's is the one that was given to Add.
	Event    *audit.Event
	Identity audit.Identity     // of Event
	Facts    *rule.Facts        // of a correlation, else nil
	Evidence []finding.Evidence // of a correlation: at most 20 of its events, the first ten and the last ten. Of a single event, that one
	Message  string             // hostile text
}

// Finding is the result for the journal and for receivers.
func (r *Result) Finding() finding.Finding {
	f := r.Rule.Finding(r.Event, r.Identity)
	f.Message, f.Events = r.Message, r.Evidence
	return f
}

// Judge makes findings of hits: one a request where a rule wants no more, and those of correlations. Events go through it one by one, in
// the journal's or the input's order. It is for one goroutine and holds no goroutine.
type Judge struct {
	p    *Program
	m    *Metrics
	seen *seen
}

// Judge makes one that remembers nothing yet.
func (p *Program) Judge(o JudgeOptions) *Judge {
	return &Judge{p: p, m: cmp.Or(o.Metrics, NewMetrics(nil)), seen: newSeen(seenPerGeneration)}
}

// Add takes an event that is true of hits. Events without hits need to be given only where time matters: for a Judge with a Lateness, to
// which they tell the time. ev is not kept.
func (j *Judge) Add(ev *audit.Event, hits []Hit) []Result { return j.add(ev, nil, 0, hits) }

// AddRecord is Add for an event of the journal: its identity is known, and when it was taken in serves as a clock.
func (j *Judge) AddRecord(rec *audit.Record, hits []Hit) []Result {
	return j.add(&rec.Event, &rec.Identity, rec.IngestedMicros, hits)
}

func (j *Judge) add(ev *audit.Event, id *audit.Identity, ingested int64, hits []Hit) (out []Result) {
	if len(hits) == 0 {
		return nil
	}
	if id == nil {
		own := ev.Identity()
		id = &own
	}
	for _, h := range hits {
		r := h.Rule
		if r.Silent {
			continue
		}
		if !r.PerEvent && ev.Flags&audit.FlagGeneric == 0 && !j.seen.add(requestKey(r.ID, ev)) {
			j.m.Repeated.WithLabelValues(r.ID).Inc()
			continue
		}
		out = append(out, Result{Rule: r, Event: ev, Identity: *id, Evidence: []finding.Evidence{rule.Evidence(ev, *id)}, Message: r.Text(ev)})
	}
	return out
}

// Flush ends a finite input: what waited for late events is decided.
func (j *Judge) Flush() []Result { return nil }
