package detect

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"whodunit/internal/audit"
	"whodunit/internal/finding"
	"whodunit/internal/rule"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// sliceReader hands out batches from a sequence number on, then ends.
type sliceReader struct {
	recs []audit.Record
	size int
}

func (r *sliceReader) Next(context.Context) ([]audit.Record, error) {
	if len(r.recs) == 0 {
		return nil, io.EOF
	}
	n := min(r.size, len(r.recs))
	out := r.recs[:n]
	r.recs = r.recs[n:]
	return out, nil
}

type condition func(*audit.Event) (bool, error)

func (c condition) Match(ev *audit.Event) (bool, error) { return c(ev) }

func newRule(t testing.TB, id string, c condition) *rule.Rule {
	m, err := rule.ParseMessage(id+" {verb}", func(string) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	return &rule.Rule{ID: id, Severity: finding.High, Stages: rule.DefaultStages(), Condition: c, Message: m}
}

func current(t testing.TB, rules ...*rule.Rule) *rule.Current {
	set, problems := rule.NewSet(rules)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	c := new(rule.Current)
	c.Store(set)
	return c
}

func record(t testing.TB, seq int, stage audit.Stage, id string, extra string) audit.Record {
	raw := fmt.Sprintf(`{"auditID":%q,"stage":%q,"verb":"get","user":{"username":"u"},"requestReceivedTimestamp":"2026-11-21T13:25:50.255614Z"%s}`, id, stage, extra)
	ev, err := audit.Parse("c", []byte(raw))
	if err != nil {
		t.Fatal(err)
	}
	return audit.Record{Seq: uint64(seq), Identity: ev.Identity(), Event: ev}
}

func always(*audit.Event) (bool, error) { return true, nil }

func TestOneFindingPerRequest(t *testing.T) {
	recs := []audit.Record{
		record(t, 1, audit.StageRequestReceived, "exec", ""),
		record(t, 2, audit.StageResponseStarted, "exec", `,"responseStatus":{"code":101}`),
		record(t, 3, audit.StageResponseComplete, "late", ""),
		record(t, 4, audit.StageResponseComplete, "exec", `,"responseStatus":{"code":101}`),
		record(t, 5, audit.StagePanic, "boom", ""),
		record(t, 6, audit.StageResponseStarted, "late", ""), // logs are not in order
		record(t, 7, audit.StageResponseStarted, "denied", `,"responseStatus":{"code":401}`),
		// the same audit id, chosen by the client, for another request
		record(t, 8, audit.StageResponseComplete, "exec", `,"requestURI":"/api/v1/secrets"`),
	}
	set, _ := rule.NewSet([]*rule.Rule{newRule(t, "r", always)})
	evs, err := Backtest(set, recs)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, d := range docs(t, evs) {
		got = append(got, d.AuditID+" "+d.Stage)
	}
	want := []string{"exec ResponseStarted", "late ResponseComplete", "boom Panic", "denied ResponseStarted", "exec ResponseComplete"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestOwnRequests: no rule and no correlation looks at the events of the server's own requests.
func TestOwnRequests(t *testing.T) {
	single := newRule(t, "single", always)
	set, _ := rule.NewSet([]*rule.Rule{single, {ID: "several", Correlation: &rule.Correlation{Type: rule.EventCount, Of: []string{"single"}, Timespan: time.Minute,
		GroupBy: []rule.Key{{Name: "user", Path: "user.username"}}, Conds: []rule.Compare{{Op: "gte", Value: 2}}}}})
	for _, own := range []bool{false, true} {
		cur, m := new(rule.Current), NewMetrics(nil)
		cur.Store(set)
		var got []string
		o := Options{Rules: cur, Metrics: m, Judge: JudgeOptions{Lateness: -1}, Reader: &sliceReader{size: 2, recs: []audit.Record{
			record(t, 1, audit.StageResponseComplete, "person", ""), record(t, 2, audit.StageResponseComplete, "own", "")}},
			Emit: func(_ context.Context, b audit.Batch) error {
				for i := range b.Events {
					got = append(got, b.Events[i].AuditID)
				}
				return nil
			}}
		if own {
			o.Own = func(ev *audit.Event) bool { return ev.AuditID == "own" }
		}
		d, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		want, owned := []string{"person", "own", "person"}, 0.0
		if own {
			want, owned = want[:1], 1
		}
		if diff := cmp.Diff(want, got); diff != "" || testutil.ToFloat64(m.Own) != owned {
			t.Errorf("own %t: %s, counted %v", own, diff, testutil.ToFloat64(m.Own))
		}
	}
}

func TestSeenForgetsOldest(t *testing.T) {
	s := newSeen(2)
	k := func(i byte) [16]byte { return [16]byte{i} }
	for _, step := range []struct {
		k   byte
		new bool
	}{{1, true}, {1, false}, {2, true}, {3, true}, {1, false}, {4, true}, {2, true}, {5, true}, {3, true}} {
		if got := s.add(k(step.k)); got != step.new {
			t.Errorf("key %d: new %t, want %t", step.k, got, step.new)
		}
		if len(s.young)+len(s.old) > 4 {
			t.Error("the memory grows past its bound")
		}
	}
}

// TestBadRuleStopsNobody: a panic, an exhausted cost limit and a failing evaluation are counted, logged once, and leave the
// other rules alone.
func TestBadRuleStopsNobody(t *testing.T) {
	var log bytes.Buffer
	m := NewMetrics(prometheus.NewRegistry())
	var got []audit.Event
	d, err := New(Options{
		Reader: &sliceReader{recs: []audit.Record{record(t, 1, audit.StageResponseComplete, "a", ""), record(t, 2, audit.StageResponseComplete, "b", "")}, size: 10},
		Rules: current(t,
			newRule(t, "cost", func(*audit.Event) (bool, error) { return true, rule.ErrCost }),
			newRule(t, "eval", func(*audit.Event) (bool, error) { return false, rule.ErrEval }),
			newRule(t, "good", always),
			newRule(t, "missing", func(*audit.Event) (bool, error) { return false, rule.ErrMissing }),
			newRule(t, "panic", func(*audit.Event) (bool, error) { panic("x") })),
		Emit:    func(_ context.Context, b audit.Batch) error { got = append(got, b.Events...); return nil },
		Metrics: m, Logger: slog.New(slog.NewTextHandler(&log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || docs(t, got)[0].Rule != "good" {
		t.Errorf("findings %+v, want two of rule good", docs(t, got))
	}
	for _, reason := range []string{"cost", "eval", "missing", "panic"} {
		if n := testutil.ToFloat64(m.Errors.WithLabelValues(reason, reason)); n != 2 {
			t.Errorf("%s counted %v times, want 2", reason, n)
		}
	}
	if n := testutil.ToFloat64(m.Findings.WithLabelValues("good", "high")); n != 2 {
		t.Errorf("findings counted %v, want 2", n)
	}
	for text, n := range map[string]int{"rule=panic": 1, "rule=cost": 1, "rule=eval": 1, "rule=missing": 0} {
		if c := strings.Count(log.String(), text); c != n {
			t.Errorf("%s logged %d times, want %d:\n%s", text, c, n, log.String())
		}
	}
}

// TestCrashAnywhere stops the detector at every call of Emit and Save, starts another at the saved cursor, and wants every
// finding at least once and nothing that a duplicate filter by identity would not drop.
func TestCrashAnywhere(t *testing.T) {
	var recs []audit.Record
	for i := range 20 {
		recs = append(recs, record(t, i+1, audit.StageResponseComplete, fmt.Sprint(i), ""))
	}
	odd := newRule(t, "odd", func(ev *audit.Event) (bool, error) { return ev.AuditID[len(ev.AuditID)-1]%2 == 1, nil })
	want := map[audit.Identity]bool{}
	set, _ := rule.NewSet([]*rule.Rule{odd})
	all, err := Backtest(set, recs)
	if err != nil {
		t.Fatal(err)
	}
	for i := range all {
		want[all[i].Identity()] = true
	}
	crash := errors.New("crash")
	for at := range 14 {
		cursor, calls := uint64(1), 0
		got := map[audit.Identity]bool{}
		for run := range 2 {
			ctx, stop := context.WithCancelCause(t.Context())
			step := func(done func()) error {
				if calls++; run == 0 && calls-1 == at {
					stop(crash)
					if at%2 == 0 {
						done() // written, but the answer was lost
					}
					return crash
				}
				done()
				return nil
			}
			d, err := New(Options{
				Reader: &sliceReader{recs: recs[cursor-1:], size: 3}, Rules: current(t, odd),
				Emit: func(_ context.Context, b audit.Batch) error {
					return step(func() {
						for i := range b.Events {
							got[b.Events[i].Identity()] = true
						}
					})
				},
				Save: func(_ context.Context, next uint64) error { return step(func() { cursor = next }) },
			})
			if err != nil {
				t.Fatal(err)
			}
			if err := d.Run(ctx); err != nil {
				t.Fatal(err)
			}
			stop(nil)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("crash at call %d: %s", at, diff)
		}
	}
}

func TestRetriesUntilDurable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewMetrics(nil)
		fails, emitted, saved := 9, 0, uint64(0)
		d, err := New(Options{
			Reader: &sliceReader{recs: []audit.Record{record(t, 7, audit.StageResponseComplete, "a", "")}, size: 1}, Rules: current(t, newRule(t, "r", always)),
			Emit: func(_ context.Context, b audit.Batch) error {
				if fails--; fails >= 0 {
					b.Events[0] = audit.Event{} // it owns the batch
					return errors.New("disk full")
				}
				if b.Events[0].AuditID != "a" {
					t.Error("a failed Emit took the batch apart for the next")
				}
				emitted++
				return nil
			},
			Save:    func(_ context.Context, next uint64) error { saved = next; return nil },
			Metrics: m,
		})
		if err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		if err := d.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if emitted != 1 || saved != 8 || testutil.ToFloat64(m.Retries.WithLabelValues("emit")) != 9 {
			t.Errorf("emitted %d, saved %d", emitted, saved)
		}
		if d := time.Since(begin); d < 50*time.Second || d > 2*time.Minute {
			t.Errorf("9 tries took %v", d)
		}
	})
}

// TestFromRefillsMemory: a detector that starts between an exec's two events does not find it again.
func TestFromRefillsMemory(t *testing.T) {
	recs := []audit.Record{record(t, 1, audit.StageResponseStarted, "x", ""), record(t, 2, audit.StageResponseComplete, "x", ""), record(t, 3, audit.StageResponseComplete, "y", "")}
	var got []audit.Event
	var saves []uint64
	d, err := New(Options{Reader: &sliceReader{recs: recs, size: 1}, Rules: current(t, newRule(t, "r", always)), From: 2,
		Emit: func(_ context.Context, b audit.Batch) error { got = append(got, b.Events...); return nil },
		Save: func(_ context.Context, next uint64) error { saves = append(saves, next); return nil }})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(got) != 1 || got[0].AuditID != "y" {
		t.Errorf("findings %+v, want y alone", docs(t, got))
	}
	if diff := cmp.Diff([]uint64{3, 4}, saves); diff != "" {
		t.Errorf("the cursor must never go back: %s", diff)
	}
}

func TestFindingsAreNoEvidence(t *testing.T) {
	rec := record(t, 1, audit.StageResponseComplete, "a", "")
	ev, err := finding.Finding{Rule: "r"}.Event(&rec.Event)
	if err != nil {
		t.Fatal(err)
	}
	set, _ := rule.NewSet([]*rule.Rule{newRule(t, "r", always)})
	if evs, _ := Backtest(set, []audit.Record{{Seq: 2, Event: ev}}); len(evs) != 0 {
		t.Error("a rule found a finding")
	}
}
