package incident

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"whodunit/internal/alert"
	"whodunit/internal/audit"
	"whodunit/internal/finding"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// clock is a clock that tests set.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2026, 11, 21, 13, 0, 0, 0, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// taker remembers what it took.
type taker struct {
	mu   sync.Mutex
	fail func(alerts []alert.Alert) error
	got  [][]alert.Alert
}

func (r *taker) Put(_ context.Context, alerts []alert.Alert) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fail != nil {
		if err := r.fail(alerts); err != nil {
			return err
		}
	}
	r.got = append(r.got, alerts)
	return nil
}

func (r *taker) take() []alert.Alert {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []alert.Alert
	for _, g := range r.got {
		out = append(out, g...)
	}
	r.got = nil
	return out
}

func tracker(t testing.TB, c *clock, o Options) (*Tracker, *taker) {
	t.Helper()
	r := &taker{}
	if o.Taker == nil {
		o.Taker = r
	}
	o.Now = c.Now
	tr, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return tr, r
}

// read makes a finding as a Pump does: by way of its document.
func read(t testing.TB, seq uint64, rule, user, namespace string, at time.Time, change func(*finding.Finding)) alert.Finding {
	t.Helper()
	ev, err := audit.Parse("prod", fmt.Appendf(nil, `{"auditID":"audit-%d","stage":"ResponseComplete","verb":"create","user":{"username":%q},"sourceIPs":["9.9.9.9","10.0.0.1"],`+
		`"objectRef":{"resource":"pods","subresource":"exec","namespace":%q,"name":"web"},"stageTimestamp":%q}`,
		seq, user, namespace, at.Format("2006-01-02T15:04:05.000000Z")))
	if err != nil {
		t.Fatal(err)
	}
	f := finding.Finding{Rule: rule, Title: "Rule " + rule, Severity: finding.High, Message: fmt.Sprintf("%s ran a command, %d", user, seq),
		Events: []finding.Evidence{{AuditID: ev.AuditID, Identity: ev.Identity().String()}}}
	if change != nil {
		change(&f)
	}
	doc, err := f.Event(&ev)
	if err != nil {
		t.Fatal(err)
	}
	return alert.Read(&audit.Record{Seq: seq, Event: doc})
}

func notify(t testing.TB, tr *Tracker, fs ...alert.Finding) {
	t.Helper()
	if err := tr.Notify(t.Context(), fs); err != nil {
		t.Fatal(err)
	}
}

