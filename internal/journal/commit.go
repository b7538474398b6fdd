package journal

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"whodunit/internal/audit"
	"whodunit/internal/journal/wal"
)

// maxGroup bounds the compressed bytes of one write.
const maxGroup = 16 << 20

// pending is a batch on its way to the disk.
type pending struct {
	records []audit.Record
	keys    [][8]byte
	payload []byte
	done    chan struct{} // closed when err is final
	err     error
}

// Append makes the batch durable: nil means that every event in it is on disk, or was before. It takes ownership of b. On any
// error the caller delivers the same events again later; errors.Is(err, ErrFull) says that waiting helps. Batches of any size are
// taken; they become durable in pieces of audit.MaxBatchBytes.
func (j *Journal) Append(ctx context.Context, b audit.Batch) error {
	if b.Bytes() <= audit.MaxBatchBytes {
		return j.append(ctx, b)
	}
	for _, part := range b.Split() {
		if err := j.append(ctx, part); err != nil {
			return err
		}
	}
	return nil
}

func (j *Journal) append(ctx context.Context, b audit.Batch) error {
	size := min(int64(b.Bytes()), j.o.InFlight)
	if err := j.room.Acquire(ctx, size); err != nil {
		j.m.failures.WithLabelValues("in_flight").Inc()
		return fmt.Errorf("cannot append %d events: %w: too much is being written already: %w", len(b.Events), ErrFull, err)
	}
	defer j.room.Release(size)
	j.pace(ctx)
	p := &pending{done: make(chan struct{}), records: make([]audit.Record, 0, len(b.Events)), keys: make([][8]byte, 0, len(b.Events))}
	now := j.o.Now().UnixMicro()
	for i := range b.Events {
		e := b.Events[i]
		p.records = append(p.records, audit.Record{IngestedMicros: now, Source: b.Origin.Source, Identity: e.Identity(), Event: e})
	}
	others, late, err := j.reserve(p)
	if err != nil {
		return err
	}
	if late != nil {
		j.dropLate(p, late)
	}
	if len(p.records) > 0 {
		p.payload = j.codec.Encode(b.Origin.Position, p.records)
		if err := j.submit(p); err != nil {
			return err
		}
		<-p.done // the committer always answers
		if p.err != nil {
			return p.err
		}
	} else {
		close(p.done)
	}
	for _, o := range others {
		<-o.done
		if o.err != nil {
			return fmt.Errorf("cannot append: another delivery of the same events failed: %w", o.err)
		}
	}
	return nil
}

// paceAtMost bounds how long one batch waits for sealing.
const paceAtMost = 250 * time.Millisecond

// pace holds a batch back for a moment while events come in faster than they are sealed: beyond what is held in memory, each would have
// to be read from the WAL again, by the sealer and by every reader, which costs more than the wait. A burst of up to
// HeadCache is not held back.
func (j *Journal) pace(ctx context.Context) {
	j.mu.Lock()
	behind, progress := j.unsealed > j.o.HeadCache && j.sealing, j.progress
	j.mu.Unlock()
	if !behind {
		return
	}
	t := time.NewTimer(paceAtMost)
	defer t.Stop()
	select {
	case <-progress:
	case <-t.C:
	case <-j.stopping:
	case <-ctx.Done():
	}
}

