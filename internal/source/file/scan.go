package file

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// scan looks at the file system: which files are there, new, renamed, changed, gone.
func (s *Source) scan() {
	seen := map[fileID]bool{}
	for _, g := range s.cfg.Globs {
		s.watch.add(staticDir(g))
		paths, err := filepath.Glob(g)
		if err != nil {
			continue // New has checked it
		}
		for _, p := range paths {
			s.watch.add(filepath.Dir(p))
			fi, err := os.Stat(p)
			if err != nil {
				if !errors.Is(err, fs.ErrNotExist) {
					s.cfg.Metrics.problem("stat")
					s.once("stat "+p, "a file cannot be looked at; trying again", err)
				}
				continue
			}
			if id := idOf(fi); fi.Mode().IsRegular() && !seen[id] {
				seen[id] = true
				s.see(id, p, fi)
			}
		}
	}
	s.first = false
	s.order = s.order[:0]
	for id, t := range s.tails {
		if !seen[id] && !s.missing(id, t) {
			continue
		}
		s.order = append(s.order, t)
	}
	slices.SortFunc(s.order, func(a, b *tail) int {
		return cmp.Or(b.mtime.Compare(a.mtime), strings.Compare(a.path, b.path))
	})
}

// see takes note of a file that is there.
func (s *Source) see(id fileID, path string, fi fs.FileInfo) {
	t := s.tails[id]
	if t == nil {
		s.tails[id] = &tail{id: id, path: path, size: fi.Size(), mtime: fi.ModTime(), changed: fi.ModTime(), fromEnd: s.first && s.cfg.FromEnd}
		return
	}
	t.gone = false
	if path != t.path && !sameFile(t.path, id) {
		s.cfg.Metrics.rotated.WithLabelValues("renamed").Inc()
		s.cfg.Logger.Debug("file renamed", "from", t.path, "to", path)
		t.path, t.renamed, t.changed = path, true, s.cfg.Now()
	}
	if t.f == nil && (fi.Size() != t.size || !fi.ModTime().Equal(t.mtime)) {
		// what was closed is another file now, or has grown: it is recognised anew
		t.finished, t.place, t.size, t.changed = false, nil, fi.Size(), s.cfg.Now()
	}
	t.mtime = fi.ModTime()
}

func sameFile(path string, id fileID) bool {
	fi, err := os.Stat(path)
	return err == nil && idOf(fi) == id
}

// missing takes note of a file that no pattern finds any longer. It stays while it is open: it may have grown before.
func (s *Source) missing(id fileID, t *tail) (stays bool) {
	if t.f == nil {
		delete(s.tails, id)
		return false
	}
	if !t.gone {
		s.cfg.Metrics.rotated.WithLabelValues("gone").Inc()
		t.gone, t.changed = true, s.cfg.Now()
	}
	return true
}

// staticDir is the folder of a pattern up to its first wildcard.
func staticDir(glob string) string {
	dir := filepath.Dir(glob)
	for strings.ContainsAny(dir, `*?[\`) {
		dir = filepath.Dir(dir)
	}
	return dir
}
