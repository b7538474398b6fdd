package parseable_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"whodunit/internal/audit"
	"whodunit/internal/match"
	"whodunit/internal/rule"
	"whodunit/internal/rule/parseable"
)

func load(text string, o parseable.Options) ([]*rule.Rule, []string) {
	l := rule.Parse("a.json", []byte(text), parseable.New(o))
	var problems []string
	for _, p := range l.Problems {
		problems = append(problems, p.Error())
	}
	return l.Rules, problems
}

func file(alerts ...string) string {
	return `{"version": "v1", "alerts": [` + strings.Join(alerts, ",\n") + `]}`
}

func alert(name, body string) string {
	return fmt.Sprintf(`{"name": %q, "message": "m", "rule": %s, "targets": [{"type": "webhook", "endpoint": "<put yours here>", "repeat": {"interval": "10s", "times": 5}}]}`, name, body)
}

func composite(text string) string { return fmt.Sprintf(`{"type": "composite", "config": %q}`, text) }

const event = `{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Request","auditID":"a","stage":"ResponseComplete","verb":"list",
"requestURI":"/api/v1/secrets","user":{"username":"system:serviceaccount:default:test-demo","groups":["system:serviceaccounts","dev"],"extra":{"a_b":["x"]}},
"objectRef":{"resource":"secrets","namespace":"default"},"responseStatus":{"code":200},"requestObject":{"spec":{"replicas":3,"host_network":true,"gone":null,"args":[["x"],"y"]}},
"annotations":{"authorization.k8s.io/decision":"allow"}}`

func TestComposite(t *testing.T) {
	ev, err := audit.Parse("c", []byte(event))
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]bool{
		`(verb =% "list" or verb =% "get") and (objectRef_resource = "secrets" and user_username !% "cloudyuga-test")`: true,
		`(verb =% "list" or verb =% "get") and (objectRef_resource = "secrets" and user_username !% "test-demo")`:      false,
		`verb="list"`: true, `verb = "LIST"`: false, `verb!="list"`: false, `verb != "get"`: true,
		`objectRef_name != "x"`: false, `objectRef_name !% "x"`: false, `!(objectRef_name = "x")`: true, `objectRef_name = ""`: false,
		`responseStatus_code >= 200`: true, `responseStatus_code > 200`: false, `responseStatus_code = 200`: true, `responseStatus_code != 200`: false, `responseStatus_code < 300`: true,
		`responseStatus_code <= 199`: false, `responseStatus_code = "200"`: true,
		`user_groups = "dev"`: true, `user_groups != "dev"`: true, `user_groups !% "e"`: false, `user_groups ~ "^d.v$"`: true,
		`requestObject_spec_replicas = 3`: true, `requestObject_spec_replicas < 3`: false, `requestObject_spec_host_network = "true"`: true, `requestObject_spec_gone = ""`: false,
		`requestObject_spec_gone != "x"`: false, `requestObject_spec_args = "x"`: true, `user_extra_a_b = "x"`: true, `requestObject_spec = "x"`: false,
		`verb = "get" or verb = "list" and stage = "none"`: false, `verb = "list" or verb = "get" and stage = "none"`: true,
		`(  verb = "list"  )`: true, "verb = \"list\"\n and\tstage ~ \"Complete\"": true, `requestURI = "\/api\/v1\/secrets"`: true,
	} {
		rules, problems := load(file(alert("x", composite(text))), parseable.Options{})
		if len(problems) > 0 || len(rules) != 1 {
			t.Errorf("%s: %v", text, problems)
			continue
		}
		if got, err := rules[0].Match(&ev); got != want || err != nil {
			t.Errorf("%s: %t %v, want %t", text, got, err, want)
		}
	}
}

