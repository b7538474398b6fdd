package app

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"whodunit/internal/auth"
	"whodunit/internal/config"
	"whodunit/internal/journal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait for something to happen.
const patience = 30 * time.Second

// settings are a configuration of plain HTTP on free loopback ports, without the shipped rules.
func settings(t *testing.T) config.Config {
	t.Helper()
	c := config.Default()
	c.DataDir = filepath.Join(t.TempDir(), "data")
	c.Server.Listen, c.Webhook.Listen = "127.0.0.1:0", "127.0.0.1:0"
	c.Server.TLS.Mode, c.Webhook.TLS.Mode = "off", "off"
	c.Rules.DefaultPack, c.Alerts.Log = false, false
	c.Journal.MinFree = 1
	return c
}

// server is an App that runs, with what is wanted to talk to it.
type server struct {
	*App
	t            *testing.T
	client       *http.Client
	ingest, read string // tokens
}

func start(t *testing.T, o Options) *server {
	t.Helper()
	o.Log = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	a, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	s := &server{App: a, t: t, client: &http.Client{Timeout: patience, Transport: &http.Transport{}}}
	t.Cleanup(func() {
		s.client.CloseIdleConnections()
		if err := a.Stop(); err != nil {
			t.Errorf("Stop: %v", err)
		}
	})
	first := a.FirstLogin()
	if s.ingest = first.IngestToken; !first.Created {
		t.Fatal("no first login on a new data folder")
	}
	if again := a.FirstLogin(); again.Created || again.Password != "" {
		t.Error("the first login is told twice")
	}
	if _, s.read, err = a.auth.CreateToken("test", []auth.Scope{auth.ScopeRead}, time.Time{}); err != nil {
		t.Fatal(err)
	}
	a.Start(t.Context())
	return s
}

// event is a deletion of a config map by user, with an audit id of its own.
func event(id int, user string) string {
	return fmt.Sprintf(`{"level":"Metadata","auditID":"id-%d","stage":"ResponseComplete","requestURI":"/api/v1/namespaces/shop/configmaps/c","verb":"delete",`+
		`"user":{"username":%q},"objectRef":{"resource":"configmaps","namespace":"shop","name":"c","apiVersion":"v1"},"responseStatus":{"code":200},`+
		`"requestReceivedTimestamp":"2026-11-21T10:00:00.000000Z","stageTimestamp":"2026-11-21T10:00:00.%06dZ"}`, id, user, id%1000000)
}

func (s *server) do(ctx context.Context, method, url, token, body string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	return s.client.Do(req)
}

// send posts events as an API server does and gives the status.
func (s *server) send(events ...string) int {
	s.t.Helper()
	resp, err := s.do(context.Background(), http.MethodPost, s.WebhookURL(), s.ingest,
		`{"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":[`+strings.Join(events, ",")+`]}`)
	if err != nil {
		s.t.Error(err)
		return 0
	}
	defer resp.Body.Close()
	return resp.StatusCode
}

func (s *server) get(path string) string {
	s.t.Helper()
	resp, err := s.do(context.Background(), http.MethodGet, s.URL()+path, s.read, "")
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		s.t.Fatalf("%s: %s %s %v", path, resp.Status, b, err)
	}
	return string(b)
}

func poll(t *testing.T, what string, f func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !f(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// inbox is a receiver of alerts.
type inbox struct {
	*httptest.Server
	mu  sync.Mutex
	got map[string]int // by auditID
}

func newInbox(t *testing.T) *inbox {
	i := &inbox{got: map[string]int{}}
	i.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var body struct {
			Findings []struct {
				Rule    string `json:"rule"`
				AuditID string `json:"auditID"`
			} `json:"findings"`
		}
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			t.Error(err)
		}
		i.mu.Lock()
		defer i.mu.Unlock()
		for _, f := range body.Findings {
			i.got[f.AuditID]++
		}
	}))
	t.Cleanup(i.Close)
	return i
}

