package app

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"whodunit/internal/auth"
	"whodunit/internal/config"
)

// recent is event at this time: older ones make no alert.
func recent(id int, user string) string {
	return strings.ReplaceAll(event(id, user), "2026-11-21T10:00:00", time.Now().UTC().Format("2006-01-02T15:04:05"))
}

// pager is a receiver of Alertmanager's webhooks that remembers who was named.
type pager struct {
	*httptest.Server
	mu  sync.Mutex
	got map[string][]string // path: status, alertname and user of each alert
}

func newPager(t *testing.T) *pager {
	p := &pager{got: map[string][]string{}}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body struct {
			Alerts []struct {
				Status string
				Labels map[string]string
			}
		}
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			t.Error(err)
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, a := range body.Alerts {
			p.got[r.URL.Path] = append(p.got[r.URL.Path], a.Status+" "+a.Labels["alertname"]+" "+a.Labels["user"])
		}
	}))
	t.Cleanup(p.Close)
	return p
}

func (p *pager) has(path, alert string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Contains(p.got[path], alert)
}

// routing is an alertmanager.yml that sends all alerts to path.
func routing(url, path string) string {
	return fmt.Sprintf("route: {receiver: r, group_by: [user], group_wait: 10ms, group_interval: 1s}\nreceivers: [{name: r, webhook_configs: [{url: %q}]}]\n", url+path)
}

// alerting are settings with the rule any-deletion.
func alerting(t *testing.T) config.Config {
	t.Helper()
	c := settings(t)
	rules := filepath.Join(t.TempDir(), "any.yaml")
	writeFile(t, rules, anyDeletion)
	c.Rules.Paths = []string{rules}
	return c
}

