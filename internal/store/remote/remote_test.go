package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"whodunit/internal/api"
	"whodunit/internal/audit"
	"whodunit/internal/auth"
	"whodunit/internal/auth/certs"
	"whodunit/internal/match"
	"whodunit/internal/query"
	"whodunit/internal/store"
	"whodunit/internal/store/memory"
	"whodunit/internal/store/storetest"
	"whodunit/internal/store/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type server struct {
	*http.Server
	url, ca, token string
	auth           *auth.Auth
}

const password = "correct-horse-battery"

// serve is a whole server with TLS over mem.
func serve(t *testing.T, mem *memory.Store) *server {
	t.Helper()
	dir := t.TempDir()
	a, err := auth.New(auth.Options{Dir: dir, PasswordCost: 64, Secure: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.SetPassword("alice", password, []auth.Scope{auth.ScopeRead}); err != nil {
		t.Fatal(err)
	}
	_, token, err := a.CreateToken("cli", []auth.Scope{auth.ScopeRead}, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	cert, err := certs.New(certs.Options{Dir: filepath.Join(dir, "tls")})
	if err != nil {
		t.Fatal(err)
	}
	h, err := api.New(api.Options{
		Events: api.Set{Search: mem, Tail: mem}, Findings: api.Set{Search: &memory.Store{}}, Auth: a,
		Language: api.Language{Parse: query.Parse, Time: query.ParseTime, Path: query.Path},
	})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(h)
	srv.EnableHTTP2 = true
	srv.TLS = cert.Config(nil)
	srv.TLS.Certificates = append(srv.TLS.Certificates, *cert.Certificate()) // httptest would bring its own
	srv.StartTLS()
	t.Cleanup(func() { h.Close(); srv.CloseClientConnections(); srv.Close() })
	return &server{srv.Config, srv.URL, filepath.Join(dir, "tls", "ca.crt"), token, a}
}

func (s *server) client(t *testing.T, change func(*Options)) *Client {
	t.Helper()
	o := Options{URL: s.url, Token: s.token, CAFile: s.ca}
	if change != nil {
		change(&o)
	}
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func record(t *testing.T, seq uint64, raw string) audit.Record {
	t.Helper()
	e, err := audit.Parse("prod", []byte(raw))
	if err != nil {
		t.Fatal(err)
	}
	return audit.Record{Seq: seq, IngestedMicros: e.Micros() + 7, Source: "webhook", Identity: e.Identity(), Event: e}
}

func fill(t *testing.T, mem *memory.Store, n int) {
	for i := range n {
		mem.Add(record(t, uint64(i+1), fmt.Sprintf(`{"auditID":"id-%d","stage":"ResponseComplete","verb":%q,"user":{"username":"u\u0026%d"},"stageTimestamp":"2026-03-01T12:%02d:%02d.000001Z"}`,
			i, []string{"get", "delete"}[i%2], i%3, i/60, i/2%30)))
	}
}

type answer struct {
	Raws []string
	Seqs []uint64
	Err  string
}

func collect(s store.Searcher, q store.Query) answer {
	var a answer
	_, err := s.Search(context.Background(), q, func(r *audit.Record) error {
		a.Raws, a.Seqs = append(a.Raws, string(r.Event.Raw)+r.Identity.String()), append(a.Seqs, r.Seq)
		return nil
	})
	if err != nil {
		a.Err = err.Error()
	}
	return a
}

// TestSameAsTheStore asks the store behind the server and the client the same questions.
func TestSameAsTheStore(t *testing.T) {
	mem := &memory.Store{}
	fill(t, mem, 300)
	c := serve(t, mem).client(t, nil)
	ctx := context.Background()
	at := time.Date(2026, 3, 1, 12, 2, 0, 0, time.UTC).UnixMicro()
	expr := match.Or{&match.Pred{Path: "verb", Op: match.Equal, Values: []string{"DELETE"}, Fold: true}, &match.Text{Word: "id-4"}}
	for name, q := range map[string]store.Query{
		"all": {}, "expr": {Expr: expr}, "not": {Expr: match.Not{X: expr}}, "none": {Expr: match.Const(false)}, "from": {From: at}, "to": {To: at},
		"both": {From: at, To: at + 2_000_000}, "empty range": {From: at, To: at}, "limit": {Limit: 7}, "far": {From: 1, To: 1 << 62}, "beyond": {From: 1 << 62},
		"before": {Before: store.Position{Micros: at + 1, Seq: 130}, Limit: 5}, "ends": {Before: store.Position{Micros: 1, Seq: 1}},
	} {
		if diff := cmp.Diff(collect(mem, q), collect(c, q)); diff != "" {
			t.Errorf("%s: search: %s", name, diff)
		}
		for _, fields := range [][]string{{"verb"}, {"user.username", "verb"}, {"nothing"}} {
			want, _, _ := mem.Top(ctx, q, fields, 2)
			got, _, err := c.Top(ctx, q, fields, 2)
			if len(want)+len(got) > 0 && (err != nil || cmp.Diff(want, got) != "") {
				t.Errorf("%s: top %v: %v, %s", name, fields, err, cmp.Diff(want, got))
			}
		}
		if q.From > 1 && q.From < 1<<60 {
			q.To = max(q.To, at+1e9)
			want, _, _ := mem.Histogram(ctx, q, 7_500_001)
			got, st, err := c.Histogram(ctx, q, 7_500_001)
			if err != nil || cmp.Diff(want, got) != "" || st.Rows == 0 {
				t.Errorf("%s: histogram: %v, %s", name, err, cmp.Diff(want, got))
			}
		}
	}
	if got := collect(c.Findings(), store.Query{}); len(got.Raws) != 0 || got.Err != "" {
		t.Errorf("findings: %v", got)
	}
}

// TestConformance is the suite that every searcher passes.
func TestConformance(t *testing.T) {
	storetest.Test(t, func(t *testing.T, records []audit.Record) store.Searcher {
		mem := &memory.Store{}
		mem.Add(records...)
		return serve(t, mem).client(t, nil)
	})
}

func TestYieldAndContext(t *testing.T) {
	mem := &memory.Store{}
	fill(t, mem, 50)
	c := serve(t, mem).client(t, nil)
	mine := errors.New("mine")
	if st, err := c.Search(context.Background(), store.Query{}, func(*audit.Record) error { return mine }); err != mine || st.Matched != 1 {
		t.Errorf("%v, %v", st, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	_, err := c.Search(ctx, store.Query{}, func(*audit.Record) error { cancel(); return nil })
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if _, _, err := c.Top(ctx, store.Query{}, []string{"verb"}, 1); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestPasswordLogin(t *testing.T) {
	mem := &memory.Store{}
	fill(t, mem, 3)
	s := serve(t, mem)
	c := s.client(t, func(o *Options) { o.Token, o.User, o.Password = "", "alice", password })
	if got := collect(c, store.Query{}); len(got.Raws) != 3 {
		t.Errorf("%v", got)
	}
	if err := s.auth.SetPassword("alice", password, []auth.Scope{auth.ScopeRead}); err != nil { // ends the session
		t.Fatal(err)
	}
	if got := collect(c, store.Query{}); len(got.Raws) != 3 {
		t.Errorf("after the session's end: %v", got)
	}
}

func TestErrorsHelp(t *testing.T) {
	s := serve(t, &memory.Store{})
	for name, tc := range map[string]struct {
		change func(*Options)
		want   string
	}{
		"wrong token":    {func(o *Options) { o.Token = "wdt_x" }, "no valid credentials"},
		"no credentials": {func(o *Options) { o.Token = "" }, "no valid credentials"},
		"wrong password": {func(o *Options) { o.Token, o.User, o.Password = "", "alice", "wrong" }, "user or password is wrong"},
		"untrusted":      {func(o *Options) { o.CAFile = "" }, "ca.crt"},
		"nobody there":   {func(o *Options) { o.URL = "https://127.0.0.1:1" }, "cannot ask the server 127.0.0.1:1"},
	} {
		got := collect(s.client(t, tc.change), store.Query{Expr: &match.Text{Word: "needle"}})
		if !strings.Contains(got.Err, tc.want) || strings.Contains(got.Err, "needle") || strings.Contains(got.Err, s.token) {
			t.Errorf("%s: %s", name, got.Err)
		}
	}
	for _, bad := range []string{"", "host:1", "ftp://h", "http://example.com:80", "https://u:p@h"} {
		if _, err := New(Options{URL: bad}); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
	var p *wire.Problem
	_, _, err := s.client(t, nil).Top(context.Background(), store.Query{}, nil, 1)
	if !errors.As(err, &p) || p.Status != 400 {
		t.Errorf("%v", err)
	}
}

func TestCutAnswerIsAnError(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("")) }))
	defer srv.Close()
	c, err := New(Options{URL: srv.URL, Token: "t"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got := collect(c, store.Query{}); !strings.Contains(got.Err, "unexpected EOF") {
		t.Errorf("%v", got)
	}
	moved := httptest.NewServer(http.RedirectHandler(srv.URL, http.StatusFound))
	defer moved.Close()
	c2, _ := New(Options{URL: moved.URL, Token: "t"})
	defer c2.Close()
	if got := collect(c2, store.Query{}); !strings.Contains(got.Err, "302") {
		t.Errorf("%v", got)
	}
}

// TestCall: any part of the API, with a token and with a password, whose session may have ended.
func TestCall(t *testing.T) {
	s := serve(t, &memory.Store{})
	withPassword := s.client(t, func(o *Options) { o.Token, o.User, o.Password = "", "alice", password })
	for name, c := range map[string]*Client{"token": s.client(t, nil), "password": withPassword} {
		var me struct{ Scopes []string }
		if err := c.Call(t.Context(), "GET", "/api/v1/whoami", nil, &me); err != nil || len(me.Scopes) != 1 {
			t.Errorf("%s: %v %v", name, me, err)
		}
	}
	if err := s.auth.SetPassword("alice", password, []auth.Scope{auth.ScopeRead}); err != nil { // ends the session
		t.Fatal(err)
	}
	var p *wire.Problem
	err := withPassword.Call(t.Context(), "POST", "/api/v1/alerts/test", map[string]string{"rule": "x"}, nil)
	if !errors.As(err, &p) || p.Status != 403 || !strings.Contains(err.Error(), "scope operate is wanted") {
		t.Errorf("%v", err)
	}
}

func TestCallErrors(t *testing.T) {
	done := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		switch r.URL.Path {
		case "/api/v2/echo":
			fmt.Fprintf(w, `{"method":%q,"type":%q,"body":%q}`, r.Method, r.Header.Get("Content-Type"), b)
		case "/api/v2/silence/a/b":
			http.Error(w, `"silence `+r.URL.RawPath+` not found"`, http.StatusNotFound)
		case "/api/v2/object":
			http.Error(w, `{"code":601,"message":"no uuid"}`, http.StatusUnprocessableEntity)
		case "/api/v2/empty":
			w.WriteHeader(http.StatusNotFound)
		case "/api/v2/moved":
			http.Redirect(w, r, "/api/v2/echo", http.StatusTemporaryRedirect)
		case "/api/v2/cut":
			fmt.Fprint(w, `{"method":"`)
		case "/api/v2/hangs":
			<-done
		}
	}))
	defer srv.Close()
	defer close(done)
	c, err := New(Options{URL: srv.URL, Token: "t"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var echo struct{ Method, Type, Body string }
	if err := c.Call(t.Context(), "POST", "/api/v2/echo", []int{1}, &echo); err != nil || echo.Method != "POST" || echo.Type != "application/json" || echo.Body != "[1]" {
		t.Errorf("%+v %v", echo, err)
	}
	if err := c.Call(t.Context(), "DELETE", "/api/v2/echo", nil, &echo); err != nil || echo.Method != "DELETE" || echo.Type != "" || echo.Body != "" {
		t.Errorf("%+v %v", echo, err)
	}
	for path, want := range map[string]struct {
		status int
		text   string
	}{
		"silence/a%2Fb": {404, "refuses: silence /api/v2/silence/a%2Fb not found"},
		"object":        {422, "refuses: no uuid"},
		"empty":         {404, "it answers 404 Not Found"},
		"moved":         {307, "it answers 307"},
		"cut":           {0, "cannot read the answer of 127.0.0.1"},
	} {
		var refused *Refused
		err := c.Call(t.Context(), "GET", "/api/v2/"+path, nil, &echo)
		if err == nil || !strings.Contains(err.Error(), want.text) || errors.As(err, &refused) != (want.status != 0) || refused != nil && refused.Status != want.status {
			t.Errorf("%s: %v", path, err)
		}
	}
	ctx, cancel := context.WithTimeoutCause(t.Context(), 20*time.Millisecond, errors.New("it did not answer in time"))
	defer cancel()
	if err := c.Call(ctx, "GET", "/api/v2/hangs", nil, nil); err == nil || !strings.Contains(err.Error(), "cannot ask the server 127.0.0.1") || !strings.HasSuffix(err.Error(), "it did not answer in time") {
		t.Error(err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	cancel()
	if err := c.Call(ctx, "GET", "/api/v2/hangs", nil, nil); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestTail(t *testing.T) {
	mem := &memory.Store{}
	c := serve(t, mem).client(t, nil)
	ctx, cancel := context.WithCancel(context.Background())
	got := make(chan string, 1)
	ended := make(chan error)
	go func() {
		ended <- c.Tail(ctx, store.Query{Expr: &match.Pred{Path: "verb", Op: match.Equal, Values: []string{"delete"}}}, func(r *audit.Record) error {
			select {
			case got <- r.Event.AuditID:
			default:
			}
			return nil
		})
	}()
	deadline := time.After(20 * time.Second)
	for i := 0; ; i++ { // the tail begins some time after it was asked for
		mem.Add(record(t, uint64(i+1), fmt.Sprintf(`{"auditID":"t-%d","stage":"x","verb":"delete"}`, i)))
		select {
		case id := <-got:
			if !strings.HasPrefix(id, "t-") {
				t.Error(id)
			}
			cancel()
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
			return
		case <-deadline:
			t.Fatal("nothing came")
		case <-time.After(5 * time.Millisecond):
		}
	}
}
