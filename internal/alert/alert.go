package alert

import (
	"context"
	"errors"
	"time"
)

// Alert is one incident: findings of one rule that belong together. Its labels are its identity. All text in it is valid UTF-8
// without control characters, and hostile like every field of an event.
type Alert struct {
	Labels      map[string]string // names match [a-zA-Z_][a-zA-Z0-9_]*; no value is empty; alertname is always there
	Annotations map[string]string
	StartsAt    time.Time
	EndsAt      time.Time // it is over then, unless it is put again with a later time
	Link        string    // where people see its findings; "" if the server's address is not known
}

// Resolved reports whether the alert is over at the time now.
func (a *Alert) Resolved(now time.Time) bool { return !a.EndsAt.IsZero() && !a.EndsAt.After(now) }

// Taker takes alerts: new ones, and known ones whose annotations or end changed. It is safe for concurrent use. An error means that none
// or only some were taken, and that they are to be put again.
type Taker interface {
	Put(ctx context.Context, alerts []Alert) error
}

// Group is what one notification is about: alerts that a route puts together.
type Group struct {
	Key      string // of the group and its route; the same after a restart
	Receiver string
	Labels   map[string]string // that the alerts have in common because the route groups by them
	Alerts   []Alert
}

// Receiver tells somebody about groups of alerts. It is called by several goroutines. Its errors are those of a Notifier.
type Receiver interface {
	Notify(ctx context.Context, g Group) error
	Close()
}

// RetryAfter makes err one that says when to come back; a pause of 0 or less leaves it as it is.
func RetryAfter(err error, pause time.Duration) error {
	if pause <= 0 {
		return err
	}
	return &retryAfter{err, pause}
}

// Pause is how long the receiver that failed with err wants to be left alone, at most ten minutes: it may slow us down, not switch us
// off. 0: it does not say.
func Pause(err error) time.Duration {
	var asked *retryAfter
	if !errors.As(err, &asked) {
		return 0
	}
	return min(asked.pause, longestAsked)
}
