package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"whodunit/internal/audit"
	"whodunit/internal/journal"
	"whodunit/internal/match"
	"whodunit/internal/store"
)

// folder opens a journal for each question, so that it always sees what has come in.
type folder struct {
	dir  string
	lost func(events int64) // told by tail; may be nil
}

// Snapshot is that of the store's source.
func (f folder) Snapshot() (*journal.Snapshot, error) { return journal.OpenReadOnly(f.dir) }

// tailEvery is how often a data folder is looked at for new events, tailTries how often in a row it may be unreadable: a server
// that seals and merges takes files away between two looks.
const (
	tailEvery = 500 * time.Millisecond
	tailTries = 4
)

// errUnreadable is wrapped by errors of the journal's files, in contrast to those of the one who takes the events.
var errUnreadable = errors.New("cannot follow the journal")

// tail hands on what comes in from now on.
func (f folder) tail(ctx context.Context, q store.Query, yield func(*audit.Record) error) error {
	next, failed := uint64(0), 0
	tick := time.NewTicker(tailEvery)
	defer tick.Stop()
	for {
		n, err := f.since(ctx, next, q.Expr, yield)
		if n > next || err == nil {
			failed = 0
		}
		next = n
		if failed++; err != nil && (failed == tailTries || !errors.Is(err, errUnreadable)) {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// since hands on the matching records from sequence number next on and returns the one behind the last. next 0 only finds the end.
func (f folder) since(ctx context.Context, next uint64, e match.Expr, yield func(*audit.Record) error) (uint64, error) {
	s, err := journal.OpenReadOnly(f.dir)
	if err != nil {
		return next, fmt.Errorf("%w: %w", errUnreadable, err)
	}
	defer s.Close()
	begin := next == 0
	if begin {
		next = 1
	}
	emit := func(records []audit.Record) error {
		for i := range records {
			if r := &records[i]; r.Seq >= next && match.Eval(e, &r.Event) {
				if err := yield(r); err != nil {
					return err
				}
			}
		}
		return nil
	}
	for _, seg := range s.Segments {
		m := seg.Meta()
		if m.MaxSeq < next {
			continue
		}
		if !begin {
			damaged, err := seg.Scan(ctx, next, emit)
			if err != nil {
				return next, err
			}
			f.gap(damaged)
		}
		next = m.MaxSeq + 1
	}
	for _, b := range s.Head {
		if b.Last < next {
			continue
		}
		if !begin {
			records, damaged, err := b.Load()
			if err != nil {
				return next, fmt.Errorf("%w: %w", errUnreadable, err)
			}
			if err := emit(records); err != nil {
				return next, err
			}
			f.gap(damaged)
		}
		next = b.Last + 1
	}
	return next, nil
}

func (f folder) gap(events int64) {
	if events > 0 && f.lost != nil {
		f.lost(events)
	}
}
