package rule_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/fstest"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"whodunit/internal/audit"
	"whodunit/internal/rule"
	"whodunit/internal/rule/native"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func format(t testing.TB) *native.Format {
	t.Helper()
	f, err := native.New()
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func load(t testing.TB, files map[string]string) (ids, problems []string) {
	fsys := fstest.MapFS{}
	for name, text := range files {
		fsys[name] = &fstest.MapFile{Data: []byte(text)}
	}
	loaded := rule.Load([]rule.Layer{{FS: fsys}}, format(t))
	for _, p := range loaded.Problems {
		problems = append(problems, p.Error())
	}
	set, twice := loaded.Set()
	for _, r := range set.Rules() {
		ids = append(ids, r.ID)
	}
	for _, p := range twice {
		problems = append(problems, p.Error())
	}
	return ids, problems
}

func TestLoad(t *testing.T) {
	const ok = "condition: verb == 'get'\n"
	bomb := "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
	for i := range 9 {
		bomb += fmt.Sprintf("a%d: &a%d [*a%d, *a%d, *a%d, *a%d, *a%d, *a%d, *a%d, *a%d, *a%d, *a%d]\n", i+1, i+1, i, i, i, i, i, i, i, i, i, i)
	}
	tests := []struct {
		name          string
		files         map[string]string
		ids, problems []string
	}{
		{"documents, folders, order, other names", map[string]string{
			"b/x.yml": "id: three\n" + ok, "a.yaml": "# head\nid: one\n" + ok + "---\n\n---\nid: two\n" + ok, "README.md": "id: no",
			"..data/a.yaml": "id: one\n" + ok, ".hidden.yaml": "id: no\n" + ok,
		}, []string{"one", "two", "three"}, nil},
		{"a syntax error costs one document", map[string]string{"a.yaml": "id: one\n" + ok + "---\nid: [\n---\nid: two\n" + ok},
			[]string{"one", "two"}, []string{"a.yaml:4: not valid YAML: did not find expected node content"}},
		{"unknown field", map[string]string{"a.yaml": "id: one\n" + ok + "titel: x\n"}, nil,
			[]string{`a.yaml:3:1: rule one: unknown field "titel" in rule; one of id, title, description, severity, tags, level, stages, params, condition, message, group_by, enabled, per_event, silent, references, runbook, actions, false_positives, tests, lists, count, distinct, first_seen, sequence is expected (did you mean "title"?)`}},
		{"unknown name in the condition", map[string]string{"a.yaml": "id: one\ncondition: verb == 'get' && objctRef.name == ''\n---\nid: two\n" + ok}, []string{"two"},
			[]string{`a.yaml:2:29: rule one: condition: unknown name "objctRef" in condition; a field of the audit event or a function is expected (did you mean "objectRef"?)`}},
		{"unknown header field, in a block", map[string]string{"a.yaml": "id: one\ncondition: |\n  verb == 'get' &&\n  user.usernme == ''\n"}, nil,
			[]string{`a.yaml:4:5: rule one: condition: unknown field "usernme" in condition (did you mean "username"?)`}},
		{"unknown function", map[string]string{"a.yaml": "id: one\ncondition: gloob(verb, 'x')\n"}, nil,
			[]string{`a.yaml:2:17: rule one: condition: unknown name "gloob" in condition; a field of the audit event or a function is expected (did you mean "glob"?)`}},
		{"not a condition", map[string]string{"a.yaml": "id: one\ncondition: verb\n"}, nil,
			[]string{`a.yaml:2:12: rule one: condition: condition gives a string; a bool is expected`}},
		{"no id, no condition", map[string]string{"a.yaml": "id: x\n", "b.yaml": "condtion: x\n"}, nil,
			[]string{"a.yaml:1:1: rule x: no condition; a CEL expression is expected",
				`b.yaml:1:1: unknown field "condtion" in rule; one of id, title, description, severity, tags, level, stages, params, condition, message, group_by, enabled, per_event, silent, references, runbook, actions, false_positives, tests, lists, count, distinct, first_seen, sequence is expected (did you mean "condition"?)`,
				"b.yaml:1:1: no id; every rule needs one", "b.yaml:1:1: no condition; a CEL expression is expected"}},
		{"directives", map[string]string{"a.yaml": "%YAML 1.2\n# head\n---\nid: one\n" + ok + "...\n---\nid: two\n" + ok + "titel: x\n"}, []string{"one"}, []string{
			`a.yaml:10:1: rule two: unknown field "titel" in rule; one of id, title, description, severity, tags, level, stages, params, condition, message, group_by, enabled, per_event, silent, references, runbook, actions, false_positives, tests, lists, count, distinct, first_seen, sequence is expected (did you mean "title"?)`}},
		{"large JSON", map[string]string{"a.json": "[" + strings.Repeat("1,", rule.MaxNodes) + "1]", "b.yaml": "id: one\n" + ok}, []string{"one"},
			[]string{"a.json:1: not valid JSON: more than 1000000 values"}},
		{"JSON", map[string]string{"a.json": "{\n\t\"id\": \"one\",\n\t\"condition\": \"verb == 'get'\"\n}\n", "b.json": "{\n\"id\": \"one\",}"}, []string{"one"}, []string{
			"b.json:2: not valid JSON: invalid character '}' looking for beginning of object key string"}},
		{"a long text is cut", map[string]string{"a.yaml": "id: one\ncondition: verb.matches('" + strings.Repeat("(", 1000) + "')\n"}, nil, []string{
			"a.yaml:2:24: rule one: condition: not a regular expression: error parsing regexp: missing closing ): `" + strings.Repeat("(", 800-82) + "…"}},
		{"of no format", map[string]string{
			"a.yaml": "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\n", "b.yaml": "[1]\n", "c.yaml": "id: one\n" + ok + "---\nwords\n", "d.yaml": "{}\n",
			"e.json": `{"a": 1, "b": 2, "c": 3, "d": 4, "e": 5, "f": 6, "g": 7}`,
		}, []string{"one"}, []string{
			"a.yaml:1:1: no rule of any format (native): it is a mapping of apiVersion, kind, metadata", "b.yaml:1:1: no rule of any format (native): it is a list",
			"c.yaml:4:1: no rule of any format (native): it is a plain value", "d.yaml:1:1: no rule of any format (native): it is an empty mapping",
			"e.json:1:1: no rule of any format (native): it is a mapping of a, b, c, d, e, f, …"}},
		{"bad words", map[string]string{"a.yaml": "id: One\nseverity: hihg\nlevel: Response\nstages: [ResponseCompleted]\n" + ok}, nil, []string{
			`a.yaml:1:5: id "One": lower case letters, digits, dots, dashes and underscores are expected, at most 128`,
			`a.yaml:2:11: "hihg": one of info, low, medium, high, critical is expected (did you mean "high"?)`,
			`a.yaml:3:8: "Response": one of Metadata, Request, RequestResponse is expected`,
			`a.yaml:4:10: "ResponseCompleted": one of RequestReceived, ResponseStarted, ResponseComplete, Panic is expected (did you mean "ResponseComplete"?)`}},
		{"same id", map[string]string{"a.yaml": "id: one\n" + ok, "b.yaml": "id: one\n" + ok}, []string{"one"},
			[]string{"b.yaml:1:1: rule one: id is used already at a.yaml:1:1; every rule needs an id of its own"}},
		{"field twice", map[string]string{"a.yaml": "id: one\nid: two\n" + ok}, nil, []string{`a.yaml:2:1: rule one: field "id" stands twice in rule`}},
		{"message and group_by", map[string]string{"a.yaml": "id: one\nmessage: '{user.name}'\ngroup_by: [verb, objectref.name]\n" + ok}, nil, []string{
			`a.yaml:2:10: rule one: message: unknown path "user.name"`, `a.yaml:3:18: rule one: group_by: unknown path "objectref.name" (did you mean "objectRef.name"?)`}},
		{"alias bomb", map[string]string{"a.yaml": bomb + "id: x\n", "b.yaml": "id: one\n" + ok}, []string{"one"},
			[]string{"a.yaml:1: document is too large: its aliases expand to more than 1000000 values"}},
		{"alias of itself", map[string]string{"a.yaml": "id: one\n" + ok + "tags: &t [*t]\n"}, nil, []string{"a.yaml:1: an alias contains itself"}},
		{"aliases", map[string]string{"a.yaml": "id: one\ntags: &t [a]\nreferences: *t\n" + ok}, []string{"one"}, nil},
		{"large file", map[string]string{"a.yaml": strings.Repeat("#", rule.MaxFileBytes+1), "b.yaml": "id: one\n" + ok}, []string{"one"},
			[]string{"a.yaml: cannot read: larger than 33554432 bytes"}},
		{"bad test", map[string]string{"a.yaml": "id: one\n" + ok + "tests:\n  - {name: x, match: true, event: {verb: [}}\n"}, nil, []string{"a.yaml:3: not valid YAML: did not find expected node content"}},
		{"disabled", map[string]string{"a.yaml": "id: one\nenabled: false\n" + ok}, nil, nil},
		{"params", map[string]string{"a.yaml": "id: one\nparams: {a: x, b: [y], c: 3, d: true}\ncondition: verb == params.a || verb in params.b || responseStatus.code > params.c || params.d\n"}, []string{"one"}, nil},
		{"unknown param", map[string]string{"a.yaml": "id: one\nparams: {pattern: x}\ncondition: verb == params.patern\n"}, nil,
			[]string{`a.yaml:3:26: rule one: condition: unknown name "params.patern" in condition; a field of the audit event or a function is expected (did you mean "params.pattern"?)`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ids, problems := load(t, tt.files)
			if diff := cmp.Diff(tt.ids, ids); diff != "" {
				t.Errorf("rules: %s", diff)
			}
			if diff := cmp.Diff(tt.problems, problems); diff != "" {
				t.Errorf("problems: %s", diff)
			}
		})
	}
}

func TestMessage(t *testing.T) {
	long := strings.Repeat("é", 5000)
	ev, err := audit.Parse("c", []byte(`{"auditID":"a","stage":"Panic","verb":"get","user":{"groups":["a","b"]},"userAgent":"`+long+`","requestURI":"\u001b[31m"}`))
	if err != nil {
		t.Fatal(err)
	}
	known := func(string) error { return nil }
	for template, want := range map[string]string{
		"{verb} {{x}} {user.groups} {objectRef.name} {objectRef.name|none}{objectRef.name|}": "get {x} a, b - none",
		"":                       "",
		"{cluster}/{requestURI}": "c/\x1b[31m",
		"{verb}{? in {objectRef.namespace}}{? of {user.groups}, {verb}}{? {verb} {objectRef.name}} [x]": "get of a, b, get [x]",
		"{correlation.events}{? in {correlation.seconds} s}":                                            "-",
	} {
		m, err := rule.ParseMessage(template, known)
		if err != nil {
			t.Fatal(template, err)
		}
		if got := m.Render(&ev); got != want {
			t.Errorf("%q gives %q, want %q", template, got, want)
		}
	}
	m, _ := rule.ParseMessage(strings.Repeat("{userAgent}", 100), known)
	if got := m.Render(&ev); len(got) > 4096 || len(got) < 4000 || !utf8.ValidString(got) {
		t.Errorf("long message: %d bytes, valid %t", len(got), utf8.ValidString(got))
	}
	for _, bad := range []string{"{verb", "verb}", "{", "}", "{? in {verb}", "{? a}", "{? {verb|x}}", "{? {? {verb}}}", strings.Repeat("{verb}", 20_000)} {
		if _, err := rule.ParseMessage(bad, known); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestNearest(t *testing.T) {
	for name, want := range map[string]string{"verbe": "verb", "USER": "user", "xyzzy": "", "": "", strings.Repeat("x", 1000): ""} {
		if got := rule.Nearest(name, []string{"verb", "user", "objectRef"}); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	nf := format(f)
	f.Add("id: one\ncondition: verb == 'get' && glob(user.username, 'x*')\nmessage: '{verb}'\ntests: [{name: x, match: true, event: {verb: get}}]\n")
	f.Add("a: &a [*a]\n---\nid: x\ncondition: |\n  a.b.c[\n--- x\n")
	f.Add("id: x\nparams: {a: [b]}\ncondition: requestObject.spec.containers.exists(c, c.x in params.a)\n")
	f.Fuzz(func(t *testing.T, s string) {
		out := rule.Parse("f.yaml", []byte(s), nf)
		for _, p := range out.Problems {
			if p.File != "f.yaml" || p.Text == "" {
				t.Errorf("problem %+v says too little", p)
			}
		}
		for _, r := range out.Rules {
			r.RunTests()
		}
	})
}

func TestMessageOfCorrelation(t *testing.T) {
	m, err := rule.ParseMessage("{verb} {correlation.number} {correlation.events}{? in {correlation.seconds} s}", func(string) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	if got, want := m.RenderFacts(&audit.Event{Verb: "get"}, rule.Facts{Number: 10.5, Events: 12, First: 1_000_000, Last: 61_999_999}), "get 10.5 12 in 60 s"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestReplacedCorrelationLeavesNothing(t *testing.T) {
	base, _ := rule.NewSet([]*rule.Rule{{ID: "a"}, {ID: "a#1", Silent: true}, {ID: "b#1"}, {ID: "b"}})
	set, problems := rule.Over(base, []*rule.Rule{{ID: "a", Off: "x"}, {ID: "b"}})
	var ids []string
	for _, r := range set.Rules() {
		ids = append(ids, r.ID)
	}
	if diff := cmp.Diff([]string{"b#1", "b"}, ids); diff != "" || problems != nil {
		t.Error(diff, problems)
	}
}
