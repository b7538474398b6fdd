// Package certs gives a server its certificate: from files that are read again when they change, or from an authority of its
// own that renews by itself.
//
// Generated files, in DIR: ca.crt (what clients trust), ca.key, server.crt, server.key. Keys are ECDSA P-256, PKCS #8 in
// PEM, mode 0600. The authority lives 10 years, the server certificate 397 days at most (what browsers accept); both are
// made anew before they expire, and the server's when the wanted names change.
package certs

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// checkEvery is how often the files are looked at, at the earliest: at a handshake, so that no goroutine is needed.
const checkEvery = 5 * time.Second

// Options of New: either CertFile and KeyFile, or Dir.
type Options struct {
	CertFile, KeyFile string   // own files, PEM
	Dir               string   // where generated files are, e.g. data_dir/tls
	Hosts             []string // names and addresses for the generated certificate besides localhost, 127.0.0.1, ::1 and the host's name

	Now        func() time.Time      // default time.Now
	Logger     *slog.Logger          // default: none
	Registerer prometheus.Registerer // default: not registered
	Name       string                // the label "listener" of the metrics, e.g. server
}

// Source is a server's certificate. It is safe for concurrent use.
type Source struct {
	o       Options
	metrics *Metrics

	mu      sync.Mutex
	cert    *tls.Certificate
	stamp   string // size and times of the files that cert is from
	failed  string // stamp of the files that could not be read, so that it is said once
	checked time.Time
}

// Metrics of certificates.
type Metrics struct {
	reloads *prometheus.CounterVec
	expiry  *prometheus.GaugeVec
}

// NewMetrics makes the metrics and registers them with reg unless it is nil. Several sources may share them.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		reloads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "whodunit_tls_reloads_total", Help: "Certificates read again or renewed, by result (ok, error).",
		}, []string{"listener", "result"}),
		expiry: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "whodunit_tls_certificate_expiry_timestamp_seconds", Help: "When the certificate in use expires.",
		}, []string{"listener"}),
	}
	if reg == nil {
		return m
	}
	var already prometheus.AlreadyRegisteredError
	if err := reg.Register(m.reloads); errors.As(err, &already) {
		m.reloads, _ = already.ExistingCollector.(*prometheus.CounterVec)
	}
	if err := reg.Register(m.expiry); errors.As(err, &already) {
		m.expiry, _ = already.ExistingCollector.(*prometheus.GaugeVec)
	}
	return m
}

// New reads or makes the certificate.
func New(o Options) (*Source, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Name == "" {
		o.Name = "server"
	}
	o.Logger = o.Logger.With("component", "tls", "listener", o.Name)
	if o.Dir != "" {
		o.CertFile, o.KeyFile = o.Dir+"/server.crt", o.Dir+"/server.key"
	}
	s := &Source{o: o, metrics: NewMetrics(o.Registerer)}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.refresh(); err != nil {
		return nil, err
	}
	return s, nil
}

// Config is a server configuration that always shows the current certificate. clientCAs may be nil; otherwise a client
// may show a certificate of one of them.
func (s *Source) Config(clientCAs *x509.CertPool) *tls.Config {
	c := &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return s.Certificate(), nil },
		NextProtos:     []string{"h2", "http/1.1"},
	}
	if clientCAs != nil {
		c.ClientCAs, c.ClientAuth = clientCAs, tls.VerifyClientCertIfGiven
	}
	return c
}

// Certificate is the current certificate. Where new files cannot be used it stays the old one, and the log says why.
func (s *Source) Certificate() *tls.Certificate {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.o.Now().Sub(s.checked) >= checkEvery {
		if err := s.refresh(); err != nil {
			if now := s.stampNow(); now != s.failed {
				s.failed = now
				s.metrics.reloads.WithLabelValues(s.o.Name, "error").Inc()
				s.o.Logger.Error("cannot use the new certificate: the old one stays in use", "error", err, "expires", s.cert.Leaf.NotAfter)
			}
		}
	}
	return s.cert
}

// refresh brings cert up to date with the files, after renewing them where they are ours. s.mu is held.
func (s *Source) refresh() error {
	s.checked = s.o.Now()
	if s.o.Dir != "" {
		if err := s.renew(); err != nil {
			return err
		}
	}
	stamp := s.stampNow()
	if s.cert != nil && stamp == s.stamp {
		return nil
	}
	cert, err := tls.LoadX509KeyPair(s.o.CertFile, s.o.KeyFile)
	if err != nil {
		return fmt.Errorf("cannot load certificate %s with key %s: %w", s.o.CertFile, s.o.KeyFile, err)
	}
	if s.cert != nil {
		s.metrics.reloads.WithLabelValues(s.o.Name, "ok").Inc()
		s.o.Logger.Info("certificate replaced", "expires", cert.Leaf.NotAfter)
	}
	if s.o.Now().After(cert.Leaf.NotAfter) {
		s.o.Logger.Error("the certificate has expired", "file", s.o.CertFile, "expired", cert.Leaf.NotAfter)
	}
	s.metrics.expiry.WithLabelValues(s.o.Name).Set(float64(cert.Leaf.NotAfter.Unix()))
	s.cert, s.stamp, s.failed = &cert, stamp, ""
	return nil
}

func (s *Source) stampNow() string {
	var stamp string
	for _, f := range []string{s.o.CertFile, s.o.KeyFile} {
		if info, err := os.Stat(f); err == nil {
			stamp += fmt.Sprintf("%d@%d ", info.Size(), info.ModTime().UnixNano())
		} else if errors.Is(err, fs.ErrNotExist) {
			stamp += "missing "
		} else {
			stamp += "unreadable "
		}
	}
	return stamp
}

// Pool reads certificates in PEM that are to be trusted.
func Pool(file string) (*x509.CertPool, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("cannot read trusted certificates: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(b) {
		return nil, fmt.Errorf("cannot read trusted certificates: %s holds none in PEM", file)
	}
	return pool, nil
}
