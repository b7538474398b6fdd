// Package manager is Alertmanager inside this process: it groups, inhibits, silences and repeats alerts by a standard alertmanager.yml,
// notifies its receivers and those of our own kinds, and answers Alertmanager's API. It is made of Alertmanager's own packages, wired as
// its own process wires them; what is added is that its state survives a crash, that secrets and hostile text go nowhere, that mistakes
// in templates are found when they are loaded, and that it can be seen how each receiver does.
package manager

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	amalert "github.com/prometheus/alertmanager/alert"
	"github.com/prometheus/alertmanager/api"
	"github.com/prometheus/alertmanager/config"
	"github.com/prometheus/alertmanager/dispatch"
	"github.com/prometheus/alertmanager/eventrecorder"
	"github.com/prometheus/alertmanager/featurecontrol"
	"github.com/prometheus/alertmanager/marker"
	"github.com/prometheus/alertmanager/nflog"
	"github.com/prometheus/alertmanager/notify"
	"github.com/prometheus/alertmanager/provider/mem"
	"github.com/prometheus/alertmanager/silence"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	"github.com/prometheus/common/route"

	"whodunit/internal/alert"
)

const (
	maintenance         = 15 * time.Minute
	dispatchMaintenance = 30 * time.Second
	alertGC             = 30 * time.Minute
	stopWait            = 5 * time.Second // for notifications that a reload ends
	maxRequest          = 8 << 20         // bytes of a request's body
	maxPostedBytes      = 32 << 20
)

// Options are what a Manager needs. Dir is wanted; each other that is zero has a default.
type Options struct {
	Dir         string                      // of the silences and the notification log; made if it is not there; one Manager a folder
	ConfigFile  string                      // alertmanager.yml; "": all goes to DefaultReceiver
	ExternalURL *url.URL                    // of this server, for templates; nil: they get ""
	Own         func(receiver string) []Own // receivers of our own kinds that belong to this receiver; the Manager closes them
	// Told is told of each alert that goes on when an integration has taken it, each time. nil: nobody is. It must be fast.
	Told           func(labels map[string]string)
	Retention      time.Duration // of silences that are over and of the notification log; 120 h
	AttemptTimeout time.Duration // of one attempt to notify; 30 s
	// StartDelay is how long after New nobody is told anything: who has to put the alerts again has that time, so that none is told that
	// another of them inhibits.
	StartDelay     time.Duration
	MaxSilences    int                   // 10000
	MaxSilenceSize int                   // in bytes; 64 KiB
	MaxGroups      int                   // of alerts, each one notification, of some 90 KB of memory; 2000
	MaxPosted      int                   // alerts that others post to the API; 5000, in 32 MiB
	Logger         *slog.Logger          // nil: none
	Registerer     prometheus.Registerer // nil: unregistered
}

func (o *Options) defaults() error {
	if o.Dir == "" {
		return errors.New("cannot start alertmanager: a folder for its state is wanted")
	}
	positive(&o.Retention, 120*time.Hour)
	positive(&o.AttemptTimeout, 30*time.Second)
	positive(&o.MaxSilences, 10_000)
	positive(&o.MaxSilenceSize, 64<<10)
	positive(&o.MaxGroups, 2_000)
	positive(&o.MaxPosted, 5000)
	o.ExternalURL = externalURL(o.ExternalURL)
	if o.Logger == nil {
		o.Logger = discard
	}
	if o.Registerer == nil {
		o.Registerer = prometheus.NewRegistry()
	}
	return nil
}

func positive[T int | time.Duration](v *T, otherwise T) {
	if *v <= 0 {
		*v = otherwise
	}
}

