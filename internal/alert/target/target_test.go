package target

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"pgregory.net/rapid"

	"whodunit/internal/alert"
	"whodunit/internal/alert/post"
	"whodunit/internal/finding"
	"whodunit/internal/rule"
)

// rules are some of which one may be taken away. Safe for concurrent use.
type rules struct {
	mu   sync.Mutex
	byID map[string]*rule.Rule
}

func newRules(all ...*rule.Rule) *rules {
	r := &rules{byID: map[string]*rule.Rule{}}
	for _, x := range all {
		r.byID[x.ID] = x
	}
	return r
}

func (r *rules) get(id string) (*rule.Rule, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	x, ok := r.byID[id]
	return x, ok
}

func (r *rules) set(x *rule.Rule) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.byID[x.ID] = x
}

func composite(id string, targets ...rule.Target) *rule.Rule {
	return &rule.Rule{ID: id, Title: "Name of " + id, Description: `verb = "get"`, Targets: targets}
}

func fires(seq uint64, rule, state string, at time.Time) alert.Finding {
	return alert.Finding{Seq: seq, Cluster: "prod", Rule: rule, Message: fmt.Sprintf("message %d", seq), State: state, Time: at}
}

func create(t rapid.TB, o Options) *Notifier {
	t.Helper()
	n, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	n.s.jitter = func() float64 { return 0 }
	return n
}

// start runs n until the test, or the given function, ends it.
func start(t *testing.T, n *Notifier) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- n.Run(ctx) }()
	return sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func TestBodies(t *testing.T) {
	column := &rule.Rule{Title: "A & <b>", Description: "verb column equal to get, 2 times"}
	labels := map[string]string{"rule_type": "column"}
	d := Deployment{Instance: "https://w", Mode: "standalone"}
	am := func(message, ends string) string {
		return `[{"labels":{"alertname":"A \u0026 \u003cb\u003e","deployment_instance":"https://w","deployment_mode":"standalone","rule_type":"column","status":"firing","stream":"prod"},` +
			`"annotations":{"message":"` + message + `","reason":"verb column equal to get, 2 times"}` + ends + `}]`
	}
	for _, tt := range []struct {
		kind kind
		typ  string
		want string
	}{
		{first, "webhook", "A & <b> triggered on prod\nMessage: <!here> x  Failing Condition: none\nFailing Condition: verb column equal to get, 2 times"},
		{repeat, "webhook", "A & <b> triggered on prod\nMessage: <!here> x  Failing Condition: none\nFailing Condition: verb column equal to get, 2 times"},
		{unsolved, "webhook", "A & <b> triggered on prod\nMessage: not resolved after 5 repeats, this is the last message: <!here> x  Failing Condition: none\n" +
			"Failing Condition: verb column equal to get, 2 times"},
		{resolved, "webhook", "A & <b> on prod is now resolved "},
		{first, "slack", `{"text":"A \u0026amp; \u0026lt;b\u0026gt; triggered on prod\nMessage: \u0026lt;!here\u0026gt; x  Failing Condition: none\nFailing Condition: verb column equal to get, 2 times"}`},
		{resolved, "slack", `{"text":"A \u0026amp; \u0026lt;b\u0026gt; on prod is now resolved "}`},
		{first, "alertmanager", am(`\u003c!here\u003e x  Failing Condition: none`, "")},
		{resolved, "alertmanager", am(`\u003c!here\u003e x  Failing Condition: none`, `,"endsAt":"2026-11-21T12:00:00Z"`)},
	} {
		r := &run{Rule: "r", Cluster: "prod", Message: "<!here> x\r\nFailing Condition: none", Ended: epoch}
		req, err := d.request(job{r, tt.kind, column, &rule.Target{Type: tt.typ, Times: 5, Labels: labels}})
		if err != nil {
			t.Fatal(err)
		}
		if diff := gocmp.Diff(tt.want, string(req.Body)); diff != "" {
			t.Errorf("%s: %s", tt.typ, diff)
		}
		if plain := strings.HasPrefix(req.Type, "text/plain"); plain != (tt.typ == "webhook") {
			t.Errorf("%s: %s", tt.typ, req.Type)
		}
	}
}

