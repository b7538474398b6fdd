package correlate

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"whodunit/internal/audit"
	"whodunit/internal/rule"
)

// feeder makes events of the rules that it is told.
type feeder struct {
	t     testing.TB
	c     *Correlator
	rules map[string]*rule.Rule
	n     int
	found []Finding
}

func newFeeder(t testing.TB, o Options, correlations ...*rule.Rule) *feeder {
	f := &feeder{t: t, c: New(correlations, o), rules: map[string]*rule.Rule{}}
	for _, id := range []string{"a", "b", "c"} {
		f.rules[id] = &rule.Rule{ID: id, PerEvent: true}
	}
	return f
}

// event is of a user and a value, true of the rules named: "ab".
func (f *feeder) event(at, ingested int, rules, user, value string) {
	ev, id := f.make(at, user, value)
	arrived := int64(0)
	if ingested != 0 {
		arrived = micros(ingested)
	}
	var hits []*rule.Rule
	for _, r := range rules {
		hits = append(hits, f.rules[string(r)])
	}
	if hits == nil {
		f.found = append(f.found, f.c.See(&ev, arrived)...)
	} else {
		f.found = append(f.found, f.c.Add(&ev, id, arrived, hits)...)
	}
}

func (f *feeder) make(at int, user, value string) (audit.Event, audit.Identity) {
	f.t.Helper()
	f.n++
	raw := fmt.Sprintf(`{"auditID":"%d","stage":"ResponseComplete","verb":"get","user":{"username":%q},"requestURI":%q,"stageTimestamp":%q}`,
		f.n, user, value, time.UnixMicro(micros(at)).UTC().Format(time.RFC3339Nano))
	ev, err := audit.Parse("c", []byte(raw))
	if err != nil {
		f.t.Fatal(err)
	}
	return ev, ev.Identity()
}

func (f *feeder) flush() []string {
	f.found = append(f.found, f.c.Flush()...)
	return f.said()
}

func (f *feeder) said() (out []string) {
	for _, x := range f.found {
		out = append(out, fmt.Sprintf("%s at %s: %g", x.Rule.ID, x.Event.AuditID, x.Facts.Number))
	}
	return out
}

func correlation(id string, c rule.Correlation) *rule.Rule {
	return &rule.Rule{ID: id, Correlation: &c}
}