func TestCompositeErrors(t *testing.T) {
	for text, want := range map[string]string{
		`verb`:                         `config: at character 5: an operator is expected, not ""`,
		`verb = list`:                  `config: at character 8: a text in double quotes or digits are expected, not "list"`,
		`verb = "x`:                    `config: at character 8: the text has no closing quote`,
		`verb = "x" AND verb = "y"`:    `config: at character 12: and, or, or the end is expected, not "AND verb = \"y\""`,
		`verb = "x"and verb = "y"`:     `config: at character 11: and, or, or the end is expected, not "and verb = \"y\""`,
		`(verb = "x"`:                  `config: at character 12: and, or, or ) is expected, not ""`,
		`vrb = "x"`:                    `config: at character 1: unknown column "vrb" (did you mean "verb"?)`,
		`verb =% 5`:                    `config: at character 10: operator =% does not fit a numeric value; one of equalTo notEqualTo greaterThan greaterThanEquals lessThan lessThanEquals = != > >= < <= is expected`,
		`verb ~ "("`:                   "config: at character 11: not a regular expression: missing closing ): `(`",
		`verb = "\x"`:                  `config: at character 9: only \" \\ \/ \n \r \t \b \f may follow a backslash`,
		``:                             `config: at character 1: a column name, ( or !( is expected, not ""`,
		strings.Repeat("(", 300):       `config: at character 201: nested deeper than 200`,
		`verb = "x" and or verb = "y"`: `config: at character 16: unknown column "or"`,
		`verb = "x" or ! (verb = "y")`: `config: at character 15: a column name, ( or !( is expected, not "! (verb = \"y\")"`,
		`responseStatus_code = -5`:     `config: at character 23: a text in double quotes or digits are expected, not "-5"`,
	} {
		_, problems := load(file(alert("x", composite(text))), parseable.Options{})
		if len(problems) != 1 || !strings.HasSuffix(problems[0], want) {
			t.Errorf("%s:\n%v\nwant %s", text, problems, want)
		}
	}
}

func TestColumn(t *testing.T) {
	ev, err := audit.Parse("c", []byte(event))
	if err != nil {
		t.Fatal(err)
	}
	for config, want := range map[string]bool{
		`{"column": "verb", "value": "is", "repeats": 1}`:                                                   true,
		`{"column": "verb", "value": "is"}`:                                                                 true,
		`{"column": "verb", "operator": "exact", "value": "LIST", "repeats": 3}`:                            false,
		`{"column": "verb", "operator": "exact", "value": "LIST", "repeats": 3, "ignoreCase": true}`:        true,
		`{"column": "verb", "operator": "=%", "value": "LI", "ignore_case": true}`:                          true,
		`{"column": "verb", "operator": "regex", "value": "LI", "ignoreCase": true}`:                        false,
		`{"column": "verb", "operator": "notContains", "value": "LI", "ignoreCase": true}`:                  false,
		`{"column": "responseStatus_code", "value": 200}`:                                                   true,
		`{"column": "responseStatus_code", "operator": "greaterThanEquals", "value": 400}`:                  false,
		`{"column": "responseStatus_code", "operator": "notEqualTo", "value": 404}`:                         true,
		`{"column": "annotations_authorization.k8s.io/decision", "operator": "exact", "value": "allow"}`:    true,
		`{"column": "annotations_authorization.k8s.io/decision", "operator": "notExact", "value": "allow"}`: false,
	} {
		rules, problems := load(file(alert("x", `{"type": "column", "config": `+config+`}`)), parseable.Options{})
		if len(problems) > 0 || len(rules) != 2 {
			t.Errorf("%s: %v", config, problems)
			continue
		}
		base, c := rules[0], rules[1].Correlation
		if !base.Silent || c == nil || c.Type != rule.Streak || c.Of[0] != base.ID || c.Conds[0].Value != map[bool]float64{true: 3, false: 1}[strings.Contains(config, "3,") || strings.Contains(config, "3}")] {
			t.Errorf("%s: %+v", config, c)
		}
		if got, err := base.Match(&ev); got != want || err != nil {
			t.Errorf("%s: %t %v, want %t", config, got, err, want)
		}
	}
}

