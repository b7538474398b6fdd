package target

import (
	"errors"
	"time"

	"whodunit/internal/alert"
	"whodunit/internal/rule"
)

// Bounds of the schedule.
const (
	leastInterval = time.Second // a file that says less means no harm to its target
	// calm is the longest that a rule which fires again right after it was resolved waits before the target is told.
	calm = time.Minute
	// lastWindow is how long a message is tried that no other follows.
	lastWindow = time.Hour
	firstPause = time.Second
	lastPause  = time.Minute
)

// kind is what a message says.
type kind uint8

const (
	nothing  kind = iota
	first         // it fires
	repeat        // it still does
	unsolved      // it did all the while, and that was the last repeat: of strict alone
	resolved      // it is over
)

// run is what one target is told of one rule in one cluster, from its first message to the one that it is over. The target itself, which
// is a secret, is looked up in the rule.
type run struct {
	Rule    string    `json:"rule"`
	Cluster string    `json:"cluster"`
	Target  int       `json:"target"` // its place among the rule's
	Message string    `json:"message"`
	Sent    int       `json:"sent"`            // messages that are done with: taken, refused, or given up
	Due     time.Time `json:"due"`             // of the next but the last
	Began   time.Time `json:"began"`           // when the first was due
	Last    time.Time `json:"last"`            // when the rule last fired
	Ended   time.Time `json:"ended,omitzero"`  // when it was resolved, which is still to be told
	Again   bool      `json:"again,omitempty"` // it fired while that was told
	Over    bool      `json:"over,omitempty"`  // all is told; kept to see to it that the next does not come too soon

	flying    kind // what is being posted
	tries     int  // of the next message
	failing   bool
	notBefore time.Time // the target or our own patience asks for it
}

type key struct {
	rule, cluster string
	target        int
}

func (r *run) key() key { return key{r.Rule, r.Cluster, r.Target} }

// schedule knows what is to be posted when. It does nothing by itself, reads no clock and is for one goroutine at a time.
type schedule struct {
	strict       bool
	resolveAfter time.Duration
	most         int
	jitter       func() float64 // in [0, 1)
	runs         map[key]*run
}

// job is a message that is to be posted now.
type job struct {
	r    *run
	kind kind
	rule *rule.Rule
	at   *rule.Target
}

func interval(t *rule.Target) time.Duration { return max(t.Interval, leastInterval) }

// fire takes that the rule fires. It reports false where there are too many runs.
func (s *schedule) fire(k key, t *rule.Target, message string, now time.Time) bool {
	r := s.runs[k]
	switch {
	case r == nil && len(s.runs) >= s.most:
		return false
	case r == nil:
		r = &run{Rule: k.rule, Cluster: k.cluster, Target: k.target, Message: message, Due: now, Began: now}
		s.runs[k] = r
	case r.Over:
		r.Message, r.Over = message, false
		r.restart(t, now)
	case r.flying == resolved: // too late to take it back
		r.Message, r.Again, r.Ended = message, true, time.Time{}
	default:
		r.Ended, r.Again = time.Time{}, false // if it was resolved nobody was told
	}
	r.Last = now
	return true
}

// resolve takes that the rule is over. Who was not told yet that it fires is told both.
func (s *schedule) resolve(k key, now time.Time) {
	if r := s.runs[k]; r != nil && !r.Over && r.Ended.IsZero() {
		r.end(now)
	}
}

func (r *run) end(now time.Time) {
	r.Ended = now
	if r.Sent > 0 && r.flying == nothing {
		r.tries = 0
	}
}

func (r *run) restart(t *rule.Target, now time.Time) {
	r.Again, r.Sent, r.tries = false, 0, 0
	if r.Due = r.Began.Add(min(interval(t), calm)); r.Due.Before(now) {
		r.Due = now
	}
	r.Began = r.Due
}

// next is what is to be said next, however long it takes.
func (s *schedule) next(r *run, t *rule.Target) kind {
	switch {
	case r.Over:
		return nothing
	case r.Sent == 0:
		return first
	case !r.Ended.IsZero():
		return resolved
	case t.Times < 0 || r.Sent <= t.Times:
		return repeat
	case s.strict && r.Sent == t.Times+1:
		return unsolved
	}
	return nothing
}

