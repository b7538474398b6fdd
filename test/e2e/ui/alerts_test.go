package ui

import (
	"context"
	"log/slog"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	apiv2 "github.com/prometheus/alertmanager/api/v2"
	amsilence "github.com/prometheus/alertmanager/silence"
	"github.com/prometheus/client_golang/prometheus"

	"whodunit/internal/api"
	"whodunit/internal/auth"
	"whodunit/internal/auth/certs"
	"whodunit/internal/query"
	"whodunit/internal/store/memory"
	"whodunit/internal/ui"
)

// alertsServer has alerts, of which the last is all hostile text, and Alertmanager's own API for silences.
type alertsServer struct {
	url      string
	silences *amsilence.Silences
	silenced atomic.Bool // the first alert
}

func (s *alertsServer) list(context.Context) ([]api.AlertStatus, error) {
	now := time.Now().In(time.FixedZone("", 7200))
	h := hostile()
	labels := map[string]string{"alertname": h[0], "severity": h[1], "rule": h[2], h[3]: h[4]}
	notes := map[string]string{"summary": h[1], "description": h[5], "command": h[0], "runbook": h[2], "other": h[6], "link": h[2]}
	return []api.AlertStatus{
		{Fingerprint: "a", Count: 12, StartsAt: now.Add(-time.Hour), FirstEvent: now.Add(-2 * time.Hour), Silenced: s.silenced.Load(), Receivers: []string{"night"},
			Labels:      map[string]string{"alertname": "Secrets read", "severity": "high", "rule": "secret-read", "user": "alice"},
			Annotations: map[string]string{"summary": "alice read secrets", "command": "kubectl get secret", "runbook": "https://w.example/run?a=b"}},
		{Fingerprint: "b", Count: 1, StartsAt: now, Labels: map[string]string{"alertname": "Secrets read", "severity": "low", "rule": "secret-read", "user": "ci"}, InhibitedBy: []string{"a"}},
		{Fingerprint: "c", Count: 2, StartsAt: now, Link: "https://elsewhere.example/?show=findings&q=rule:x", Labels: map[string]string{"alertname": "A node", "severity": "critical"}},
		{Fingerprint: "d", Count: 1, StartsAt: now, Link: h[2], Labels: labels, Annotations: notes, Receivers: h},
	}, nil
}

func receiversFake() []api.ReceiverStatus {
	now := time.Now()
	return []api.ReceiverStatus{
		{Receiver: "night", Kind: "slack", OK: 1234, LastOK: now}, {Receiver: "new", Kind: "email"},
		{Receiver: hostile()[0], Kind: hostile()[1], Failed: 3, LastError: hostile()[3], FailingSince: now.Add(-time.Hour), LastFailure: now},
	}
}

