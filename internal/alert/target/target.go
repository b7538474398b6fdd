// Package target posts the alerts of Parseable's rules to the targets that their files name, at the targets' own intervals and in their
// form. docs/reference/rules-parseable.md says what is posted when.
//
// A Pump feeds the Notifier, which only changes its schedule; Run posts what is due. Each alert has for each target its own turn, so a target
// that is slow or dead holds up no other. The schedule is a file: after a restart it goes on, and what was in flight is posted again.
package target

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"reflect"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"whodunit/internal/alert"
	"whodunit/internal/alert/post"
	"whodunit/internal/finding"
	"whodunit/internal/rule"
)

// The values of Options.Compat.
const (
	Default = "default" // a rule that fires on is one alert, which is resolved when it has been quiet for a while
	Strict  = "strict"  // as Parseable does it: each target has its round of messages, and what is composite never resolves
)

// Options of a Notifier. Rule is wanted, the others have defaults.
type Options struct {
	// Rule gives a rule in force by its id. It is asked whenever something may be due, so a rule that is gone has no more messages; rules are to be
	// loaded before Run. It and Silenced must be fast and must not call the Notifier.
	Rule func(id string) (*rule.Rule, bool)
	// Silenced reports whether a finding begins no alert. Alerts that have begun go on. nil: none is.
	Silenced     func(f *alert.Finding) bool
	Compat       string        // Default (or ""), or Strict
	ResolveAfter time.Duration // without a finding an alert is over after that; 0: 5 minutes. Not of Strict
	MaxAge       time.Duration // findings of events older than that begin nothing; 0: 24 hours
	MaxActive    int           // alerts at a time, each target's counted; 0: 1,000
	StateFile    string        // of the schedule; "": it is not kept
	Deployment   Deployment
	Timeout      time.Duration    // of one post; 0: 10 s
	Now          func() time.Time // nil: time.Now
	Logger       *slog.Logger
	Registerer   prometheus.Registerer // nil: unregistered
}

// Notifier is an alert.Notifier with a sender of its own. Notify, Save and Next are safe for concurrent use with Run.
type Notifier struct {
	o      Options
	m      *metrics
	send   func(ctx context.Context, c *client, r post.Request) error
	wake   chan struct{} // holds one
	saving sync.Mutex    // before mu

	mu      sync.Mutex
	s       schedule
	nextSeq uint64
	known   bool // nextSeq is of the file or of a finding
	clients map[clientKey]*client
}

// client posts to one target. It is made when it is needed first, and again when the target has changed.
type client struct {
	rule   *rule.Rule // that it was looked up in last
	target rule.Target
	*post.Client
	err error // the target cannot be posted to
}

type clientKey struct {
	rule   string
	target int
}

// New checks the options and reads the state. The error is permanent.
func New(o Options) (*Notifier, error) {
	if o.Rule == nil {
		return nil, errors.New("cannot make targets: rules are wanted")
	}
	if o.Compat = cmp.Or(o.Compat, Default); o.Compat != Default && o.Compat != Strict {
		return nil, fmt.Errorf("cannot make targets: compat is %.60q; %s or %s is expected", o.Compat, Default, Strict)
	}
	if o.Silenced == nil {
		o.Silenced = func(*alert.Finding) bool { return false }
	}
	o.ResolveAfter = cmp.Or(o.ResolveAfter, 5*time.Minute)
	o.MaxAge = cmp.Or(o.MaxAge, 24*time.Hour)
	o.MaxActive = cmp.Or(o.MaxActive, 1000)
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	o.Logger = o.Logger.With("component", "targets")
	n := &Notifier{o: o, m: newMetrics(o.Registerer), wake: make(chan struct{}, 1), clients: map[clientKey]*client{},
		s: schedule{strict: o.Compat == Strict, resolveAfter: o.ResolveAfter, most: o.MaxActive, jitter: rand.Float64, runs: map[key]*run{}}}
	n.send = func(ctx context.Context, c *client, r post.Request) error {
		_, err := c.Do(ctx, r)
		return err
	}
	if err := n.load(); err != nil {
		return nil, err
	}
	return n, nil
}

// Next is the sequence number of the first finding that Notify wants. ok is false where there was no state yet.
func (n *Notifier) Next() (next uint64, ok bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.nextSeq, n.known
}

// Save makes durable that all findings before next were given to Notify. It is the Pump's.
func (n *Notifier) Save(_ context.Context, next uint64) error {
	n.mu.Lock()
	n.nextSeq, n.known = max(n.nextSeq, next), true
	n.mu.Unlock()
	return n.write()
}

// Notify implements alert.Notifier. It never fails and posts nothing itself. A finding that it was given before is passed over.
func (n *Notifier) Notify(_ context.Context, findings []alert.Finding) error {
	now := n.o.Now()
	n.mu.Lock()
	for i := range findings {
		if f := &findings[i]; f.Seq >= n.nextSeq {
			n.take(f, now)
			n.nextSeq, n.known = f.Seq+1, true
		}
	}
	n.mu.Unlock()
	select {
	case n.wake <- struct{}{}:
	default:
	}
	return nil
}

func (n *Notifier) rule(id string) *rule.Rule {
	if r, ok := n.o.Rule(id); ok && r.Off == "" {
		return r
	}
	return nil
}

// take is one finding's effect on the schedule.
func (n *Notifier) take(f *alert.Finding, now time.Time) {
	r := n.rule(f.Rule)
	if r == nil || len(r.Targets) == 0 {
		return
	}
	if f.State == finding.Resolved {
		for i := range r.Targets {
			n.s.resolve(key{r.ID, f.Cluster, i}, now)
		}
		return
	}
	switch {
	case n.o.Silenced(f):
		n.m.skip("silenced")
		return
	case f.Age(now) > n.o.MaxAge:
		n.m.skip("old")
		return
	}
	message := rule.Shorten(f.Message, maxText)
	for i := range r.Targets {
		k := key{r.ID, f.Cluster, i}
		if n.s.runs[k] == nil && n.client(r, i).err != nil {
			n.m.skip("endpoint")
			continue
		}
		if !n.s.fire(k, &r.Targets[i], message, now) {
			n.m.skip("too_many")
		}
	}
}

// client gives what posts to a target. That one cannot be posted to is logged once.
func (n *Notifier) client(r *rule.Rule, i int) *client {
	k, t := clientKey{r.ID, i}, &r.Targets[i]
	c := n.clients[k]
	if c != nil && (c.rule == r || reflect.DeepEqual(c.target, *t)) {
		c.rule = r
		return c
	}
	if c != nil {
		c.close()
	}
	c = &client{rule: r, target: *t}
	c.Client, c.err = post.New(post.Config{URL: t.Endpoint, Timeout: n.o.Timeout, Headers: t.Headers, Username: t.Username, Password: t.Password,
		InsecureSkipVerify: t.SkipTLSCheck, Now: n.o.Now})
	n.clients[k] = c
	if c.err != nil {
		n.o.Logger.Warn("target cannot be posted to; its alerts are only counted", "rule", r.ID, "file", r.Where(), "target", i+1, "type", t.Type, "error", c.err)
	}
	return c
}

func (c *client) close() {
	if c.Client != nil {
		c.Close()
	}
}
