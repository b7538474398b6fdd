package ui

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"whodunit/internal/auth"
)

const serverRules = `
id: secret-gone
title: A secret was deleted
severity: critical
description: Somebody deleted a secret.
runbook: https://w.example/run?a=b
condition: verb == "delete" && objectRef.resource == "secrets"
message: "{user.username} deleted the secret {objectRef.name}"
---
id: pod-gone
title: A pod was deleted
severity: medium
condition: verb == "delete" && objectRef.resource == "pods"
message: "{user.username} deleted the pod {objectRef.name}"
`

// realServer is a whole server: alice may read, oscar may operate. What is critical goes to a receiver that refuses everything.
type realServer struct {
	t            *testing.T
	url, webhook string
	ingest       string // a token
}

func startServer(t *testing.T) *realServer {
	t.Helper()
	refuses := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no such channel", http.StatusForbidden) }))
	takes := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(func() { refuses.Close(); takes.Close() })
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	rules := write("rules.yaml", serverRules)
	alertmanager := write("alertmanager.yml", fmt.Sprintf(`
route: {receiver: chat, group_wait: 10ms, routes: [{matchers: [severity = critical], receiver: night-pager}]}
receivers:
- {name: chat, webhook_configs: [{url: %q}]}
- {name: night-pager, webhook_configs: [{url: %q}]}
`, takes.URL, refuses.URL+"/hook-secret"))
	data := filepath.Join(dir, "data")
	if err := os.Mkdir(data, 0o700); err != nil {
		t.Fatal(err)
	}
	s := &realServer{t: t}
	users, err := auth.New(auth.Options{Dir: data, PasswordCost: 64})
	if err != nil {
		t.Fatal(err)
	}
	for name, scopes := range map[string][]auth.Scope{"alice": {auth.ScopeRead}, "oscar": {auth.ScopeRead, auth.ScopeOperate}} {
		if err := users.SetPassword(name, password, scopes); err != nil {
			t.Fatal(err)
		}
	}
	if _, s.ingest, err = users.CreateToken("hook", []auth.Scope{auth.ScopeIngest}, time.Time{}); err != nil {
		t.Fatal(err)
	}
	s.run(write("whodunit.yaml", fmt.Sprintf(`
data_dir: %q
server: {listen: "127.0.0.1:0"}
webhook: {listen: "127.0.0.1:0", tls: {mode: "off"}}
rules: {default_pack: false, paths: [%q]}
alerts: {alertmanager_config: %q}
`, data, rules, alertmanager)))
	return s
}

// run starts the program and reads where it listens.
func (s *realServer) run(config string) {
	s.t.Helper()
	binary := filepath.Join(filepath.Dir(config), "whodunit")
	build := exec.CommandContext(s.t.Context(), "go", "build", "-o", binary, "whodunit/cmd/whodunit")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		s.t.Fatalf("cannot build cmd/whodunit: %v\n%s", err, out)
	}
	cmd := exec.Command(binary, "serve", "--config", config)
	cmd.Stderr = s.t.Output()
	out, err := cmd.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		if err := cmd.Wait(); err != nil {
			s.t.Errorf("the server ended: %v", err)
		}
	})
	for lines := bufio.NewScanner(out); s.url == "" || s.webhook == ""; {
		if !lines.Scan() {
			s.t.Fatal("the server does not say where it listens")
		}
		if u, ok := strings.CutPrefix(lines.Text(), "  web page and API   "); ok {
			s.url = u
		}
		if u, ok := strings.CutPrefix(lines.Text(), "  webhook            "); ok {
			s.webhook, _, _ = strings.Cut(u, " ")
		}
	}
}

// deleted posts the deletion of an object, as an API server does.
func (s *realServer) deleted(id, user, resource, namespace, name string, at time.Time) {
	s.t.Helper()
	stamp := at.UTC().Format("2006-01-02T15:04:05.000000Z")
	body, err := json.Marshal(map[string]any{"kind": "EventList", "apiVersion": "audit.k8s.io/v1", "items": []any{map[string]any{
		"level": "Metadata", "auditID": id, "stage": "ResponseComplete", "requestURI": "/api/v1/namespaces/" + namespace + "/" + resource + "/" + name, "verb": "delete",
		"user": map[string]any{"username": user}, "sourceIPs": []string{"192.0.2.44"}, "userAgent": "kubectl/v1.36.3", "responseStatus": map[string]any{"code": 200},
		"objectRef":                map[string]any{"resource": resource, "namespace": namespace, "name": name, "apiVersion": "v1"},
		"requestReceivedTimestamp": stamp, "stageTimestamp": stamp,
	}}})
	if err != nil {
		s.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, s.webhook, strings.NewReader(string(body)))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+s.ingest)
	req.Header.Set("Content-Type", "application/json")
	resp, err := (&http.Client{Timeout: time.Minute}).Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		s.t.Fatal(resp.Status)
	}
}

