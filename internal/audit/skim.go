package audit

import (
	"bytes"
	"fmt"
)

// Skim is Parse without a look into bodies: it costs a third, and what lies below the top level may still be invalid. It is for
// conditions on an event that is parsed later, if at all: an event of Skim has no Identity. It takes ownership of raw. Every error
// is permanent. Whatever Parse reads without error, Skim reads alike.
func Skim(cluster string, raw []byte) (Event, error) {
	e := Event{Cluster: cluster}
	raw = bytes.Trim(raw, " \t\r\n")
	if len(raw) == 0 || raw[0] != '{' {
		return Event{}, fmt.Errorf("%w: a JSON object is wanted", ErrNotAudit)
	}
	var legacy int64
	s := scanner{b: raw}
	if err := s.object(true, func(m member) error { e.set(m, &legacy); return nil }); err != nil {
		return Event{}, fmt.Errorf("cannot parse audit event: %w", err)
	}
	if s.i != len(raw) {
		return Event{}, fmt.Errorf("cannot parse audit event: %w", s.fail(errSyntax))
	}
	e.Raw = raw[:len(raw):len(raw)]
	if e.ReceivedMicros == 0 {
		e.ReceivedMicros = legacy
	}
	return e, e.check()
}

// TopNames are the names of all members of an event that Event has a field for.
var TopNames = [...]string{"kind", "apiVersion", "level", "auditID", "stage", "requestURI", "verb", "user", "impersonatedUser", "sourceIPs", "userAgent",
	"objectRef", "responseStatus", "requestObject", "responseObject", "requestReceivedTimestamp", "stageTimestamp", "timestamp", "annotations"}

// Assemble is Skim for a caller who has walked the top level: values are the last members of TopNames in raw, nil where there is none.
func Assemble(cluster string, raw []byte, values *[len(TopNames)][]byte) (Event, error) {
	e := Event{Cluster: cluster, Raw: bytes.Trim(raw, " \t\r\n")}
	var legacy int64
	for i, v := range values {
		if len(v) > 0 {
			e.take(TopNames[i], v, &legacy)
		}
	}
	if e.ReceivedMicros == 0 {
		e.ReceivedMicros = legacy
	}
	return e, e.check()
}