func TestTree(t *testing.T) {
	ev, err := audit.Parse("c", []byte(event))
	if err != nil {
		t.Fatal(err)
	}
	rules, problems := load(file(alert("x", `{"type": "composite", "config": {"and": [
		{"or": [{"string": {"column": "verb", "operator": "=%", "value": "LIS", "ignoreCase": true}}, {"string": {"column": "verb", "operator": "exact", "value": "get"}}]},
		{"not": {"numeric": {"column": "responseStatus_code", "operator": ">=", "value": 400}}}]}}`)), parseable.Options{})
	if len(problems) > 0 || len(rules) != 1 {
		t.Fatal(problems)
	}
	if !match.Eval(rules[0].Expr, &ev) {
		t.Error(rules[0].Expr)
	}
}

func TestProblems(t *testing.T) {
	for name, tt := range map[string]struct {
		text string
		want []string
	}{
		"version":             {`{"version": "v2", "alerts": []}`, []string{`a.json:1:13: version "v2" is unknown; v1 is expected`}},
		"empty name":          {file(alert("", composite(`verb = "x"`))), []string{`a.json:1:39: name is empty; every alert needs one`}},
		"same name":           {file(alert("a", composite(`verb = "x"`)), alert("a", composite(`verb = "x"`))), []string{`a.json:2:10: rule a: name "a" is used already in this file`}},
		"nothing":             {file(`{"name": "a"}`), []string{"a.json:1:30: rule a: no message", "a.json:1:30: rule a: no targets; a list with at least one is expected", "a.json:1:30: rule a: no rule; {type: column|composite, config: …} is expected"}},
		"unknown placeholder": {file(strings.Replace(alert("a", composite(`verb = "x"`)), `"m"`, `"{verb} {usr_username}"`, 1)), []string{`a.json:1:55: rule a: unknown column "usr_username" (did you mean "user_username"?)`}},
		"repeats":             {file(alert("a", `{"type": "column", "config": {"column": "verb", "value": "x", "repeats": 0}}`)), []string{`a.json:1:141: rule a: repeats "0": a whole number from 1 is expected`}},
		"type":                {file(alert("a", `{"type": "colum", "config": {}}`)), []string{`a.json:1:77: rule a: type "colum": column or composite is expected (did you mean "column"?)`}},
		"not JSON":            {"{\"version\": \"v1\",\n\"alerts\": [}", []string{"a.json:2: not valid JSON: invalid character '}' looking for beginning of value"}},
	} {
		_, problems := load(tt.text, parseable.Options{})
		if diff := cmp.Diff(tt.want, problems); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestMessage(t *testing.T) {
	ev, err := audit.Parse("c", []byte(event))
	if err != nil {
		t.Fatal(err)
	}
	rules, problems := load(file(strings.Replace(alert("a", composite(`verb = "x"`)), `"m"`, `"{verb} by {user_username} of {user_groups}, {objectRef_name} {"`, 1)), parseable.Options{})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	if got, want := rules[0].Text(&ev), "list by system:serviceaccount:default:test-demo of system:serviceaccounts, dev, null {"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func FuzzComposite(f *testing.F) {
	f.Add(`(verb =% "list" or verb =% "get") and !(responseStatus_code >= 400)`)
	f.Add(`a~"("`)
	f.Fuzz(func(t *testing.T, s string) {
		ev, err := audit.Parse("c", []byte(event))
		if err != nil {
			t.Fatal(err)
		}
		rules, problems := load(file(alert("x", composite(s))), parseable.Options{Generic: true})
		if len(rules) == 0 && len(problems) == 0 {
			t.Fatalf("%q gives neither rule nor problem", s)
		}
		for _, r := range rules {
			_, _ = r.Match(&ev)
		}
	})
}
