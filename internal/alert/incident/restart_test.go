package incident

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"pgregory.net/rapid"

	"whodunit/internal/alert"
	"whodunit/internal/finding"
)

// TestAnyCrashLosesNothing kills a tracker after each of its steps: one that starts with what is on disk then, and reads the journal from
// where the state says, has the same alerts. Only what ended by time since the state was written may still be open.
func TestAnyCrashLosesNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		file := filepath.Join(dir, fmt.Sprint(n, ".json"))
		c := newClock()
		o := Options{StateFile: file, MaxPerRule: 3, MaxActive: 4, MaxAge: time.Hour}
		tr, _ := tracker(t, c, o)
		var journal []alert.Finding
		for range rapid.IntRange(1, 60).Draw(rt, "steps") {
			switch rapid.SampledFrom([]string{"find", "find", "find", "wait", "run", "save", "crash"}).Draw(rt, "step") {
			case "find":
				f := cheap(uint64(len(journal)+1), rapid.SampledFrom([]string{"a", "b"}).Draw(rt, "rule"),
					rapid.SampledFrom([]string{"u", "v", "w", "x", "y"}).Draw(rt, "user"), c.Now().Add(-time.Duration(rapid.SampledFrom([]int{0, 60, 7200}).Draw(rt, "age"))*time.Second))
				if rapid.IntRange(0, 4).Draw(rt, "state") == 0 {
					f.State = finding.Resolved
				}
				f.Message = fmt.Sprint(f.Seq)
				journal = append(journal, f)
				notify(t, tr, f)
			case "wait":
				c.add(time.Duration(rapid.SampledFrom([]int{1, 3, 100, 301}).Draw(rt, "seconds")) * time.Second)
				put(t, tr)
			case "run":
				put(t, tr)
				if err := tr.persist(false); err != nil {
					rt.Fatal(err)
				}
			case "save":
				if err := tr.Save(t.Context(), uint64(len(journal)+1)); err != nil {
					rt.Fatal(err)
				}
			case "crash":
				tr = restarted(rt, t, c, o, journal)
			}
			restarted(rt, t, c, o, journal).compare(rt, tr)
		}
	})
}

// restarted is a tracker that begins with a copy of the state on disk and reads the rest of the journal.
func restarted(rt *rapid.T, t *testing.T, c *clock, o Options, journal []alert.Finding) *Tracker {
	b, err := os.ReadFile(o.StateFile)
	fork := o.StateFile + ".fork"
	switch {
	case errors.Is(err, os.ErrNotExist):
		_ = os.Remove(fork)
	case err != nil:
		rt.Fatal(err)
	default:
		if err := os.WriteFile(fork, b, 0o600); err != nil {
			rt.Fatal(err)
		}
	}
	o.StateFile = fork
	tr, _ := tracker(t, c, o)
	notify(t, tr, journal[max(int(tr.Next()), 1)-1:]...)
	tr.o.StateFile = o.StateFile[:len(o.StateFile)-len(".fork")]
	return tr
}

func (t *Tracker) compare(rt *rapid.T, want *Tracker) {
	got := map[string]Status{}
	for _, s := range t.Active() {
		got[identityOf(s.Labels).key()] = s
	}
	for key := range want.over {
		if _, open := want.active[key]; !open && want.ended {
			delete(got, key)
		}
	}
	wanted := map[string]Status{}
	for _, s := range want.Active() {
		wanted[identityOf(s.Labels).key()] = s
	}
	if d := cmp.Diff(wanted, got, cmpopts.IgnoreFields(Status{}, "EndsAt")); d != "" {
		rt.Fatalf("after a crash (-want +got):\n%s", d)
	}
}

