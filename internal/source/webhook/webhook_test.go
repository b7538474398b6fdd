package webhook

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/prometheus/client_golang/prometheus"

	"whodunit/internal/audit"
	"whodunit/internal/source"
	"whodunit/internal/source/sourcetest"
)

func gz(b []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, _ = w.Write(b)
	_ = w.Close()
	return out.Bytes()
}

func zst(t testing.TB, b []byte) []byte {
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	return w.EncodeAll(b, nil)
}

// do sends one request through the handler alone.
func do(s *Source, method, path string, body io.Reader, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, body)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

func TestAnswers(t *testing.T) {
	ok := list(sourcetest.Event("a"), sourcetest.Event("b"))
	tests := map[string]struct {
		method, path string
		body         []byte
		header       []string
		code         int
		reason       string
		text         string
		cluster      string
		events       int
		rejects      int
		allow, retry string
	}{
		"default cluster":   {body: []byte(ok), code: 200, reason: "ok", cluster: "home", events: 2},
		"any path":          {path: "/x/y", body: []byte(ok), code: 200, reason: "ok", cluster: "home", events: 2},
		"cluster":           {path: "/clusters/prod-1.eu?timeout=30s", body: []byte(ok), code: 200, reason: "ok", cluster: "prod-1.eu", events: 2},
		"cluster and slash": {path: "/clusters/p/", body: []byte(ok), code: 200, reason: "ok", cluster: "p", events: 2},
		"like clusters":     {path: "/clustersx", body: []byte(ok), code: 200, reason: "ok", cluster: "home", events: 2},
		"no cluster":        {path: "/clusters/", body: []byte(ok), code: 400, reason: "cluster"},
		"bare clusters":     {path: "/clusters", body: []byte(ok), code: 400, reason: "cluster"},
		"two clusters":      {path: "/clusters/a/b", body: []byte(ok), code: 400, reason: "cluster"},
		"slash in cluster":  {path: "/clusters/a%2Fb", body: []byte(ok), code: 400, reason: "cluster"},
		"odd cluster":       {path: "/clusters/a%00b", body: []byte(ok), code: 400, reason: "cluster"},
		"dots":              {path: "/clusters/..", body: []byte(ok), code: 400, reason: "cluster"},
		"long cluster":      {path: "/clusters/" + strings.Repeat("a", 254), body: []byte(ok), code: 400, reason: "cluster"},
		"gzip":              {body: gz([]byte(ok)), header: []string{"Content-Encoding", "gzip"}, code: 200, reason: "ok", cluster: "home", events: 2},
		"zstd":              {body: zst(t, []byte(ok)), header: []string{"Content-Encoding", "zstd"}, code: 200, reason: "ok", cluster: "home", events: 2},
		"brotli":            {body: []byte(ok), header: []string{"Content-Encoding", "br"}, code: 415, reason: "encoding"},
		"not gzip":          {body: []byte(ok), header: []string{"Content-Encoding", "gzip"}, code: 400, reason: "body", text: "invalid header"},
		"cut gzip":          {body: gz([]byte(ok))[:40], header: []string{"Content-Encoding", "gzip"}, code: 400, reason: "body"},
		"form":              {body: []byte(ok), header: []string{"Content-Type", "application/x-www-form-urlencoded"}, code: 415, reason: "media_type", text: "application/json"},
		"charset":           {body: []byte(ok), header: []string{"Content-Type", "application/json; charset=utf-8"}, code: 200, reason: "ok", cluster: "home", events: 2},
		"empty list":        {body: []byte(list()), code: 200, reason: "ok"},
		"no body":           {code: 411, reason: "length"},
		"blank body":        {body: []byte(" "), code: 400, reason: "not_audit", text: "empty"},
		"some bad":          {body: []byte(list(sourcetest.Event("a"), `{}`, `nope`, sourcetest.Event("b"))), code: 200, reason: "partly", cluster: "home", events: 2, rejects: 2, text: "2 refused"},
		"all bad":           {body: []byte(list(`{}`, `nope`)), code: 400, reason: "not_audit", rejects: 2, text: "no auditID"},
		"pods":              {body: []byte(`{"kind":"PodList","apiVersion":"v1","items":[]}`), code: 400, reason: "not_audit", rejects: 1, text: "PodList"},
		"garbage":           {body: []byte("\x00\x01"), code: 400, reason: "syntax", rejects: 1},
		"too large":         {body: []byte(list(sourcetest.EventOf("a", 1<<20))), code: 413, reason: "too_large", rejects: 1},
		"gzip bomb":         {body: gz(bytes.Repeat([]byte(" "), 64<<20)), header: []string{"Content-Encoding", "gzip"}, code: 413, reason: "too_large", rejects: 1},
		"zstd bomb":         {body: zst(t, bytes.Repeat([]byte(" "), 64<<20)), header: []string{"Content-Encoding", "zstd"}, code: 413, reason: "too_large", rejects: 1},
		"help":              {method: "GET", path: "/", code: 200, reason: "help", text: "POST an EventList"},
		"head":              {method: "HEAD", path: "/", code: 200, reason: "help"},
		"get elsewhere":     {method: "GET", path: "/clusters/a", code: 405, reason: "method", allow: "POST"},
		"put":               {method: "PUT", path: "/", body: []byte(ok), code: 405, reason: "method", allow: "GET, HEAD, POST"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			reg := prometheus.NewRegistry()
			var kept []source.Rejected
			st := &store{}
			s, err := New(Config{
				Name: "hook", Cluster: "home", Authenticate: Anybody, MaxBodyBytes: 1 << 20, Metrics: NewMetrics(reg),
				Reject: func(r source.Rejected) { kept = append(kept, r) },
			})
			if err != nil {
				t.Fatal(err)
			}
			run(t, s, st.emit)
			if tt.method == "" {
				tt.method = "POST"
			}
			if tt.path == "" {
				tt.path = "/"
			}
			w := do(s, tt.method, tt.path, bytes.NewReader(tt.body), tt.header...)
			if w.Code != tt.code || !strings.Contains(w.Body.String(), tt.text) {
				t.Errorf("%d %q, want %d with %q", w.Code, w.Body, tt.code, tt.text)
			}
			if got := w.Header().Get("Allow"); got != tt.allow {
				t.Errorf("Allow: %q", got)
			}
			if got := w.Header().Get("Retry-After"); got != tt.retry {
				t.Errorf("Retry-After: %q", got)
			}
			if n := sourcetest.Metric(t, reg, "whodunit_webhook_requests_total", "code", fmt.Sprint(tt.code), "reason", tt.reason); n != 1 {
				t.Errorf("not counted as %d %s", tt.code, tt.reason)
			}
			events := st.events()
			if len(events) != tt.events || len(kept) != tt.rejects {
				t.Errorf("%d events, %d rejects; want %d and %d", len(events), len(kept), tt.events, tt.rejects)
			}
			for i := range events {
				if events[i].Cluster != tt.cluster {
					t.Errorf("cluster %q", events[i].Cluster)
				}
			}
			if n := sourcetest.Metric(t, reg, "whodunit_webhook_in_flight_bytes"); n != 0 {
				t.Errorf("%v bytes still in flight", n)
			}
		})
	}
}

