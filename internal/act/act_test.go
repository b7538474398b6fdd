package act

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"k8s.io/client-go/rest"

	"whodunit/internal/alert"
	"whodunit/internal/audit"
	"whodunit/internal/finding"
)

type m = map[string]any

func ref(resource, ns, name string) m {
	return m{"resource": resource, "namespace": ns, "name": name, "apiVersion": "v1"}
}

const deleteWeb = `DELETE /api/v1/namespaces/team-a/pods/web {"apiVersion":"v1","kind":"DeleteOptions","preconditions":{"uid":"` + podUID + `"}}`

func killer() Action { return Action{Name: "kill", Kind: DeletePod, Live: true} }

// What holds an action back, in the order of the guards, with nothing changed.
func TestGuards(t *testing.T) {
	for _, tt := range []struct {
		name  string
		event m
		how   outcome
		text  string
	}{
		{"kube-system", m{"objectRef": ref("pods", "kube-system", "web")}, refused, "nothing is ever done in namespace kube-system"},
		{"kube-public", m{"objectRef": ref("pods", "kube-public", "web")}, refused, "nothing is ever done"},
		{"kube-node-lease", m{"objectRef": ref("pods", "kube-node-lease", "web")}, refused, "nothing is ever done"},
		{"our own namespace", m{"objectRef": ref("pods", "team-own", "web")}, refused, "is our own"},
		{"deny-list", m{"objectRef": ref("pods", "team-b", "web")}, refused, "team-b is denied"},
		{"allow-list", m{"objectRef": ref("pods", "shop", "web")}, refused, "shop is not allowed"},
		{"no namespace", m{"objectRef": ref("pods", "", "web")}, refused, "not allowed for the whole cluster"},
		{"hostile namespace", m{"objectRef": ref("pods", "team-a/../kube-system", "web")}, refused, "no name of a namespace"},
		{"too old", m{"stageTimestamp": "2026-03-01T11:44:00Z"}, expired, "not older than 15m"},
		{"from the future", m{"stageTimestamp": "2026-03-01T12:16:00Z"}, expired, ""},
		{"no time", m{"stageTimestamp": nil, "requestReceivedTimestamp": nil}, expired, ""},
		{"old and of kube-system", m{"objectRef": ref("pods", "kube-system", "web"), "stageTimestamp": "2020-01-01T00:00:00Z"}, refused, "kube-system"},
		{"refused request", m{"responseStatus": m{"code": 403}}, refused, "answered with 403"},
		{"no answer yet", m{"responseStatus": nil, "stage": "RequestReceived"}, refused, "answered with 0"},
		{"dry run of theirs", m{"requestURI": "/api/v1/namespaces/team-a/pods/web?dryRun=All"}, refused, "dry run"},
		{"dry run of theirs, in the body", m{"verb": "delete", "requestObject": m{"kind": "DeleteOptions", "dryRun": []string{"All"}}}, refused, "dry run"},
		{"dry run of an eviction", m{"requestObject": m{"kind": "Eviction", "deleteOptions": m{"dryRun": []string{"All"}}}}, refused, "dry run"},
		{"our own account", m{"user": m{"username": us}}, refused, "our own account"},
		{"other resource", m{"objectRef": ref("configmaps", "team-a", "web")}, unsupported, "it is for pods"},
		{"no object", m{"objectRef": nil}, refused, "no namespace"},
		{"no name", m{"objectRef": ref("pods", "team-a", "")}, unsupported, "has no name"},
		{"dots", m{"objectRef": ref("pods", "team-a", "..")}, refused, "no name that we put into a path"},
		{"slash", m{"objectRef": ref("pods", "team-a", "web/../../../kube-system/pods/dns")}, refused, "no name that we put into a path"},
		{"escape", m{"objectRef": ref("pods", "team-a", "web%2f..")}, refused, "no name that we put into a path"},
		{"query", m{"objectRef": ref("pods", "team-a", "web?force=1")}, refused, "no name that we put into a path"},
		{"control character", m{"objectRef": ref("pods", "team-a", "web\n\x1b[31m")}, refused, "no name that we put into a path"},
		{"recreated, by uid", m{"responseObject": m{"kind": "Pod", "metadata": m{"name": "web", "uid": "other"}}}, refused, "it was replaced since"},
		{"recreated, by time", m{"stageTimestamp": "2026-03-01T11:50:00Z", "objectRef": ref("pods", "team-a", "young")}, refused, "made after the event"},
		{"gone", m{"objectRef": ref("pods", "team-a", "gone")}, failed, "not found"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := killer()
			a.Deny = []string{"team-b"}
			b := newBench(t, a)
			b.api.objects["/api/v1/namespaces/team-a/pods/young"] = pod("young", podUID, "2026-03-01T11:55:00Z", "")
			if err := b.actor.learn("one", us); err != nil {
				t.Fatal(err)
			}
			b.outcome(event(t, tt.event), tt.how, tt.text)
			b.wants()
		})
	}
}

