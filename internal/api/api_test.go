package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"whodunit/internal/auth"
	"whodunit/internal/store"
	"whodunit/internal/store/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func (f *fixture) get(t *testing.T, path string, into any) {
	t.Helper()
	resp, body := f.do(t, "GET", path, f.read, "")
	if resp.StatusCode != 200 {
		t.Fatalf("%s: %s %s", path, resp.Status, body)
	}
	if err := json.Unmarshal([]byte(body), into); err != nil {
		t.Fatalf("%s: %v: %s", path, err, body)
	}
}

func event(i int, verb string) string {
	return fmt.Sprintf(`{"kind":"Event","auditID":"id-%d","stage":"ResponseComplete","verb":%q,"user":{"username":"u%d"},"stageTimestamp":"2026-03-01T12:%02d:%02d.000000Z"}`, i, verb, i%3, i/60, i%60)
}

type page struct {
	Items []struct {
		Identity, Time, Cluster, Source string
		Seq                             uint64
		Event                           json.RawMessage
	}
	Next  string
	Stats store.Stats
}

func TestPagesAreStable(t *testing.T) {
	f := start(t, nil)
	for i := range 25 {
		f.mem.add(t, "prod", event(i, []string{"get", "delete"}[i%2]))
	}
	var got []string
	next := ""
	for n := 0; ; n++ {
		var p page
		f.get(t, "/api/v1/events?q=verb:delete&limit=5&cursor="+next, &p)
		for _, it := range p.Items {
			got = append(got, fmt.Sprint(it.Seq))
		}
		if p.Stats.Matched != int64(len(p.Items)) {
			t.Errorf("page %d says %d matched", n, p.Stats.Matched)
		}
		f.mem.add(t, "prod", event(100+2*n+1, "delete")) // newer than all before
		if next = p.Next; next == "" {
			break
		}
	}
	if want := "24 22 20 18 16 14 12 10 8 6 4 2"; strings.Join(got, " ") != want {
		t.Errorf("got %v, want %s", got, want)
	}
	if log := f.log.String(); !strings.Contains(log, `user=token:read`) || !strings.Contains(log, `query=verb:delete matched=5`) {
		t.Errorf("reads are not recorded: %s", log)
	}
}

func TestEventsComeExactly(t *testing.T) {
	f := start(t, nil)
	raw := `{"auditID":"<b>&\u0026","stage":"x",  "user":{"username":"a"}}`
	r := f.mem.add(t, "prod", raw)
	_, body := f.do(t, "GET", "/api/v1/events", f.read, "")
	if !strings.Contains(body, `"event":`+raw) {
		t.Errorf("%s", body)
	}
	_, body = f.do(t, "GET", "/api/v1/events?raw=1", f.read, "")
	if body != raw+"\n" {
		t.Errorf("%q", body)
	}
	for _, path := range []string{"/api/v1/events/" + r.Identity.String(), "/api/v1/findings/" + r.Identity.String() + "?time=1h"} {
		resp, body := f.do(t, "GET", path, f.read, "")
		if (resp.StatusCode == 200) != !strings.Contains(path, "time") {
			t.Errorf("%s: %s %s", path, resp.Status, body)
		}
	}
}

func TestStream(t *testing.T) {
	f := start(t, nil)
	for i := range 500 {
		f.mem.add(t, "prod", event(i, "get"))
	}
	resp, body := f.do(t, "GET", "/api/v1/events", f.read, "", "Accept", wire.NDJSON)
	lines := strings.Split(strings.TrimSpace(body), "\n")
	if resp.Header.Get("Content-Type") != wire.NDJSON || len(lines) != 501 || !strings.HasPrefix(lines[500], `{"stats":{"matched":500`) {
		t.Errorf("%v, %d lines, %s", resp.Header, len(lines), lines[len(lines)-1])
	}
	resp, _ = f.do(t, "GET", "/api/v1/events?raw=1&limit=3", f.read, "")
	if !strings.Contains(resp.Trailer.Get(statsTrailer), `"matched":3`) {
		t.Errorf("trailer %v", resp.Trailer)
	}
	f.mem.fail = errors.New("the disk is gone")
	_, body = f.do(t, "GET", "/api/v1/events", f.read, "", "Accept", wire.NDJSON)
	if !strings.Contains(body, `{"error":{`) || !strings.Contains(body, "the disk is gone") {
		t.Errorf("error in a stream: %s", body)
	}
	if _, body = f.do(t, "GET", "/api/v1/events", f.read, ""); !strings.Contains(body, `"status":500`) {
		t.Errorf("error of a page: %s", body)
	}
}

