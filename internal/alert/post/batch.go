package post

import (
	"errors"

	"whodunit/internal/alert"
)

// Batch remembers what became of each finding of a batch that was taken in part only, so that the next calls of Notify, with all of it or
// with one finding at a time, send none again that a receiver has taken or refused. The zero value is ready; it is used by one goroutine.
type Batch struct {
	known   map[string]error // by finding's id; nil: taken
	refused bool             // there is an error among them
}

// Open gives those findings that nothing is known of. When that is all of them, another batch has begun, and the last one is forgotten.
func (b *Batch) Open(findings []alert.Finding) []alert.Finding {
	var open []alert.Finding
	for i := range findings {
		if _, known := b.known[findings[i].ID]; !known {
			open = append(open, findings[i])
		}
	}
	if len(open) == len(findings) {
		b.known, b.refused = make(map[string]error, len(findings)), false
	}
	return open
}

// Done says that a finding is taken (nil), or refused for good.
func (b *Batch) Done(id string, refused error) {
	b.known[id] = refused
	b.refused = b.refused || refused != nil
}

// End is what Notify returns when all findings are done: nil, or why the first refused one of them was.
func (b *Batch) End(findings []alert.Finding) error {
	if !b.refused {
		b.known = nil
		return nil
	}
	for i := range findings {
		if err := b.known[findings[i].ID]; err != nil {
			return err
		}
	}
	return nil
}

// Each sends one finding after the other. It stops at the first error that is worth another try.
func (b *Batch) Each(findings []alert.Finding, send func(*alert.Finding) error) error {
	open := b.Open(findings)
	for i := range open {
		err := send(&open[i])
		if err != nil && !errors.Is(err, alert.ErrRejected) {
			return err
		}
		b.Done(open[i].ID, err)
	}
	return b.End(findings)
}
