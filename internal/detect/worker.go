package detect

import (
	"errors"
	"time"

	"whodunit/internal/audit"
	"whodunit/internal/match"
	"whodunit/internal/rule"
)

// Hit is a rule that is true of an event.
type Hit struct {
	Rule  *rule.Rule
	place int32 // in the program
}

// The reasons for which a rule could not decide about an event, in the order of RuleStats.Errors.
var errorReasons = [...]string{"missing", "cost", "eval", "panic"}

// RuleStats is what one rule's condition did since the last look.
type RuleStats struct {
	Evaluations int64                    // conditions run, after the engine
	Time        time.Duration            // in them; 0 where the worker has no clock
	Errors      [len(errorReasons)]int64 // evaluations that could not decide, by ErrorReason
	First       [len(errorReasons)]error // the first error of each reason; it may quote the event, which is hostile
	dirty       bool
}

// ErrorReason is the metric label of RuleStats.Errors[i].
func ErrorReason(i int) string { return errorReasons[i] }

// Worker runs a program's rules on one event after the other, for one goroutine. Any number of workers may run side by side.
type Worker struct {
	p       *Program
	matcher *match.Matcher
	places  []int
	hits    []Hit
	stats   []RuleStats
	dirty   []int
	now     func() time.Time // nil: conditions are not timed
	spent   time.Duration    // in batches
	own     func(*audit.Event) bool
	owned   int // events of own, in batches
}

// Match gives the rules that are true of ev, in the set's order. The slice is valid until the next call.
func (w *Worker) Match(ev *audit.Event) []Hit {
	w.hits = w.appendHits(w.hits[:0], ev)
	return w.hits
}

// MatchRaw is Match for an event's bytes, which are parsed only where it matters: ev is nil where nothing hit and no rule needs the
// event for anything else. Like hits it is valid until the next call, or as long as raw is left alone. The error is permanent: raw is
// no event. That there is none does not say that raw is well-formed where ev is nil.
func (w *Worker) MatchRaw(cluster string, raw []byte) (ev *audit.Event, hits []Hit, err error) {
	w.hits, w.places = w.hits[:0], w.places[:0]
	if w.matcher != nil {
		if err = w.matchRaw(cluster, raw); err != nil {
			return nil, nil, err
		}
	}
	if len(w.places) == 0 && !w.p.everything {
		return nil, nil, nil
	}
	if w.p.o.Generic {
		e, err := audit.Generic(cluster, raw)
		if err != nil {
			return nil, nil, err
		}
		w.hits = w.conditions(w.hits, &e)
		return w.given(&e)
	}
	if w.undecided() { // most that conditions are asked about is turned down: a look that spares the bodies is enough
		e, err := audit.Skim(cluster, raw)
		if err != nil {
			return nil, nil, err
		}
		if e.Kind != audit.KindFinding {
			w.hits = w.conditions(w.hits, &e)
		}
		if len(w.hits) == 0 && !w.p.everything {
			return nil, nil, nil
		}
		if e, err = audit.Parse(cluster, raw); err != nil {
			return nil, nil, err
		}
		return w.given(&e)
	}
	e, err := audit.Parse(cluster, raw)
	if err != nil {
		return nil, nil, err
	}
	if e.Kind != audit.KindFinding {
		w.hits = w.conditions(w.hits, &e)
	}
	return w.given(&e)
}

// given is what MatchRaw answers for an event that was parsed.
func (w *Worker) given(ev *audit.Event) (*audit.Event, []Hit, error) {
	if len(w.hits) == 0 && !w.p.everything {
		return nil, nil, nil
	}
	return ev, w.hits, nil
}

// undecided reports whether every rule that the engine let through has a condition.
func (w *Worker) undecided() bool {
	for _, i := range w.places {
		if w.p.rules[i].Condition == nil {
			return false
		}
	}
	return true
}

func (w *Worker) appendHits(hits []Hit, ev *audit.Event) []Hit {
	if ev.Kind == audit.KindFinding || w.matcher == nil { // a rule about findings would feed on itself
		return hits
	}
	w.match(ev)
	return w.conditions(hits, ev)
}

// conditions asks the conditions of the rules that the engine let through. Of falco rules the first in order may be the only one.
func (w *Worker) conditions(hits []Hit, ev *audit.Event) []Hit {
	falco := -1
	for _, i := range w.places {
		r := w.p.rules[i]
		if r.Condition != nil && !w.ask(i, r, ev) {
			continue
		}
		if w.p.o.FalcoFirst && r.Format == "falco" {
			if falco >= 0 {
				if r.Order < hits[falco].Rule.Order {
					copy(hits[falco:], hits[falco+1:])
					hits[len(hits)-1] = Hit{Rule: r, place: int32(i)}
					falco = len(hits) - 1
				}
				continue
			}
			falco = len(hits)
		}
		hits = append(hits, Hit{Rule: r, place: int32(i)})
	}
	return hits
}

var errPanic = errors.New("rule panicked")

// ask runs one condition, keeps its panic from the others, and counts.
func (w *Worker) ask(i int, r *rule.Rule, ev *audit.Event) bool {
	s := w.touched(i)
	s.Evaluations++
	var begin time.Time
	if w.now != nil {
		begin = w.now()
	}
	ok, err := guarded(r.Condition, ev)
	if w.now != nil {
		s.Time += w.now().Sub(begin)
	}
	if err == nil {
		return ok
	}
	w.failed(i, err)
	return false
}

// touched is the stats of the i-th rule, which are then handed over.
func (w *Worker) touched(i int) *RuleStats {
	s := &w.stats[i]
	if !s.dirty {
		s.dirty = true
		w.dirty = append(w.dirty, i)
	}
	return s
}

// failed counts a rule that could not decide.
func (w *Worker) failed(i int, err error) {
	s, n := w.touched(i), reasonIndex(err)
	s.Errors[n]++
	if s.First[n] == nil {
		s.First[n] = err
	}
}

func reasonIndex(err error) int {
	if errors.Is(err, errPanic) {
		return len(errorReasons) - 1
	}
	for i, r := range errorReasons {
		if r == rule.Reason(err) {
			return i
		}
	}
	return len(errorReasons) - 2
}

// Stats hands over what the conditions did since the last call, for the rules whose condition ran, and begins anew.
func (w *Worker) Stats(f func(r *rule.Rule, s RuleStats)) {
	for _, i := range w.dirty {
		s := w.stats[i]
		w.stats[i] = RuleStats{}
		f(w.p.rules[i], s)
	}
	w.dirty = w.dirty[:0]
}
