package journal

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"time"

	"whodunit/internal/journal/segment"
	"whodunit/internal/journal/wal"
)

// listed are the manifest's segments, opened beside a process that may replace them at any time.
type listed struct {
	manifest manifest
	rebuilt  bool            // there was no manifest to be trusted
	files    []*segment.File // oldest first
	bad      []badSegment
}

// badSegment is one that cannot be opened.
type badSegment struct {
	segmentEntry
	err error
}

// openListed opens what the manifest names. While it does, files may go away because others take their place; then it goes on with
// the new manifest and what it has open already. The caller closes the result.
func openListed(dir string) (*listed, error) {
	open := map[string]*segment.File{}
	for start := time.Now(); ; {
		l, err := openFrom(dir, open)
		if err == nil {
			for _, f := range l.files {
				delete(open, filepath.Base(f.Path()))
			}
		}
		if err == nil || !errors.Is(err, fs.ErrNotExist) || time.Since(start) > readFor {
			for _, f := range open {
				_ = f.Close() // only ever read
			}
			return l, err
		}
	}
}

// openFrom is one attempt; what is open already is taken from there, and what it opens put there.
func openFrom(dir string, open map[string]*segment.File) (*listed, error) {
	l := &listed{}
	var err error
	l.manifest, err = loadManifest(dir)
	if l.rebuilt = errors.Is(err, errManifest); l.rebuilt {
		var unreadable []segmentEntry
		l.manifest, unreadable, err = rebuildManifest(filepath.Join(dir, "segments"))
		for _, e := range unreadable {
			l.bad = append(l.bad, badSegment{e, segment.ErrCorrupt})
		}
	}
	if err != nil {
		return nil, err
	}
	for _, e := range l.manifest.Segments {
		f := open[e.File]
		if f == nil {
			f, err = segment.Open(filepath.Join(dir, "segments", e.File))
		}
		switch {
		case f != nil:
			open[e.File] = f
			l.files = append(l.files, f)
		case outside(err), errors.Is(err, fs.ErrNotExist) && !stillListed(dir, e.File):
			return nil, err
		default:
			l.bad = append(l.bad, badSegment{e, err})
		}
	}
	return l, nil
}

// stillListed reports whether the manifest names the file now.
func stillListed(dir, file string) bool {
	m, err := loadManifest(dir)
	return err == nil && slices.ContainsFunc(m.Segments, func(e segmentEntry) bool { return e.File == file })
}

func (l *listed) close() {
	for _, f := range l.files {
		_ = f.Close() // only ever read
	}
}

// check reports on the segments: all of them were opened before anything of them is read, so none is replaced meanwhile.
func (l *listed) check(ctx context.Context, r *Report, progress func(file string, bytes int64)) error {
	if l.rebuilt {
		r.add(manifestName, 0, false, "%v; the next start makes it anew", errManifest)
	}
	r.Segments = len(l.files) + len(l.bad)
	for _, b := range l.bad {
		r.add(b.File, b.Meta.Rows, true, "cannot be read: %v", b.err)
		progress(b.File, b.Meta.FileBytes)
	}
	r.checkGaps(l.manifest.Segments)
	for _, f := range l.files {
		if err := r.checkSegment(ctx, f); err != nil {
			return err
		}
		progress(filepath.Base(f.Path()), f.Meta().FileBytes)
	}
	return nil
}

// checkGaps notes what earlier damage cost: retention takes the oldest alone, so nothing else leaves a gap.
func (r *Report) checkGaps(segments []segmentEntry) {
	for i := 1; i < len(segments); i++ {
		if last, first := segments[i-1].Meta.MaxSeq, segments[i].Meta.MinSeq; first > last+1 {
			r.add(segments[i].File, int64(first-last-1), false, "events %d to %d before it were lost earlier", last+1, first-1)
		}
	}
}

// checkCursors reports on the readers' places.
func (r *Report) checkCursors(dir string) error {
	paths, err := filepath.Glob(filepath.Join(dir, "cursors", "*.json"))
	if err != nil {
		return fmt.Errorf("cannot list cursors: %w", err)
	}
	for _, p := range paths {
		if _, err := readCursor(p); errors.Is(err, errCursor) {
			r.add(p, 0, false, "%v; its reader begins again at the oldest event", err)
		}
	}
	return nil
}

// walFiles are the files of a WAL, oldest first.
type walFiles []*walFile

// openWALs opens the WAL's files beside a process that may remove them at any time; fs.ErrNotExist is as with openListed. It is to
// be called before that: what is sealed in between is then in both, and told apart by its number.
func openWALs(dir string) (files walFiles, err error) {
	paths, err := walPaths(filepath.Join(dir, "wal"))
	if err != nil {
		return nil, err
	}
	for _, p := range paths {
		_, salt, _ := wal.ParseName(p)
		f, err := openWAL(p, salt)
		if err != nil {
			files.release()
			return nil, err
		}
		files = append(files, f)
	}
	return files, nil
}

// end is the first sequence number that is not file i's, 0 for the newest.
func (w walFiles) end(i int) uint64 {
	if i+1 == len(w) {
		return 0
	}
	next, _, _ := wal.ParseName(w[i+1].path)
	return next
}

func (w walFiles) release() {
	for _, f := range w {
		f.release()
	}
}
