package manager

import (
	"context"
	"fmt"
	"sync"
	"time"

	amalert "github.com/prometheus/alertmanager/alert"
	"github.com/prometheus/alertmanager/dispatch"
	"github.com/prometheus/alertmanager/nflog"
	"github.com/prometheus/alertmanager/notify"
	"github.com/prometheus/common/model"
)

// SampleLabel marks the alert that Try sends, with the value SampleMark, which people see in the message of every kind.
const (
	SampleLabel = "sample"
	SampleMark  = "SAMPLE, not a real alert"
)

// Delivery is what came of a sample alert at one integration of a route that matches it.
type Delivery struct {
	Route     string   // the route's matchers, from the top
	Receiver  string   // of the route
	Kind      string   // of the integration, as in ReceiverStatus; "": the receiver has none, so alerts end there
	Index     int      // as in ReceiverStatus
	Silenced  bool     // an alert would not be told: there is a silence
	Inhibited bool     // an alert would not be told: another alert inhibits it
	MutedBy   []string // an alert would not be told now: by these time intervals, or outside of these
	OK        bool
	Error     string // if it is not OK, without secrets
	Duration  time.Duration
}

// Try sends one sample alert with these labels along the routes that match, and calls each integration of their receivers once, also if
// an alert would be kept back; what would do so is told. It is told apart from a real alert by its label and its annotations, and is not
// in the notification log.
func (m *Manager) Try(ctx context.Context, labels, annotations map[string]string) ([]Delivery, error) {
	gen, err := m.enter()
	if err != nil {
		return nil, err
	}
	defer gen.gate.leave()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(gen.conns.ctx, cancel)()
	now := time.Now()
	set := labelSet(labels)
	silenced := m.Silenced(labels)
	inhibited := gen.inhibitor.Mutes(ctx, set)

	marked := &amalert.Alert{UpdatedAt: now, Alert: model.Alert{Labels: set.Clone(), Annotations: mark(annotations), StartsAt: now}}
	marked.Labels[SampleLabel] = SampleMark
	if err := marked.Validate(); err != nil {
		return nil, fmt.Errorf("cannot try alert: %w", err)
	}
	var out []Delivery
	var calls sync.WaitGroup
	type job struct {
		a   *attempt
		ctx context.Context //nolint:containedctx // what the integration gets
	}
	var jobs []job
	for _, r := range gen.routes.Match(set) {
		d := Delivery{Route: r.Key(), Receiver: r.RouteOpts.Receiver, Silenced: silenced, Inhibited: inhibited, MutedBy: gen.muted(r, now)}
		rctx := sampleContext(ctx, gen, r, marked, now)
		for _, a := range gen.attempts[d.Receiver] {
			d.Kind, d.Index = a.key.kind, a.key.index
			out, jobs = append(out, d), append(jobs, job{a, rctx})
		}
		if len(gen.attempts[d.Receiver]) == 0 {
			d.Error = "the receiver has nothing to send to"
			out, jobs = append(out, d), append(jobs, job{})
		}
	}
	for i, j := range jobs {
		if j.a == nil {
			continue
		}
		calls.Go(func() {
			start := time.Now()
			_, err := j.a.once(j.ctx, marked)
			out[i].Duration, out[i].OK = time.Since(start), err == nil
			if err != nil {
				out[i].Error = err.Error()
			}
		})
	}
	calls.Wait()
	return out, nil
}

// enter keeps the generation in use from being closed until its gate is left.
func (m *Manager) enter() (*generation, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if gen := m.gen.Load(); !m.stopped && gen.gate.enter() {
		return gen, nil
	}
	return nil, errStopped
}

// muted are the time intervals that keep alerts of a route back.
func (g *generation) muted(r *dispatch.Route, now time.Time) []string {
	if muted, by, err := g.times.Mutes(r.RouteOpts.MuteTimeIntervals, now); err == nil && muted {
		return by
	}
	if active := r.RouteOpts.ActiveTimeIntervals; len(active) > 0 {
		if in, _, err := g.times.Mutes(active, now); err == nil && !in {
			return active
		}
	}
	return nil
}

func mark(annotations map[string]string) model.LabelSet {
	out := labelSet(annotations)
	for _, k := range []model.LabelName{"title", "summary", "message", "description"} {
		if v, ok := out[k]; ok {
			out[k] = "[" + SampleMark + "] " + v
		}
	}
	out[SampleLabel] = SampleMark
	return out
}

// sampleContext is what the dispatcher and the stages before an integration put into its context.
func sampleContext(ctx context.Context, g *generation, r *dispatch.Route, a *amalert.Alert, now time.Time) context.Context {
	group := model.LabelSet{}
	for k, v := range a.Labels {
		if _, ok := r.RouteOpts.GroupBy[k]; ok || r.RouteOpts.GroupByAll {
			group[k] = v
		}
	}
	rendered := model.LabelSet{}
	if len(r.RouteOpts.Labels) > 0 {
		render := g.tmpl.RouteLabelRenderer(g.tmpl.Data(r.RouteOpts.Receiver, group, r.RouteOpts.Labels, notify.ReasonUnknown.String(), a))
		for k := range r.RouteOpts.Labels {
			if v, err := render(string(k)); err == nil {
				rendered[k] = model.LabelValue(v)
			}
		}
	}
	ctx = notify.WithReceiverName(ctx, r.RouteOpts.Receiver)
	ctx = notify.WithGroupKey(ctx, "sample:"+r.Key()+":"+group.String())
	ctx = notify.WithGroupLabels(ctx, group)
	ctx = notify.WithRouteLabels(ctx, rendered)
	ctx = notify.WithRepeatInterval(ctx, r.RouteOpts.RepeatInterval)
	ctx = notify.WithNow(ctx, now)
	ctx = notify.WithRouteID(ctx, r.ID())
	ctx = notify.WithNotificationReason(ctx, notify.ReasonFirstNotification)
	ctx = notify.WithFiringAlerts(ctx, []uint64{uint64(a.Fingerprint())})
	ctx = notify.WithResolvedAlerts(ctx, nil)
	return notify.WithNflogStore(ctx, nflog.NewStore(nil))
}