func want(t *testing.T, got []string, want ...string) {
	t.Helper()
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

var (
	byUser = []rule.Key{{Name: "user", Path: "user.username"}}
	three  = []rule.Compare{{Op: "gte", Value: 3}}
)

func TestQuietPeriod(t *testing.T) {
	for quiet, expect := range map[time.Duration][]string{
		0:                {"c at 3: 3", "c at 14: 11"},
		-1:               {"c at 3: 3", "c at 4: 4", "c at 5: 5"},
		30 * time.Second: {"c at 3: 3"},
	} {
		f := newFeeder(t, Options{Lateness: -1}, correlation("c", rule.Correlation{Type: rule.EventCount, Of: []string{"a"}, Timespan: 10 * time.Second, Conds: three, Quiet: quiet}))
		for i := 1; i <= 20; i++ {
			f.event(i, 0, "a", "u", "")
		}
		got := f.flush()
		want(t, got[:len(expect)], expect...)
		if quiet > 0 && len(got) != 1 {
			t.Errorf("quiet %s: %v", quiet, got)
		}
	}
}

// TestChain: attempts, then a success, by one user: a correlation over a correlation, grouped by its group's values.
func TestChain(t *testing.T) {
	failures := correlation("failures", rule.Correlation{Type: rule.EventCount, Of: []string{"a"}, Timespan: time.Minute, Conds: three, GroupBy: byUser})
	failures.Silent = true
	breakIn := correlation("break-in", rule.Correlation{Type: rule.TemporalOrdered, Of: []string{"failures", "b"}, Timespan: time.Minute, GroupBy: byUser})
	f := newFeeder(t, Options{Lateness: -1}, failures, breakIn)
	f.event(1, 0, "a", "u", "")
	f.event(2, 0, "a", "u", "")
	f.event(3, 0, "b", "u", "") // too early
	f.event(4, 0, "a", "u", "")
	f.event(5, 0, "b", "v", "") // another
	f.event(6, 0, "b", "u", "")
	want(t, f.flush(), "break-in at 6: 2")
	if n := len(f.found[0].Evidence); n != 2 || f.found[0].Evidence[0].AuditID != "4" {
		t.Errorf("evidence %+v", f.found[0].Evidence)
	}
}

func TestAliases(t *testing.T) {
	keys := []rule.Key{{Name: "who", ByRule: map[string]string{"a": "user.username", "b": "requestURI"}}}
	f := newFeeder(t, Options{Lateness: -1}, correlation("c", rule.Correlation{Type: rule.Temporal, Of: []string{"a", "b"}, Timespan: time.Minute, GroupBy: keys}))
	f.event(1, 0, "a", "u", "x")
	f.event(2, 0, "b", "u", "v")
	f.event(3, 0, "b", "w", "u")
	want(t, f.flush(), "c at 3: 2")
}

func TestStreak(t *testing.T) {
	f := newFeeder(t, Options{Lateness: -1}, correlation("c", rule.Correlation{Type: rule.Streak, Of: []string{"a"}, Conds: []rule.Compare{{Op: "gte", Value: 2}}}))
	for i, r := range []string{"a", "", "a", "a", "a", "b", "a", "", "a", "a"} { // a miss before the streak fires does not count
		f.event(i+1, 0, r, "u", "")
	}
	want(t, f.flush(), "c at 3: 2", "c at 9: 2")
	f = newFeeder(t, Options{Lateness: -1}, correlation("c", rule.Correlation{Type: rule.Streak, Of: []string{"a"}, Conds: []rule.Compare{{Op: "gte", Value: 1}}}))
	for _, r := range []string{"a", "", "a", "a", "b", "a"} { // all at one time: as they came
		f.event(1, 0, r, "u", "")
	}
	want(t, f.flush(), "c at 1: 1", "c at 3: 1", "c at 6: 1")
}

// TestResolved: who asks is told when a streak is over, of rules that say so; nothing is kept afterwards.
func TestResolved(t *testing.T) {
	for _, tt := range []struct {
		asked, resolves, silent bool
		want                    []string
	}{
		{true, true, false, []string{"c at 3: 2", "c at 3: 2 until 6", "c at 9: 2", "c at 9: 2 until 10"}},
		{true, false, false, []string{"c at 3: 2", "c at 9: 2"}},
		{false, true, false, []string{"c at 3: 2", "c at 9: 2"}},
		{true, true, true, nil},
	} {
		r := correlation("c", rule.Correlation{Type: rule.Streak, Of: []string{"a"}, Conds: []rule.Compare{{Op: "gte", Value: 2}}, Resolves: tt.resolves})
		r.Silent = tt.silent
		f := newFeeder(t, Options{Lateness: -1, Resolved: tt.asked}, r)
		for i, r := range []string{"a", "", "a", "a", "a", "b", "a", "", "a", "", "b", ""} {
			f.event(i+1, 0, r, "u", "")
		}
		f.flush()
		var got []string
		for i, x := range f.found {
			s := f.said()[i]
			if x.Resolved {
				s += fmt.Sprintf(" until %d", x.Facts.Last/1e6-base)
			}
			if len(x.Evidence) != 2 {
				t.Errorf("%s: %v", s, x.Evidence)
			}
			got = append(got, s)
		}
		want(t, got, tt.want...)
		if n := groupBytes + stateBytes; f.c.state != n {
			t.Errorf("%d bytes are kept, want %d", f.c.state, n)
		}
	}
}

// TestLate: what comes later than the lateness is dropped and counted, from the future as well; a source that comes back after an hour
// with what it kept is neither.
func TestLate(t *testing.T) {
	m := NewMetrics(nil)
	f := newFeeder(t, Options{Metrics: m}, correlation("c", rule.Correlation{Type: rule.EventCount, Of: []string{"a"}, Timespan: time.Hour, Conds: three}))
	f.event(100, 101, "a", "u", "")
	f.event(200, 201, "a", "u", "")
	f.event(139, 202, "a", "u", "") // late
	f.event(203+3601, 203, "a", "u", "")
	f.event(145, 204, "a", "u", "")
	want(t, f.flush(), "c at 2: 3")
	if late, future := testutil.ToFloat64(m.drops.WithLabelValues("late")), testutil.ToFloat64(m.drops.WithLabelValues("future")); late != 1 || future != 1 {
		t.Errorf("late %v, future %v", late, future)
	}
	m = NewMetrics(nil)
	f = newFeeder(t, Options{Metrics: m}, correlation("c", rule.Correlation{Type: rule.EventCount, Of: []string{"a"}, Timespan: time.Hour, Conds: three}))
	f.event(100, 101, "a", "u", "")
	f.found = append(f.found, f.c.Advance(micros(300))...)
	f.event(101, 3700, "a", "u", "")
	f.event(102, 3700, "a", "u", "")
	want(t, f.flush(), "c at 3: 3")
	if late := testutil.ToFloat64(m.drops.WithLabelValues("late")); late != 0 {
		t.Errorf("late %v", late)
	}
}

// TestClosingWindows: what must not exceed a number is decided when the window closes, also while nothing comes.
func TestClosingWindows(t *testing.T) {
	f := newFeeder(t, Options{}, correlation("c", rule.Correlation{Type: rule.EventCount, Of: []string{"a"}, Timespan: time.Minute, GroupBy: byUser,
		Conds: []rule.Compare{{Op: "lt", Value: 3}}}))
	f.event(1, 1, "a", "few", "")
	f.event(2, 2, "a", "many", "")
	f.event(3, 3, "a", "many", "")
	f.event(4, 4, "a", "many", "")
	clock, ok := f.c.Waiting()
	for range 10 {
		if ok {
			f.found = append(f.found, f.c.Advance(clock)...)
			clock, ok = f.c.Waiting()
		}
	}
	want(t, f.said(), "c at 1: 1")
}

// TestMemory: a flood of groups, of values and of events of one group, each with texts of a client's choice, stays within the bound.
func TestMemory(t *testing.T) {
	const limit = 1 << 19
	for name, c := range map[string]rule.Correlation{
		"groups":   {Type: rule.EventCount, GroupBy: byUser, Conds: three},
		"values":   {Type: rule.ValueCount, Fields: []rule.Key{{Path: "user.username"}}, Conds: []rule.Compare{{Op: "gt", Value: 1e9}}},
		"events":   {Type: rule.EventCount, Conds: []rule.Compare{{Op: "gt", Value: 1e9}}},
		"numbers":  {Type: rule.ValuePercentile, Fields: []rule.Key{{Path: "requestURI"}}, Conds: []rule.Compare{{Op: "gt", Value: 1e9}}},
		"first":    {Type: rule.FirstSeen, GroupBy: byUser},
		"ordered":  {Type: rule.TemporalOrdered, GroupBy: byUser, Of: []string{"a", "a", "a", "b"}},
		"closing":  {Type: rule.EventCount, GroupBy: byUser, Conds: []rule.Compare{{Op: "lt", Value: 3}}},
		"one time": {Type: rule.TemporalOrdered, Of: []string{"a", "a", "a", "b"}},
	} {
		t.Run(name, func(t *testing.T) {
			c.Timespan = 24 * time.Hour
			if c.Of == nil {
				c.Of = []string{"a"}
			}
			m := NewMetrics(nil)
			f := newFeeder(t, Options{MaxBytes: limit, Metrics: m}, correlation("c", c))
			rnd := rand.New(rand.NewPCG(1, 2))
			most := 0
			for i := range 15_000 {
				at := i / 10
				if name == "one time" {
					at = 0
				}
				f.event(at, 0, "a", strings.Repeat("x", rnd.IntN(2000)/(1+rnd.IntN(20)))+fmt.Sprint(i), fmt.Sprint(rnd.IntN(1000)))
				most = max(most, f.c.state+f.c.queue.bytes)
			}
			f.c.Flush()
			if most > limit+limit/8 {
				t.Errorf("%d bytes", most)
			}
			total := 0.0
			for _, reason := range []string{"memory", "group"} {
				total += testutil.ToFloat64(m.evicted.WithLabelValues(reason))
			}
			if total+testutil.ToFloat64(m.hurried) == 0 {
				t.Error("nothing was counted")
			}
		})
	}
}

func TestEventTime(t *testing.T) {
	const at = 1_700_000_000_123_000
	for raw, want := range map[string]int64{
		`{"@timestamp":"2023-11-14T22:13:20.123Z","time":"x"}`: at,
		`{"timestamp":"2023-11-14 22:13:20.123"}`:              at,
		`{"ts":1700000000.123}`:                                at,
		`{"ts":1700000000123}`:                                 at,
		`{"ts":1700000000123000}`:                              at,
		`{"ts":1700000000123000000}`:                           at,
		`{"ts":"1700000000"}`:                                  at - 123_000,
		`{"time":"never","UtcTime":"2023-11-14 22:13:20.123"}`: at,
		`{"eventTime":"2023-11-14T23:13:20.123+01:00"}`:        at,
		`{"Event":{"System":{"TimeCreated":{"#attributes":{"SystemTime":"2023-11-14T22:13:20.123000Z"}}}}}`: at,
		`{"time":"","ts":-5,"timestamp":1e400}`: 0,
		`{}`:                                    0,
	} {
		ev, err := audit.Generic("c", []byte(raw))
		if err != nil {
			t.Fatal(err)
		}
		if got := Micros(&ev); got != want {
			t.Errorf("%s: %d, want %d", raw, got, want)
		}
	}
}

func BenchmarkAdd(b *testing.B) {
	f := newFeeder(b, Options{}, correlation("c", rule.Correlation{Type: rule.EventCount, Of: []string{"a"}, Timespan: 5 * time.Minute, Conds: three, GroupBy: byUser}))
	type one struct {
		ev audit.Event
		id audit.Identity
	}
	var all []one
	for i := range 10_000 {
		ev, id := f.make(i/10, fmt.Sprint(i%100), "x")
		all = append(all, one{ev, id})
	}
	hits := []*rule.Rule{f.rules["a"]}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		x := &all[i%len(all)]
		if i%len(all) == 0 {
			f.c = New([]*rule.Rule{f.c.plans[0].rule}, Options{})
		}
		f.c.Add(&x.ev, x.id, 0, hits)
	}
}

