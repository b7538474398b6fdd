package detect

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"whodunit/internal/audit"
	"whodunit/internal/match"
	"whodunit/internal/rule"
)

func equal(path, value string) match.Expr {
	return &match.Pred{Path: path, Op: match.Equal, Values: []string{value}}
}

func burst(id string, n int, of ...string) *rule.Rule {
	return &rule.Rule{ID: id, Title: "burst", Severity: "high", Correlation: &rule.Correlation{Type: rule.EventCount, Of: of, Timespan: time.Minute,
		GroupBy: []rule.Key{{Name: "user", Path: "user.username"}}, Conds: []rule.Compare{{Op: "gte", Value: float64(n)}}}}
}

var epoch = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// timed is a record of an event at so many seconds, which was taken in delay seconds later.
func timed(t testing.TB, seq, at, delay int, user, verb string) audit.Record {
	t.Helper()
	raw := fmt.Sprintf(`{"auditID":"a%d","stage":"ResponseComplete","verb":%q,"user":{"username":%q},"stageTimestamp":%q}`,
		seq, verb, user, epoch.Add(time.Duration(at)*time.Second).Format(time.RFC3339Nano))
	ev, err := audit.Parse("c", []byte(raw))
	if err != nil {
		t.Fatal(err)
	}
	return audit.Record{Seq: uint64(seq), Identity: ev.Identity(), Event: ev, IngestedMicros: epoch.Add(time.Duration(at+delay) * time.Second).UnixMicro()}
}

func compile(t testing.TB, o ProgramOptions, rules ...*rule.Rule) *Program {
	t.Helper()
	set, problems := rule.NewSet(rules)
	p, more := Compile(set, o)
	if problems = append(problems, more...); len(problems) > 0 {
		t.Fatal(problems)
	}
	return p
}

func said(results []Result) (out []string) {
	for _, r := range results {
		s := r.Rule.ID + " " + r.Event.AuditID
		if r.Facts != nil {
			s += fmt.Sprintf(" %g of %d", r.Facts.Number, len(r.Evidence))
		}
		out = append(out, s)
	}
	return out
}

func TestCompileLeavesOut(t *testing.T) {
	rules := []*rule.Rule{
		{ID: "good", Expr: equal("verb", "get")},
		{ID: "off", Off: "enabled: false"},
		{ID: "silent", Silent: true, Expr: equal("verb", "get")},
		{ID: "base", Silent: true, Expr: equal("verb", "get")},
		{ID: "broken", Expr: &match.Pred{Path: "verb", Op: match.Regex, Values: []string{"("}}},
		burst("over-base", 2, "base"), burst("twice", 2, "over-base", "good"),
		burst("over-off", 2, "off"), burst("over-broken", 2, "good", "broken"), burst("over-over", 2, "over-off"),
		burst("self", 2, "self"), burst("ping", 2, "pong"), burst("pong", 2, "ping"),
	}
	set, _ := rule.NewSet(rules)
	p, problems := Compile(set, ProgramOptions{})
	got := map[string]string{}
	for _, x := range problems {
		got[x.Rule] = x.Text
	}
	for id, want := range map[string]string{"over-off": `"off"`, "over-over": `"over-off"`, "self": "itself", "ping": "itself", "pong": "itself"} {
		if !strings.Contains(got[id], want) {
			t.Errorf("%s: %q, want %s", id, got[id], want)
		}
	}
	if _, refused := got["broken"]; refused { // it is the engine that says so
		if !strings.Contains(got["over-broken"], `"broken"`) {
			t.Errorf("over-broken: %q", got["over-broken"])
		}
		if single, correlations := p.Rules(); single != 2 || correlations != 2 {
			t.Errorf("%d rules and %d correlations", single, correlations)
		}
	}
	if r := p.Reach(); r != 4*time.Minute {
		t.Errorf("reach %s", r)
	}
}