func TestUnknownCluster(t *testing.T) {
	b := newBench(t, killer())
	ev := event(t, nil)
	ev.Cluster = "two"
	b.outcome(ev, refused, "no client is configured for cluster two")
	b.wants()
}

// What the journal gives for the evidence is taken for the event only if it is that one: the guards looked at the finding's.
func TestOtherEvent(t *testing.T) {
	b := newBench(t, killer())
	ev := event(t, nil)
	f := b.found("r-1", ev)
	b.whole[ev.Identity().String()] = event(t, m{"auditID": "a-2", "objectRef": ref("pods", "kube-system", "web")})
	b.notify(f)
	b.wants(deleteWeb)
}

// A redirect is not followed: it would take the request, and our token, to where nobody told us to go.
func TestRedirect(t *testing.T) {
	b := newBench(t, killer())
	other := newFakeAPI(t)
	b.api.Config.Handler = http.RedirectHandler(other.URL+"/", http.StatusTemporaryRedirect)
	b.outcome(event(t, nil), failed, "who we are")
	if len(other.got) > 0 {
		t.Errorf("it was followed: %v", other.got)
	}
}

// The account that the API server gives us tells our namespace, too.
func TestOwnNamespaceOfAccount(t *testing.T) {
	a := killer()
	a.Namespaces = []string{"*"}
	b := newBench(t, a)
	b.outcome(event(t, m{"objectRef": ref("pods", "whodunit", "web")}), refused, "is our own") // before it was known, and ...
	b.outcome(event(t, m{"auditID": "a-2", "objectRef": ref("pods", "whodunit", "web")}), refused, "is our own")
	b.wants()
}

func TestDone(t *testing.T) {
	b := newBench(t, killer())
	reg := prometheus.NewRegistry()
	b.o.Registerer = reg
	b.start()
	ev := event(t, nil)
	out := b.notify(b.found("r-1", ev))
	b.wants(deleteWeb)
	if len(out) != 1 {
		t.Fatalf("%d outcomes", len(out))
	}
	got := out[0]
	want := alert.Finding{Cluster: "one", Rule: "whodunit-action-kill", Title: "Action kill", AuditID: "a-1", Verb: "create", User: "mallory", Severity: finding.Info,
		Tags: []string{"whodunit.action"}, Time: ev.Time(), Events: []finding.Evidence{{Cluster: "one", AuditID: "a-1", Stage: "ResponseComplete", Identity: ev.Identity().String()}},
		ID: got.ID, Doc: got.Doc, Event: got.Event, Message: "delete pod pods/web in team-a of one: done (rule r-1, finding " + b.found("r-1", ev).ID + ")"}
	if d := cmp.Diff(want, got, cmp.AllowUnexported(audit.Event{}), cmp.Comparer(func(a, b *audit.Event) bool { return a == b })); d != "" {
		t.Error(d)
	}
	// That outcome, or one by the same name from elsewhere, sets off nothing, though the pattern is for all rules.
	b.actor.actions[0].Rules = []string{"*"}
	if again := b.notify(got); len(again) != 0 {
		t.Errorf("the finding of an action set off %v", again)
	}
	if again := b.notify(b.found("whodunit-action-kill", event(t, m{"auditID": "a-2", "objectRef": ref("pods", "team-a", "other")}))); len(again) != 0 {
		t.Errorf("a finding of an action about another event set off %v", again)
	}
	err := testutil.GatherAndCompare(reg, strings.NewReader(`# HELP whodunit_actions_total Actions that findings asked for, by outcome.
# TYPE whodunit_actions_total counter
whodunit_actions_total{action="kill",kind="delete_pod",outcome="done"} 1
`), "whodunit_actions_total")
	if err != nil {
		t.Error(err)
	}
}