// Manager is a running Alertmanager. It is safe for concurrent use. Its owner calls Stop.
type Manager struct {
	o       Options
	begin   time.Time    // nobody is told anything before
	bare    *slog.Logger // hides secrets; for packages that say themselves which component they are
	logger  *slog.Logger // the same, with ours
	redact  *redactor
	metrics *metrics
	book    *book

	alerts          *mem.Alerts
	posted          *posted
	weigher         *weigher
	silences        *silence.Silences
	silencer        *silence.Silencer
	nflog           *nflog.Log
	groupMarker     marker.GroupMarker
	pipelines       *notify.PipelineBuilder
	dispatchMetrics *dispatch.DispatcherMetrics
	coordinator     *config.Coordinator // for its metrics
	api             *api.API
	handler         http.Handler

	stop       chan struct{}
	background sync.WaitGroup
	snapshots  []*snapshot

	mu      sync.RWMutex // held to read by Put and Try, to write by Reload and Stop
	stopped bool
	gen     atomic.Pointer[generation]
}

var _ alert.Taker = (*Manager)(nil)

// New starts an Alertmanager. A snapshot that cannot be read is set aside and counted; an error in the configuration is an error.
func New(o Options) (*Manager, error) {
	if err := o.defaults(); err != nil {
		return nil, err
	}
	l, err := load(o.ConfigFile, o.ExternalURL)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make folder for alertmanager: %w", err)
	}
	m := &Manager{o: o, begin: time.Now().Add(o.StartDelay), redact: newRedactor(), stop: make(chan struct{}), groupMarker: marker.NewGroupMarker()}
	m.redact.use(l.sec)
	m.metrics = newMetrics(o.Registerer)
	m.bare = slog.New(newSparing(redacting{o.Logger.Handler(), m.redact}, m.metrics.spared))
	m.logger = m.bare.With("component", "alertmanager")
	m.book = newBook(m.metrics, m.redact, o.Told)
	gen, err := build(l, m.buildOptions(o.Own))
	if err != nil {
		return nil, fmt.Errorf("%s: %s", configName(o.ConfigFile), l.sec.redact(err.Error()))
	}
	if err := m.stores(); err != nil {
		gen.closeReceivers()
		return nil, err
	}
	if err := m.serve(); err != nil {
		gen.closeReceivers()
		return nil, err
	}
	for _, s := range m.snapshots {
		m.background.Go(func() { s.run(m.stop) })
	}
	m.background.Go(func() { m.nflog.Maintenance(maintenance, m.snapshots[0].path, m.stop, m.snapshots[0].maintain) })
	m.background.Go(func() { m.silences.Maintenance(maintenance, m.snapshots[1].path, m.stop, m.snapshots[1].maintain) })
	m.swap(context.Background(), gen)
	return m, nil
}

func (m *Manager) buildOptions(own func(string) []Own) buildOptions {
	return buildOptions{own: own, timeout: m.o.AttemptTimeout, logger: m.logger, book: m.book}
}

// stores opens the notification log, the silences, and the alerts.
func (m *Manager) stores() error {
	snap := func(name string) *snapshot {
		s := &snapshot{name: name, path: filepath.Join(m.o.Dir, name), metrics: m.metrics, logger: m.logger, changed: make(chan struct{}, 1)}
		m.snapshots = append(m.snapshots, s)
		return s
	}
	logs, sils := snap("nflog"), snap("silences")
	r, err := logs.recover(func(r io.Reader) error {
		_, err := nflog.New(nflog.Options{SnapshotReader: r, Metrics: prometheus.NewRegistry()})
		return err
	})
	if err != nil {
		return err
	}
	m.nflog, err = nflog.New(nflog.Options{SnapshotReader: r, Retention: m.o.Retention, Logger: m.logger, Metrics: m.o.Registerer})
	if err != nil {
		return fmt.Errorf("cannot open notification log: %w", err)
	}
	r, err = sils.recover(func(r io.Reader) error {
		_, err := silence.New(silence.Options{SnapshotReader: r, Metrics: prometheus.NewRegistry()})
		return err
	})
	if err != nil {
		return err
	}
	m.silences, err = silence.New(silence.Options{SnapshotReader: r, Retention: m.o.Retention, Logger: m.logger, Metrics: m.o.Registerer,
		Limits: silence.Limits{MaxSilences: func() int { return m.o.MaxSilences }, MaxSilenceSizeBytes: func() int { return m.o.MaxSilenceSize }}})
	if err != nil {
		return fmt.Errorf("cannot open silences: %w", err)
	}
	m.weigher = &weigher{silences: m.silences}
	logs.write, logs.gc = m.nflog.Snapshot, m.nflog.GC
	sils.write, sils.gc = m.silences.Snapshot, m.silences.GC
	m.nflog.SetBroadcast(logs.touch)
	m.silences.SetBroadcast(sils.touch)
	m.silencer = silence.NewSilencer(m.silences, m.logger, eventrecorder.Recorder{})
	m.posted = &posted{AlertStoreCallback: m.silencer, most: m.o.MaxPosted, mostBytes: maxPostedBytes, sizes: map[model.Fingerprint]int{}}
	m.alerts, err = mem.NewAlerts(context.Background(), alertGC, 0, m.posted, m.bare, eventrecorder.Recorder{}, m.o.Registerer,
		featurecontrol.NoopFlags{})
	if err != nil {
		return fmt.Errorf("cannot open alerts: %w", err)
	}
	return nil
}

