package app

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/common/model"

	"whodunit/internal/alert"
	"whodunit/internal/alert/file"
	"whodunit/internal/alert/incident"
	"whodunit/internal/alert/manager"
	"whodunit/internal/alert/post"
	"whodunit/internal/alert/remote"
	"whodunit/internal/alert/target"
	"whodunit/internal/alert/webhook"
	"whodunit/internal/api"
	"whodunit/internal/audit"
	"whodunit/internal/config"
	"whodunit/internal/explain"
	"whodunit/internal/finding"
	"whodunit/internal/rule"
)

// makeAlerts builds what makes alerts of findings and tells people about them.
func (a *App) makeAlerts() error {
	a.alertMetrics = alert.NewMetrics(a.reg)
	dir := filepath.Join(a.cfg.DataDir, "alerts")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("cannot use data_dir: %w", err)
	}
	base, err := a.externalURL()
	if err != nil {
		return err
	}
	a.base = base
	if err := a.makeTaker(dir, base); err != nil {
		return err
	}
	c := a.cfg.Alerts
	var taker alert.Taker = a.manager
	if a.remote != nil {
		taker = a.remote
	}
	var owed func(map[string]string) bool
	if a.manager != nil {
		owed = a.manager.Owed
	}
	a.incidents, err = incident.New(incident.Options{
		Taker: taker, Owed: owed, Rule: a.ruleInfo, Link: func(x *alert.Alert) string { return link(base, x) }, Command: command,
		ResolveAfter: c.ResolveAfter.Std(), MaxAge: c.MaxAge.Std(), StateFile: filepath.Join(dir, "alerts.json"), JournalEnd: a.findings.Last() + 1,
		Saved: func(next uint64) error { return a.saveCursor("alerts", next) }, Logger: a.o.Log, Registerer: a.reg,
	})
	if err != nil {
		return err
	}
	maxAge := c.MaxAge.Std()
	if maxAge == 0 {
		maxAge = 100 * 365 * 24 * time.Hour // its zero is a day
	}
	a.targets, err = target.New(target.Options{
		Rule: a.rule, Silenced: a.silenced, Compat: a.cfg.Rules.ParseableCompat, ResolveAfter: c.ResolveAfter.Std(), MaxAge: maxAge, StateFile: filepath.Join(dir, "targets.json"),
		Deployment: target.Deployment{Instance: base.String(), ID: hostname(), Mode: "Standalone"}, Logger: a.o.Log, Registerer: a.reg,
	})
	if err != nil {
		return err
	}
	return a.tryFeeds(c)
}

// makeTaker builds the Alertmanager inside, or the way to those outside.
func (a *App) makeTaker(dir string, base *url.URL) (err error) {
	c := a.cfg.Alerts
	if len(c.AlertmanagerURL) > 0 {
		var all []post.Config
		for _, u := range c.AlertmanagerURL {
			all = append(all, posting(u, c.AlertmanagerHTTP))
		}
		a.remote, err = remote.New(remote.Options{Instances: all, Logger: a.o.Log, Registerer: a.reg})
		return err
	}
	if err := a.tryReceivers(c); err != nil {
		return err
	}
	a.manager, err = manager.New(manager.Options{Dir: dir, ConfigFile: c.AlertmanagerConfig, ExternalURL: base, Own: a.own(c), StartDelay: time.Second, Told: a.told, Logger: a.o.Log, Registerer: a.reg})
	return err
}

// told hands on what the Alertmanager inside says. It has no alerts before there are incidents.
func (a *App) told(labels map[string]string) {
	if a.incidents != nil {
		a.incidents.Told(labels)
	}
}

// externalURL is where people reach this server.
func (a *App) externalURL() (*url.URL, error) {
	s := a.cfg.Alerts.ExternalURL
	if s == "" {
		s = a.URL()
	}
	u, err := url.Parse(s)
	if err != nil {
		return nil, fmt.Errorf("cannot use alerts.external_url: %w", err)
	}
	return u, nil
}

// receiver makes one integration of our own kinds.
func (a *App) receiver(r config.AlertReceiver) (alert.Receiver, error) {
	switch r.Kind {
	case "webhook":
		return webhook.NewGroups(webhook.Config{Post: posting(r.URL, r.HTTP), SecretFile: r.HMACSecretFile})
	case "file":
		return file.NewGroups(file.Config{Path: r.Path, Stdout: a.stdout()})
	}
	return file.NewGroups(file.Config{Path: file.Stdout, Stdout: a.stdout()})
}

// tryReceivers makes every receiver of our own kinds once, so that what is wrong with one is said at once, or with the file whose receivers
// they belong to.
func (a *App) tryReceivers(c config.Alerts) error {
	var names []string
	for i, r := range c.Receivers {
		made, err := a.receiver(r)
		if err != nil {
			return fmt.Errorf("cannot make alerts.receivers[%d] (%s): %w", i, r.Name, err)
		}
		made.Close()
		names = append(names, r.Name)
	}
	return manager.Check(c.AlertmanagerConfig, names)
}

