package journal

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"whodunit/internal/audit"
	"whodunit/internal/journal/segment"
	"whodunit/internal/journal/wal"
)

// recover brings the journal to where the last process left it.
func (j *Journal) recover() error {
	if err := j.openSegments(); err != nil {
		return err
	}
	blocks, files, next, err := j.openHead()
	if err != nil {
		return err
	}
	j.next = next
	j.refillRecent(blocks)
	for _, b := range blocks {
		records := b.records
		b.records = nil
		j.addBlock(b, records)
	}
	j.files = files
	j.report()
	return nil
}

// openSegments opens what the manifest names, sets aside what cannot be read, and removes what a crash left half done.
func (j *Journal) openSegments() error {
	dir := filepath.Join(j.dir, "segments")
	m, err := loadManifest(j.dir)
	rebuilt := errors.Is(err, errManifest)
	var unreadable []segmentEntry
	if rebuilt {
		j.o.Log.Error("manifest is damaged or missing; it is made anew from the segments", "dir", j.dir)
		m, unreadable, err = rebuildManifest(dir)
	}
	if err != nil {
		return err
	}
	listed := map[string]bool{}
	changed := rebuilt || len(m.Segments) == 0 // from now on, that there is none is known to be damage
	for _, e := range unreadable {
		listed[e.File] = true
		j.setAside(e, segment.ErrCorrupt)
	}
	for _, e := range m.Segments {
		listed[e.File] = true
		f, err := segment.Open(filepath.Join(dir, e.File))
		if outside(err) {
			return err
		}
		if err != nil {
			changed = true
			j.setAside(e, err)
			continue
		}
		j.segments = append(j.segments, &segmentRef{file: f, refs: 1})
	}
	j.sealed = m.Sealed
	if changed {
		if err := saveManifest(j.dir, j.segments, j.sealed); fullDisk(err) { // the next one that is written says it too
			j.o.Log.Warn("cannot write manifest yet", "err", err)
		} else if err != nil {
			return err
		}
	}
	return removeUnlisted(dir, listed)
}

// setAside moves a segment that cannot be opened to quarantine, for `whodunit journal repair` and for evidence.
func (j *Journal) setAside(e segmentEntry, cause error) {
	j.lost += e.Meta.Rows
	j.m.damaged.WithLabelValues("segment").Add(float64(e.Meta.Rows))
	to := filepath.Join(j.dir, "quarantine")
	err := segment.Move(filepath.Join(j.dir, "segments", e.File), to)
	j.o.Log.Error("segment cannot be read; it is set aside", "file", e.File, "events", e.Meta.Rows, "to", to, "err", errors.Join(cause, err))
}

// rebuildManifest makes a manifest from the files themselves: each says which range it stands for; one that lies within
// another was merged into it. unreadable are those of which nothing is known but the name; their number of events is
// that of their range as far as no other has it.
func rebuildManifest(dir string) (m manifest, unreadable []segmentEntry, err error) {
	paths, err := filepath.Glob(filepath.Join(dir, "*.parquet"))
	if err != nil {
		return m, nil, err
	}
	var all []segmentEntry
	for _, p := range paths {
		f, err := segment.Open(p)
		if outside(err) {
			return m, nil, err
		}
		if err != nil {
			unreadable = append(unreadable, segmentEntry{File: filepath.Base(p)})
			continue
		}
		all = append(all, segmentEntry{filepath.Base(p), f.Meta()})
		if err := f.Close(); err != nil {
			return m, nil, err
		}
	}
	slices.SortFunc(all, func(a, b segmentEntry) int {
		if a.Meta.MinSeq != b.Meta.MinSeq {
			return int(int64(a.Meta.MinSeq) - int64(b.Meta.MinSeq))
		}
		return int(int64(b.Meta.MaxSeq) - int64(a.Meta.MaxSeq))
	})
	for _, e := range all {
		if e.Meta.MaxSeq <= m.Sealed {
			continue
		}
		m.Segments = append(m.Segments, e)
		m.Sealed = e.Meta.MaxSeq
	}
	for i := range unreadable {
		unreadable[i].Meta.Rows = m.missing(unreadable[i].File)
	}
	return m, unreadable, nil
}

// missing is how many sequence numbers of the file's name no segment of m stands for. Behind the newest segment the WAL may
// have them, and says itself what is missing.
func (m manifest) missing(file string) int64 {
	var first, last uint64
	if _, err := fmt.Sscanf(file, "%d-%d", &first, &last); err != nil || first > last {
		return 0
	}
	last = min(last, m.Sealed)
	n := int64(last) - int64(first) + 1
	for _, e := range m.Segments {
		n -= max(0, int64(min(last, e.Meta.MaxSeq))-int64(max(first, e.Meta.MinSeq))+1)
	}
	return max(0, n)
}

// removeUnlisted deletes what a crash left between writing a segment and naming it in the manifest: its events are still in
// the WAL or in the segments that it was merged from.
func removeUnlisted(dir string, listed map[string]bool) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("cannot list segments: %w", err)
	}
	for _, e := range entries {
		base, _, _ := strings.Cut(e.Name(), ".parquet")
		if !listed[base+".parquet"] || strings.HasSuffix(e.Name(), ".tmp") {
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("cannot remove leftover: %w", err)
			}
		}
	}
	return nil
}

