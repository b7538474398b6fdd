package e2e

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// amtoolModule has the version of the Alertmanager packages in go.mod.
const amtoolModule = "github.com/prometheus/alertmanager/cmd/amtool@v0.34.0"

// amtool is Alertmanager's own command line, built once from the Go module proxy.
func amtool(t *testing.T) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(cache, "whodunit-test", "tools", strings.ReplaceAll(filepath.Base(amtoolModule), "@", "-"))
	bin := filepath.Join(dir, "amtool")
	if _, err := os.Stat(bin); err == nil {
		return bin
	}
	cmd := exec.CommandContext(t.Context(), "go", "install", amtoolModule)
	cmd.Env = append(os.Environ(), "GOBIN="+dir, "GOFLAGS=", "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("cannot build amtool: %v\n%s", err, out)
	}
	return bin
}

// posts is a receiver that remembers, by path.
type posts struct {
	*httptest.Server
	mu   sync.Mutex
	got  map[string][]string
	fail map[string]int // path: what it answers
}

func newPosts(t *testing.T) *posts {
	p := &posts{got: map[string][]string{}, fail: map[string]int{}}
	hold := make(chan struct{})
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // the server was killed in the middle
		}
		p.mu.Lock()
		p.got[r.URL.Path] = append(p.got[r.URL.Path], string(body))
		code := p.fail[r.URL.Path]
		p.mu.Unlock()
		switch {
		case strings.HasPrefix(r.URL.Path, "/hangs"):
			select {
			case <-r.Context().Done():
			case <-hold:
			}
		case code != 0:
			if code == http.StatusTooManyRequests {
				w.Header().Set("Retry-After", "1")
			}
			w.WriteHeader(code)
		case strings.HasSuffix(r.URL.Path, "/slack"):
			fmt.Fprint(w, "ok")
		}
	}))
	t.Cleanup(func() { close(hold); p.Close() })
	return p
}

func (p *posts) at(path string) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.got[path])
}

func (p *posts) answer(path string, code int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fail[path] = code
}

// alertmanagerYML is as people have it; %s is the receivers' address.
const alertmanagerYML = `
global:
  resolve_timeout: 5m
templates: [templates/*.tmpl]
route:
  receiver: team
  group_by: [alertname, cluster]
  group_wait: 1s
  group_interval: 2s
  repeat_interval: 1h
  routes:
    - matchers: ['alertname="e2e: secret read"']
      receiver: pager
      continue: true
    - matchers: ['alertname="e2e: impersonation"']
      receiver: chat
    - matchers: ['alertname="e2e: secret read"']
      receiver: broken
inhibit_rules:
  - source_matchers: ['alertname="e2e: secret read"']
    target_matchers: ['alertname="e2e: config read"']
    equal: [user]
receivers:
  - name: team
    webhook_configs: [{url: "%[1]s/team?key=topsecretone"}]
  - name: pager
    webhook_configs:
      - url: "%[1]s/pager"
        http_config: {authorization: {credentials: topsecrettwo}}
  - name: broken
    webhook_configs: [{url: "%[1]s/hangs"}, {url: "%[1]s/refuses/topsecretfour"}]
  - name: chat
    slack_configs:
      - api_url: "%[1]s/topsecretthree/slack"
        channel: "#ops"
        title: '{{ template "e2e.title" . }}'
        text: '{{ range .Alerts }}{{ .Annotations.summary }}{{ end }}'
`

const alertRules = `id: e2e-secret-read
title: "e2e: secret read"
severity: high
condition: verb in ["get", "list"] && objectRef.resource == "secrets" && user.username in ["dave@example.test", "alice@example.test"]
message: "{user.username} read {objectRef.name|all secrets}"
runbook: https://wiki.example.com/secrets
---
id: e2e-config-read
title: "e2e: config read"
severity: medium
condition: verb == "get" && objectRef.resource == "configmaps" && user.username in ["dave@example.test", "alice@example.test"]
message: "{user.username} read {objectRef.name}"
group_by: [user.username]
actions: [mark]
---
id: e2e-marked
title: "e2e: somebody changed the config map"
condition: verb == "patch" && objectRef.resource == "configmaps" && objectRef.namespace == "team-a"
actions: [mark]
---
id: e2e-impersonation
title: "e2e: impersonation"
severity: high
condition: has(impersonatedUser.username) && objectRef.resource == "nodes"
message: "{user.username} is {impersonatedUser.username}"
`

// tutorialAlert is the alert of Parseable's tutorial on audit logs; its one change is the endpoint.
const tutorialAlert = `{"version": "v1", "alerts": [{
  "name": "Unauthorised access", "message": "secret was accessed by an unauthorised user",
  "rule": {"config": "(verb =%% \"list\" or verb =%% \"get\") and (objectRef_resource = \"secrets\" and user_username !%% \"cloudyuga-test\")", "type": "composite"},
  "targets": [{"type": "webhook", "endpoint": "%s/parseable", "skip_tls_check": false, "repeat": {"interval": "10s", "times": 5}}]}]}`
