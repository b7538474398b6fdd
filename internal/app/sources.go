package app

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"

	"whodunit/internal/audit"
	"whodunit/internal/auth/certs"
	"whodunit/internal/config"
	"whodunit/internal/journal"
	"whodunit/internal/source"
	"whodunit/internal/source/file"
	"whodunit/internal/source/stdin"
	"whodunit/internal/source/webhook"
)

// emit is what every source hands its batches to.
func (a *App) emit(ctx context.Context, b audit.Batch) error {
	err := a.events.Append(ctx, b)
	if errors.Is(err, journal.ErrFull) {
		return fmt.Errorf("%w: %w", source.ErrPressure, err)
	}
	return err
}

// makeSources builds what the configuration names.
func (a *App) makeSources() error {
	if a.cfg.Webhook.Enabled {
		if err := a.makeWebhook(); err != nil {
			return err
		}
	}
	if err := a.makeFiles(); err != nil {
		return err
	}
	if a.cfg.Stdin && a.o.Stdin != nil {
		s, err := stdin.New(stdin.Config{Name: "stdin", Cluster: a.cfg.Webhook.Cluster, Reader: io.NopCloser(a.o.Stdin),
			Reject: a.rejects.Reject, Metrics: stdin.NewMetrics(a.reg), Logger: a.o.Log})
		if err != nil {
			return err
		}
		a.sources = append(a.sources, namedSource{"stdin", s})
	}
	return nil
}

func (a *App) makeFiles() error {
	metrics := file.NewMetrics(a.reg)
	for i, f := range a.cfg.Files {
		name := fmt.Sprintf("file-%d", i+1) // the checkpoint's name too: it stays when other sources come behind it
		dir := filepath.Join(a.cfg.DataDir, "sources")
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("cannot keep checkpoints: %w", err)
		}
		s, err := file.New(file.Config{Name: name, Cluster: f.Cluster, Globs: f.Paths, FromEnd: f.Start == "end", StateDir: dir, Progress: a.o.Backfill,
			Reject: a.rejects.Reject, Metrics: metrics, Logger: a.o.Log})
		if err != nil {
			return err
		}
		a.sources = append(a.sources, namedSource{name, s})
	}
	return nil
}

func (a *App) makeWebhook() error {
	c := a.cfg.Webhook
	var clients *x509.CertPool
	if c.TLS.ClientCAFile != "" {
		var err error
		if clients, err = certs.Pool(c.TLS.ClientCAFile); err != nil {
			return err
		}
	}
	conf, err := a.tls("webhook", config.TLS{Mode: c.TLS.Mode, CertFile: c.TLS.CertFile, KeyFile: c.TLS.KeyFile}, clients)
	if err != nil {
		return err
	}
	if a.webhookListener, err = listen(c.Listen, "webhook.listen"); err != nil {
		return err
	}
	s, err := webhook.New(webhook.Config{Name: "webhook", Cluster: c.Cluster, Listener: a.webhookListener, TLS: conf, Authenticate: a.ingester(clients != nil),
		MaxBodyBytes: int64(c.MaxBody), MaxInFlightBytes: max(int64(c.MaxInFlight), 2*int64(c.MaxBody)), Reject: a.rejects.Reject,
		Metrics: webhook.NewMetrics(a.reg), Logger: a.o.Log})
	if err != nil {
		return err
	}
	a.sources = append(a.sources, namedSource{"webhook", s})
	return nil
}

// ingester lets in who may send events: a client certificate of the configured authority, or a token with the scope.
func (a *App) ingester(byCert bool) webhook.Authenticator {
	if !byCert {
		return a.auth.Ingest
	}
	return webhook.AnyOf(webhook.ClientCert(func(*x509.Certificate) bool { return true }), a.auth.Ingest)
}

// tls is the configuration of one address, nil for plain HTTP.
func (a *App) tls(name string, c config.TLS, clients *x509.CertPool) (*tls.Config, error) {
	if c.Mode == "off" {
		return nil, nil
	}
	o := certs.Options{Name: name, Logger: a.o.Log, Registerer: a.reg}
	if c.Mode == "files" {
		o.CertFile, o.KeyFile = c.CertFile, c.KeyFile
		s, err := certs.New(o)
		if err != nil {
			return nil, err
		}
		return s.Config(clients), nil
	}
	if a.generated == nil { // one for both addresses, so that nothing is made twice
		o.Name, o.Dir = "generated", filepath.Join(a.cfg.DataDir, "tls")
		for _, l := range []string{a.cfg.Server.Listen, a.cfg.Webhook.Listen} {
			if host, _, err := net.SplitHostPort(l); err == nil && host != "" {
				o.Hosts = append(o.Hosts, host)
			}
		}
		var err error
		if a.generated, err = certs.New(o); err != nil {
			return nil, err
		}
	}
	return a.generated.Config(clients), nil
}

func listen(addr, field string) (net.Listener, error) {
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", addr) // which is at once
	if err != nil {
		return nil, fmt.Errorf("cannot listen (%s): %w", field, err)
	}
	return l, nil
}

// runSource runs a source and starts it again when it fails, later each time.
func (a *App) runSource(ctx context.Context, s namedSource) {
	for pause := time.Second; ; pause = min(2*pause, time.Minute) {
		a.sourceState(s.name, "")
		err := s.Run(ctx, a.emit)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			a.log.Info("source has come to its end", "source", s.name)
			return
		}
		a.sourceState(s.name, err.Error())
		if s.name == "webhook" { // its listener is gone: only a new start helps
			a.failed <- err
			return
		}
		a.log.Error("source failed; it is started again", "source", s.name, "in", pause, "err", err)
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return
		}
	}
}

func (a *App) sourceState(name, err string) {
	a.mu.Lock()
	a.running[name] = err
	a.mu.Unlock()
}
