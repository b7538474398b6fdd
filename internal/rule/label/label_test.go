package label_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"whodunit/internal/audit"
	"whodunit/internal/rule"
	"whodunit/internal/rule/label"
)

func load(t testing.TB, text string) ([]*rule.Rule, []string) {
	t.Helper()
	l := rule.Parse("l.yaml", []byte(text), label.New(label.Options{}))
	var problems []string
	for _, p := range l.Problems {
		problems = append(problems, p.Error())
	}
	return l.Rules, problems
}

func event(t testing.TB, verb, uri string, code int) audit.Event {
	t.Helper()
	ev, err := audit.Parse("c", fmt.Appendf(nil, `{"auditID":"a","stage":"ResponseComplete","verb":%q,"requestURI":%q,"user":{"username":"eve"},"responseStatus":{"code":%d}}`, verb, uri, code))
	if err != nil {
		t.Fatal(err)
	}
	return ev
}

// TestK8sCop holds the shipped example to what K8sCop labels, and to what it should have labelled.
func TestK8sCop(t *testing.T) {
	b, err := os.ReadFile("../../../examples/rules/k8scop-labels.yaml")
	if err != nil {
		t.Fatal(err)
	}
	rules, problems := load(t, string(b))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	for _, tt := range []struct {
		verb, uri string
		code      int
		want      string
	}{
		{"list", "/api/v1/pods", 200, "Enum"}, {"list", "/api/v1/pods?limit=500", 200, "Enum"}, {"list", "/api/v1/namespaces/kube-system/pods", 200, "Enum"},
		{"get", "/api/v1/namespaces/default/pods/busybox-test", 200, "Enum"}, {"get", "/api/v1/namespaces/default/pods/a.b.c", 200, "Enum"},
		{"create", "/api/v1/namespaces/default/pods", 201, "Tamper"}, {"create", "/api/v1/namespaces/default/pods?fieldManager=kubectl", 201, "Tamper"},
		{"create", "/api/v1/namespaces/default/pods", 403, ""}, {"delete", "/api/v1/namespaces/default/pods/x", 200, "Tamper"}, {"delete", "/api/v1/namespaces/default/pods/x", 404, ""},
		{"list", "/api/v1/secrets?limit=500", 200, "Secrets"}, {"get", "/api/v1/namespaces/default/secrets/exec-token-qjp9l", 200, "Secrets"},
		{"get", "/api/v1/namespaces/default/secrets/exec-token-qjp9l", 403, ""}, {"list", "/api/v1/namespaces/default/secrets?includeUninitialized=true", 200, "Secrets"},
		{"create", "/api/v1/namespaces/default/pods/x/exec?command=sh", 101, "Exec"}, {"get", "/api/v1/namespaces/default/pods/x/exec?command=sh", 101, "Exec"},
		{"get", "/api/v1/namespaces/default/pods/x/log", 200, ""}, {"list", "/apis/apps/v1/deployments", 200, ""},
	} {
		ev := event(t, tt.verb, tt.uri, tt.code)
		got := ""
		for _, r := range rules {
			if ok, err := r.Match(&ev); err != nil {
				t.Fatal(err)
			} else if ok {
				got += r.Title
			}
		}
		if got != tt.want {
			t.Errorf("%s %s %d: %q, want %q", tt.verb, tt.uri, tt.code, got, tt.want)
		}
	}
	ids := map[string]bool{}
	for _, r := range rules {
		if ids[r.ID] {
			t.Errorf("id %s twice", r.ID)
		}
		ids[r.ID] = true
	}
}

func TestSingle(t *testing.T) {
	rules, problems := load(t, "label: Deny\ndescription: refused\npriority: LOW\ncode: 4xx\nnot: {user.username: '^system:'}\nmessage: '{user.username} {verb}'\n---\nlabel: Bodies\nmatch: {requestObject.spec.image: [a, b]}\n")
	if len(problems) > 0 || len(rules) != 2 {
		t.Fatal(problems)
	}
	ev := event(t, "get", "/x", 403)
	r := rules[0]
	if ok, _ := r.Match(&ev); !ok || r.Text(&ev) != "eve get" || r.Severity != "low" || r.Priority != "LOW" || r.ID != "label.deny" || r.Title != "Deny" {
		t.Errorf("%t %q %+v", ok, r.Text(&ev), r)
	}
	ev = event(t, "get", "/x", 200)
	if ok, _ := r.Match(&ev); ok {
		t.Error("200 is no 4xx")
	}
	if rules[1].Level != audit.LevelRequest {
		t.Error(rules[1].Level)
	}
}

func TestProblems(t *testing.T) {
	_, problems := load(t, `labels:
  - label: A
    match: {requestUri: x}
  - label: B
    match: {verb: '('}
  - priority: urgent
    verb: get
  - label: C
  - label: D
    code: 40
    colour: red
  - {label: E, verb: get, enabled: no}
`)
	want := []string{
		`l.yaml:3:13: rule A: unknown field "requestUri" (did you mean "requestURI"?)`,
		"l.yaml:5:19: rule B: verb: not a regular expression: missing closing ): `(`",
		`l.yaml:6:5: no label; a word is expected`,
		`l.yaml:6:15: priority "urgent": one of info, low, medium, high, critical is expected`,
		`l.yaml:8:5: rule C: nothing to match; match, not, verb or code is expected`,
		`l.yaml:11:5: unknown field "colour" in label; one of label, id, description, priority, enabled, verb, code, match, not, message, tags, references is expected`,
		`l.yaml:10:11: rule D: code "40": a status such as 200 or 4xx is expected`,
		`l.yaml:12:36: rule E: enabled: true or false is expected`,
	}
	if diff := cmp.Diff(want, problems); diff != "" {
		t.Error(diff)
	}
}

// TestManyLabels: each of a file's labels is asked with all those before it, so their number is bounded where the first is to count.
func TestManyLabels(t *testing.T) {
	var b strings.Builder
	b.WriteString("labels:\n")
	for i := range 2001 {
		fmt.Fprintf(&b, "- {label: L%d, verb: v%d}\n", i, i)
	}
	rules, problems := load(t, b.String())
	if diff := cmp.Diff([]string{"l.yaml:2002:3: rule L2000: more than 2000 labels in one file; without first_match: false the rest is not read"}, problems); diff != "" || len(rules) != 2000 {
		t.Error(len(rules), diff)
	}
	if rules, problems = load(t, "first_match: false\n"+b.String()); len(rules) != 2001 || problems != nil {
		t.Error(len(rules), problems)
	}
	ev := event(t, "v1999", "/x", 200)
	if ok, err := rules[1999].Match(&ev); !ok || err != nil {
		t.Error(ok, err)
	}
}

func FuzzLoad(f *testing.F) {
	f.Add("labels: [{label: A, match: {verb: get}, code: [200, 4xx]}]\nfirst_match: false\n")
	f.Add("label: A\nnot: {user.username: [a, '(']}\n")
	f.Fuzz(func(t *testing.T, s string) {
		ev := event(t, "get", "/x", 200)
		rules, _ := load(t, s)
		for _, r := range rules {
			_, _ = r.Match(&ev)
			_ = r.Text(&ev)
		}
	})
}
