package manager

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"whodunit/internal/alert"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what has to come.
const patience = 20 * time.Second

// buffer is a log that is written and read at once.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func start(t *testing.T, o Options) *Manager {
	t.Helper()
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	m, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, m) })
	return m
}

func stop(t *testing.T, m *Manager) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := m.Stop(ctx); err != nil {
		t.Error(err)
	}
}

func file(t *testing.T, name, text string) string {
	t.Helper()
	if !filepath.IsAbs(name) {
		name = filepath.Join(t.TempDir(), name)
	}
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// yml fills in addresses: NAME is replaced by the value that follows it.
func yml(t *testing.T, text string, pairs ...string) string {
	return file(t, "alertmanager.yml", strings.NewReplacer(pairs...).Replace(text))
}

// message is what Alertmanager's webhook sends.
type message struct {
	Receiver    string            `json:"receiver"`
	Status      string            `json:"status"`
	GroupLabels map[string]string `json:"groupLabels"`
	Alerts      []struct {
		Status      string            `json:"status"`
		Labels      map[string]string `json:"labels"`
		Annotations map[string]string `json:"annotations"`
	} `json:"alerts"`
}

// names are the alertnames of a message, sorted.
func (m *message) names() []string {
	var out []string
	for _, a := range m.Alerts {
		out = append(out, a.Labels["alertname"])
	}
	slices.Sort(out)
	return out
}

// webhook is a receiver of webhooks.
func webhook(t *testing.T) (string, <-chan message) {
	t.Helper()
	got := make(chan message, 100)
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var m message
		if err := json.NewDecoder(r.Body).Decode(&m); err != nil {
			t.Error(err)
		}
		got <- m
	}))
	t.Cleanup(s.Close)
	return s.URL, got
}

func next[T any](t *testing.T, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatal("nothing came")
		panic("unreachable")
	}
}

func nothing[T any](t *testing.T, c <-chan T) {
	t.Helper()
	select {
	case v := <-c:
		t.Errorf("came: %v", v)
	default:
	}
}

func firing(pairs ...string) alert.Alert {
	labels := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		labels[pairs[i]] = pairs[i+1]
	}
	return alert.Alert{Labels: labels, Annotations: map[string]string{"summary": "something"}, StartsAt: time.Now(),
		EndsAt: time.Now().Add(100 * time.Hour), Link: "https://whodunit.example/x"}
}

func put(t *testing.T, m *Manager, alerts ...alert.Alert) {
	t.Helper()
	if err := m.Put(t.Context(), alerts); err != nil {
		t.Fatal(err)
	}
}

func call(t *testing.T, h http.Handler, method, path, body string, want int) string {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	b, _ := io.ReadAll(w.Result().Body)
	if w.Code != want {
		t.Fatalf("%s %s: %d: %s", method, path, w.Code, b)
	}
	return string(b)
}

const routing = `
route:
  receiver: rest
  group_by: [alertname]
  group_wait: 20ms
  group_interval: 50ms
  repeat_interval: 1h
  routes:
  - matchers: [team="a"]
    receiver: a
    group_by: [team]
    continue: true
  - matchers: [quiet="yes"]
    receiver: a
    mute_time_intervals: [always]
inhibit_rules:
- source_matchers: [severity="critical"]
  target_matchers: [severity="low"]
  equal: [user]
time_intervals:
- name: always
  time_intervals:
  - times: [{start_time: "00:00", end_time: "24:00"}]
receivers:
- name: rest
  webhook_configs: [{url: "REST"}]
- name: a
  webhook_configs: [{url: "TEAM", send_resolved: false}]
`

func TestRouting(t *testing.T) {
	rest, restGot := webhook(t)
	team, teamGot := webhook(t)
	m := start(t, Options{ConfigFile: yml(t, routing, "REST", rest, "TEAM", team)})

	put(t, m, firing("alertname", "X", "team", "a"), firing("alertname", "Y", "team", "a"))
	got := next(t, teamGot)
	for len(got.Alerts) < 2 { // both are one group; its first message may have come between them
		got = next(t, teamGot)
	}
	if diff := cmp.Diff([]string{"X", "Y"}, got.names()); diff != "" || got.GroupLabels["team"] != "a" {
		t.Error(diff, got.GroupLabels)
	}

	put(t, m, firing("alertname", "Muted", "quiet", "yes"))
	put(t, m, firing("alertname", "Source", "severity", "critical", "user", "eve"))
	if got := next(t, restGot); !cmp.Equal(got.names(), []string{"Source"}) {
		t.Error(got)
	}
	put(t, m, firing("alertname", "Target", "severity", "low", "user", "eve"))
	put(t, m, firing("alertname", "Other", "severity", "low", "user", "bob"))
	if got := next(t, restGot); !cmp.Equal(got.names(), []string{"Other"}) {
		t.Error(got)
	}
	over := firing("alertname", "Other", "severity", "low", "user", "bob")
	over.EndsAt = time.Now()
	put(t, m, over)
	if got := next(t, restGot); got.Status != "resolved" {
		t.Error(got)
	}
	nothing(t, restGot)
	nothing(t, teamGot)
	if body := call(t, m.Handler(), "GET", "/api/v2/alerts/groups", "", 200); !strings.Contains(body, `"mutedBy":["always"]`) {
		t.Error("the API does not say that the group is muted: ", body)
	}
}

