package manager

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"whodunit/internal/atomicfile"
)

const (
	savePause  = 500 * time.Millisecond // after a change, so that many make one snapshot
	retryPause = 5 * time.Second        // after a snapshot could not be written
)

// snapshot keeps one of Alertmanager's stores in a file: shortly after each change, at its regular maintenance, and at the end.
type snapshot struct {
	name, path string
	write      func(io.Writer) (int64, error)
	gc         func() (int, error)
	metrics    *metrics
	logger     *slog.Logger

	mu      sync.Mutex // one writes
	changed chan struct{}
}

// touch says that the store has changed. It never blocks: the store calls it with its lock held.
func (s *snapshot) touch([]byte) {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// run saves after changes until stop is closed; the maintenance writes the last snapshot.
func (s *snapshot) run(stop <-chan struct{}) {
	pause := savePause
	for {
		select {
		case <-stop:
			return
		case <-s.changed:
		}
		t := time.NewTimer(pause)
		select {
		case <-stop:
			t.Stop()
			return
		case <-t.C:
		}
		if _, err := s.save(); err != nil {
			s.logger.Error("snapshot not written; it is tried again", "store", s.name, "error", err)
			pause = retryPause
			s.touch(nil)
		} else {
			pause = savePause
		}
	}
}

// maintain is the store's regular maintenance.
func (s *snapshot) maintain() (int64, error) {
	if _, err := s.gc(); err != nil {
		s.logger.Error("cannot remove what is expired", "store", s.name, "error", err)
	}
	return s.save()
}

func (s *snapshot) save() (size int64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	err = atomicfile.WriteFunc(s.path, 0o600, func(f *os.File) error {
		var err error
		size, err = s.write(f)
		return err
	})
	result := "ok"
	if err != nil {
		result = "error"
	}
	s.metrics.snapshots.WithLabelValues(s.name, result).Inc()
	return size, err
}

// recover reads the file that a store starts with. If load cannot read it, it is set aside and there is nothing to start with.
func (s *snapshot) recover(load func(io.Reader) error) (io.Reader, error) {
	b, err := os.ReadFile(s.path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read snapshot: %w", err)
	}
	bad := load(bytes.NewReader(b))
	if bad == nil {
		return bytes.NewReader(b), nil
	}
	aside := s.path + ".damaged-" + time.Now().UTC().Format("20060102T150405Z")
	if err := errors.Join(os.Rename(s.path, aside), atomicfile.SyncDir(filepath.Dir(s.path))); err != nil {
		return nil, fmt.Errorf("cannot set damaged snapshot aside: %w", err)
	}
	s.metrics.damaged.WithLabelValues(s.name).Inc()
	s.logger.Error("snapshot is damaged and set aside; starting without it", "store", s.name, "file", aside, "error", bad)
	return nil, nil
}
