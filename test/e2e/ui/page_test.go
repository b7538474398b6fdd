package ui

import (
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"whodunit/internal/api"
	"whodunit/internal/audit"
	"whodunit/internal/auth"
	"whodunit/internal/auth/certs"
	"whodunit/internal/finding"
	"whodunit/internal/query"
	"whodunit/internal/store/memory"
	"whodunit/internal/ui"
)

// Texts that an attacker puts into an event to run code in the reader's browser, or to look like something else.
func hostile() []string {
	return []string{
		`<img src=x onerror="window.pwned=1">`, `"><script>window.pwned=1</script>`, `javascript:window.pwned=1`, `</textarea><svg onload=window.pwned=1>`,
		`{{constructor.constructor('window.pwned=1')()}}`, "eve\u202egnp.exe", "nul\u0000\u001b[31m", `' onmouseover='window.pwned=1`, `__proto__`,
	}
}

type event map[string]any

func add(t *testing.T, to *memory.Store, seq int, e event) *audit.Event {
	t.Helper()
	raw, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	ev, err := audit.Parse("prod", raw)
	if err != nil {
		t.Fatal(err)
	}
	to.Add(audit.Record{Seq: uint64(seq), IngestedMicros: ev.Micros(), Source: "webhook", Identity: ev.Identity(), Event: ev})
	return &ev
}

func ordinary(i int, at time.Time) event {
	verbs, resources, users := []string{"get", "list", "delete", "patch"}, []string{"pods", "secrets", "deployments"}, []string{"alice", "bob", "system:node:n1", "ci-bot"}
	code := 200
	if i%7 == 0 {
		code = 403
	}
	return event{
		"kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "RequestResponse", "auditID": fmt.Sprint("id-", i), "stage": "ResponseComplete",
		"requestURI": "/api/v1/x", "verb": verbs[i%4], "user": map[string]any{"username": users[i%4], "groups": []string{"system:authenticated"}},
		"sourceIPs": []string{"198.51.100.7", "192.0.2.44"}, "userAgent": "kubectl/v1.36.3",
		"objectRef":      map[string]any{"resource": resources[i%3], "namespace": "shop", "name": fmt.Sprint("checkout-", i), "apiGroup": []string{"", "", "apps"}[i%3]},
		"responseStatus": map[string]any{"code": code}, "stageTimestamp": at.UTC().Format("2006-01-02T15:04:05.000000Z"),
		"requestObject": map[string]any{"spec": map[string]any{"replicas": i, "containers": []any{map[string]any{"image": "nginx:1"}}}},
	}
}

const password = "correct-horse-battery"

func serve(t *testing.T) (url string, events *memory.Store) {
	t.Helper()
	dir := t.TempDir()
	events, findings := &memory.Store{}, &memory.Store{}
	now := time.Now()
	for i := range 130 {
		ev := add(t, events, i+1, ordinary(i, now.Add(-time.Duration(i)*7*time.Minute)))
		if i%30 == 0 {
			f, err := finding.Finding{Rule: "secret-read", Title: "Secret was read <b>", Severity: finding.High, Message: "read " + hostile()[0], Events: []finding.Evidence{{Identity: ev.Identity().String()}}}.Event(ev)
			if err != nil {
				t.Fatal(err)
			}
			findings.Add(audit.Record{Seq: uint64(i + 1), Identity: f.Identity(), Event: f})
		}
	}
	for i, h := range hostile() {
		e := ordinary(1000+i, now.Add(-time.Duration(i)*time.Second))
		e["user"] = map[string]any{"username": h, "extra": map[string]any{h: []string{h}}}
		e["verb"], e["userAgent"], e["sourceIPs"], e["objectRef"] = h, h, []string{h}, map[string]any{"name": h, "resource": h, "namespace": h}
		e["annotations"], e["requestObject"] = map[string]any{h: h}, map[string]any{h: map[string]any{h: h}}
		add(t, events, 2000+i, e)
	}
	add(t, events, 3000, event{"auditID": "odd", "stage": "x", "user": []int{1}, "objectRef": "text", "sourceIPs": map[string]int{"a": 1}, "responseStatus": nil, "verb": 7, "stageTimestamp": now.UTC().Format(time.RFC3339)})

	a, err := auth.New(auth.Options{Dir: dir, Secure: true, PasswordCost: 64})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.SetPassword("alice", password, []auth.Scope{auth.ScopeRead}); err != nil {
		t.Fatal(err)
	}
	page, err := ui.New(ui.Options{})
	if err != nil {
		t.Fatal(err)
	}
	h, err := api.New(api.Options{
		Events: api.Set{Search: events, Tail: events}, Findings: api.Set{Search: findings, Tail: findings}, Auth: a, UI: page,
		Language: api.Language{Parse: query.Parse, Time: query.ParseTime, Path: query.Path},
	})
	if err != nil {
		t.Fatal(err)
	}
	cert, err := certs.New(certs.Options{Dir: filepath.Join(dir, "tls")})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(h)
	srv.EnableHTTP2 = true
	srv.TLS = cert.Config(nil)
	srv.StartTLS()
	t.Cleanup(func() { h.Close(); srv.CloseClientConnections(); srv.Close() })
	return srv.URL, events
}

