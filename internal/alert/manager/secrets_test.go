package manager

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/alertmanager/config"
)

// everySecret has "geheim" in each of its secrets, which BAD's answers repeat.
const everySecret = `
global:
  smtp_smarthost: 'localhost:1'
  smtp_from: 'a@b'
  smtp_auth_username: me
  smtp_auth_password: 'geheim-smtp'
  slack_api_url: 'BAD/services/geheim0000/geheim1111/geheim22222222222'
  opsgenie_api_key: geheim-opsgenie
  opsgenie_api_url: 'USERBAD'
  victorops_api_key: geheim-victor
  victorops_api_url: BAD
  wechat_api_secret: geheim-wechat
  wechat_api_corp_id: corp
  wechat_api_url: BAD
  telegram_bot_token: 'geheim:telegram'
  telegram_api_url: BAD
  rocketchat_token: geheim-rocket
  rocketchat_token_id: geheim-rocketid
  rocketchat_api_url: BAD
  http_config:
    http_headers:
      X-Key: {values: ['geheim-header'], secrets: [geheim-hidden], files: ['FILE']}
route: {receiver: x, group_wait: 1ms, group_interval: 1h}
receivers:
- name: x
  email_configs: [{to: a@b, require_tls: false}]
  slack_configs: [{channel: c}]
  opsgenie_configs: [{}]
  victorops_configs: [{routing_key: geheim-routing}]
  wechat_configs: [{}]
  telegram_configs: [{chat_id: 1}]
  rocketchat_configs: [{channel: c}]
  discord_configs: [{webhook_url: 'BAD/api/webhooks/1/geheim-discord?wait=geheim-query', http_config: {proxy_url: 'USERBAD', proxy_connect_header: {X-P: [geheim-connect]}}}]
  msteams_configs: [{webhook_url: 'BAD/geheim-teams-0123'}]
  msteamsv2_configs: [{webhook_url: 'BAD/geheim-teams2-0123'}]
  mattermost_configs: [{webhook_url: 'BAD/geheim-mattermost-0123', text: x}]
  pagerduty_configs:
  - {routing_key: geheim-pager, url: BAD}
  - {service_key: 'geheim&<>"pager', url: BAD}
  pushover_configs: [{user_key: geheim-user, token: geheim-push}]
  sns_configs: [{api_url: BAD, topic_arn: 'arn:aws:sns:us-east-2:1:x', sigv4: {region: us-east-2, access_key: geheim-access, secret_key: geheim-aws}}]
  webex_configs: [{room_id: r, api_url: BAD, http_config: {authorization: {type: Bearer, credentials: geheim-webex}}}]
  jira_configs: [{api_url: BAD, project: p, issue_type: t, http_config: {basic_auth: {username: me, password: geheim-jira}}}]
  incidentio_configs: [{url: BAD, alert_source_token: geheim-incident}]
  webhook_configs:
  - {url: 'BAD/geheim-webhook-0123', http_config: {oauth2: {client_id: c, client_secret: geheim-oauth, token_url: 'BAD/token', endpoint_params: {a: geheim-param}}}}
  - {url: 'USERBAD', http_config: {bearer_token: geheim-bearer}}
  - {url_file: 'URLFILE'}
`

func TestSecretsGoNowhere(t *testing.T) {
	told := make(chan struct{}, 1000)
	bad := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { // says all it was told
		b, _ := io.ReadAll(r.Body)
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprint(w, r.URL, r.Header, string(b), " geheim-smtp geheim-hidden ")
		told <- struct{}{}
	}))
	t.Cleanup(bad.Close)
	withUser := strings.Replace(bad.URL, "http://", "http://me:geheim%23user@", 1) + "/x?apikey=geheim-arg"
	dir := t.TempDir()
	text := strings.NewReplacer("USERBAD", withUser, "URLFILE", file(t, filepath.Join(dir, "url"), bad.URL+"/geheim-urlfile-0123\n"), "BAD", bad.URL,
		"FILE", file(t, filepath.Join(dir, "header"), "geheim-file")).Replace(everySecret)
	path := file(t, filepath.Join(dir, "alertmanager.yml"), text)
	logger, log := debugLog()
	m := start(t, Options{ConfigFile: path, Logger: logger})

	found, err := m.Try(t.Context(), map[string]string{"alertname": "A"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	put(t, m, firing("alertname", "A"))
	for range 10 {
		next(t, told)
	}
	// A secret in a file that was replaced while we run.
	file(t, filepath.Join(dir, "url"), bad.URL+"/geheim-newfile-0123")
	again, err := m.Try(t.Context(), map[string]string{"alertname": "A"}, nil)
	if err != nil || len(again) < 20 {
		t.Fatal(err, len(again))
	}
	status := call(t, m.Handler(), "GET", "/api/v2/status", "", 200)
	for _, bad := range []string{"slack_api_url: 'ftp://geheim/geheim'",
		"smtp_auth_password: [geheimgeheimgeheim]", "opsgenie_api_url: 'http://u:gehe#geheim@x'", "smtp_auth_password: *geheim",
		"smtp_hello: &x geheim-alias, smtp_auth_password: *x, resolve_timeout: geheim-alias"} {
		err := Check(file(t, "bad.yml", "global: {"+bad+"}\n"+base), nil)
		if err == nil {
			t.Error(bad)
		}
		if strings.Contains(fmt.Sprint(err), "geheim") {
			t.Error(err)
		}
	}
	stop(t, m)
	for what, text := range map[string]string{"status": status, "log": log.String(), "try": fmt.Sprint(found, again),
		"receivers": fmt.Sprintf("%+v", m.Receivers())} {
		for line := range strings.Lines(text) {
			if i := strings.Index(line, "geheim"); i >= 0 {
				t.Errorf("%s shows a secret: …%s", what, line[max(0, i-200):min(len(line), i+100)])
			}
		}
		if !strings.Contains(text, hidden) && !strings.Contains(text, `\u003csecret\u003e`) {
			t.Errorf("%s: where is it hidden? %s", what, text)
		}
	}
	// What the API shows can still be read by Alertmanager's tools.
	var s struct{ Config struct{ Original string } }
	if err := json.Unmarshal([]byte(status), &s); err != nil {
		t.Fatal(err)
	}
	if _, err := config.Load(s.Config.Original); err != nil {
		t.Errorf("%v in:\n%s", err, s.Config.Original)
	}
}

func TestNothingToHide(t *testing.T) {
	const text = "route: {receiver: x,   group_wait: 1s}\nreceivers: [{name: x, webhook_configs: [{url: <secret>}]}]\n"
	if got := hideInConfig(text); got != text {
		t.Error(got)
	}
}