// reserve drops duplicates from p and registers the rest as on their way. It returns the batches that hold the dropped
// ones but are not durable yet: p may be acknowledged only after them. late are the segments that may hold duplicates which the
// recent-set has forgotten, nil if there can be none.
func (j *Journal) reserve(p *pending) (others []*pending, late []*segmentRef, err error) {
	keys := make([][8]byte, len(p.records))
	if j.o.IDReuse {
		for i := range p.records {
			keys[i] = p.records[i].Event.RequestKey()
		}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return nil, nil, ErrClosed
	}
	kept := p.records[:0]
	waits := map[*pending]bool{}
	lo, hi := int64(1<<62), int64(-1<<62)
	for i := range p.records {
		r := p.records[i]
		if other := j.inflight[r.Identity]; other != nil {
			if other != p {
				waits[other] = true
			}
			j.m.duplicates.WithLabelValues("recent").Inc()
			continue
		}
		if j.recent.has(r.Identity) {
			j.m.duplicates.WithLabelValues("recent").Inc()
			continue
		}
		if j.o.IDReuse {
			if j.flying[keys[i]] > 0 || j.recent.hasKey(keys[i]) {
				r.Event.Flags |= audit.FlagIDReused
				j.m.idReused.Inc()
			}
			j.flying[keys[i]]++
		}
		j.inflight[r.Identity] = p
		lo, hi = min(lo, r.Event.Micros()), max(hi, r.Event.Micros())
		kept, p.keys = append(kept, r), append(p.keys, keys[i])
	}
	p.records = kept
	for o := range waits {
		others = append(others, o)
	}
	for _, s := range j.segments {
		if m := s.file.Meta(); m.MinSeq < j.recent.fromSeq && m.MinMicros <= hi && m.MaxMicros >= lo {
			s.acquire()
			late = append(late, s)
		}
	}
	return others, late, nil
}

// dropLate drops what a segment has already: a log read again long after its events came by webhook.
func (j *Journal) dropLate(p *pending, late []*segmentRef) {
	kept, keys := p.records[:0], p.keys[:0]
	var gone []audit.Record
	var goneKeys [][8]byte
	for i := range p.records {
		r := p.records[i]
		if inSegments(late, &r) {
			gone, goneKeys = append(gone, r), append(goneKeys, p.keys[i])
			continue
		}
		kept, keys = append(kept, r), append(keys, p.keys[i])
	}
	p.records, p.keys = kept, keys
	j.mu.Lock()
	for i := range gone {
		j.land(gone[i].Identity, goneKeys[i])
	}
	j.mu.Unlock()
	j.m.duplicates.WithLabelValues("late").Add(float64(len(gone)))
	for _, s := range late {
		if err := s.release(); err != nil {
			j.o.Log.Warn("cannot close segment", "err", err)
		}
	}
}

func inSegments(segments []*segmentRef, r *audit.Record) bool {
	t := r.Event.Micros()
	for _, s := range segments {
		if m := s.file.Meta(); t < m.MinMicros || t > m.MaxMicros {
			continue
		}
		// A segment that cannot answer is no reason to drop an event.
		if found, err := s.file.Contains(r.Identity); err == nil && found {
			return true
		}
	}
	return false
}

// submit hands p to the committer.
func (j *Journal) submit(p *pending) error {
	j.mu.Lock()
	if j.closed {
		j.forget(p)
		j.mu.Unlock()
		p.err = ErrClosed
		close(p.done)
		return ErrClosed
	}
	j.pending = append(j.pending, p)
	j.mu.Unlock()
	select {
	case j.queue <- struct{}{}:
	default:
	}
	return nil
}

// forget takes p's events off the list of those on their way. j.mu is held.
func (j *Journal) forget(p *pending) {
	for i := range p.records {
		j.land(p.records[i].Identity, p.keys[i])
	}
}

// land takes one event off that list. j.mu is held.
func (j *Journal) land(id audit.Identity, key [8]byte) {
	delete(j.inflight, id)
	if j.o.IDReuse {
		if j.flying[key]--; j.flying[key] <= 0 {
			delete(j.flying, key)
		}
	}
}

// commit is the one goroutine that writes the WAL.
func (j *Journal) commit() {
	for {
		select {
		case <-j.queue:
		case <-j.stopping:
			j.mu.Lock()
			left := j.pending
			j.pending = nil
			j.mu.Unlock()
			j.writeGroup(left)
			return
		}
		for {
			group := j.nextGroup()
			if len(group) == 0 {
				break
			}
			j.writeGroup(group)
		}
	}
}

func (j *Journal) nextGroup() []*pending {
	j.mu.Lock()
	defer j.mu.Unlock()
	n, size := 0, 0
	for n < len(j.pending) && (n == 0 || size+len(j.pending[n].payload) <= maxGroup) {
		size += len(j.pending[n].payload)
		n++
	}
	group := j.pending[:n:n]
	j.pending = j.pending[n:]
	return group
}

