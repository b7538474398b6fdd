package manager

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"whodunit/internal/alert"
)

func posts(from, n int) string {
	var all []map[string]any
	for i := range n {
		all = append(all, map[string]any{"labels": map[string]string{"alertname": fmt.Sprint("N", from+i)}, "endsAt": "2999-01-01T00:00:00Z"})
	}
	b, _ := json.Marshal(all)
	return string(b)
}

// Whoever may post alerts can neither fill the memory nor take the groups away that the alerts of findings need.
func TestPostedIsBounded(t *testing.T) {
	t.Parallel()
	url, got := webhook(t)
	m := start(t, Options{MaxPosted: 20, MaxGroups: 21, ConfigFile: yml(t, "route: {receiver: r, group_by: [alertname], group_wait: 10ms}\nreceivers:\n- name: r\n  webhook_configs: [{url: URL}]\n", "URL", url)})
	call(t, m.Handler(), "POST", "/api/v2/alerts", posts(0, 20), 200)
	for _, path := range []string{"/api/v2/alerts", "/api/v2/alerts/"} {
		call(t, m.Handler(), "POST", path, posts(20, 1), 429)
	}
	call(t, m.Handler(), "POST", "/api/v2/alerts", posts(10, 10)+" garbage", 200) // they are there already
	for range 20 {
		next(t, got)
	}
	put(t, m, firing("alertname", "real"))
	if n := next(t, got); n.names()[0] != "real" {
		t.Errorf("%v came", n.names())
	}
	call(t, m.Handler(), "POST", "/api/v2/alerts", `[{"labels":{"alertname":"N1"},"annotations":{"x":"`+strings.Repeat("x", 7<<20)+`"}}]`, 200)
	for i := range 3 {
		call(t, m.Handler(), "POST", "/api/v2/alerts", fmt.Sprintf(`[{"labels":{"alertname":"N%d"},"annotations":{"x":"%s"}}]`, i+2, strings.Repeat("x", 7<<20)), 200)
	}
	call(t, m.Handler(), "POST", "/api/v2/alerts", `[{"labels":{"alertname":"N7"},"annotations":{"x":"`+strings.Repeat("x", 7<<20)+`"}}]`, 429)
	call(t, m.Handler(), "POST", "/api/v2/alerts", `{`, 400)
}

// An alert of findings cannot be ended, or told otherwise, by who may post alerts: a silence would be recorded, a post is not.
func TestPostedChangesNoOther(t *testing.T) {
	t.Parallel()
	m := start(t, Options{})
	put(t, m, alert.Alert{Labels: map[string]string{"alertname": "real", "user": "eve"}, StartsAt: time.Now(), EndsAt: time.Now().Add(time.Hour)})
	for _, labels := range []string{`"alertname":"real","user":"eve"`, `"alertname":"real","user":"eve","empty":""`} {
		call(t, m.Handler(), "POST", "/api/v2/alerts", `[{"labels":{`+labels+`},"annotations":{"summary":"all is well"},"startsAt":"2020-01-01T00:00:00Z","endsAt":"2020-01-01T00:00:01Z"}]`, 403)
	}
	if body := call(t, m.Handler(), "GET", "/api/v2/alerts", "", 200); !strings.Contains(body, "eve") || strings.Contains(body, "all is well") {
		t.Error(body)
	}
}

// A path that somebody makes up makes no metric.
func TestUnknownPaths(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	m := start(t, Options{Registerer: reg})
	for i := range 5 {
		call(t, m.Handler(), "GET", fmt.Sprint("/api/v2/made-up-", i), "", 404)
		call(t, m.Handler(), "POST", fmt.Sprint("/api/v2/alerts/made-up-", i), "[]", 404)
	}
	for _, path := range paths {
		call(t, m.Handler(), "GET", path, "", 200)
	}
	if n, err := testutil.GatherAndCount(reg, "alertmanager_http_request_duration_seconds"); err != nil || n != len(paths) {
		t.Errorf("%d series, %v", n, err)
	}
}
