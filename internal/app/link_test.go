package app

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"
	"time"

	"whodunit/internal/alert"
	"whodunit/internal/alert/incident"
	"whodunit/internal/audit"
	"whodunit/internal/match"
	"whodunit/internal/query"
)

// The link in an alert finds what the alert is about, whatever the user is called, and nothing of another user unless the name had to be
// left out.
func TestLinkFinds(t *testing.T) {
	t.Parallel()
	base, _ := url.Parse("https://whodunit.example")
	for _, user := range []string{"alice", "*", `a"b`, `a\b`, `end\`, `x" or user:"*`, "a b", "a\u00a0b", "a\x00b", "a\u202eb", "a\u200b", "\ufffd", "…", strings.Repeat("ü", 300)} {
		name, _ := json.Marshal(user)
		read := func(name []byte) *audit.Event {
			ev, err := audit.Parse("prod", append(append([]byte(`{"kind":"Event","auditID":"1","stage":"ResponseComplete","rule":"r","user":{"username":`), name...), `}}`...))
			if err != nil {
				t.Fatal(err)
			}
			return &ev
		}
		ev, other := read(name), read([]byte(`"somebody else"`))
		f := alert.Finding{Rule: "r", Cluster: "prod", User: ev.User.Username, Event: ev}
		u, err := url.Parse(link(base, &alert.Alert{Labels: incident.Labels(&f), StartsAt: time.Unix(1e9, 0)}))
		if err != nil {
			t.Fatal(err)
		}
		q := u.Query().Get("q")
		expr, err := query.Parse(q)
		if err != nil || !match.Eval(expr, ev) {
			t.Errorf("user %q: %s does not find the finding: %v", user, q, err)
		} else if strings.Contains(q, "user:") && match.Eval(expr, other) {
			t.Errorf("user %q: %s finds others", user, q)
		}
	}
}
