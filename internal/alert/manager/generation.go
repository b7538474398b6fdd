package manager

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"sync"
	"time"

	amalert "github.com/prometheus/alertmanager/alert"
	"github.com/prometheus/alertmanager/config"
	"github.com/prometheus/alertmanager/config/receiver"
	"github.com/prometheus/alertmanager/dispatch"
	"github.com/prometheus/alertmanager/eventrecorder"
	"github.com/prometheus/alertmanager/inhibit"
	"github.com/prometheus/alertmanager/notify"
	"github.com/prometheus/alertmanager/timeinterval"
	commoncfg "github.com/prometheus/common/config"
	"github.com/prometheus/common/model"
)

var discard = slog.New(slog.DiscardHandler)

// generation is all that belongs to one configuration.
type generation struct {
	*loaded
	routes       *dispatch.Route
	integrations map[string][]notify.Integration
	attempts     map[string][]*attempt // of the same receivers, in the same order
	times        *timeinterval.Intervener
	inhibitor    *inhibit.Inhibitor
	dispatcher   *dispatch.Dispatcher
	own          []Own
	conns        *conns
	logger       *slog.Logger

	gate    gate
	running sync.WaitGroup // the inhibitor and the dispatcher
	calls   sync.WaitGroup // of integrations
}

type buildOptions struct {
	own     func(string) []Own
	timeout time.Duration
	logger  *slog.Logger
	book    *book
}

// build makes the receivers of a configuration. It starts nothing, so an error leaves nothing behind.
func build(l *loaded, o buildOptions) (_ *generation, err error) {
	g := &generation{loaded: l, integrations: map[string][]notify.Integration{}, attempts: map[string][]*attempt{}, conns: newConns(o.timeout),
		logger: o.logger, routes: dispatch.NewRoute(l.conf.Route, nil)}
	defer func() {
		if err != nil {
			g.closeReceivers()
		}
	}()
	used := map[string]bool{}
	g.routes.Walk(func(r *dispatch.Route) { used[r.RouteOpts.Receiver] = true })
	for _, rc := range l.conf.Receivers {
		if !used[rc.Name] {
			o.logger.Info("receiver is not used by any route", "receiver", rc.Name)
			continue
		}
		if err := g.receiver(rc, o); err != nil {
			return nil, fmt.Errorf("receiver %q: %w", rc.Name, err)
		}
	}
	times := map[string][]timeinterval.TimeInterval{}
	for _, t := range l.conf.MuteTimeIntervals {
		times[t.Name] = t.TimeIntervals
	}
	for _, t := range l.conf.TimeIntervals {
		times[t.Name] = t.TimeIntervals
	}
	g.times = timeinterval.NewIntervener(times)
	return g, nil
}

func (g *generation) receiver(rc config.Receiver, o buildOptions) error {
	inner, err := receiver.BuildReceiverIntegrations(rc, g.tmpl, o.logger, commoncfg.WithDialContextFunc(g.conns.dial))
	if err != nil {
		return err
	}
	g.integrations[rc.Name] = []notify.Integration{} // also if it has none: alerts may be routed into nothing
	add := func(n notify.Notifier, rs notify.ResolvedSender, kind string, index int, escape func(string) string) {
		a := &attempt{inner: n, key: receiverKey{rc.Name, kind, index}, timeout: o.timeout, escape: escape, book: o.book,
			slots: make(chan struct{}, atOnce), running: &g.calls}
		g.attempts[rc.Name] = append(g.attempts[rc.Name], a)
		g.integrations[rc.Name] = append(g.integrations[rc.Name], notify.NewIntegration(a, rs, kind, index, rc.Name))
	}
	kinds := map[string]int{}
	for i := range inner {
		n := &inner[i]
		mode := ""
		if n.Name() == "telegram" {
			mode = rc.TelegramConfigs[n.Index()].ParseMode
		}
		add(n, n, n.Name(), n.Index(), escaper(n.Name(), mode))
		kinds[n.Name()]++
	}
	if o.own == nil {
		return nil
	}
	for _, own := range o.own(rc.Name) {
		g.own = append(g.own, own)
		add(ownNotifier{own.Receiver, rc.Name}, sendResolved(own.SendResolved), own.Kind, kinds[own.Kind], nil)
		kinds[own.Kind]++
	}
	return nil
}

