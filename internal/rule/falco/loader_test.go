package falco

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"go.yaml.in/yaml/v3"

	"whodunit/internal/audit"
	"whodunit/internal/finding"
	"whodunit/internal/match"
	"whodunit/internal/rule"
)

// r is a rule in one line, with more keys behind it.
func r(name, condition string, more ...string) string {
	return fmt.Sprintf("- {rule: %s, desc: d, condition: %q, output: o, priority: warning, source: k8s_audit%s}\n", name, condition, strings.Join(append([]string{""}, more...), ", "))
}

// TestResolve: what rules come of lists, macros, appends and overrides; the expression tells.
func TestResolve(t *testing.T) {
	const verb = "- macro: m\n  condition: ka.verb=get\n"
	eq := func(v ...string) string { return "verb == \"" + strings.Join(v, "\"|\"") + "\"" }
	tests := []struct{ name, file, want string }{
		{"macro", verb + r("R", "m and not m"), "(" + eq("get") + " and not " + eq("get") + ")"},
		{"macro of a later definition", r("R", "m") + verb, eq("get")},
		{"macro defined again", verb + r("R", "m") + "- macro: m\n  condition: ka.verb=list\n", eq("list")},
		{"macro append", verb + r("R", "m") + "- macro: m\n  condition: or ka.verb=list\n  append: true\n", "(" + eq("get") + " or " + eq("list") + ")"},
		{"macro override", verb + r("R", "m") + "- macro: m\n  condition: or ka.verb=list\n  override: {condition: append}\n", "(" + eq("get") + " or " + eq("list") + ")"},
		{"macro override replace", verb + r("R", "m") + "- macro: m\n  condition: ka.verb=list\n  override: {condition: replace}\n", eq("list")},
		{"list", "- {list: l, items: [a, 'b c', 3]}\n" + r("R", "ka.verb in (l, x)"), eq("a", "b c", "3", "x")},
		{"list of lists", "- {list: k, items: [a]}\n- {list: l, items: [k, b]}\n- {list: n, items: [l, c]}\n" + r("R", "ka.verb in (n)"), eq("a", "b", "c")},
		{"list that comes later", r("R", "ka.verb in (l)") + "- {list: l, items: [k]}\n- {list: k, items: [a]}\n", eq("a")},
		{"empty list", "- {list: l, items: []}\n" + r("R", "ka.verb in (a, l, b) or ka.verb in (l)"), eq("a", "b")},
		{"list within itself", "- {list: l, items: [l, a]}\n" + r("R", "ka.verb in (l)"), eq("l", "a")},
		{"lists in a ring", "- {list: l, items: [k, a]}\n- {list: k, items: [l, b]}\n" + r("R", "ka.verb in (l)"), eq("l", "b", "a")},
		{"quoted names are texts", "- {list: l, items: [a]}\n" + r("R", "ka.verb in ('l')"), eq("l")},
		{"unknown names are texts", r("R", "ka.verb in (l)"), eq("l")},
		{"list of one", "- {list: l, items: [a]}\n" + r("R", "ka.verb = l"), eq("a")},
		{"items with commas, quotes and signs", "- {list: l, items: ['a,b', '\"x y\"', 'k=v']}\n" + r("R", "ka.verb in (l)"), eq("a", "b", "x y", "k=v")},
		{"list append", "- {list: l, items: [a]}\n" + r("R", "ka.verb in (l)") + "- {list: l, items: [b], append: true}\n- {list: l, items: [c], override: {items: append}}\n", eq("a", "b", "c")},
		{"list replace", "- {list: l, items: [a]}\n" + r("R", "ka.verb in (l)") + "- {list: l, items: [b]}\n- {list: l, items: [c], override: {items: replace}}\n", eq("c")},
		{"rule append", r("R", "ka.verb=a") + "- {rule: R, condition: or ka.verb=b, append: true}\n", "(" + eq("a") + " or " + eq("b") + ")"},
		{"rule override", r("R", "ka.verb=a") + "- {rule: R, condition: and ka.verb=b, override: {condition: append}}\n", "(" + eq("a") + " and " + eq("b") + ")"},
		{"rule replace", r("R", "ka.verb=a") + "- {rule: R, condition: ka.verb=b, override: {condition: replace}}\n", eq("b")},
		{"rule again", r("R", "ka.verb=a") + r("R", "ka.verb=b"), eq("b")},
		{"constants", r("R", "jevt.rawtime exists and (ka.verb=a or jevt.rawtime=0) and not (jevt.rawtime=0)"), eq("a")},
		{"never", r("R", "ka.verb=a and jevt.rawtime=0"), "false"},
		{"always", r("R", "ka.verb=a or jevt.rawtime exists"), "true"},
		{"exception", r("R", "ka.verb=a", "exceptions: [{name: x, fields: [ka.verb], comps: [endswith], values: [[b], [c]]}]"),
			"(" + eq("a") + " and not (verb endsWith \"b\" or verb endsWith \"c\"))"},
		{"exception by default", r("R", "ka.verb=a", "exceptions: [{name: x, fields: [ka.verb, ka.uri], values: [[b, c]]}]"),
			"(" + eq("a") + " and not (" + eq("b") + " and requestURI == \"c\"))"},
		{"exception of one field", r("R", "ka.verb=a", "exceptions: [{name: x, fields: ka.verb, values: [b, c d]}]"), "(" + eq("a") + " and not " + eq("b", "c d") + ")"},
		{"exception with a modifier", r("R", "ka.verb=a", "exceptions: [{name: x, fields: ka.verb, comps: startswith anyof, values: [b, c]}]"),
			"(" + eq("a") + " and not (verb startsWith \"b\" or verb startsWith \"c\"))"},
		{"exception of lists", r("R", "ka.verb=a", "exceptions: [{name: x, fields: [ka.verb, ka.uri], comps: [in, =], values: [[[b, c], d], [e, f], ['(g,h)', i]]}]"),
			"(" + eq("a") + " and not ((" + eq("b", "c") + " and requestURI == \"d\") or (" + eq("e") + " and requestURI == \"f\") or (" + eq("g", "h") + " and requestURI == \"i\")))"},
		{"exception of a list's name", "- {list: l, items: [b, c]}\n" + r("R", "ka.verb=a", "exceptions: [{name: x, fields: [ka.verb], comps: [in], values: [[l]]}]"), "(" + eq("a") + " and not " + eq("b", "c") + ")"},
		{"exception without values", r("R", "ka.verb=a", "exceptions: [{name: x, fields: [ka.verb], comps: [=]}]"), eq("a")},
		{"exceptions are of the whole condition", r("R", "ka.verb=a or ka.verb=b", "exceptions: [{name: x, fields: ka.uri, values: [c]}]"),
			"((" + eq("a") + " or " + eq("b") + ") and not requestURI == \"c\")"},
		{"exception values appended", r("R", "ka.verb=a", "exceptions: [{name: x, fields: ka.uri, values: [c]}]") + "- {rule: R, append: true, exceptions: [{name: x, values: [d]}]}\n",
			"(" + eq("a") + " and not requestURI == \"c\"|\"d\")"},
		{"exception appended", r("R", "ka.verb=a") + "- {rule: R, override: {exceptions: append}, exceptions: [{name: x, fields: ka.uri, values: [d]}]}\n", "(" + eq("a") + " and not requestURI == \"d\")"},
		{"exceptions replaced", r("R", "ka.verb=a", "exceptions: [{name: x, fields: ka.uri, values: [c]}]") + "- {rule: R, override: {exceptions: replace}, exceptions: [{name: x, fields: ka.uri, values: [d]}]}\n",
			"(" + eq("a") + " and not requestURI == \"d\")"},
		{"null documents and items", "---\n- \n- required_engine_version: 0.26.0\n" + r("R", "ka.verb=a") + "---\n", eq("a")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			rules, problems := load(t, map[string]string{"a.yaml": tt.file})
			if len(problems) > 0 || rules["R"] == nil {
				t.Fatal(problems)
			}
			if got := rules["R"].Expr.String(); got != tt.want {
				t.Errorf("%s\nwant %s", got, tt.want)
			}
		})
	}
}

