package lines

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"whodunit/internal/audit"
	"whodunit/internal/envelope"
	"whodunit/internal/source"
)

// lineCost is what a line costs beside its bytes, in bytes: so that many short ones don't take much memory.
const lineCost = 256

// Batch gathers lines until they are emitted together. Not safe for concurrent use.
type Batch struct {
	Source, Path, Cluster string // Path is for positions: PATH:START-END
	Decode                envelope.Decode
	Reject                source.Reject
	Skipped               func(reason string, n int) // told of what envelopes held beside audit events, when the batch is delivered; may be nil

	events   []audit.Event
	rejected []source.Rejected
	skipped  map[string]int
	bytes    int
	extra    int // what came out of envelopes takes this much more than they do
	lines    int
	start    int64
	end      int64
}

// Fits says whether the line can come into this batch; into an empty one every line can.
func (b *Batch) Fits(l Line) bool {
	return b.lines == 0 || b.bytes+b.extra+len(l.Bytes)+b.lines*lineCost <= audit.MaxBatchBytes
}

// Empty says that there is nothing to deliver.
func (b *Batch) Empty() bool { return b.lines == 0 }

// Bytes is the sum of the lines' lengths.
func (b *Batch) Bytes() int { return b.bytes }

// Add decodes one line. What is no event is refused when the batch is delivered, not before: until then the line may
// come again. Blank lines are passed over.
func (b *Batch) Add(l Line) {
	if b.lines == 0 {
		b.start = l.Start
	}
	b.lines++
	b.bytes += len(l.Bytes)
	b.end = l.Start + l.Size
	if l.TooLong {
		b.refuse(l, l.Bytes, l.Size, fmt.Errorf("%w: a line of %d bytes", envelope.ErrTooLarge, l.Size))
		return
	}
	if blank(l.Bytes) {
		return
	}
	r, _ := b.Decode(b.Cluster, l.Bytes) // an error stands for its rejects
	b.events = append(b.events, r.Events...)
	if len(r.Events) != 1 || len(r.Events[0].Raw) > len(l.Bytes) {
		decoded := -len(l.Bytes)
		for i := range r.Events {
			decoded += len(r.Events[i].Raw) + lineCost
		}
		b.extra += max(0, decoded)
	}
	for reason, n := range r.Skipped {
		if b.skipped == nil {
			b.skipped = map[string]int{}
		}
		b.skipped[reason] += n
	}
	for _, x := range r.Rejects {
		b.refuse(l, x.Raw, int64(len(x.Raw)), x.Err)
	}
	if r.Omitted > 0 {
		b.refuse(l, nil, 0, fmt.Errorf("%w: %d more pieces of one line", audit.ErrNotAudit, r.Omitted))
	}
}

func blank(b []byte) bool {
	for _, c := range b {
		if c != ' ' && c != '\t' && c != '\r' {
			return false
		}
	}
	return true
}

func (b *Batch) refuse(l Line, raw []byte, size int64, err error) {
	b.rejected = append(b.rejected, source.Rejected{
		Origin: audit.Origin{Source: b.Source, Position: b.position(l.Start, l.Start+l.Size)},
		Reason: envelope.Reason(err), Err: err, Size: size, Bytes: slices.Clone(raw[:min(len(raw), KeepBytes)]),
	})
}

func (b *Batch) position(start, end int64) string { return fmt.Sprintf("%s:%d-%d", b.Path, start, end) }

// Backoff says how long to wait between tries of emit.
type Backoff struct {
	Min, Max time.Duration              // doubling from Min; 100 ms to 10 s where 0
	Failed   func(err error, again int) // told of each failure, which is the again-th in a row; may be nil
}

// Deliver emits the batch, again and again until it is durable; then it refuses what was no event, and the batch is
// empty. It gives ctx's error when that ends first, and then nothing may be taken for delivered.
func (b *Batch) Deliver(ctx context.Context, emit source.Emit, wait Backoff) error {
	whole := audit.Batch{Origin: audit.Origin{Source: b.Source, Position: b.position(b.start, b.end)}, Events: b.events}
	for _, part := range whole.Split() {
		if err := deliver(ctx, emit, part, wait); err != nil {
			return err
		}
	}
	for _, r := range b.rejected {
		b.Reject(r)
	}
	if b.Skipped != nil {
		for reason, n := range b.skipped {
			b.Skipped(reason, n)
		}
	}
	b.events, b.rejected, b.skipped, b.bytes, b.extra, b.lines = nil, nil, nil, 0, 0, 0
	return nil
}

func deliver(ctx context.Context, emit source.Emit, part audit.Batch, wait Backoff) error {
	pause, most := wait.Min, wait.Max
	if pause <= 0 {
		pause = 100 * time.Millisecond
	}
	if most <= 0 {
		most = 10 * time.Second
	}
	for again := 1; ; again++ {
		mine := part
		mine.Events = slices.Clone(part.Events) // emit owns what it gets, even if it fails
		err := emit(ctx, mine)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if wait.Failed != nil {
			wait.Failed(err, again)
		}
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		}
		pause = min(2*pause, most)
	}
}

// FailureReason is the metric label for an error of emit.
func FailureReason(err error) string {
	if errors.Is(err, source.ErrPressure) {
		return "pressure"
	}
	return "emit"
}
