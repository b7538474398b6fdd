package manager

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const base = `route: {receiver: x}
receivers:
- name: x
  webhook_configs: [{url: "http://h.invalid/"}]
`

// Each is refused, with the place of what is wrong.
func TestRefused(t *testing.T) {
	slack := "route: {receiver: x}\nreceivers:\n- name: x\n  slack_configs:\n  - api_url: http://h.invalid/\n    "
	for name, c := range map[string]struct{ yml, tmpl, want string }{
		"file syntax":        {base + "templates: ['*.tmpl']", "{{ define \"a\" }}\n{{ if }}\n{{ end }}", "t.tmpl:2: missing value for if"},
		"file function":      {base + "templates: ['*.tmpl']", "\n\n{{ nope 1 }}", `t.tmpl:3: function "nope" not defined`},
		"file reference":     {base + "templates: ['*.tmpl']", "{{ define \"a\" }}\n{{ template \"b\" . }}{{ end }}", `t.tmpl:2:12: template "b" is not defined`},
		"inline syntax":      {slack + "text: '{{ .Alerts '", "", "alertmanager.yml:6: template: unclosed action"},
		"inline field":       {slack + "text: '{{ .Alert }}'", "", "alertmanager.yml:6: template: executing"},
		"inline block":       {slack + "text: |\n      one\n      {{ range .Alerts }}{{ .Nope }}{{ end }}", "", "alertmanager.yml:8: template: "},
		"inline nested":      {slack + "fields:\n    - title: a\n      value: '{{ template \"no\" . }}'", "", `alertmanager.yml:8: template: template "no" is not defined`},
		"dead branch":        {slack + "text: '{{ if false }}{{ template \"no\" . }}{{ end }}'", "", `template "no" is not defined`},
		"field in file":      {slack + "text: '{{ template \"a\" . }}'\ntemplates: ['*.tmpl']", "{{ define \"a\" }}\n{{ .Nope }}{{ end }}", "t.tmpl:2:3: executing"},
		"html":               {"route: {receiver: x}\nreceivers:\n- name: x\n  email_configs:\n  - {to: a@b, from: a@b, smarthost: 'h:25', html: '<a {{ if true }}x=\"{{ end }}'}", "", "alertmanager.yml:5: "},
		"route label":        {"route:\n  receiver: x\n  routes:\n  - labels: {a: '{{ .Nope }}'}\nreceivers: [{name: x}]", "", "alertmanager.yml:4: template: "},
		"yaml":               {"route:\n  receiver: [\n", "", "alertmanager.yml:"},
		"type":               {"route:\n  receiver: x\n  group_wait: soon\nreceivers: [{name: x}]", "", `alertmanager.yml:3: not a valid duration string: "soon"`},
		"types":              {"route:\n  receiver: x\n  routes:\n  - matchers: [a: b]\n  - matchers: [c: d]\nreceivers: [{name: x}]", "", "into string\n"},
		"unknown field":      {"route: {receiver: x}\nreceivers:\n- name: x\n  nope: 1", "", "alertmanager.yml:4: field nope not found"},
		"receiver":           {"route:\n  receiver: x\n  routes:\n  - receiver: y\nreceivers: [{name: x}]", "", `alertmanager.yml:4: undefined receiver "y"`},
		"integration":        {slack + "text: x\n- name: y\n  email_configs:\n  - to: a@b", "", "alertmanager.yml:9: no global SMTP smarthost set"},
		"interval":           {"route:\n  receiver: x\n  routes:\n  - mute_time_intervals: [z]\nreceivers: [{name: x}]", "", `alertmanager.yml:4: undefined time interval "z"`},
		"inhibition":         {base + "inhibit_rules:\n- equal: [a]\n- source_matchers: ['a b c']", "", "alertmanager.yml:7: bad matcher format"},
		"no route":           {"receivers: [{name: x}]", "", "alertmanager.yml: no route"},
		"twice":              {"route: {receiver: x}\nreceivers:\n- name: x\n- name: x", "", "alertmanager.yml:4: notification config name"},
		"url":                {"route: {receiver: x}\nreceivers:\n- name: x\n  webhook_configs:\n  - url: 'http://u:p#geheim@h:x'", "", "alertmanager.yml:5: url: "},
		"templates in a key": {"route: {receiver: x}\nreceivers:\n- name: x\n  pagerduty_configs:\n  - routing_key: 'geheim{{ geheim }}'", "", "alertmanager.yml:5: routing_key: not a template"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if c.tmpl != "" {
				file(t, filepath.Join(dir, "t.tmpl"), c.tmpl)
			}
			err := Check(file(t, filepath.Join(dir, "alertmanager.yml"), c.yml), nil)
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "geheim") ||
				!strings.HasPrefix(err.Error(), dir) {
				t.Error(err)
			}
		})
	}
}

