package app

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"whodunit/internal/alert"
	"whodunit/internal/alert/elastic"
	"whodunit/internal/alert/falcosidekick"
	"whodunit/internal/alert/file"
	"whodunit/internal/alert/incident"
	"whodunit/internal/alert/logger"
	"whodunit/internal/alert/post"
	"whodunit/internal/alert/webhook"
	"whodunit/internal/config"
	"whodunit/internal/finding"
	"whodunit/internal/match"
	"whodunit/internal/query"
	"whodunit/internal/rule/falco"
)

// feed is one place that findings go to one by one: its notifier, and its own reader and cursor of the findings' journal.
type feed struct {
	name     string // of the cursor, and the receiver's in metrics
	make     func() (alert.Notifier, error)
	floor    finding.Severity
	query    string
	silenced bool          // those whose alert is silenced too
	maxAge   time.Duration // of the event; 0: any. For what tells people
}

// feeding runs the feeds of one configuration.
type feeding struct {
	cancel context.CancelFunc
	wg     sync.WaitGroup
	pumps  []*alert.Pump
}

// named makes a feed's name of what it is and where it goes, so that adding another one or changing their order moves nobody's place.
func named(kind, place string) string {
	sum := sha256.Sum256([]byte(place))
	return kind + "-" + hex.EncodeToString(sum[:4])
}

// feeds are what the configuration names.
func (a *App) feeds(c config.Alerts) []feed {
	var out []feed
	if c.Log {
		out = append(out, feed{name: "log", floor: finding.Severity(c.LogMinSeverity), silenced: true,
			make: func() (alert.Notifier, error) { return logger.New(a.o.Log), nil }})
	}
	for _, w := range c.Webhooks {
		out = append(out, feed{name: named("webhook", w.URL), floor: finding.Severity(w.MinSeverity), query: w.Query, silenced: w.Silenced,
			make: func() (alert.Notifier, error) {
				return webhook.NewFindings(webhook.Config{SecretFile: w.HMACSecretFile,
					Post: post.Config{URL: w.URL, TokenFile: w.TokenFile, Timeout: w.Timeout.Std(), InsecureSkipVerify: w.InsecureSkipVerify}})
			}})
	}
	for _, f := range c.Falcosidekick {
		out = append(out, feed{name: named("falcosidekick", f.URL), floor: finding.Severity(f.MinSeverity), query: f.Query, silenced: f.Silenced, maxAge: c.MaxAge.Std(),
			make: func() (alert.Notifier, error) {
				return falcosidekick.New(falcosidekick.Config{Post: posting(f.URL, f.HTTP), Encode: func(x alert.Finding) ([]byte, error) {
					return falco.FindingAlert(x.Event, hostname())
				}})
			}})
	}
	for _, e := range c.Elasticsearch {
		out = append(out, feed{name: named("elastic", e.URL+" "+e.IndexPrefix+" "+e.Form), floor: finding.Severity(e.MinSeverity), query: e.Query, silenced: e.Silenced,
			make: func() (alert.Notifier, error) {
				return elastic.New(elastic.Config{Post: posting(e.URL, e.HTTP), Prefix: e.IndexPrefix, Form: elastic.Form(e.Form)})
			}})
	}
	for _, f := range c.Files {
		out = append(out, feed{name: named("file", f.Path), floor: finding.Severity(f.MinSeverity), query: f.Query, silenced: f.Silenced,
			make: func() (alert.Notifier, error) { return file.NewFindings(file.Config{Path: f.Path, Stdout: a.stdout()}) }})
	}
	return out
}

func posting(url string, h config.HTTP) post.Config {
	return post.Config{URL: url, Timeout: h.Timeout.Std(), TokenFile: h.TokenFile, Scheme: h.TokenScheme, Username: h.Username, PasswordFile: h.PasswordFile, CAFile: h.CAFile,
		CertFile: h.CertFile, KeyFile: h.KeyFile, InsecureSkipVerify: h.InsecureSkipVerify}
}

func hostname() string {
	name, err := os.Hostname()
	if err != nil {
		return "whodunit"
	}
	return name
}

// filter passes on what a feed's configuration asks for. What it holds back is counted, and stays in the journal.
type filter struct {
	alert.Notifier
	expr     match.Expr                // nil: everything
	silenced func(*alert.Finding) bool // nil: nothing is held back
	maxAge   time.Duration             // 0: any
	held     func(reason string)       // counts
}