func TestAggregates(t *testing.T) {
	f := start(t, nil)
	for i := range 90 {
		f.mem.add(t, "prod", event(i, []string{"get", "delete"}[i%2]))
	}
	var b wire.Buckets
	f.get(t, "/api/v1/events/top?field=user&field=verb&n=1", &b)
	if len(b.Buckets) != 1 || b.Buckets[0] != (store.Bucket{Value: "u0\tdelete", Count: 15}) {
		t.Errorf("%+v", b)
	}
	f.get(t, "/api/v1/events/histogram?interval=1m&from=2026-03-01&to=2026-03-02", &b)
	if b.Interval != 60e6 || len(b.Buckets) != 2 || b.Buckets[1].Count != 30 {
		t.Errorf("%+v", b)
	}
	f.get(t, "/api/v1/events/histogram?from=2026-03-01T12:00:00Z&to=2026-03-01T12:02:00Z", &b)
	if b.Interval != 1e6 {
		t.Errorf("automatic interval %d", b.Interval)
	}
	var c wire.Count
	f.get(t, "/api/v1/findings/count?q=verb:get", &c)
	if c.Count != 45 {
		t.Errorf("%+v", c)
	}
	f.get(t, "/api/v1/events/count?expr="+`{"not":{"path":"verb","op":"==","values":["get"]}}`, &c)
	if c.Count != 45 {
		t.Errorf("%+v", c)
	}
}

