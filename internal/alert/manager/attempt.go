package manager

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	amalert "github.com/prometheus/alertmanager/alert"
	"github.com/prometheus/alertmanager/notify"

	"whodunit/internal/alert"
)

const (
	// atOnce bounds the attempts of one integration that are under way: some integrations hang whatever their context says.
	atOnce = 32
	// grace is what an attempt has, once its time is up, to say itself what went wrong.
	grace    = time.Second
	maxError = 1000 // bytes of a receiver's answer that are kept
)

// attempt stands around an integration: one call of it is one attempt with its own time limit, on harmless text, and what comes of it
// is recorded and shows no secret. It is safe for concurrent use.
type attempt struct {
	inner   notify.Notifier
	key     receiverKey
	timeout time.Duration
	escape  func(string) string // nil: nothing to escape
	book    *book
	slots   chan struct{}
	running *sync.WaitGroup // calls that have not come back

	mu        sync.Mutex
	notBefore time.Time // the receiver has asked for a pause
}

// Notify implements notify.Notifier. The stage that calls it tries again, with growing pauses, while the result is true.
func (a *attempt) Notify(ctx context.Context, alerts ...*amalert.Alert) (bool, error) {
	a.book.owe(a.key, alerts)
	if err := a.pause(ctx); err != nil {
		return true, err
	}
	retry, err := a.once(ctx, alerts...)
	if err == nil || !retry {
		a.book.settle(a.key, alerts)
	}
	if err == nil && a.book.told != nil {
		for _, x := range alerts {
			if !x.Resolved() {
				a.book.told(plain(x.Labels))
			}
		}
	}
	return retry, err
}

// pause waits until the receiver wants to be called again, or ctx ends.
func (a *attempt) pause(ctx context.Context) error {
	a.mu.Lock()
	d := time.Until(a.notBefore)
	a.mu.Unlock()
	if d <= 0 {
		return nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%s/%s[%d] has asked for a pause: %w", a.key.receiver, a.key.kind, a.key.index, ctx.Err())
	}
}

// once is one attempt.
func (a *attempt) once(ctx context.Context, alerts ...*amalert.Alert) (bool, error) {
	if a.escape != nil {
		ctx, alerts = escaped(ctx, a.escape, alerts)
	}
	limited, cancel := context.WithTimeoutCause(ctx, a.timeout, fmt.Errorf("no answer within %s", a.timeout))
	defer cancel()
	retry, err := a.call(limited, alerts)
	if err == nil {
		a.book.record(a.key, false, nil)
		return false, nil
	}
	if errors.Is(ctx.Err(), context.Canceled) {
		return true, a.clean(err) // by a reload or the end: that says nothing about the receiver
	}
	var why *notify.ErrorWithReason
	limit := errors.As(err, &why) && why.Reason == notify.RateLimitedReason || strings.Contains(err.Error(), "status code 429")
	retry = retry || limit || limited.Err() != nil
	if d := alert.Pause(err); d > 0 {
		a.mu.Lock()
		a.notBefore = time.Now().Add(d)
		a.mu.Unlock()
	}
	err = a.clean(err)
	a.book.record(a.key, retry, err)
	return retry, err
}

// call calls the integration and waits for it, but not for one that does not end with its context.
func (a *attempt) call(ctx context.Context, alerts []*amalert.Alert) (bool, error) {
	select {
	case a.slots <- struct{}{}:
	case <-ctx.Done():
		return true, fmt.Errorf("%d earlier attempts have not come back: %w", atOnce, context.Cause(ctx))
	}
	type result struct {
		retry bool
		err   error
	}
	done := make(chan result, 1)
	a.running.Go(func() {
		defer func() { <-a.slots }()
		retry, err := a.inner.Notify(ctx, alerts...)
		done <- result{retry, err}
	})
	select {
	case r := <-done:
		return r.retry, r.err
	case <-ctx.Done():
	}
	t := time.NewTimer(grace)
	defer t.Stop()
	select {
	case r := <-done:
		return r.retry, r.err
	case <-t.C:
		return true, context.Cause(ctx)
	}
}

// clean is err without secrets and of bounded length. Of its chain only the reason is left: the rest shows what the text hides.
func (a *attempt) clean(err error) error {
	a.book.redact.refresh()
	text := a.book.redact.text(err.Error())
	if len(text) > maxError {
		text = strings.ToValidUTF8(text[:maxError], "") + "…"
	}
	var why *notify.ErrorWithReason
	if errors.As(err, &why) {
		return notify.NewErrorWithReason(why.Reason, errors.New(text))
	}
	return errors.New(text)
}

// Own is a receiver of our own kind that belongs to a receiver of the configuration.
type Own struct {
	Kind string // as in ReceiverStatus; a metric label
	alert.Receiver
	SendResolved bool
}

// ownNotifier makes a Notifier of a receiver of our own.
type ownNotifier struct {
	alert.Receiver
	name string // of the receiver in the configuration
}

// Notify implements notify.Notifier.
func (o ownNotifier) Notify(ctx context.Context, alerts ...*amalert.Alert) (bool, error) {
	key, _ := notify.GroupKey(ctx)
	labels, _ := notify.GroupLabels(ctx)
	g := alert.Group{Key: key, Receiver: o.name, Labels: plain(labels), Alerts: make([]alert.Alert, len(alerts))}
	for i, a := range alerts {
		g.Alerts[i] = alert.Alert{Labels: plain(a.Labels), Annotations: plain(a.Annotations), StartsAt: a.StartsAt, EndsAt: a.EndsAt,
			Link: a.GeneratorURL}
	}
	err := o.Receiver.Notify(ctx, g)
	return !errors.Is(err, alert.ErrRejected), err
}

// sendResolved implements notify.ResolvedSender.
type sendResolved bool

// SendResolved implements notify.ResolvedSender.
func (s sendResolved) SendResolved() bool { return bool(s) }