func (g *generation) keys() []receiverKey {
	var keys []receiverKey
	for _, as := range g.attempts {
		for _, a := range as {
			keys = append(keys, a.key)
		}
	}
	return keys
}

// start starts to dispatch what the manager has.
func (g *generation) start(m *Manager) {
	g.inhibitor = inhibit.NewInhibitor(m.alerts, g.conf.InhibitRules, m.logger, eventrecorder.Recorder{})
	pipeline := m.pipelines.New(g.integrations, func() time.Duration { return 0 }, g.inhibitor, m.silencer, g.times, m.groupMarker,
		m.nflog, nil)
	stage := notify.StageFunc(func(ctx context.Context, l *slog.Logger, alerts ...*amalert.Alert) (context.Context, []*amalert.Alert, error) {
		if !g.gate.enter() {
			<-ctx.Done() // soon: this generation ends
			return ctx, nil, ctx.Err()
		}
		defer g.gate.leave()
		return pipeline.Exec(ctx, l, alerts...)
	})
	g.dispatcher = dispatch.NewDispatcher(m.alerts, g.routes, stage, m.groupMarker,
		func(d time.Duration) time.Duration { return max(d, notify.MinTimeout) },
		dispatchMaintenance, limits(m.o.MaxGroups), m.bare, eventrecorder.Recorder{}, m.dispatchMetrics, g.tmpl)
	// The inhibitor first: an alert that it inhibits is not to be told before it has read them all.
	g.running.Go(g.inhibitor.Run)
	g.inhibitor.WaitForLoading()
	g.running.Go(func() { g.dispatcher.Run(m.begin) }) // what is put until then is in its groups when they are told
	g.dispatcher.WaitForLoading()
}

// drain is what notifications under way have to come to their end by themselves: one that was taken but not recorded is told twice.
const drain = time.Second

// stop ends all of it. What does not end with ctx is left behind, with a line in the log: it cannot be ended.
func (g *generation) stop(ctx context.Context) error {
	g.gate.close()
	idle, done := make(chan struct{}), make(chan struct{})
	go func() {
		g.gate.wait()
		close(idle)
		g.running.Wait()
		g.calls.Wait()
		close(done)
	}()
	t := time.NewTimer(drain)
	defer t.Stop()
	select {
	case <-idle:
	case <-t.C:
	case <-ctx.Done():
	}
	g.inhibitor.Stop()
	g.dispatcher.Stop()
	g.conns.close()
	var err error
	select {
	case <-done:
	case <-ctx.Done():
		err = fmt.Errorf("some notifications have not ended: %w", ctx.Err())
		g.logger.Warn("notifications that do not end are left behind")
	}
	g.closeReceivers()
	return err
}

func (g *generation) closeReceivers() {
	g.conns.close()
	for _, o := range slices.Backward(g.own) {
		o.Close()
	}
}

// groups implements what the API shows.
func (g *generation) groups(ctx context.Context, route func(*dispatch.Route) bool, filter func(*amalert.Alert, time.Time) bool,
) (dispatch.AlertGroups, map[model.Fingerprint][]string, error) {
	return g.dispatcher.Groups(ctx, route, filter)
}

// limits implements dispatch.Limits.
type limits int

// MaxNumberOfAggregationGroups implements dispatch.Limits.
func (l limits) MaxNumberOfAggregationGroups() int { return int(l) }

// gate counts who is inside, and can be closed to those who come.
type gate struct {
	mu     sync.Mutex
	closed bool
	inside sync.WaitGroup
}

func (g *gate) enter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.closed {
		g.inside.Add(1)
	}
	return !g.closed
}

func (g *gate) leave() { g.inside.Done() }

func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
}

func (g *gate) wait() { g.inside.Wait() }

// externalURL is what templates call ExternalURL; they cannot do without one.
func externalURL(u *url.URL) *url.URL {
	if u == nil {
		return &url.URL{}
	}
	return u
}