// TestRule: what a rule says beside its condition.
func TestRule(t *testing.T) {
	file := "# head\n- rule: A Rule/2\n  desc: >\n    some\n    words\n  condition: ka.verb=a\n  output: x=%ka.verb\n  priority: info\n  tags: [k8s, b, k8s]\n  source: k8s_audit\n" +
		r("Two", "ka.req.pod.host_pid=true", "enabled: false") + "- {rule: S, desc: d, condition: evt.type=open and nonsense(, output: '%proc.name', priority: Debug}\n" + r("a rule 2", "ka.resp.name=x") +
		"- {rule: Two, enabled: true, override: {enabled: replace}}\n- {rule: a rule 2, enabled: false}\n" + r("skip", "ka.later.field=x", "skip-if-unknown-filter: true") + r("世界", "not ka.resp.name=x") +
		"- {rule: Two, priority: critical, tags: [z], output: p, desc: e, override: {priority: replace, tags: append, output: append, desc: append}}\n"
	f, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	loaded := rule.Parse("dir/a.yaml", []byte(file), f)
	for _, p := range loaded.Problems {
		t.Error(p)
	}
	type short struct {
		ID, Title, Desc, Priority, Off string
		Severity                       finding.Severity
		Tags                           []string
		Level                          audit.Level
		Order, Line, Column            int
	}
	var got []short
	for _, r := range loaded.Rules {
		got = append(got, short{r.ID, r.Title, r.Description, r.Priority, r.Off, r.Severity, r.Tags, r.Level, r.Order, r.Line, r.Column})
		if r.Format != "falco" || !r.PerEvent || r.Stages != nil || r.File != "dir/a.yaml" {
			t.Errorf("%+v", r)
		}
	}
	want := []short{
		{"falco.a-rule-2", "A Rule/2", "some words", "Informational", "", finding.Info, []string{"k8s", "b"}, audit.LevelMetadata, 0, 2, 3},
		{"falco.two", "Two", "d e", "Critical", "", finding.Critical, []string{"z"}, audit.LevelRequest, 1, 11, 3},
		{"falco.s", "S", "d", "Debug", `source "syscall" is not for audit events`, finding.Info, nil, audit.LevelMetadata, 2, 12, 3},
		{"falco.a-rule-2.b4f5ba6ec44f", "a rule 2", "d", "Warning", "enabled: false", finding.Medium, nil, audit.LevelRequestResponse, 3, 13, 3},
		{"falco.skip", "skip", "d", "Warning", `skip-if-unknown-filter: unknown field "ka.later.field"`, finding.Medium, nil, audit.LevelMetadata, 4, 16, 3},
		{"falco.ebe617a8b5a5", "世界", "d", "Warning", "", finding.Medium, nil, audit.LevelRequestResponse, 5, 17, 3},
	}
	for i := range min(len(got), len(want)) { // hashes are what they are
		if strings.Count(want[i].ID, ".") == 2 || want[i].Title == "世界" {
			want[i].ID = got[i].ID
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	set, twice := loaded.Set()
	if len(twice) > 0 || len(set.Rules()) != 3 {
		t.Error(len(set.Rules()), twice)
	}
}

// TestLevel: the lowest level that shows what a rule asks.
func TestLevel(t *testing.T) {
	for condition, want := range map[string]audit.Level{
		"ka.verb=a": audit.LevelMetadata, "ka.verb=a and ka.req.pod.host_pid=true": audit.LevelRequest, "ka.verb=a or ka.req.pod.host_pid=true": audit.LevelMetadata,
		"ka.req.pod.host_pid=true and (ka.resp.name=x or ka.verb=b)": audit.LevelRequest, "not (ka.verb=a or ka.req.pod.host_pid=true)": audit.LevelRequest,
		"not (ka.verb=a and ka.req.pod.host_pid=true)": audit.LevelMetadata, "jevt.value[/responseObject/x] exists": audit.LevelRequestResponse,
		"jevt.value[/requestObject/x] exists and (jevt.rawtime=0 or ka.verb=a)": audit.LevelRequest, "ka.resp.name=x or jevt.rawtime=0": audit.LevelRequestResponse,
		"ka.req.configmap.name=x": audit.LevelMetadata, "tolower(ka.resp.name)=val(ka.verb)": audit.LevelRequestResponse, "jevt.rawtime=0": audit.LevelMetadata,
	} {
		rules, problems := load(t, map[string]string{"a.yaml": r("R", condition)})
		if len(problems) > 0 || rules["R"].Level != want {
			t.Errorf("%s: %s, want %s %v", condition, rules["R"].Level, want, problems)
		}
	}
}

// TestLayers: later layers change what earlier ones define, and positions stay.
func TestLayers(t *testing.T) {
	f, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	fs := func(s string) fstest.MapFS { return fstest.MapFS{"a.yaml": &fstest.MapFile{Data: []byte(s)}} }
	loaded := rule.Load([]rule.Layer{
		{Name: "base", FS: fs("- {macro: m, condition: ka.verb=a}\n" + r("One", "m") + r("Two", "m") + r("Three", "m"))},
		{Name: "own", FS: fs("- {macro: m, condition: ka.verb=b}\n" + r("Two", "ka.uri=x") + "- {rule: Three, enabled: false}\n")},
	}, f)
	set, problems := loaded.Set()
	problems = append(problems, loaded.Problems...)
	var got []string
	for _, r := range set.Rules() {
		got = append(got, fmt.Sprint(r.Title, r.Order, r.Layer, r.File, r.Expr))
	}
	want := []string{`One0 0 base/a.yaml verb == "b"`, `Two1 1 own/a.yaml requestURI == "x"`}
	for i := range got {
		got[i] = strings.ReplaceAll(got[i], "\n", "")
	}
	if len(problems) > 0 || len(got) != 2 {
		t.Fatal(problems, got)
	}
	for i, g := range []*rule.Rule{set.Get("falco.one"), set.Get("falco.two")} {
		if s := fmt.Sprintf("%s%d %d %s %s", g.Title, g.Order, g.Layer, g.File, g.Expr); s != want[i] {
			t.Errorf("%s, want %s", s, want[i])
		}
	}
}

// TestProblems: every fault is told with its place, and stops no other rule.
func TestProblems(t *testing.T) {
	const head = "- rule: R\n  desc: d\n  output: o\n  priority: warning\n  source: k8s_audit\n"
	tests := []struct{ name, file, want string }{
		{"unknown field", head + "  condition: ka.verb=a and ka.user.nam=x\n", `a.yaml:6:28: rule falco.r: condition: unknown field "ka.user.nam" (did you mean "ka.user.name"?)`},
		{"in quotes", head + "  condition: 'ka.verb=a and ka.user.nam=x'\n", `a.yaml:6:29: rule falco.r: condition: unknown field "ka.user.nam" (did you mean "ka.user.name"?)`},
		{"in a block", head + "  condition: |\n    ka.verb=a and\n    (ka.verb=b or\n      ka.user.nam=x)\n", `a.yaml:9:7: rule falco.r: condition: unknown field "ka.user.nam" (did you mean "ka.user.name"?)`},
		{"in a folded line", head + "  condition: >\n    ka.verb=a and ka.user.nam=x\n  tags: [a]\n", `a.yaml:7:19: rule falco.r: condition: unknown field "ka.user.nam" (did you mean "ka.user.name"?)`},
		{"in folded lines", head + "  condition: >\n    ka.verb=a and " + strings.Repeat("ka.verb=b and ", 10) + "\n    ka.user.nam=x\n  tags: [a]\n", `a.yaml:6:14: rule falco.r: condition: unknown field "ka.user.nam" (did you mean "ka.user.name"?)`},
		{"appended", head + "  condition: ka.verb=a\n- rule: R\n  append: true\n  condition: and ka.user.nam=x\n", `a.yaml:9:18: rule falco.r: condition: unknown field "ka.user.nam" (did you mean "ka.user.name"?)`},
		{"syntax", head + "  condition: ka.verb=a && ka.verb=b\n", `a.yaml:6:24: rule falco.r: condition: "&&": and, or or the end is expected`},
		{"operator", head + "  condition: ka.verb equals a\n", `a.yaml:6:22: rule falco.r: condition: "equals": an operator is expected, one of exists <= < >= > == = != glob iglob contains icontains bcontains startswith bstartswith endswith regex intersects in pmatch`},
		{"macro", head + "  condition: pood\n- {macro: pod, condition: ka.verb=a}\n", `a.yaml:6:14: rule falco.r: condition: unknown macro "pood" (did you mean "pod"?)`},
		{"ring of macros", "- {macro: m, condition: n}\n- {macro: n, condition: not m}\n" + r("R", "m"),
			"a.yaml:2:29: macro n: macro m leads back to itself\na.yaml:3:34: rule falco.r: condition: macro m has an error, see a.yaml:2:29"},
		{"macro with a fault", "- {macro: m, condition: ka.x=1}\n- {macro: n, condition: m}\n" + r("R", "n"),
			"a.yaml:1:25: macro m: unknown field \"ka.x\"\na.yaml:3:34: rule falco.r: condition: macro n has an error, see a.yaml:1:25"},
		{"macro that nothing uses", "- {macro: m, condition: ka.verb =}\n", "a.yaml:1:34: macro m: the condition ends: a text is expected"},
		{"output", head + "  condition: ka.verb=a\n- {rule: R, output: 'x %ka.user.nam y', override: {output: replace}}\n", `a.yaml:7:25: rule falco.r: output: unknown field "ka.user.nam" (did you mean "ka.user.name"?)`},
		{"priority", r("R", "ka.verb=a", "priority: x"), ""},
		{"word for a priority", strings.Replace(head, "warning", "warnin", 1) + "  condition: ka.verb=a\n",
			`a.yaml:4:13: rule falco.r: "warnin": one of Emergency, Alert, Critical, Error, Warning, Notice, Informational, Debug is expected (did you mean "Warning"?)`},
		{"missing keys", "- rule: R\n  condition: ka.verb=a\n", "a.yaml:1:3: rule falco.r: no output; a rule, macro or list needs all of its keys\n" +
			"a.yaml:1:3: rule falco.r: no desc; a rule, macro or list needs all of its keys\na.yaml:1:3: rule falco.r: no priority; a rule, macro or list needs all of its keys"},
		{"unknown key", "- {list: l, item: [a], items: []}\n", `a.yaml:1:13: unknown key "item" in list; one of list, items, append, override is expected (did you mean "items"?)`},
		{"key twice", "- {list: l, items: [a], items: []}\n", `a.yaml:1:25: key "items" stands twice in list`},
		{"no item", "- {ruel: R}\n- {list: l, items: []}\n", `a.yaml:1:3: a mapping with one of rule, macro, list, required_engine_version, required_plugin_versions is expected (did you mean "rule"?)`},
		{"append to nothing", r("Some Rule", "ka.verb=a") + "- {rule: Some Rul, condition: x, append: true}\n", `a.yaml:2:10: rule falco.some-rul: there is no rule "Some Rul" before this one that it could change (did you mean "Some Rule"?)`},
		{"append to what is bad", "- {list: 'a b', items: []}\n- {list: 'a b', items: [], append: true}\n", "a.yaml:1:10: list \"a b\": a name without blanks, quotes, parentheses, commas and = is expected\n" +
			"a.yaml:2:10: list \"a b\": a name without blanks, quotes, parentheses, commas and = is expected"},
		{"append and override", "- {list: l, items: []}\n- {list: l, items: [], append: true, override: {items: append}}\n", "a.yaml:2:48: append and override cannot stand together"},
		{"override of nothing", head + "  condition: ka.verb=a\n- {rule: R, desc: d, override: {output: append}}\n",
			"a.yaml:7:33: rule falco.r: override: output is to be overridden, but it is not there"},
		{"override that is not said", head + "  condition: ka.verb=a\n- {rule: R, desc: d, output: x, override: {output: append}}\n", "a.yaml:7:13: rule falco.r: desc stands here, but override says nothing of it"},
		{"append to a priority", head + "  condition: ka.verb=a\n- {rule: R, priority: info, override: {priority: append}}\n", "a.yaml:7:50: rule falco.r: override: priority cannot be appended to; replace is expected"},
		{"source changes", r("R", "ka.verb=a") + "- {rule: R, desc: d, condition: a, output: o, priority: info}\n", `a.yaml:2:3: rule falco.r: rule is defined again with source "syscall"; it was "k8s_audit"`},
		{"exception's field", r("R", "ka.verb=a", "exceptions: [{name: x, fields: [ka.x], values: [[b]]}]"), `a.yaml:1:108: rule falco.r: exception "x": unknown field "ka.x"`},
		{"exception's operator", r("R", "ka.verb=a", "exceptions: [{name: x, fields: [ka.verb], comps: [ends], values: [[b]]}]"),
			`a.yaml:1:108: rule falco.r: exceptions: "x": unknown operator "ends"; one of <= < >= > == = != glob iglob contains icontains bcontains startswith bstartswith endswith regex intersects in pmatch is expected`},
		{"exception's lengths", r("R", "ka.verb=a", "exceptions: [{name: x, fields: [ka.verb, ka.uri], values: [[b]]}]"), `a.yaml:1:108: rule falco.r: exceptions: "x": each of the values must have as many parts as there are fields (2)`},
		{"exception of one field", r("R", "ka.verb=a", "exceptions: [{name: x, fields: ka.verb, comps: startswith, values: [b]}]"),
			`a.yaml:1:108: rule falco.r: exceptions: "x": for a single field comps must be in, pmatch, intersects, or an operator with oneof, anyof or allof`},
		{"no list", "rule: R\n", "a.yaml:1:1: a list of rules, macros and lists is expected"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			rules, problems := load(t, map[string]string{"a.yaml": tt.file, "b.yaml": r("Good", "ka.verb=a")})
			if rules["Good"] == nil {
				t.Error("the other rule is gone")
			}
			slices.Sort(problems)
			want := strings.Split(tt.want, "\n")
			slices.Sort(want)
			if tt.want == "" { // a key twice
				want = problems[:1]
			}
			if diff := cmp.Diff(want, problems); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestBombs: rules that would grow without bounds are refused, soon.
func TestBombs(t *testing.T) {
	var macros, lists, wide, ring, distinct strings.Builder
	macros.WriteString("- {macro: m0, condition: ka.verb=a}\n")
	lists.WriteString("- {list: l0, items: [a, b]}\n")
	for i := range 100 {
		fmt.Fprintf(&macros, "- {macro: m%d, condition: m%d or not (m%d and ka.uri=x%d)}\n", i+1, i, i, i)
		fmt.Fprintf(&lists, "- {list: l%d, items: [l%d, l%d, l%d]}\n", i+1, i, i, i)
	}
	var chain strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&chain, "- {list: l%d, items: [l%d]}\n", i+1, i)
		fmt.Fprintf(&ring, "- {macro: m%d, condition: not m%d}\n", i, i+1)
		fmt.Fprintf(&distinct, "- {list: l%d, items: [l%d, x%d]}\n", i+1, i, i)
		fmt.Fprintf(&wide, "- {macro: m%d, condition: m%d or ka.uri=x%d}\n", i+1, i, i)
	}
	wide.WriteString("- {macro: m0, condition: ka.verb=a}\n")
	huge := strings.Repeat("ka.verb=a or ", 60_000) + "ka.verb=b"
	appends := r("R", "ka.verb=a") + strings.Repeat("- {rule: R, condition: and ka.verb=a, desc: d, tags: [x], exceptions: [], override: {condition: append, desc: append, tags: append, exceptions: append}}\n", 20_000)
	for name, tt := range map[string]struct {
		file string
		good bool
	}{
		"macros": {macros.String() + r("R", "m100"), false}, "lists": {lists.String() + r("R", "ka.verb in (l100)"), true}, "deep macros": {ring.String() + r("R", "m0"), false},
		"chain of lists": {chain.String() + r("R", "ka.verb in (l5000)"), false}, "short chain of lists": {chain.String() + r("R", "ka.verb in (l400)"), true},
		"growing lists": {distinct.String() + r("R", "ka.verb in (l5000)"), false}, "growing macros": {wide.String() + r("R", "m5000"), false}, "one huge condition": {r("R", huge), false},
		"nesting": {r("R", strings.Repeat("not (", 5000)+"ka.verb=a"+strings.Repeat(")", 5000)), false}, "appends": {appends, false},
		"regex": {r("R", "ka.uri regex '((a{30}){30}b{900}){1}(x|y){900}'"), true}, "many of a regex": {r("R", "ka.uri regex '"+strings.Repeat("(abcdefgh){900}", 30)+"'"), false}, "long regex": {r("R", "ka.uri regex '"+strings.Repeat("a", 5000)+"'"), false},
		"function": {r("R", "concat("+strings.Repeat("ka.uri,", 2000)+"ka.uri) = x"), false}, "nested lists": {r("R", "ka.verb in "+strings.Repeat("(", 5000)+"a"+strings.Repeat(")", 5000)), false},
	} {
		start := time.Now()
		rules, problems := load(t, map[string]string{"a.yaml": tt.file, "b.yaml": r("Good", "ka.verb=a")})
		if rules["Good"] == nil || tt.good != (len(problems) == 0) {
			t.Errorf("%s: %.300v", name, problems)
		}
		if d := time.Since(start); d > 20*time.Second {
			t.Errorf("%s takes %v", name, d)
		} else {
			t.Logf("%s: %v, %d problems", name, d, len(problems))
		}
	}
}

func TestClaims(t *testing.T) {
	f, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	for s, want := range map[string]bool{
		"- rule: x": true, "- macro: x": true, "- list: x": true, "- required_engine_version: 1": true, "- required_plugin_versions: []": true, "- \n- rule: x": true,
		"rule: x": true, "- x: y": false, "id: x\nlist: [y]": false, "[]": false, "- rule": false, "id: x\ncondition: y": false, "[{a: b}, [rule]]": false,
	} {
		var n yaml.Node
		if err := yaml.Unmarshal([]byte(s), &n); err != nil {
			t.Fatal(s, err)
		}
		if got := f.Claims(n.Content[0]); got != want {
			t.Errorf("%q: %t", s, got)
		}
	}
	if _, err := New(Options{Compat: "both"}); err == nil {
		t.Error("an unknown word is taken")
	}
}

// TestEngine holds the engine against the interpreter, over the published rules and recorded events.
func TestEngine(t *testing.T) {
	for _, compat := range []string{Corrected, Upstream} {
		t.Run(compat, func(t *testing.T) { testEngine(t, loadFiles(t, compat, "k8s_audit_rules.yaml")) })
	}
}

func testEngine(t *testing.T, rules []*rule.Rule) {
	exprs := make([]match.Expr, len(rules))
	for i, r := range rules {
		exprs[i] = r.Expr
	}
	e, err := match.NewEngine(exprs, match.EngineOptions{})
	if err != nil {
		t.Fatal(err)
	}
	m := e.Matcher()
	recorded(t, "edge-1.36.log.zst", func(line []byte, ev *audit.Event) {
		var want []int
		for i, x := range exprs {
			if match.Eval(x, ev) {
				want = append(want, i)
			}
		}
		if got := m.Match(ev, nil); !slices.Equal(got, want) {
			t.Fatalf("%v, want %v: %s", got, want, line)
		}
	})
}
