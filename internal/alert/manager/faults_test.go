package manager

import (
	"context"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"whodunit/internal/alert"
)

const twoReceivers = `
route:
  receiver: both
  group_wait: 10ms
  group_interval: 1m
receivers:
- name: both
  webhook_configs:
  - url: "BAD"
  - url: "GOOD"
`

// Whatever is wrong with one receiver, it is tried again, counted, and in the way of no other.
func TestFaults(t *testing.T) {
	broken := map[string]func(n int32, w http.ResponseWriter, r *http.Request) bool{ // true: this call is fine
		"500": func(n int32, w http.ResponseWriter, _ *http.Request) bool {
			if n < 3 {
				http.Error(w, "no", http.StatusInternalServerError)
			}
			return n >= 3
		},
		"429": func(n int32, w http.ResponseWriter, _ *http.Request) bool {
			if n < 2 {
				http.Error(w, "slower", http.StatusTooManyRequests)
			}
			return n >= 2
		},
		"hang": func(n int32, _ http.ResponseWriter, r *http.Request) bool {
			if n < 2 {
				<-r.Context().Done()
			}
			return n >= 2
		},
	}
	for name, f := range broken {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var calls atomic.Int32
			fine := make(chan int32, 10)
			bad := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body) // so that the server sees when the client goes away
				if n := calls.Add(1); f(n, w, r) {
					fine <- n
				}
			}))
			t.Cleanup(bad.Close)
			good, got := webhook(t)
			m := start(t, Options{ConfigFile: yml(t, twoReceivers, "BAD", bad.URL, "GOOD", good), AttemptTimeout: 300 * time.Millisecond})
			put(t, m, firing("alertname", "A"))
			next(t, got)
			tries := next(t, fine)
			stop(t, m)
			if n := testutil.ToFloat64(m.metrics.attempts.WithLabelValues("both", "webhook", "retry")); n != float64(tries-1) {
				t.Errorf("%v counted, %d tries", n, tries)
			}
			if s := m.Receivers(); len(s) != 2 || s[0].Failed != uint64(tries-1) || s[0].OK != 1 || s[0].LastError == "" ||
				s[1].Failed != 0 || !s[0].FailingSince.IsZero() {
				t.Errorf("%+v", s)
			}
		})
	}
}

func TestBrokenTLS(t *testing.T) {
	bad := httptest.NewUnstartedServer(http.NotFoundHandler())
	bad.Config.ErrorLog = log.New(io.Discard, "", 0)
	bad.StartTLS()
	t.Cleanup(bad.Close)
	good, got := webhook(t)
	m := start(t, Options{ConfigFile: yml(t, twoReceivers, "BAD", bad.URL, "GOOD", good)})
	put(t, m, firing("alertname", "A"))
	next(t, got)
	for begin := time.Now(); m.Receivers()[0].Failed < 2 && time.Since(begin) < patience; {
		<-time.After(10 * time.Millisecond)
	}
	s := m.Receivers()[0]
	if s.FailingSince.IsZero() || !strings.Contains(s.LastError, "certificate") || testutil.ToFloat64(m.metrics.failing.WithLabelValues("both", "webhook", "0")) != 1 {
		t.Errorf("%+v", s)
	}
}

// Telegram's client does not heed a context: the end of its connection ends it.
func TestStopEndsHangingTelegram(t *testing.T) {
	came := make(chan struct{}, 10)
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		came <- struct{}{}
		<-r.Context().Done()
	}))
	t.Cleanup(s.Close)
	m := start(t, Options{ConfigFile: yml(t, "route: {receiver: x, group_wait: 1ms}\nreceivers: [{name: x, telegram_configs: [{api_url: URL, bot_token: abc, chat_id: 1}]}]", "URL", s.URL)})
	put(t, m, firing("alertname", "A"))
	next(t, came)
	begin := time.Now()
	stop(t, m)
	if d := time.Since(begin); d > 4*time.Second {
		t.Errorf("stopped after %v", d)
	}
}

// A receiver that hangs and does not heed its context neither holds up the others nor the end.
func TestDeafReceiver(t *testing.T) {
	released := make(chan struct{})
	deaf := newRecorder()
	deaf.notify = func(context.Context, alert.Group) error {
		<-released
		return errors.New("late")
	}
	r := newRecorder()
	m := start(t, Options{AttemptTimeout: 10 * time.Millisecond, ConfigFile: yml(t, "route: {receiver: x, group_wait: 1ms}\nreceivers: [{name: x}]"),
		Own: func(string) []Own { return append(deaf.own(""), r.own("")...) }})
	put(t, m, firing("alertname", "A"))
	next(t, r.got)
	begin := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if err := m.Stop(ctx); err == nil {
		t.Error("left behind, and not said")
	}
	if d := time.Since(begin); d > 5*time.Second {
		t.Errorf("stopped after %v", d)
	}
	close(released)
}

func TestOwnReceiver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRecorder()
		var at []time.Time
		answers := []error{alert.RetryAfter(errors.New("busy"), 7*time.Second), errors.New("hiccup"), nil, alert.ErrRejected}
		r.notify = func(context.Context, alert.Group) error {
			at = append(at, time.Now())
			return answers[len(at)-1]
		}
		m := start(t, Options{Own: r.own})
		put(t, m, firing("alertname", "A"))
		<-r.got
		synctest.Wait()
		if d := at[1].Sub(at[0]); d < 7*time.Second || d > 9*time.Second {
			t.Errorf("a pause of 7 s was asked for, it was %v", d)
		}
		put(t, m, firing("alertname", "B"))
		<-time.After(50 * time.Second)
		synctest.Wait()
		if len(at) != 4 {
			t.Errorf("%d attempts: what is rejected is tried again", len(at))
		}
		for result, want := range map[string]float64{"ok": 1, "retry": 2, "rejected": 1} {
			if n := testutil.ToFloat64(m.metrics.attempts.WithLabelValues(DefaultReceiver, "recorder", result)); n != want {
				t.Errorf("%s: %v", result, n)
			}
		}
		if s := m.Receivers()[0]; s.FailingSince.IsZero() || s.LastError != alert.ErrRejected.Error() {
			t.Errorf("%+v", s)
		}
	})
}
