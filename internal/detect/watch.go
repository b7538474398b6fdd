package detect

import (
	"context"
	"fmt"
	"hash/maphash"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	settle = 200 * time.Millisecond // an editor's save, or a ConfigMap's swap, is several changes
	rescan = time.Minute            // for file systems that report no changes
)

// Watch reloads whenever something changes below a layer's Dir, until ctx ends. Editors that write a new file and rename it
// and the ..data swap of a mounted ConfigMap are changes of the folder, so folders are watched, not files. Where the
// operating system reports nothing (a network file system, too few watches left) a scan each minute still notices. Of a layer of one file that
// file counts, and those that its rules name, not what else happens in its folder. It returns once all its goroutines have.
func (r *Rules) Watch(ctx context.Context) error {
	w, err := fsnotify.NewWatcher()
	var events chan fsnotify.Event // nil without a watcher: then there is the scan alone
	var errs chan error
	if err != nil {
		r.o.Logger.Warn("rule folders cannot be watched; they are looked at each minute", "error", err)
		w = nil
	} else {
		defer w.Close() //nolint:errcheck // nothing was written
		events, errs = w.Events, w.Errors
	}
	r.scan(w)
	tick := time.NewTicker(rescan)
	defer tick.Stop()
	first := make(chan struct{}, 1) // what changed between the first Reload and the first watch
	first <- struct{}{}
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	defer timer.Stop()
	sure := false // that a change is one of rules
	for {
		select {
		case <-ctx.Done():
			return nil
		case e, ok := <-events:
			if !ok {
				return nil
			}
			if e.Op != fsnotify.Chmod {
				sure = sure || !r.single[filepath.Dir(e.Name)]
				timer.Reset(settle)
			}
		case err, ok := <-errs:
			if !ok {
				return nil
			}
			r.o.Logger.Warn("changes of rule files may have been missed; reading them again", "error", err)
			sure = true
			timer.Reset(settle)
		case <-timer.C:
			if !sure {
				r.reloadIfChanged(w)
				continue
			}
			sure = false
			r.scan(w)
			r.Reload()
		case <-first:
			r.reloadIfChanged(w)
		case <-tick.C:
			r.reloadIfChanged(w)
		}
	}
}

func (r *Rules) reloadIfChanged(w *fsnotify.Watcher) {
	now := r.scan(w)
	r.mu.Lock()
	same := now == r.print
	r.mu.Unlock()
	if !same {
		r.Reload()
	}
}

// scan watches every folder (again: new ones may have come) and gives a fingerprint of names, sizes and times. w may be nil.
func (r *Rules) scan(w *fsnotify.Watcher) uint64 {
	h := maphash.Hash{}
	h.SetSeed(r.hash)
	for _, l := range r.o.Layers {
		if l.Dir == "" {
			continue
		}
		watch := func(dir string) {
			if w != nil {
				_ = w.Add(dir) // where it fails, the scan each minute is what is left
			}
		}
		watch(l.Dir)
		note := func(files fs.FS, p string) {
			if info, err := fs.Stat(files, p); err == nil {
				fmt.Fprintf(&h, "%s\x00%d\x00%d\x00", p, info.Size(), info.ModTime().UnixNano())
			}
		}
		if one, ok := l.FS.(*opened); ok {
			for _, p := range one.list() {
				watch(filepath.Join(l.Dir, filepath.Dir(filepath.FromSlash(p))))
				note(one.FS, p)
			}
			continue
		}
		_ = fs.WalkDir(l.FS, ".", func(p string, d fs.DirEntry, err error) error {
			if err != nil {
				fmt.Fprintf(&h, "%s!%v\x00", p, err)
				return nil
			}
			hidden := p != "." && strings.HasPrefix(d.Name(), ".")
			if d.IsDir() {
				if hidden {
					return fs.SkipDir
				}
				watch(filepath.Join(l.Dir, filepath.FromSlash(p)))
				return nil
			}
			if !hidden {
				note(l.FS, p)
			}
			return nil
		})
	}
	return h.Sum64()
}

// opened is the folder of a layer of one file. It notes what was opened in it: that file, and those that its rules name. Safe for concurrent
// use.
type opened struct {
	fs.FS
	mu    sync.Mutex
	names map[string]bool
}

// maxOpened bounds the files of a layer of one file that are watched.
const maxOpened = 1000

// Open implements fs.FS.
func (o *opened) Open(name string) (fs.File, error) {
	o.mu.Lock()
	if len(o.names) < maxOpened {
		o.names[name] = true
	}
	o.mu.Unlock()
	return o.FS.Open(name)
}

// list gives the names in order.
func (o *opened) list() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Sorted(maps.Keys(o.names))
}