// serve makes the API.
func (m *Manager) serve() error {
	flags := featurecontrol.NoopFlags{}
	m.pipelines = notify.NewPipelineBuilder(m.o.Registerer, flags, eventrecorder.Recorder{})
	m.dispatchMetrics = dispatch.NewDispatcherMetrics(false, m.o.Registerer, flags)
	m.coordinator = config.NewCoordinator(m.o.ConfigFile, m.o.Registerer, discard)
	var err error
	m.api, err = api.New(api.Options{Alerts: m.alerts, Silences: m.silences, GroupMutedFunc: m.groupMarker.Muted, Logger: m.logger,
		Registry: m.o.Registerer, RequestDuration: m.metrics.requests,
		GroupFunc: func(ctx context.Context, r func(*dispatch.Route) bool, a func(*amalert.Alert, time.Time) bool) (dispatch.AlertGroups,
			map[model.Fingerprint][]string, error) {
			return m.gen.Load().groups(ctx, r, a)
		}})
	if err != nil {
		m.alerts.Close()
		return fmt.Errorf("cannot make alertmanager's API: %w", err)
	}
	m.handler = m.guard(m.api.Register(route.New(), "/"))
	return nil
}

// swap ends the generation that runs, if one does, and starts the next.
func (m *Manager) swap(ctx context.Context, next *generation) {
	if old := m.gen.Load(); old != nil {
		ctx, cancel := context.WithTimeout(ctx, stopWait)
		defer cancel()
		_ = old.stop(ctx) // it has said so in the log
	}
	m.book.keep(next.keys())
	next.start(m)
	m.gen.Store(next)
	m.api.Update(next.conf, func(ctx context.Context, labels model.LabelSet) {
		m.gen.Load().inhibitor.Mutes(ctx, labels)
		m.silencer.Mutes(ctx, labels)
	})
	_ = m.coordinator.ApplyConfig(next.conf) // it cannot fail: nobody subscribes
	m.metrics.receivers.Set(float64(len(next.integrations)))
	m.metrics.integrations.Set(float64(len(next.keys())))
	m.metrics.inhibits.Set(float64(len(next.conf.InhibitRules)))
	next.warn(m.o.Retention)
}

// warn tells what of a configuration does not do what one may expect.
func (g *generation) warn(retention time.Duration) {
	for _, section := range g.passed {
		g.logger.Warn("a section of the configuration is not supported here and passed over", "section", section)
	}
	g.routes.Walk(func(r *dispatch.Route) {
		if r.RouteOpts.RepeatInterval < r.RouteOpts.GroupInterval {
			g.logger.Warn("repeat_interval is below group_interval: repeats wait for the next group_interval", "route", r.Key())
		}
		if r.RouteOpts.RepeatInterval > retention {
			g.logger.Warn("repeat_interval is above the retention of the notification log: repeats come earlier", "route", r.Key())
		}
	})
}