// writeGroup makes a group durable and answers its senders.
func (j *Journal) writeGroup(group []*pending) {
	if len(group) == 0 {
		return
	}
	frames, err := j.writeFrames(group)
	j.mu.Lock()
	for i, p := range group {
		if p.err = err; err == nil {
			j.accept(p, frames[i])
		}
		j.forget(p)
	}
	if err == nil {
		close(j.changed)
		j.changed = make(chan struct{})
	}
	full := j.unsealed >= j.o.SegmentBytes
	j.mu.Unlock()
	for _, p := range group {
		close(p.done)
	}
	if full {
		j.wake()
	}
}

// wake lets the maintainer look for work.
func (j *Journal) wake() {
	select {
	case j.seal <- struct{}{}:
	default:
	}
}

// writeFrames writes and syncs one frame a batch. On an error none is durable.
func (j *Journal) writeFrames(group []*pending) ([]wal.Frame, error) {
	if reason := j.refusal(); reason != "" {
		j.m.failures.WithLabelValues("full").Add(float64(len(group)))
		return nil, fmt.Errorf("cannot append: %w: %s", ErrFull, reason)
	}
	if err := j.rollWAL(); err != nil {
		return nil, j.writeFailure(err, len(group))
	}
	frames := make([]wal.Frame, len(group))
	var buf []byte
	seq, off := j.next, j.w.Size() // next changes in this goroutine only
	for i, p := range group {
		at := len(buf)
		buf = wal.AppendFrame(buf, j.w.Salt(), seq, uint32(len(p.records)), p.payload)
		frames[i] = wal.Frame{Seq: seq, Count: uint32(len(p.records)), Offset: off + int64(at), Size: len(buf) - at}
		seq += uint64(len(p.records))
	}
	start := time.Now()
	if err := j.w.Write(buf); err != nil {
		return nil, j.writeFailure(err, len(group))
	}
	j.m.syncSeconds.Observe(time.Since(start).Seconds())
	j.m.walBytes.Add(float64(len(buf)))
	j.writes("", time.Time{})
	return frames, nil
}

// rollWAL makes sure that there is a writer with room.
func (j *Journal) rollWAL() error {
	if j.w != nil && !j.w.Broken() && j.w.Size() < j.o.WALFileBytes {
		return nil
	}
	w, err := wal.Create(filepath.Join(j.dir, "wal"), j.next)
	if err != nil {
		return err
	}
	f, err := openWAL(w.Path(), w.Salt())
	if err != nil {
		return errors.Join(err, w.Close())
	}
	if j.w != nil {
		if err := j.w.Close(); err != nil {
			j.o.Log.Warn("cannot close WAL", "err", err)
		}
	}
	j.w = w
	j.mu.Lock()
	j.wFile = f
	j.files = append(j.files, f)
	j.mu.Unlock()
	return nil
}

// accept takes a durable batch into the head. j.mu is held.
func (j *Journal) accept(p *pending, f wal.Frame) {
	b := newBlock(f, j.wFile, p.records)
	for i := range p.records {
		r := &p.records[i]
		r.Seq = f.Seq + uint64(i)
		j.recent.add(r.Seq, r.Identity, p.keys[i])
	}
	j.addBlock(b, p.records)
	j.wFile.size, j.wFile.last = j.w.Size(), f.Next()-1
	j.next = f.Next()
	j.m.appended.Add(float64(len(p.records)))
	j.m.appendedBytes.Add(float64(b.rawBytes))
	j.m.last.Set(float64(j.next - 1))
}

// addBlock appends to the head, in memory as far as the cache's budget goes. j.mu is held.
func (j *Journal) addBlock(b *block, records []audit.Record) {
	if len(j.blocks) == 0 {
		j.headSince = j.o.Now()
	}
	if j.cached+b.rawBytes <= j.o.HeadCache {
		b.records = records
		j.cached += b.rawBytes
	}
	j.blocks = append(j.blocks, b)
	j.unsealed += b.rawBytes
}
