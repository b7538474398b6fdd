package remote

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"whodunit/internal/alert"
	"whodunit/internal/alert/post"
)

// Bounds of one request.
const (
	maxAlerts = 64
	maxBytes  = 1 << 20
)

// Status is how one instance does. It shows no secret.
type Status struct {
	Host      string    `json:"host"`
	Taken     time.Time `json:"taken,omitzero"`      // when it last took alerts
	Failed    time.Time `json:"failed,omitzero"`     // when it last did not, or refused one
	LastError string    `json:"lastError,omitempty"` // of that time
}

// instance is one Alertmanager. One goroutine at a time sends to it.
type instance struct {
	client *post.Client
	now    func() time.Time
	log    *slog.Logger
	alerts *prometheus.CounterVec

	mu     sync.Mutex
	busy   bool
	down   bool
	until  time.Time // it wants to be left alone
	status Status
}

func (in *instance) count(result string, n int) {
	in.alerts.WithLabelValues(in.client.Host(), result).Add(float64(n))
}

// claim makes the caller the one that sends. The error says why that cannot be now.
func (in *instance) claim() error {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.busy {
		return fmt.Errorf("%s is busy", in.client.Host())
	}
	if left := in.until.Sub(in.now()); left > 0 {
		return alert.RetryAfter(fmt.Errorf("%s asked for a pause", in.client.Host()), left)
	}
	in.busy = true
	return nil
}

// tally is what became of the items of one send.
type tally struct {
	taken, refused int
	why            error // of the last that was refused for what it is
}

// send posts all items, and gives up what it claimed. Refused items are left out; it is an error that wraps alert.ErrRejected if all are.
func (in *instance) send(ctx context.Context, items [][]byte) error {
	var t tally
	var err error
	for rest := items; len(rest) > 0 && err == nil; {
		n, size := 0, 0
		for n < len(rest) && n < maxAlerts && (n == 0 || size+len(rest[n]) < maxBytes) {
			size += len(rest[n]) + 1
			n++
		}
		err = in.post(ctx, rest[:n], &t)
		rest = rest[n:]
	}
	in.count("taken", t.taken)
	in.count("rejected", t.refused)
	in.count("failed", len(items)-t.taken-t.refused)
	if err == nil && t.taken == 0 {
		err = t.why
	}
	in.release(t, err)
	return err
}

// post sends items in one request; if they are refused for what they are, each in a request of its own.
func (in *instance) post(ctx context.Context, items [][]byte, t *tally) error {
	body := append(append([]byte("["), bytes.Join(items, []byte(","))...), ']')
	_, err := in.client.Do(ctx, post.Request{Path: path, Body: body})
	switch {
	case err == nil:
		t.taken += len(items)
		return nil
	case !errors.Is(err, alert.ErrRejected):
		return err
	case len(items) == 1:
		t.refused, t.why = t.refused+1, err
		return nil
	}
	for i := range items {
		if err := in.post(ctx, items[i:i+1], t); err != nil {
			return err
		}
	}
	return nil
}

// release notes how it went; err is why the items are not taken.
func (in *instance) release(t tally, err error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	now := in.now()
	in.busy = false
	if t.taken > 0 {
		in.status.Taken = now
	}
	if why := cmp.Or(err, t.why); why != nil {
		in.status.Failed, in.status.LastError = now, why.Error()
	}
	in.until = now.Add(alert.Pause(err))
	switch down := err != nil; { // a line when it changes, not for each try
	case down && !in.down:
		in.log.Warn("Alertmanager takes no alerts", "error", err)
		in.down = true
	case !down && in.down:
		in.log.Info("Alertmanager takes alerts again")
		in.down = false
	}
}
