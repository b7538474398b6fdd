package app

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"reflect"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"whodunit/internal/api"
	"whodunit/internal/audit"
	"whodunit/internal/config"
	"whodunit/internal/journal"
	"whodunit/internal/match"
	"whodunit/internal/query"
	"whodunit/internal/store"
	segmentstore "whodunit/internal/store/segment"
	"whodunit/internal/ui"
)

// listen opens the address for people, so that what is made later knows it.
func (a *App) listen() (err error) {
	a.listener, err = listen(a.cfg.Server.Listen, "server.listen")
	return err
}

func (a *App) makeServer() error {
	conf, err := a.tls("server", a.cfg.Server.TLS, nil)
	if err != nil {
		return err
	}
	page, err := ui.New(ui.Options{})
	if err != nil {
		return err
	}
	asked := segmentstore.Options{CacheBytes: 32 << 20, Distinct: true, Metrics: segmentstore.NewMetrics(a.reg)}
	a.api, err = api.New(api.Options{
		Events:   api.Set{Search: segmentstore.New(a.events, asked), Tail: tailer{a.events}},
		Findings: api.Set{Search: segmentstore.New(a.findings, asked), Tail: tailer{a.findings}},
		Language: api.Language{Parse: query.Parse, Time: query.ParseTime, Path: query.Path},
		Auth:     a.auth, Rules: a.ruleList, Version: a.o.Version, Status: a.status, Alerts: a.alertAPI(),
		Ready:   []api.Check{{Name: "journal", Ready: a.journalReady}, {Name: "sources", Ready: a.sourcesReady}},
		Metrics: promhttp.HandlerFor(a.reg, promhttp.HandlerOpts{Registry: a.reg}), MetricsAuth: a.cfg.Server.MetricsAuth,
		UI: page, Logger: a.o.Log, Registerer: a.reg,
	})
	if err != nil {
		return err
	}
	a.server = api.NewServer(a.api, a.o.Log)
	if conf != nil {
		conf.NextProtos = []string{"h2", "http/1.1"}
		a.server.TLSConfig = conf
	}
	return nil
}

func (a *App) serve() error {
	var err error
	if a.server.TLSConfig != nil {
		err = a.server.ServeTLS(a.listener, "", "")
	} else {
		err = a.server.Serve(a.listener)
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("cannot serve: %w", err)
}

// tailer follows a journal from its end.
type tailer struct{ j *journal.Journal }

// Tail is api.Tailer's.
func (t tailer) Tail(ctx context.Context, q store.Query, yield func(*audit.Record) error) error {
	expr := q.Expr
	if expr == nil {
		expr = match.Const(true)
	}
	r := t.j.Reader(t.j.Last() + 1)
	defer r.Close()
	for {
		records, err := r.Next(ctx)
		if err != nil {
			return err
		}
		for i := range records {
			if match.Eval(expr, &records[i].Event) {
				if err := yield(&records[i]); err != nil {
					return err
				}
			}
		}
	}
}

// Status is what the server says of itself.
type Status struct {
	Events   journal.Info      `json:"events"`
	Findings journal.Info      `json:"findings"`
	Sources  map[string]string `json:"sources"` // "running", or the last error
	Rules    int               `json:"rules"`
}

func (a *App) status(context.Context) (any, error) {
	s := Status{Events: a.events.Info(), Findings: a.findings.Info(), Sources: map[string]string{}, Rules: len(a.current.Load().Rules())}
	a.mu.Lock()
	defer a.mu.Unlock()
	for name, err := range a.running {
		if err == "" {
			err = "running"
		}
		s.Sources[name] = err
	}
	return s, nil
}

func (a *App) journalReady(context.Context) error {
	if why := a.events.Info().Full; why != "" {
		return errors.New(why)
	}
	return nil
}

func (a *App) sourcesReady(context.Context) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	for name, err := range a.running {
		if err != "" {
			return fmt.Errorf("source %s: %s", name, err)
		}
	}
	return nil
}

// Reload reads the configuration again and takes over what can change while running: retention and limits, rules, alerts, log
// level. What needs a restart is said and left as it is. A configuration with an error changes nothing. Safe for concurrent use.
func (a *App) Reload() error {
	a.reloading.Lock()
	defer a.reloading.Unlock()
	a.mu.Lock()
	r := a.rules
	a.mu.Unlock()
	r.Reload()
	if a.o.Path == "" {
		return nil
	}
	next, err := config.Load(a.o.Path)
	if err != nil {
		a.log.Error("configuration is not taken over", "err", err)
		return err
	}
	if a.o.DataDir != "" {
		next.DataDir = a.o.DataDir
	}
	a.mu.Lock()
	old := a.cfg
	a.mu.Unlock()
	err = a.take(old, next)
	a.mu.Lock()
	now := a.cfg
	a.mu.Unlock()
	for _, c := range config.Diff(old, now) { // said when it is in force, not before
		if !c.Restart {
			a.log.Info("configuration changed", "field", c.Path)
		}
	}
	for _, c := range config.Diff(old, next) {
		if c.Restart {
			a.log.Warn("this change needs a restart", "field", c.Path)
		}
	}
	return err
}

// take puts the live parts of next in force. What fails stays as it is, and the next reload tries it again.
func (a *App) take(old, next config.Config) error {
	for _, j := range []*journal.Journal{a.events, a.findings} {
		var o journal.Options
		limits(&o, next.Journal)
		j.SetLimits(o)
	}
	if a.o.Level != nil {
		a.o.Level.Set(Level(next.Log.Level))
	}
	alerts := a.takeAlerts(old.Alerts, next.Alerts, reflect.DeepEqual(old.Alerts, next.Alerts))
	if alerts != nil {
		a.log.Error("alerts are not taken over", "err", alerts)
		next.Alerts = old.Alerts
	}
	rules := a.setRules(old.Rules, next.Rules)
	if rules != nil {
		a.log.Error("rules are not taken over", "err", rules)
		next.Rules = old.Rules
	}
	a.mu.Lock()
	a.cfg.Journal, a.cfg.Alerts, a.cfg.Rules, a.cfg.Log = next.Journal, next.Alerts, next.Rules, next.Log
	a.mu.Unlock()
	return errors.Join(alerts, rules)
}

// watchEvery is how often the configuration's file is looked at.
const watchEvery = 2 * time.Second

// WatchConfig reloads when the file's content or its place changes, or those of the Alertmanager configuration that it names, until ctx is done. It polls: that works on every file system and
// for mounted ConfigMaps.
func (a *App) WatchConfig(ctx context.Context) {
	if a.o.Path == "" {
		<-ctx.Done()
		return
	}
	seen := func() string {
		a.mu.Lock()
		alerts := a.cfg.Alerts.AlertmanagerConfig
		a.mu.Unlock()
		text := stamp(a.o.Path)
		if alerts != "" {
			text += "\n" + stamp(alerts)
		}
		return text
	}
	last := seen()
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if now := seen(); now != last {
			last = now
			_ = a.Reload() // said in the log
		}
	}
}

func stamp(path string) string {
	st, err := os.Stat(path)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprint(st.Size(), st.ModTime().UnixNano())
}
