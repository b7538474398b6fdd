// Package webhook receives what the API server's audit webhook backend sends (kube-apiserver
// --audit-webhook-config-file): POSTs of EventLists, answered with 200 when they are durable and not before.
//
// How that backend behaves decides the answers: everything but a success is tried 5 times and then dropped, and
// Retry-After: 1 buys it the most tries; so pressure is answered with 503 or 429 and Retry-After: 1, within its 30 s.
package webhook

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"whodunit/internal/audit"
	"whodunit/internal/envelope"
	"whodunit/internal/source"
)

// Defaults of Config.
const (
	DefaultMaxBodyBytes     = 100 << 20
	DefaultMaxInFlightBytes = 512 << 20
	DefaultMaxRequests      = 256
	DefaultAnswerWithin     = 25 * time.Second // the API server gives up after 30 s
	DefaultDrain            = 4 * time.Second
)

// Authenticator says who sends the request, and whether it may. It is asked before the body is read, from many
// goroutines at once.
type Authenticator func(*http.Request) (who string, ok bool)

// Config of a Source. Name and Authenticate are required; every other zero value takes its default.
type Config struct {
	Name         string       // in Origin and metrics
	Cluster      string       // of events posted to any path but /clusters/NAME
	Listener     net.Listener // served, and closed, by Run; where nil, somebody else's server uses the Source as a handler
	TLS          *tls.Config  // for Listener; nil: plain HTTP/1.1 and HTTP/2
	Authenticate Authenticator

	MaxBodyBytes     int64         // of one body, decompressed
	MaxInFlightBytes int64         // of all bodies in memory; at least twice MaxBodyBytes
	MaxRequests      int           // in flight
	AnswerWithin     time.Duration // reading and emitting together, from a request's begin
	Drain            time.Duration // for requests in flight when Run's context ends

	Decode  envelope.Decode // envelope.EventList where nil
	Reject  source.Reject   // nil: what is refused is not kept
	Metrics *Metrics
	Logger  *slog.Logger
}

// Source is the receiver: a source.Source and an http.Handler. Safe for concurrent use.
type Source struct {
	cfg    Config
	bytes  *budget
	slots  chan struct{}
	hard   context.Context // ends when the time to drain is over
	cancel context.CancelFunc

	mu   sync.Mutex
	emit source.Emit // nil while Run does not run
	busy sync.WaitGroup
}

// New checks cfg. The error is permanent.
func New(cfg Config) (*Source, error) {
	if cfg.Name == "" || cfg.Authenticate == nil {
		return nil, errors.New("cannot make a webhook source: a name and an authenticator are needed")
	}
	orDefault(&cfg.MaxBodyBytes, DefaultMaxBodyBytes)
	orDefault(&cfg.MaxInFlightBytes, max(DefaultMaxInFlightBytes, 2*cfg.MaxBodyBytes))
	orDefault(&cfg.MaxRequests, DefaultMaxRequests)
	orDefault(&cfg.AnswerWithin, DefaultAnswerWithin)
	orDefault(&cfg.Drain, DefaultDrain)
	if cfg.MaxInFlightBytes < 2*cfg.MaxBodyBytes { // a growing body needs its old and its new buffer for a moment
		return nil, fmt.Errorf("cannot make a webhook source: %d bytes for all bodies are less than twice the %d for one", cfg.MaxInFlightBytes, cfg.MaxBodyBytes)
	}
	if cfg.Cluster != "" && !validCluster(cfg.Cluster) {
		return nil, fmt.Errorf("cannot make a webhook source: cluster name %.300q is not of %s", cfg.Cluster, clusterForm)
	}
	if cfg.Decode == nil {
		cfg.Decode = envelope.EventList
	}
	if cfg.Reject == nil {
		cfg.Reject = func(source.Rejected) {}
	}
	if cfg.Metrics == nil {
		cfg.Metrics = NewMetrics(nil)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	cfg.Logger = cfg.Logger.With("component", "source/webhook", "source", cfg.Name)
	hard, cancel := context.WithCancel(context.Background())
	return &Source{
		cfg: cfg, hard: hard, cancel: cancel,
		bytes: &budget{max: cfg.MaxInFlightBytes, gauge: cfg.Metrics.inFlight},
		slots: make(chan struct{}, cfg.MaxRequests),
	}, nil
}

func orDefault[T int | int64 | time.Duration](v *T, def T) {
	if *v <= 0 {
		*v = def
	}
}

// Run takes requests until ctx is done, then finishes those in flight within Config.Drain. A Source runs once.
func (s *Source) Run(ctx context.Context, emit source.Emit) error {
	defer s.cancel()
	s.mu.Lock()
	s.emit = emit
	s.mu.Unlock()
	if s.cfg.Listener == nil {
		<-ctx.Done()
		s.drain(nil)
		return nil
	}
	srv := s.server()
	served := make(chan error, 1)
	go func() {
		if s.cfg.TLS != nil {
			served <- srv.ServeTLS(s.cfg.Listener, "", "")
		} else {
			served <- srv.Serve(s.cfg.Listener)
		}
	}()
	select {
	case err := <-served:
		s.drain(srv)
		return fmt.Errorf("cannot serve webhook source %s on %s: %w", s.cfg.Name, s.cfg.Listener.Addr(), err)
	case <-ctx.Done():
	}
	s.drain(srv)
	<-served //nolint:errcheck // http.ErrServerClosed
	return nil
}

// drain refuses new requests and waits for those in flight, at the latest until the deadline.
func (s *Source) drain(srv *http.Server) {
	s.mu.Lock()
	s.emit = nil
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), s.cfg.Drain)
	defer cancel()
	stop := context.AfterFunc(ctx, s.cancel) // emits in flight give up
	defer stop()
	if srv != nil {
		if err := srv.Shutdown(ctx); err != nil {
			s.cfg.Logger.Warn("requests were cut off at shutdown; the API server sends them again", "err", err)
			_ = srv.Close()
		}
	}
	s.busy.Wait()
}

// begin admits one request while Run runs.
func (s *Source) begin() (source.Emit, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.emit == nil {
		return nil, false
	}
	s.busy.Add(1)
	return s.emit, true
}

func (s *Source) server() *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(s.cfg.TLS == nil)
	return &http.Server{
		Handler:           s,
		TLSConfig:         s.cfg.TLS.Clone(), // Serve adds to it
		Protocols:         protocols,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: s.cfg.MaxRequests + 1, SendPingTimeout: time.Minute},
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       s.cfg.AnswerWithin,
		WriteTimeout:      s.cfg.AnswerWithin + 5*time.Second,
		IdleTimeout:       5 * time.Minute, // a quiet cluster keeps its connection
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(s.cfg.Logger.Handler(), slog.LevelDebug),
	}
}

// origin names the peer, as the position in a source that has none.
func (s *Source) origin(r *http.Request, who string) audit.Origin {
	pos := r.RemoteAddr
	if who != "" {
		pos = fmt.Sprintf("%s (%.100q)", pos, who)
	}
	return audit.Origin{Source: s.cfg.Name, Position: pos}
}