func TestProblems(t *testing.T) {
	f := start(t, nil)
	for _, c := range []struct {
		method, path, token, body string
		status                    int
		want                      string
	}{
		{"GET", "/api/v1/events", "", "", 401, "log in at"},
		{"GET", "/api/v1/events", "wdt_wrong", "", 401, "log in at"},
		{"GET", "/api/v1/tokens", "READ", "", 403, "the scope admin is wanted"},
		{"GET", "/metrics", "", "", 401, "log in"},
		{"GET", "/api/v1/events?limt=5", "READ", "", 400, `unknown parameter \"limt\"`},
		{"GET", "/api/v1/events?limit=5&limit=6", "READ", "", 400, "given 2 times"},
		{"GET", "/api/v1/events?limit=5000", "READ", "", 400, "from 1 to 1000"},
		{"GET", "/api/v1/events?cursor=abc", "READ", "", 400, "cursor is damaged"},
		{"GET", "/api/v1/events?q=verb:(get", "READ", "", 400, `"column":`},
		{"GET", "/api/v1/events?q=a&expr=b", "READ", "", 400, "both q and expr"},
		{"GET", "/api/v1/events?expr=b", "READ", "", 400, "cannot read expression"},
		{"GET", "/api/v1/events?from=yesterdayish", "READ", "", 400, "cannot read the parameter from"},
		{"GET", "/api/v1/events?from=2026-01-02&to=2026-01-01", "READ", "", 400, "time range is empty"},
		{"GET", "/api/v1/events?raw=2", "READ", "", 400, "raw is 0 or 1"},
		{"GET", "/api/v1/events/xyz", "READ", "", 400, "no identity"},
		{"GET", "/api/v1/events/000102030405060708090a0b0c0d0e0f", "READ", "", 404, "no event has this identity"},
		{"GET", "/api/v1/events/top", "READ", "", 400, "add field=user"},
		{"GET", "/api/v1/events/histogram?interval=1ns", "READ", "", 400, "write 30s"},
		{"GET", "/api/v1/findings/tail", "READ", "", 404, "no live tail"},
		{"GET", "/api/v1/rules/x", "READ", "", 404, "no rule has this id"},
		{"GET", "/api/v1/nope", "READ", "", 404, "openapi.json"},
		{"POST", "/api/v1/events", "READ", "", 405, "use GET"},
		{"POST", "/api/v1/tokens", "ROOT", `{"name":"a b","scopes":["read"]}`, 400, "letters, digits"},
		{"POST", "/api/v1/tokens", "ROOT", `{"name":"a","scopes":["read"],"x":1}`, 400, "unknown field"},
		{"POST", "/api/v1/tokens", "ROOT", `{"name":"` + strings.Repeat("x", 70_000) + `"}`, 400, "too large"},
		{"DELETE", "/api/v1/tokens/nope", "ROOT", "", 404, "not found"},
		{"POST", "/api/v1/login", "", `{"user":"alice","password":"wrong"}`, 401, "user or password is wrong"},
	} {
		token := strings.NewReplacer("READ", f.read, "ROOT", f.root).Replace(c.token)
		resp, body := f.do(t, c.method, c.path, token, c.body, "Content-Type", "application/json")
		var p wire.Problem
		if err := json.Unmarshal([]byte(body), &p); err != nil || p.Status != c.status || resp.StatusCode != c.status || p.Hint == "" || !strings.Contains(body, c.want) {
			t.Errorf("%s %s: %s %s (want %d, %s)", c.method, c.path, resp.Status, body, c.status, c.want)
		}
		if resp.Header.Get("Content-Type") != wire.ProblemJSON || resp.Header.Get("Cache-Control") != "no-store" || resp.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: headers %v", c.path, resp.Header)
		}
	}
	if resp, _ := f.do(t, "POST", "/api/v1/login", "", "user=a", "Content-Type", "application/x-www-form-urlencoded"); resp.StatusCode != 415 {
		t.Errorf("a form is taken: %s", resp.Status)
	}
}

func TestSessionByCookie(t *testing.T) {
	f := start(t, nil)
	resp, body := f.do(t, "POST", "/api/v1/login", "", `{"user":"alice","password":"`+password+`"}`, "Content-Type", "application/json")
	if resp.StatusCode != 200 || !strings.Contains(body, `"name":"alice"`) {
		t.Fatalf("%s %s", resp.Status, body)
	}
	cookie, _, _ := strings.Cut(resp.Header.Get("Set-Cookie"), ";")
	for path, want := range map[string]int{"/api/v1/whoami": 200, "/api/v1/events": 200, "/api/v1/tokens": 403} {
		if resp, _ := f.do(t, "GET", path, "", "", "Cookie", cookie); resp.StatusCode != want {
			t.Errorf("%s: %s", path, resp.Status)
		}
	}
	if resp, _ := f.do(t, "POST", "/api/v1/logout", "", "", "Cookie", cookie, "Sec-Fetch-Site", "cross-site"); resp.StatusCode != 403 {
		t.Errorf("another page logs out: %s", resp.Status)
	}
	if resp, _ := f.do(t, "POST", "/api/v1/logout", "", "", "Cookie", cookie); resp.StatusCode != 204 {
		t.Errorf("%s", resp.Status)
	}
	if resp, _ := f.do(t, "GET", "/api/v1/whoami", "", "", "Cookie", cookie); resp.StatusCode != 401 {
		t.Errorf("after logout: %s", resp.Status)
	}
}

