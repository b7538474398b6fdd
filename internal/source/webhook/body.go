package webhook

import (
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"whodunit/internal/source/lines"
)

// budget bounds the bytes of all bodies in memory.
type budget struct {
	max   int64
	gauge prometheus.Gauge

	mu   sync.Mutex
	used int64
}

func (b *budget) acquire(n int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.used+n > b.max {
		return false
	}
	b.used += n
	b.gauge.Set(float64(b.used))
	return true
}

func (b *budget) release(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used -= n
	b.gauge.Set(float64(b.used))
}

// firstBuffer is how much is taken on trust in Content-Length; more only as it arrives.
const firstBuffer = 4 << 20

// sampleBytes is how much of a body that is too large is read, for evidence.
const sampleBytes = 64 << 10

// read gives the body, decompressed, in one buffer of its own. release gives its bytes back to the budget and is to be
// called in every case. With 413 the body is the beginning.
func (s *Source) read(r *http.Request) (body []byte, release func(), bad *answer) {
	limit := s.cfg.MaxBodyBytes
	src := http.MaxBytesReader(nil, r.Body, limit)
	hint, release := r.ContentLength, func() {}
	var z io.ReadCloser
	var err error
	switch enc := strings.ToLower(strings.TrimSpace(r.Header.Get("Content-Encoding"))); enc {
	case "", "identity":
		if hint > limit {
			sample, _ := io.ReadAll(io.LimitReader(src, sampleBytes))
			return sample, release, s.tooLarge()
		}
		z = src
	case "gzip", "x-gzip":
		hint = 4 * min(hint, limit/4)
		z, err = gzip.NewReader(src)
	case "zstd":
		hint = 4 * min(hint, limit/4)
		z, err = lines.ZstdReader(src)
	default:
		return nil, release, refuse(http.StatusUnsupportedMediaType, "encoding", "Content-Encoding is %.100q; identity, gzip and zstd are understood", enc)
	}
	if err != nil {
		return nil, release, s.readFailed(r.Context(), err)
	}
	defer func() { _ = z.Close() }()
	g := &growing{budget: s.bytes, limit: limit}
	if err := g.readAll(z, hint); err != nil {
		bad := s.readFailed(r.Context(), err)
		if bad.code == http.StatusRequestEntityTooLarge {
			return g.buf[:min(len(g.buf), sampleBytes)], g.free, bad
		}
		return nil, g.free, bad
	}
	return g.buf, g.free, nil
}

func (s *Source) tooLarge() *answer {
	return refuse(http.StatusRequestEntityTooLarge, "too_large", "the body has more than %d bytes", s.cfg.MaxBodyBytes)
}

func (s *Source) readFailed(ctx context.Context, err error) *answer {
	var tooMany *http.MaxBytesError
	switch {
	case errors.Is(err, errNoBudget):
		return again(http.StatusServiceUnavailable, "bytes_in_flight", "more than %d bytes of events at once", s.cfg.MaxInFlightBytes)
	case errors.Is(err, errOverLimit), errors.As(err, &tooMany):
		return s.tooLarge()
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return refuse(http.StatusRequestTimeout, "slow_body", "the body came too slowly")
	case ctx.Err() != nil:
		return refuse(http.StatusBadRequest, "gone", "the connection broke while the body came")
	}
	return refuse(http.StatusBadRequest, "body", "the body cannot be read: %v", err)
}

var (
	errNoBudget  = errors.New("too many bytes in flight")
	errOverLimit = errors.New("body too large")
)

// growing is a buffer whose capacity is paid from a budget.
type growing struct {
	budget *budget
	limit  int64
	buf    []byte
	paid   int64
}

func (g *growing) free() {
	g.budget.release(g.paid)
	g.paid = 0
}

// grow moves to a buffer of n bytes. Both buffers are paid for while both exist.
func (g *growing) grow(n int64) error {
	if !g.budget.acquire(n) {
		return errNoBudget
	}
	next := make([]byte, len(g.buf), n)
	copy(next, g.buf)
	g.buf = next
	g.budget.release(g.paid)
	g.paid = n
	return nil
}

// readAll reads r to its end; hint is its likely size, -1 where unknown.
func (g *growing) readAll(r io.Reader, hint int64) error {
	if hint < 0 {
		hint = 64 << 10
	}
	// one byte more than the hint, to see the end without growing
	if err := g.grow(min(hint, g.limit, firstBuffer) + 1); err != nil {
		return err
	}
	for {
		if len(g.buf) == cap(g.buf) {
			if int64(len(g.buf)) > g.limit {
				return errOverLimit
			}
			n := 2 * int64(len(g.buf))
			if hint > int64(len(g.buf)) {
				n = min(n*2, hint+1)
			}
			if err := g.grow(min(n, g.limit+1)); err != nil {
				return err
			}
		}
		n, err := r.Read(g.buf[len(g.buf):cap(g.buf)])
		g.buf = g.buf[:len(g.buf)+n]
		if errors.Is(err, io.EOF) {
			if int64(len(g.buf)) > g.limit {
				return errOverLimit
			}
			return nil
		}
		if err != nil {
			return err
		}
	}
}