// own makes the integrations of our own kinds that belong to a receiver. They were tried before.
func (a *App) own(c config.Alerts) func(receiver string) []manager.Own {
	return func(receiver string) (out []manager.Own) {
		for _, r := range c.Receivers {
			if r.Name != receiver {
				continue
			}
			made, err := a.receiver(r)
			if err != nil {
				a.log.Error("receiver is left out", "receiver", r.Name, "kind", r.Kind, "err", err)
				continue
			}
			out = append(out, manager.Own{Kind: r.Kind, Receiver: made, SendResolved: r.SendResolved})
		}
		return out
	}
}

// takeAlerts puts another configuration of alerts in force. The Alertmanager's own file is read again each time: it may have changed.
func (a *App) takeAlerts(old, next config.Alerts, same bool) error {
	if a.manager != nil {
		if err := a.tryReceivers(next); err != nil {
			return err
		}
		if err := a.manager.Reload(next.AlertmanagerConfig, a.own(next)); err != nil {
			return err
		}
		a.log.Info("routes and receivers of alerts read", "file", next.AlertmanagerConfig, "receivers", len(a.manager.Receivers()))
	}
	if same {
		return nil
	}
	if err := a.feed(a.restCtx, next); err != nil {
		return err
	}
	if old.MinSeverity != next.MinSeverity {
		a.stopIncidents()
		return a.startIncidents(a.restCtx, next)
	}
	return nil
}

func (a *App) saveCursor(name string, next uint64) error {
	cursor, err := a.findings.Cursor(name, 0)
	if err != nil {
		return err
	}
	return cursor.Save(next)
}

// startAlerts begins to read findings for alerts and for the targets that rules name.
func (a *App) startAlerts(ctx context.Context) error {
	if err := a.startIncidents(ctx, a.cfg.Alerts); err != nil {
		return err
	}
	a.restWG.Go(func() { a.run(ctx, "alerts", a.incidents.Run) })
	next, _ := a.targets.Next()
	save := func(ctx context.Context, next uint64) error {
		if err := a.targets.Save(ctx, next); err != nil {
			return err
		}
		return a.saveCursor("targets", next)
	}
	p, closeReader, err := a.pump("targets", "targets", a.targets, "", next, save)
	if err != nil {
		return err
	}
	a.restWG.Go(func() {
		defer closeReader()
		a.run(ctx, "targets of rules", p.Run)
	})
	a.restWG.Go(func() { a.run(ctx, "targets of rules", a.targets.Run) })
	return nil
}

// startIncidents begins to read findings for alerts.
func (a *App) startIncidents(ctx context.Context, c config.Alerts) error {
	p, closeReader, err := a.pump("alerts", "alerts", a.incidents, finding.Severity(c.MinSeverity), a.incidents.Next(), a.incidents.Save)
	if err != nil {
		return err
	}
	ictx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	a.stopIncidents = func() { cancel(); <-done }
	a.restWG.Go(func() {
		defer close(done)
		defer closeReader()
		if err := p.Run(ictx); err != nil && ictx.Err() == nil {
			a.failed <- fmt.Errorf("alerts ended: %w", err)
		}
	})
	return nil
}

// stopAlerts ends what nobody puts alerts to any more.
func (a *App) stopAlerts(ctx context.Context) error {
	var errs []error
	if a.incidents != nil {
		errs = append(errs, a.incidents.Close())
	}
	if a.manager != nil {
		errs = append(errs, a.manager.Stop(ctx))
	}
	if a.remote != nil {
		a.remote.Close()
	}
	return errors.Join(errs...)
}

// rule is a rule in force.
func (a *App) rule(id string) (*rule.Rule, bool) {
	r := a.current.Load().Get(id)
	return r, r != nil
}

func (a *App) ruleInfo(id string) (incident.Info, bool) {
	r, ok := a.rule(id)
	if !ok {
		return incident.Info{}, false
	}
	return incident.Info{Description: r.Description, Runbook: r.Runbook, References: r.References}, true
}

// command is what somebody most likely typed for ev.
func command(ev *audit.Event) string {
	text, _ := explain.Kubectl(ev)
	return text
}

// link is the search for an alert's findings in the web page.
func link(base *url.URL, x *alert.Alert) string {
	q := "rule:" + strconv.Quote(x.Labels["rule"])
	for _, name := range []string{"cluster", "user", "namespace"} {
		if v := x.Labels[name]; v != "" && len(v) < 150 && !strings.ContainsAny(v, "…\uFFFD") { // others may be no more what the finding has
			q += " and " + name + ":" + strconv.Quote(v)
		}
	}
	u := *base
	u.Path = strings.TrimSuffix(u.Path, "/") + "/"
	u.RawQuery = url.Values{"show": {"findings"}, "q": {q}, "from": {x.StartsAt.Add(-time.Hour).UTC().Format(time.RFC3339)}}.Encode()
	return u.String()
}