// Which findings set an action off.
func TestWanted(t *testing.T) {
	a := killer()
	a.MinSeverity = finding.Critical
	b := newBench(t, a, Action{Name: "named", Kind: DeletePod})
	b.actor.actions[1].Rules = nil
	b.named["r-1"] = []string{"named", "nobody"}
	if out := b.notify(b.found("r-1", event(t, nil))); len(out) != 1 || out[0].Rule != "whodunit-action-named" {
		t.Errorf("the named action alone is wanted: %v", out)
	}
	if n := testutil.ToFloat64(b.actor.metrics.unknown); n != 1 {
		t.Errorf("%v unknown actions", n)
	}
	if out := b.notify(b.found("other", event(t, m{"auditID": "a-2"}))); len(out) != 0 {
		t.Errorf("an unnamed rule set off %v", out)
	}
	f := b.found("r-1", event(t, m{"auditID": "a-3"}))
	f.State = finding.Resolved
	if out := b.notify(f); len(out) != 0 {
		t.Errorf("what is over set off %v", out)
	}
}

// The same finding again, after a restart too, is the same outcome and no other attempt; so is another rule's finding on the event.
func TestOnce(t *testing.T) {
	b := newBench(t, killer())
	f := b.found("r-1", event(t, nil))
	first := b.notify(f)
	for range 2 {
		again := b.notify(f)
		if d := cmp.Diff(string(first[0].Doc), string(again[0].Doc)); d != "" {
			t.Error(d)
		}
		b.now = b.now.Add(time.Hour) // past all limits
		b.start()
	}
	if out := b.notify(b.found("r-2", event(t, nil))); len(out) != 0 {
		t.Errorf("the event set off the action again: %v", out)
	}
	b.wants(deleteWeb)
}

// A crash between intent and outcome, at any point: reported once it is back, and never tried again.
func TestCrash(t *testing.T) {
	for _, torn := range []string{"", `{"t":17`, "\x00\x00\x00", `{"t":1,"event":"x","action":"y"}`} {
		b := newBench(t, killer())
		log := filepath.Join(b.o.Dir, "actions.jsonl")
		var intent []byte
		b.api.hook = func(r *http.Request) {
			if r.Method == http.MethodDelete { // what is on disk by then is all that the next process sees
				intent, _ = os.ReadFile(log)
			}
		}
		f := b.found("r-1", event(t, nil))
		b.notify(f)
		b.actor.Close()
		if len(intent) == 0 {
			t.Fatal("the request came before the intent")
		}
		if err := os.WriteFile(log, append(intent, torn...), 0o600); err != nil {
			t.Fatal(err)
		}
		b.start()
		for range 2 {
			out := b.notify(f)
			if len(out) != 1 || !strings.Contains(out[0].Message, ": interrupted: ") || out[0].Severity != finding.Medium {
				t.Errorf("after %q: %v", torn, out)
			}
			b.start()
		}
		b.wants(deleteWeb)
	}
}

// An action that the configuration lost meanwhile is brought to its end as well.
func TestCrashWithoutAction(t *testing.T) {
	b := newBench(t, killer())
	f := b.found("r-1", event(t, nil))
	_, key := evidence(&f)
	if err := b.actor.log.save(&entry{Micros: b.now.UnixMicro(), Event: key, Action: "kill", Kind: DeletePod, Finding: f.ID, Rule: f.Rule, Tried: true}, true); err != nil {
		t.Fatal(err)
	}
	b.o.Actions = nil
	b.start()
	if out := b.notify(f); len(out) != 1 || !strings.Contains(out[0].Message, "interrupted") {
		t.Errorf("got %v", out)
	}
}

