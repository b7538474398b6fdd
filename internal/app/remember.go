package app

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strconv"
	"time"

	"whodunit/internal/audit"
	"whodunit/internal/detect"
	"whodunit/internal/match"
	"whodunit/internal/store"
	segmentstore "whodunit/internal/store/segment"
)

// What a first_seen rule must know may lie a month back: too much to read, but a search finds the events that it looks at.
const (
	rememberMost  = 200_000     // events, the newest
	rememberBytes = 64 << 20    // of the events of one day, the newest
	rememberFor   = time.Minute // and then detection begins with what there is
)

const day = int64(24 * time.Hour / time.Microsecond)

// remembering is a reader whose first records are those before start that first_seen rules look at.
type remembering struct {
	detect.Reader
	log    *slog.Logger
	search store.Searcher
	expr   match.Expr
	from   int64
	start  uint64
	days   []store.Bucket // to be read, oldest first
	asked  bool
	until  time.Time
}

// remembering gives r itself where no rule looks back that far.
func (a *App) remembering(r detect.Reader, p *detect.Program, start uint64) detect.Reader {
	expr, reach := p.Memory(refillReach)
	if expr == nil || start <= 1 {
		return r
	}
	return &remembering{Reader: r, log: a.log, expr: expr, start: start, from: time.Now().Add(-reach).UnixMicro(),
		search: segmentstore.New(a.events, segmentstore.Options{CacheBytes: 8 << 20, Distinct: true})}
}

// Next implements detect.Reader.
func (r *remembering) Next(ctx context.Context) ([]audit.Record, error) {
	if !r.asked {
		r.asked, r.until = true, time.Now().Add(rememberFor)
		r.plan(ctx)
	}
	for len(r.days) > 0 && ctx.Err() == nil && time.Now().Before(r.until) {
		d := r.days[0]
		r.days = r.days[1:]
		if recs := r.day(ctx, d); len(recs) > 0 {
			return recs, nil
		}
	}
	r.days = nil
	return r.Reader.Next(ctx)
}

// plan finds out in which days there are such events.
func (r *remembering) plan(ctx context.Context) {
	limited, cancel := context.WithDeadline(ctx, r.until)
	defer cancel()
	days, _, err := r.search.Histogram(limited, store.Query{Expr: r.expr, From: r.from}, day)
	if err != nil {
		r.failed(ctx, err)
		return
	}
	left := int64(rememberMost)
	for i, d := range slices.Backward(days) {
		if left -= d.Count; left < 0 {
			days = days[i+1:]
			break
		}
	}
	r.days = days
}

var errEnough = errors.New("enough")

// day gives one day's events, oldest first.
func (r *remembering) day(ctx context.Context, b store.Bucket) []audit.Record {
	from, err := strconv.ParseInt(b.Value, 10, 64)
	if err != nil {
		r.failed(ctx, err)
		return nil
	}
	limited, cancel := context.WithDeadline(ctx, r.until)
	defer cancel()
	var out []audit.Record
	bytes := 0
	_, err = r.search.Search(limited, store.Query{Expr: r.expr, From: max(from, r.from), To: from + day}, func(rec *audit.Record) error {
		if rec.Seq >= r.start {
			return nil // it is read with all others
		}
		if bytes += len(rec.Event.Raw); bytes > rememberBytes {
			return errEnough
		}
		out = append(out, *rec)
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		r.failed(ctx, err)
	}
	slices.Reverse(out)
	return out
}

func (r *remembering) failed(ctx context.Context, err error) {
	r.days = nil
	if ctx.Err() == nil {
		r.log.Warn("first_seen rules know less than they did before the restart", "error", err)
	}
}