// Reload replaces the configuration, as at the start; an error changes nothing, and what runs goes on. own is as in Options: the
// receivers that it gives are new ones, for those in use are closed.
func (m *Manager) Reload(configFile string, own func(string) []Own) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.stopped {
		return errStopped
	}
	l, err := load(configFile, m.o.ExternalURL)
	if err != nil {
		_ = m.coordinator.ApplyConfig(nil) // marks the reload as failed
		return err
	}
	gen, err := build(l, m.buildOptions(own))
	if err != nil {
		_ = m.coordinator.ApplyConfig(nil)
		return fmt.Errorf("%s: %s", configName(configFile), l.sec.redact(err.Error()))
	}
	m.redact.use(l.sec)
	m.swap(context.Background(), gen)
	return nil
}

var errStopped = errors.New("alertmanager is stopped")

// Put implements alert.Taker. An alert without an end is over after resolve_timeout unless it is put again. How many there are is for the
// caller to bound.
func (m *Manager) Put(ctx context.Context, alerts []alert.Alert) error {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.stopped {
		return errStopped
	}
	timeout := time.Duration(m.gen.Load().conf.Global.ResolveTimeout)
	now := time.Now()
	in := make([]*amalert.Alert, 0, len(alerts))
	var errs []error
	for i := range alerts {
		a := &amalert.Alert{UpdatedAt: now, Alert: model.Alert{Labels: labelSet(alerts[i].Labels), Annotations: labelSet(alerts[i].Annotations),
			StartsAt: alerts[i].StartsAt, EndsAt: alerts[i].EndsAt, GeneratorURL: alerts[i].Link}}
		if a.StartsAt.IsZero() {
			a.StartsAt = now
		}
		if a.EndsAt.IsZero() {
			a.EndsAt, a.Timeout = now.Add(timeout), true
		}
		if err := a.Validate(); err != nil {
			errs = append(errs, fmt.Errorf("alert %q: %w: %w", alerts[i].Labels[model.AlertNameLabel], err, alert.ErrRejected))
			continue
		}
		in = append(in, a)
	}
	m.posted.putting.Lock()
	err := m.alerts.Put(ctx, in...)
	m.posted.putting.Unlock()
	if err != nil {
		errs = append(errs, fmt.Errorf("cannot take alerts: %w", err))
	}
	return errors.Join(errs...)
}

func labelSet(in map[string]string) model.LabelSet {
	out := make(model.LabelSet, len(in))
	for k, v := range in {
		if v != "" {
			out[model.LabelName(k)] = model.LabelValue(v)
		}
	}
	return out
}

func plain(in model.LabelSet) map[string]string {
	out := make(map[string]string, len(in))
	for k, v := range in {
		out[string(k)] = string(v)
	}
	return out
}

// Silenced reports whether an alert with these labels would be silenced now.
func (m *Manager) Silenced(labels map[string]string) bool {
	set, ctx := labelSet(labels), context.Background()
	if _, err := m.alerts.Get(set.Fingerprint()); err == nil {
		return m.silencer.Mutes(ctx, set) // it remembers every alert that it is asked about, for as long as there is the alert
	}
	found, _, err := m.silences.Query(ctx, silence.QState(silence.SilenceStateActive), silence.QMatches(set))
	return err == nil && len(found) > 0
}

// Receivers says how each integration of the receivers in use does, by receiver, kind, and index.
func (m *Manager) Receivers() []ReceiverStatus { return m.book.list() }

// Stop ends all, after a snapshot of the state; notifications under way are ended, and told again after the next start. It waits at most
// until ctx ends for integrations that do not end with their context, and says so then.
func (m *Manager) Stop(ctx context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.stopped {
		return nil
	}
	m.stopped = true
	ctx, cancel := context.WithTimeout(ctx, stopWait)
	defer cancel()
	err := m.gen.Load().stop(ctx)
	m.alerts.Close()
	close(m.stop)
	m.background.Wait()
	if err != nil {
		return fmt.Errorf("cannot stop alertmanager: %w", err)
	}
	return nil
}
