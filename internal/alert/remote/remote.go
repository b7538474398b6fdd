// Package remote hands alerts to Alertmanagers that run elsewhere: one, or the instances of a cluster. Each gets every alert, as from
// Prometheus; they agree among themselves who notifies. Nothing is kept here: whoever puts alerts puts all that are open once a minute
// (package incident does), and so an instance that was down or started anew learns of them.
package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"whodunit/internal/alert"
	"whodunit/internal/alert/post"
)

const (
	path = "api/v2/alerts"
	// linger is how long Put waits for the other instances once one has taken the alerts. Who takes longer goes on in the background.
	linger = time.Second
)

// Options are what a Remote needs. At least one instance is wanted.
type Options struct {
	Instances  []post.Config         // URL: where the instance's own pages are, with the path prefix it may have
	Now        func() time.Time      // nil: time.Now
	Logger     *slog.Logger          // nil: silent
	Registerer prometheus.Registerer // nil: unregistered
}

// Remote puts alerts to the instances. It is safe for concurrent use.
type Remote struct {
	instances []*instance
	linger    time.Duration
	now       func() time.Time
	ctx       context.Context // of requests that outlive their Put
	cancel    context.CancelFunc
	requests  sync.WaitGroup
}

// New checks the options. Close ends what runs.
func New(o Options) (*Remote, error) {
	if len(o.Instances) == 0 {
		return nil, errors.New("cannot make client of Alertmanager: an instance is wanted")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	alerts := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "whodunit_alertmanager_alerts_total",
		Help: "Alerts sent to an external Alertmanager, each as often as it is sent: taken, rejected for good, failed, or skipped while the instance is busy or asked for a pause."},
		[]string{"host", "result"})
	r := &Remote{linger: linger, now: o.Now}
	for i, c := range o.Instances {
		client, err := post.New(c)
		if err != nil {
			return nil, fmt.Errorf("cannot make client of Alertmanager %d: %w", i+1, err)
		}
		r.instances = append(r.instances, &instance{client: client, now: o.Now, alerts: alerts, status: Status{Host: client.Host()},
			log: o.Logger.With("component", "alertmanager", "host", client.Host())})
	}
	if o.Registerer != nil {
		if err := o.Registerer.Register(alerts); err != nil {
			return nil, fmt.Errorf("cannot make client of Alertmanager: %w", err)
		}
	}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	return r, nil
}

// Close ends requests that still run, and waits for them. No Put may run or follow.
func (r *Remote) Close() {
	r.cancel()
	r.requests.Wait()
	for _, in := range r.instances {
		in.client.Close()
	}
}

// Status tells how each instance does, in the order of the options.
func (r *Remote) Status() []Status {
	out := make([]Status, len(r.instances))
	for i, in := range r.instances {
		in.mu.Lock()
		out[i] = in.status
		in.mu.Unlock()
	}
	return out
}

// Put implements alert.Taker: it succeeds when one instance took the alerts, those left out that it refused for what they are. One that
// is still busy with earlier alerts is passed over, so that a slow one holds up no other. The error wraps alert.ErrRejected when all
// instances refuse all the alerts for good.
func (r *Remote) Put(ctx context.Context, alerts []alert.Alert) error {
	if len(alerts) == 0 {
		return nil
	}
	items := make([][]byte, len(alerts))
	for i := range alerts {
		var err error
		if items[i], err = encode(&alerts[i]); err != nil {
			return fmt.Errorf("%w: %w", alert.ErrRejected, err)
		}
	}
	results := make(chan error, len(r.instances))
	for _, in := range r.instances {
		if err := in.claim(); err != nil {
			in.count("skipped", len(items))
			results <- err
			continue
		}
		r.requests.Go(func() { results <- in.send(r.ctx, items) })
	}
	return r.wait(ctx, results)
}

// wait collects what the instances say until one took the alerts and the others had their time.
func (r *Remote) wait(ctx context.Context, results <-chan error) error {
	timer := time.NewTimer(r.linger)
	defer timer.Stop()
	var enough <-chan time.Time // once one took them
	var failed []error
	for range r.instances {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-enough:
			return nil
		case err := <-results:
			if err != nil {
				failed = append(failed, err)
			} else if enough == nil {
				timer.Reset(r.linger)
				enough = timer.C
			}
		}
	}
	if enough != nil {
		return nil
	}
	return together(failed)
}

// together is why no instance took the alerts. It is for good only if all of them say so, and asks for the shortest of the pauses.
func together(failed []error) error {
	var again []string
	pause := time.Duration(-1)
	for _, err := range failed {
		if errors.Is(err, alert.ErrRejected) {
			continue
		}
		again = append(again, err.Error())
		if p := alert.Pause(err); pause < 0 || p < pause {
			pause = p
		}
	}
	if len(again) == 0 {
		return errors.Join(failed...)
	}
	return alert.RetryAfter(fmt.Errorf("no Alertmanager takes alerts: %s", strings.Join(again, "; ")), pause)
}

// encode is an alert as Alertmanager's API takes it.
func encode(a *alert.Alert) ([]byte, error) {
	return json.Marshal(struct {
		Labels       map[string]string `json:"labels"`
		Annotations  map[string]string `json:"annotations,omitempty"`
		StartsAt     time.Time         `json:"startsAt,omitzero"`
		EndsAt       time.Time         `json:"endsAt,omitzero"`
		GeneratorURL string            `json:"generatorURL,omitempty"`
	}{a.Labels, a.Annotations, a.StartsAt, a.EndsAt, a.Link})
}