// TestServers: targets of all types over HTTP and TLS; no secret shows.
func TestServers(t *testing.T) {
	type got struct{ header, auth, typ string }
	var seen []got
	answer := http.StatusOK
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		seen = append(seen, got{r.Header.Get("X-Key"), user + ":" + password, r.Header.Get("Content-Type")})
		if answer == http.StatusTooManyRequests {
			w.Header().Set("Retry-After", "77")
		}
		w.WriteHeader(answer)
	})
	open, closed := httptest.NewServer(handler), httptest.NewTLSServer(handler)
	defer open.Close()
	defer closed.Close()
	closed.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	hanging := make(chan struct{})
	hang := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-hanging }))
	defer hang.Close()
	defer close(hanging)
	post := func(target rule.Target) error {
		n := create(t, Options{Rule: newRules().get, Timeout: time.Second})
		if target.Endpoint == hang.URL {
			n.o.Timeout = 20 * time.Millisecond
		}
		c := n.client(composite("r", target), 0)
		defer c.close()
		if c.err != nil {
			return c.err
		}
		req, err := n.o.Deployment.request(job{&run{}, first, composite("r"), &target})
		if err != nil {
			t.Fatal(err)
		}
		return n.send(t.Context(), c, req)
	}
	for _, tt := range []struct {
		target rule.Target
		answer int
		want   string
		seen   []got
	}{
		{rule.Target{Type: "webhook", Endpoint: open.URL + "/s3cret", Headers: map[string]string{"X-Key": "s3cret"}}, 200, "", []got{{"s3cret", ":", "text/plain; charset=utf-8"}}},
		{rule.Target{Type: "slack", Endpoint: open.URL}, 204, "", []got{{"", ":", "application/json"}}},
		{rule.Target{Type: "alertmanager", Endpoint: open.URL, Username: "u", Password: "p"}, 200, "", []got{{"", "u:p", "application/json"}}},
		{rule.Target{Type: "webhook", Endpoint: closed.URL, SkipTLSCheck: true}, 200, "", []got{{"", ":", "text/plain; charset=utf-8"}}},
		{rule.Target{Type: "webhook", Endpoint: closed.URL + "/s3cret"}, 200, "certificate", nil},
		{rule.Target{Type: "webhook", Endpoint: open.URL + "/s3cret"}, 500, "answers 500", []got{{"", ":", "text/plain; charset=utf-8"}}},
		{rule.Target{Type: "webhook", Endpoint: open.URL + "/s3cret"}, 429, "answers 429", []got{{"", ":", "text/plain; charset=utf-8"}}},
		{rule.Target{Type: "webhook", Endpoint: open.URL + "/s3cret"}, 400, "answers 400", []got{{"", ":", "text/plain; charset=utf-8"}}},
		{rule.Target{Type: "webhook", Endpoint: hang.URL}, 0, "deadline", nil},
		{rule.Target{Type: "webhook", Endpoint: "<webhook.site_s3cret>"}, 0, "url: http:// or https:// and a host are expected", nil},
	} {
		seen, answer = nil, tt.answer
		err := post(tt.target)
		if (err == nil) != (tt.want == "") || err != nil && (!strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "s3cret")) {
			t.Errorf("%+v: %v, want %s", tt.target, err, tt.want)
		}
		if diff := gocmp.Diff(tt.seen, seen, gocmp.AllowUnexported(got{})); diff != "" {
			t.Errorf("%+v: %s", tt.target, diff)
		}
		if pause := alert.Pause(err); (pause == 77*time.Second) != (tt.answer == 429) {
			t.Errorf("%+v: pause %s", tt.target, pause)
		}
	}
}

// TestSlow: a target that hangs holds up no other, and is let go in the end.
func TestSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow, fast := every(10*time.Second, 5), every(10*time.Second, 5)
		slow.Endpoint = "http://slow"
		n := create(t, Options{Rule: newRules(composite("r", slow, fast)).get, Compat: Strict})
		var mu sync.Mutex
		taken := map[string]int{}
		begin := time.Now()
		n.send = func(ctx context.Context, c *client, _ post.Request) error {
			if c.Host() == "slow" {
				<-ctx.Done()
				return ctx.Err()
			}
			mu.Lock()
			defer mu.Unlock()
			taken[time.Since(begin).String()]++
			return nil
		}
		stop := start(t, n)
		if err := n.Notify(t.Context(), []alert.Finding{fires(1, "r", "", time.Now())}); err != nil {
			t.Fatal(err)
		}
		<-time.After(2 * time.Minute)
		synctest.Wait()
		if diff := gocmp.Diff(map[string]int{"0s": 1, "10s": 1, "20s": 1, "30s": 1, "40s": 1, "50s": 1, "1m0s": 1}, taken); diff != "" {
			t.Error(diff)
		}
		stop()
		if r := n.s.runs[key{"r", "prod", 0}]; len(n.s.runs) != 1 || r.Sent != 0 || r.flying != nothing || r.tries != 0 {
			t.Errorf("%+v", r)
		}
	})
}

