package api

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"whodunit/internal/audit"
	"whodunit/internal/auth"
	"whodunit/internal/store"
	"whodunit/internal/store/wire"
)

// queue holds lines for one tail client, bounded by bytes: what does not fit is dropped and counted.
type queue struct {
	limit int
	wake  chan struct{} // one place: something is there

	mu      sync.Mutex
	lines   [][]byte
	bytes   int
	dropped int64 // since the lines before it
}

func (q *queue) push(line []byte) (kept bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.dropped > 0 || len(q.lines) > 0 && q.bytes+len(line) > q.limit {
		q.dropped++ // and all that follow until the client has caught up, so that the gap is one and stands in its place
		return false
	}
	q.lines, q.bytes = append(q.lines, line), q.bytes+len(line)
	select {
	case q.wake <- struct{}{}:
	default:
	}
	return true
}

// take gives what is there, and how many events are missing after it.
func (q *queue) take() (lines [][]byte, dropped int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	lines, dropped = q.lines, q.dropped
	q.lines, q.bytes, q.dropped = nil, 0, 0
	return lines, dropped
}

func (a *API) tail(c *call, set Set) error {
	if set.Tail == nil {
		return &problem{status: http.StatusNotFound, detail: "this server has no live tail", hint: "search instead"}
	}
	q, err := a.selection(c)
	if err != nil {
		return err
	}
	select {
	case a.tails <- struct{}{}:
		defer func() { <-a.tails }()
	default:
		a.metrics.refused.WithLabelValues("tails").Inc()
		return &problem{status: http.StatusServiceUnavailable, detail: "too many live tails are open", hint: "close one, or try again later", retryAfter: 10}
	}
	a.metrics.tailing.Inc()
	defer a.metrics.tailing.Dec()

	ctx, cancel := context.WithCancel(c.r.Context())
	buf := &queue{limit: a.o.TailBuffer, wake: make(chan struct{}, 1)}
	ended := make(chan error, 1)
	go func() {
		ended <- set.Tail.Tail(ctx, store.Query{Expr: q.Expr}, func(r *audit.Record) error {
			if !buf.push(append(wire.AppendItem(nil, r), '\n')) {
				a.metrics.dropped.WithLabelValues("slow_client").Inc()
			}
			return nil
		})
	}()
	c.w.Header().Set("Content-Type", wire.NDJSON)
	sent, err := a.pump(c, buf, ended)
	cancel()
	if !errors.Is(err, errTailEnded) {
		<-ended //nolint:errcheck // the client has been told already, or is gone
	}
	a.record(c, q, store.Stats{Matched: sent}, nil)
	return nil // what there was to say was said in the stream
}

var errTailEnded = errors.New("the tail ended")

// pump writes until the client goes, the server stops, or the tail ends.
func (a *API) pump(c *call, buf *queue, ended <-chan error) (sent int64, err error) {
	out := a.newStream(c)
	if err := out.flush(); err != nil { // the client sees that it is connected
		return 0, err
	}
	tick := time.NewTicker(a.o.Keepalive)
	defer tick.Stop()
	for {
		select {
		case <-c.r.Context().Done():
			return sent, c.r.Context().Err()
		case <-a.closing:
			return sent, errors.Join(context.Canceled, a.goodbye(c, out, &problem{status: http.StatusServiceUnavailable, detail: "the server is stopping", hint: "connect again"}))
		case err := <-ended:
			if n, derr := drain(out, buf); derr == nil {
				sent += n
			}
			if err == nil {
				err = errors.New("no more events will come")
			}
			return sent, errors.Join(errTailEnded, a.goodbye(c, out, asProblem(err)))
		case <-tick.C:
			// A session may have ended and a token may have been revoked since.
			if _, err := a.o.Auth.Authorize(c.r, auth.ScopeRead); err != nil {
				return sent, errors.Join(err, a.goodbye(c, out, asProblem(err)))
			}
			if err := errors.Join(out.control(wire.Control{Keepalive: wire.Time(a.o.Now().UnixMicro())}), out.flush()); err != nil {
				return sent, err
			}
		case <-buf.wake:
			n, err := drain(out, buf)
			sent += n
			if err != nil {
				return sent, err
			}
		}
	}
}

func drain(out *stream, buf *queue) (int64, error) {
	lines, dropped := buf.take()
	for _, l := range lines {
		if err := out.line(l); err != nil {
			return 0, err
		}
	}
	if dropped > 0 {
		if err := out.control(wire.Control{Dropped: dropped}); err != nil {
			return 0, err
		}
	}
	return int64(len(lines)), out.flush()
}

func (a *API) goodbye(c *call, out *stream, p *problem) error {
	return errors.Join(out.control(wire.Control{Error: p.wire(c.r.URL.Path)}), out.flush())
}
