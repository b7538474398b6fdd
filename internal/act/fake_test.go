package act

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"k8s.io/client-go/rest"

	"whodunit/internal/alert"
	"whodunit/internal/audit"
	"whodunit/internal/finding"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	us      = "system:serviceaccount:whodunit:act"
	podUID  = "11111111-0000-0000-0000-000000000001"
	testDay = "2026-03-01T12:00:00Z"
)

// fakeAPI answers GET from objects by path, and takes everything else unless fail says otherwise.
type fakeAPI struct {
	*httptest.Server
	mu      sync.Mutex
	objects map[string]string
	fail    map[string]int // by "METHOD path"
	hook    func(r *http.Request)
	got     []sent
}

type sent struct {
	method, uri, auditID, agent, body string
}

func (s sent) String() string { return strings.TrimSpace(s.method + " " + s.uri + " " + s.body) }

func newFakeAPI(t *testing.T) *fakeAPI {
	t.Helper()
	api := &fakeAPI{objects: map[string]string{}, fail: map[string]int{}}
	api.Server = httptest.NewServer(http.HandlerFunc(api.serve))
	t.Cleanup(api.Close)
	return api
}

func (a *fakeAPI) serve(w http.ResponseWriter, r *http.Request) {
	b, _ := io.ReadAll(r.Body)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.got = append(a.got, sent{r.Method, r.URL.RequestURI(), r.Header.Get("Audit-ID"), r.UserAgent(), string(b)})
	if a.hook != nil {
		a.hook(r)
	}
	w.Header().Set("Content-Type", "application/json")
	code, text := 200, "{}"
	path := strings.TrimPrefix(r.URL.Path, "/k8s/clusters/one")
	switch {
	case a.fail[r.Method+" "+path] != 0:
		code = a.fail[r.Method+" "+path]
		reason := map[int]string{409: "AlreadyExists"}[code]
		text = fmt.Sprintf(`{"kind":"Status","apiVersion":"v1","status":"Failure","message":"no, because \u0007","reason":%q,"code":%d}`, reason, code)
		w.Header().Set("Retry-After", "1")
	case path == "/apis/authentication.k8s.io/v1/selfsubjectreviews":
		text = `{"status":{"userInfo":{"username":"` + us + `"}}}`
	case r.Method == http.MethodGet && a.objects[path] != "":
		text = a.objects[path]
	case r.Method == http.MethodGet:
		code, text = 404, `{"kind":"Status","apiVersion":"v1","status":"Failure","message":"not found","reason":"NotFound","code":404}`
	}
	w.WriteHeader(code)
	_, _ = io.WriteString(w, text)
}

// changes are the requests that are no questions.
func (a *fakeAPI) changes() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := []string{}
	for _, s := range a.got {
		if s.method != http.MethodGet && !strings.Contains(s.uri, "selfsubjectreviews") {
			out = append(out, s.String())
		}
	}
	return out
}

// bench is an Actor against a fake API, on a clock that is set by hand.
type bench struct {
	t       *testing.T
	api     *fakeAPI
	o       Options
	actor   *Actor
	now     time.Time
	emitted []audit.Event
	whole   map[string]*audit.Event // by identity
	before  *audit.Event
	named   map[string][]string
	fails   error // of Emit
}

func newBench(t *testing.T, actions ...Action) *bench {
	t.Helper()
	b := &bench{t: t, api: newFakeAPI(t), whole: map[string]*audit.Event{}, named: map[string][]string{}}
	b.now, _ = time.Parse(time.RFC3339, testDay)
	b.api.objects["/api/v1/namespaces/team-a/pods/web"] = pod("web", podUID, "2026-03-01T11:00:00Z", "")
	for i := range actions {
		actions[i].Rules = append(actions[i].Rules, "r-*")
		if actions[i].Namespaces == nil {
			actions[i].Namespaces = []string{"team-*"}
		}
	}
	b.o = Options{Actions: actions, Clusters: []Cluster{{Name: "one", Config: &rest.Config{Host: b.api.URL}}}, Dir: t.TempDir(), Version: "1", OwnNamespace: "team-own",
		Now: func() time.Time { return b.now },
		Emit: func(_ context.Context, batch audit.Batch) error {
			if b.fails != nil {
				return b.fails
			}
			b.emitted = append(b.emitted, batch.Events...)
			return nil
		},
		Event:  func(_ context.Context, e finding.Evidence) (*audit.Event, error) { return b.whole[e.Identity], nil },
		Before: func(context.Context, *audit.Event) (*audit.Event, error) { return b.before, nil },
		Named:  func(rule string) []string { return b.named[rule] },
	}
	b.start()
	t.Cleanup(func() { b.actor.Close() })
	return b
}