// ask calls the API with a token of the scope operate.
func (s *server) ask(method, path, body string) (int, string) {
	s.t.Helper()
	_, token, err := s.auth.CreateToken(fmt.Sprintf("ask-%d", time.Now().UnixNano()), []auth.Scope{auth.ScopeRead, auth.ScopeOperate}, time.Time{})
	if err != nil {
		s.t.Fatal(err)
	}
	resp, err := s.do(context.Background(), method, s.URL()+path, token, body)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// TestAlerts: a finding becomes an alert at the receiver of a standard alertmanager.yml; who silences it silences Falcosidekick too, but not
// what records; what happened long ago wakes nobody; a file with an error is not taken over, and a good one is.
func TestAlerts(t *testing.T) {
	p, dir := newPager(t), t.TempDir()
	var falco inbound
	sidekick := httptest.NewServer(&falco)
	t.Cleanup(sidekick.Close)
	am, path, lines := filepath.Join(dir, "alertmanager.yml"), filepath.Join(dir, "whodunit.yaml"), filepath.Join(dir, "findings.jsonl")
	writeFile(t, am, routing(p.URL, "/one"))
	c := alerting(t)
	writeFile(t, path, "data_dir: "+c.DataDir+"\nserver: {listen: \"127.0.0.1:0\", tls: {mode: \"off\"}}\nwebhook: {listen: \"127.0.0.1:0\", tls: {mode: \"off\"}}\n"+
		"journal: {min_free: 1B}\nrules: {default_pack: false, paths: ["+c.Rules.Paths[0]+"]}\n"+
		"alerts: {log: false, external_url: \"https://w.example.com/audit\", alertmanager_config: "+am+", falcosidekick: [{url: \""+sidekick.URL+"\"}], files: [{path: "+lines+", query: \"not user:eve\"}]}\n")
	loaded, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, Options{Config: loaded, Path: path})
	s.send(recent(1, "alice"), strings.ReplaceAll(event(2, "bob"), "2026-", "2020-"))
	poll(t, "alice's alert", func() bool { return p.has("/one", "firing any-deletion alice") })
	poll(t, "a finding of alice at Falcosidekick", func() bool { return strings.Contains(falco.text(), "alice deleted") })
	var list struct {
		Items []struct {
			Labels, Annotations map[string]string
			Count               int
			Link                string
		}
	}
	if err := json.Unmarshal([]byte(s.get("/api/v1/alerts")), &list); err != nil {
		t.Fatal(err)
	}
	if len(list.Items) != 1 || list.Items[0].Count != 1 || list.Items[0].Labels["namespace"] != "shop" || !strings.Contains(list.Items[0].Annotations["command"], "kubectl delete configmap c -n shop") ||
		!strings.HasPrefix(list.Items[0].Link, "https://w.example.com/audit/?") {
		t.Errorf("alerts %+v", list)
	}

	begin, end := time.Now().Add(-time.Minute).Format(time.RFC3339), time.Now().Add(time.Hour).Format(time.RFC3339)
	if code, body := s.ask("POST", "/api/v2/silences", `{"matchers":[{"name":"user","value":"carol","isRegex":false,"isEqual":true}],"startsAt":"`+begin+`","endsAt":"`+end+`","createdBy":"t","comment":"c"}`); code != 200 {
		t.Fatalf("silence: %d %s", code, body)
	}
	s.send(recent(3, "carol"), recent(4, "eve"))
	poll(t, "eve's alert", func() bool { return p.has("/one", "firing any-deletion eve") })
	poll(t, "a finding of eve at Falcosidekick", func() bool { return strings.Contains(falco.text(), "eve deleted") })
	if strings.Contains(falco.text(), "carol") || strings.Contains(falco.text(), "bob") || p.has("/one", "firing any-deletion carol") {
		t.Error("what is silenced, or long ago, is told")
	}
	poll(t, "three lines", func() bool { b, _ := os.ReadFile(lines); return strings.Count(string(b), "\n") == 3 })
	if b, err := os.ReadFile(lines); err != nil || !strings.Contains(string(b), "carol deleted") || strings.Contains(string(b), "eve deleted") {
		t.Errorf("the file of findings: %s %v", b, err)
	}

	writeFile(t, am, "route: {receiver: nobody}\n")
	if err := s.Reload(); err == nil || !strings.Contains(err.Error(), am) {
		t.Errorf("a wrong alertmanager.yml: %v", err)
	}
	s.send(recent(5, "frank"))
	poll(t, "frank's alert at the old receiver", func() bool { return p.has("/one", "firing any-deletion frank") })
	writeFile(t, am, routing(p.URL, "/two"))
	if err := s.Reload(); err != nil {
		t.Fatal(err)
	}
	s.send(recent(6, "grace"))
	poll(t, "grace's alert at the new receiver", func() bool { return p.has("/two", "firing any-deletion grace") })

	code, body := s.ask("POST", "/api/v1/alerts/test", `{"rule":"any-deletion"}`)
	if code != 200 || !strings.Contains(body, `"receiver":"r"`) || !strings.Contains(body, `"ok":true`) || !p.has("/two", "firing any-deletion test-user") {
		t.Errorf("a test alert: %d %s", code, body)
	}
	if code, _ := s.ask("POST", "/api/v1/alerts/test", `{"rule":"no-such"}`); code != 404 {
		t.Errorf("a test alert of an unknown rule: %d", code)
	}
}

// TestRestartKeepsAlerts: an alert goes on counting where it was, and is not told again.
func TestRestartKeepsAlerts(t *testing.T) {
	p, c := newPager(t), alerting(t)
	c.Alerts.AlertmanagerConfig = filepath.Join(t.TempDir(), "alertmanager.yml")
	writeFile(t, c.Alerts.AlertmanagerConfig, routing(p.URL, "/"))
	first := start(t, Options{Config: c})
	first.send(recent(1, "alice"))
	poll(t, "alice's alert", func() bool { return p.has("/", "firing any-deletion alice") })
	if err := first.Stop(); err != nil {
		t.Fatal(err)
	}
	again, err := New(Options{Config: c})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Stop()
	again.Start(t.Context())
	s := &server{App: again, t: t, client: first.client, ingest: first.ingest, read: first.read}
	s.send(recent(2, "alice"), recent(3, "bob"))
	poll(t, "bob's alert", func() bool { return p.has("/", "firing any-deletion bob") })
	poll(t, "alice's second finding", func() bool { return strings.Contains(s.get("/api/v1/alerts"), `"count":2`) })
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.got["/"]) != 2 {
		t.Errorf("told: %q", p.got["/"])
	}
}

