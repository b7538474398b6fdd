// Package stdin reads audit events, one a line, from a stream that ends: standard input, or a file given by hand. Gzip
// and zstd are recognised. It keeps no place: what is read again is read from the beginning.
package stdin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"whodunit/internal/audit"
	"whodunit/internal/envelope"
	"whodunit/internal/source"
	"whodunit/internal/source/lines"
)

// DefaultLinger is how long lines wait for others to become a batch with.
const DefaultLinger = 200 * time.Millisecond

// closePatience bounds the wait for a read that closing did not end (a terminal's).
const closePatience = time.Second

// Config of a Source. Name and Reader are required; every other zero value takes its default.
type Config struct {
	Name    string        // in Origin
	Cluster string        // of all events; where empty, what an envelope says
	Path    string        // of positions, "-" by default
	Reader  io.ReadCloser // closed when Run returns
	Linger  time.Duration
	Backoff lines.Backoff   // between tries of emit; Failed is set by the source
	Decode  envelope.Decode // of one line; envelope.Any where nil
	Reject  source.Reject   // nil: what is refused is not kept
	Metrics *Metrics
	Logger  *slog.Logger
}

// Metrics of all stream sources.
type Metrics struct {
	lines   prometheus.Counter
	skipped *prometheus.CounterVec
	fails   *prometheus.CounterVec
}

// NewMetrics registers the metrics with reg, which may be nil.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		lines: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "whodunit_stdin_lines_total", Help: "Lines read from streams.",
		}),
		skipped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "whodunit_stdin_skipped_total", Help: "Parts of envelopes in streams that are no audit events by right, by reason.",
		}, []string{"reason"}),
		fails: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "whodunit_stdin_emit_failures_total", Help: "Batches that have to be emitted again, by reason.",
		}, []string{"reason"}),
	}
	if reg != nil {
		reg.MustRegister(m.lines, m.skipped, m.fails)
	}
	return m
}

func (m *Metrics) skip(reason string, n int) { m.skipped.WithLabelValues(reason).Add(float64(n)) }

// Source reads one stream, once.
type Source struct{ cfg Config }

// New checks cfg. The error is permanent.
func New(cfg Config) (*Source, error) {
	if cfg.Name == "" || cfg.Reader == nil {
		return nil, errors.New("cannot make a stream source: a name and a reader are needed")
	}
	if cfg.Path == "" {
		cfg.Path = "-"
	}
	if cfg.Linger <= 0 {
		cfg.Linger = DefaultLinger
	}
	if cfg.Decode == nil {
		cfg.Decode = envelope.Any
	}
	if cfg.Reject == nil {
		cfg.Reject = func(source.Rejected) {}
	}
	if cfg.Metrics == nil {
		cfg.Metrics = NewMetrics(nil)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	cfg.Logger = cfg.Logger.With("component", "source/stdin", "source", cfg.Name)
	cfg.Backoff.Failed = func(err error, again int) {
		cfg.Metrics.fails.WithLabelValues(lines.FailureReason(err)).Inc()
		if again == 1 {
			cfg.Logger.Warn("events cannot be made durable; trying again", "err", err)
		}
	}
	return &Source{cfg: cfg}, nil
}

// Run reads to the stream's end and returns nil when all of it is durable or refused, or ctx is done. An error is the
// stream's; what came before it is durable.
func (s *Source) Run(ctx context.Context, emit source.Emit) error {
	reading, cancel := context.WithCancel(ctx)
	defer cancel()
	in := make(chan lines.Line)
	read := make(chan error, 1)
	go func() {
		defer close(in)
		read <- s.read(reading, in)
	}()
	if s.gather(ctx, in, emit) == nil { // in is closed: the stream has ended
		err := <-read
		_ = s.cfg.Reader.Close()
		if err != nil && ctx.Err() == nil {
			return fmt.Errorf("cannot read %s: %w", s.cfg.Path, err)
		}
		return nil
	}
	cancel()
	_ = s.cfg.Reader.Close() // ends a read that waits
	t := time.NewTimer(closePatience)
	defer t.Stop()
	select {
	case <-read: //nolint:errcheck // of a stream that was closed under its reader
	case <-t.C: // a terminal cannot be closed under a reader; the process is about to end
	}
	return nil
}

// read hands on line after line. It returns nil at the end of the stream.
func (s *Source) read(ctx context.Context, out chan<- lines.Line) error {
	d, _, err := lines.Decode(s.cfg.Reader)
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }()
	r := lines.NewReader(d, audit.MaxEventBytes, 0)
	send := func(l lines.Line) error {
		s.cfg.Metrics.lines.Inc()
		select {
		case out <- l:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	for {
		l, err := r.Next()
		if err == nil {
			if err := send(l); err != nil {
				return err
			}
			continue
		}
		if errors.Is(err, io.EOF) {
			err = nil
		}
		if l, ok := r.Rest(); ok && ctx.Err() == nil {
			err = errors.Join(err, send(l))
		}
		return err
	}
}

// gather makes batches of lines until in is closed, and then returns nil, or ctx is done.
func (s *Source) gather(ctx context.Context, in <-chan lines.Line, emit source.Emit) error {
	b := lines.Batch{Source: s.cfg.Name, Path: s.cfg.Path, Cluster: s.cfg.Cluster, Decode: s.cfg.Decode, Reject: s.cfg.Reject, Skipped: s.cfg.Metrics.skip}
	linger := time.NewTimer(s.cfg.Linger)
	defer linger.Stop()
	flush := func() error {
		if b.Empty() {
			return nil
		}
		return b.Deliver(ctx, emit, s.cfg.Backoff)
	}
	for {
		select {
		case l, ok := <-in:
			if !ok {
				return flush()
			}
			if !b.Fits(l) {
				if err := flush(); err != nil {
					return err
				}
			}
			if b.Empty() {
				linger.Reset(s.cfg.Linger)
			}
			b.Add(l)
		case <-linger.C:
			if err := flush(); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