func TestFalcoFirst(t *testing.T) {
	falco := func(id string, order int, c rule.Condition) *rule.Rule {
		return &rule.Rule{ID: id, Format: "falco", Order: order, Condition: c, Expr: equal("verb", "get")}
	}
	rules := []*rule.Rule{
		falco("third", 3, nil), falco("second", 2, nil), {ID: "native", Expr: equal("verb", "get")},
		falco("first", 1, condition(func(*audit.Event) (bool, error) { return false, nil })),
	}
	rec := timed(t, 1, 0, 0, "u", "get")
	for first, want := range map[bool][]string{true: {"second a1", "native a1"}, false: {"third a1", "second a1", "native a1"}} {
		p := compile(t, ProgramOptions{FalcoFirst: first}, rules...)
		if diff := cmp.Diff(want, said(p.Judge(JudgeOptions{}).Add(&rec.Event, p.Worker().Match(&rec.Event)))); diff != "" {
			t.Errorf("first %t: %s", first, diff)
		}
	}
}

// TestOneRequestCountsOnce: what correlations count are requests, as findings do, and the order of arrival does not say which event counts.
func TestOneRequestCountsOnce(t *testing.T) {
	base := &rule.Rule{ID: "base", Silent: true, Expr: equal("verb", "get")}
	p := compile(t, ProgramOptions{}, base, burst("two", 2, "base"))
	started := record(t, 1, audit.StageResponseStarted, "x", `,"stageTimestamp":"2026-11-21T13:25:51Z"`)
	complete := record(t, 2, audit.StageResponseComplete, "x", `,"stageTimestamp":"2026-11-21T13:25:52Z"`)
	other := record(t, 3, audit.StageResponseComplete, "y", `,"stageTimestamp":"2026-11-21T13:25:53Z"`)
	for _, order := range [][]audit.Record{{started, complete, other}, {other, complete, started}} {
		j, w := p.Judge(JudgeOptions{Lateness: -1}), p.Worker()
		for i := range order[:2] {
			if got := j.Add(&order[i].Event, w.Match(&order[i].Event)); got != nil {
				t.Error(said(got))
			}
		}
		j.Add(&order[2].Event, w.Match(&order[2].Event))
		got := j.Flush()
		if diff := cmp.Diff([]string{"two y 2 of 2"}, said(got)); diff != "" {
			t.Error(diff)
		}
		if got[0].Evidence[0].Identity != started.Identity.String() {
			t.Error("the first event of the request is the evidence")
		}
	}
}

func TestUseKeepsWindows(t *testing.T) {
	base := &rule.Rule{ID: "base", Silent: true, Expr: equal("verb", "get")}
	p := compile(t, ProgramOptions{}, base, burst("same", 3, "base"), burst("changed", 3, "base"))
	j := p.Judge(JudgeOptions{Lateness: time.Second})
	var got []Result
	add := func(at int, verb string) {
		rec := timed(t, at, at, 0, "u", verb)
		got = append(got, j.Add(&rec.Event, p.Worker().Match(&rec.Event))...)
	}
	add(1, "get")
	add(2, "get")
	add(10, "list")
	add(11, "get") // waits
	p = compile(t, ProgramOptions{}, base, burst("same", 3, "base"), burst("changed", 2, "base"), burst("new", 2, "base"))
	j.Use(p)
	add(12, "get")
	got = append(got, j.Flush()...)
	if diff := cmp.Diff([]string{"same a11 3 of 3", "changed a12 2 of 2", "new a12 2 of 2"}, said(got)); diff != "" {
		t.Error(diff)
	}
}

// scripted is a journal that is read from a place on, and then waits.
type scripted struct {
	recs []audit.Record
	size int
	end  bool
}

func (r *scripted) Next(ctx context.Context) ([]audit.Record, error) {
	if len(r.recs) == 0 {
		if r.end {
			return nil, io.EOF
		}
		<-ctx.Done()
		return nil, ctx.Err()
	}
	n := min(r.size, len(r.recs))
	out := r.recs[:n]
	r.recs = r.recs[n:]
	return out, nil
}