// TestElsewhere: alerts go to all instances of another Alertmanager; that one of them is down holds up nobody.
func TestElsewhere(t *testing.T) {
	p, other := newPager(t), alerting(t)
	other.Alerts.AlertmanagerConfig = filepath.Join(t.TempDir(), "alertmanager.yml")
	writeFile(t, other.Alerts.AlertmanagerConfig, routing(p.URL, "/"))
	b := start(t, Options{Config: other})
	_, token, err := b.auth.CreateToken("a", []auth.Scope{auth.ScopeOperate}, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	c := alerting(t)
	c.Alerts.AlertmanagerURL = config.URLs{"http://127.0.0.1:1/", b.URL()}
	c.Alerts.AlertmanagerHTTP.TokenFile = filepath.Join(t.TempDir(), "token")
	writeFile(t, c.Alerts.AlertmanagerHTTP.TokenFile, token)
	a := start(t, Options{Config: c})
	a.send(recent(1, "alice"))
	poll(t, "alice's alert by way of the other", func() bool { return p.has("/", "firing any-deletion alice") })
	if code, body := a.ask("GET", "/api/v2/alerts", ""); code != 404 || !strings.Contains(body, "alertmanager_url") {
		t.Errorf("%d %s", code, body)
	}
	if got := a.get("/api/v1/receivers"); !strings.Contains(got, `"receiver":"127.0.0.1:1"`) || !strings.Contains(got, `"last_error"`) {
		t.Errorf("receivers: %s", got)
	}
	if got := a.get("/api/v1/alerts"); !strings.Contains(got, "alice") {
		t.Errorf("alerts: %s", got)
	}
}

// TestUnknownReceiver: an integration of a receiver that the file does not have would never be called.
func TestUnknownReceiver(t *testing.T) {
	c := settings(t)
	c.Alerts.Receivers = []config.AlertReceiver{{Name: "sock", Kind: "stdout"}}
	if _, err := New(Options{Config: c}); err == nil || !strings.Contains(err.Error(), "sock") {
		t.Errorf("error %v", err)
	}
}

// inbound is a server that keeps what is posted to it.
type inbound struct {
	mu   sync.Mutex
	body []string
}

func (i *inbound) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.body = append(i.body, string(b))
}

func (i *inbound) text() string { i.mu.Lock(); defer i.mu.Unlock(); return strings.Join(i.body, "\n") }

// TestStopWhileReceiverHangs: neither a notification nor a test alert that is under way holds up the end.
func TestStopWhileReceiverHangs(t *testing.T) {
	reached, hold := make(chan string, 10), make(chan struct{})
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		select {
		case reached <- string(body):
		default:
		}
		<-hold
	}))
	defer receiver.Close()
	defer close(hold)
	c := alerting(t)
	c.Alerts.AlertmanagerConfig = filepath.Join(t.TempDir(), "alertmanager.yml")
	writeFile(t, c.Alerts.AlertmanagerConfig, routing(receiver.URL, "/hangs"))
	s := start(t, Options{Config: c})
	s.send(recent(1, "alice"))
	if got := <-reached; !strings.Contains(got, "alice") {
		t.Error(got)
	}
	_, token, err := s.auth.CreateToken("test-alert", []auth.Scope{auth.ScopeOperate}, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	asked := make(chan struct{})
	go func() {
		defer close(asked)
		resp, err := s.do(context.Background(), http.MethodPost, s.URL()+"/api/v1/alerts/test", token, `{"rule":"any-deletion"}`)
		if err == nil {
			resp.Body.Close()
		}
	}()
	if got := <-reached; !strings.Contains(got, "SAMPLE") {
		t.Error(got)
	}
	if err := s.Stop(); err != nil {
		t.Error(err)
	}
	<-asked
}
