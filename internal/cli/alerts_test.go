package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	apiv2 "github.com/prometheus/alertmanager/api/v2"
	amsilence "github.com/prometheus/alertmanager/silence"
	"github.com/prometheus/client_golang/prometheus"

	"whodunit/internal/api"
	"whodunit/internal/auth"
	"whodunit/internal/query"
	"whodunit/internal/store/memory"
)

const evil = "x\x1b[31m\u202e\nalert pwned"

// alertsRig is a server with alerts, and Alertmanager's own API for silences.
type alertsRig struct {
	url, ca               string
	operate, read, ingest string // tokens
	alerts                []api.AlertStatus
	log                   bytes.Buffer
}

func startAlerts(t *testing.T, change func(*api.Alerts)) *alertsRig {
	t.Helper()
	rig := &alertsRig{alerts: []api.AlertStatus{
		{Fingerprint: "00aa11bb22cc33dd", Count: 1, StartsAt: at(9), Labels: map[string]string{"alertname": "A shell in a pod", "severity": "medium", "rule": "pod-exec", "user": "alice"}},
		{Fingerprint: "ffaa11bb22cc33dd", Count: 12, StartsAt: at(8), EndsAt: at(12), FirstEvent: at(7), LastEvent: at(9), Link: "https://w.example/?show=findings",
			Labels:      map[string]string{"alertname": "Secrets read", "severity": "critical", "rule": "secret-read", "user": evil, "namespace": "kube system"},
			Annotations: map[string]string{"zone": "z", "summary": evil, "command": "kubectl get secret", "runbook": "https://w.example/run"}, Receivers: []string{"night", "log"}},
		{Fingerprint: "11aa11bb22cc33dd", Count: 3, StartsAt: at(7), Labels: map[string]string{"alertname": "Secrets read", "severity": "low", "rule": "secret-read", "user": "ci"}, InhibitedBy: []string{"ff"}},
	}}
	a, err := auth.New(auth.Options{Dir: t.TempDir(), PasswordCost: 64})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.SetPassword("oscar", "correct-horse-battery", []auth.Scope{auth.ScopeRead, auth.ScopeOperate}); err != nil {
		t.Fatal(err)
	}
	token := func(scopes ...auth.Scope) string {
		_, secret, err := a.CreateToken(strings.ToLower(fmt.Sprint(len(a.Tokens()))), scopes, time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		return secret
	}
	rig.operate, rig.read, rig.ingest = token(auth.ScopeRead, auth.ScopeOperate), token(auth.ScopeRead), token(auth.ScopeIngest)
	o := api.Alerts{V2: silencesAPI(t), List: rig.list, Test: testFake}
	if change != nil {
		change(&o)
	}
	h, err := api.New(api.Options{Events: api.Set{Search: &memory.Store{}}, Auth: a, Language: api.Language{Parse: query.Parse, Time: query.ParseTime}, Alerts: o,
		Logger: slog.New(slog.NewTextHandler(&rig.log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewTLSServer(h)
	t.Cleanup(func() { h.Close(); srv.Close() })
	rig.url, rig.ca = srv.URL, filepath.Join(t.TempDir(), "ca.crt")
	if err := os.WriteFile(rig.ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return rig
}

func at(hour int) time.Time { return time.Date(2026, 11, 21, hour, 0, 0, 0, time.UTC) }

func (r *alertsRig) list(context.Context) ([]api.AlertStatus, error) { return r.alerts, nil }

func testFake(_ context.Context, rule string) (api.TestResult, error) {
	res := api.TestResult{Labels: map[string]string{"alertname": "Test", "rule": rule}, Routes: []string{"night"}}
	switch rule {
	case "none":
	case "unknown":
		return res, fmt.Errorf("rule %q: %w", rule, api.ErrUnknownRule)
	case "failing":
		res.MutedBy = []string{"weekends"}
		res.Deliveries = []api.Delivery{{Receiver: "night", Kind: "slack", Seconds: 1.5, Error: evil}, {Receiver: "night", Kind: "email", OK: true}}
	default:
		res.Deliveries = []api.Delivery{{Receiver: "night", Kind: "email", OK: true, Seconds: .25}}
	}
	return res, nil
}

// silencesAPI is Alertmanager's own API, of which only silences are asked.
func silencesAPI(t *testing.T) http.Handler {
	t.Helper()
	s, err := amsilence.New(amsilence.Options{Retention: time.Hour, Metrics: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	v2, err := apiv2.NewAPI(nil, nil, nil, s, nil, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	return v2.Handler
}

// run runs a command line against the rig with a token, "" for none.
func (r *alertsRig) run(t *testing.T, token string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	env := map[string]string{"WHODUNIT_SERVER": r.url, "WHODUNIT_TOKEN": token, "WHODUNIT_PASSWORD": "correct-horse-battery", "USER": "dora"}
	code = Run(t.Context(), append([]string{"alerts"}, append(args, "--ca-file", r.ca)...), "test",
		Streams{In: strings.NewReader(""), Out: &out, Err: &errs, Getenv: func(k string) string { return env[k] }, Now: time.Now})
	if s := out.String() + errs.String(); !slices.Contains(args, "json") && strings.ContainsAny(s, "\x1b\u202e") {
		t.Errorf("%v: hostile text is not made printable: %q", args, s)
	}
	return code, out.String(), errs.String()
}

func TestAlertsList(t *testing.T) {
	r := startAlerts(t, nil)
	r.alerts = append(r.alerts, api.AlertStatus{Fingerprint: "22", Labels: map[string]string{"alertname": "Quiet", "rule": "q"}, StartsAt: at(6), SilencedBy: []string{"x"}})
	for _, tc := range []struct {
		args []string
		code int
		want []string // alert names and users, in order
	}{
		{nil, 0, []string{"Secrets read", "A shell in a pod"}},
		{[]string{"--all"}, 0, []string{"Secrets read", "A shell in a pod", "Secrets read", "Quiet"}},
		{[]string{"--silenced"}, 0, []string{"Secrets read", "Quiet"}},
		{[]string{`severity=~"high|critical"`}, 0, []string{"Secrets read"}},
		{[]string{`severity=~high|critical`}, 0, []string{"Secrets read"}},
		{[]string{"pod-exec"}, 0, []string{"A shell in a pod"}},
		{[]string{"alertname=Secrets read", "--all"}, 0, []string{"Secrets read", "Secrets read"}},
		{[]string{"secret-read", "user!~ci|dora", "--all"}, 0, []string{"Secrets read"}},
		{[]string{"severity=info"}, 1, nil},
	} {
		code, out, errs := r.run(t, r.read, append([]string{"list", "-o", "json"}, tc.args...)...)
		var got []string
		for line := range strings.Lines(out) {
			var a api.AlertStatus
			if err := json.Unmarshal([]byte(line), &a); err != nil {
				t.Error(err)
			}
			got = append(got, a.Labels["alertname"])
		}
		if code != tc.code || !cmp.Equal(tc.want, got) || tc.code == 1 && !strings.Contains(errs, "of 4 alerts going on none is asked for") {
			t.Errorf("%v: %d %q %s", tc.args, code, got, errs)
		}
	}
	_, out, _ := r.run(t, r.read, "list", "--all")
	want := `SINCE                SEVERITY  COUNT   STATE      ALERT                         FINGERPRINT       LABELS
2026-11-21 08:00:00  critical  12      firing     Secrets read                  ffaa11bb22cc33dd  namespace="kube system" rule=secret-read user="x\x1b[31m\u202e\nalert pwned"
2026-11-21 09:00:00  medium    1       firing     A shell in a pod              00aa11bb22cc33dd  rule=pod-exec user=alice
2026-11-21 07:00:00  low       3       inhibited  Secrets read                  11aa11bb22cc33dd  rule=secret-read user=ci
2026-11-21 06:00:00            0       silenced   Quiet                         22                rule=q
`
	if d := cmp.Diff(want, out); d != "" {
		t.Error(d)
	}
	r.alerts = nil
	if code, out, errs := r.run(t, r.read, "list"); code != 1 || out != "" || errs != "whodunit: no alerts\n" {
		t.Errorf("%d %s %s", code, out, errs)
	}
}

func TestAlertsRefusals(t *testing.T) {
	r := startAlerts(t, nil)
	elsewhere := startAlerts(t, func(o *api.Alerts) { *o = api.Alerts{Elsewhere: "they go to am.example"} })
	for _, tc := range []struct {
		rig   *alertsRig
		token string
		args  []string
		want  string
	}{
		{r, "", []string{"list"}, `carries no valid credentials.*--token-file`},
		{r, r.ingest, []string{"list"}, `scope read is wanted`},
		{r, r.read, []string{"silence", "a=b", "--comment", "c"}, `scope operate is wanted.*administrator`},
		{r, r.read, []string{"expire", "7d3c5e1e-4f6d-4d54-9d5e-0c7fb6f1a2b3"}, `scope operate is wanted`},
		{r, r.read, []string{"test", "x"}, `scope operate is wanted`},
		{r, r.operate, []string{"test", "unknown"}, `rule "unknown": no rule has this id`},
		{r, r.operate, []string{"silence", "a=b"}, `say why with --comment`},
		{r, r.operate, []string{"silence", "a=b", "--comment", "c", "--for", "soon"}, `cannot read --for: "soon"`},
		{r, r.operate, []string{"silence", "a=b", "--comment", "c", "--for", "0"}, `cannot read --for`},
		{r, r.operate, []string{"silence", "a=~.*", "--comment", "c"}, `refuses: .*matcher`},
		{r, r.operate, []string{"silence", "a", "b", "--comment", "c"}, `cannot read matcher "b": NAME=VALUE`},
		{r, r.operate, []string{"silence", "a=~(", "--comment", "c"}, `cannot read matcher "a=~\("`},
		{r, r.operate, []string{"expire", "7d3c5e1e-4f6d-4d54-9d5e-0c7fb6f1a2b3", "nonsense"}, `(?s)no silence with the id "7d3c.*alerts silences.*no silence with the id "nonsense"`},
		{elsewhere, elsewhere.operate, []string{"list"}, `no list of alerts.*they go to am.example`},
		{elsewhere, elsewhere.operate, []string{"silences"}, `no Alertmanager of its own.*they go to am.example`},
		{elsewhere, elsewhere.operate, []string{"expire", "x"}, `they go to am.example`},
		{elsewhere, elsewhere.operate, []string{"test", "x"}, `they go to am.example`},
		{&alertsRig{url: "https://127.0.0.1:1", ca: r.ca}, "x", []string{"list"}, `cannot ask the server 127.0.0.1:1`},
		{&alertsRig{url: "http://w.example", ca: r.ca}, "x", []string{"list"}, `cannot use http://`},
	} {
		code, out, errs := tc.rig.run(t, tc.token, tc.args...)
		if code != 2 || out != "" || !regexp.MustCompile(tc.want).MatchString(errs) {
			t.Errorf("%v: %d %s %s", tc.args, code, out, errs)
		}
	}
}

func TestAlertsSilences(t *testing.T) {
	r := startAlerts(t, nil)
	if code, _, errs := r.run(t, r.operate, "silences"); code != 1 || errs != "whodunit: no silences\n" {
		t.Errorf("%d %s", code, errs)
	}
	code, out, errs := r.run(t, r.operate, "silence", "secret-read", "user!=ci", `severity=~"high|critical"`, "--for", "2h", "--comment", "why "+evil)
	id := strings.TrimSpace(out)
	if code != 0 || len(id) != 36 || !strings.Contains(errs, "now 1 alert matches it") {
		t.Fatalf("%d %q %s", code, out, errs)
	}
	if code, _, errs := r.run(t, "", "silence", "a=b", "--for", "7d", "--comment", "c", "--user", "oscar"); code != 0 || !strings.Contains(errs, "now 0 alerts match it") {
		t.Fatalf("with a password: %d %s", code, errs)
	}
	_, out, _ = r.run(t, r.read, "silences", "-o", "json")
	var got []silence
	for line := range strings.Lines(out) {
		var s silence
		if err := json.Unmarshal([]byte(line), &s); err != nil {
			t.Fatal(err)
		}
		got = append(got, s)
	}
	if len(got) != 2 || got[0].ID != id || got[0].CreatedBy != "dora" || got[1].CreatedBy != "oscar" || got[0].words() != `rule="secret-read" user!="ci" severity=~"high|critical"` &&
		got[0].words() != `rule="secret-read" severity=~"high|critical" user!="ci"` || got[0].EndsAt.Sub(got[0].StartsAt).Round(time.Minute) != 2*time.Hour {
		t.Errorf("%+v", got)
	}
	if _, out, _ := r.run(t, r.read, "silences"); !regexp.MustCompile(`(?m)^` + id + `  active   20\S+ \S+  dora .*rule="secret-read" .*why x\\x1b`).MatchString(out) {
		t.Error(out)
	}
	r.alerts[1].Silenced = true
	if _, out, _ := r.run(t, r.read, "show", "secret-read"); !strings.Contains(out, "silenced by      "+id+" until 20") {
		t.Error(out)
	}
	code, out, errs = r.run(t, r.operate, "expire", id)
	if code != 0 || out != id+" expired\n" {
		t.Errorf("%d %s %s", code, out, errs)
	}
	if _, out, _ := r.run(t, r.read, "silences"); strings.Contains(out, id) {
		t.Error(out)
	}
	if _, out, _ := r.run(t, r.read, "silences", "--expired"); !strings.Contains(out, id+"  expired") {
		t.Error(out)
	}
	if log := r.log.String(); strings.Count(log, "msg=silence") != 3 || !strings.Contains(log, "action=expire id="+id) || !strings.Contains(log, "user=oscar") {
		t.Error(log)
	}
}

func TestAlertsShow(t *testing.T) {
	r := startAlerts(t, nil)
	code, out, errs := r.run(t, r.read, "show", "FFAA11")
	want := `alert            Secrets read
severity         critical
state            firing
findings         12
since            2026-11-21 08:00:00
events           2026-11-21 07:00:00 to 2026-11-21 09:00:00
over at          2026-11-21 12:00:00 unless it goes on
receivers        night, log
fingerprint      ffaa11bb22cc33dd
link             https://w.example/?show=findings
labels
  alertname      Secrets read
  namespace      kube system
  rule           secret-read
  severity       critical
  user           x\x1b[31m\u202e
                 alert pwned
annotations
  summary        x\x1b[31m\u202e
                 alert pwned
  command        kubectl get secret
  runbook        https://w.example/run
  zone           z
`
	if d := cmp.Diff(want, out); d != "" || code != 0 {
		t.Error(d, code, errs)
	}
	for _, what := range []string{"secret-read", "secrets READ"} {
		if _, out, _ := r.run(t, r.read, "show", what, "-o", "json"); strings.Count(out, "\n") != 2 {
			t.Errorf("%s: %s", what, out)
		}
	}
	if code, out, errs := r.run(t, r.read, "show", "nothing"); code != 1 || out != "" || !strings.Contains(errs, "alerts list --all") {
		t.Errorf("%d %s %s", code, out, errs)
	}
}

func TestAlertsTest(t *testing.T) {
	r := startAlerts(t, nil)
	for rule, tc := range map[string]struct {
		code int
		want string
	}{
		"fine":    {0, "labels     alertname=Test rule=fine\nroutes     night\nRECEIVER                  KIND          TOOK     RESULT\nnight                     email         0.25s    ok\n"},
		"failing": {1, "muted by   weekends\nRECEIVER                  KIND          TOOK     RESULT\nnight                     slack         1.50s    failed: x\\x1b[31m\\u202e\\nalert pwned\n"},
		"none":    {1, "no receiver got it"},
	} {
		code, out, errs := r.run(t, r.operate, "test", rule)
		if code != tc.code || !strings.Contains(out, tc.want) || errs != "" {
			t.Errorf("%s: %d %s %s", rule, code, out, errs)
		}
	}
	if code, out, _ := r.run(t, r.operate, "test", "failing", "-o", "json"); code != 1 || !strings.Contains(out, `"muted_by":["weekends"]`) {
		t.Errorf("%d %s", code, out)
	}
}
