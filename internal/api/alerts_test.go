package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"whodunit/internal/auth"
)

func (f *fixture) token(t *testing.T, scopes ...auth.Scope) string {
	t.Helper()
	_, secret, err := f.auth.CreateToken(fmt.Sprint("t", len(f.auth.Tokens())), scopes, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	return secret
}

// upstream is Alertmanager's API as far as this package sees it.
func upstream(got *[]string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil || int64(len(b)) != r.ContentLength {
			http.Error(w, "length", http.StatusInternalServerError)
			return
		}
		for _, name := range []string{"Authorization", "Cookie", "Origin"} {
			if r.Header.Get(name) != "" {
				w.WriteHeader(http.StatusInternalServerError)
			}
		}
		*got = append(*got, fmt.Sprintf("%s %s?%s %d %s", r.Method, r.URL.Path, r.URL.RawQuery, len(b), auth.PrincipalOf(r.Context()).Name))
		switch {
		case strings.Contains(string(b), "refuse"):
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, `"bad silence"`)
		case r.Method == http.MethodPost:
			_, _ = io.WriteString(w, `{"silenceID":"0c1f-new"}`)
		default:
			_, _ = io.WriteString(w, `[]`)
		}
	})
}

func TestAlertmanagerAPI(t *testing.T) {
	var got []string
	f := start(t, func(o *Options) { o.Alerts.V2 = upstream(&got) })
	operate := f.token(t, auth.ScopeOperate)
	ingest := f.token(t, auth.ScopeIngest)
	large := strings.Repeat(" ", 1<<20)
	for _, tc := range []struct {
		method, path, token, body string
		code                      int
		want                      string // what Alertmanager's API sees
	}{
		{"GET", "/api/v2/alerts?filter=a%3D%22b%22&silenced=true", f.read, "", 200, `GET /api/v2/alerts?filter=a%3D%22b%22&silenced=true 0 token:read`},
		{"HEAD", "/api/v2/status", f.read, "", 200, `HEAD /api/v2/status? 0 token:read`},
		{"GET", "/api/v2/alerts", operate, "", 403, ""},
		{"GET", "/api/v2/alerts", ingest, "", 403, ""},
		{"GET", "/api/v2/alerts", "", "", 401, ""},
		{"POST", "/api/v2/silences", f.read, "{}", 403, ""},
		{"POST", "/api/v2/silences", "", "{}", 401, ""},
		{"POST", "/api/v2/silences", operate, "{}", 200, `POST /api/v2/silences? 2 token:t2`},
		{"POST", "/api/v2/silences/", operate, "{}", 200, `POST /api/v2/silences/? 2 token:t2`},
		{"POST", "/api/v2/silences", f.root, "{}", 200, `POST /api/v2/silences? 2 token:admin`},
		{"POST", "/api/v2/silences", operate, large, 413, ""},
		{"DELETE", "/api/v2/silence/0c1f-new", f.read, "", 403, ""},
		{"DELETE", "/api/v2/silence/0c1f-new", operate, "", 200, `DELETE /api/v2/silence/0c1f-new? 0 token:t2`},
		{"POST", "/api/v2/alerts", operate, large, 200, `POST /api/v2/alerts? 1048576 token:t2`},
		{"POST", "/api/v2/alerts", ingest, "[]", 403, ""},
		{"POST", "/api/v2/alerts", operate, strings.Repeat(" ", maxAlertsBody+1), 413, ""},
		{"PUT", "/api/v2/alerts", f.read, "", 403, ""},
		{"OPTIONS", "/api/v2/alerts", "", "", 401, ""},
	} {
		got = nil
		resp, body := f.do(t, tc.method, tc.path, tc.token, tc.body, "Origin", f.URL)
		if resp.StatusCode != tc.code || strings.Join(got, "\n") != tc.want {
			t.Errorf("%s %s: %d %v %s", tc.method, tc.path, resp.StatusCode, got, body)
		}
		if resp.StatusCode >= 400 && (resp.Header.Get("Content-Type") != "application/json" || !strings.Contains(body, `"hint":`)) {
			t.Errorf("%s %s: %s", tc.method, tc.path, resp.Header)
		}
	}
}