// alertAPI is what the HTTP API shows of alerts.
func (a *App) alertAPI() api.Alerts {
	out := api.Alerts{List: a.listAlerts, Receivers: a.receiverStatus, Test: a.testAlert}
	if a.manager == nil {
		out.Elsewhere = "alerts go to the Alertmanager of alerts.alertmanager_url: silence them there"
		out.Test = nil
		return out
	}
	out.V2 = a.manager.Handler()
	return out
}

func (a *App) listAlerts(context.Context) ([]api.AlertStatus, error) {
	var out []api.AlertStatus
	for _, s := range a.incidents.Active() {
		labels := model.LabelSet{}
		for k, v := range s.Labels {
			labels[model.LabelName(k)] = model.LabelValue(v)
		}
		x := api.AlertStatus{Fingerprint: labels.Fingerprint().String(), Labels: s.Labels, Annotations: s.Annotations, Count: s.Count,
			StartsAt: s.StartsAt, EndsAt: s.EndsAt, FirstEvent: s.FirstTime, LastEvent: s.LastTime, Link: s.Link}
		if a.manager != nil {
			standing := a.manager.Standing(s.Labels)
			x.SilencedBy, x.InhibitedBy, x.Receivers = standing.SilencedBy, standing.InhibitedBy, standing.Receivers
		}
		out = append(out, x)
	}
	return out, nil
}

func (a *App) receiverStatus() (out []api.ReceiverStatus) {
	for _, s := range a.feedStatus() {
		out = append(out, api.ReceiverStatus{Receiver: s.Name, Kind: "findings", OK: s.OK, Failed: s.Failed, LastOK: s.LastOK, LastFailure: s.LastFailure,
			LastError: s.LastError, FailingSince: s.FailingSince})
	}
	if a.remote != nil {
		for _, s := range a.remote.Status() {
			x := api.ReceiverStatus{Receiver: s.Host, Kind: "alertmanager", LastOK: s.Taken, LastFailure: s.Failed, LastError: s.LastError}
			if s.Failed.After(s.Taken) {
				x.FailingSince = s.Failed
			}
			out = append(out, x)
		}
		return out
	}
	for _, s := range a.manager.Receivers() {
		out = append(out, api.ReceiverStatus{Receiver: s.Receiver, Kind: s.Kind, OK: int64(s.OK), Failed: int64(s.Failed), LastOK: s.LastSuccess,
			LastFailure: s.LastFailure, LastError: s.LastError, FailingSince: s.FailingSince})
	}
	return out
}

// testAlert sends an alert such as the rule would make.
func (a *App) testAlert(ctx context.Context, id string) (api.TestResult, error) {
	r, ok := a.rule(id)
	if !ok {
		return api.TestResult{}, fmt.Errorf("%w: %q", api.ErrUnknownRule, id)
	}
	f := alert.Finding{Rule: r.ID, Title: r.Title, Severity: r.Severity, Cluster: a.cfg.Webhook.Cluster, User: "test-user", Event: &audit.Event{}}
	f.Event.ObjectRef.Namespace, f.Event.ObjectRef.Resource = "test-namespace", "tests"
	for _, path := range r.GroupBy {
		if f.Group == nil {
			f.Group = map[string]string{}
		}
		f.Group[path] = "test"
	}
	labels := incident.Labels(&f)
	annotations := map[string]string{"summary": "a test of the rule " + r.ID, "description": strings.TrimSpace(r.Description), "runbook": r.Runbook, "count": "1",
		"link": link(a.base, &alert.Alert{Labels: labels, StartsAt: time.Now()})}
	sent, err := a.manager.Try(ctx, labels, annotations)
	if err != nil {
		return api.TestResult{}, err
	}
	out := api.TestResult{Labels: labels}
	a.mu.Lock()
	least := a.cfg.Alerts.MinSeverity
	a.mu.Unlock()
	if r.Severity.Rank() < finding.Severity(least).Rank() {
		out.MutedBy = append(out.MutedBy, fmt.Sprintf("alerts.min_severity: the rule's severity is %s, and alerts are made from %s on", r.Severity, least))
	}
	seen := map[string]bool{}
	note := func(list *[]string, text string) {
		if text != "" && !seen[text] {
			seen[text] = true
			*list = append(*list, text)
		}
	}
	for _, d := range sent {
		if d.Route == "{}" {
			d.Route = "the root route"
		}
		note(&out.Routes, d.Route)
		if d.Silenced {
			note(&out.MutedBy, "a silence")
		}
		if d.Inhibited {
			note(&out.MutedBy, "another alert")
		}
		for _, m := range d.MutedBy {
			note(&out.MutedBy, "time interval "+m)
		}
		if d.Kind != "" {
			out.Deliveries = append(out.Deliveries, api.Delivery{Receiver: d.Receiver, Kind: d.Kind, OK: d.OK, Error: d.Error, Seconds: d.Duration.Seconds()})
		}
	}
	return out, nil
}
