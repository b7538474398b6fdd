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
	"time"

	"whodunit/internal/audit"
	"whodunit/internal/journal/segment"
	"whodunit/internal/journal/wal"
)

// ErrNoJournal is wrapped where a folder holds no journal.
var ErrNoJournal = errors.New("no journal here")

// readFor is how long a read-only opening begins again because the process that owns the journal sealed or merged meanwhile.
const readFor = 5 * time.Second

// OpenReadOnly gives a snapshot of a journal that another process may be writing to, or none. It changes nothing and takes
// no lock. Memory: the unsealed events stay on disk. The caller closes the snapshot.
func OpenReadOnly(dir string) (*Snapshot, error) {
	var err error
	for start := time.Now(); time.Since(start) < readFor; {
		var s *Snapshot
		if s, err = openReadOnly(dir); err == nil {
			return s, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			break
		}
		if _, missing := os.Stat(filepath.Join(dir, "wal")); missing != nil {
			return nil, fmt.Errorf("cannot open %s: %w", dir, ErrNoJournal)
		}
	}
	return nil, fmt.Errorf("cannot open journal %s: %w", dir, err)
}

func openReadOnly(dir string) (_ *Snapshot, err error) {
	files, err := openWALs(dir)
	if err != nil {
		return nil, err
	}
	l, err := openListed(dir)
	if err != nil {
		files.release()
		return nil, err
	}
	codec, err := wal.NewCodec(1)
	if err != nil {
		files.release()
		l.close()
		return nil, err
	}
	s := &Snapshot{Segments: l.files, Unreadable: len(l.bad), release: func() {
		files.release()
		l.close()
		codec.Close()
	}}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	for i, file := range files {
		_, err = wal.ScanFile(file.f, files.end(i), func(f wal.Frame, payload []byte) error {
			if f.Seq <= l.manifest.Sealed {
				return nil
			}
			records, err := codec.Decode(f, payload)
			if err != nil {
				return nil //nolint:nilerr // one damaged batch; `journal check` says so
			}
			b := newBlock(f, file, records)
			s.Head = append(s.Head, Block{First: f.Seq, Last: f.Next() - 1, MinMicros: b.minMicros, MaxMicros: b.maxMicros,
				Load: func() ([]audit.Record, int64, error) { return b.load(codec) }})
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return s, nil
}

// Problem is one thing that `journal check` found.
type Problem struct {
	File   string `json:"file"`
	What   string `json:"what"`
	Events int64  `json:"events,omitempty"` // lost, where known
	Fatal  bool   `json:"fatal"`            // acknowledged events are lost or at risk
}

// Report is what `journal check` and `journal repair` found.
type Report struct {
	Dir      string    `json:"dir"`
	Segments int       `json:"segments"`
	WALFiles int       `json:"walFiles"`
	Events   int64     `json:"events"`
	Problems []Problem `json:"problems"`
}

// OK reports that nothing acknowledged is lost.
func (r *Report) OK() bool {
	for _, p := range r.Problems {
		if p.Fatal {
			return false
		}
	}
	return true
}

func (r *Report) add(file string, events int64, fatal bool, format string, args ...any) {
	r.Problems = append(r.Problems, Problem{File: file, Events: events, Fatal: fatal, What: fmt.Sprintf(format, args...)})
}

// Check reads every byte of a journal and says what is wrong with it. It changes nothing and takes no lock; progress is called
// after each file with its size.
func Check(ctx context.Context, dir string, progress func(file string, bytes int64)) (*Report, error) {
	if _, err := os.Stat(filepath.Join(dir, "wal")); err != nil {
		return nil, fmt.Errorf("cannot check %s: %w", dir, ErrNoJournal)
	}
	var err error
	for start := time.Now(); time.Since(start) < readFor; {
		var r *Report
		if r, err = check(ctx, dir, progress); !errors.Is(err, fs.ErrNotExist) {
			return r, err
		}
	}
	return nil, fmt.Errorf("cannot check %s: %w", dir, err)
}

func check(ctx context.Context, dir string, progress func(file string, bytes int64)) (*Report, error) {
	files, err := openWALs(dir)
	if err != nil {
		return nil, err
	}
	defer files.release()
	l, err := openListed(dir)
	if err != nil {
		return nil, err
	}
	defer l.close()
	r := &Report{Dir: dir}
	if err := r.checkWAL(ctx, files, l.manifest.Sealed, progress); err != nil {
		return r, err
	}
	return r, errors.Join(l.check(ctx, r, progress), r.checkCursors(dir))
}

func (r *Report) checkSegment(ctx context.Context, f *segment.File) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	path := f.Path()
	v, err := f.Verify(ctx)
	if err != nil {
		return err
	}
	r.Events += f.Meta().Rows - v.DamagedRows
	for _, p := range v.Problems {
		r.add(path, 0, false, "%s", p)
	}
	if v.DamagedRows > 0 {
		r.add(path, v.DamagedRows, true, "%d damaged pages", v.DamagedPages)
	}
	return nil
}

func (r *Report) checkWAL(ctx context.Context, files walFiles, sealed uint64, progress func(string, int64)) error {
	codec, err := wal.NewCodec(1)
	if err != nil {
		return err
	}
	defer codec.Close()
	expected := sealed + 1
	gap := func(path string, seq uint64) {
		if seq > expected {
			r.add(path, int64(seq-expected), true, "events %d to %d are missing", expected, seq-1)
		}
		expected = max(expected, seq)
	}
	for i, file := range files {
		if err := ctx.Err(); err != nil {
			return err
		}
		r.WALFiles++
		path := file.path
		first, _, _ := wal.ParseName(path)
		gap(path, first)
		var size int64 = wal.HeaderSize
		damage, err := wal.ScanFile(file.f, files.end(i), func(f wal.Frame, payload []byte) error {
			size += int64(f.Size)
			if f.Next() <= sealed+1 {
				return nil
			}
			gap(path, f.Seq)
			expected = f.Next()
			if _, err := codec.Decode(f, payload); err != nil {
				r.add(path, int64(f.Count), true, "%v", err)
				return nil
			}
			r.Events += int64(f.Count)
			return nil
		})
		if err != nil {
			r.add(path, 0, true, "%v", err)
		}
		for _, d := range damage {
			r.add(path, 0, !d.Torn, "%s", d.String())
		}
		progress(filepath.Base(path), size)
	}
	return nil
}

// Repair makes a journal whole again as far as its bytes allow: it takes the lock, opens the journal (which sets aside what cannot
// be read and makes a lost manifest anew), writes damaged segments again without the damaged events, and brings back what
// can be read of segments in quarantine. The damaged files stay in quarantine.
func Repair(ctx context.Context, dir string, o Options) (*Report, error) {
	if _, err := os.Stat(filepath.Join(dir, "wal")); err != nil {
		return nil, fmt.Errorf("cannot repair %s: %w", dir, ErrNoJournal)
	}
	j, err := Open(dir, o)
	if err != nil {
		return nil, err
	}
	r := &Report{Dir: dir}
	err = j.repairSegments(ctx, r)
	if err == nil {
		err = j.bringBack(ctx, r)
	}
	if err == nil {
		err = j.Seal(ctx)
	}
	in := j.Info()
	r.Segments, r.Events = in.Segments, in.Events
	return r, errors.Join(err, j.Close())
}

// repairSegments writes every damaged segment of the list again.
func (j *Journal) repairSegments(ctx context.Context, r *Report) error {
	j.upkeep.Lock()
	defer j.upkeep.Unlock()
	j.mu.Lock()
	all := append([]*segmentRef(nil), j.segments...)
	j.mu.Unlock()
	for _, s := range all {
		v, err := s.file.Verify(ctx)
		if err != nil {
			return err
		}
		if v.OK() {
			continue
		}
		path := s.file.Path()
		fixed := strings.TrimSuffix(path, ".parquet") + "-repaired.parquet"
		_, lost, err := segment.Salvage(fixed, path)
		if err != nil {
			return fmt.Errorf("cannot repair %s: %w", path, err)
		}
		f, err := segment.Open(fixed)
		if err != nil {
			return fmt.Errorf("cannot repair %s: %w", path, err)
		}
		if err := j.replaceSegment(s, &segmentRef{file: f, refs: 1}); err != nil {
			return err
		}
		r.add(path, lost, lost > 0, "written again without its damaged events; the damaged file is in quarantine")
	}
	return nil
}

func (j *Journal) replaceSegment(old, fresh *segmentRef) error {
	segments := slices.Clone(j.segments)
	segments[slices.Index(segments, old)] = fresh
	if err := j.install(segments, j.sealed, nil); err != nil {
		return err
	}
	if err := segment.Move(old.file.Path(), filepath.Join(j.dir, "quarantine")); err != nil {
		return err
	}
	return old.release()
}

// bringBack reads what it can of segments in quarantine and appends the events that the journal lacks. They get new sequence
// numbers: their old ones count as lost.
func (j *Journal) bringBack(ctx context.Context, r *Report) error {
	paths, err := filepath.Glob(filepath.Join(j.dir, "quarantine", "*.parquet"))
	if err != nil {
		return err
	}
	for _, path := range paths {
		fixed := path + ".salvaged"
		_, lost, err := segment.Salvage(fixed, path)
		if err != nil {
			r.add(path, 0, true, "nothing of it can be read: %v", err)
			continue
		}
		f, err := segment.Open(fixed)
		if err != nil {
			return err
		}
		var n int64
		_, err = f.Scan(ctx, 0, func(records []audit.Record) error {
			n += int64(len(records))
			return j.appendRecords(ctx, records)
		})
		err = errors.Join(err, f.Close(), segment.Remove(fixed))
		if err != nil {
			return fmt.Errorf("cannot bring back %s: %w", path, err)
		}
		r.add(path, lost, lost > 0, "%d events of it are in the journal", n)
	}
	return nil
}

// appendRecords appends events that were records before; the ones that are here already are dropped.
func (j *Journal) appendRecords(ctx context.Context, records []audit.Record) error {
	for len(records) > 0 {
		n := 1
		for n < len(records) && records[n].Source == records[0].Source {
			n++
		}
		b := audit.Batch{Origin: audit.Origin{Source: records[0].Source, Position: "repair"}}
		for i := range records[:n] {
			b.Events = append(b.Events, records[i].Event)
		}
		if err := j.Append(ctx, b); err != nil {
			return err
		}
		records = records[n:]
	}
	return nil
}

// InfoReadOnly describes a journal that another process may be using, as OpenReadOnly reads it. Lag is counted from what is on
// disk now.
func InfoReadOnly(dir string) (Info, error) {
	s, err := OpenReadOnly(dir)
	if err != nil {
		return Info{}, err
	}
	defer s.Close()
	in := Info{Dir: dir, Segments: len(s.Segments)}
	m, err := loadManifest(dir)
	if err == nil {
		in.LastSeq = m.Sealed
	}
	see := func(first, last uint64, lo, hi int64) {
		if in.FirstSeq == 0 || first < in.FirstSeq {
			in.FirstSeq = first
		}
		in.LastSeq = max(in.LastSeq, last)
		if in.Oldest == 0 || lo < in.Oldest {
			in.Oldest = lo
		}
		in.Newest = max(in.Newest, hi)
	}
	for _, f := range s.Segments {
		m := f.Meta()
		in.Events, in.RawBytes, in.DiskBytes = in.Events+m.Rows, in.RawBytes+m.RawBytes, in.DiskBytes+m.FileBytes
		see(m.MinSeq, m.MaxSeq, m.MinMicros, m.MaxMicros)
	}
	for _, b := range s.Head {
		records, _, err := b.Load()
		if err != nil {
			return in, err
		}
		in.Unsealed += int64(len(records))
		for i := range records {
			in.RawBytes += int64(len(records[i].Event.Raw))
		}
		see(b.First, b.Last, b.MinMicros, b.MaxMicros)
	}
	in.Events += in.Unsealed
	paths, err := walPaths(filepath.Join(dir, "wal"))
	if err != nil {
		return in, err
	}
	for _, p := range paths {
		if st, err := os.Stat(p); err == nil {
			in.DiskBytes += st.Size()
		}
	}
	cursors, err := filepath.Glob(filepath.Join(dir, "cursors", "*.json"))
	if err != nil {
		return in, err
	}
	for _, p := range cursors {
		next, err := readCursor(p)
		if errors.Is(err, errCursor) { // `journal check` says so
			next = 1
		} else if err != nil {
			return in, err
		}
		in.Cursors = append(in.Cursors, CursorState{strings.TrimSuffix(filepath.Base(p), ".json"), next, int64(in.LastSeq) + 1 - int64(next)})
	}
	return in, nil
}

// Lock takes a journal's folder for this process without opening it, making it if it is missing.
func Lock(dir string) (unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot lock journal: %w", err)
	}
	f, err := lockDir(dir)
	if err != nil {
		return nil, err
	}
	return func() { _ = f.Close() }, nil
}