// TestAlertmanagerLogins: with a session, but not from another site's page; and with what amtool knows.
func TestAlertmanagerLogins(t *testing.T) {
	var got []string
	f := start(t, func(o *Options) { o.Alerts.V2 = upstream(&got) })
	if err := f.auth.SetPassword("oscar", password, []auth.Scope{auth.ScopeRead, auth.ScopeOperate}); err != nil {
		t.Fatal(err)
	}
	resp, _ := f.do(t, "POST", "/api/v1/login", "", `{"user":"oscar","password":"`+password+`"}`, "Content-Type", "application/json")
	cookie, _, _ := strings.Cut(resp.Header.Get("Set-Cookie"), ";")
	basic := func(user, password string) []string {
		r, err := http.NewRequest("GET", f.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.SetBasicAuth(user, password)
		return []string{"Authorization", r.Header.Get("Authorization")}
	}
	for _, tc := range []struct {
		name   string
		header []string
		code   int
	}{
		{"session", []string{"Cookie", cookie, "Sec-Fetch-Site", "same-origin"}, 200},
		{"session, another site", []string{"Cookie", cookie, "Sec-Fetch-Site", "cross-site"}, 403},
		{"basic", basic("oscar", password), 200},
		{"basic, token", basic("", f.token(t, auth.ScopeOperate)), 200},
		{"basic, no scope", basic("alice", password), 403},
		{"basic, wrong", basic("oscar", "wrong"), 401},
		{"basic, another site", append(basic("oscar", password), "Sec-Fetch-Site", "cross-site"), 403},
	} {
		if resp, body := f.do(t, "DELETE", "/api/v2/silence/x", "", "", tc.header...); resp.StatusCode != tc.code {
			t.Errorf("%s: %d %s", tc.name, resp.StatusCode, body)
		}
	}
}

func TestSilencesAreRecorded(t *testing.T) {
	var got []string
	f := start(t, func(o *Options) { o.Alerts.V2 = upstream(&got) })
	f.do(t, "POST", "/api/v2/silences", f.root, `{"id":"0c1f-old","matchers":[{"name":"alertname","value":"x\u001b","isRegex":false},{"name":"ns","value":"a|b","isRegex":true,"isEqual":false}],
		"startsAt":"2026-11-21T10:00:00Z","endsAt":"2026-11-21T12:00:00Z","createdBy":"somebody","comment":"c"}`)
	f.do(t, "POST", "/api/v2/silences", f.root, `{"matchers":"refuse"}`)
	f.do(t, "DELETE", "/api/v2/silence/0c1f-new", f.root, "")
	f.do(t, "GET", "/api/v2/silences", f.root, "")
	f.do(t, "POST", "/api/v2/alerts", f.root, "[]")
	var lines []string
	for line := range strings.Lines(f.log.String()) {
		if _, rest, ok := strings.Cut(line, "msg=silence component=api user=token:admin address=127.0.0.1 "); ok {
			lines = append(lines, strings.TrimSpace(rest))
		}
	}
	want := []string{
		`code=200 action=set id=0c1f-new matchers="alertname=\"x\\u001b\",ns!~\"a|b\"" until=2026-11-21T12:00:00.000Z created_by=somebody replaces=0c1f-old`,
		`code=400 action=set id="" matchers="" until=0001-01-01T00:00:00.000Z created_by=""`,
		`code=200 action=expire id=0c1f-new`,
	}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Errorf("%s\n%s", diff, f.log)
	}
}

func TestAlertsAreElsewhere(t *testing.T) {
	for _, tc := range []struct{ elsewhere, hint string }{{"", "alerts are not set up"}, {"they are at am.example", "they are at am.example"}} {
		f := start(t, func(o *Options) { o.Alerts.Elsewhere = tc.elsewhere })
		for path, method := range map[string]string{"/api/v2/alerts": "GET", "/api/v2/silences": "POST", "/api/v2/silence/x": "DELETE", "/api/v1/alerts": "GET",
			"/api/v1/receivers": "GET", "/api/v1/alerts/test": "POST"} {
			if resp, _ := f.do(t, method, path, "", "{}", "Content-Type", "application/json"); resp.StatusCode != 401 {
				t.Errorf("%s without credentials: %d", path, resp.StatusCode)
			}
			resp, body := f.do(t, method, path, f.root, "{}", "Content-Type", "application/json")
			if resp.StatusCode != 404 || !strings.Contains(body, tc.hint) {
				t.Errorf("%s: %d %s", path, resp.StatusCode, body)
			}
		}
	}
}