func TestStopped(t *testing.T) {
	b := newBench(t, killer())
	ctx, cancel := context.WithCancel(t.Context())
	b.api.hook = func(r *http.Request) {
		if r.Method == http.MethodDelete {
			cancel()
			<-r.Context().Done()
		}
	}
	f := b.found("r-1", event(t, nil))
	b.o.Emit = func(ctx context.Context, _ audit.Batch) error { return ctx.Err() }
	b.actor.o.Emit = b.o.Emit
	if err := b.actor.Notify(ctx, []alert.Finding{f}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	b.actor.o.Emit = func(_ context.Context, batch audit.Batch) error {
		b.emitted = append(b.emitted, batch.Events...)
		return nil
	}
	if out := b.notify(f); len(out) != 1 || !strings.Contains(out[0].Message, "interrupted") {
		t.Errorf("got %v", out)
	}
	b.wants(deleteWeb)
}

// Errors on the way are given back, and nothing is lost or done twice.
func TestErrors(t *testing.T) {
	b := newBench(t, killer())
	f := b.found("r-1", event(t, nil))
	broken := errors.New("broken")
	b.actor.o.Event = func(context.Context, finding.Evidence) (*audit.Event, error) { return nil, broken }
	if err := b.actor.Notify(t.Context(), []alert.Finding{f}); !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
	b.actor.o.Event = b.o.Event
	log := filepath.Join(b.o.Dir, "actions.jsonl")
	b.actor.log.close()
	if err := os.Rename(log, log+".away"); err != nil {
		t.Fatal(err)
	}
	if err := b.actor.Notify(t.Context(), []alert.Finding{f}); err == nil {
		t.Error("an intent that is not on disk is no error")
	}
	b.wants() // the request waits for the intent
	if err := os.Rename(log+".away", log); err != nil {
		t.Fatal(err)
	}
	b.fails = broken
	if err := b.actor.Notify(t.Context(), []alert.Finding{f}); !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
	b.fails = nil
	if out := b.notify(f); len(out) != 1 || !strings.Contains(out[0].Message, ": done") {
		t.Errorf("got %v", out)
	}
	b.wants(deleteWeb)
}

// The outcome that cannot be written waits in memory.
func TestOutcomeNotWritten(t *testing.T) {
	b := newBench(t, killer())
	log := filepath.Join(b.o.Dir, "actions.jsonl")
	b.api.hook = func(r *http.Request) {
		if r.Method == http.MethodDelete {
			b.actor.log.close()
			_ = os.Rename(log, log+".away")
		}
	}
	f := b.found("r-1", event(t, nil))
	for range 2 {
		if err := b.actor.Notify(t.Context(), []alert.Finding{f}); err == nil {
			t.Error("no error")
		}
	}
	if err := os.Rename(log+".away", log); err != nil {
		t.Fatal(err)
	}
	b.notify(f)
	b.start()
	if out := b.notify(f); len(out) != 1 || !strings.Contains(out[0].Message, ": done") {
		t.Errorf("got %v", out)
	}
	b.wants(deleteWeb)
}

// The API server's refusals are one attempt each, also where it invites to come again.
func TestFailed(t *testing.T) {
	for _, code := range []int{403, 409, 429, 500, 503} {
		b := newBench(t, killer())
		b.api.fail["DELETE /api/v1/namespaces/team-a/pods/web"] = code
		out := b.notify(b.found("r-1", event(t, nil)))
		if len(out) != 1 || !strings.Contains(out[0].Message, ": failed: no, because  ") || out[0].Severity != finding.High {
			t.Errorf("%d: got %v", code, out)
		}
		b.wants(deleteWeb)
	}
}

func TestHang(t *testing.T) {
	a := killer()
	a.Timeout = 50 * time.Millisecond
	b := newBench(t, a)
	b.api.hook = func(r *http.Request) {
		if r.Method == http.MethodDelete {
			<-r.Context().Done()
		}
	}
	b.outcome(event(t, nil), failed, "deadline")
	b.wants(deleteWeb)
}

func TestUnreachable(t *testing.T) {
	b := newBench(t, killer())
	b.api.Close()
	b.outcome(event(t, nil), failed, "cannot ask the API server who we are")
}

func TestRateAndCooldown(t *testing.T) {
	a := killer()
	a.Rate, a.Cooldown = Rate{2, time.Hour}, 10*time.Minute
	b := newBench(t, a)
	step := func(name, id string, how outcome) {
		t.Helper()
		b.start() // what was attempted counts after a restart
		b.api.objects["/api/v1/namespaces/team-a/pods/"+name] = pod(name, podUID, "2026-03-01T11:00:00Z", "")
		b.outcome(event(t, m{"auditID": id, "objectRef": ref("pods", "team-a", name), "stageTimestamp": b.now.Format(time.RFC3339)}), how, "")
	}
	step("one", "1", done)
	step("one", "2", cooldown)
	b.now = b.now.Add(9 * time.Minute)
	step("one", "3", cooldown)
	b.now = b.now.Add(2 * time.Minute)
	step("one", "4", done)
	step("two", "5", rateLimited)
	b.now = b.now.Add(50 * time.Minute) // the first is an hour ago
	step("two", "6", done)
	b.o.Event = func(context.Context, finding.Evidence) (*audit.Event, error) {
		t.Error("an event is looked up that nothing is done about")
		return nil, nil
	}
	step("three", "7", rateLimited)
	if n := len(b.api.changes()); n != 3 {
		t.Errorf("%d requests", n)
	}
}

// flipped has another last digit.
func flipped(s string) string {
	if strings.HasSuffix(s, "0") {
		return s[:len(s)-1] + "1"
	}
	return s[:len(s)-1] + "0"
}

// The API is behind a proxy with a prefix: the API server records paths without.
func TestOwn(t *testing.T) {
	b := newBench(t, killer())
	b.o.Clusters[0].Config = &rest.Config{Host: b.api.URL + "/k8s/clusters/one/"}
	b.start()
	b.notify(b.found("r-1", event(t, nil)))
	if n := len(b.api.got); n != 3 {
		t.Fatalf("%d requests: %v", n, b.api.got)
	}
	verbs := map[string]string{"POST": "create", "GET": "get", "DELETE": "delete"}
	for _, s := range b.api.got {
		if len(s.auditID) > 64 || s.agent != "whodunit-act/1" {
			t.Errorf("Audit-ID %q, user agent %q", s.auditID, s.agent)
		}
		uri := strings.TrimPrefix(s.uri, "/k8s/clusters/one")
		base := m{"auditID": s.auditID, "verb": verbs[s.method], "requestURI": uri, "user": m{"username": us}}
		for name, tt := range map[string]struct {
			change m
			want   bool
		}{
			"ours":          {nil, true},
			"other stage":   {m{"stage": "RequestReceived"}, true},
			"other user":    {m{"user": m{"username": "mallory"}}, false},
			"no user":       {m{"user": m{}}, false},
			"other URI":     {m{"requestURI": uri + "x"}, false},
			"other verb":    {m{"verb": "update"}, false},
			"impersonating": {m{"impersonatedUser": m{"username": "admin"}}, false},
			"other MAC":     {m{"auditID": flipped(s.auditID)}, false},
			"other nonce":   {m{"auditID": ownPrefix + strings.Repeat("0", 24) + s.auditID[len(ownPrefix)+24:]}, false},
			"no hex":        {m{"auditID": ownPrefix + strings.Repeat("z", 56)}, false},
			"prefix alone":  {m{"auditID": ownPrefix}, false},
			"plain":         {m{"auditID": "5a8d3e0c-0000-0000-0000-000000000000"}, false},
		} {
			change := m{}
			for k, v := range base {
				change[k] = v
			}
			for k, v := range tt.change {
				change[k] = v
			}
			if got := b.actor.Own(event(t, change)); got != tt.want {
				t.Errorf("%s %s: ours = %t", s, name, got)
			}
		}
		ev := event(t, base)
		ev.Cluster = "two"
		if b.actor.Own(ev) {
			t.Error("an event of another cluster is ours")
		}
	}
	last := event(t, m{"auditID": b.api.got[2].auditID, "verb": "delete", "requestURI": "/api/v1/namespaces/team-a/pods/web", "user": m{"username": us}})
	b.start()
	if !b.actor.Own(last) {
		t.Error("after a restart a request of ours is not ours")
	}
	if err := os.Remove(filepath.Join(b.o.Dir, "key")); err != nil {
		t.Fatal(err)
	}
	b.start()
	if b.actor.Own(last) {
		t.Error("a request is ours by another key")
	}
	if info, err := os.Stat(filepath.Join(b.o.Dir, "key")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key's mode: %v %v", info.Mode(), err)
	}
}
