package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// receiver keeps the events that an API server sends.
type receiver struct {
	mu     sync.Mutex
	events []Logged
	bad    []error
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	var list struct{ Items []Logged }
	err := json.NewDecoder(req.Body).Decode(&list)
	if req.Header.Get("Authorization") != "Bearer receiver-token" || req.URL.Path != "/clusters/test" {
		err = errors.Join(err, errors.New("unexpected token or path "+req.URL.Path))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.bad = append(r.bad, err)
	}
	r.events = append(r.events, list.Items...)
}

func (r *receiver) keys() (map[string]bool, []error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	keys := map[string]bool{}
	for _, e := range r.events {
		keys[e.Key()] = true
	}
	return keys, r.bad
}

func newReceiver(t *testing.T) (*receiver, *Webhook) {
	t.Helper()
	cfg, ca, err := NewServerTLS()
	if err != nil {
		t.Fatal(err)
	}
	r := &receiver{}
	srv := httptest.NewUnstartedServer(r)
	srv.TLS = cfg
	srv.StartTLS()
	t.Cleanup(srv.Close)
	return r, &Webhook{URL: srv.URL + "/clusters/test", CA: ca, Token: "receiver-token", Mode: Batch, BatchSize: 50, BatchWait: 500 * time.Millisecond}
}

// The harness itself: a cluster with a node comes up, kubectl works as several users, and both audit backends tell of it.
func TestCluster(t *testing.T) {
	r, hook := newReceiver(t)
	c := For(t, Config{Nodes: []string{"node-1"}, Webhook: hook, LoadUsers: 4})
	ctx := t.Context()
	var requests []Request
	must := func(user string, args ...string) Result {
		t.Helper()
		res := c.Kubectl(ctx, user, args...)
		if res.Err != nil {
			t.Fatal(res.Err)
		}
		requests = append(requests, res.Requests...)
		return res
	}
	if got := must(Alice, "auth", "whoami", "-o", "jsonpath={.status.userInfo.username}").Stdout; got != Alice {
		t.Errorf("alice is %q", got)
	}
	must(Alice, "create", "deployment", "web", "--image=registry.example.test/web:1", "-n", "team-a")
	if runtime.GOOS == "linux" {
		if err := c.From(ctx, Alice, "127.0.1.11"); err != nil {
			t.Fatal(err)
		}
	}
	must(Alice, "wait", "--for=condition=Available", "--timeout=60s", "deployment/web", "-n", "team-a")
	if got := must(Alice, "exec", "deploy/web", "-n", "team-a", "--", "id", "-u").Stdout; !strings.Contains(got, `["id" "-u"]`) {
		t.Errorf("exec printed %q", got)
	}
	if got := must(Alice, "logs", "deploy/web", "-n", "team-a", "--tail=2").Stdout; strings.Count(got, "\n") != 2 {
		t.Errorf("logs printed %q", got)
	}
	denied := c.Kubectl(ctx, Mallory, "get", "secrets", "-n", "kube-system")
	if denied.Err == nil || !strings.Contains(denied.Stderr, "forbidden") || strings.Contains(denied.Stderr, "Audit-Id") {
		t.Errorf("mallory was answered %v, %q", denied.Err, denied.Stderr)
	}
	requests = append(requests, denied.Requests...)
	if len(requests) < 8 {
		t.Fatalf("only %d requests", len(requests))
	}
	load, err := c.RunLoad(ctx, Load{Duration: 2 * time.Second, Rate: 50, Namespaces: 2})
	if err != nil || !strings.Contains(load, "failed 0") {
		t.Errorf("load: %v\n%s", err, load)
	}

	if err := c.StopAPIServer(); err != nil { // flushes the webhook
		t.Fatal(err)
	}
	logged, err := c.AuditLog()
	if err != nil {
		t.Fatal(err)
	}
	sent, bad := r.keys()
	if len(bad) > 0 {
		t.Errorf("%d bad requests, first: %v", len(bad), bad[0])
	}
	missing := 0
	byID := map[string]Logged{}
	for _, e := range logged {
		byID[e.AuditID] = e
		if !sent[e.Key()] {
			missing++
		}
	}
	// The API server may lose the events of watches that end when it stops.
	if missing > 100 || len(sent) < 200 {
		t.Errorf("%d of %d logged events were not sent; %d were", missing, len(logged), len(sent))
	}
	for _, r := range requests {
		if _, ok := byID[r.AuditID]; ok != r.Audited() {
			t.Errorf("request in the audit log = %t, want %t: %+v", ok, r.Audited(), r)
		}
	}
	if runtime.GOOS == "linux" && !slices.ContainsFunc(logged, func(e Logged) bool {
		return e.User.Username == Alice && e.ObjectRef.Subresource == "exec" && slices.Equal(e.SourceIPs, []string{"127.0.1.11"})
	}) {
		t.Error("alice's exec did not come from her address")
	}
	if !slices.ContainsFunc(logged, func(e Logged) bool {
		return e.User.Username == Mallory && e.ResponseStatus.Code == http.StatusForbidden
	}) {
		t.Error("mallory's denied call is not in the audit log")
	}
}

func TestStartFailsEarly(t *testing.T) {
	bin := BinaryFor(t)
	start := time.Now()
	_, err := Start(context.Background(), Config{Binary: bin, Dir: t.TempDir(), Flags: []string{"--no-such-flag"}})
	if err == nil || !strings.Contains(err.Error(), "unknown flag: --no-such-flag") || !strings.Contains(err.Error(), "kube-apiserver ended early") {
		t.Errorf("err = %v", err)
	}
	if took := time.Since(start); took > apiServerLimit/2 {
		t.Errorf("it took %s to notice", took)
	}
}

func TestHoldPort(t *testing.T) {
	p, err := HoldPort()
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // one after the other, as across a crash
		srv := httptest.NewUnstartedServer(http.NotFoundHandler())
		ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", p.Address())
		if err != nil {
			t.Fatal(err)
		}
		srv.Listener.Close()
		srv.Listener = ln
		srv.Start()
		resp, err := srv.Client().Get(srv.URL)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		srv.Close()
	}
	if err := p.Release(); err != nil {
		t.Fatal(err)
	}
}

func TestSplitTrace(t *testing.T) {
	stderr := strings.Join([]string{
		`I1121 15:00:00.000000   12 round_trippers.go:527] "Request" verb="GET" url="https://127.0.0.1:1/x?y=z" headers=<`,
		"\tAccept: application/json", " >",
		`I1121 15:00:00.100000   12 round_trippers.go:632] "Response" status="200 OK" headers=<`,
		"\tAudit-Id: aaaa-1", "\tContent-Length: 5", " >  milliseconds=3",
		"Warning: deprecated",
		`I1121 15:00:00.200000   12 request.go:1] short`,
		`I1121 15:00:00.300000   12 helpers.go:246] server response object: [{`, `  "kind": "Status",`, "}]",
		"Error from server (NotFound)", "",
	}, "\n")
	rest, requests := splitTrace(stderr)
	if want := "Warning: deprecated\nError from server (NotFound)\n"; rest != want {
		t.Errorf("rest = %q, want %q", rest, want)
	}
	if want := []Request{{Method: "GET", URL: "/x?y=z", AuditID: "aaaa-1"}}; !slices.Equal(requests, want) {
		t.Errorf("requests = %+v, want %+v", requests, want)
	}
}