func (i *inbox) count() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return len(i.got)
}

const anyDeletion = "id: any-deletion\ncondition: verb == \"delete\"\nmessage: \"{user.username} deleted {objectRef.name}\"\nseverity: high\n"

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestWholeWay: what arrives at the webhook can be searched, gives a finding, and the finding is told.
func TestWholeWay(t *testing.T) {
	in := newInbox(t)
	c := settings(t)
	rules := filepath.Join(t.TempDir(), "any.yaml")
	writeFile(t, rules, anyDeletion)
	c.Rules.Paths = []string{rules}
	c.Alerts.Webhooks = []config.AlertWebhook{{URL: in.URL, Timeout: config.Duration(5 * time.Second), MinSeverity: "high"}}
	s := start(t, Options{Config: c, Version: "test"})
	if code := s.send(event(1, "alice"), event(2, "bob")); code/100 != 2 {
		t.Fatalf("the webhook answered %d", code)
	}
	if code := s.send(event(1, "alice")); code/100 != 2 { // as an API server does that had no answer
		t.Fatalf("the webhook answered %d", code)
	}
	poll(t, "both alerts", func() bool { return in.count() == 2 })
	if got := s.get("/api/v1/events?q=user:alice"); !strings.Contains(got, "id-1") || strings.Contains(got, "id-2") {
		t.Errorf("search: %s", got)
	}
	if got := s.get("/api/v1/findings?q=rule:any-deletion"); !strings.Contains(got, "alice deleted c") {
		t.Errorf("findings: %s", got)
	}
	if n := s.events.Info().Events; n != 2 {
		t.Errorf("%d events in the journal, want 2", n)
	}
	if got := s.get("/metrics"); !strings.Contains(got, `whodunit_build_info{version="test"} 1`) {
		t.Error("no version in the metrics")
	}
}

// TestReload: configurations come and go while events come in; none is lost, and each is told to the receiver that stays.
func TestReload(t *testing.T) {
	stays, comes := newInbox(t), newInbox(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "w.yaml")
	writeFile(t, filepath.Join(dir, "any.yaml"), anyDeletion)
	if err := os.MkdirAll(filepath.Join(dir, "more"), 0o700); err != nil {
		t.Fatal(err)
	}
	c := settings(t)
	write := func(i int) {
		text := fmt.Sprintf("data_dir: %s\nserver: {listen: \"127.0.0.1:0\", tls: {mode: \"off\"}}\nwebhook: {listen: \"127.0.0.1:0\", tls: {mode: \"off\"}}\n"+
			"journal: {min_free: 1B, retention: {age: %dd}}\nrules: {default_pack: false, paths: [%s", c.DataDir, 3000+i, filepath.Join(dir, "any.yaml"))
		if i%2 == 1 {
			text += ", " + filepath.Join(dir, "more")
		}
		text += "]}\nalerts: {log: false, webhooks: [{url: " + stays.URL + "}"
		if i%2 == 1 {
			text += ", {url: " + comes.URL + "}"
		}
		writeFile(t, path, text+"]}\n")
	}
	write(0)
	loaded, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, Options{Config: loaded, Path: path})
	stop, sent := make(chan struct{}), make(chan int)
	go func() {
		n := 0
		for ; ; n++ {
			select {
			case <-stop:
				sent <- n
				return
			default:
			}
			if code := s.send(event(n, "alice")); code/100 != 2 {
				t.Errorf("event %d: the webhook answered %d", n, code)
			}
		}
	}()
	for i := 1; i <= 5; i++ {
		before := s.events.Last()
		write(i)
		if err := s.Reload(); err != nil {
			t.Error(err)
		}
		poll(t, "events between two reloads", func() bool { return s.events.Last() > before+20 })
	}
	close(stop)
	n := <-sent
	if got := s.events.Info().Events; got != int64(n) {
		t.Errorf("%d events in the journal, %d were sent", got, n)
	}
	poll(t, fmt.Sprintf("all %d alerts", n), func() bool { return stays.count() == n })
	if comes.count() == 0 {
		t.Error("the receiver that a reload brought was told nothing")
	}
	if got := s.cfg.Journal.Retention.Age.Std(); got != 3005*24*time.Hour {
		t.Errorf("retention is %v", got)
	}
}

