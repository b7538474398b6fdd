// Package app wires the server together: the one place where every part meets. New builds it, Start starts it, Reload takes a
// changed configuration, Stop ends it without losing an event.
package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"whodunit/internal/act"
	"whodunit/internal/alert"
	"whodunit/internal/alert/incident"
	"whodunit/internal/alert/manager"
	"whodunit/internal/alert/remote"
	"whodunit/internal/alert/target"
	"whodunit/internal/api"
	"whodunit/internal/auth"
	"whodunit/internal/auth/certs"
	"whodunit/internal/config"
	"whodunit/internal/detect"
	"whodunit/internal/journal"
	"whodunit/internal/reject"
	"whodunit/internal/rule"
	"whodunit/internal/source"
)

// stopWithin bounds a graceful stop: what is not done then is taken up again at the next start.
const stopWithin = 10 * time.Second

// answerWithin is the part of it that requests under way have: a test alert to a receiver that hangs takes longer.
const answerWithin = 2 * time.Second

// Options of New.
type Options struct {
	Config  config.Config
	Path    string // of the configuration's file, "" without one; Reload reads it again
	DataDir string // wins over the configuration's, also at a reload
	Version string
	Stdin   io.Reader
	Stdout  io.Writer // where findings and alerts go that the configuration sends to standard output; nil: os.Stdout
	// Backfill is told how far a followed file is read while there is much to catch up on: a progress bar. It may be nil.
	Backfill func(path string, done, total int64)
	Level    *slog.LevelVar // of Log, for reload; may be nil
	Log      *slog.Logger
}

// App is a whodunit server.
type App struct {
	o   Options
	log *slog.Logger
	reg *prometheus.Registry

	events, findings *journal.Journal
	rejects          *reject.Log
	auth             *auth.Auth
	first            auth.Credentials
	rules            *detect.Rules
	current          rule.Current
	detector         *detect.Detector
	detectReader     *journal.Reader
	alertMetrics     *alert.Metrics
	feeding          *feeding
	manager          *manager.Manager // nil where alerts go elsewhere: to remote
	remote           *remote.Remote
	incidents        *incident.Tracker
	stopIncidents    func() // ends the reading of findings for them
	targets          *target.Notifier
	base             *url.URL        // where people reach the server
	actor            *act.Actor      // nil: there are no actions
	restCtx          context.Context //nolint:containedctx // receivers of a reloaded configuration live as long as the others
	newRules         func(config.Rules) (*detect.Rules, error)
	rulesChanged     chan struct{}
	sources          []namedSource
	api              *api.API
	server           *http.Server
	listener         net.Listener
	webhookListener  net.Listener
	generated        *certs.Source

	reloading sync.Mutex // one Reload at a time

	mu      sync.Mutex
	cfg     config.Config
	running map[string]string // source: its last error, "" while it runs

	cancelSources, cancelRest context.CancelFunc
	sourceWG, restWG          sync.WaitGroup
	failed                    chan error
	stopOnce                  sync.Once
	stopErr                   error
}

type namedSource struct {
	name string
	source.Source
}

// New opens the journals and builds every part. Nothing runs yet but the journals' upkeep. On an error everything is closed.
func New(o Options) (_ *App, err error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	a := &App{o: o, cfg: o.Config, log: o.Log.With("component", "app"), reg: prometheus.NewRegistry(), running: map[string]string{}, failed: make(chan error, 8),
		rulesChanged: make(chan struct{}, 1)}
	a.reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), buildInfo(o.Version))
	defer func() {
		if err != nil {
			err = errors.Join(err, a.Stop())
		}
	}()
	for _, step := range []func() error{a.openJournals, a.openAuth, a.makeRules, a.listen, a.makeAlerts, a.makeActions, a.makeSources, a.makeServer,
		a.bootstrap} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return a, nil
}

func buildInfo(version string) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "whodunit_build_info", Help: "Always 1; the version is a label.",
		ConstLabels: prometheus.Labels{"version": version}}, func() float64 { return 1 })
}

func (a *App) openJournals() error {
	dir := a.cfg.DataDir
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("cannot use data_dir: %w", err)
	}
	var err error
	o := a.journalOptions("events")
	o.IDReuse = true
	if a.events, err = journal.Open(filepath.Join(dir, "events"), o); err != nil {
		return err
	}
	o = a.journalOptions("findings")
	o.SegmentBytes, o.HeadCache, o.DedupEvents = 8<<20, 8<<20, 100_000
	if a.findings, err = journal.Open(filepath.Join(dir, "findings"), o); err != nil {
		return err
	}
	a.rejects, err = reject.New(filepath.Join(dir, "rejects"), reject.Options{Metrics: reject.NewMetrics(a.reg), Logger: a.o.Log})
	return err
}

func (a *App) journalOptions(name string) journal.Options {
	c := a.cfg.Journal
	o := journal.DefaultOptions()
	o.SegmentBytes, o.SealAfter = int64(c.SegmentSize), c.SealAfter.Std()
	o.DedupEvents, o.HeadCache = c.DedupEvents, 2*int64(c.SegmentSize)
	o.Log, o.Metrics = a.o.Log.With("component", "journal", "journal", name), journal.NewMetrics(a.reg, name)
	limits(&o, c)
	return o
}

func limits(o *journal.Options, c config.Journal) {
	o.MaxBytes, o.MinFree = int64(c.MaxSize), int64(c.MinFree)
	o.RetainAge, o.RetainBytes = c.Retention.Age.Std(), int64(c.Retention.Size)
}