// TestAlertsOfAServer goes the way of somebody who was woken up: what is it, whom did it reach, what was found, and quiet now.
func TestAlertsOfAServer(t *testing.T) {
	b := startBrowser(t)
	s := startServer(t)
	now := time.Now()
	long := strings.Repeat("system:serviceaccount:<b>very-long-namespace</b>:", 12) + strings.Repeat("a", 300)
	s.deleted("a-1", "mallory", "secrets", "shop", "db-password", now.Add(-time.Hour)) // it was late
	s.deleted("a-2", "mallory", "secrets", "shop", "db-password-2", now)
	s.deleted("a-3", "ci-bot", "pods", "build", "job-1", now)
	s.deleted("a-4", long, "pods", strings.Repeat("n", 250), strings.Repeat("p", 250), now)

	login := func(user string) {
		b.wait("the login form", `!document.getElementById('login').hidden`)
		b.js(`document.getElementById('login-user').value = ''; document.getElementById('login-user').focus()`)
		b.keys(user + "\ue004" + password + enterKey)
	}
	b.open(s.url)
	login("oscar")
	b.wait("events", `document.querySelectorAll('#rows tr').length === 4`)
	b.look("server-events", "rows")
	b.js(`document.getElementById('tab-alerts').click()`)
	again := `(document.getElementById('alerts-refresh').click(), false)`
	b.wait("alerts, a delivery and a failure", `(document.querySelectorAll('.alert').length === 3 && document.querySelectorAll('#receivers tbody tr').length === 2 &&
		document.querySelector('#receivers .failing') && document.getElementById('receivers').textContent.includes('last arrived')) || `+again)
	group := `document.querySelector('.group')`
	b.look("server-alerts", "alerts-list")

	b.run("an alert", func(t *testing.T) {
		for what, condition := range map[string]string{
			"its name":       group + `.querySelector('h3').textContent === 'critical A secret was deleted 1 alert, 2 findings'`,
			"what happened":  group + `.querySelector('.summary').textContent.startsWith('mallory deleted the secret db-password')`,
			"what was typed": group + `.querySelector('code').textContent.startsWith('kubectl delete secret db-password') && ` + group + `.querySelector('code').textContent.includes('-n shop')`,
			"what to do":     group + `.querySelector('p a').href === 'https://w.example/run?a=b'`,
			"who":            group + `.querySelector('.facts').textContent.includes('user=mallory')`,
			"the failure":    `/^night-pagerwebhook0[1-9]\d*fails since 20.*403/.test(document.querySelector('#receivers .failing').textContent)`,
			"no secret":      `!document.body.innerHTML.includes('hook-secret')`,
			"said on top":    `document.getElementById('status').textContent.includes('1 of the receivers fails')`,
		} {
			if ok, _ := b.js(`return Boolean(` + condition + `)`).(bool); !ok {
				t.Errorf("%s: %s; it shows %v", what, condition, b.js(`return `+group+`.innerText + document.getElementById('receivers').innerText`))
			}
		}
	})
	b.run("its findings", func(t *testing.T) {
		b.js(group + `.querySelector('.acts a').click()`)
		b.wait("both findings", `location.search.startsWith('?show=findings&') || location.search.includes('&show=findings')`)
		b.wait("both findings", `document.querySelectorAll('#rows tr').length === 2 && document.getElementById('rows').textContent.includes('mallory deleted the secret db-password-2')`)
		b.look("server-findings", "rows")
		b.call("POST", "/back", map[string]string{}, nil)
		b.wait("alerts again", `document.querySelectorAll('.alert').length === 3`)
	})
	b.run("quiet, by keyboard alone", func(t *testing.T) {
		b.js(group + `.querySelector('.acts a').focus()`)
		b.keys(tabKey + enterKey)
		b.wait("the form", `document.activeElement.className === 'comment'`)
		b.look("server-silence", "alerts-list")
		b.keys(escapeKey)
		b.wait("no form, and the button's focus", `!document.querySelector('form.silence') && document.activeElement.textContent === 'Silence'`)
		if ok, _ := b.js(`const names = [...document.querySelectorAll('.acts a, .acts button')].map((e) => e.ariaLabel); return names.length === 6 && new Set(names).size === 6`).(bool); !ok {
			t.Error("a screen reader cannot tell the alerts' links and buttons apart")
		}
		b.keys(enterKey)
		b.wait("the form again", `document.activeElement.className === 'comment'`)
		b.keys("on it" + tabKey + tabKey + enterKey)
		b.wait("quiet", `document.querySelectorAll('.alert.quieted').length === 1 && document.querySelector('.quieted').textContent.includes('silenced') &&
			document.querySelector('#silences tbody').textContent.includes('oscar') && document.querySelector('#silences tbody').textContent.includes('on it')`)
		b.look("server-silenced", "alerts-list")
		b.look("server-receivers", "receivers")
		if v := b.js(`return document.activeElement.ariaLabel`); v != "Silence: mallory deleted the secret db-password-2" {
			t.Errorf("the focus is at %v after the silence is set", v)
		}
		b.js(`document.querySelector('#silences button').focus()`)
		b.keys(enterKey)
		b.wait("loud", `!document.querySelector('.alert.quieted') && document.getElementById('silences').textContent === 'None.'`)
		if ok, _ := b.js(`return document.activeElement !== document.body`).(bool); !ok {
			t.Error("the focus is lost after the silence is ended")
		}
	})
	b.run("who may read alone", func(t *testing.T) {
		b.js(`document.getElementById('logout').click()`)
		login("alice")
		b.wait("alerts", `document.querySelectorAll('.alert').length === 3`)
		if n := b.js(`return document.querySelectorAll('.acts button, #silences button').length`); n != 0.0 {
			t.Errorf("%v buttons for what the server will refuse", n)
		}
	})
	for _, line := range b.console() { // 401: before the login
		if strings.HasPrefix(line, "SEVERE") && !strings.Contains(line, "status of 401") {
			t.Errorf("the browser says: %s", line)
		}
	}
}
