package journal

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"time"

	"whodunit/internal/atomicfile"
)

// cursorEvery bounds how often a cursor is written: after a crash its user reads at most that much again.
const cursorEvery = 200 * time.Millisecond

var cursorName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,99}$`)

// Cursor is one reader's durable place in the journal. It is safe for concurrent use.
type Cursor struct {
	j    *Journal
	name string
	path string

	mu      sync.Mutex
	next    uint64
	written uint64
	at      time.Time
}

type cursorFile struct {
	Version int    `json:"version"`
	Next    uint64 `json:"next"`
}

// Cursor opens the named cursor. One that does not exist begins at start, or behind the newest event where start is 0; one
// whose file is damaged, at the oldest event.
func (j *Journal) Cursor(name string, start uint64) (*Cursor, error) {
	if !cursorName.MatchString(name) {
		return nil, fmt.Errorf("cannot open cursor %q: a name has lower-case letters, digits, dots, dashes", name)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if c := j.cursors[name]; c != nil {
		return c, nil
	}
	c := &Cursor{j: j, name: name, path: filepath.Join(j.dir, "cursors", name+".json"), next: start}
	if start == 0 {
		c.next = j.next
	}
	next, err := readCursor(c.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = c.begin()
	case errors.Is(err, errCursor):
		err = c.reset(err)
	case err == nil:
		c.next, c.written = min(next, j.next), next
	}
	if err != nil {
		return nil, err
	}
	j.cursors[name] = c
	return c, nil
}

// begin makes the place of a new cursor durable; on a full disk Save does it later.
func (c *Cursor) begin() error {
	err := c.write(c.next)
	if fullDisk(err) {
		c.j.o.Log.Warn("cannot write cursor yet", "err", err)
		return nil
	}
	return err
}

// reset begins at the oldest event again: its reader gets events twice, which it must bear anyway, but misses none.
func (c *Cursor) reset(cause error) error {
	to := filepath.Join(c.j.dir, "quarantine", filepath.Base(c.path))
	if err := os.Rename(c.path, to); err != nil {
		return fmt.Errorf("cannot set damaged cursor aside: %w", err)
	}
	c.j.m.resets.WithLabelValues(c.name).Inc()
	c.j.o.Log.Error("cursor is damaged; its reader begins again at the oldest event", "cursor", c.name, "to", to, "err", cause)
	c.next = 1
	return c.begin()
}

// errCursor is wrapped where a cursor's file holds no cursor.
var errCursor = errors.New("damaged cursor")

func readCursor(path string) (uint64, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, fmt.Errorf("cannot read cursor: %w", err)
	}
	var f cursorFile
	if err := json.Unmarshal(b, &f); err != nil {
		return 0, fmt.Errorf("%w: %s: %w", errCursor, path, err)
	}
	if f.Version > 1 {
		return 0, fmt.Errorf("cannot read cursor %s: it has version %d, this program reads 1", path, f.Version)
	}
	if f.Version != 1 || f.Next == 0 {
		return 0, fmt.Errorf("%w: %s: it names no place", errCursor, path)
	}
	return f.Next, nil
}

// Next is the sequence number of the first event that its user has not finished.
func (c *Cursor) Next() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.next
}

// Save moves the cursor. It is on disk at most a second or so later, and at Flush: what is processed twice after a crash is
// little, and nothing is left out.
func (c *Cursor) Save(next uint64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.next = next
	now := c.j.o.Now()
	if d := now.Sub(c.at); d >= 0 && d < cursorEvery {
		return nil
	}
	c.at = now
	return c.flush()
}

// flushCursors makes durable what was saved shortly after another save and followed by none.
func (j *Journal) flushCursors() error {
	j.mu.Lock()
	var all []*Cursor
	for _, c := range j.cursors {
		all = append(all, c)
	}
	j.mu.Unlock()
	var errs []error
	for _, c := range all {
		errs = append(errs, c.Flush())
	}
	return errors.Join(errs...)
}

// Flush makes the last saved place durable.
func (c *Cursor) Flush() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.flush()
}

func (c *Cursor) flush() error {
	if c.next == c.written {
		return nil
	}
	return c.write(c.next)
}

func (c *Cursor) write(next uint64) error {
	b, err := json.Marshal(cursorFile{Version: 1, Next: next})
	if err != nil {
		return fmt.Errorf("cannot write cursor %s: %w", c.name, err)
	}
	if err := atomicfile.Write(c.path, 0o600, append(b, '\n')); err != nil {
		return fmt.Errorf("cannot write cursor %s: %w", c.name, err)
	}
	c.written = next
	return nil
}