func TestPage(t *testing.T) {
	b := startBrowser(t)
	url, events := serve(t)
	b.open(url)
	b.wait("the login form", `!document.getElementById('login').hidden`)
	b.screenshot("login")
	b.keys("alice\ue004wrong" + enterKey)
	b.wait("a refusal", `document.getElementById('login-error').textContent.includes('wrong')`)
	b.js(`document.getElementById('login-password').value = ''; document.getElementById('login-password').focus()`)
	b.keys(password + enterKey)
	b.wait("rows", `document.querySelectorAll('#rows tr').length === 100`)
	b.wait("the count", `document.getElementById('status').textContent === '100 of 140 shown'`)
	b.wait("facets", `document.querySelectorAll('.facet li').length > 5`)
	b.screenshot("events")

	b.run("more", func(t *testing.T) {
		b.js(`document.getElementById('more').click()`)
		b.wait("all rows", `document.querySelectorAll('#rows tr').length === 140 && document.getElementById('more').hidden`)
	})
	b.run("hostile text stays text", func(t *testing.T) {
		for range 12 { // every hostile event in full
			b.keys(downKey + enterKey)
		}
		b.wait("the pane", `!document.getElementById('pane').hidden`)
		b.js(`document.querySelectorAll('#pane details').forEach((d) => { d.open = true })`)
		b.screenshot("hostile")
		b.js(`document.getElementById('pane-raw').click()`)
		b.wait("raw", `document.querySelector('#pane pre')`)
		if v := b.js(`return window.pwned`); v != nil {
			t.Error("a script of an event ran")
		}
		if v := b.js(`return document.querySelectorAll('#app img, #app script, #app textarea, #app a, #columns svg').length`); v != 0.0 {
			t.Errorf("%v elements were made of an event's text", v)
		}
		if text, _ := b.js(`return document.getElementById('rows').textContent`).(string); strings.ContainsRune(text, '\u202e') || !strings.Contains(text, `eve\u{202e}gnp.exe`) || !strings.Contains(text, `<img src=x`) {
			t.Error("hostile text is not shown as it is")
		}
		b.keys(escapeKey)
		b.wait("the pane to close", `document.getElementById('pane').hidden`)
	})
	b.run("search", func(t *testing.T) {
		b.keys("/")
		b.keys("verb:delete and resource:secrets" + enterKey)
		b.wait("fewer rows", `document.getElementById('status').textContent.endsWith('10 of 10 shown')`)
		b.keys(escapeKey)
		b.keys(downKey + enterKey)
		b.wait("an event in full", `document.getElementById('pane-body').textContent.includes('kubectl/v1.36.3')`)
		b.screenshot("pane")
		if q, _ := b.js(`return location.search`).(string); !strings.Contains(q, "resource%3Asecrets") {
			t.Errorf("the address does not hold the query: %s", q)
		}
		b.js(`document.querySelectorAll('.facet')[0].querySelector('button').click()`)
		b.wait("a filter", `document.getElementById('q').value.startsWith('(verb:delete and resource:secrets) and user:"')`)
		b.js(`document.getElementById('q').value = 'verb:('; document.querySelector('#search button').click()`)
		b.wait("an explanation", `/column 7.*\n    verb:\(\n {10}\^/.test(document.getElementById('problem').textContent)`)
		if n := b.js(`return document.querySelectorAll('.facet li').length`); n != 0.0 {
			t.Errorf("%v facets of an earlier search stay beside the error", n)
		}
		b.screenshot("problem")
	})
	b.run("nothing", func(t *testing.T) {
		b.js(`document.getElementById('q').value = 'name:checkout-129'; document.getElementById('since').value = 'now-15m'; document.querySelector('#search button').click()`)
		b.wait("the time of what there is", `document.getElementById('nothing').textContent.includes('The newest match is of 20')`)
		b.screenshot("nothing")
		b.js(`document.querySelector('#nothing button').click()`)
		b.wait("the match", `document.querySelectorAll('#rows tr').length === 1 && !document.getElementById('nothing').textContent`)
		b.js(`document.getElementById('q').value = 'user:nobody'; document.querySelector('#search button').click()`)
		b.wait("hints", `document.getElementById('nothing').textContent.includes('at any time')`)
	})
	b.run("live", func(t *testing.T) {
		b.js(`document.getElementById('q').value = 'user:mallory'; document.querySelector('#search button').click()`)
		b.wait("nothing", `document.getElementById('status').textContent === 'nothing matches'`)
		b.js(`document.getElementById('live').click()`)
		b.wait("the tail", `document.getElementById('status').textContent.startsWith('live')`)
		for i := 0; ; i++ { // the tail begins some time after the click
			e := ordinary(5000+i, time.Now())
			e["user"] = map[string]any{"username": "mallory"}
			add(t, events, 5000+i, e)
			if n, _ := b.js(`return document.querySelectorAll('#rows tr').length`).(float64); n > 0 {
				break
			}
			if i > 400 {
				t.Fatal("nothing came live")
			}
		}
		b.screenshot("live")
	})
	b.run("findings", func(t *testing.T) {
		b.js(`document.getElementById('q').value = ''; document.getElementById('tab-findings').click()`)
		b.wait("findings", `document.querySelectorAll('#rows tr').length === 5`)
		b.wait("their facets", `document.querySelectorAll('.facet').length === 3`)
		b.screenshot("findings")
	})
	b.run("dark", func(t *testing.T) {
		dark := map[string]any{"cmd": "Emulation.setEmulatedMedia", "params": map[string]any{"features": []any{map[string]string{"name": "prefers-color-scheme", "value": "dark"}}}}
		b.call("POST", "/goog/cdp/execute", dark, nil)
		b.wait("a dark page", `getComputedStyle(document.body).backgroundColor === 'rgb(15, 20, 25)'`)
		b.js(`document.querySelector('#rows tr').click()`)
		b.screenshot("dark")
	})
	b.run("back", func(t *testing.T) {
		b.call("POST", "/back", map[string]string{}, nil)
		b.wait("events again", `document.getElementById('tab-events').getAttribute('aria-pressed') === 'true' && document.getElementById('q').value === 'user:mallory'`)
	})
	b.run("logout", func(t *testing.T) {
		b.js(`document.getElementById('logout').click()`)
		b.wait("the login form", `!document.getElementById('login').hidden && document.querySelectorAll('#rows tr').length === 0`)
	})
	for _, line := range b.console() { // a refused login and a query that cannot be read are expected; a violated policy is not
		if strings.HasPrefix(line, "SEVERE") && !strings.Contains(line, "status of 401") && !strings.Contains(line, "status of 400") {
			t.Errorf("the browser says: %s", line)
		}
	}
}