func TestStateKeepsEndedAlertsToTell(t *testing.T) {
	t.Parallel()
	c := newClock()
	file := filepath.Join(t.TempDir(), "alerts.json")
	tr, _ := tracker(t, c, Options{StateFile: file})
	notify(t, tr, read(t, 1, "r", "u", "n", c.Now(), nil))
	put(t, tr)
	c.add(5 * time.Minute)
	put(t, tr)
	if err := tr.Close(); err != nil {
		t.Fatal(err)
	}
	again, r := tracker(t, c, Options{StateFile: file})
	put(t, again)
	if got := r.take(); len(got) != 1 || !got[0].Resolved(c.Now()) {
		t.Errorf("put: %+v", got)
	}
	c.add(16 * time.Minute)
	put(t, again)
	if got := r.take(); len(got) != 0 {
		t.Errorf("put much later: %+v", got)
	}
}

func TestAlertsOutliveTimeThatNobodyRead(t *testing.T) {
	t.Parallel()
	c := newClock()
	file := filepath.Join(t.TempDir(), "alerts.json")
	tr, _ := tracker(t, c, Options{StateFile: file})
	notify(t, tr, read(t, 1, "r", "u", "n", c.Now(), nil))
	put(t, tr)
	if err := tr.Close(); err != nil {
		t.Fatal(err)
	}
	c.add(time.Hour)
	again, _ := tracker(t, c, Options{StateFile: file})
	put(t, again)
	notify(t, again, read(t, 2, "r", "u", "n", c.Now(), nil))
	if st := again.Active(); len(st) != 1 || st[0].Count != 2 {
		t.Errorf("active: %+v", st)
	}
}

func TestRunTriesAgainAsLongAsItTakes(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "alerts.json")
	synctest.Test(t, func(t *testing.T) {
		var calls []time.Duration
		began := time.Now()
		r := &taker{fail: func([]alert.Alert) error {
			calls = append(calls, time.Since(began))
			switch len(calls) {
			case 1, 2:
				return errors.New("500")
			case 3:
				return alert.RetryAfter(errors.New("429"), 30*time.Second)
			}
			return nil
		}}
		tr, err := New(Options{Taker: r, StateFile: file})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- tr.Run(ctx) }()
		notify(t, tr, cheap(1, "r", "u", time.Now()))
		synctest.Wait()
		seen := func() []time.Duration {
			r.mu.Lock()
			defer r.mu.Unlock()
			return slices.Clone(calls)
		}
		if c := seen(); len(c) != 1 || c[0] != 0 {
			t.Fatalf("first put at %v, want at once", c)
		}
		<-time.After(36 * time.Second)
		synctest.Wait()
		if d := cmp.Diff([]time.Duration{0, time.Second, 3 * time.Second, 33 * time.Second}, seen()); d != "" {
			t.Errorf("puts (-want +got):\n%s", d)
		}
		if n := testutil.ToFloat64(tr.m.retries); n != 3 {
			t.Errorf("retries: %v", n)
		}
		if b, err := os.ReadFile(file); err != nil || len(b) == 0 {
			t.Errorf("state while it runs: %q, %v", b, err)
		}
		<-time.After(5 * time.Minute)
		synctest.Wait()
		got := r.take()
		if len(tr.Active()) != 0 || len(got) < 2 || !got[len(got)-1].Resolved(time.Now()) {
			t.Errorf("in the end: active %v, put %+v", tr.Active(), got)
		}
		cancel()
		if err := errors.Join(<-done, tr.Close()); err != nil {
			t.Error(err)
		}
	})
}

// hangs is a taker that never answers.
type hangs struct{}

func (hangs) Put(ctx context.Context, _ []alert.Alert) error {
	<-ctx.Done()
	return ctx.Err()
}

func TestATakerThatHangsHoldsNobody(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "alerts.json")
	synctest.Test(t, func(t *testing.T) {
		tr, err := New(Options{Taker: hangs{}, StateFile: file})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- tr.Run(ctx) }()
		for seq := range uint64(1000) {
			notify(t, tr, cheap(seq+1, "r", fmt.Sprint("u", seq), time.Now()))
		}
		if len(tr.Active()) != DefaultMaxPerRule+1 {
			t.Errorf("%d alerts", len(tr.Active()))
		}
		<-time.After(2 * putTimeout)
		synctest.Wait()
		if again, err := New(Options{Taker: hangs{}, StateFile: file}); err != nil || again.Next() != 1001 {
			t.Errorf("state behind a hanging taker: %v, %v", again, err)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