func (a *App) openAuth() (err error) {
	a.auth, err = auth.New(auth.Options{Dir: a.cfg.DataDir, SessionTTL: a.cfg.Server.SessionTTL.Std(), Secure: a.cfg.Server.TLS.Mode != "off",
		Logger: a.o.Log, Registerer: a.reg})
	return err
}

// bootstrap makes the first login. It is the last step of New: what New has made is never shown if a later step fails, and never made again.
func (a *App) bootstrap() (err error) {
	a.first, err = a.auth.Bootstrap()
	return err
}

// FirstLogin is what the first start made; Created is false at every later one. It is held in memory only until asked for.
func (a *App) FirstLogin() auth.Credentials {
	c := a.first
	a.first = auth.Credentials{}
	return c
}

// stdout is where what the configuration sends to standard output goes.
func (a *App) stdout() io.Writer {
	if a.o.Stdout != nil {
		return a.o.Stdout
	}
	return os.Stdout
}

// URL is where people find the server, WebhookURL where API servers do ("" where that is off).
func (a *App) URL() string { return address(a.cfg.Server.TLS.Mode, a.listener) }

// WebhookURL is where API servers send events.
func (a *App) WebhookURL() string { return address(a.cfg.Webhook.TLS.Mode, a.webhookListener) }

func address(mode string, l net.Listener) string {
	switch {
	case l == nil:
		return ""
	case mode == "off":
		return "http://" + l.Addr().String()
	}
	return "https://" + l.Addr().String()
}

// Start starts everything and returns at once. Failed tells what ends the server by itself.
func (a *App) Start(ctx context.Context) {
	sctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	a.cancelSources = cancel
	rctx, cancelRest := context.WithCancel(context.WithoutCancel(ctx))
	a.cancelRest = cancelRest
	a.restWG.Go(func() { a.run(rctx, "rules", a.watchRules) })
	a.restCtx = rctx
	for _, step := range []func() error{ // before there are findings: a new receiver begins at the newest
		func() error { return a.feed(rctx, a.cfg.Alerts) }, func() error { return a.startAlerts(rctx) }, func() error { return a.startActions(rctx) },
	} {
		if err := step(); err != nil {
			a.failed <- err
		}
	}
	a.restWG.Go(func() { a.run(rctx, "detector", a.detector.Run) })
	a.restWG.Go(func() {
		if err := a.serve(); err != nil {
			a.failed <- err
		}
	})
	for _, s := range a.sources {
		a.sourceWG.Go(func() { a.runSource(sctx, s) })
	}
}

// run reports a part that ended although it should not have.
func (a *App) run(ctx context.Context, name string, f func(context.Context) error) {
	err := f(ctx)
	if ctx.Err() == nil {
		a.failed <- fmt.Errorf("%s ended: %w", name, err)
	}
}

// Failed gives the error that the server cannot live with.
func (a *App) Failed() <-chan error { return a.failed }

// Stop ends the server within ten seconds: first the sources, whose peers get answers for what they have sent, then the rest,
// then the journals. It may be called more than once, and on an App that New could not finish.
func (a *App) Stop() error {
	a.stopOnce.Do(func() { a.stopErr = a.stop() })
	return a.stopErr
}

func (a *App) stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), stopWithin)
	defer cancel()
	var errs []error
	if a.cancelSources != nil {
		a.cancelSources()
		if !waited(ctx, &a.sourceWG) {
			errs = append(errs, errors.New("a source did not stop in time; what it has not acknowledged will come again"))
		}
	} else if a.webhookListener != nil {
		errs = append(errs, a.webhookListener.Close())
	}
	if a.api != nil {
		a.api.Close()
	}
	if a.server != nil && a.cancelRest != nil {
		sctx, cancel := context.WithTimeout(ctx, answerWithin)
		if err := a.server.Shutdown(sctx); err != nil {
			errs = append(errs, a.server.Close()) // ends what its requests do
		}
		cancel()
	} else if a.listener != nil {
		errs = append(errs, a.listener.Close())
	}
	if a.cancelRest != nil {
		a.cancelRest()
		a.stopFeeding()
		if !waited(ctx, &a.restWG) {
			errs = append(errs, errors.New("the detector did not stop in time"))
		}
	}
	errs = append(errs, a.stopAlerts(ctx))
	if a.actor != nil {
		a.actor.Close()
	}
	if a.detectReader != nil {
		a.detectReader.Close()
	}
	for _, j := range []*journal.Journal{a.events, a.findings} {
		if j != nil {
			errs = append(errs, j.Close())
		}
	}
	if a.rejects != nil {
		errs = append(errs, a.rejects.Close())
	}
	return errors.Join(errs...)
}

// Settle waits until the detector and the log of findings have had every event that is there now.
func (a *App) Settle(ctx context.Context) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for behind(a.events, "detect") || behind(a.findings, "alert-log") {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func behind(j *journal.Journal, cursor string) bool {
	for _, c := range j.Info().Cursors {
		if c.Name == cursor && c.Lag > 0 {
			return true
		}
	}
	return false
}

// waited waits for the group, but not longer than ctx.
func waited(ctx context.Context, wg *sync.WaitGroup) bool {
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	select {
	case <-done:
		return true
	case <-ctx.Done():
		return false
	}
}