func put(t testing.TB, tr *Tracker) {
	t.Helper()
	if _, err := tr.put(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestAnAlertTellsItsFindings(t *testing.T) {
	t.Parallel()
	c := newClock()
	tr, r := tracker(t, c, Options{
		Rule: func(id string) (Info, bool) {
			return Info{Description: "Somebody\nruns commands.", References: []string{"CVE-1", "https://example.com/r"}}, id == "exec"
		},
		Link: func(a *alert.Alert) string { return "https://whodunit/alerts?rule=" + a.Labels["rule"] },
		Command: func(ev *audit.Event) string {
			return "kubectl exec -n " + ev.ObjectRef.Namespace + " " + ev.ObjectRef.Name
		},
	})
	first, last := c.Now().Add(-time.Minute), c.Now().Add(-time.Second)
	a, b := read(t, 1, "exec", "alice", "shop", first, nil), read(t, 2, "exec", "alice", "shop", last, nil)
	notify(t, tr, a, b)
	put(t, tr)
	want := []alert.Alert{{
		Labels: map[string]string{"alertname": "Rule exec", "severity": "high", "cluster": "prod", "rule": "exec", "user": "alice", "namespace": "shop", "resource": "pods/exec"},
		Annotations: map[string]string{"summary": "alice ran a command, 2", "description": "Somebody runs commands.", "command": "kubectl exec -n shop web",
			"runbook": "https://example.com/r", "link": "https://whodunit/alerts?rule=exec", "source_ip": "10.0.0.1", "count": "2",
			"first_event": "audit-1 " + a.Events[0].Identity, "last_event": "audit-2 " + b.Events[0].Identity,
			"first_time": first.Format(time.RFC3339), "last_time": last.Format(time.RFC3339)},
		StartsAt: first, EndsAt: c.Now().Add(5 * time.Minute), Link: "https://whodunit/alerts?rule=exec",
	}}
	if d := cmp.Diff(want, r.take()); d != "" {
		t.Errorf("put (-want +got):\n%s", d)
	}
	if st := tr.Active(); len(st) != 1 || st[0].Count != 2 || !st[0].FirstTime.Equal(first) || !st[0].LastTime.Equal(last) {
		t.Errorf("active: %+v", st)
	}
}

func TestAnAlertEndsWhenItsFindingsStop(t *testing.T) {
	t.Parallel()
	c := newClock()
	tr, r := tracker(t, c, Options{})
	old := c.Now().Add(-time.Hour) // a delayed delivery
	notify(t, tr, read(t, 1, "r", "u", "n", old, nil))
	put(t, tr)
	c.add(4 * time.Minute)
	notify(t, tr, read(t, 2, "r", "u", "n", old, nil))
	put(t, tr)
	c.add(4 * time.Minute)
	put(t, tr)
	if st := tr.Active(); len(st) != 1 || st[0].Count != 2 {
		t.Fatalf("after 4 minutes of quiet: %+v", st)
	}
	r.take()
	c.add(time.Minute)
	put(t, tr)
	if got := r.take(); len(got) != 1 || !got[0].Resolved(c.Now()) || got[0].Annotations["count"] != "2" {
		t.Fatalf("after 5 minutes of quiet: %+v", got)
	}
	put(t, tr)
	if got := r.take(); len(got) != 0 {
		t.Errorf("put again: %+v", got)
	}
	notify(t, tr, read(t, 3, "r", "u", "n", c.Now(), nil))
	if st := tr.Active(); len(st) != 1 || st[0].Count != 1 {
		t.Errorf("a new one: %+v", st)
	}
	if s, e := testutil.ToFloat64(tr.m.started), testutil.ToFloat64(tr.m.resolved); s != 2 || e != 1 {
		t.Errorf("started %v, resolved %v", s, e)
	}
}

func TestPutsAreFew(t *testing.T) {
	t.Parallel()
	c := newClock()
	tr, r := tracker(t, c, Options{})
	for seq := range uint64(600) { // ten minutes of a finding a second
		notify(t, tr, read(t, seq+1, "r", "u", "n", c.Now(), nil))
		put(t, tr)
		c.add(time.Second)
	}
	if got := r.take(); len(got) != 20 {
		t.Errorf("%d puts, want one in 30 s", len(got))
	}
	c.add(time.Minute)
	put(t, tr)
	if got := r.take(); len(got) != 1 {
		t.Errorf("%d puts a minute later, want 1", len(got))
	}
}

func TestResolvedFindingEndsItsAlert(t *testing.T) {
	t.Parallel()
	c := newClock()
	tr, r := tracker(t, c, Options{})
	over := func(f *finding.Finding) { f.State = finding.Resolved }
	notify(t, tr, read(t, 1, "r", "u", "n", c.Now(), nil), read(t, 2, "r", "other", "n", c.Now(), over))
	put(t, tr)
	r.take()
	notify(t, tr, read(t, 3, "r", "u", "n", c.Now(), over))
	put(t, tr)
	if got := r.take(); len(got) != 1 || !got[0].Resolved(c.Now()) || got[0].Annotations["count"] != "1" || len(tr.Active()) != 0 {
		t.Errorf("put %+v, active %+v", got, tr.Active())
	}
	if n := testutil.ToFloat64(tr.m.skipped.WithLabelValues("no_alert")); n != 1 {
		t.Errorf("skipped: %v", n)
	}
}

func TestOldAndReplayedFindingsMakeNoAlert(t *testing.T) {
	t.Parallel()
	c := newClock()
	tr, _ := tracker(t, c, Options{MaxAge: DefaultMaxAge})
	f := read(t, 2, "r", "u", "n", c.Now(), nil)
	notify(t, tr, read(t, 1, "r", "u", "n", c.Now().Add(-25*time.Hour), nil), f, f)
	if st := tr.Active(); len(st) != 1 || st[0].Count != 1 || tr.Next() != 3 {
		t.Errorf("active %+v, next %d", st, tr.Next())
	}
	for reason, want := range map[string]float64{"old": 1, "replayed": 1} {
		if n := testutil.ToFloat64(tr.m.skipped.WithLabelValues(reason)); n != want {
			t.Errorf("skipped %s: %v", reason, n)
		}
	}
}

func TestTimesAreClamped(t *testing.T) {
	t.Parallel()
	c := newClock()
	tr, _ := tracker(t, c, Options{MaxAge: time.Hour})
	noTime := read(t, 2, "r", "w", "n", c.Now(), nil)
	ev, err := audit.Parse("prod", []byte(`{"auditID":"x","stage":"ResponseComplete","verb":"get"}`))
	if err != nil {
		t.Fatal(err)
	}
	noTime.Event, noTime.Time = &ev, ev.Time()
	notify(t, tr, read(t, 1, "r", "u", "n", c.Now().Add(time.Hour), nil), noTime)
	st := tr.Active()
	if len(st) != 2 {
		t.Fatalf("active: %+v", st)
	}
	for _, s := range st {
		if !s.StartsAt.Equal(c.Now()) || !s.EndsAt.Equal(c.Now().Add(5*time.Minute)) {
			t.Errorf("from %s to %s at %s", s.StartsAt, s.EndsAt, c.Now())
		}
	}
}

func TestBeyondTheLimitsOneAlertARule(t *testing.T) {
	t.Parallel()
	c := newClock()
	tr, r := tracker(t, c, Options{MaxPerRule: 2, MaxActive: 3})
	seq := uint64(0)
	for _, rule := range []string{"a", "b"} {
		for u := range 5 {
			seq++
			notify(t, tr, read(t, seq, rule, fmt.Sprint("user", u), "n", c.Now(), nil))
		}
	}
	put(t, tr)
	counts := map[string]string{}
	for _, a := range r.take() {
		if a.Labels["overflow"] != "" {
			if len(a.Labels) != 5 || !strings.HasPrefix(a.Annotations["overflow"], a.Annotations["count"]+" findings") {
				t.Errorf("overflow: %+v", a)
			}
			counts[a.Labels["rule"]] = a.Annotations["count"]
		}
	}
	if d := cmp.Diff(map[string]string{"a": "3", "b": "4"}, counts); d != "" {
		t.Errorf("overflow (-want +got):\n%s", d)
	}
	if n := testutil.ToFloat64(tr.m.overflow); n != 7 || len(tr.Active()) != 5 {
		t.Errorf("overflow %v, active %d", n, len(tr.Active()))
	}
	c.add(5 * time.Minute) // room again
	put(t, tr)
	notify(t, tr, read(t, 100, "b", "somebody", "n", c.Now(), nil))
	if st := tr.Active(); len(st) != 1 || st[0].Labels["user"] != "somebody" {
		t.Errorf("afterwards: %+v", st)
	}
}

func TestAnAlertThatNobodyTookDoesNotEnd(t *testing.T) {
	t.Parallel()
	c := newClock()
	tr, r := tracker(t, c, Options{})
	r.fail = func([]alert.Alert) error { return errors.New("away") }
	notify(t, tr, read(t, 1, "r", "u", "n", c.Now(), nil))
	for range 60 {
		if _, err := tr.put(t.Context()); err == nil {
			t.Fatal("no error")
		}
		c.add(time.Minute)
	}
	r.fail = nil
	put(t, tr)
	if got := r.take(); len(got) != 1 || got[0].Resolved(c.Now()) {
		t.Errorf("put: %+v", got)
	}
}

func TestARefusedAlertCostsNoOther(t *testing.T) {
	t.Parallel()
	c := newClock()
	tr, r := tracker(t, c, Options{})
	r.fail = func(alerts []alert.Alert) error {
		for _, a := range alerts {
			if a.Labels["user"] == "bad" {
				return fmt.Errorf("%w: 400", alert.ErrRejected)
			}
		}
		return nil
	}
	notify(t, tr, read(t, 1, "r", "bad", "n", c.Now(), nil), read(t, 2, "r", "good", "n", c.Now(), nil))
	put(t, tr)
	if got := r.take(); len(got) != 1 || got[0].Labels["user"] != "good" {
		t.Errorf("put: %+v", got)
	}
	if n := testutil.ToFloat64(tr.m.dropped.WithLabelValues("rejected")); n != 1 {
		t.Errorf("dropped: %v", n)
	}
}

func TestDamagedStateIsSetAside(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ content, reason string }{
		"torn":      {`{"version":1,"next":7,"al`, "damaged"},
		"empty":     {``, "damaged"},
		"version":   {`{"version":2,"next":7}`, "damaged"},
		"no labels": {`{"version":1,"next":7,"alerts":[{"count":1}]}`, "damaged"},
		"foreign":   {`{"version":1,"next":70,"alerts":[]}`, "foreign"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "alerts.json")
			if err := os.WriteFile(file, []byte(tc.content), 0o600); err != nil {
				t.Fatal(err)
			}
			c := newClock()
			tr, _ := tracker(t, c, Options{StateFile: file, JournalEnd: 9})
			if tr.Next() != 0 || len(tr.Active()) != 0 {
				t.Errorf("next %d, active %v", tr.Next(), tr.Active())
			}
			if b, err := os.ReadFile(file + ".bad"); err != nil || !bytes.Equal(b, []byte(tc.content)) {
				t.Errorf("set aside: %q, %v", b, err)
			}
			if n := testutil.ToFloat64(tr.m.state.WithLabelValues(tc.reason)); n != 1 {
				t.Errorf("counted: %v", n)
			}
			notify(t, tr, read(t, 3, "r", "u", "n", c.Now(), nil))
			if err := tr.Close(); err != nil {
				t.Fatal(err)
			}
			if again, _ := tracker(t, c, Options{StateFile: file, JournalEnd: 9}); again.Next() != 4 || len(again.Active()) != 1 {
				t.Errorf("next %d, active %v", again.Next(), again.Active())
			}
		})
	}
}