// TestLargeSum: sums do not overflow, and come down again.
func TestLargeSum(t *testing.T) {
	var w numbers
	n, ok := parseNumber("8999999999.25")
	if !ok || !n.tame {
		t.Fatal(n)
	}
	for i := range 5000 {
		n.micros = int64(i)
		w.add(n)
	}
	if got, want := w.total(), 5000*8999999999.25; got != want {
		t.Errorf("%f, want %f", got, want)
	}
	if w.trim(4999); w.total() != 8999999999.25 {
		t.Errorf("%f is left", w.total())
	}
}

// TestEvictedTimers: a group that is forgotten leaves no timer behind, whose memory nobody would count.
func TestEvictedTimers(t *testing.T) {
	f := newFeeder(t, Options{MaxBytes: 64 << 10}, correlation("c", rule.Correlation{Type: rule.EventCount, Of: []string{"a"}, Timespan: 1000 * time.Hour,
		GroupBy: []rule.Key{{Name: "u", Path: "user.username"}}, Conds: []rule.Compare{{Op: "lt", Value: 1}}}))
	for i := range 1000 {
		f.event(i, 0, "a", fmt.Sprint("user", i), "v")
	}
	f.event(1000, 0, "a", "last", "v")
	if groups := len(f.c.plans[0].groups); len(f.c.timers) != groups || groups == 0 || groups > 100 {
		t.Errorf("%d timers of %d groups", len(f.c.timers), groups)
	}
}