func TestTokensOverHTTP(t *testing.T) {
	f := start(t, nil)
	resp, body := f.do(t, "POST", "/api/v1/tokens", f.root, `{"name":"ci","scopes":["read"]}`, "Content-Type", "application/json")
	var made struct {
		Token  auth.Token
		Secret string
	}
	if err := json.Unmarshal([]byte(body), &made); err != nil || resp.StatusCode != 201 {
		t.Fatalf("%s %s", resp.Status, body)
	}
	if strings.Contains(f.log.String(), made.Secret) {
		t.Error("the log holds the secret")
	}
	if _, body := f.do(t, "GET", "/api/v1/tokens", f.root, ""); strings.Contains(body, "hash") || !strings.Contains(body, made.Token.ID) {
		t.Errorf("%s", body)
	}
	if resp, _ := f.do(t, "DELETE", "/api/v1/tokens/"+made.Token.ID, f.root, ""); resp.StatusCode != 204 {
		t.Error(resp.Status)
	}
	if resp, _ := f.do(t, "GET", "/api/v1/events", made.Secret, ""); resp.StatusCode != 401 {
		t.Errorf("revoked: %s", resp.Status)
	}
}

func TestReadyAndRest(t *testing.T) {
	notYet := errors.New("secret detail")
	f := start(t, func(o *Options) {
		o.Ready = []Check{{"journal", func(context.Context) error { return nil }}, {"detector", func(context.Context) error { return notYet }}}
		o.Status = func(context.Context) (any, error) { return map[string]int{"segments": 3}, nil }
		o.Rules = func(context.Context) ([]Rule, error) { return []Rule{{ID: "a/b", Source: "text"}}, nil }
		o.UI = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { panic("boom") })
	})
	if resp, body := f.do(t, "GET", "/readyz", "", ""); resp.StatusCode != 503 || body != "journal: ok\ndetector: not ready\n" {
		t.Errorf("%s %q", resp.Status, body)
	}
	if resp, body := f.do(t, "GET", "/healthz", "", ""); resp.StatusCode != 200 || body != "ok\n" {
		t.Errorf("%s %q", resp.Status, body)
	}
	if _, body := f.do(t, "GET", "/api/v1/status", f.read, ""); !strings.Contains(body, `"segments":3`) || !strings.Contains(body, "v1.2.3") {
		t.Error(body)
	}
	if _, body := f.do(t, "GET", "/api/v1/rules", f.read, ""); !strings.Contains(body, "a/b") || strings.Contains(body, "text") {
		t.Error(body)
	}
	if _, body := f.do(t, "GET", "/api/v1/rules/a%2Fb", f.read, ""); !strings.Contains(body, "text") {
		t.Error(body)
	}
	if _, body := f.do(t, "GET", "/metrics", f.read, ""); body != "metrics" {
		t.Error(body)
	}
	if resp, body := f.do(t, "GET", "/", "", ""); resp.StatusCode != 500 || strings.Contains(body, "boom") {
		t.Errorf("panic: %s %s", resp.Status, body)
	}
	if n := testutil.ToFloat64(f.api.metrics.panics.WithLabelValues("ui")); n != 1 {
		t.Errorf("%v panics counted", n)
	}
	if n := testutil.ToFloat64(f.api.metrics.requests.WithLabelValues("ui", "500")); n != 1 {
		t.Errorf("%v requests counted", n)
	}
}

