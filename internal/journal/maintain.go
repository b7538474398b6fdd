package journal

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"whodunit/internal/atomicfile"
	"whodunit/internal/audit"
	"whodunit/internal/journal/segment"
)

// maintain seals, merges and retires until ctx is done. It is the only goroutine that changes the list of segments.
func (j *Journal) maintain(ctx context.Context) {
	yieldThread()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	clock := newClock(j.o.Now)
	failed := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-j.seal:
		case <-tick.C:
		}
		err := errors.Join(j.sealReady(ctx), j.mergeReady(ctx), j.retire(clock), j.flushCursors())
		now := ""
		if err != nil {
			now = err.Error()
		}
		if now != failed && ctx.Err() == nil {
			if failed = now; err != nil {
				j.o.Log.Error("journal upkeep failed; it is tried again every second", "err", err)
			} else {
				j.o.Log.Info("journal upkeep works again")
			}
		}
		j.look()
		j.mu.Lock()
		j.report()
		j.mu.Unlock()
	}
}

// Seal writes everything unsealed to segments now, whatever its size and age. It is for imports and tests.
func (j *Journal) Seal(ctx context.Context) error {
	j.upkeep.Lock()
	defer j.upkeep.Unlock()
	for {
		blocks := j.toSeal(true)
		if len(blocks) == 0 {
			return nil
		}
		if err := j.sealBlocks(ctx, blocks); err != nil {
			return err
		}
	}
}

func (j *Journal) sealReady(ctx context.Context) error {
	j.upkeep.Lock()
	defer j.upkeep.Unlock()
	for ctx.Err() == nil {
		blocks := j.toSeal(false)
		if len(blocks) == 0 {
			return nil
		}
		if err := j.sealBlocks(ctx, blocks); err != nil {
			return err
		}
	}
	return nil
}

// toSeal picks the oldest blocks that make one segment, none if it is not time yet.
func (j *Journal) toSeal(now bool) []*block {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.blocks) == 0 {
		return nil
	}
	waited := j.o.Now().Sub(j.headSince)
	if !now && j.unsealed < j.o.SegmentBytes && waited >= 0 && waited < j.o.SealAfter {
		return nil
	}
	n, size := 0, int64(0)
	for n < len(j.blocks) && (n == 0 || size+j.blocks[n].rawBytes <= j.o.SegmentBytes) {
		size += j.blocks[n].rawBytes
		n++
	}
	return slices.Clone(j.blocks[:n])
}

// sealBlocks turns blocks into a segment: file, manifest, then the WAL is let go. A crash between any two leaves the events in
// the WAL, and the same file is written again.
func (j *Journal) sealBlocks(ctx context.Context, blocks []*block) error {
	start := time.Now()
	j.setSealing(true)
	defer j.setSealing(false)
	n := 0
	for _, b := range blocks {
		n += int(b.frame.Count)
	}
	records := make([]audit.Record, 0, n)
	for _, b := range blocks {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		j.mu.Lock()
		got := b.records
		j.mu.Unlock()
		if got == nil {
			var damaged int64
			var err error
			if got, damaged, err = b.load(j.codec); err != nil {
				return fmt.Errorf("cannot seal: %w", err)
			}
			if damaged > 0 {
				j.mu.Lock()
				j.lose(damaged, "wal", "path", b.file.path, "offset", b.frame.Offset)
				j.mu.Unlock()
			}
		}
		records = append(records, got...)
	}
	first, last := blocks[0].frame.Seq, blocks[len(blocks)-1].frame.Next()-1
	j.mu.Lock()
	first = max(first, j.sealed+1)
	j.mu.Unlock()
	var ref *segmentRef
	if len(records) > 0 {
		path := filepath.Join(j.dir, "segments", segmentName(first, last))
		if _, err := segment.Write(path, records, first, last); err != nil {
			return fmt.Errorf("cannot seal: %w", err)
		}
		f, err := segment.Open(path)
		if err != nil {
			return fmt.Errorf("cannot seal: the segment just written cannot be read: %w", err)
		}
		ref = &segmentRef{file: f, refs: 1}
	}
	gone, err := j.swapHead(ref, len(blocks), last)
	if err != nil {
		return err
	}
	j.m.sealed.Inc()
	j.m.sealSeconds.Add(time.Since(start).Seconds())
	return j.dropWAL(gone)
}

// setSealing says whether sealing is on its way; its end is progress that Append may wait for.
func (j *Journal) setSealing(on bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.sealing = on; !on {
		close(j.progress)
		j.progress = make(chan struct{})
	}
}

func segmentName(first, last uint64) string { return fmt.Sprintf("%020d-%020d.parquet", first, last) }

// swapHead puts the new segment in the place of the first n blocks, in the manifest and in memory, and returns the WAL files
// that hold nothing else.
func (j *Journal) swapHead(ref *segmentRef, n int, last uint64) (gone []*walFile, err error) {
	segments := j.segments
	if ref != nil {
		segments = append(slices.Clone(segments), ref)
	}
	err = j.install(segments, last, func() {
		for _, b := range j.blocks[:n] {
			j.unsealed -= b.rawBytes
			if b.records != nil {
				j.cached -= b.rawBytes
			}
		}
		j.blocks = slices.Clone(j.blocks[n:])
		j.headSince = j.o.Now()
		var kept []*walFile
		for _, f := range j.files {
			if f.last <= last && f != j.wFile {
				gone = append(gone, f)
			} else {
				kept = append(kept, f)
			}
		}
		j.files = kept
	})
	if err != nil && ref != nil {
		err = errors.Join(err, ref.release())
	}
	return gone, err
}

