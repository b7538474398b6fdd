package manager

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/alertmanager/notify"
	"pgregory.net/rapid"
)

func TestSlackGetsHarmlessText(t *testing.T) {
	bodies := make(chan string, 10)
	slack := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		bodies <- string(b)
		_, _ = io.WriteString(w, "ok")
	}))
	t.Cleanup(slack.Close)
	plainURL, plain := webhook(t)
	m := start(t, Options{ConfigFile: yml(t, `
route: {receiver: x, group_by: [user], group_wait: 1ms, group_interval: 20ms, repeat_interval: 1h}
receivers:
- name: x
  slack_configs: [{api_url: SLACK, channel: '#x', text: '<https://ok.example|own link> {{ .GroupLabels.user }} {{ range .Alerts }}{{ .Annotations.summary }}{{ end }}'}]
  webhook_configs: [{url: PLAIN}]
`, "SLACK", slack.URL, "PLAIN", plainURL)})
	const evil = "<!channel> <http://evil|ok> & @here"
	a := firing("alertname", evil, "user", evil)
	a.Annotations["summary"] = evil
	put(t, m, a)
	var got struct {
		Attachments []struct{ Title, Text, Fallback string }
	}
	if err := json.Unmarshal([]byte(next(t, bodies)), &got); err != nil {
		t.Fatal(err)
	}
	at := got.Attachments[0]
	const safe = "&lt;!channel&gt; &lt;http://evil|ok&gt; &amp; @" + gap + "here"
	if want := "<https://ok.example|own link> " + safe + " " + safe; at.Text != want {
		t.Error(at.Text)
	}
	if strings.Contains(at.Title+at.Fallback, "<") || !strings.Contains(at.Title, "&lt;!channel&gt;") {
		t.Error(at.Title, at.Fallback)
	}
	if got := next(t, plain); got.Alerts[0].Labels["user"] != evil || got.GroupLabels["user"] != evil {
		t.Error("the webhook gets another text: ", got)
	}
	// The notification log knows the alert under its own name: nothing is repeated.
	put(t, m, a, firing("alertname", "Next", "user", "bob"))
	for s := next(t, bodies); !strings.Contains(s, "bob"); s = next(t, bodies) {
		t.Error("told again: ", s)
	}
}

func TestEscaper(t *testing.T) {
	for _, kind := range []string{"slack", "rocketchat", "mattermost", "discord", "msteams", "msteamsv2", "webex", "wechat", "jira"} {
		rapid.Check(t, func(t *rapid.T) {
			s := rapid.StringOf(rapid.SampledFrom([]rune("<>[](@!|&~allhereALL x"))).Draw(t, "text")
			got := escaper(kind, "")(s)
			for _, bad := range []string{"<!", "<a", "<@", "<x", "](", "[~"} {
				if kind != "slack" && strings.Contains(got, bad) || kind == "slack" && strings.ContainsAny(got, "<>") {
					t.Fatalf("%s: %q", kind, got)
				}
			}
			if mention.MatchString(got) {
				t.Fatalf("%s mentions: %q", kind, got)
			}
		})
	}
	if got := escaper("telegram", "MarkdownV2")("a_b.c*"); got != `a\_b\.c\*` {
		t.Error(got)
	}
	for _, kind := range []string{"webhook", "email", "pagerduty", "telegram"} {
		if escaper(kind, "HTML") != nil {
			t.Error(kind)
		}
	}
}

func TestEscapedLeavesTheAlertAlone(t *testing.T) {
	a := sampleAlert()
	before := a.Fingerprint()
	ctx := notify.WithGroupLabels(t.Context(), a.Labels)
	out, copies := escaped(ctx, escaper("slack", ""), samplesOf(a))
	if a.Fingerprint() != before || a.Labels["user"] != "<x>" || copies[0].Labels["user"] != "&lt;x&gt;" {
		t.Error(a, copies[0])
	}
	if g, _ := notify.GroupLabels(out); g["user"] != "&lt;x&gt;" {
		t.Error(g)
	}
}