func serveAlerts(t *testing.T) *alertsServer {
	t.Helper()
	dir := t.TempDir()
	s := &alertsServer{}
	var err error
	if s.silences, err = amsilence.New(amsilence.Options{Retention: time.Hour, Metrics: prometheus.NewRegistry()}); err != nil {
		t.Fatal(err)
	}
	v2, err := apiv2.NewAPI(nil, nil, nil, s.silences, nil, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	a, err := auth.New(auth.Options{Dir: dir, Secure: true, PasswordCost: 64})
	if err != nil {
		t.Fatal(err)
	}
	for name, scopes := range map[string][]auth.Scope{"alice": {auth.ScopeRead}, "oscar": {auth.ScopeRead, auth.ScopeOperate}} {
		if err := a.SetPassword(name, password, scopes); err != nil {
			t.Fatal(err)
		}
	}
	page, err := ui.New(ui.Options{})
	if err != nil {
		t.Fatal(err)
	}
	empty := &memory.Store{}
	h, err := api.New(api.Options{Events: api.Set{Search: empty, Tail: empty}, Findings: api.Set{Search: empty, Tail: empty}, Auth: a, UI: page,
		Language: api.Language{Parse: query.Parse, Time: query.ParseTime, Path: query.Path},
		Alerts:   api.Alerts{V2: v2.Handler, List: s.list, Receivers: receiversFake}})
	if err != nil {
		t.Fatal(err)
	}
	cert, err := certs.New(certs.Options{Dir: filepath.Join(dir, "tls")})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(h)
	srv.TLS = cert.Config(nil)
	srv.StartTLS()
	t.Cleanup(func() { h.Close(); srv.CloseClientConnections(); srv.Close() })
	s.url = srv.URL
	return s
}

func TestAlertsPage(t *testing.T) {
	b := startBrowser(t)
	s := serveAlerts(t)
	login := func(user string) {
		b.wait("the login form", `!document.getElementById('login').hidden`)
		b.js(`document.getElementById('login-user').value = ''; document.getElementById('login-user').focus()`)
		b.keys(user + "\ue004" + password + enterKey)
	}
	b.open(s.url + "/?show=alerts")
	login("oscar")
	b.wait("alerts", `document.querySelectorAll('#alerts-list .alert').length === 4 && document.querySelectorAll('#receivers tbody tr').length === 3`)
	b.screenshot("alerts")

	b.run("what is shown", func(t *testing.T) {
		for what, condition := range map[string]string{
			"only alerts":           `document.getElementById('search').hidden && document.getElementById('columns').hidden && location.search === '?show=alerts'`,
			"groups, the worst one": `[...document.querySelectorAll('.group h3 .value')].slice(0, 2).map((e) => e.textContent).join() === 'A node,Secrets read'`,
			"a group's counts":      `document.querySelectorAll('.group')[1].querySelector('h3').textContent === 'high Secrets read 2 alerts, 13 findings'`,
			"a quiet one is dimmed": `document.querySelectorAll('.group')[1].querySelectorAll('.quieted').length === 1`,
			"labels":                `document.querySelectorAll('.group')[1].querySelector('.facts').textContent.includes('user=alice')`,
			"the command":           `document.querySelectorAll('.group')[1].querySelector('code').textContent === 'kubectl get secret'`,
			"the runbook":           `document.querySelectorAll('.group')[1].querySelector('a').href === 'https://w.example/run?a=b'`,
			"its findings":          `/^\?show=findings&q=rule%3A%22secret-read%22&from=20/.test(new URL(document.querySelectorAll('.group')[1].querySelector('.acts a').href).search)`,
			"the server's link":     `document.querySelectorAll('.group')[0].querySelector('.acts a').href === location.origin + '/?show=findings&q=rule:x'`,
			"failing ones first":    `document.querySelector('#receivers tbody tr').className === 'failing' && document.querySelector('#receivers tbody tr').textContent.includes('fails since 20')`,
			"health":                `document.querySelectorAll('#receivers tbody tr')[2].textContent.startsWith('nightslack1,2340last arrived 20')`,
			"a summary":             `document.getElementById('status').textContent === '3 firing, 1 kept quiet — 1 of the receivers fails: see below'`,
		} {
			if ok, _ := b.js(`return Boolean(` + condition + `)`).(bool); !ok {
				t.Errorf("%s: %s", what, condition)
			}
		}
	})
	b.run("hostile text stays text", func(t *testing.T) {
		b.js(`document.querySelectorAll('.alert')[3].querySelector('.acts button').click()`)
		b.wait("the form", `document.querySelector('form.silence')`)
		b.screenshot("alerts-hostile")
		if v := b.js(`return window.pwned`); v != nil {
			t.Error("a script of an alert ran")
		}
		if v := b.js(`return document.querySelectorAll('#app img, #app script, #app textarea, #alerts svg').length`); v != 0.0 {
			t.Errorf("%v elements were made of an alert's text", v)
		}
		if v, _ := b.js(`return [...document.querySelectorAll('#alerts a')].map((a) => a.href).join(' ')`).(string); strings.Contains(v, "javascript") && !strings.Contains(v, "q=rule%3A%22javascript") {
			t.Errorf("a link runs a script: %s", v)
		}
		if v := b.js(`return [...document.querySelectorAll('#alerts a')].every((a) => ['http:', 'https:'].includes(new URL(a.href).protocol))`); v != true {
			t.Error("a link goes elsewhere than to the web")
		}
		if text, _ := b.js(`return document.getElementById('alerts').textContent`).(string); strings.ContainsRune(text, '\u202e') || !strings.Contains(text, `eve\u{202e}gnp.exe`) || !strings.Contains(text, `Runbook: javascript:`) {
			t.Error("hostile text is not shown as it is")
		}
		b.js(`document.querySelector('form.silence button.quiet').click()`)
		b.wait("the form to go", `!document.querySelector('form.silence')`)
	})
	b.run("silence and expire", func(t *testing.T) {
		b.js(`document.querySelectorAll('.group')[1].querySelector('.acts button').click()`)
		b.wait("the comment's focus", `document.activeElement.className === 'comment'`)
		b.screenshot("alerts-silence")
		b.js(`document.querySelector('form.silence input[name=severity]').click()`)
		b.keys("node upgrade <b>")
		s.silenced.Store(true)
		b.js(`document.querySelectorAll('form.silence button')[1].click()`)
		b.wait("the silence", `document.querySelectorAll('#silences tbody tr').length === 1 && document.querySelectorAll('.quieted').length === 2`)
		if v, _ := b.js(`return document.querySelector('#silences tbody tr').textContent`).(string); !strings.Contains(v, `oscaralertname="Secrets read" rule="secret-read" user="alice"node upgrade <b>`) {
			t.Error(v)
		}
		all, _, err := s.silences.Query(t.Context())
		if err != nil || len(all) != 1 {
			t.Fatalf("%v %v", all, err)
		}
		if d := all[0].EndsAt.AsTime().Sub(all[0].StartsAt.AsTime()).Round(time.Minute); d != 4*time.Hour {
			t.Errorf("it lasts %s", d)
		}
		b.screenshot("alerts-silenced")
		b.js(`document.querySelector('#silences button').click()`)
		b.wait("its end", `document.getElementById('silences').textContent === 'None.'`)
	})
	b.run("a refusal is said", func(t *testing.T) {
		b.js(`document.querySelector('.acts button').click()`)
		b.wait("the form", `document.querySelector('form.silence')`)
		b.js(`document.querySelectorAll('form.silence input[type=checkbox]').forEach((c) => c.click()); document.querySelector('form.silence .comment').value = 'c';
			document.querySelectorAll('form.silence button')[0].click()`)
		b.wait("the error", `document.querySelector('form.silence .error').textContent === 'Choose a label at least.'`)
	})
	b.run("to the findings and back", func(t *testing.T) {
		b.js(`document.getElementById('tab-findings').click()`)
		b.wait("findings", `document.getElementById('alerts').hidden && !document.getElementById('search').hidden && location.search.startsWith('?show=findings') && !document.querySelector('.alert')`)
		b.call("POST", "/back", map[string]string{}, nil)
		b.wait("alerts again", `document.querySelectorAll('.alert').length === 4 && document.getElementById('tab-alerts').getAttribute('aria-pressed') === 'true'`)
	})
	b.run("who may read alone", func(t *testing.T) {
		b.js(`document.getElementById('logout').click()`)
		b.wait("nothing of the alerts", `!document.querySelector('.alert')`)
		login("alice")
		b.wait("alerts", `document.querySelectorAll('.alert').length === 4`)
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

// TestAlertsElsewhere: a server without alerts of its own says where they are.
func TestAlertsElsewhere(t *testing.T) {
	b := startBrowser(t)
	url, _ := serve(t)
	b.open(url + "/?show=alerts")
	b.wait("the login form", `!document.getElementById('login').hidden`)
	b.keys("alice\ue004" + password + enterKey)
	b.wait("the reason", `['alerts-list', 'silences', 'receivers'].every((id) => document.getElementById(id).textContent.includes('alerts are not set up'))`)
}