// install puts a list of segments in force: in the manifest first, then in memory, together with what then changes. j.upkeep is held,
// and so nobody else changes the list; j.mu is not while the disk is waited for, as every Append needs it.
func (j *Journal) install(segments []*segmentRef, sealed uint64, then func()) error {
	if err := saveManifest(j.dir, segments, sealed); err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.segments, j.sealed = segments, sealed
	if then != nil {
		then()
	}
	return nil
}

func (j *Journal) dropWAL(files []*walFile) error {
	var errs []error
	for _, f := range files {
		errs = append(errs, os.Remove(f.path))
		f.release()
	}
	if len(files) > 0 {
		errs = append(errs, atomicfile.SyncDir(filepath.Join(j.dir, "wal")))
	}
	return errors.Join(errs...)
}

// mergeFan is how many neighbours of a size are merged into one.
const mergeFan = 8

// mergeReady merges the first run of mergeFan neighbours that are alike in size and small enough together.
func (j *Journal) mergeReady(ctx context.Context) error {
	j.upkeep.Lock()
	defer j.upkeep.Unlock()
	for ctx.Err() == nil {
		j.mu.Lock()
		run := mergeRun(j.segments, j.o.MergeBytes)
		j.mu.Unlock()
		if run == nil {
			return nil
		}
		if err := j.merge(run); err != nil {
			return err
		}
	}
	return nil
}

// mergeRun finds mergeFan neighbours none of which is more than half of what they make together.
func mergeRun(segments []*segmentRef, limit int64) []*segmentRef {
	for i := 0; i+mergeFan <= len(segments); i++ {
		run := segments[i : i+mergeFan]
		var sum, largest int64
		gap := false // where a segment was lost; what lies on either side of it is not made to look whole
		for k, s := range run {
			n := s.file.Meta().FileBytes
			sum, largest = sum+n, max(largest, n)
			gap = gap || k > 0 && s.file.Meta().MinSeq != run[k-1].file.Meta().MaxSeq+1
		}
		if !gap && sum <= limit && largest <= sum/2 {
			return run
		}
	}
	return nil
}

func (j *Journal) merge(run []*segmentRef) error {
	var paths []string
	for _, s := range run {
		paths = append(paths, s.file.Path())
	}
	first, last := run[0].file.Meta().MinSeq, run[len(run)-1].file.Meta().MaxSeq
	path := filepath.Join(j.dir, "segments", segmentName(first, last))
	if _, err := segment.Merge(path, paths); err != nil {
		return fmt.Errorf("cannot merge segments %d to %d: %w", first, last, err)
	}
	f, err := segment.Open(path)
	if err != nil {
		return fmt.Errorf("cannot merge: the segment just written cannot be read: %w", err)
	}
	ref := &segmentRef{file: f, refs: 1}
	at := slices.Index(j.segments, run[0])
	if err := j.install(slices.Concat(j.segments[:at], []*segmentRef{ref}, j.segments[at+len(run):]), j.sealed, nil); err != nil {
		return errors.Join(err, ref.release())
	}
	j.m.merged.Add(float64(len(run)))
	return releaseAll(run, true)
}

// releaseAll lets go of segments that are no longer in the list.
func releaseAll(refs []*segmentRef, drop bool) error {
	var errs []error
	for _, s := range refs {
		s.mu.Lock()
		s.drop = drop
		s.mu.Unlock()
		errs = append(errs, s.release())
	}
	return errors.Join(errs...)
}

// retire deletes the oldest segments that are too old or too many.
func (j *Journal) retire(c *clock) error {
	j.upkeep.Lock()
	defer j.upkeep.Unlock()
	j.mu.Lock()
	now, trusted := c.now()
	n := 0
	size := j.diskBytes()
	for _, s := range j.segments {
		m := s.file.Meta()
		old := trusted && j.o.RetainAge > 0 && m.MaxIngested < now.Add(-j.o.RetainAge).UnixMicro()
		large := j.o.RetainBytes > 0 && size > j.o.RetainBytes
		if !old && !large {
			break
		}
		size -= m.FileBytes
		n++
	}
	j.mu.Unlock()
	if n == 0 {
		return nil
	}
	gone := j.segments[:n]
	err := j.install(slices.Clone(j.segments[n:]), j.sealed, func() {
		last := gone[n-1].file.Meta().MaxSeq
		for name, c := range j.cursors {
			if next := c.Next(); next <= last {
				j.m.overrun.WithLabelValues(name).Add(float64(last + 1 - next))
				j.o.Log.Error("retention deleted events that a reader has not had: it is too slow, or retention too short",
					"cursor", name, "events", last+1-next)
			}
		}
	})
	if err != nil {
		return err
	}
	for _, s := range gone {
		j.m.retired.Add(float64(s.file.Meta().Rows))
	}
	return releaseAll(gone, true)
}

// clockSlack is how far the wall clock may run from the monotonic one before it is taken to have been set.
const clockSlack = time.Hour

// clock guards retention against a wall clock that jumps ahead: events must not be deleted because a clock was set wrong.
type clock struct {
	wall  func() time.Time
	start time.Time // wall at the start; carries the monotonic reading
	mono  time.Time
}

func newClock(wall func() time.Time) *clock {
	return &clock{wall: wall, start: wall(), mono: time.Now()}
}

// now is the wall clock, and whether it ran as the monotonic one did since the start. While it did not, nothing is deleted by
// age; a restart takes the clock as it is.
func (c *clock) now() (time.Time, bool) {
	now := c.wall()
	drift := now.Round(0).Sub(c.start.Round(0)) - time.Since(c.mono)
	return now, drift.Abs() < clockSlack
}
