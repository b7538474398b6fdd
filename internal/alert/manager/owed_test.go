package manager

import (
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"
)

// TestOwed: an alert is owed while its receiver is down, not to one that refuses it for good, and not once it was told.
func TestOwed(t *testing.T) {
	var code atomic.Int32
	asked := make(chan struct{}, 1000)
	down := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(int(code.Load()))
		select {
		case asked <- struct{}{}:
		default:
		}
	}))
	t.Cleanup(down.Close)
	m := start(t, Options{ConfigFile: yml(t, `
route: {receiver: r, group_by: [alertname], group_wait: 10ms, group_interval: 100ms}
receivers: [{name: r, webhook_configs: [{url: URL}]}]`, "URL", down.URL)})
	labels := func(name string) map[string]string { return map[string]string{"alertname": name, "severity": "high"} }
	until := func(what string, want bool, name string) {
		t.Helper()
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for deadline := time.Now().Add(patience); m.Owed(labels(name)) != want; <-tick.C {
			if time.Now().After(deadline) {
				t.Fatal(what)
			}
		}
	}
	if m.Owed(labels("a")) {
		t.Error("owed before there is an alert")
	}
	code.Store(http.StatusServiceUnavailable)
	put(t, m, firing("alertname", "a", "severity", "high"))
	until("it is not owed while the receiver is down", true, "a")
	code.Store(http.StatusOK)
	until("it is owed though the receiver took it", false, "a")

	code.Store(http.StatusForbidden) // for good
	put(t, m, firing("alertname", "b", "severity", "high"))
	next(t, asked)
	until("it is owed to a receiver that refuses it for good", false, "b")

	code.Store(http.StatusServiceUnavailable)
	put(t, m, firing("alertname", "c", "severity", "high"))
	until("it is not owed while the receiver is down", true, "c")
	if err := m.Reload("", nil); err != nil {
		t.Fatal(err)
	}
	if m.Owed(labels("c")) {
		t.Error("owed to a receiver that is gone")
	}
}
