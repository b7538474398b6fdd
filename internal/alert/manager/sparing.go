package manager

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	mostLines = 20 // of one message in linesPer
	linesPer  = time.Minute
	mostTexts = 1000 // messages that are remembered
)

// sparing passes on so many warnings and errors of one message in a while: Alertmanager has one for each alert and each group, of which there
// are thousands when something is wrong with a receiver. The next line says how many were left out.
type sparing struct {
	slog.Handler
	r *rations
}

// rations are what handlers that come of one another share.
type rations struct {
	left prometheus.Counter // lines that were left out

	mu  sync.Mutex
	had map[string]*ration
}

// ration is what was written of one message.
type ration struct {
	since       time.Time
	lines, left int
}

func newSparing(h slog.Handler, left prometheus.Counter) sparing {
	return sparing{h, &rations{left: left, had: map[string]*ration{}}}
}

// Handle implements slog.Handler.
func (h sparing) Handle(ctx context.Context, rec slog.Record) error {
	if rec.Level >= slog.LevelWarn {
		left, ok := h.r.take(rec.Message, rec.Time)
		if !ok {
			return nil
		}
		if left > 0 {
			rec = rec.Clone()
			rec.AddAttrs(slog.Int("left_out", left))
		}
	}
	return h.Handler.Handle(ctx, rec)
}

// take reports whether a line of text is written, and how many before it were not.
func (r *rations) take(text string, now time.Time) (left int, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	x := r.had[text]
	if x == nil {
		if len(r.had) >= mostTexts {
			clear(r.had)
		}
		x = &ration{since: now}
		r.had[text] = x
	}
	if d := now.Sub(x.since); d >= linesPer || d < 0 {
		left = x.left
		*x = ration{since: now}
	}
	if x.lines == mostLines {
		x.left++
		r.left.Inc()
		return 0, false
	}
	x.lines++
	return left, true
}

// WithAttrs implements slog.Handler.
func (h sparing) WithAttrs(attrs []slog.Attr) slog.Handler {
	return sparing{h.Handler.WithAttrs(attrs), h.r}
}

// WithGroup implements slog.Handler.
func (h sparing) WithGroup(name string) slog.Handler { return sparing{h.Handler.WithGroup(name), h.r} }
