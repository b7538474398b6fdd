// Package file appends findings, or groups of alerts, to a file or to standard output: JSON, one a line.
package file

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"whodunit/internal/alert"
	"whodunit/internal/atomicfile"
)

// Stdout is the path that means standard output.
const Stdout = "-"

// Config says where to write.
type Config struct {
	// Path of a regular file, which is made with mode 0600 where it is missing, or Stdout. It is opened again when another file, or none,
	// has its name: so it may be rotated by renaming it, by removing it, or by cutting it to nothing.
	Path   string
	Stdout io.Writer        // wanted where Path is Stdout; it must be safe for concurrent use if others write to it
	Now    func() time.Time // tells which alerts are over; nil: time.Now
}

// out writes whole lines. It is safe for concurrent use.
type out struct {
	c    Config
	mu   sync.Mutex
	file *os.File // nil: not open
	torn bool     // of standard output: its last line has no end
}

func open(c Config) (*out, error) {
	if c.Now == nil {
		c.Now = time.Now
	}
	o := &out{c: c}
	switch {
	case c.Path == "":
		return nil, errors.New("cannot make file receiver: a path, or - for standard output, is expected")
	case c.Path == Stdout && c.Stdout == nil:
		return nil, errors.New("cannot make file receiver: there is no standard output")
	case c.Path == Stdout:
		return o, nil
	}
	return o, o.reopen()
}

// Close closes the file. What was taken is on disk already.
func (o *out) Close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.shut()
}

func (o *out) shut() {
	if o.file != nil {
		_ = o.file.Close()
		o.file = nil
	}
}

// write appends lines, of which each has its end. A file is on disk when it returns nil; an error is worth another try, and the lines
// may then come twice.
func (o *out) write(ctx context.Context, lines []byte) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	if o.c.Path == Stdout {
		return o.stream(lines)
	}
	if err := o.reopen(); err != nil {
		return err
	}
	return o.append(lines)
}

func (o *out) stream(lines []byte) error {
	if o.torn {
		lines = append([]byte{'\n'}, lines...)
	}
	n, err := o.c.Stdout.Write(lines)
	if n > 0 {
		o.torn = lines[n-1] != '\n'
	}
	if err != nil {
		return fmt.Errorf("cannot write to standard output: %w", err)
	}
	return nil
}

// reopen sees to it that the open file is the one at the path.
func (o *out) reopen() error {
	at, err := os.Stat(o.c.Path)
	missing := errors.Is(err, fs.ErrNotExist)
	switch {
	case err != nil && !missing:
		return fmt.Errorf("cannot write findings: %w", err)
	case err == nil && !at.Mode().IsRegular():
		return fmt.Errorf("cannot write findings: %s is not a regular file", o.c.Path)
	}
	if o.file != nil {
		if have, err := o.file.Stat(); err == nil && !missing && os.SameFile(at, have) {
			return nil
		}
		o.shut()
	}
	f, err := os.OpenFile(o.c.Path, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("cannot write findings: %w", err)
	}
	if missing {
		if err := atomicfile.SyncDir(filepath.Dir(o.c.Path)); err != nil {
			_ = f.Close()
			return fmt.Errorf("cannot write findings: %w", err)
		}
	}
	o.file = f
	return nil
}

// append takes back what a full disk left of the lines. Where it cannot, as after a crash, the next call ends the half line first.
func (o *out) append(lines []byte) error {
	st, err := o.file.Stat()
	if err != nil {
		return fmt.Errorf("cannot write findings: %w", err)
	}
	size := st.Size()
	if size > 0 {
		var last [1]byte
		if _, err := o.file.ReadAt(last[:], size-1); err != nil && !errors.Is(err, io.EOF) { // it may have been cut just now
			return fmt.Errorf("cannot write findings: %w", err)
		} else if err == nil && last[0] != '\n' {
			lines = append([]byte{'\n'}, lines...)
		}
	}
	n, err := o.file.Write(lines)
	if err == nil {
		err = o.file.Sync()
	} else if st, serr := o.file.Stat(); serr == nil && st.Size() == size+int64(n) { // nobody else wrote behind it
		_ = o.file.Truncate(size)
	}
	if err != nil {
		return fmt.Errorf("cannot write findings: %w", err)
	}
	return nil
}

// Findings writes an alert.Finding.Document a line. It implements alert.Notifier.
type Findings struct{ *out }

// NewFindings opens the file. Close closes it.
func NewFindings(c Config) (*Findings, error) {
	o, err := open(c)
	if err != nil {
		return nil, err
	}
	return &Findings{o}, nil
}

// Notify implements alert.Notifier.
func (f *Findings) Notify(ctx context.Context, findings []alert.Finding) error {
	var lines []byte
	for i := range findings {
		lines = append(append(lines, findings[i].Document()...), '\n')
	}
	return f.write(ctx, lines)
}

// Groups writes an alert.Group.Document a line. It implements alert.Receiver.
type Groups struct{ *out }

// NewGroups opens the file. Close closes it.
func NewGroups(c Config) (*Groups, error) {
	o, err := open(c)
	if err != nil {
		return nil, err
	}
	return &Groups{o}, nil
}

// Notify implements alert.Receiver.
func (f *Groups) Notify(ctx context.Context, g alert.Group) error {
	line, err := g.Document(f.c.Now())
	if err != nil {
		return err
	}
	return f.write(ctx, append(line, '\n'))
}