// TestCounts: what begins no alert is counted, what cannot be posted to is logged once and without its address.
func TestCounts(t *testing.T) {
	var log bytes.Buffer
	reg := prometheus.NewRegistry()
	placeholder := rule.Target{Type: "webhook", Endpoint: "<webhook.site_s3cret>"}
	off := composite("off", every(time.Minute, 1))
	off.Off = "enabled: false"
	all := newRules(composite("r", placeholder, every(time.Minute, 1)), composite("more", every(time.Minute, 1)), &rule.Rule{ID: "none"}, off)
	n := create(t, Options{Rule: all.get, Registerer: reg, MaxActive: 1, Now: func() time.Time { return epoch }, Logger: slog.New(slog.NewTextHandler(&log, nil)),
		Silenced: func(f *alert.Finding) bool { return f.User == "quiet" }})
	silent := fires(3, "r", "", epoch)
	silent.User = "quiet"
	err := n.Notify(t.Context(), []alert.Finding{fires(1, "unknown", "", epoch), fires(2, "none", "", epoch), silent, fires(4, "r", "", epoch.Add(-25*time.Hour)),
		fires(5, "r", finding.Resolved, epoch), fires(6, "off", "", epoch), fires(7, "r", "", epoch), fires(8, "r", "", epoch), fires(9, "more", "", epoch), fires(9, "more", "", epoch)})
	if err != nil {
		t.Fatal(err)
	}
	if parcels, _ := n.pass(); len(parcels) != 1 || parcels[0].r.Message != "message 7" {
		t.Error(parcels)
	}
	for reason, want := range map[string]float64{"silenced": 1, "old": 1, "endpoint": 2, "too_many": 1} {
		if got := testutil.ToFloat64(n.m.skipped.WithLabelValues(reason)); got != want {
			t.Errorf("%s: %g, want %g", reason, got, want)
		}
	}
	if got := log.String(); strings.Count(got, "\n") != 1 || strings.Contains(got, "s3cret") || !strings.Contains(got, "target=1 type=webhook") {
		t.Error(got)
	}
	if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
		t.Error(problems, err)
	}
	for _, o := range []Options{{}, {Rule: all.get, Compat: "loose"}} {
		if _, err := New(o); err == nil {
			t.Errorf("%+v is taken", o)
		}
	}
}

// TestReload: the schedule goes on with what the rule's file says now, and ends with the rule.
func TestReload(t *testing.T) {
	now := epoch
	all := newRules(composite("r", every(time.Minute, 5)))
	n := create(t, Options{Rule: all.get, Now: func() time.Time { return now }})
	var hosts []string
	step := func(by time.Duration) {
		now = now.Add(by)
		parcels, _ := n.pass()
		for _, p := range parcels {
			hosts = append(hosts, p.c.Host())
			n.finish(t.Context(), []outcome{{p, nil}})
		}
	}
	if err := n.Notify(t.Context(), []alert.Finding{fires(1, "r", "", now)}); err != nil {
		t.Fatal(err)
	}
	step(0)
	moved := every(time.Minute, 5)
	moved.Endpoint = "http://moved"
	all.set(composite("r", moved))
	step(time.Minute)
	moved.Endpoint = "<none>"
	all.set(composite("r", moved))
	step(time.Minute)
	if diff := gocmp.Diff([]string{"h", "moved"}, hosts); diff != "" || len(n.s.runs) != 0 {
		t.Error(diff, n.s.runs)
	}
	delete(all.byID, "r")
	if n.pass(); len(n.clients) != 0 {
		t.Error(n.clients)
	}
}

func TestState(t *testing.T) {
	path := filepath.Join(t.TempDir(), "targets.json")
	secret := rule.Target{Type: "alertmanager", Endpoint: "http://h/s3cret", Headers: map[string]string{"A": "s3cret"}, Username: "s3cret", Password: "s3cret", Interval: time.Minute, Times: 5}
	o := Options{Rule: newRules(composite("r", secret)).get, StateFile: path, Now: func() time.Time { return epoch }}
	n := create(t, o)
	if next, ok := n.Next(); next != 0 || ok {
		t.Error(next, ok)
	}
	if err := n.Notify(t.Context(), []alert.Finding{fires(7, "r", "", epoch)}); err != nil {
		t.Fatal(err)
	}
	if err := n.Save(t.Context(), 9); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil || bytes.Contains(b, []byte("s3cret")) {
		t.Errorf("%s %v", b, err)
	}
	again := create(t, o)
	if next, ok := again.Next(); next != 9 || !ok || len(again.s.runs) != 1 {
		t.Error(next, ok, again.s.runs)
	}
	for _, text := range []string{"", `{`, `[]`, `{"version":2,"next":9}`} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		fresh := create(t, o)
		kept, err := os.ReadFile(path + ".bad")
		if next, ok := fresh.Next(); ok || next != 0 || len(fresh.s.runs) != 0 || err != nil || string(kept) != text || testutil.ToFloat64(fresh.m.damaged) != 1 {
			t.Errorf("%q: next %d %t, set aside %q %v", text, next, ok, kept, err)
		}
	}
	n.o.StateFile = filepath.Join(path, "below")
	if err := n.Save(t.Context(), 10); err == nil || testutil.ToFloat64(n.m.unsaved) != 1 {
		t.Error(err)
	}
}