// start makes the Actor; again, after a crash.
func (b *bench) start() {
	b.t.Helper()
	if b.actor != nil {
		b.actor.Close()
	}
	actor, err := New(b.o)
	if err != nil {
		b.t.Fatal(err)
	}
	b.actor = actor
}

func pod(name, uid, created, more string) string {
	return fmt.Sprintf(`{"kind":"Pod","metadata":{"name":%q,"uid":%q,"creationTimestamp":%q%s}}`, name, uid, created, more)
}

// event makes an event out of members that replace those of a successful exec into the pod web.
func event(t testing.TB, more map[string]any) *audit.Event {
	t.Helper()
	m := map[string]any{"kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "RequestResponse", "auditID": "a-1", "stage": "ResponseComplete", "verb": "create",
		"requestURI": "/api/v1/namespaces/team-a/pods/web/exec?command=sh", "user": map[string]any{"username": "mallory"},
		"objectRef":      map[string]any{"resource": "pods", "namespace": "team-a", "name": "web", "apiVersion": "v1", "subresource": "exec"},
		"responseStatus": map[string]any{"code": 101}, "requestReceivedTimestamp": "2026-03-01T11:59:00.000000Z", "stageTimestamp": "2026-03-01T11:59:00.000000Z"}
	for k, v := range more {
		if m[k] = v; v == nil {
			delete(m, k)
		}
	}
	raw, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	ev, err := audit.Parse("one", raw)
	if err != nil {
		t.Fatal(err)
	}
	return &ev
}

// found is what a rule says about an event.
func (b *bench) found(ruleID string, ev *audit.Event) alert.Finding {
	b.t.Helper()
	b.whole[ev.Identity().String()] = ev
	doc, err := finding.Finding{Rule: ruleID, Title: "T", Severity: finding.High, Message: "m",
		Events: []finding.Evidence{{Cluster: ev.Cluster, AuditID: ev.AuditID, Stage: ev.Stage, Identity: ev.Identity().String()}}}.Event(ev)
	if err != nil {
		b.t.Fatal(err)
	}
	return alert.Read(&audit.Record{Seq: 1, Event: doc})
}

// notify hands findings to the Actor and gives the outcomes that it emitted.
func (b *bench) notify(fs ...alert.Finding) []alert.Finding {
	b.t.Helper()
	start := len(b.emitted)
	if err := b.actor.Notify(b.t.Context(), fs); err != nil {
		b.t.Fatal(err)
	}
	var out []alert.Finding
	for _, ev := range b.emitted[start:] {
		out = append(out, alert.Read(&audit.Record{Event: ev}))
	}
	return out
}

// outcome reports the one outcome about ev: its message, which has to contain a text.
func (b *bench) outcome(ev *audit.Event, how outcome, text string) {
	b.t.Helper()
	out := b.notify(b.found("r-1", ev))
	if len(out) != 1 {
		b.t.Fatalf("%d outcomes of one", len(out))
	}
	if m := out[0].Message; !strings.Contains(m, ": "+strings.ReplaceAll(string(how), "_", " ")) || !strings.Contains(m, text) {
		b.t.Errorf("%s with %q is wanted, got: %s", how, text, m)
	}
}

// wants compares the changes that were asked of the API server.
func (b *bench) wants(changes ...string) {
	b.t.Helper()
	if got := b.api.changes(); !slices.Equal(got, changes) {
		b.t.Errorf("changes:\n%s\nwanted:\n%s", strings.Join(got, "\n"), strings.Join(changes, "\n"))
	}
}