// Notify implements alert.Notifier.
func (f *filter) Notify(ctx context.Context, findings []alert.Finding) error {
	pass := make([]alert.Finding, 0, len(findings))
	for i := range findings {
		switch x := &findings[i]; {
		case f.expr != nil && !match.Eval(f.expr, x.Event):
			f.held("query")
		case f.maxAge > 0 && x.Age(time.Now()) > f.maxAge:
			f.held("old")
		case f.silenced != nil && f.silenced(x):
			f.held("silenced")
		default:
			pass = append(pass, *x)
		}
	}
	if len(pass) == 0 {
		return nil
	}
	return f.Notifier.Notify(ctx, pass)
}

// filtered wraps what a feed makes.
func (a *App) filtered(f feed) (alert.Notifier, error) {
	n, err := f.make()
	if err != nil {
		return nil, fmt.Errorf("cannot make receiver %s: %w", f.name, err)
	}
	out := &filter{Notifier: n, maxAge: f.maxAge, held: func(reason string) { a.alertMetrics.Skipped.WithLabelValues(f.name, reason).Inc() }}
	if f.query != "" {
		if out.expr, err = query.Parse(f.query); err != nil {
			closeNotifier(n)
			return nil, fmt.Errorf("cannot make receiver %s: query %q: %w", f.name, f.query, err)
		}
	}
	if !f.silenced && a.manager != nil {
		out.silenced = a.silenced
	}
	return out, nil
}

// silenced reports whether the alert that f belongs to is silenced.
func (a *App) silenced(f *alert.Finding) bool {
	return a.manager != nil && a.manager.Silenced(incident.Labels(f))
}

// feed stops the feeds that run and starts those of c. What one has not had yet it gets from the journal. Where one of c is wrong, those
// that run go on.
func (a *App) feed(ctx context.Context, c config.Alerts) error {
	if err := a.tryFeeds(c); err != nil {
		return err
	}
	a.stopFeeding()
	fctx, cancel := context.WithCancel(ctx)
	running := &feeding{cancel: cancel}
	a.setFeeding(running)
	for _, f := range a.feeds(c) {
		n, err := a.filtered(f)
		if err != nil {
			return err
		}
		p, closeReader, err := a.pump("alert-"+f.name, f.name, n, f.floor, 0, nil)
		if err != nil {
			closeNotifier(n)
			return err
		}
		a.mu.Lock()
		running.pumps = append(running.pumps, p)
		a.mu.Unlock()
		running.wg.Go(func() {
			defer closeReader()
			defer closeNotifier(n)
			if err := p.Run(fctx); err != nil && fctx.Err() == nil {
				a.log.Error("receiver ended", "receiver", f.name, "err", err)
			}
		})
	}
	return nil
}

// pump reads the findings' journal for n from the named cursor, or from next where that is not 0. save is called in place of saving the
// cursor, if it is given.
func (a *App) pump(cursorName, name string, n alert.Notifier, floor finding.Severity, next uint64, save func(context.Context, uint64) error) (*alert.Pump, func(), error) {
	cursor, err := a.findings.Cursor(cursorName, 0)
	if err != nil {
		return nil, nil, err
	}
	reader := a.findings.Reader(cmp.Or(next, cursor.Next()))
	if save == nil {
		save = func(_ context.Context, next uint64) error { return cursor.Save(next) }
	}
	p, err := alert.New(alert.Options{Name: name, Reader: reader, Notifier: n, MinSeverity: floor, Metrics: a.alertMetrics, Logger: a.o.Log, Save: save})
	if err != nil {
		reader.Close()
		return nil, nil, fmt.Errorf("cannot make receiver %s: %w", name, err)
	}
	return p, reader.Close, nil
}

func closeNotifier(n alert.Notifier) {
	if f, ok := n.(*filter); ok {
		n = f.Notifier
	}
	if c, ok := n.(interface{ Close() }); ok {
		c.Close()
	}
}

func (a *App) setFeeding(f *feeding) {
	a.mu.Lock()
	a.feeding = f
	a.mu.Unlock()
}

// stopFeeding ends the feeds that run and waits for them.
func (a *App) stopFeeding() {
	if a.feeding != nil {
		a.feeding.cancel()
		a.feeding.wg.Wait()
		a.setFeeding(nil)
	}
}

// feedStatus is how each feed fares, but for the log.
func (a *App) feedStatus() (out []alert.Status) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.feeding == nil {
		return nil
	}
	for _, p := range a.feeding.pumps {
		if s := p.Status(); s.Name != "log" {
			out = append(out, s)
		}
	}
	return out
}

// tryFeeds makes every feed once, so that what is wrong with one is said at once.
func (a *App) tryFeeds(c config.Alerts) error {
	var errs []error
	for _, f := range a.feeds(c) {
		n, err := a.filtered(f)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		closeNotifier(n)
	}
	return errors.Join(errs...)
}