func TestCursorIsSavedBehindTheState(t *testing.T) {
	t.Parallel()
	c := newClock()
	file := filepath.Join(t.TempDir(), "alerts.json")
	var saved []uint64
	fail := errors.New("disk full")
	tr, _ := tracker(t, c, Options{StateFile: file, Saved: func(next uint64) error {
		if b, err := os.ReadFile(file); err != nil || !bytes.Contains(b, fmt.Appendf(nil, `"next":%d`, next)) {
			t.Errorf("state when %d is saved: %s, %v", next, b, err)
		}
		saved = append(saved, next)
		return fail
	}})
	notify(t, tr, read(t, 1, "r", "u", "n", c.Now(), nil))
	if err := tr.Save(t.Context(), 5); err != nil {
		t.Fatal(err)
	}
	if err := tr.persist(false); !errors.Is(err, fail) {
		t.Errorf("error: %v", err)
	}
	_ = tr.persist(false) // too early
	fail = nil
	c.add(saveAgain)
	if err := tr.persist(false); err != nil {
		t.Error(err)
	}
	if d := cmp.Diff([]uint64{5, 5}, saved); d != "" {
		t.Errorf("saved (-want +got):\n%s", d)
	}
}

// cheap makes a finding without its document.
func cheap(seq uint64, rule, user string, now time.Time) alert.Finding {
	ev := &audit.Event{Cluster: "prod", AuditID: "a", Verb: "get", User: audit.User{Username: user}, ObjectRef: audit.ObjectRef{Resource: "secrets", Namespace: "shop"},
		StageMicros: now.UnixMicro()}
	return alert.Finding{Cluster: "prod", Seq: seq, Event: ev, Rule: rule, Title: "T", Message: user + " read a secret", AuditID: "a", User: user,
		Severity: finding.High, Events: []finding.Evidence{{AuditID: "a", Identity: "0123456789abcdef0123456789abcdef"}}, Time: now}
}