// scene is what happens to a Notifier that may be killed at any moment: it then begins again with what was durable.
type scene struct {
	t        *rapid.T
	o        Options
	n        *Notifier
	now      time.Time
	findings []alert.Finding // in the order of time
	durable  []byte
	kill     func() bool
	kills    int
	said     []string
}

func (s *scene) dies() bool {
	if !s.kill() {
		return false
	}
	s.kills++
	s.n = create(s.t, s.o)
	if s.durable != nil {
		if err := s.n.read(s.durable); err != nil {
			s.t.Fatal(err)
		}
	}
	return true
}

func (s *scene) save() {
	b, err := s.n.snapshot()
	if err != nil {
		s.t.Fatal(err)
	}
	s.durable = b
}

// step does what there is to do now, as Pump and Run do it, and gives the next time at which there is something.
func (s *scene) step() (time.Time, bool) {
	for _, f := range s.findings {
		if next, _ := s.n.Next(); f.Seq < next || f.Time.After(s.now) {
			continue
		}
		if err := s.n.Notify(context.Background(), []alert.Finding{f}); err != nil {
			s.t.Fatal(err)
		}
		if s.dies() {
			return s.now, true
		}
		s.save()
	}
	parcels, pause := s.n.pass()
	slices.SortFunc(parcels, func(a, b parcel) int { return cmp.Or(strings.Compare(a.r.Rule, b.r.Rule), a.r.Target-b.r.Target) })
	for _, p := range parcels {
		if s.dies() {
			return s.now, true
		}
		s.said = append(s.said, fmt.Sprintf("%s %d %s", s.now.Sub(epoch), p.r.Target, p.req.Body))
		if s.dies() {
			return s.now, true
		}
		s.n.finish(context.Background(), []outcome{{p, nil}})
		s.save()
		if s.dies() {
			return s.now, true
		}
	}
	next := s.now.Add(pause)
	if len(parcels) > 0 {
		next = s.now
	}
	for _, f := range s.findings {
		if f.Time.After(s.now) && f.Time.Before(next) {
			next = f.Time
		}
	}
	return next, next.Before(epoch.Add(time.Hour))
}

// TestKilledAtAnyMoment: no message is missing, and at most one comes twice for each time.
func TestKilledAtAnyMoment(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		column := composite("column", every(time.Minute, 2))
		column.Correlation = &rule.Correlation{Type: rule.Streak}
		all := newRules(composite("composite", every(10*time.Second, 3), every(40*time.Second, 1)), column)
		var findings []alert.Finding
		at := epoch
		for i := range rapid.IntRange(1, 8).Draw(t, "findings") {
			at = at.Add(time.Duration(rapid.IntRange(1, 400).Draw(t, "after")) * time.Second)
			what := rapid.SampledFrom([][2]string{{"composite", ""}, {"column", ""}, {"column", finding.Resolved}}).Draw(t, "what")
			findings = append(findings, fires(uint64(i+1), what[0], what[1], at))
		}
		o := Options{Rule: all.get, Compat: rapid.SampledFrom([]string{Default, Strict}).Draw(t, "compat")}
		play := func(kill func() bool) *scene {
			s := &scene{t: t, o: o, now: epoch, findings: findings, kill: kill}
			s.o.Now = func() time.Time { return s.now }
			s.n = create(t, s.o)
			for ok := true; ok; {
				s.now, ok = s.step()
			}
			return s
		}
		count := func(said []string) map[string]int {
			m := map[string]int{}
			for _, x := range said {
				m[x]++
			}
			return m
		}
		want := play(func() bool { return false })
		got := play(func() bool { return rapid.IntRange(0, 9).Draw(t, "kill") == 0 })
		if missing := gocmp.Diff(keys(count(want.said)), keys(count(got.said))); missing != "" {
			t.Fatal(missing)
		}
		if more := len(got.said) - len(want.said); more > got.kills {
			t.Fatalf("%d messages too many for %d kills", more, got.kills)
		}
	})
}

func keys(m map[string]int) map[string]bool {
	out := map[string]bool{}
	for k := range maps.Keys(m) {
		out[k] = true
	}
	return out
}

// TestUndated: an event that does not say when it was is one of now.
func TestUndated(t *testing.T) {
	n := create(t, Options{Rule: newRules(composite("r", every(time.Minute, 1))).get, Now: func() time.Time { return epoch }})
	if err := n.Notify(t.Context(), []alert.Finding{fires(1, "r", "", time.UnixMicro(0))}); err != nil {
		t.Fatal(err)
	}
	if parcels, _ := n.pass(); len(parcels) != 1 {
		t.Error(parcels)
	}
}