// TestReloadAgain: what could not be taken over is tried again by the next reload, and what ran before runs on.
func TestReloadAgain(t *testing.T) {
	in := newInbox(t)
	dir := t.TempDir()
	path, rules, key := filepath.Join(dir, "w.yaml"), filepath.Join(dir, "rules"), filepath.Join(dir, "key")
	c := settings(t)
	base := "data_dir: " + c.DataDir + "\nserver: {listen: \"127.0.0.1:0\", tls: {mode: \"off\"}}\nwebhook: {listen: \"127.0.0.1:0\", tls: {mode: \"off\"}}\njournal: {min_free: 1B}\n"
	writeFile(t, path, base+"rules: {default_pack: false}\nalerts: {log: false}\n")
	loaded, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, Options{Config: loaded, Path: path})
	writeFile(t, path, base+"rules: {default_pack: false, paths: ["+rules+"]}\nalerts: {log: false, webhooks: [{url: "+in.URL+", hmac_secret_file: "+key+"}]}\n")
	if err := s.Reload(); err == nil {
		t.Error("rules and a key that are not there were taken over")
	}
	if err := os.Mkdir(rules, 0o700); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(rules, "any.yaml"), anyDeletion)
	writeFile(t, key, "sesame")
	if err := s.Reload(); err != nil {
		t.Error(err)
	}
	s.send(event(1, "alice"))
	poll(t, "the alert", func() bool { return in.count() == 1 })
	writeFile(t, path, base+"nonsense: true\n")
	if err := s.Reload(); err == nil {
		t.Error("a configuration with a mistake was taken over")
	}
	s.send(event(2, "alice"))
	poll(t, "the second alert", func() bool { return in.count() == 2 })
}

// TestReloadAtOnce: a signal and a change of the file may come together.
func TestReloadAtOnce(t *testing.T) {
	in := newInbox(t)
	path := filepath.Join(t.TempDir(), "w.yaml")
	c := settings(t)
	text := "data_dir: " + c.DataDir + "\nserver: {listen: \"127.0.0.1:0\", tls: {mode: \"off\"}}\nwebhook: {enabled: false}\nalerts: {log: %t, webhooks: [{url: " + in.URL + "}]}\n"
	writeFile(t, path, fmt.Sprintf(text, true))
	loaded, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, Options{Config: loaded, Path: path})
	var wg sync.WaitGroup
	for i := range 8 {
		writeFile(t, path+".new", fmt.Sprintf(text, i%2 == 0))
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
		wg.Go(func() { _ = s.Reload() })
	}
	wg.Wait()
}

