package auth

import (
	"context"
	"encoding/base64"
	"errors"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

type clock struct{ t time.Time }

func (c *clock) now() time.Time          { return c.t }
func (c *clock) advance(d time.Duration) { c.t = c.t.Add(d) }

func open(t *testing.T, dir string, c *clock) *Auth {
	t.Helper()
	a, err := New(Options{Dir: dir, Now: c.now, PasswordCost: 64, Secure: true})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func newClock() *clock { return &clock{time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)} }

func TestBootstrap(t *testing.T) {
	dir, c := t.TempDir(), newClock()
	a := open(t, dir, c)
	cred, err := a.Bootstrap()
	if err != nil || !cred.Created {
		t.Fatalf("%+v, %v", cred, err)
	}
	if bits := float64(len(strings.ReplaceAll(cred.Password, "-", ""))) * math.Log2(float64(len(passwordLetters))); bits < 100 {
		t.Errorf("%q has %.1f bits", cred.Password, bits)
	}
	if strings.ContainsAny(cred.Password, "01oOlIi") {
		t.Errorf("%q has look-alikes", cred.Password)
	}
	path := filepath.Join(dir, "auth.json")
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	b, _ := os.ReadFile(path)
	if strings.Contains(string(b), cred.Password) || strings.Contains(string(b), cred.IngestToken) {
		t.Error("auth.json holds a secret")
	}
	again := open(t, dir, c) // a restart
	if cred, err := again.Bootstrap(); err != nil || cred.Created {
		t.Errorf("bootstrapped twice: %v", err)
	}
	if who, err := again.verify(context.Background(), "192.0.2.1", "admin", cred.Password); err != nil || !who.Can(ScopeRead) {
		t.Errorf("%v, %v", who, err)
	}
	who, err := again.CheckToken(cred.IngestToken)
	if err != nil || !who.Can(ScopeIngest) || who.Can(ScopeRead) || who.Can(ScopeAdmin) {
		t.Errorf("%v, %v", who, err)
	}
}

func TestResetPassword(t *testing.T) {
	dir, c := t.TempDir(), newClock()
	a := open(t, dir, c)
	first, err := a.Bootstrap()
	if err != nil {
		t.Fatal(err)
	}
	fresh, err := a.ResetPassword("admin")
	if err != nil {
		t.Fatal(err)
	}
	again := open(t, dir, c)
	if who, err := again.verify(t.Context(), "192.0.2.1", "admin", fresh); err != nil || !who.Can(ScopeAdmin) {
		t.Errorf("the new password: %v, %v", who, err)
	}
	if _, err := again.verify(t.Context(), "192.0.2.1", "admin", first.Password); err == nil {
		t.Error("the old password still works")
	}
	if _, err := again.CheckToken(first.IngestToken); err != nil {
		t.Errorf("the webhook's token is gone: %v", err)
	}
	if _, err := a.ResetPassword("nobody"); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
}

func TestTokens(t *testing.T) {
	dir, c := t.TempDir(), newClock()
	a := open(t, dir, c)
	tok, secret, err := a.CreateToken("ci", []Scope{ScopeRead}, c.now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []struct {
		name   string
		scopes []Scope
		at     time.Time
	}{{"ci", []Scope{ScopeRead}, time.Time{}}, {"a b", []Scope{ScopeRead}, time.Time{}}, {"", []Scope{ScopeRead}, time.Time{}},
		{"x", nil, time.Time{}}, {"x", []Scope{"root"}, time.Time{}}, {"x", []Scope{ScopeRead}, c.now()}} {
		if _, _, err := a.CreateToken(bad.name, bad.scopes, bad.at); !errors.Is(err, ErrInvalid) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	if diff := cmp.Diff([]Token{tok}, open(t, dir, c).Tokens()); diff != "" {
		t.Error(diff)
	}
	if _, err := a.CheckToken(secret); err != nil {
		t.Error(err)
	}
	_, ingest, err := a.CreateToken("apiserver", []Scope{ScopeIngest}, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	for auth, want := range map[string]string{"Bearer " + ingest: "token:apiserver", "bearer " + ingest: "token:apiserver", "Bearer " + secret: "", "Basic " + ingest: "", "": "",
		basic("falco", ingest): "token:apiserver", basic("", ingest): "token:apiserver", basic(ingest, ""): "", basic("admin", secret): ""} {
		if who, ok := a.Ingest(request("POST", "x:1", "Authorization", auth)); who != want || ok != (want != "") {
			t.Errorf("%.12s: %q, %v", auth, who, ok)
		}
	}
	for _, wrong := range []string{"", secret[:len(secret)-1], secret + "x", "wdt_"} {
		if _, err := a.CheckToken(wrong); !errors.Is(err, ErrUnauthenticated) {
			t.Errorf("%q: %v", wrong, err)
		}
	}
	c.advance(time.Hour)
	if _, err := a.CheckToken(secret); !errors.Is(err, ErrUnauthenticated) {
		t.Errorf("expired: %v", err)
	}
	if err := a.DeleteToken(tok.ID); err != nil {
		t.Error(err)
	}
	if err := a.DeleteToken(tok.ID); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
}

func basic(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

func request(method, addr string, h ...string) *http.Request {
	r := httptest.NewRequest(method, "https://whodunit.example/api/v1/x", nil)
	r.RemoteAddr = addr
	for i := 0; i < len(h); i += 2 {
		r.Header.Set(h[i], h[i+1])
	}
	return r
}

const right = "correct-horse-battery"

func TestSessions(t *testing.T) {
	c := newClock()
	a := open(t, t.TempDir(), c)
	if err := a.SetPassword("alice", right, []Scope{ScopeRead}); err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	if _, err := a.Login(w, request("POST", "192.0.2.1:5"), "alice", right); err != nil {
		t.Fatal(err)
	}
	set := w.Header().Get("Set-Cookie")
	for _, want := range []string{"__Host-whodunit=", "HttpOnly", "Secure", "SameSite=Strict", "Path=/"} {
		if !strings.Contains(set, want) {
			t.Errorf("cookie %q lacks %s", set, want)
		}
	}
	cookie, _, _ := strings.Cut(set, ";")
	for id := range a.sessions {
		if strings.Contains(cookie, string(id[:])) {
			t.Error("the id is kept as it is")
		}
	}
	for _, tc := range []struct {
		name string
		r    *http.Request
		want error
	}{
		{"get", request("GET", "192.0.2.1:5", "Cookie", cookie), nil},
		{"get from elsewhere", request("GET", "192.0.2.1:5", "Cookie", cookie, "Sec-Fetch-Site", "cross-site"), nil},
		{"post by a program", request("POST", "192.0.2.1:5", "Cookie", cookie), nil},
		{"post by our page", request("POST", "192.0.2.1:5", "Cookie", cookie, "Sec-Fetch-Site", "same-origin"), nil},
		{"post by another page", request("POST", "192.0.2.1:5", "Cookie", cookie, "Sec-Fetch-Site", "cross-site"), ErrCrossOrigin},
		{"post by a subdomain", request("POST", "192.0.2.1:5", "Cookie", cookie, "Sec-Fetch-Site", "same-site"), ErrCrossOrigin},
		{"old browser", request("DELETE", "192.0.2.1:5", "Cookie", cookie, "Origin", "https://evil.example"), ErrCrossOrigin},
		{"old browser, our page", request("DELETE", "192.0.2.1:5", "Cookie", cookie, "Origin", "https://whodunit.example"), nil},
		{"other cookie", request("GET", "192.0.2.1:5", "Cookie", "__Host-whodunit=abc"), ErrUnauthenticated},
		{"without the prefix", request("GET", "192.0.2.1:5", "Cookie", strings.TrimPrefix(cookie, "__Host-")), ErrUnauthenticated},
		{"no cookie", request("GET", "192.0.2.1:5"), ErrUnauthenticated},
		{"basic", request("GET", "192.0.2.1:5", "Authorization", "Basic YTpi", "Cookie", cookie), ErrUnauthenticated},
	} {
		if _, err := a.Authenticate(tc.r); !errors.Is(err, tc.want) || (tc.want == nil && err != nil) {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
	if _, err := a.Authorize(request("GET", "x:1", "Cookie", cookie), ScopeAdmin); !errors.Is(err, ErrForbidden) {
		t.Errorf("scope: %v", err)
	}
	if _, err := a.Login(httptest.NewRecorder(), request("POST", "x:1", "Sec-Fetch-Site", "cross-site"), "alice", right); !errors.Is(err, ErrCrossOrigin) {
		t.Errorf("login by another page: %v", err)
	}
	c.advance(12 * time.Hour)
	if _, err := a.Authenticate(request("GET", "x:1", "Cookie", cookie)); !errors.Is(err, ErrUnauthenticated) {
		t.Errorf("expired: %v", err)
	}
}

func TestSessionsEnd(t *testing.T) {
	a := open(t, t.TempDir(), newClock())
	login := func() string {
		w := httptest.NewRecorder()
		if _, err := a.Login(w, request("POST", "192.0.2.1:5"), "alice", right); err != nil {
			t.Fatal(err)
		}
		cookie, _, _ := strings.Cut(w.Header().Get("Set-Cookie"), ";")
		return cookie
	}
	for name, end := range map[string]func(cookie string) error{
		"logout":       func(c string) error { return a.Logout(httptest.NewRecorder(), request("POST", "x:1", "Cookie", c)) },
		"new password": func(string) error { return a.SetPassword("alice", right, []Scope{ScopeRead}) },
		"user deleted": func(string) error { return a.DeleteUser("alice") },
	} {
		if err := a.SetPassword("alice", right, []Scope{ScopeRead}); err != nil {
			t.Fatal(err)
		}
		cookie := login()
		if err := end(cookie); err != nil {
			t.Fatal(err)
		}
		if _, err := a.Authenticate(request("GET", "x:1", "Cookie", cookie)); !errors.Is(err, ErrUnauthenticated) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRateLimit(t *testing.T) {
	c := newClock()
	a := open(t, t.TempDir(), c)
	if err := a.SetPassword("alice", right, []Scope{ScopeRead}); err != nil {
		t.Fatal(err)
	}
	try := func(addr, user, password string) error {
		_, err := a.verify(context.Background(), addr, user, password)
		return err
	}
	var limited *RateLimitedError
	for i := range 10 {
		if err := try("192.0.2.1", "nobody", "x"); !errors.Is(err, ErrUnauthenticated) {
			t.Fatalf("try %d: %v", i, err)
		}
	}
	if err := try("192.0.2.1", "alice", right); !errors.As(err, &limited) || limited.RetryAfter != 6*time.Second {
		t.Errorf("one address: %v", err)
	}
	if err := try("192.0.2.2", "alice", right); err != nil {
		t.Errorf("another address: %v", err)
	}
	c.advance(6 * time.Second)
	if err := try("192.0.2.1", "alice", right); err != nil {
		t.Errorf("after the wait: %v", err)
	}
	for i := range 40 { // right ones cost nothing
		if err := try("198.51.100.1", "alice", right); err != nil {
			t.Fatalf("login %d: %v", i, err)
		}
	}
	for i := range 20 { // many addresses, one user; IPv6 counts by network
		try("2001:db8:"+string(rune('a'+i%6))+string(rune('0'+i/6))+"::1", "alice", "wrong")
	}
	if err := try("203.0.113.9", "alice", right); !errors.As(err, &limited) {
		t.Errorf("one user from many addresses: %v", err)
	}
	if addressKey("2001:db8::1") != addressKey("2001:db8::ffff:1") || addressKey("::ffff:192.0.2.1") != "192.0.2.1" {
		t.Error("address keys")
	}
	if n := testutil.ToFloat64(a.metrics.failures.WithLabelValues("rate_limited")); n != 2 {
		t.Errorf("%v counted", n)
	}
}

func TestSessionsAreBounded(t *testing.T) {
	c := newClock()
	a := open(t, t.TempDir(), c)
	for range 20 {
		a.sessions[[32]byte{byte(len(a.sessions)), 1}] = session{expires: c.now().Add(time.Second)}
	}
	c.advance(time.Minute)
	if _, err := a.newSession(Principal{}); err != nil || len(a.sessions) != 1 {
		t.Errorf("%d sessions, %v", len(a.sessions), err)
	}
}

func TestFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "auth.json")
	for _, bad := range []string{"{", `{"version":2}`, `{"version":1,"other":1}`} {
		os.WriteFile(path, []byte(bad), 0o600)
		if _, err := New(Options{Dir: dir, PasswordCost: 64}); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", bad, err)
		}
	}
	os.WriteFile(path, []byte(`{"version":1}`), 0o644)
	if _, err := New(Options{Dir: dir, PasswordCost: 64}); err != nil {
		t.Fatal(err)
	}
	if info, _ := os.Stat(path); info.Mode().Perm() != 0o600 {
		t.Errorf("left at %v", info.Mode())
	}
}

func FuzzParseHash(f *testing.F) {
	a, err := New(Options{Dir: f.TempDir(), PasswordCost: 64})
	if err != nil {
		f.Fatal(err)
	}
	f.Add("$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$AAAA")
	f.Add("$argon2id$v=19$m=99999999,t=1,p=1$c2FsdHNhbHQ$AAAAAAAAAAAAAAAAAAAAAAAAAA")
	f.Add(a.dummy)
	f.Fuzz(func(t *testing.T, hash string) {
		if h, ok := parseHash(hash); ok && (h.memory > 1<<20 || h.passes == 0 || h.lanes == 0 || len(h.key) < 16) {
			t.Errorf("%q is taken: %+v", hash, h)
		}
	})
}

func TestBasicAuthentication(t *testing.T) {
	c := newClock()
	a := open(t, t.TempDir(), c)
	if err := a.SetPassword("alice", right, []Scope{ScopeRead, ScopeOperate}); err != nil {
		t.Fatal(err)
	}
	_, token, err := a.CreateToken("amtool", []Scope{ScopeOperate}, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name, user, password string
		header               []string
		who                  string
		want                 error
	}{
		{"password", "alice", right, nil, "alice", nil},
		{"token", "anything", token, nil, "token:amtool", nil},
		{"wrong password", "alice", "wrong", nil, "", ErrUnauthenticated},
		{"unknown user", "bob", right, nil, "", ErrUnauthenticated},
		{"token as user", token, "", nil, "", ErrUnauthenticated},
		{"wrong token", "", token + "x", nil, "", ErrUnauthenticated},
		{"sent by a browser for another page", "alice", right, []string{"Sec-Fetch-Site", "cross-site"}, "", ErrCrossOrigin},
	} {
		r := request("POST", "192.0.2.9:5", append(tc.header, "Authorization", basic(tc.user, tc.password))...)
		if who, err := a.Authenticate(r); !errors.Is(err, tc.want) || tc.want == nil && err != nil || who.Name != tc.who {
			t.Errorf("%s: %+v, %v", tc.name, who, err)
		}
	}
	if _, err := a.Authorize(request("POST", "x:1", "Authorization", basic("alice", right)), ScopeOperate); err != nil {
		t.Errorf("operate: %v", err)
	}
	var limited *RateLimitedError
	for range 11 {
		_, err = a.Authenticate(request("GET", "192.0.2.10:5", "Authorization", basic("alice", "wrong")))
	}
	if !errors.As(err, &limited) {
		t.Errorf("guessing passwords is not slowed down: %v", err)
	}
	if _, err := a.Authenticate(request("GET", "192.0.2.10:5", "Authorization", basic("", token))); err != nil {
		t.Errorf("a token from a limited address: %v", err)
	}
}

// Attempts that wait for their turn side by side are held down like others.
func TestRateLimitSideBySide(t *testing.T) {
	a := open(t, t.TempDir(), newClock())
	for range cap(a.hashing) { // nobody's turn yet
		a.hashing <- struct{}{}
	}
	const tries = 40
	errs := make(chan error, tries)
	ready := make(chan struct{}, tries)
	for range tries {
		go func() {
			_, err := a.verify(&watched{t.Context(), ready}, "192.0.2.1", "alice", "wrong")
			errs <- err
		}()
	}
	for range tries { // each asks for the end of its context when it waits
		<-ready
	}
	for range cap(a.hashing) {
		<-a.hashing
	}
	checked := 0
	for range tries {
		if err := <-errs; errors.Is(err, ErrUnauthenticated) {
			checked++
		}
	}
	if most := 10 + cap(a.hashing); checked > most {
		t.Errorf("%d passwords were checked, at most %d are wanted", checked, most)
	}
}

// watched tells of each call of Done.
type watched struct {
	context.Context //nolint:containedctx // it is one
	asked           chan<- struct{}
}

func (w *watched) Done() <-chan struct{} {
	w.asked <- struct{}{}
	return w.Context.Done()
}
