// Package file follows audit logs: files that grow, are rotated by renaming or by copying and truncating, compressed,
// deleted, and whose reader may be killed at any moment. Nothing is lost as long as a file is there until it was read;
// little is read twice.
//
// One goroutine reads all files in turn, a batch from each; the place in a file is written down after its batch is
// durable. A file is recognised by its content, not by its name: see place.
package file

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"whodunit/internal/envelope"
	"whodunit/internal/source"
	"whodunit/internal/source/lines"
)

// Defaults of Config.
const (
	DefaultPoll   = time.Second
	DefaultLinger = 200 * time.Millisecond
	DefaultGrace  = 5 * time.Second
)

// maxOpen bounds the files that are open at once, so that a folder of thousands does not use up the process's limit.
const maxOpen = 64

// keepOpen is how many of the files that changed last are open in any case: a log that is rotated away and deleted can
// still be read to its end then.
const keepOpen = 8

// idleClose is the age of the last change at which a file that was read to its end is closed.
const idleClose = time.Minute

// Config of a Source. Name, Globs and StateDir are required; every other zero value takes its default.
type Config struct {
	Name     string   // in Origin, metrics and the checkpoint's name
	Cluster  string   // of all events; where empty, what an envelope says
	Globs    []string // as filepath.Match has them, e.g. /var/log/kubernetes/audit*.log*
	StateDir string   // for the checkpoint; exists and belongs to us
	FromEnd  bool     // skip what the files hold when they are seen for the very first time

	Poll            time.Duration // between looks at the file system; notifications make it faster
	Linger          time.Duration // from a notification to the reading, so that lines come together
	Grace           time.Duration // a rotated file without change for so long is complete
	CheckpointEvery time.Duration // at most so often; 1 s where 0, with each batch where negative
	Backoff         lines.Backoff // between tries of emit; Failed is set by the source

	// Progress is told, after each batch, how far a file is read: bytes of the file as it is on disk. May be nil.
	Progress func(path string, done, total int64)

	Decode  envelope.Decode // of one line; envelope.Any where nil
	Reject  source.Reject   // nil: what is refused is not kept
	Metrics *Metrics
	Logger  *slog.Logger
	Now     func() time.Time
}

// Source follows the files that match its patterns. It runs once.
type Source struct {
	cfg    Config
	state  *state
	tails  map[fileID]*tail
	order  []*tail         // newest change first
	said   map[string]bool // problems by path and kind that were logged and last
	first  bool            // no scan has been made and there was no checkpoint
	saved  time.Time
	dirty  bool
	opened int
	watch  *watcher
}

// New checks cfg. The error is permanent.
func New(cfg Config) (*Source, error) {
	if cfg.Name == "" || len(cfg.Globs) == 0 || cfg.StateDir == "" {
		return nil, errors.New("cannot make a file source: a name, a pattern and a folder for its state are needed")
	}
	for _, g := range cfg.Globs {
		if _, err := filepath.Match(g, ""); err != nil {
			return nil, fmt.Errorf("cannot make a file source: pattern %q: %w", g, err)
		}
	}
	for _, d := range []struct {
		v   *time.Duration
		def time.Duration
	}{{&cfg.Poll, DefaultPoll}, {&cfg.Linger, DefaultLinger}, {&cfg.Grace, DefaultGrace}} {
		if *d.v <= 0 {
			*d.v = d.def
		}
	}
	if cfg.CheckpointEvery == 0 {
		cfg.CheckpointEvery = time.Second
	}
	if cfg.Decode == nil {
		cfg.Decode = envelope.Any
	}
	if cfg.Reject == nil {
		cfg.Reject = func(source.Rejected) {}
	}
	if cfg.Progress == nil {
		cfg.Progress = func(string, int64, int64) {}
	}
	if cfg.Metrics == nil {
		cfg.Metrics = NewMetrics(nil)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	cfg.Logger = cfg.Logger.With("component", "source/file", "source", cfg.Name)
	cfg.Backoff.Failed = func(err error, again int) {
		cfg.Metrics.fails.WithLabelValues(lines.FailureReason(err)).Inc()
		if again == 1 {
			cfg.Logger.Warn("events cannot be made durable; reading waits", "err", err)
		}
	}
	return &Source{cfg: cfg, tails: map[fileID]*tail{}, said: map[string]bool{}}, nil
}

// Run follows the files until ctx is done. An error is about the checkpoint and comes at the beginning.
func (s *Source) Run(ctx context.Context, emit source.Emit) error {
	path := statePath(s.cfg.StateDir, s.cfg.Name)
	st, fresh, err := loadState(path)
	if err != nil {
		if !errors.Is(err, errDamaged) {
			return err
		}
		s.cfg.Logger.Error("the checkpoint is damaged; all files are read from their beginning", "err", err)
		s.cfg.Metrics.problem("checkpoint")
	}
	s.state, s.first = st, fresh
	s.watch = newWatcher(s.cfg.Logger, s.cfg.Metrics)
	defer s.watch.close()
	defer s.close()
	for ctx.Err() == nil {
		s.scan()
		if more := s.round(ctx, emit); !more {
			s.save(false)
			s.wait(ctx)
		}
	}
	return nil
}

// round reads a batch of each file, newest first, until the next look at the file system is due. It says whether there
// is more to read at once.
func (s *Source) round(ctx context.Context, emit source.Emit) bool {
	until := s.cfg.Now().Add(s.cfg.Poll)
	for {
		more := false
		for i, t := range s.order {
			again, err := s.step(ctx, t, i < keepOpen, emit)
			if err != nil {
				return false // ctx is done
			}
			more = more || again
			s.save(false)
		}
		if !more || s.cfg.Now().After(until) {
			return more
		}
	}
}

// wait returns when it is time to look again.
func (s *Source) wait(ctx context.Context) {
	poll := time.NewTimer(s.cfg.Poll)
	defer poll.Stop()
	select {
	case <-ctx.Done():
	case <-poll.C:
	case <-s.watch.wake:
		linger := time.NewTimer(s.cfg.Linger)
		defer linger.Stop()
		select {
		case <-ctx.Done():
		case <-linger.C:
		}
	}
}

// save writes the checkpoint if something changed and it is time, or at the end.
func (s *Source) save(last bool) {
	now := s.cfg.Now()
	if !s.dirty || !last && s.cfg.CheckpointEvery > 0 && now.Sub(s.saved) < s.cfg.CheckpointEvery {
		return
	}
	s.saved = now
	for _, t := range s.tails {
		if t.place != nil {
			t.place.Seen = now.Unix()
		}
	}
	s.state.prune(now, s.inUse())
	if err := s.state.write(statePath(s.cfg.StateDir, s.cfg.Name)); err != nil {
		s.cfg.Metrics.problem("checkpoint")
		s.once("checkpoint", "the checkpoint cannot be written; after a restart events are read again", err)
		return
	}
	delete(s.said, "checkpoint")
	s.dirty = false
}

func (s *Source) inUse() map[*place]bool {
	m := map[*place]bool{}
	for _, t := range s.tails {
		m[t.place] = true
	}
	return m
}

func (s *Source) close() {
	s.save(true)
	for _, t := range s.tails {
		s.shut(t)
	}
}

// once logs a problem when it begins; the caller deletes key from s.said when it is over.
func (s *Source) once(key, msg string, err error) {
	if !s.said[key] {
		s.said[key] = true
		s.cfg.Logger.Warn(msg, "err", err) //nolint:sloglint // its callers hand in literals
	}
}
