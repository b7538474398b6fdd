package incident

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	"whodunit/internal/alert"
)

const (
	// refresh is how often an alert is put though nothing changed, so that a taker that was away or started anew learns of it.
	refresh = time.Minute
	// tellOver is for how long an ended alert is put: as long as Prometheus tells of its own.
	tellOver = 15 * time.Minute
	// maxPut is how many alerts are put at once.
	maxPut     = 500
	putTimeout = 30 * time.Second
	firstPause = time.Second
	lastPause  = time.Minute
)

// Run hands alerts to the taker: new and ended ones at once, others when their end moves and every minute. It tries again until they
// are taken, ends what is quiet, and writes the state. It returns nil when ctx ends.
func (t *Tracker) Run(ctx context.Context) error {
	timer := time.NewTimer(tick)
	defer timer.Stop()
	var pause time.Duration
	var retryAt time.Time
	for ctx.Err() == nil {
		more := false
		if now := t.o.Now(); !now.Before(retryAt) {
			var err error
			switch more, err = t.put(ctx); {
			case err == nil:
				pause = 0
			case ctx.Err() == nil:
				pause = min(max(2*pause, firstPause), lastPause)
				wait := max(pause, alert.Pause(err))
				retryAt = now.Add(wait)
				t.m.retries.Inc()
				t.o.Logger.Warn("alerts wait for their taker", "pause", wait, "error", err)
			}
		}
		_ = t.persist(false) // it is tried again, counted and logged
		if more {
			continue
		}
		timer.Reset(tick)
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-t.wake:
		}
	}
	return nil
}

// due reports whether e is to be put.
func (e *entry) due(now time.Time, step time.Duration) bool {
	since := now.Sub(e.putAt)
	return e.fresh || since >= step && !e.Ends.Equal(e.putEnds) || since >= refresh
}

// put ends what is over and hands over what is due, a part of it at a time; more says that there may be another.
func (t *Tracker) put(ctx context.Context) (more bool, err error) {
	t.mu.Lock()
	now := t.o.Now().UTC()
	t.sweep(now)
	var entries []*entry
	var records []record
	for _, of := range []map[string]*entry{t.active, t.over} {
		for _, e := range of {
			if len(entries) < maxPut && e.due(now, t.step) {
				entries, records = append(entries, e), append(records, e.record)
			}
		}
	}
	t.mu.Unlock()
	if len(entries) == 0 {
		return false, nil
	}
	alerts := make([]alert.Alert, len(records))
	for i := range records {
		alerts[i] = t.alert(&records[i])
	}
	ctx, cancel := context.WithTimeout(ctx, putTimeout)
	defer cancel()
	if err := t.hand(ctx, alerts); err != nil {
		return false, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, e := range entries {
		e.putAt, e.putEnds = now, records[i].Ends
		e.fresh = e.Over != records[i].Over // it ended meanwhile
	}
	return len(entries) == maxPut, nil
}

// hand puts alerts. If they are refused for good, each is tried alone, so that one bad one costs no other.
func (t *Tracker) hand(ctx context.Context, alerts []alert.Alert) error {
	err := t.o.Taker.Put(ctx, alerts)
	switch {
	case !errors.Is(err, alert.ErrRejected):
		return err
	case len(alerts) == 1:
		t.m.dropped.WithLabelValues("rejected").Inc()
		t.o.Logger.Warn("alert refused", "rule", alerts[0].Labels["rule"], "error", err)
		return nil
	}
	for i := range alerts {
		if err := t.hand(ctx, alerts[i:i+1]); err != nil {
			return err
		}
	}
	return nil
}

// alert is r as takers and people get it. Its maps are nobody else's.
func (t *Tracker) alert(r *record) alert.Alert {
	a := alert.Alert{Labels: maps.Clone(r.Labels), StartsAt: r.Starts, EndsAt: r.Ends, Annotations: map[string]string{}}
	if a.EndsAt.Before(a.StartsAt) {
		a.EndsAt = a.StartsAt // the clock was set back
	}
	note := func(name, value string) {
		if value != "" && a.Labels[name] == "" {
			a.Annotations[name] = value
		}
	}
	note("summary", r.Summary)
	note("command", r.Command)
	note("user", r.User)
	note("namespace", r.Namespace)
	note("resource", r.Resource)
	note("source_ip", r.SourceIP)
	note("count", strconv.FormatUint(r.Count, 10))
	note("first_event", r.FirstEvent)
	note("last_event", r.LastEvent)
	note("first_time", r.First.UTC().Format(time.RFC3339))
	note("last_time", r.Last.UTC().Format(time.RFC3339))
	if r.isOverflow() {
		a.Annotations[overflowLabel] = fmt.Sprintf("%d findings of this rule came while too many alerts were open; each of them would have been in another alert", r.Count)
	}
	if t.o.Rule != nil {
		if info, ok := t.o.Rule(r.Labels["rule"]); ok {
			note("description", clean(strings.TrimSpace(info.Description), maxLong))
			note("runbook", clean(cmp.Or(info.Runbook, firstLink(info.References)), maxLong))
		}
	}
	if t.o.Link != nil {
		a.Link = clean(t.o.Link(&a), maxLong)
		note("link", a.Link)
	}
	return a
}

func firstLink(references []string) string {
	for _, r := range references {
		if strings.HasPrefix(r, "https://") || strings.HasPrefix(r, "http://") {
			return r
		}
	}
	return ""
}
