package app

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"sync"

	"whodunit/internal/alert"
	"whodunit/internal/alert/logger"
	"whodunit/internal/alert/post"
	"whodunit/internal/alert/webhook"
	"whodunit/internal/config"
	"whodunit/internal/finding"
)

// receiver is one place that findings go to: its notifier, and its own reader and cursor of the findings' journal.
type receiver struct {
	name  string
	make  func() (alert.Notifier, error)
	floor finding.Severity
}

// notifying runs the receivers of one configuration.
type notifying struct {
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// receivers are what the configuration names. A webhook's name, and so its cursor, comes from its URL: adding another one or
// changing their order moves nobody's place.
func (a *App) receivers(c config.Alerts) []receiver {
	var out []receiver
	if c.Log {
		out = append(out, receiver{name: "log", floor: finding.Severity(c.LogMinSeverity), make: func() (alert.Notifier, error) { return logger.New(a.o.Log), nil }})
	}
	for _, w := range c.Webhooks {
		sum := sha256.Sum256([]byte(w.URL))
		out = append(out, receiver{
			name: "webhook-" + hex.EncodeToString(sum[:4]), floor: finding.Severity(w.MinSeverity),
			make: func() (alert.Notifier, error) {
				return webhook.NewFindings(webhook.Config{SecretFile: w.HMACSecretFile,
					Post: post.Config{URL: w.URL, TokenFile: w.TokenFile, Timeout: w.Timeout.Std(), InsecureSkipVerify: w.InsecureSkipVerify}})
			},
		})
	}
	return out
}

// notify stops the receivers that run and starts those of c. What a receiver has not had yet it gets from the journal. Where one of
// c is wrong, those that run go on.
func (a *App) notify(ctx context.Context, c config.Alerts) error {
	if err := a.tryReceivers(c); err != nil {
		return err
	}
	a.stopNotifying()
	nctx, cancel := context.WithCancel(ctx)
	n := &notifying{cancel: cancel}
	a.notifying = n
	for _, r := range a.receivers(c) {
		p, closeReader, err := a.pump(r)
		if err != nil {
			return err
		}
		n.wg.Go(func() {
			defer closeReader()
			if err := p.Run(nctx); err != nil && nctx.Err() == nil {
				a.log.Error("receiver ended", "receiver", r.name, "err", err)
			}
		})
	}
	return nil
}

func (a *App) pump(r receiver) (*alert.Pump, func(), error) {
	n, err := r.make()
	if err != nil {
		return nil, nil, err
	}
	cursor, err := a.findings.Cursor("alert-"+r.name, 0)
	if err != nil {
		return nil, nil, err
	}
	reader := a.findings.Reader(cursor.Next())
	p, err := alert.New(alert.Options{Name: r.name, Reader: reader, Notifier: n, MinSeverity: r.floor, Metrics: a.alertMetrics, Logger: a.o.Log,
		Save: func(_ context.Context, next uint64) error { return cursor.Save(next) }})
	if err != nil {
		reader.Close()
		return nil, nil, fmt.Errorf("cannot make receiver %s: %w", r.name, err)
	}
	return p, func() { closeNotifier(n); reader.Close() }, nil
}

func closeNotifier(n alert.Notifier) {
	if c, ok := n.(interface{ Close() }); ok {
		c.Close()
	}
}

// stopNotifying ends the receivers that run and waits for them.
func (a *App) stopNotifying() {
	if a.notifying != nil {
		a.notifying.cancel()
		a.notifying.wg.Wait()
		a.notifying = nil
	}
}

// makeAlerts checks the receivers, so that a wrong one is said at the start.
func (a *App) makeAlerts() error {
	a.alertMetrics = alert.NewMetrics(a.reg)
	return a.tryReceivers(a.cfg.Alerts)
}

func (a *App) tryReceivers(c config.Alerts) error {
	for _, r := range a.receivers(c) {
		n, err := r.make()
		if err != nil {
			return err
		}
		closeNotifier(n)
	}
	return nil
}