// standard has what a file for a real on-call rota has.
const standard = `
global:
  smtp_smarthost: 'mail.example.org:587'
  smtp_from: 'alerts@example.org'
  smtp_auth_username: 'alerts'
  smtp_auth_password: 'hunter2hunter2'
  resolve_timeout: 10m
templates: ['templates/*.tmpl']
route:
  receiver: team-mails
  group_by: ['alertname', 'cluster', 'service']
  group_wait: 30s
  group_interval: 5m
  repeat_interval: 3h
  routes:
  - matchers: [ service=~"^(foo1|foo2|baz)$" ]
    receiver: team-pager
    routes:
    - matchers: [ severity="critical" ]
      receiver: team-pager
      mute_time_intervals: [nights]
  - match: {owner: dba}
    match_re: {service: 'my.*'}
    receiver: team-mails
    active_time_intervals: [offices]
    continue: true
inhibit_rules:
- source_matchers: [ severity="critical" ]
  target_matchers: [ severity="warning" ]
  equal: ['alertname', 'cluster']
mute_time_intervals:
- name: nights
  time_intervals: [{times: [{start_time: '22:00', end_time: '24:00'}], location: 'Europe/Berlin'}]
time_intervals:
- name: offices
  time_intervals: [{weekdays: ['monday:friday']}]
receivers:
- name: team-mails
  email_configs:
  - to: 'team+{{ .CommonLabels.team }}@example.org'
    html: '{{ template "own.html" . }}'
    headers: {Subject: '{{ template "email.default.subject" . }}'}
- name: team-pager
  email_configs: [{to: pager@example.org, send_resolved: true}]
  pagerduty_configs: [{routing_key: 'abcdefabcdef', details: {first: '{{ (index .Alerts 5).Labels.x }}'}}]
  slack_configs: [{api_url: 'https://hooks.slack.invalid/services/T/B/C', channel: '#x', actions: [{type: button, text: go, url: '{{ .ExternalURL }}'}]}]
  webhook_configs: [{url: 'http://h.invalid/{{ .GroupLabels.x }}', payload: {a: ['{{ .Status }}', 1, true]}}]
`

func TestStandardFile(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "templates"), 0o700); err != nil {
		t.Fatal(err)
	}
	file(t, filepath.Join(dir, "templates", "own.tmpl"), `{{ define "own.html" }}<b>{{ range .Alerts.Firing }}{{ .Labels.alertname | toUpper }}{{ end }}</b>{{ end }}`)
	path := file(t, filepath.Join(dir, "alertmanager.yml"), standard)
	if err := Check(path, []string{"team-mails"}); err != nil {
		t.Error(err)
	}
	if err := Check(path, []string{"other"}); err == nil || !strings.Contains(err.Error(), `"other"`) {
		t.Error(err)
	}
	if err := Check("", []string{DefaultReceiver}); err != nil {
		t.Error(err)
	}
	start(t, Options{ConfigFile: path})
}
