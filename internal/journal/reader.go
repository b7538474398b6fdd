package journal

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sort"

	"whodunit/internal/audit"
	"whodunit/internal/journal/segment"
)

// Reader hands out the journal's events in order of their sequence numbers, from a place on, and then waits for new ones. It
// is for one goroutine; Close it.
type Reader struct {
	j       *Journal
	next    uint64
	ref     *segmentRef // being read
	pull    func() ([]audit.Record, error, bool)
	end     func()
	rest    []audit.Record // read from the segment and not handed out yet
	Skipped int64          // events that were there once and are not any more: deleted by retention, or damaged
}

// Reader starts at the sequence number from; 0 stands for 1.
func (j *Journal) Reader(from uint64) *Reader { return &Reader{j: j, next: max(from, 1)} }

// Next waits for events and returns at least one, or ctx's error, or ErrClosed. The records may be kept.
func (r *Reader) Next(ctx context.Context) ([]audit.Record, error) {
	for {
		if r.pull != nil {
			records, err := r.pullSegment()
			if err != nil || len(records) > 0 {
				return records, err
			}
		}
		records, wait, err := r.step()
		if err != nil || len(records) > 0 {
			return records, err
		}
		if wait == nil {
			continue
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// At is the sequence number that comes next.
func (r *Reader) At() uint64 { return r.next }

// readerBatch is how many records of a segment are handed out at once, so that a cursor moves on in small steps.
const readerBatch = 1000

// pullSegment gives the next records of the open segment, none at its end.
func (r *Reader) pullSegment() ([]audit.Record, error) {
	records, err, ok := r.rest, error(nil), true
	if len(records) == 0 {
		records, err, ok = r.pull()
	}
	if err != nil {
		r.leave()
		return nil, fmt.Errorf("cannot read segment: %w", err)
	}
	if ok && len(records) > 0 {
		n := min(len(records), readerBatch)
		records, r.rest = records[:n:n], records[n:]
		r.advance(records)
		return records, nil
	}
	if !ok {
		last := r.ref.file.Meta().MaxSeq
		r.leave()
		r.skip(last + 1)
	}
	return nil, nil
}

// step looks where next is now: it opens a segment, or returns a block of the head, or the channel to wait on.
func (r *Reader) step() ([]audit.Record, <-chan struct{}, error) {
	j := r.j
	j.mu.Lock()
	if j.closed {
		j.mu.Unlock()
		return nil, nil, ErrClosed
	}
	if r.next >= j.next {
		wait := j.changed
		j.mu.Unlock()
		return nil, wait, nil
	}
	if r.next <= j.sealed {
		r.openSegment()
		j.mu.Unlock()
		return nil, nil, nil
	}
	i := sort.Search(len(j.blocks), func(i int) bool { return j.blocks[i].frame.Next() > r.next })
	if i == len(j.blocks) {
		r.skip(j.next) // lost when the journal was opened
		j.mu.Unlock()
		return nil, nil, nil
	}
	b := j.blocks[i]
	records := b.records
	b.file.acquire()
	j.mu.Unlock()
	defer b.file.release()
	if records == nil {
		var err error
		if records, _, err = b.load(j.codec); err != nil {
			return nil, nil, err
		}
	}
	for len(records) > 0 && records[0].Seq < r.next {
		records = records[1:]
	}
	if len(records) == 0 {
		r.skip(b.frame.Next())
		return nil, nil, nil
	}
	r.advance(records)
	return records, nil, nil
}

// openSegment begins to read the segment that holds next, or skips to the first that there is. j.mu is held.
func (r *Reader) openSegment() {
	j := r.j
	i := sort.Search(len(j.segments), func(i int) bool { return j.segments[i].file.Meta().MaxSeq >= r.next })
	if i == len(j.segments) {
		r.skip(j.sealed + 1)
		return
	}
	ref := j.segments[i]
	if first := ref.file.Meta().MinSeq; first > r.next {
		r.skip(first)
	}
	ref.acquire()
	r.ref = ref
	r.pull, r.end = iter.Pull2(scanSegment(ref.file, r.next))
}

// errStop ends a scan whose reader has gone.
var errStop = errors.New("stopped")

func scanSegment(f *segment.File, from uint64) iter.Seq2[[]audit.Record, error] {
	return func(yield func([]audit.Record, error) bool) {
		_, err := f.Scan(context.Background(), from, func(records []audit.Record) error {
			if !yield(records, nil) {
				return errStop
			}
			return nil
		})
		if err != nil && !errors.Is(err, errStop) {
			yield(nil, err)
		}
	}
}

func (r *Reader) advance(records []audit.Record) {
	r.skip(records[0].Seq)
	for i := 1; i < len(records); i++ {
		r.Skipped += int64(records[i].Seq - records[i-1].Seq - 1)
	}
	r.next = records[len(records)-1].Seq + 1
}

func (r *Reader) skip(to uint64) {
	if to > r.next {
		r.Skipped += int64(to - r.next)
		r.next = to
	}
}

func (r *Reader) leave() {
	if r.ref == nil {
		return
	}
	r.end()
	if err := r.ref.release(); err != nil {
		r.j.o.Log.Warn("cannot close segment", "err", err)
	}
	r.ref, r.pull, r.end, r.rest = nil, nil, nil, nil
}

// Close lets go of what the reader holds.
func (r *Reader) Close() { r.leave() }
