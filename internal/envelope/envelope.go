// Package envelope takes audit events out of the wrappings in which they travel. Each form is one Decode function; a
// source is given the one it needs. Bytes are never marshalled again: events are slices of the body.
package envelope

import (
	"errors"
	"fmt"

	"whodunit/internal/audit"
)

// Decode takes the events out of one body: a request's, a line, a message. It takes ownership of body, whose memory the
// events share. One bad piece does not lose the others: it comes back in Rejects. An error means that body holds no audit
// event at all; it is permanent, its text says why, and Rejects has the pieces. An empty list is no error.
type Decode func(cluster string, body []byte) (Result, error)

// Result is what one body held, in its order.
type Result struct {
	Events  []audit.Event
	Rejects []Reject
	Omitted int // bad pieces beyond the first 1,000, which are not in Rejects: a body of garbage must not fill the memory
}

const maxRejects = 1000

// Reject is a piece of a body that is no event. Raw is a slice of the body.
type Reject struct {
	Raw []byte
	Err error // permanent
}

// ErrTooLarge is wrapped where an event has more than audit.MaxEventBytes.
var ErrTooLarge = errors.New("event too large")

// The reasons for which input is refused, as the metric label of whodunit_rejected_total.
const (
	ReasonSyntax   = "syntax"
	ReasonNotAudit = "not_audit"
	ReasonTooLarge = "too_large"
	ReasonEnvelope = "envelope"
)

// Reason is the metric label for an error of Decode or of a Reject.
func Reason(err error) string {
	switch {
	case errors.Is(err, ErrTooLarge):
		return ReasonTooLarge
	case errors.Is(err, audit.ErrNotAudit):
		return ReasonNotAudit
	}
	return ReasonSyntax
}

// Line decodes one line of an audit log: nearly always a single event, so that is tried first. It is a Decode.
func Line(cluster string, line []byte) (Result, error) {
	if len(line) <= audit.MaxEventBytes {
		if e, err := parse(cluster, line); err == nil {
			return Result{Events: []audit.Event{e}}, nil
		}
	}
	return EventList(cluster, line)
}

// add parses one event into r, or puts it with the rejected.
func (r *Result) add(cluster string, raw []byte) {
	if len(raw) > audit.MaxEventBytes {
		_ = r.bad(raw, fmt.Errorf("%w: %d bytes, at most %d are taken", ErrTooLarge, len(raw), audit.MaxEventBytes))
		return
	}
	e, err := parse(cluster, raw)
	if err != nil {
		_ = r.bad(raw, err)
		return
	}
	r.Events = append(r.Events, e)
}

// parse is audit.Parse for what comes from outside: our own findings have the shape of events, and nobody may forge one.
func parse(cluster string, raw []byte) (audit.Event, error) {
	e, err := audit.Parse(cluster, raw)
	if err == nil && e.Kind == audit.KindFinding {
		return audit.Event{}, fmt.Errorf("%w: kind is %q", audit.ErrNotAudit, e.Kind)
	}
	return e, err
}

// bad refuses a piece of a body, or all of it.
func (r *Result) bad(raw []byte, err error) error {
	if len(r.Rejects) < maxRejects {
		r.Rejects = append(r.Rejects, Reject{raw, err})
	} else {
		r.Omitted++
	}
	return err
}