func TestSilence(t *testing.T) {
	url, got := webhook(t)
	m := start(t, Options{ConfigFile: yml(t, routing, "REST", url, "TEAM", url)})
	body := `{"matchers":[{"name":"user","value":"eve","isRegex":false,"isEqual":true}],"createdBy":"me","comment":"known",
		"startsAt":"` + time.Now().UTC().Format(time.RFC3339) + `","endsAt":"` + time.Now().UTC().Add(time.Hour).Format(time.RFC3339) + `"}`
	made := call(t, m.Handler(), "POST", "/api/v2/silences", body, 200)
	if !m.Silenced(map[string]string{"alertname": "X", "user": "eve"}) || m.Silenced(map[string]string{"alertname": "X", "user": "bob"}) {
		t.Error("Silenced is wrong")
	}
	put(t, m, firing("alertname", "A", "user", "eve"))
	put(t, m, firing("alertname", "B", "user", "bob"))
	if got := next(t, got); !cmp.Equal(got.names(), []string{"B"}) {
		t.Error(got)
	}
	var id struct{ SilenceID string }
	if err := json.Unmarshal([]byte(made), &id); err != nil {
		t.Fatal(err)
	}
	call(t, m.Handler(), "DELETE", "/api/v2/silence/"+id.SilenceID, "", 200)
	if got := next(t, got); !cmp.Equal(got.names(), []string{"A"}) {
		t.Error(got)
	}
	if list := call(t, m.Handler(), "GET", "/api/v2/alerts", "", 200); strings.Count(list, `"fingerprint"`) != 2 {
		t.Error(list)
	}
}

func TestReload(t *testing.T) {
	first, firstGot := webhook(t)
	second, secondGot := webhook(t)
	reg := prometheus.NewPedanticRegistry()
	path := yml(t, routing, "REST", first, "TEAM", first)
	m := start(t, Options{ConfigFile: path, Registerer: reg})

	for _, bad := range []string{"route: {receiver: nobody}", "nonsense: [", "route: {receiver: x}\nreceivers: [{name: x, slack_configs: [{}]}]"} {
		if err := m.Reload(file(t, path, bad), nil); err == nil || !strings.HasPrefix(err.Error(), path+":") {
			t.Errorf("%q: %v", bad, err)
		}
	}
	put(t, m, firing("alertname", "A"))
	next(t, firstGot)
	const failed = `# HELP alertmanager_config_last_reload_successful Whether the last configuration reload attempt was successful.
# TYPE alertmanager_config_last_reload_successful gauge
alertmanager_config_last_reload_successful 0
`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(failed), "alertmanager_config_last_reload_successful"); err != nil {
		t.Error(err)
	}
	for range 3 {
		file(t, path, strings.NewReplacer("REST", second, "TEAM", second).Replace(routing))
		if err := m.Reload(path, nil); err != nil {
			t.Fatal(err)
		}
	}
	put(t, m, firing("alertname", "B"))
	if got := next(t, secondGot); !cmp.Equal(got.names(), []string{"B"}) { // not A: that was told
		t.Error(got)
	}
	nothing(t, firstGot)
	if _, err := reg.Gather(); err != nil {
		t.Error(err)
	}
	stop(t, m)
	if got := m.Receivers(); len(got) != 2 || got[1].OK != 2 || !got[1].FailingSince.IsZero() {
		t.Errorf("figures do not outlive a reload: %+v", got)
	}
}

func TestPut(t *testing.T) {
	m := start(t, Options{})
	err := m.Put(t.Context(), []alert.Alert{{Labels: map[string]string{"alertname": "A", "empty": ""}}, {}})
	if err == nil || !strings.Contains(err.Error(), alert.ErrRejected.Error()) {
		t.Error(err)
	}
	if body := call(t, m.Handler(), "GET", "/api/v2/alerts", "", 200); !strings.Contains(body, `"labels":{"alertname":"A"}`) {
		t.Error(body)
	}
	many := make([]alert.Alert, 11_000) // rules may share a title
	for i := range many {
		many[i] = firing("alertname", "A", "user", strconv.Itoa(i))
	}
	if err := m.Put(t.Context(), many); err != nil {
		t.Error(err)
	}
	stop(t, m)
	if err := m.Put(t.Context(), []alert.Alert{firing("alertname", "B")}); err == nil {
		t.Error("stopped, and no error")
	}
}

func debugLog() (*slog.Logger, *buffer) {
	b := &buffer{}
	return slog.New(slog.NewTextHandler(b, &slog.HandlerOptions{Level: slog.LevelDebug})), b
}