func TestEmitErrors(t *testing.T) {
	tests := map[string]struct {
		err    error
		reason string
	}{
		"full":  {fmt.Errorf("journal: %w", source.ErrPressure), "pressure"},
		"other": {errors.New("boom"), "emit"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			reg := prometheus.NewRegistry()
			kept := 0
			s, err := New(Config{Name: "hook", Authenticate: Anybody, Metrics: NewMetrics(reg), Reject: func(source.Rejected) { kept++ }})
			if err != nil {
				t.Fatal(err)
			}
			run(t, s, (&store{fail: func(context.Context) error { return tt.err }}).emit)
			w := do(s, "POST", "/", strings.NewReader(list(sourcetest.Event("a"), "{}")))
			if w.Code != 503 || w.Header().Get("Retry-After") != "1" || strings.Contains(w.Body.String(), "boom") {
				t.Errorf("%d %v %q", w.Code, w.Header(), w.Body)
			}
			if n := sourcetest.Metric(t, reg, "whodunit_webhook_requests_total", "reason", tt.reason); n != 1 {
				t.Error("not counted")
			}
			if kept != 0 {
				t.Error("rejects of a body that will come again were kept")
			}
		})
	}
}

func TestNotRunning(t *testing.T) {
	s, err := New(Config{Name: "hook", Authenticate: Anybody})
	if err != nil {
		t.Fatal(err)
	}
	if w := do(s, "POST", "/", strings.NewReader(list())); w.Code != 503 || w.Header().Get("Retry-After") != "1" {
		t.Errorf("%d", w.Code)
	}
}

