package target

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"whodunit/internal/alert"
	"whodunit/internal/rule"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var epoch = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

var errDown = errors.New("down")

// play is a schedule, its rule and what was posted.
type play struct {
	s    schedule
	rule *rule.Rule
	now  time.Time
	said []string
	gone int
	err  func(at time.Duration) error // what the target answers then; nil: takes it
}

func newPlay(strict, column bool, targets ...rule.Target) *play {
	r := &rule.Rule{ID: "r", Title: "r", Targets: targets}
	if column {
		r.Correlation = &rule.Correlation{Type: rule.Streak}
	}
	return &play{rule: r, now: epoch, s: schedule{strict: strict, resolveAfter: 5 * time.Minute, most: 10, jitter: func() float64 { return 0 }, runs: map[key]*run{}}}
}

func every(d time.Duration, times int) rule.Target {
	return rule.Target{Type: "webhook", Endpoint: "http://h", Interval: d, Times: times}
}

// until lets time pass to so long after the beginning.
func (p *play) until(d time.Duration) {
	end := epoch.Add(d)
	for {
		jobs, again := p.s.pass(p.now, func(string) *rule.Rule { return p.rule }, func(*run) { p.gone++ })
		slices.SortFunc(jobs, func(a, b job) int { return a.r.Target - b.r.Target })
		for _, j := range jobs {
			at := p.now.Sub(epoch)
			var err error
			if p.err != nil {
				err = p.err(at)
			}
			word := []string{"", "first", "repeat", "unsolved", "resolved"}[j.kind]
			if len(p.rule.Targets) > 1 {
				word = fmt.Sprintf("%d %s", j.r.Target, word)
			}
			if result := p.s.done(j, err, p.now); result != posted {
				word += " " + result
			}
			p.said = append(p.said, fmt.Sprintf("%s %s", at, word))
		}
		switch {
		case len(jobs) > 0:
		case again.IsZero() || again.After(end):
			p.now = end
			return
		default:
			p.now = again
		}
	}
}

func (p *play) fire() (all bool) {
	all = true
	for i := range p.rule.Targets {
		all = p.s.fire(key{"r", "c", i}, &p.rule.Targets[i], "m", p.now) && all
	}
	return all
}

func (p *play) resolve() {
	for i := range p.rule.Targets {
		p.s.resolve(key{"r", "c", i}, p.now)
	}
}

func (p *play) want(t *testing.T, runs int, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, p.said); diff != "" {
		t.Error(diff)
	}
	if len(p.s.runs) != runs {
		t.Errorf("%d runs are left, want %d", len(p.s.runs), runs)
	}
}

// TestStrictComposite: each match fires while the rule does not; a round ends by itself, and each target has its own.
func TestStrictComposite(t *testing.T) {
	p := newPlay(true, false, every(10*time.Second, 5))
	p.fire()
	p.until(35 * time.Second)
	p.fire()
	p.until(time.Hour)
	p.want(t, 0, "0s first", "10s repeat", "20s repeat", "30s repeat", "40s repeat", "50s repeat", "1m0s unsolved")
	p = newPlay(true, false, every(10*time.Second, 0), every(time.Minute, 1))
	p.fire()
	p.until(30 * time.Second)
	p.fire()
	p.until(150 * time.Second)
	p.resolve() // nothing of the kind comes of such a rule
	p.until(time.Hour)
	p.want(t, 0, "0s 0 first", "0s 1 first", "10s 0 unsolved", "30s 0 first", "40s 0 unsolved", "1m0s 1 repeat", "2m0s 1 unsolved")
	p = newPlay(true, false, every(time.Minute, -1))
	p.fire()
	p.until(3 * time.Minute)
	p.want(t, 1, "0s first", "1m0s repeat", "2m0s repeat", "3m0s repeat")
}

// TestStrictColumn: what fires does so until it is resolved, after the last repeat as well.
func TestStrictColumn(t *testing.T) {
	p := newPlay(true, true, every(10*time.Second, 2))
	p.fire()
	p.until(15 * time.Second)
	p.resolve()
	p.resolve()
	p.until(2 * time.Minute)
	p.fire()
	p.until(time.Hour)
	p.fire()
	p.until(2 * time.Hour)
	p.resolve()
	p.until(3 * time.Hour)
	p.want(t, 0, "0s first", "10s repeat", "15s resolved", "2m0s first", "2m10s repeat", "2m20s repeat", "2m30s unsolved", "2h0m0s resolved")
}

// TestGrouped: a rule that fires on is one alert; it is over when it has been quiet, or when its format says so.
func TestGrouped(t *testing.T) {
	p := newPlay(false, false, every(time.Minute, 2))
	p.fire()
	for range 8 {
		p.until(p.now.Sub(epoch) + time.Minute)
		p.fire()
	}
	p.until(14 * time.Minute)
	p.fire()
	p.until(time.Hour)
	p.want(t, 0, "0s first", "1m0s repeat", "2m0s repeat", "13m0s resolved", "14m0s first", "15m0s repeat", "16m0s repeat", "19m0s resolved")
	p = newPlay(false, true, every(time.Minute, -1))
	p.fire()
	p.until(90 * time.Second)
	p.resolve()
	p.until(time.Hour)
	p.want(t, 0, "0s first", "1m0s repeat", "1m30s resolved")
}