// TestQuietClusterAlerts: what waits for late events is decided when none can come any more, and as a replay decides it.
func TestQuietClusterAlerts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := &rule.Rule{ID: "base", Silent: true, Expr: equal("verb", "get")}
		rules := current(t, base, burst("three", 3, "base"))
		begin := time.Now()
		now := func() time.Time { return epoch.Add(time.Since(begin)) }
		var recs []audit.Record
		for i := range 3 {
			recs = append(recs, timed(t, i+1, i, 1, "u", "get"))
		}
		ctx, stop := context.WithCancel(t.Context())
		var live, replay []audit.Event
		var after time.Duration
		d, err := New(Options{Reader: &scripted{recs: recs, size: 2}, Rules: rules, Now: now, Emit: func(_ context.Context, b audit.Batch) error {
			live, after = append(live, b.Events...), time.Since(begin)
			stop()
			return nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Run(ctx); err != nil {
			t.Fatal(err)
		}
		if len(live) != 1 || after < time.Minute || after > 2*time.Minute {
			t.Fatalf("%d findings after %s", len(live), after)
		}
		d, err = New(Options{Reader: &scripted{recs: recs, size: 3, end: true}, Rules: rules, Emit: func(_ context.Context, b audit.Batch) error {
			replay = append(replay, b.Events...)
			return nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if len(replay) != 1 || string(replay[0].Raw) != string(live[0].Raw) {
			t.Error("a replay gives another finding")
		}
		var doc struct {
			Events []struct{ AuditID string }
		}
		if err := json.Unmarshal(live[0].Raw, &doc); err != nil || len(doc.Events) != 3 || doc.Events[2].AuditID != "a3" {
			t.Errorf("evidence %+v", doc)
		}
	})
}

// TestCrashAnywhereCorrelated stops the detector at every call of Emit and Save while events wait for late ones, starts another behind
// the saved cursor that reads again from the beginning, and wants every finding at least once, the same bytes, and few of them again.
func TestCrashAnywhereCorrelated(t *testing.T) {
	base := &rule.Rule{ID: "base", Expr: equal("verb", "get")}
	rules := []*rule.Rule{base, burst("burst", 3, "base"), burst("bursts", 2, "burst")}
	var recs []audit.Record
	for i := range 120 {
		verb := "get"
		if i%7 == 0 {
			verb = "list"
		}
		recs = append(recs, timed(t, i+1, i*5-(i*13)%40, (i*13)%40, []string{"u", "v"}[i%2], verb))
	}
	run := func(from uint64, emit func(audit.Batch) error, save func(uint64) error) error {
		d, err := New(Options{Reader: &scripted{recs: recs, size: 3, end: true}, Rules: current(t, rules...), From: from,
			Emit: func(_ context.Context, b audit.Batch) error { return emit(b) },
			Save: func(_ context.Context, next uint64) error { return save(next) },
			Wait: func(context.Context, time.Duration) error { return errCrash }})
		if err != nil {
			t.Fatal(err)
		}
		return d.Run(t.Context())
	}
	want := map[audit.Identity]bool{}
	calls := 0
	count := func() { calls++ }
	if err := run(0, func(b audit.Batch) error {
		count()
		for i := range b.Events {
			want[b.Events[i].Identity()] = true
		}
		return nil
	}, func(uint64) error { count(); return nil }); err != nil {
		t.Fatal(err)
	}
	if len(want) < 110 {
		t.Fatalf("%d findings", len(want))
	}
	for at := range calls {
		got := map[audit.Identity]bool{}
		cursor, n, repeated := uint64(0), 0, 0
		step := func(crashing bool, done func()) error {
			if n++; crashing && n > at {
				if n == at+1 && at%2 == 0 {
					done() // written, but the answer was lost
				}
				return errCrash
			}
			done()
			return nil
		}
		for _, crashing := range []bool{true, false} {
			err := run(cursor, func(b audit.Batch) error {
				return step(crashing, func() {
					for i := range b.Events {
						id := b.Events[i].Identity()
						if got[id] {
							repeated++
						}
						got[id] = true
					}
				})
			}, func(next uint64) error { return step(crashing, func() { cursor = next }) })
			if err != nil && (!crashing || !errors.Is(err, errCrash)) {
				t.Fatal(err)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("crash at call %d: %s", at, diff)
		}
		if repeated > 10 {
			t.Fatalf("crash at call %d: %d findings again", at, repeated)
		}
	}
}

var errCrash = errors.New("crash")

// Whole seconds, as in the {correlation.seconds} of messages: two rules on the same events say the same.
func TestMessageSeconds(t *testing.T) {
	ev := timed(t, 1, 0, 0, "bob", "get").Event
	got := message(burst("b", 2), &ev, rule.Facts{Events: 2, First: 1_000_000, Last: 6_900_000})
	if !strings.HasSuffix(got, " (2 events in 5s, the last of them this)") {
		t.Errorf("message is %q", got)
	}
}

func TestRunTests(t *testing.T) {
	get, list := timed(t, 1, 1, 0, "u", "get").Event, timed(t, 2, 2, 0, "u", "list").Event
	again := timed(t, 3, 3, 0, "u", "get").Event
	base := &rule.Rule{ID: "base", Silent: true, Expr: equal("verb", "get"), File: "f", Tests: []rule.Test{
		{Name: "one", Match: true, Event: get}, {Name: "several", Match: true, Events: []audit.Event{list, get}}, {Name: "wrong", Line: 7, Match: true, Event: list},
	}}
	two := burst("two", 2, "base")
	two.File = "f"
	m, err := rule.ParseMessage("{user.username} did it", func(string) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	two.Message = m
	two.Tests = []rule.Test{
		{Name: "twice", Match: true, Events: []audit.Event{get, list, again}, Message: "u did it"},
		{Name: "once", Events: []audit.Event{get, list}},
		{Name: "wrong", Line: 8, Match: true, Events: []audit.Event{get, list}},
		{Name: "message", Line: 9, Match: true, Events: []audit.Event{get, again}, Message: "v did it"},
	}
	lost := burst("lost", 2, "nobody")
	lost.File = "f"
	lost.Tests = []rule.Test{{Name: "none", Line: 10, Match: true, Events: []audit.Event{get}}}
	var got []string
	for _, p := range RunTests([]*rule.Rule{base, two, lost}, ProgramOptions{}) {
		got = append(got, p.Error())
	}
	want := []string{
		`f:7: rule base: test "wrong": match is false, want true`,
		`f:8: rule two: test "wrong": match is false, want true`,
		`f:9: rule two: test "message": message is "u did it", want "v did it"`,
		`f:10: rule lost: test "none": it correlates rule "nobody", which is not in force`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestRawIsTheSame: matching bytes finds what matching events finds.
func TestRawIsTheSame(t *testing.T) {
	p, _ := Compile(pack(t), ProgramOptions{})
	a, b := p.Worker(), p.Worker()
	recs := records(t, "edge-1.36.log.zst", 2000)
	for i := range recs {
		want := fmt.Sprint(a.Match(&recs[i].Event))
		ev, hits, err := b.MatchRaw("test", recs[i].Event.Raw)
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(hits); got != want || ev == nil && want != "[]" {
			t.Fatalf("hits %s, want %s", got, want)
		}
	}
	if _, _, err := b.MatchRaw("test", []byte("{")); err == nil {
		t.Error("half an event is one")
	}
}

// BenchmarkRaw is what a scan does with each line: match its bytes, judge what hits.
func BenchmarkRaw(b *testing.B) {
	p, _ := Compile(pack(b), ProgramOptions{})
	recs := records(b, "apiserver-1.36.log.zst", 0)
	n := 0
	for i := range recs {
		n += len(recs[i].Event.Raw)
	}
	w, j := p.Worker(), p.Judge(JudgeOptions{Lateness: -1})
	b.SetBytes(int64(n))
	b.ReportAllocs()
	for b.Loop() {
		for i := range recs {
			if ev, hits, err := w.MatchRaw("c", recs[i].Event.Raw); err == nil && ev != nil {
				j.Add(ev, hits)
			}
		}
	}
}
