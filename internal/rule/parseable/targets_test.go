package parseable_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"whodunit/internal/rule"
	"whodunit/internal/rule/parseable"
)

func targeted(targets string) string {
	return file(fmt.Sprintf(`{"name": "x", "message": "m", "rule": %s, "targets": [%s]}`, `{"type": "column", "config": {"column": "responseStatus_code", "operator": ">=", "value": 400, "repeats": 2}}`, targets))
}

func TestTargets(t *testing.T) {
	labels := map[string]string{"rule_type": "column", "rule_config_column": "responseStatus_code", "rule_config_operator": ">=", "rule_config_value": "400", "rule_config_repeats": "2"}
	for text, want := range map[string]rule.Target{
		`{"type": "slack", "endpoint": "https://hooks.example/T/s3cret"}`: {Type: "slack", Endpoint: "https://hooks.example/T/s3cret", Interval: 200 * time.Second, Times: 5},
		`{"type": "webhook", "endpoint": "<webhook.site_custom_endpoint>", "skip_tls_check": false, "repeat": {"interval": "10s", "times": 5}}`: {
			Type: "webhook", Endpoint: "<webhook.site_custom_endpoint>", Interval: 10 * time.Second, Times: 5},
		`{"type": "webhook", "endpoint": "http://h/", "skip_tls_check": true, "headers": {"Authorization": "Bearer x", "N": 5}, "repeat": {"interval": "1h 30m"}}`: {
			Type: "webhook", Endpoint: "http://h/", SkipTLSCheck: true, Headers: map[string]string{"Authorization": "Bearer x", "N": "5"}, Interval: 90 * time.Minute, Times: 5},
		`{"type": "alertmanager", "endpoint": "http://am/api/v2/alerts", "username": "u", "password": "p", "repeat": {"interval": "2d"}}`: {
			Type: "alertmanager", Endpoint: "http://am/api/v2/alerts", Username: "u", Password: "p", Interval: 48 * time.Hour, Times: -1, Labels: labels},
		`{"type": "alertmanager", "endpoint": "http://am/", "repeat": {"times": 0}}`: {Type: "alertmanager", Endpoint: "http://am/", Interval: 200 * time.Second, Labels: labels},
	} {
		rules, problems := load(targeted(text), parseable.Options{})
		if len(problems) > 0 || len(rules) != 2 {
			t.Errorf("%s: %v", text, problems)
			continue
		}
		if diff := cmp.Diff([]rule.Target{want}, rules[1].Targets); diff != "" {
			t.Errorf("%s: %s", text, diff)
		}
		if rules[0].Targets != nil || !rules[1].Correlation.Resolves {
			t.Errorf("%s: %v, %t", text, rules[0].Targets, rules[1].Correlation.Resolves)
		}
	}
}

func TestTargetProblems(t *testing.T) {
	for text, want := range map[string]string{
		`{"type": "webhook"}`: "no endpoint",
		`{"type": "webhook", "endpoint": "e", "skip_tls_check": "s3cret"}`:                       "skip_tls_check: true or false is expected",
		`{"type": "webhook", "endpoint": "e", "headers": ["s3cret"]}`:                            "headers: a mapping is expected",
		`{"type": "webhook", "endpoint": "e", "headers": {"A": ["s3cret"]}}`:                     `header "A": a text is expected`,
		`{"type": "alertmanager", "endpoint": "e", "password": ["s3cret"]}`:                      "password: a text is expected",
		`{"type": "slack", "endpoint": "s3cret", "password": "s3cret"}`:                          `unknown field "password" in slack target; one of type, endpoint, repeat is expected`,
		`{"type": "slack", "endpoint": "s3cret", "repeat": {"interval": "-5s"}}`:                 `interval "-5s": a duration such as 30s or 10m is expected`,
		`{"type": "slack", "endpoint": "s3cret", "repeat": {"interval": "9999999d"}}`:            `interval "9999999d": a duration such as 30s or 10m is expected`,
		`{"type": "slack", "endpoint": "s3cret", "repeat": {"interval": "99999d", "times": -1}}`: `times "-1": a whole number is expected`,
	} {
		_, problems := load(targeted(text), parseable.Options{})
		if got := strings.Join(problems, "; "); !strings.Contains(got, want) || strings.Contains(got, "s3cret") {
			t.Errorf("%s: %s\nwant %s", text, got, want)
		}
	}
}

func TestWords(t *testing.T) {
	for body, want := range map[string]string{
		composite(` (verb =% "list" or verb = "get") and user_username !% "x" `):                                       `(verb =% "list" or verb = "get") and user_username !% "x"`,
		`{"type": "column", "config": {"column": "user_username", "operator": "exact", "value": "eve", "repeats": 3}}`: "user_username column equal to eve, 3 times",
		`{"type": "column", "config": {"column": "verb", "value": "li"}}`:                                              "verb column containing li, 1 time",
		`{"type": "column", "config": {"column": "responseStatus_code", "operator": ">=", "value": 400}}`:              "responseStatus_code column greater than or equal to 400, 1 time",
		`{"type": "composite", "config": {"and": [{"or": [{"string": {"column": "verb", "value": "a\"\\b"}}, {"numeric": {"column": "responseStatus_code", "value": 4}}]}, {"not": {"string": {"column": "verb", "operator": "regex", "value": "x"}}}]}}`://
		`((verb =% "a\"\\b" or responseStatus_code = 4) and !(verb ~ "x"))`,
	} {
		rules, problems := load(file(alert("x", body)), parseable.Options{})
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		r := rules[len(rules)-1]
		if r.Description != want {
			t.Errorf("%s: %s", body, r.Description)
		}
		if r.Correlation != nil {
			continue
		}
		again, problems := load(file(alert("x", composite(r.Description))), parseable.Options{})
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		if diff := cmp.Diff(fmt.Sprint(r.Expr), fmt.Sprint(again[0].Expr)); diff != "" {
			t.Errorf("%s says something else: %s", r.Description, diff)
		}
	}
}