// TestFlapping: a rule that fires again and again right after it was resolved is told once a minute, or once an interval where that is shorter;
// what it was last is told in the end.
func TestFlapping(t *testing.T) {
	for interval, want := range map[time.Duration][]string{
		time.Hour: {"0s first", "0s resolved", "1m0s first", "1m0s resolved", "2m0s first", "2m0s resolved", "3m0s first", "7m0s resolved"},
		30 * time.Second: {"0s first", "0s resolved", "30s first", "30s resolved", "1m0s first", "1m0s resolved", "1m30s first", "1m30s resolved", "2m0s first", "2m0s resolved",
			"2m30s first", "7m0s resolved"},
	} {
		p := newPlay(false, true, every(interval, 0))
		for range 60 {
			p.fire()
			p.resolve()
			p.until(p.now.Sub(epoch) + 2*time.Second)
		}
		p.fire() // and stays so
		p.until(time.Hour)
		p.want(t, 0, want...)
	}
}

// TestFiresWhileResolvedIsTold: what is in flight cannot be taken back, so the target is told again.
func TestFiresWhileResolvedIsTold(t *testing.T) {
	for _, tt := range []struct {
		err     error
		resolve bool
		want    []string
	}{
		{nil, false, []string{"0s first", "1m0s first", "5m1s resolved"}},
		{nil, true, []string{"0s first", "1m0s first", "1m0s resolved"}},
		{errDown, false, []string{"0s first", "1m0s first", "5m1s resolved"}},
		{errDown, true, []string{"0s first", "2s resolved", "1m0s first", "1m0s resolved"}},
	} {
		p := newPlay(false, true, every(time.Hour, 0))
		p.fire()
		p.until(time.Second)
		p.resolve()
		jobs, _ := p.s.pass(p.now, func(string) *rule.Rule { return p.rule }, nil)
		if len(jobs) != 1 || jobs[0].kind != resolved {
			t.Fatal(jobs)
		}
		p.fire()
		if tt.resolve {
			p.resolve()
		}
		p.s.done(jobs[0], tt.err, p.now)
		p.until(time.Hour)
		p.s.runs[key{"r", "c", 0}] = &run{} // whatever is left
		if p.want(t, 1, tt.want...); t.Failed() {
			t.Fatal(tt)
		}
	}
}

// TestFailures: a message is tried until the next is due, and one that none follows for an hour; what is refused for good is not tried again.
func TestFailures(t *testing.T) {
	down := func(until time.Duration, err error) func(time.Duration) error {
		return func(at time.Duration) error {
			if at < until {
				return err
			}
			return nil
		}
	}
	for name, tt := range map[string]struct {
		target rule.Target
		err    func(time.Duration) error
		until  time.Duration
		want   []string
	}{
		"back in time": {every(10*time.Second, 1), down(3*time.Second, errDown), time.Minute, []string{"0s first error", "1s first error", "3s first", "10s repeat"}},
		"too late": {every(10*time.Second, 2), down(12*time.Second, errDown), time.Minute,
			[]string{"0s first error", "1s first error", "3s first error", "7s first gave_up", "15s repeat", "20s repeat"}},
		"for good":  {every(10*time.Second, 1), down(5*time.Second, fmt.Errorf("%w: 400", alert.ErrRejected)), time.Minute, []string{"0s first rejected", "10s repeat"}},
		"asked for": {every(30*time.Second, 1), down(1, alert.RetryAfter(errDown, 20*time.Second)), time.Minute, []string{"0s first error", "20s first", "30s repeat"}},
		"asked for more": {every(10*time.Second, 2), down(1, alert.RetryAfter(errDown, 45*time.Second)), 2 * time.Minute,
			[]string{"0s first gave_up", "45s repeat", "55s repeat"}},
	} {
		p := newPlay(false, false, tt.target)
		p.err = tt.err
		p.fire()
		p.until(tt.until)
		if p.want(t, 1, tt.want...); t.Failed() {
			t.Fatal(name)
		}
	}
	p := newPlay(false, false, every(10*time.Second, 0))
	p.err = down(time.Hour, errDown)
	p.fire()
	p.until(3 * time.Hour)
	if n := len(p.said); n < 60 || n > 75 || !strings.HasSuffix(p.said[n-2], "first gave_up") || !strings.HasSuffix(p.said[n-1], "resolved") {
		t.Error(n, p.said[n-2:])
	}
}

// TestNobodyThere: messages that were due while nobody was there to send them keep their distance.
func TestNobodyThere(t *testing.T) {
	p := newPlay(true, true, every(10*time.Second, 3))
	p.fire()
	p.until(15 * time.Second)
	p.now = epoch.Add(time.Hour)
	p.until(2 * time.Hour)
	p.want(t, 1, "0s first", "10s repeat", "1h0m0s repeat", "1h0m10s repeat", "1h0m20s unsolved")
}

// TestBounds: no more runs than asked for; a rule or a target that is gone ends its own.
func TestBounds(t *testing.T) {
	p := newPlay(false, false, every(0, 2), every(10*time.Second, 1))
	p.s.most = 1
	if p.fire() {
		t.Error("more than one")
	}
	p.until(5 * time.Second)
	p.want(t, 1, "0s 0 first", "1s 0 repeat", "2s 0 repeat")
	p.s.most = 2
	if !p.fire() {
		t.Error("not two")
	}
	p.until(7 * time.Second)
	p.rule.Targets = p.rule.Targets[:1]
	p.until(time.Minute)
	if len(p.s.runs) != 1 || p.gone != 1 {
		t.Errorf("%d runs, %d gone", len(p.s.runs), p.gone)
	}
	p.rule = nil
	p.s.pass(p.now, func(string) *rule.Rule { return nil }, func(*run) { p.gone++ })
	if len(p.s.runs) != 0 || p.gone != 2 {
		t.Errorf("%d runs, %d gone", len(p.s.runs), p.gone)
	}
}