// TestStop: clients that are slow, or that wait for ever, do not hold the server up, and a restart has everything.
func TestStop(t *testing.T) {
	c := settings(t)
	s := start(t, Options{Config: c})
	s.send(event(1, "alice"))
	slow, err := net.Dial("tcp", strings.TrimPrefix(s.WebhookURL(), "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Close()
	fmt.Fprintf(slow, "POST / HTTP/1.1\r\nHost: w\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n{\"kind\":", s.ingest)
	resp, err := s.do(t.Context(), http.MethodGet, s.URL()+"/api/v1/events/tail", s.read, "")
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("tail: %v %v", resp, err)
	}
	defer resp.Body.Close()
	tail := bufio.NewReader(resp.Body)
	s.send(event(2, "alice"))
	if line, err := tail.ReadBytes('\n'); err != nil || !bytes.Contains(line, []byte("id-2")) {
		t.Fatalf("tail: %s %v", line, err)
	}
	begun := time.Now()
	if err := s.Stop(); err != nil {
		t.Errorf("Stop: %v", err)
	}
	if took := time.Since(begun); took > stopWithin+time.Second {
		t.Errorf("Stop took %v", took)
	} else {
		t.Logf("Stop took %v", took)
	}
	if rest, err := io.ReadAll(tail); !bytes.Contains(rest, []byte("stopping")) {
		t.Errorf("the tail ended with %q, %v", rest, err)
	}
	a, err := New(Options{Config: c})
	if err != nil {
		t.Fatal(err)
	}
	if n := a.events.Info().Events; n != 2 {
		t.Errorf("%d events after a restart, want 2", n)
	}
	if a.FirstLogin().Created {
		t.Error("a restart made a new first login")
	}
	if err := a.Stop(); err != nil {
		t.Error(err)
	}
}

// TestFirstLogin: a first start that fails makes no login, which nobody would be shown.
func TestFirstLogin(t *testing.T) {
	c := settings(t)
	c.Alerts.AlertmanagerConfig = filepath.Join(t.TempDir(), "none.yml")
	if a, err := New(Options{Config: c}); err == nil {
		t.Fatal("a configuration that is not there was taken", a.Stop())
	}
	c.Alerts.AlertmanagerConfig = ""
	start(t, Options{Config: c}) // wants a first login
}

// TestAlone: a second server on the same data keeps off, and the first is none the worse for it.
func TestAlone(t *testing.T) {
	c := settings(t)
	s := start(t, Options{Config: c})
	if _, err := New(Options{Config: c}); !errors.Is(err, journal.ErrLocked) {
		t.Errorf("a second server: %v", err)
	}
	if _, err := ImportInto(t.Context(), ImportOptions{DataDir: c.DataDir, Cluster: "c", Log: slog.New(slog.DiscardHandler)}); !errors.Is(err, journal.ErrLocked) {
		t.Errorf("an import: %v", err)
	}
	if _, err := LockData(c.DataDir); !errors.Is(err, journal.ErrLocked) {
		t.Errorf("LockData: %v", err)
	}
	if code := s.send(event(1, "alice")); code/100 != 2 {
		t.Errorf("the webhook answered %d", code)
	}
}

// TestFailed: a server whose listener dies says so instead of living on without it.
func TestFailed(t *testing.T) {
	for name, kill := range map[string]func(a *App) error{
		"server":  func(a *App) error { return a.listener.Close() },
		"webhook": func(a *App) error { return a.webhookListener.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			a, err := New(Options{Config: settings(t)})
			if err != nil {
				t.Fatal(err)
			}
			a.Start(t.Context())
			if err := kill(a); err != nil {
				t.Fatal(err)
			}
			select {
			case err := <-a.Failed():
				if err == nil {
					t.Error("failed without an error")
				}
			case <-time.After(patience):
				t.Error("nothing was said")
			}
			if err := a.Stop(); err != nil {
				t.Logf("Stop: %v", err)
			}
		})
	}
}

// TestNewFails: what New has opened before it fails is closed again.
func TestNewFails(t *testing.T) {
	used, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer used.Close()
	c := settings(t)
	for name, spoil := range map[string]func(c *config.Config){
		"address": func(c *config.Config) { c.Server.Listen = used.Addr().String() },
		"webhook": func(c *config.Config) { c.Webhook.Listen = used.Addr().String() },
		"rules":   func(c *config.Config) { c.Rules.Paths = []string{"nowhere"} },
		"secret":  func(c *config.Config) { c.Webhook.TLS.Mode, c.Webhook.TLS.CertFile = "files", "nowhere" },
	} {
		bad := c
		spoil(&bad)
		if _, err := New(Options{Config: bad}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	a, err := New(Options{Config: c}) // the lock and the ports are free again
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Stop(); err != nil {
		t.Error(err)
	}
}
