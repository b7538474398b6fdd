// Package api is whodunit's HTTP API: searches over events and findings, live tail, rules, alerts, status, logins and tokens, health
// and metrics. openapi.yaml specifies it, and a test holds the two together.
//
// Whoever asks is authenticated on every route but health, login, the API's own description and the page's static files. Each
// question about audit data is recorded in the log: who asked what, and how much matched.
package api

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"whodunit/internal/audit"
	"whodunit/internal/auth"
	"whodunit/internal/match"
	"whodunit/internal/store"
)

// Tailer hands new records to yield as they become durable, until ctx is done or yield fails. Only Expr of the query is
// used. yield never waits for a client.
type Tailer interface {
	Tail(ctx context.Context, q store.Query, yield func(*audit.Record) error) error
}

// Set is one kind of document that can be searched.
type Set struct {
	Search store.Searcher
	Tail   Tailer // nil: tail answers 404
}

// Language is how people write queries, times and fields.
type Language struct {
	Parse func(q string) (match.Expr, error)               // an error may have a method Column() int
	Time  func(s string, now time.Time) (time.Time, error) // RFC 3339, now-1h, …
	Path  func(name string) string                         // a short field name's full path; nil: as it stands
}

// Rule is a detection rule as people see it.
type Rule struct {
	ID          string   `json:"id"`
	Title       string   `json:"title,omitempty"`
	Description string   `json:"description,omitempty"`
	Severity    string   `json:"severity,omitempty"`
	Tags        []string `json:"tags,omitempty"`
	Format      string   `json:"format,omitempty"` // native, falco, sigma, parseable, label
	File        string   `json:"file,omitempty"`
	Enabled     bool     `json:"enabled"`
	Source      string   `json:"source,omitempty"` // the rule's text; in GET rules/{id} alone
}

// Check is one part that has to be ready.
type Check struct {
	Name  string
	Ready func(ctx context.Context) error // nil: ready
}

// Options of New. Events, Language and Auth are wanted.
type Options struct {
	Events, Findings Set
	Language         Language
	Auth             *auth.Auth
	Rules            func(ctx context.Context) ([]Rule, error) // nil: no rules
	Alerts           Alerts
	Version          string
	Status           func(ctx context.Context) (any, error) // what the journal and the sources say of themselves, fit for JSON
	Ready            []Check
	Metrics          http.Handler // nil: /metrics answers 404
	MetricsAuth      bool         // /metrics wants the scope read
	UI               http.Handler // static files at /; nil: none

	Logger     *slog.Logger
	Registerer prometheus.Registerer
	Now        func() time.Time // default time.Now

	QueryTimeout time.Duration // of an answer that is not streamed; default 1 min
	WriteTimeout time.Duration // a client that takes no byte for so long is cut off; default 30 s
	MaxSearches  int           // searches at once, others wait for up to 5 s; default 8
	MaxTails     int           // live tails at once; default 32
	TailBuffer   int           // bytes held for a slow tail client before events are dropped; default 8 MiB
	Keepalive    time.Duration // default 15 s
}

// API is the handler of everything that the address for people serves. It is safe for concurrent use.
type API struct {
	o        Options
	log      *slog.Logger
	metrics  *Metrics
	mux      *http.ServeMux
	routes   []route
	openapi  []byte
	started  time.Time
	searches chan struct{}
	tails    chan struct{}

	closing   chan struct{}
	closeOnce sync.Once
}

// New makes the handler.
func New(o Options) (*API, error) {
	if o.Events.Search == nil || o.Auth == nil || o.Language.Parse == nil || o.Language.Time == nil {
		return nil, errors.New("cannot make the API: Events, Language and Auth are wanted")
	}
	o.defaults()
	doc, err := openAPIJSON(o.Version)
	if err != nil {
		return nil, err
	}
	a := &API{
		o: o, log: o.Logger.With("component", "api"), metrics: NewMetrics(o.Registerer), mux: http.NewServeMux(), openapi: doc,
		started: o.Now(), searches: make(chan struct{}, o.MaxSearches), tails: make(chan struct{}, o.MaxTails), closing: make(chan struct{}),
	}
	a.routes = a.table()
	for _, rt := range a.routes {
		a.mux.Handle(rt.method+" "+rt.path, a.handle(rt))
	}
	for pattern, rt := range a.alertmanager() {
		a.mux.Handle(pattern, a.handle(rt))
	}
	a.mux.Handle("/api/", a.handle(route{name: "unknown", public: true, anyParams: true, do: a.unknown}))
	page := route{name: "unknown", public: true, anyParams: true, do: a.unknown}
	if o.UI != nil {
		page = route{name: "ui", public: true, anyParams: true, static: true, do: func(c *call) error {
			if c.r.Method != http.MethodGet && c.r.Method != http.MethodHead {
				return a.unknown(c)
			}
			o.UI.ServeHTTP(c.w, c.r)
			return nil
		}}
	}
	a.mux.Handle("/", a.handle(page))
	return a, nil
}

func (o *Options) defaults() {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Language.Path == nil {
		o.Language.Path = func(name string) string { return name }
	}
	for _, d := range []struct {
		to *time.Duration
		is time.Duration
	}{{&o.QueryTimeout, time.Minute}, {&o.WriteTimeout, 30 * time.Second}, {&o.Keepalive, 15 * time.Second}} {
		if *d.to <= 0 {
			*d.to = d.is
		}
	}
	for _, d := range []struct {
		to *int
		is int
	}{{&o.MaxSearches, 8}, {&o.MaxTails, 32}, {&o.TailBuffer, 8 << 20}} {
		if *d.to <= 0 {
			*d.to = d.is
		}
	}
}

// ServeHTTP answers one request.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) { a.mux.ServeHTTP(w, r) }

// Close ends live tails, so that the server's Shutdown need not wait for them. Other requests are not touched.
func (a *API) Close() { a.closeOnce.Do(func() { close(a.closing) }) }

// NewServer is a server with the limits that an address open to strangers wants. Writing is limited by the handlers, because
// streams last.
func NewServer(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler: h, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute,
		MaxHeaderBytes: 512 << 10, ErrorLog: slog.NewLogLogger(log.With("component", "http").Handler(), slog.LevelDebug),
	}
}
