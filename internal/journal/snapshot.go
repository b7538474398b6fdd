package journal

import (
	"sync"

	"whodunit/internal/audit"
	"whodunit/internal/journal/segment"
)

// Snapshot is everything that the journal holds at one moment: each durable event is in exactly one segment or block. It
// keeps the segments' files open until Close, so what retention deletes meanwhile stays readable. Safe for concurrent use.
type Snapshot struct {
	Segments []*segment.File // oldest sequence first; owned by the journal, not to be closed by the user
	Head     []Block         // not sealed yet, oldest sequence first
	// Unreadable counts segments that are named but cannot be opened.
	Unreadable int

	once    sync.Once
	release func()
}

// Block is a run of consecutive unsealed events.
type Block struct {
	First, Last          uint64 // sequence numbers, inclusive
	MinMicros, MaxMicros int64  // event times
	// Load gives the events, from memory or from the WAL. Damaged ones are left out and counted.
	Load func() (records []audit.Record, damaged int64, err error)
}

// Close releases the snapshot. It may be called more than once.
func (s *Snapshot) Close() {
	s.once.Do(func() {
		if s.release != nil {
			s.release()
		}
	})
}
