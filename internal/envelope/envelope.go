// Package envelope takes audit events out of the wrappings in which they travel. Each form is one Decode function; a
// source is given the one it needs. Bytes are not marshalled again where they need not be: most events are slices of the body.
package envelope

import (
	"bytes"
	"errors"
	"fmt"

	"whodunit/internal/audit"
)

// Decode takes the events out of one body: a request's, a line, a message. It takes ownership of body, whose memory the
// events share. One bad piece does not lose the others: it comes back in Rejects. An error means that body holds no audit
// event at all; it is permanent, its text says why, and Rejects has the pieces. An empty list is no error, nor is a body of which all
// was passed over.
//
// cluster is the events' cluster. Where it is empty, Any takes the name that the envelope has, if it has one.
type Decode func(cluster string, body []byte) (Result, error)

// Result is what one body held, in its order.
type Result struct {
	Events  []audit.Event
	Rejects []Reject
	Omitted int // bad pieces beyond the first 1,000, which are not in Rejects: a body of garbage must not fill the memory
	// Skipped counts the pieces that are something else than audit events by right, such as other logs in the same stream, by one of
	// the Skip words. nil where there are none.
	Skipped map[string]int
}

// Bounds of one body. An event takes about 600 bytes beside its text, so the first keeps a body of a million tiny ones from taking
// a gigabyte; API servers send 400 in one (--audit-webhook-batch-max-size), event hubs and subscriptions a few thousand.
const (
	maxRejects  = 1000
	maxOmitted  = 100_000 // bad pieces beyond those: then the rest of the body is one more, unread, so that garbage takes no time
	maxEvents   = 200_000
	maxNest     = 16        // envelopes in envelopes: a text in one counts for itself; the deepest that are known need 9
	maxUnpacked = 128 << 20 // bytes, of all that is compressed in one body
)

// Reject is a piece of a body that is no event. Raw is a slice of the body, or of what was packed in it.
type Reject struct {
	Raw []byte
	Err error // permanent
}

// What is wrong with a piece, beside audit.ErrNotAudit and bad JSON. They are wrapped.
var (
	// ErrTooLarge: an event has more than audit.MaxEventBytes, or the body unpacks to too much.
	ErrTooLarge = errors.New("event too large")
	// ErrTooMany: the body has more events than are taken from one.
	ErrTooMany = errors.New("too many events in one body")
	// ErrTruncated: a service on the way cut the event's text.
	ErrTruncated = errors.New("event was truncated on its way")
	// ErrEnvelope: the wrapping is damaged: no base64, no gzip, nested too deep.
	ErrEnvelope = errors.New("cannot open envelope")
)

// The reasons for which input is refused, as the metric label of whodunit_rejected_total.
const (
	ReasonSyntax    = "syntax"
	ReasonNotAudit  = "not_audit"
	ReasonTooLarge  = "too_large"
	ReasonTooMany   = "too_many"
	ReasonTruncated = "truncated"
	ReasonEnvelope  = "envelope"
)

// The reasons of Result.Skipped.
const (
	SkipCategory = "category" // another log category of Azure
	SkipControl  = "control"  // a control message of CloudWatch Logs
	SkipStream   = "stream"   // another log stream of EKS
	SkipService  = "service"  // a Google Cloud log entry of another service than Kubernetes
)

// Reason is the metric label for an error of Decode or of a Reject.
func Reason(err error) string {
	switch {
	case errors.Is(err, ErrTooLarge):
		return ReasonTooLarge
	case errors.Is(err, ErrTooMany):
		return ReasonTooMany
	case errors.Is(err, ErrTruncated):
		return ReasonTruncated
	case errors.Is(err, ErrEnvelope):
		return ReasonEnvelope
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

// decoder is the work on one body.
type decoder struct {
	Result
	any      bool // every form, not the API server's alone
	depth    int  // of envelopes that are open
	unpacked int  // bytes decompressed so far
}

// add parses one event, or puts it with the rejected.
func (d *decoder) add(cluster string, raw []byte) {
	if d.any && !bare(raw) && d.wrapped(cluster, raw) {
		return
	}
	d.parsed(cluster, raw)
}

// wrapped takes the events out of a value that is none itself. false: it has no form that is known.
func (d *decoder) wrapped(cluster string, raw []byte) bool {
	switch {
	case raw[0] == '"':
		d.text(cluster, raw)
		return true
	case raw[0] == '[' && d.depth < maxNest:
		d.depth++
		d.elements(cluster, raw)
		d.depth--
		return true
	}
	return d.open(cluster, raw)
}

// parsed is add for what is an event or nothing.
func (d *decoder) parsed(cluster string, raw []byte) {
	err := fmt.Errorf("%w: %d bytes, at most %d are taken", ErrTooLarge, len(raw), audit.MaxEventBytes)
	if len(raw) <= audit.MaxEventBytes {
		var e audit.Event
		if e, err = parse(cluster, raw); err == nil {
			d.take(e)
			return
		}
	}
	_ = d.bad(raw, err)
}

// take keeps an event that was parsed.
func (d *decoder) take(e audit.Event) {
	if len(d.Events) >= maxEvents {
		_ = d.bad(e.Raw, fmt.Errorf("%w: at most %d are taken", ErrTooMany, maxEvents))
		return
	}
	if d.any && odd(&e, d.depth > 0) {
		e = restored(e)
	}
	d.Events = append(d.Events, e)
}

func (d *decoder) skip(reason string, n int) {
	if n == 0 {
		return
	}
	if d.Skipped == nil {
		d.Skipped = map[string]int{}
	}
	d.Skipped[reason] += n
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

// hopeless reports whether so much of a body was bad that the rest is not looked at.
func (r *Result) hopeless() bool { return r.Omitted >= maxOmitted }

// errIfAllBad is the first reason where all of a body was refused.
func (r *Result) errIfAllBad() error {
	if len(r.Events) == 0 && len(r.Rejects) > 0 {
		return r.Rejects[0].Err
	}
	return nil
}

// withoutMark is b without a byte order mark.
func withoutMark(b []byte) []byte { return bytes.TrimPrefix(b, []byte("\xef\xbb\xbf")) }