// openHead reads the WAL: blocks behind the sealed part, and the files that hold them. Files with nothing of it are removed.
func (j *Journal) openHead() (blocks []*block, files []*walFile, next uint64, err error) {
	paths, err := walPaths(filepath.Join(j.dir, "wal"))
	if err != nil {
		return nil, nil, 0, err
	}
	expected := j.sealed + 1
	var cached int64
	for i, path := range paths {
		first, salt, _ := wal.ParseName(path)
		end := uint64(0)
		if i+1 < len(paths) {
			end, _, _ = wal.ParseName(paths[i+1])
		}
		j.gap(&expected, first, path)
		file, err := openWAL(path, salt)
		if err != nil {
			return nil, nil, 0, err
		}
		before := len(blocks)
		damage, err := wal.Scan(path, end, func(f wal.Frame, payload []byte) error {
			if f.Next() <= j.sealed+1 {
				return nil
			}
			j.gap(&expected, f.Seq, path)
			expected = max(expected, f.Next())
			records, err := j.codec.Decode(f, payload)
			if errors.Is(err, wal.ErrDamaged) {
				j.lose(int64(f.Count), "wal", "path", path, "offset", f.Offset, "err", err)
				return nil
			}
			if err != nil {
				return err
			}
			if cut := int(max(j.sealed+1, f.Seq) - f.Seq); cut > 0 {
				records = records[cut:]
			}
			b := newBlock(f, file, records)
			if b.records = records; cached+b.rawBytes > j.o.HeadCache {
				b.records = nil
			}
			cached += b.rawBytes
			blocks = append(blocks, b)
			file.last = f.Next() - 1
			return nil
		})
		if err != nil {
			return nil, nil, 0, err
		}
		for _, d := range damage {
			level := j.o.Log.Warn
			if !d.Torn {
				level = j.o.Log.Error
				if d.Events > 0 && d.Seq >= expected {
					j.gap(&expected, d.Seq+uint64(d.Events), path)
				}
			}
			level("journal file has a bad stretch; reading went on behind it", "damage", d.String())
		}
		if len(blocks) == before {
			file.release()
			if len(damage) == 0 || i+1 < len(paths) {
				err = os.Remove(path)
			} else {
				err = os.Rename(path, filepath.Join(j.dir, "quarantine", filepath.Base(path)))
			}
			if err != nil {
				return nil, nil, 0, fmt.Errorf("cannot drop WAL: %w", err)
			}
			continue
		}
		if st, err := os.Stat(path); err == nil {
			file.size = st.Size()
		}
		files = append(files, file)
	}
	return blocks, files, expected, nil
}

// gap counts what is missing between the sequence number that should come and the one that does.
func (j *Journal) gap(expected *uint64, seq uint64, path string) {
	if seq > *expected {
		j.lose(int64(seq-*expected), "wal", "path", path, "first_seq", *expected, "last_seq", seq-1)
		*expected = seq
	}
}

func (j *Journal) lose(events int64, reason string, args ...any) {
	j.lost += events
	j.m.damaged.WithLabelValues(reason).Add(float64(events))
	j.o.Log.Error("events are lost to damage on disk", append([]any{"events", events}, args...)...)
}

func walPaths(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("cannot list WAL: %w", err)
	}
	var paths []string
	for _, e := range entries { // sorted by name, and so by sequence number
		if _, _, ok := wal.ParseName(e.Name()); ok {
			paths = append(paths, filepath.Join(dir, e.Name()))
		}
	}
	return paths, nil
}

// refillRecent reads the newest identities back, as many as are remembered while running.
func (j *Journal) refillRecent(blocks []*block) {
	want := uint64(j.o.DedupEvents)
	from := uint64(1)
	if j.next > want {
		from = j.next - want
	}
	j.recent = newRecent(j.o.DedupEvents, j.o.IDReuse, from)
	for _, s := range j.segments {
		if s.file.Meta().MaxSeq < from {
			continue
		}
		err := s.file.Identities(context.Background(), from, func(seq uint64, id audit.Identity, key [8]byte) {
			j.recent.add(seq, id, key)
		})
		if err != nil {
			j.o.Log.Warn("cannot read identities back; a retry of old events may be kept twice", "file", s.file.Path(), "err", err)
		}
	}
	for _, b := range blocks {
		records := b.records
		if records == nil {
			records, _, _ = b.load(j.codec) // damage is found and counted where it matters
		}
		for i := range records {
			r := &records[i]
			var key [8]byte
			if j.o.IDReuse {
				key = r.Event.RequestKey()
			}
			j.recent.add(r.Seq, r.Identity, key)
		}
	}
}

// report brings the gauges up to date.
func (j *Journal) report() {
	j.m.segments.Set(float64(len(j.segments)))
	j.m.bytes.Set(float64(j.diskBytes()))
	j.m.last.Set(float64(j.next - 1))
	var head float64
	for _, b := range j.blocks {
		head += float64(b.frame.Count)
	}
	j.m.headEvents.Set(head)
}

func saveManifest(dir string, segments []*segmentRef, sealed uint64) error {
	m := manifest{Sealed: sealed}
	for _, s := range segments {
		m.Segments = append(m.Segments, segmentEntry{filepath.Base(s.file.Path()), s.file.Meta()})
	}
	return m.save(dir)
}