// The answer comes within the API server's patience, also where emit takes longer.
func TestAnswersInTime(t *testing.T) {
	s, err := New(Config{Name: "hook", Authenticate: Anybody, AnswerWithin: 20 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	run(t, s, (&store{fail: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }}).emit)
	if w := do(s, "POST", "/", strings.NewReader(list(sourcetest.Event("a")))); w.Code != 503 || w.Header().Get("Retry-After") != "1" {
		t.Errorf("%d %q", w.Code, w.Body)
	}
}

func TestLimitsInFlight(t *testing.T) {
	gate, entered := make(chan struct{}), make(chan struct{}, 10)
	block := &store{fail: func(context.Context) error { entered <- struct{}{}; <-gate; return nil }}
	s, err := New(Config{Name: "hook", Authenticate: Anybody, MaxRequests: 3, MaxBodyBytes: 1 << 20, MaxInFlightBytes: 2 << 20})
	if err != nil {
		t.Fatal(err)
	}
	run(t, s, block.emit)
	large := list(sourcetest.EventOf("a", 1<<20-8000))
	var wg sync.WaitGroup
	post := func(body string, code int) {
		wg.Go(func() {
			if w := do(s, "POST", "/", strings.NewReader(body)); w.Code != code {
				t.Errorf("%d %s", w.Code, w.Body)
			}
		})
	}
	post(large, 200)
	<-entered
	post(large, 200)
	<-entered
	if w := do(s, "POST", "/", strings.NewReader(large)); w.Code != 503 || w.Header().Get("Retry-After") != "1" {
		t.Errorf("%d %q", w.Code, w.Body)
	}
	post(list(sourcetest.Event("b")), 200)
	<-entered
	if w := do(s, "POST", "/", strings.NewReader(list(sourcetest.Event("c")))); w.Code != 429 || w.Header().Get("Retry-After") != "1" {
		t.Errorf("%d %q", w.Code, w.Body)
	}
	close(gate)
	wg.Wait()
}

// A body larger than a batch is answered when all of its batches are durable, and not if one is not.
func TestSplits(t *testing.T) {
	s, err := New(Config{Name: "hook", Authenticate: Anybody})
	if err != nil {
		t.Fatal(err)
	}
	st := &store{}
	run(t, s, st.emit)
	var items []string
	for i := range 20 {
		items = append(items, sourcetest.EventOf(fmt.Sprintf("e%02d", i), 1<<20))
	}
	if w := do(s, "POST", "/", strings.NewReader(list(items...))); w.Code != 200 {
		t.Fatal(w.Code, w.Body)
	}
	if len(st.batches) != 3 {
		t.Errorf("%d batches", len(st.batches))
	}
	for i, e := range st.events() {
		if e.AuditID != fmt.Sprintf("e%02d", i) {
			t.Errorf("event %d is %s", i, e.AuditID)
		}
	}
	calls := 0
	st.fail = func(context.Context) error {
		if calls++; calls == 2 {
			return source.ErrPressure
		}
		return nil
	}
	if w := do(s, "POST", "/", strings.NewReader(list(items...))); w.Code != 503 {
		t.Fatal(w.Code, w.Body)
	}
}

func TestAuthentication(t *testing.T) {
	p := newPKI(t)
	tokens := func() map[string]string { return map[string]string{"s3cret": "ci", "": "nobody"} }
	passwords := func() map[string]string { return map[string]string{"bob": "pw", "empty": ""} }
	l := listen(t)
	st := &store{}
	s, err := New(Config{
		Name: "hook", Listener: l,
		TLS: &tls.Config{Certificates: []tls.Certificate{p.server}, ClientCAs: p.pool, ClientAuth: tls.VerifyClientCertIfGiven},
		Authenticate: AnyOf(Bearer(tokens), Basic(passwords), ClientCert(func(c *x509.Certificate) bool {
			return c.Subject.CommonName == "kube-apiserver"
		})),
	})
	if err != nil {
		t.Fatal(err)
	}
	run(t, s, st.emit)
	tests := map[string]struct {
		cert   bool
		header string
		basic  [2]string
		code   int
		who    string
	}{
		"nothing":        {code: 401},
		"certificate":    {cert: true, code: 200, who: `("kube-apiserver")`},
		"token":          {header: "Bearer s3cret", code: 200, who: `("ci")`},
		"lower case":     {header: "bearer s3cret", code: 200, who: `("ci")`},
		"wrong token":    {header: "Bearer s3cre", code: 401},
		"empty token":    {header: "Bearer ", code: 401},
		"password":       {basic: [2]string{"bob", "pw"}, code: 200, who: `("bob")`},
		"wrong password": {basic: [2]string{"bob", "px"}, code: 401},
		"unknown":        {basic: [2]string{"eve", ""}, code: 401},
		"empty password": {basic: [2]string{"empty", ""}, code: 401},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			conf := &tls.Config{RootCAs: p.pool}
			if tt.cert {
				conf.Certificates = []tls.Certificate{p.client}
			}
			tr := &http.Transport{TLSClientConfig: conf, ForceAttemptHTTP2: true}
			defer tr.CloseIdleConnections()
			r, err := http.NewRequest("POST", "https://"+l.Addr().String()+"/clusters/x", strings.NewReader(list(sourcetest.Event("a"))))
			if err != nil {
				t.Fatal(err)
			}
			if tt.header != "" {
				r.Header.Set("Authorization", tt.header)
			}
			if tt.basic[0] != "" {
				r.SetBasicAuth(tt.basic[0], tt.basic[1])
			}
			resp, err := tr.RoundTrip(r)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if resp.StatusCode != tt.code || resp.ProtoMajor != 2 {
				t.Errorf("%s %s, want %d by HTTP/2", resp.Proto, resp.Status, tt.code)
			}
			if got := len(resp.Header.Values("WWW-Authenticate")); (got > 0) != (tt.code == 401) {
				t.Errorf("%d WWW-Authenticate", got)
			}
			if tt.who != "" && !strings.HasSuffix(st.batches[len(st.batches)-1].Origin.Position, tt.who) {
				t.Errorf("position %s", st.batches[len(st.batches)-1].Origin.Position)
			}
		})
	}
}

