package act

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"whodunit/internal/atomicfile"
)

// outcome says how an action ended.
type outcome string

const (
	done        outcome = "done"
	dryRun      outcome = "dry_run"
	failed      outcome = "failed"
	refused     outcome = "denied"
	expired     outcome = "expired" // the event is too old, or too far in the future
	rateLimited outcome = "rate_limited"
	cooldown    outcome = "cooldown"
	unsupported outcome = "unsupported"
	interrupted outcome = "interrupted"
)

// entry is what the log knows of an event and an action. Its key is their pair.
type entry struct {
	Version int     `json:"v"` // logVersion
	Micros  int64   `json:"t"` // of the intent, or of the outcome where nothing was attempted
	Event   string  `json:"event"`
	Action  string  `json:"action"`
	Kind    Kind    `json:"kind"`
	Finding string  `json:"finding"` // the first that asked
	Rule    string  `json:"rule"`
	Target  string  `json:"target,omitempty"` // for the cooldown
	Tried   bool    `json:"tried,omitempty"`  // there was an intent
	Outcome outcome `json:"outcome,omitempty"`
	Message string  `json:"message,omitempty"`
	unsaved bool    // the outcome could not be written yet
}

type logKey struct{ event, action string }

func (e *entry) key() logKey { return logKey{e.Event, e.Action} }

const (
	logVersion = 1
	// minKeep is how long an attempt is remembered at least.
	minKeep = 24 * time.Hour
	// maxSkips bounds what is remembered of actions that a guard held back; attempts are bounded by their rates.
	maxSkips = 10_000
	// compactAt is how far the file may grow beyond twice what was live when it was rewritten last.
	compactAt = 1 << 20
)

// logFile is the append-only log of intents and outcomes, one JSON object a line. A later line about the same event and action
// replaces an earlier one. docs/reference/alert-state.md specifies it.
type logFile struct {
	path    string
	f       *os.File
	size    int64
	base    int64 // the size after it was rewritten last
	keep    time.Duration
	now     func() time.Time
	log     *slog.Logger
	entries map[logKey]*entry
	byEvent map[string][]*entry
	order   []*entry // by time of arrival
	skips   int      // entries that were not tried
}

func openLog(dir string, keep time.Duration, now func() time.Time, logger *slog.Logger) (*logFile, error) {
	l := &logFile{path: filepath.Join(dir, "actions.jsonl"), keep: max(keep, minKeep), now: now, log: logger, entries: map[logKey]*entry{}, byEvent: map[string][]*entry{}}
	if err := l.read(); err != nil {
		return nil, fmt.Errorf("cannot read log of actions: %w", err)
	}
	if err := l.compact(); err != nil { // away with a torn last line, too
		return nil, fmt.Errorf("cannot rewrite log of actions: %w", err)
	}
	return l, nil
}

func (l *logFile) read() error {
	b, err := os.ReadFile(l.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for n := 1; len(b) > 0; n++ {
		line, rest, whole := bytes.Cut(b, []byte{'\n'})
		b = rest
		var e entry
		if err := json.Unmarshal(line, &e); err != nil || !whole || e.Version != logVersion || e.Event == "" || e.Action == "" {
			// The last line may be torn: its request was not made, because the intent is synced first, or its outcome is unknown.
			l.log.Warn("a line of the log of actions cannot be read", "file", l.path, "line", n, "last", !whole)
			continue
		}
		l.put(&e)
	}
	return nil
}

// get is what is known of an event and an action, nil if nothing is.
func (l *logFile) get(event, action string) *entry { return l.entries[logKey{event, action}] }

func (l *logFile) put(e *entry) {
	old := l.entries[e.key()]
	if old != nil {
		if !old.Tried && e.Tried {
			l.skips--
		}
		*old = *e
		return
	}
	l.entries[e.key()] = e
	l.byEvent[e.Event] = append(l.byEvent[e.Event], e)
	l.order = append(l.order, e)
	if !e.Tried {
		l.skips++
	}
}

// save writes e; with sync it is on disk when save returns nil. On an error e is known, but unsaved.
func (l *logFile) save(e *entry, sync bool) error {
	e.unsaved, e.Version = true, logVersion
	l.put(e)
	e = l.entries[e.key()]
	if l.size > 2*l.base+compactAt || l.skips > 2*maxSkips {
		if err := l.compact(); err != nil {
			return fmt.Errorf("cannot rewrite log of actions: %w", err)
		}
		e.unsaved = false // it was rewritten with it
		return nil
	}
	b, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("cannot write log of actions: %w", err)
	}
	if err := l.append(append(b, '\n'), sync); err != nil {
		return fmt.Errorf("cannot write log of actions: %w", err)
	}
	e.unsaved = false
	return nil
}

// drop forgets an intent that could not be written: nothing comes of it.
func (l *logFile) drop(e *entry) {
	l.remove(e)
	l.order = slices.DeleteFunc(l.order, func(o *entry) bool { return o == e })
}

func (l *logFile) remove(e *entry) {
	if !e.Tried {
		l.skips--
	}
	delete(l.entries, e.key())
	rest := slices.DeleteFunc(l.byEvent[e.Event], func(o *entry) bool { return o == e })
	if l.byEvent[e.Event] = rest; len(rest) == 0 {
		delete(l.byEvent, e.Event)
	}
}

func (l *logFile) append(line []byte, sync bool) error {
	if l.f == nil {
		if err := l.reopen(); err != nil {
			return err
		}
	}
	_, err := l.f.Write(line)
	if err == nil && sync {
		err = l.f.Sync()
	}
	if err != nil { // what stands there now is not known: cut it off, and open it anew the next time
		err = errors.Join(err, l.f.Truncate(l.size), l.f.Close())
		l.f = nil
		return err
	}
	l.size += int64(len(line))
	return nil
}

func (l *logFile) reopen() error {
	f, err := os.OpenFile(l.path, os.O_RDWR|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	end, err := f.Seek(0, io.SeekEnd)
	if err == nil && end > l.size {
		err = f.Truncate(l.size)
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	l.f = f
	return nil
}

// compact forgets what is too old or too much, and rewrites the file.
func (l *logFile) compact() error {
	l.forget()
	var size int64
	err := atomicfile.WriteFunc(l.path, 0o600, func(f *os.File) error {
		var b bytes.Buffer
		enc := json.NewEncoder(&b)
		for _, e := range l.order {
			b.Reset()
			if err := enc.Encode(e); err != nil {
				return err
			}
			n, err := f.Write(b.Bytes())
			if size += int64(n); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, e := range l.order {
		e.unsaved = false
	}
	l.close()
	l.size, l.base = size, size
	return l.reopen()
}

func (l *logFile) forget() {
	oldest := l.now().Add(-l.keep).UnixMicro()
	tooMany := l.skips - maxSkips
	l.order = slices.DeleteFunc(l.order, func(e *entry) bool {
		gone := e.Micros < oldest
		if !gone && !e.Tried && tooMany > 0 {
			gone = true
			tooMany--
		}
		if gone {
			l.remove(e)
		}
		return gone
	})
}

// attempts are the entries of an action that were tried since a time, oldest first.
func (l *logFile) attempts(action string, since time.Time) []*entry {
	var out []*entry
	for _, e := range slices.Backward(l.order) {
		// Entries come in order of time but for a clock that was set back, so all are looked at.
		if e.Tried && e.Action == action && e.Micros > since.UnixMicro() {
			out = append(out, e)
		}
	}
	slices.Reverse(out)
	return out
}

func (l *logFile) close() {
	if l.f != nil {
		_ = l.f.Close() // each line that matters was synced
		l.f = nil
	}
}