// exhausted reports whether r is as if it had not fired: nothing more is said, and what is composite never resolves.
func (s *schedule) exhausted(r *run, ru *rule.Rule, t *rule.Target) bool {
	return s.strict && ru.Correlation == nil && s.next(r, t) == nothing
}

// deadline is when it is no use to try the next message any longer.
func (s *schedule) deadline(r *run, k kind, t *rule.Target) time.Time {
	switch {
	case k == resolved:
		return r.Ended.Add(lastWindow)
	case r.Ended.IsZero() && k != unsolved && (t.Times < 0 || r.Sent < t.Times || s.strict):
		return r.Due.Add(interval(t))
	}
	return r.Due.Add(max(interval(t), lastWindow))
}

// pass gives what is to be posted now, and when to ask again; the zero time: when something has happened. lookup gives the rule in force,
// nil if there is none; gone is called for each run that ends because its rule or target is no more.
func (s *schedule) pass(now time.Time, lookup func(id string) *rule.Rule, gone func(*run)) (jobs []job, again time.Time) {
	later := func(at time.Time) {
		if again.IsZero() || at.Before(again) {
			again = at
		}
	}
	for k, r := range s.runs {
		if r.flying != nothing {
			continue
		}
		ru := lookup(r.Rule)
		if ru == nil || r.Target >= len(ru.Targets) {
			delete(s.runs, k)
			gone(r)
			continue
		}
		t := &ru.Targets[r.Target]
		if r.Over {
			if until := r.Began.Add(min(interval(t), calm)); now.Before(until) {
				later(until)
			} else {
				delete(s.runs, k)
			}
			continue
		}
		if !s.strict && r.Ended.IsZero() {
			if quiet := r.Last.Add(s.resolveAfter); now.Before(quiet) {
				later(quiet)
			} else {
				r.end(now)
			}
		}
		what := s.next(r, t)
		if what == nothing {
			if s.exhausted(r, ru, t) { // by a reload
				delete(s.runs, k)
			}
			continue
		}
		if at := s.due(r, what); now.Before(at) {
			later(at)
			continue
		}
		if what != resolved && r.tries == 0 && now.Sub(r.Due) >= interval(t) {
			r.Due = now // nobody was there to send it: those behind it keep their distance
		}
		r.flying = what
		jobs = append(jobs, job{r, what, ru, t})
	}
	return jobs, again
}

func (s *schedule) due(r *run, k kind) time.Time {
	at := r.Due
	if k == resolved {
		at = r.Ended
	}
	if at.Before(r.notBefore) {
		at = r.notBefore
	}
	return at
}

// The results of a post, as a metric label.
const (
	posted  = "ok"
	failed  = "error" // to be tried again
	refused = "rejected"
	tooLate = "gave_up"
)

// done takes the outcome of a job.
func (s *schedule) done(j job, err error, now time.Time) string {
	r := j.r
	r.flying = nothing
	r.failing = err != nil
	result := posted
	switch {
	case err == nil:
		r.notBefore = time.Time{}
	case errors.Is(err, alert.ErrRejected):
		result = refused
	default:
		pause := lastPause
		if r.tries++; r.tries < 7 {
			pause = firstPause << (r.tries - 1)
		}
		pause = time.Duration(float64(pause) * (1 - s.jitter()/2))
		r.notBefore = now.Add(max(pause, alert.Pause(err)))
		if s.next(r, j.at) == j.kind && r.notBefore.Before(s.deadline(r, j.kind, j.at)) {
			return failed
		}
		result = tooLate
	}
	r.tries = 0
	switch {
	case j.kind == resolved && r.Again:
		r.restart(j.at, now)
	case j.kind == resolved:
		r.Over, r.Ended = true, time.Time{}
	default:
		if r.Sent == 0 {
			r.Began = r.Due
		}
		r.Sent++
		r.Due = r.Due.Add(interval(j.at))
	}
	if s.exhausted(r, j.rule, j.at) {
		delete(s.runs, r.key())
	}
	return result
}