// A peer that sends its body a byte at a time is cut off.
func TestSlowBody(t *testing.T) {
	reg := prometheus.NewRegistry()
	l := listen(t)
	s, err := New(Config{Name: "hook", Listener: l, Authenticate: Anybody, AnswerWithin: 50 * time.Millisecond, Metrics: NewMetrics(reg)})
	if err != nil {
		t.Fatal(err)
	}
	run(t, s, (&store{}).emit)
	body, w := io.Pipe()
	defer w.Close()
	tr := &http.Transport{}
	defer tr.CloseIdleConnections()
	r, err := http.NewRequest("POST", "http://"+l.Addr().String(), body)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := tr.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != 408 {
		t.Errorf("%s", resp.Status)
	}
}

// A request in flight when the end comes is finished; one that cannot be is not acknowledged.
func TestDrain(t *testing.T) {
	for _, finishes := range []bool{true, false} {
		t.Run(fmt.Sprint(finishes), func(t *testing.T) {
			l := listen(t)
			gate, entered := make(chan struct{}), make(chan struct{})
			st := &store{fail: func(ctx context.Context) error {
				close(entered)
				select {
				case <-gate:
					return nil
				case <-ctx.Done():
					return ctx.Err()
				}
			}}
			drain := 30 * time.Second
			if !finishes {
				drain = 50 * time.Millisecond
			}
			s, err := New(Config{Name: "hook", Listener: l, Authenticate: Anybody, Drain: drain})
			if err != nil {
				t.Fatal(err)
			}
			stop := run(t, s, st.emit)
			tr := &http.Transport{}
			defer tr.CloseIdleConnections()
			code := make(chan int, 1)
			go func() {
				r, _ := http.NewRequest("POST", "http://"+l.Addr().String(), strings.NewReader(list(sourcetest.Event("a"))))
				resp, err := tr.RoundTrip(r)
				if err != nil {
					code <- 0
					return
				}
				_ = resp.Body.Close()
				code <- resp.StatusCode
			}()
			<-entered
			stopped := make(chan struct{})
			go func() { stop(); close(stopped) }()
			if finishes {
				for range time.Tick(time.Millisecond) {
					if do(s, "POST", "/", strings.NewReader(list())).Code == 503 { // the end has begun
						break
					}
				}
				close(gate)
			}
			<-stopped
			if got := <-code; (got == 200) != finishes {
				t.Errorf("answer %d", got)
			}
		})
	}
}