func TestTimeoutAndBusy(t *testing.T) {
	f := start(t, func(o *Options) { o.QueryTimeout, o.MaxSearches = 20*time.Millisecond, 1 })
	f.mem.add(t, "c", event(1, "get"))
	f.mem.blocked = make(chan struct{})
	if resp, body := f.do(t, "GET", "/api/v1/events", f.read, ""); resp.StatusCode != 504 || !strings.Contains(body, "narrow") {
		t.Errorf("%s %s", resp.Status, body)
	}
	f.api.searches <- struct{}{}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := f.api.slot(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// lines opens a tail and gives its lines.
func (f *fixture) lines(t *testing.T, path string) (*bufio.Reader, func()) {
	t.Helper()
	req, _ := http.NewRequest("GET", f.URL+path, nil)
	req.Header.Set("Authorization", "Bearer "+f.read)
	resp, err := f.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != 200 {
		t.Fatal(resp.Status)
	}
	return bufio.NewReader(resp.Body), func() { resp.Body.Close() }
}

func TestTail(t *testing.T) {
	f := start(t, func(o *Options) { o.Keepalive = 10 * time.Millisecond })
	r, done := f.lines(t, "/api/v1/events/tail?q=verb:delete")
	defer done()
	f.mem.added <- f.mem.add(t, "c", event(1, "get"))
	want := f.mem.add(t, "c", event(2, "delete"))
	f.mem.added <- want
	kept := 0
	for {
		line, err := r.ReadBytes('\n')
		if err != nil {
			t.Fatal(err)
		}
		if wire.IsItem(line) {
			if got, err := wire.ParseItem(line); err != nil || got.Identity != want.Identity {
				t.Errorf("%s, %v", line, err)
			}
			break
		}
	}
	for kept == 0 {
		if line, err := r.ReadString('\n'); err != nil {
			t.Fatal(err)
		} else if strings.HasPrefix(line, `{"keepalive":`) {
			kept++
		}
	}
	for _, tok := range f.auth.Tokens() { // revoked: the stream ends
		if tok.Name == "read" {
			if err := f.auth.DeleteToken(tok.ID); err != nil {
				t.Fatal(err)
			}
		}
	}
	rest, err := io.ReadAll(r)
	if err != nil || !strings.Contains(string(rest), `"status":401`) {
		t.Errorf("%s, %v", rest, err)
	}
}

// TestQuietStreamsLive: the server's deadlines are for peers that stall, not for answers that take their time.
func TestQuietStreamsLive(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		f := start(t, func(o *Options) {
			o.Keepalive, o.WriteTimeout, o.QueryTimeout = 400*time.Millisecond, 50*time.Millisecond, 50*time.Millisecond
		})
		srv := httptest.NewUnstartedServer(f.api)
		srv.EnableHTTP2 = http2
		srv.Config.ReadTimeout = 50 * time.Millisecond
		srv.StartTLS()
		defer srv.Close()
		req, err := http.NewRequest("GET", srv.URL+"/api/v1/events/tail", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+f.read)
		resp, err := srv.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(resp.Body).ReadString('\n')
		if err != nil || !strings.HasPrefix(line, `{"keepalive":`) || resp.ProtoMajor == 2 != http2 {
			t.Errorf("%s: %q, %v", resp.Proto, line, err)
		}
		resp.Body.Close()
		srv.CloseClientConnections()
	}
}

func TestTailEndsWithTheServer(t *testing.T) {
	f := start(t, nil)
	r, done := f.lines(t, "/api/v1/events/tail")
	defer done()
	f.api.Close()
	if rest, err := io.ReadAll(r); err != nil || !strings.Contains(string(rest), "the server is stopping") {
		t.Errorf("%s, %v", rest, err)
	}
	r, done = start(t, nil).lines(t, "/api/v1/events/tail")
	done() // the client goes first
	_ = r
}

func TestSlowClientIsTold(t *testing.T) {
	q := &queue{limit: 10, wake: make(chan struct{}, 1)}
	for i, want := range []bool{true, true, false, false} { // a line larger than all is taken when nothing else is there
		if got := q.push([]byte("12345")); got != want {
			t.Errorf("push %d: %v", i, got)
		}
	}
	var out bytes.Buffer
	s := &stream{b: bufio.NewWriter(&out), rc: http.NewResponseController(httptest.NewRecorder()), timeout: time.Second}
	if n, err := drain(s, q); n != 2 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if out.String() != "1234512345{\"dropped\":2}\n" {
		t.Errorf("%q", out.String())
	}
	if !q.push(make([]byte, 100)) {
		t.Error("nothing is taken after catching up")
	}
}
