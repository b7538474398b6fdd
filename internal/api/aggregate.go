package api

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"whodunit/internal/store"
	"whodunit/internal/store/wire"
)

// maxBuckets bounds a histogram's answer. Empty intervals are left out, so a long range with short ones may be fine.
const maxBuckets = 1_000_000

// aggregate is what top, histogram, count and get have in common: one answer, when all of it is known.
func (a *API) aggregate(c *call, q store.Query, do func(context.Context) (store.Stats, error)) error {
	release, err := a.slot(c.r.Context())
	if err != nil {
		return err
	}
	defer release()
	ctx, cancel := context.WithTimeout(c.r.Context(), a.o.QueryTimeout)
	defer cancel()
	st, err := do(ctx)
	a.record(c, q, st, err)
	return err
}

func (a *API) top(c *call, set Set) error {
	q, err := a.selection(c)
	if err != nil {
		return err
	}
	var fields []string
	for _, f := range c.values["field"] {
		if f != "" {
			fields = append(fields, a.o.Language.Path(f))
		}
	}
	if len(fields) == 0 || len(fields) > 8 {
		return bad("one to eight fields are wanted", "add field=user, or field=user&field=verb")
	}
	n, err := c.number("n", 10, 0, 1<<31-1)
	if err != nil {
		return err
	}
	var out wire.Buckets
	err = a.aggregate(c, q, func(ctx context.Context) (st store.Stats, err error) {
		out.Buckets, out.Stats, err = set.Search.Top(ctx, q, fields, n)
		return out.Stats, err
	})
	if err != nil {
		return err
	}
	return c.reply(200, nonNil(out))
}

func nonNil(b wire.Buckets) wire.Buckets {
	if b.Buckets == nil {
		b.Buckets = []store.Bucket{}
	}
	return b
}

func (a *API) histogram(c *call, set Set) error {
	q, err := a.selection(c)
	if err != nil {
		return err
	}
	width, err := a.interval(c.values.Get("interval"), q)
	if err != nil {
		return err
	}
	out := wire.Buckets{Interval: width}
	err = a.aggregate(c, q, func(ctx context.Context) (st store.Stats, err error) {
		out.Buckets, out.Stats, err = set.Search.Histogram(ctx, q, width)
		return out.Stats, err
	})
	if err != nil {
		return err
	}
	if len(out.Buckets) > maxBuckets {
		return bad(fmt.Sprintf("the histogram has %d intervals, more than %d", len(out.Buckets), maxBuckets), "make interval longer, or narrow the time range")
	}
	return c.reply(200, nonNil(out))
}

// interval is the width in microseconds: as given, such as 30s, 5m, 1d, or such that the range has 30 to 120 of them.
func (a *API) interval(s string, q store.Query) (int64, error) {
	now := a.o.Now()
	if s != "" {
		width := width(s, a.o.Language.Time, now)
		if width <= 0 {
			return 0, bad("cannot read the parameter interval", "write 30s, 5m, 1h or 1d")
		}
		return width, nil
	}
	if q.From == 0 {
		return time.Hour.Microseconds(), nil
	}
	to := q.To
	if to == 0 {
		to = now.UnixMicro()
	}
	steps := []time.Duration{time.Second, 5 * time.Second, 15 * time.Second, 30 * time.Second, time.Minute, 5 * time.Minute, 15 * time.Minute,
		30 * time.Minute, time.Hour, 3 * time.Hour, 6 * time.Hour, 12 * time.Hour, 24 * time.Hour}
	for _, d := range steps {
		if (to-q.From)/d.Microseconds() <= 120 {
			return d.Microseconds(), nil
		}
	}
	days := (to-q.From)/(120*24*time.Hour.Microseconds()) + 1
	return days * 24 * time.Hour.Microseconds(), nil
}

// width reads 30s, 5m, 1d as the language of times does, and 1500us; 0 where it is neither.
func width(s string, parse func(string, time.Time) (time.Time, error), now time.Time) int64 {
	if us, ok := strings.CutSuffix(s, "us"); ok {
		n, err := strconv.ParseInt(us, 10, 64)
		if err != nil {
			return 0
		}
		return n
	}
	if s[0] < '0' || s[0] > '9' || strings.ContainsAny(s, "TZ:-") {
		return 0 // a moment, not a span
	}
	at, err := parse("now-"+s, now)
	if err != nil {
		return 0
	}
	return now.UTC().Sub(at).Microseconds()
}

// century is wide enough to count everything in few intervals.
const century = int64(100 * 366 * 24 * time.Hour / time.Microsecond)

func (a *API) count(c *call, set Set) error {
	q, err := a.selection(c)
	if err != nil {
		return err
	}
	var out wire.Count
	err = a.aggregate(c, q, func(ctx context.Context) (store.Stats, error) {
		b, st, err := set.Search.Histogram(ctx, q, century)
		for _, x := range b {
			out.Count += x.Count
		}
		out.Stats = st
		return st, err
	})
	if err != nil {
		return err
	}
	return c.reply(200, out)
}
