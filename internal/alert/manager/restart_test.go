package manager

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"whodunit/internal/alert"
)

// recorder is a receiver of our own.
type recorder struct {
	got    chan alert.Group
	closed atomic.Int32
	notify func(ctx context.Context, g alert.Group) error
}

func newRecorder() *recorder { return &recorder{got: make(chan alert.Group, 100)} }

func (r *recorder) Notify(ctx context.Context, g alert.Group) error {
	var err error
	if r.notify != nil {
		err = r.notify(ctx, g)
	}
	if err == nil {
		r.got <- g
	}
	return err
}

func (r *recorder) Close() { r.closed.Add(1) }

func (r *recorder) own(string) []Own {
	return []Own{{Kind: "recorder", Receiver: r, SendResolved: true}}
}

// clone copies a folder as a crash would leave it.
func clone(t *testing.T, from string) string {
	t.Helper()
	to := t.TempDir()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	return to
}

// The time of this test is that of its bubble: hours pass at once.
func TestCrashKeepsTheSchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, begin := newRecorder(), time.Now()
		dir := t.TempDir()
		m := start(t, Options{Dir: dir, Own: r.own})
		put(t, m, firing("alertname", "A", "cluster", "c"))
		g := <-r.got
		if d := time.Since(begin); d != 10*time.Second {
			t.Errorf("told after %v", d)
		}
		if g.Receiver != DefaultReceiver || len(g.Alerts) != 1 || g.Labels["cluster"] != "c" || g.Alerts[0].Link == "" ||
			!strings.Contains(g.Key, `alertname="A"`) {
			t.Errorf("%+v", g)
		}
		call(t, m.Handler(), "POST", "/api/v2/silences", `{"matchers":[{"name":"user","value":"eve","isRegex":false}],"createdBy":"me",
			"comment":"x","startsAt":"`+begin.Format(time.RFC3339)+`","endsAt":"`+begin.Add(90*time.Hour).Format(time.RFC3339)+`"}`, 200)
		<-time.After(time.Second) // no more is promised

		after := newRecorder()
		m2 := start(t, Options{Dir: clone(t, dir), Own: after.own})
		if !m2.Silenced(map[string]string{"user": "eve"}) {
			t.Error("the silence is lost")
		}
		put(t, m2, firing("alertname", "A", "cluster", "c"))
		if g2 := <-after.got; g2.Key != g.Key || time.Since(begin) < 4*time.Hour || time.Since(begin) > 4*time.Hour+2*time.Minute {
			t.Errorf("repeated after %v as %s", time.Since(begin), g2.Key)
		}
		stop(t, m)
		if r.closed.Load() != 1 {
			t.Error("the receiver was not closed")
		}
	})
}

func TestStopKeepsState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, r := t.TempDir(), newRecorder()
		m := start(t, Options{Dir: dir, Own: r.own})
		put(t, m, firing("alertname", "A"))
		<-r.got
		stop(t, m)
		m = start(t, Options{Dir: dir, Own: r.own})
		put(t, m, firing("alertname", "A"))
		over := firing("alertname", "A")
		<-time.After(time.Hour)
		nothing(t, r.got)
		over.EndsAt = time.Now()
		put(t, m, over)
		if g := <-r.got; !g.Alerts[0].Resolved(time.Now()) {
			t.Error("that it is over is not told after a restart")
		}
	})
}

func TestDamagedSnapshot(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"silences", "nflog"} {
		file(t, filepath.Join(dir, name), "\xff\xff this is no snapshot")
	}
	reg := prometheus.NewRegistry()
	logger, log := debugLog()
	m := start(t, Options{Dir: dir, Registerer: reg, Logger: logger})
	if n := testutil.ToFloat64(m.metrics.damaged.WithLabelValues("nflog")) + testutil.ToFloat64(m.metrics.damaged.WithLabelValues("silences")); n != 2 {
		t.Error(n)
	}
	aside, err := filepath.Glob(filepath.Join(dir, "*.damaged-*"))
	if err != nil || len(aside) != 2 || !strings.Contains(log.String(), aside[0]) {
		t.Error(aside, err, log)
	}
}

func TestSnapshotFailsAndIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, r := t.TempDir(), newRecorder()
		m := start(t, Options{Dir: dir, Own: r.own})
		blocked := filepath.Join(dir, "nflog.tmp") // a folder stands in the way
		if err := os.MkdirAll(filepath.Join(blocked, "x"), 0o700); err != nil {
			t.Fatal(err)
		}
		put(t, m, firing("alertname", "A"))
		<-r.got
		<-time.After(time.Second)
		if n := testutil.ToFloat64(m.metrics.snapshots.WithLabelValues("nflog", "error")); n != 1 {
			t.Error(n)
		}
		if err := os.RemoveAll(blocked); err != nil {
			t.Fatal(err)
		}
		<-time.After(2 * retryPause)
		if n := testutil.ToFloat64(m.metrics.snapshots.WithLabelValues("nflog", "ok")); n != 1 {
			t.Error(n)
		}
	})
}

// TestStartDelay: after a restart alerts come again one by one, in any order. One that a later one inhibits is not told, although its group has
// waited long enough.
func TestStartDelay(t *testing.T) {
	url, got := webhook(t)
	m := start(t, Options{StartDelay: 2 * time.Second, ConfigFile: yml(t, `
route: {receiver: r, group_by: [alertname], group_wait: 10ms, group_interval: 1h}
inhibit_rules: [{source_matchers: [alertname=cause], target_matchers: [alertname=symptom], equal: [cluster]}]
receivers: [{name: r, webhook_configs: [{url: URL}]}]`, "URL", url)})
	symptom, cause := firing("alertname", "symptom", "cluster", "c"), firing("alertname", "cause", "cluster", "c")
	symptom.StartsAt, cause.StartsAt = time.Now().Add(-time.Hour), time.Now().Add(-time.Hour)
	put(t, m, symptom)
	timer := time.NewTimer(100 * time.Millisecond) // another takes its time to come
	defer timer.Stop()
	<-timer.C
	put(t, m, cause)
	if names := nextNames(t, got); !slices.Equal(names, []string{"cause"}) {
		t.Errorf("told of %v", names)
	}
	nothing(t, got)
}

// TestStartTellsWholeGroups: alerts that are put one by one after a restart are told together, and once.
func TestStartTellsWholeGroups(t *testing.T) {
	url, got := webhook(t)
	m := start(t, Options{StartDelay: 2 * time.Second, ConfigFile: yml(t, `
route: {receiver: r, group_by: [cluster], group_wait: 10ms, group_interval: 1h}
receivers: [{name: r, webhook_configs: [{url: URL}]}]`, "URL", url)})
	for _, name := range []string{"one", "two"} {
		a := firing("alertname", name, "cluster", "c")
		a.StartsAt = time.Now().Add(-time.Hour)
		put(t, m, a)
		timer := time.NewTimer(100 * time.Millisecond)
		defer timer.Stop()
		<-timer.C
	}
	if names := nextNames(t, got); len(names) != 2 {
		t.Errorf("told of %v", names)
	}
	nothing(t, got)
}

func nextNames(t *testing.T, c <-chan message) []string {
	t.Helper()
	m := next(t, c)
	return m.names()
}
