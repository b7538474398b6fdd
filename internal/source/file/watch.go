package file

import (
	"log/slog"

	"github.com/fsnotify/fsnotify"
)

// watcher wakes the reader when something changes in the folders. It only makes reading prompter: without it, or where
// the file system tells nothing (NFS), polling finds the same.
type watcher struct {
	wake chan struct{}
	fs   *fsnotify.Watcher // nil where it cannot be had
	dirs map[string]bool
	done chan struct{}
	m    *Metrics
	log  *slog.Logger
}

func newWatcher(log *slog.Logger, m *Metrics) *watcher {
	w := &watcher{wake: make(chan struct{}, 1), dirs: map[string]bool{}, done: make(chan struct{}), m: m, log: log}
	fs, err := fsnotify.NewWatcher()
	if err != nil {
		m.problem("watch")
		log.Warn("no notifications of file changes; polling alone", "err", err)
		close(w.done)
		return w
	}
	w.fs = fs
	go func() {
		defer close(w.done)
		for {
			select {
			case _, ok := <-fs.Events:
				if !ok {
					return
				}
			case _, ok := <-fs.Errors: // an overflow, say: look at everything
				if !ok {
					return
				}
				m.problem("watch")
			}
			select {
			case w.wake <- struct{}{}:
			default:
			}
		}
	}()
	return w
}

// add watches a folder, once.
func (w *watcher) add(dir string) {
	if w.fs == nil || w.dirs[dir] {
		return
	}
	w.dirs[dir] = true
	if err := w.fs.Add(dir); err != nil {
		w.m.problem("watch")
		w.log.Warn("no notifications of changes in a folder; polling it", "err", err)
	}
}

func (w *watcher) close() {
	if w.fs != nil {
		_ = w.fs.Close()
	}
	<-w.done
}
