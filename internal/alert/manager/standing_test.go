package manager

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// TestStanding: what keeps an alert from being told is said, and where it would go.
func TestStanding(t *testing.T) {
	url, got := webhook(t)
	m := start(t, Options{ConfigFile: yml(t, routing, "REST", url, "TEAM", url)})
	made := call(t, m.Handler(), "POST", "/api/v2/silences", `{"matchers":[{"name":"alertname","value":"S","isRegex":false,"isEqual":true}],"createdBy":"me","comment":"c",
		"startsAt":"`+time.Now().UTC().Format(time.RFC3339)+`","endsAt":"`+time.Now().UTC().Add(time.Hour).Format(time.RFC3339)+`"}`, 200)
	var id struct{ SilenceID string }
	if err := json.Unmarshal([]byte(made), &id); err != nil {
		t.Fatal(err)
	}
	cause := firing("alertname", "C", "severity", "critical", "user", "u", "team", "a")
	symptom, silenced := firing("alertname", "D", "severity", "low", "user", "u"), firing("alertname", "S", "user", "v")
	put(t, m, cause, symptom, silenced)
	next(t, got) // the inhibitor has read them
	for name, c := range map[string]struct {
		labels map[string]string
		want   Standing
	}{
		"is told":        {cause.Labels, Standing{Receivers: []string{"a"}}},
		"inhibited":      {symptom.Labels, Standing{Receivers: []string{"rest"}, InhibitedBy: []string{labelSet(cause.Labels).Fingerprint().String()}}},
		"silenced":       {silenced.Labels, Standing{Receivers: []string{"rest"}, SilencedBy: []string{id.SilenceID}}},
		"never was here": {map[string]string{"alertname": "S", "team": "a"}, Standing{Receivers: []string{"a"}}},
	} {
		if diff := cmp.Diff(c.want, m.Standing(c.labels), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}
