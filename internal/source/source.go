// Package source is the contract of everything that brings events in. Package sourcetest holds every implementation to it.
package source

import (
	"context"
	"errors"

	"whodunit/internal/audit"
)

// Emit makes a batch durable. It takes ownership of b. nil is the acknowledgement: b is on disk. An error means that the
// source must deliver the same events again later; errors.Is(err, journal.ErrFull) tells back-pressure (answer 503 or wait)
// from other trouble. Emit may be called from many goroutines at once.
type Emit func(ctx context.Context, b audit.Batch) error

// ErrPressure is wrapped by an Emit's error that says "no room now, come again": a full disk, a journal at its size limit
// (journal.ErrFull wraps it). Sources wait, and tell their peer to wait.
var ErrPressure = errors.New("no room now")

// Reject keeps aside one piece of input that is no event. It never fails the source: what cannot be kept is counted.
type Reject func(r Rejected)

// Rejected is input that could not be understood, with the reason in words and as a metric label.
type Rejected struct {
	Origin audit.Origin
	Reason string // short, of a fixed set: "syntax", "not_audit", "too_large", "too_many", "truncated", "envelope"
	Err    error
	Bytes  []byte // the input, or its first 64 KiB
	Size   int64  // the whole input's size
}

// Source runs until ctx is done or it ends by itself (a finite input), and returns nil then. When Run returns, all that it
// emitted is acknowledged or will be delivered again at the next start.
type Source interface {
	Run(ctx context.Context, emit Emit) error
}