func TestAlerts(t *testing.T) {
	at := func(h int) time.Time { return time.Date(2026, 11, 21, h, 0, 0, 0, time.UTC) }
	f := start(t, func(o *Options) {
		o.Alerts.List = func(context.Context) ([]AlertStatus, error) {
			return []AlertStatus{
				{Fingerprint: "b", Labels: map[string]string{"alertname": "<b>"}, Count: 3, StartsAt: at(1), FirstEvent: at(0), SilencedBy: []string{"s1"}},
				{Fingerprint: "a", Labels: map[string]string{}, StartsAt: at(2)}, {Fingerprint: "c", StartsAt: at(2)},
			}, nil
		}
		o.Alerts.Receivers = func() []ReceiverStatus {
			return []ReceiverStatus{{Receiver: "z", Kind: "slack", OK: 3, LastOK: at(1)}, {Receiver: "b", FailingSince: at(2)}, {Receiver: "c", FailingSince: at(1)}, {Receiver: "a"}}
		}
		o.Alerts.Test = func(ctx context.Context, rule string) (TestResult, error) {
			switch rule {
			case "none":
				return TestResult{}, fmt.Errorf("rule %q: %w", rule, ErrUnknownRule)
			case "broken":
				return TestResult{}, errors.New("broken")
			}
			if _, ok := ctx.Deadline(); !ok {
				return TestResult{}, errors.New("no deadline")
			}
			return TestResult{Labels: map[string]string{"rule": rule}, Deliveries: []Delivery{{Receiver: "r", Error: "refused", Seconds: .5}}}, nil
		}
	})
	var alerts struct{ Items []AlertStatus }
	_, body := f.do(t, "GET", "/api/v1/alerts", f.read, "")
	if err := json.Unmarshal([]byte(body), &alerts); err != nil || len(alerts.Items) != 3 || alerts.Items[0].Fingerprint != "a" || !alerts.Items[2].Silenced || alerts.Items[0].Silenced {
		t.Errorf("%v %s", err, body)
	}
	if strings.Contains(body, "0001-01-01") {
		t.Error(body)
	}
	var receivers struct{ Items []ReceiverStatus }
	_, body = f.do(t, "GET", "/api/v1/receivers", f.read, "")
	if err := json.Unmarshal([]byte(body), &receivers); err != nil {
		t.Error(err)
	}
	var names []string
	for _, r := range receivers.Items {
		names = append(names, r.Receiver)
	}
	if diff := cmp.Diff([]string{"c", "b", "a", "z"}, names); diff != "" {
		t.Error(diff)
	}
	operate := f.token(t, auth.ScopeOperate)
	for _, tc := range []struct {
		token, body string
		code        int
		want        string
	}{
		{operate, `{"rule":"x"}`, 200, `{"labels":{"rule":"x"},"routes":[],"deliveries":[{"receiver":"r","kind":"","ok":false,"error":"refused","seconds":0.5}]}`},
		{operate, `{"rule":"none"}`, 404, "GET /api/v1/rules"},
		{operate, `{"rule":""}`, 400, "rule is missing"},
		{operate, `{"rul":""}`, 400, "cannot be read"},
		{operate, `{"rule":"broken"}`, 500, "broken"},
		{f.read, `{"rule":"x"}`, 403, "operate"},
	} {
		resp, body := f.do(t, "POST", "/api/v1/alerts/test", tc.token, tc.body, "Content-Type", "application/json")
		if resp.StatusCode != tc.code || !strings.Contains(body, tc.want) {
			t.Errorf("%s: %d %s", tc.body, resp.StatusCode, body)
		}
	}
	if log := f.log.String(); !strings.Contains(log, `msg="test alert" component=api user=token:t2 address=127.0.0.1 rule=x deliveries=1 failed=1`) {
		t.Error(log)
	}
}
