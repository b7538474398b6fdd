// Package reject keeps aside what sources could not understand: counted always, and kept as lines of JSON in a folder
// of bounded size, so that somebody can look at it and feed it in again.
//
// What is kept was not understood and so was not redacted: the files are readable by their owner alone.
package reject

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"

	"whodunit/internal/source"
)

// Names of the files in the folder: the one being written and the one before.
const (
	FileName = "rejects.ndjson"
	OldName  = "rejects.1.ndjson"
)

// DefaultMaxBytes bounds each of the two files.
const DefaultMaxBytes = 64 << 20

// maxKept bounds the input kept of one reject, in bytes.
const maxKept = 64 << 10

// maxError bounds the error text kept of one reject, in bytes: it may quote the input.
const maxError = 4 << 10

// Metrics counts rejects.
type Metrics struct {
	rejected *prometheus.CounterVec
	unkept   *prometheus.CounterVec
}

// NewMetrics registers the counters with reg, which may be nil.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		rejected: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "whodunit_rejected_total", Help: "Pieces of input that were no audit event, by source and reason.",
		}, []string{"source", "reason"}),
		unkept: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "whodunit_rejects_unkept_total", Help: "Rejected pieces of input that could not be kept aside, by reason.",
		}, []string{"reason"}),
	}
	if reg != nil {
		reg.MustRegister(m.rejected, m.unkept)
	}
	return m
}

// Options of a Log. The zero value takes the defaults.
type Options struct {
	MaxBytes int64            // of each of two files; DefaultMaxBytes where 0
	Now      func() time.Time // time.Now where nil
	Metrics  *Metrics         // not registered anywhere where nil
	Logger   *slog.Logger     // silent where nil
}

// Log keeps rejects. Its method Reject is a source.Reject. Safe for concurrent use.
type Log struct {
	dir  string
	opts Options

	mu      sync.Mutex
	f       *os.File // nil after a failed open: tried again with the next reject
	size    int64
	failing bool // said already
}

// record is one line of the file; docs/reference/rejects.md specifies it.
type record struct {
	Time     string `json:"time"`
	Source   string `json:"source"`
	Position string `json:"position,omitempty"`
	Reason   string `json:"reason"`
	Error    string `json:"error,omitempty"`
	Size     int64  `json:"size"`
	Text     string `json:"text,omitempty"`   // the input, or its beginning
	Base64   []byte `json:"base64,omitempty"` // instead of text where that is not UTF-8
}

// New opens or makes the folder dir.
func New(dir string, opts Options) (*Log, error) {
	if opts.MaxBytes == 0 {
		opts.MaxBytes = DefaultMaxBytes
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Metrics == nil {
		opts.Metrics = NewMetrics(nil)
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	opts.Logger = opts.Logger.With("component", "reject")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make the folder for rejects: %w", err)
	}
	l := &Log{dir: dir, opts: opts}
	if err := l.open(); err != nil {
		return nil, err
	}
	return l, nil
}

// Reject counts r and keeps it. It does not fail: what cannot be kept is counted and, once, logged.
func (l *Log) Reject(r source.Rejected) {
	l.opts.Metrics.rejected.WithLabelValues(r.Origin.Source, label(r.Reason)).Inc()
	line, err := l.line(r)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil {
		err = l.write(line)
	}
	if err == nil {
		l.failing = false
		return
	}
	l.opts.Metrics.unkept.WithLabelValues("disk").Inc()
	if !l.failing {
		l.failing = true
		l.opts.Logger.Error("cannot keep rejected input aside; counting it only", "err", err)
	}
}

// Close closes the file. Later rejects open it again.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.f == nil {
		return nil
	}
	err := l.f.Close()
	l.f = nil
	return err
}

// label bounds the label's values to the set in source.Rejected.
func label(reason string) string {
	switch reason {
	case "syntax", "not_audit", "too_large", "too_many", "truncated", "envelope":
		return reason
	}
	return "other"
}

func (l *Log) line(r source.Rejected) ([]byte, error) {
	rec := record{
		Time: l.opts.Now().UTC().Format(time.RFC3339Nano), Source: r.Origin.Source, Position: r.Origin.Position,
		Reason: r.Reason, Size: r.Size,
	}
	if r.Err != nil {
		rec.Error = r.Err.Error()
		rec.Error = rec.Error[:min(len(rec.Error), maxError)]
	}
	b := r.Bytes[:min(len(r.Bytes), maxKept)]
	if text := whole(b, len(b) < len(r.Bytes) || int64(len(b)) < r.Size); text != nil {
		rec.Text = string(text)
	} else {
		rec.Base64 = b
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(rec); err != nil {
		return nil, fmt.Errorf("cannot encode a reject: %w", err)
	}
	return out.Bytes(), nil
}

// whole is b as valid UTF-8, without the character that a cut went through; nil where it is no UTF-8.
func whole(b []byte, cut bool) []byte {
	for n := 0; n < utf8.UTFMax && n <= len(b); n++ {
		if t := b[:len(b)-n]; utf8.Valid(t) {
			return t
		}
		if !cut {
			break
		}
	}
	return nil
}

func (l *Log) open() error {
	f, err := os.OpenFile(filepath.Join(l.dir, FileName), os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("cannot open the file for rejects: %w", err)
	}
	size, err := f.Seek(0, 2)
	if err != nil {
		return errors.Join(fmt.Errorf("cannot seek in %s: %w", f.Name(), err), f.Close())
	}
	var last [1]byte
	if size > 0 { // a crash may have left half a line
		if _, err := f.ReadAt(last[:], size-1); err == nil && last[0] != '\n' {
			if n, err := f.Write([]byte{'\n'}); err == nil {
				size += int64(n)
			}
		}
	}
	l.f, l.size = f, size
	return nil
}

func (l *Log) write(line []byte) error {
	if l.f == nil {
		if err := l.open(); err != nil {
			return err
		}
	}
	if l.size > 0 && l.size+int64(len(line)) > l.opts.MaxBytes {
		if err := l.rotate(); err != nil {
			return err
		}
	}
	n, err := l.f.Write(line)
	l.size += int64(n)
	if err == nil {
		return nil
	}
	err = fmt.Errorf("cannot write %s: %w", l.f.Name(), err)
	if n > 0 { // take the half line back; open() repairs it otherwise
		if terr := l.f.Truncate(l.size - int64(n)); terr == nil {
			l.size -= int64(n)
			return err
		}
	}
	f := l.f
	l.f = nil
	return errors.Join(err, f.Close())
}

func (l *Log) rotate() error {
	f := l.f
	l.f = nil
	if err := f.Close(); err != nil {
		return fmt.Errorf("cannot close %s: %w", f.Name(), err)
	}
	if err := os.Rename(f.Name(), filepath.Join(l.dir, OldName)); err != nil {
		return fmt.Errorf("cannot rotate the file for rejects: %w", err)
	}
	return l.open()
}