func TestConfig(t *testing.T) {
	for name, cfg := range map[string]Config{
		"no name":    {Authenticate: Anybody},
		"no auth":    {Name: "x"},
		"no room":    {Name: "x", Authenticate: Anybody, MaxInFlightBytes: 1 << 20},
		"odd name":   {Name: "x", Authenticate: Anybody, Cluster: "a b"},
		"dots as it": {Name: "x", Authenticate: Anybody, Cluster: ".."},
	} {
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func BenchmarkPost(b *testing.B) {
	s, err := New(Config{Name: "hook", Authenticate: Anybody})
	if err != nil {
		b.Fatal(err)
	}
	run(b, s, func(context.Context, audit.Batch) error { return nil })
	var items []string
	for i := range 400 {
		items = append(items, sourcetest.EventOf(fmt.Sprint(i), 3300))
	}
	body := []byte(list(items...))
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if w := do(s, "POST", "/", bytes.NewReader(body)); w.Code != 200 {
			b.Fatal(w.Code)
		}
	}
}

// A body whose events would never find room is refused for good: with Retry-After it would come again for ever.
func TestTooMany(t *testing.T) {
	var kept []source.Rejected
	s, err := New(Config{Name: "hook", Authenticate: Anybody, MaxBodyBytes: 1 << 20, MaxInFlightBytes: 2 << 20, Reject: func(r source.Rejected) { kept = append(kept, r) }})
	if err != nil {
		t.Fatal(err)
	}
	st := &store{}
	run(t, s, st.emit)
	tiny := list(strings.Repeat(`{"auditID":"a","stage":"P"},`, 9000) + `{"auditID":"a","stage":"P"}`)
	if w := do(s, "POST", "/", strings.NewReader(tiny)); w.Code != 413 || w.Header().Get("Retry-After") != "" || !strings.Contains(w.Body.String(), "too many events") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if len(kept) != 1 || kept[0].Reason != "too_many" || len(st.events()) != 0 {
		t.Errorf("%d events, refused: %v", len(st.events()), kept)
	}
	if s.bytes.used != 0 {
		t.Errorf("%d bytes still in flight", s.bytes.used)
	}
}
