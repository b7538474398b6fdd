package native

import (
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"whodunit/internal/audit"
	"whodunit/internal/rule"
)

// loadLayers loads folders of files, a layer each.
func loadLayers(t testing.TB, layers ...map[string]string) (rules map[string]*rule.Rule, problems []string) {
	t.Helper()
	in := make([]rule.Layer, len(layers))
	for i, files := range layers {
		fsys := fstest.MapFS{}
		for name, text := range files {
			fsys[name] = &fstest.MapFile{Data: []byte(text)}
		}
		in[i] = rule.Layer{FS: fsys}
	}
	loaded := rule.Load(in, format(t))
	rules = map[string]*rule.Rule{}
	for _, r := range loaded.Rules {
		rules[r.ID] = r
	}
	for _, p := range loaded.Problems {
		problems = append(problems, p.Error())
	}
	return rules, problems
}

func matches(t *testing.T, r *rule.Rule, raw string) bool {
	t.Helper()
	ev := event(t, raw)
	ok, err := r.Match(&ev)
	if err != nil {
		t.Errorf("rule %s: %v", r.ID, err)
	}
	return ok
}

const torRule = `
id: tor
lists: [tor_exits]
condition: inCIDR(peer, lists.tor_exits) && peer != "" && !glob(verb, ["x"])
tests:
- {name: one, match: true, lists: {tor_exits: ["198.51.100.0/24"]}, event: {sourceIPs: ["198.51.100.7"]}}
- {name: none, match: false, event: {sourceIPs: ["198.51.100.7"]}}
`

func TestLists(t *testing.T) {
	rules, problems := loadLayers(t, map[string]string{"a.yaml": torRule})
	r := rules["tor"]
	if problems != nil || r == nil || r.Off != "list tor_exits is not given or empty" {
		t.Fatal(problems, r)
	}
	if failed := r.RunTests(); failed != nil {
		t.Error(failed)
	}
	rules, problems = loadLayers(t, map[string]string{"a.yaml": torRule, "l.yaml": "lists: {tor_exits: [\"9.9.9.9\"], other: []}\n"},
		map[string]string{"x/l.yaml": "lists:\n  tor_exits: {file: tor.txt}\n", "x/tor.txt": "\ufeff# exits\r\n1.2.3.4 # one\r\n\n 5.6.0.0/16\n"})
	r = rules["tor"]
	if problems != nil || r.Off != "" {
		t.Fatal(problems, r.Off)
	}
	for ip, want := range map[string]bool{"1.2.3.4": true, "5.6.7.8": true, "9.9.9.9": false} {
		if got := matches(t, r, `{"sourceIPs":["`+ip+`"]}`); got != want {
			t.Errorf("%s: %t", ip, got)
		}
	}
	if failed := r.RunTests(); failed != nil {
		t.Error(failed)
	}
}

func TestListsOfNetworks(t *testing.T) {
	rules, problems := loadLayers(t, map[string]string{"a.yaml": torRule + "---\nid: b\nlists: [tor_exits]\ncondition: requestObject == null && inCIDR(peer, lists.tor_exits)\n", "l.yaml": "lists: {tor_exits: [\"9.9.9.9\", x.y, \"8.8.8.8\"]}\n"})
	if want := []string{`l.yaml:1:9: list tor_exits: "x.y" is neither a network nor an address; rules that ask for networks go on without it`}; !cmp.Equal(problems, want) {
		t.Error(problems)
	}
	for _, id := range []string{"tor", "b"} {
		if !matches(t, rules[id], `{"sourceIPs":["8.8.8.8"]}`) || matches(t, rules[id], `{"sourceIPs":["7.7.7.7"]}`) {
			t.Errorf("rule %s", id)
		}
	}
}

func TestOverrides(t *testing.T) {
	const shipped = "id: exec\nseverity: high\nparams: {allowed: [a], n: 3}\ncondition: '!(user.username in params.allowed) && responseStatus.code > params.n'\n" +
		"tests:\n- {name: b, match: true, event: {user: {username: b}, responseStatus: {code: 4}}}\n---\nid: other\ncondition: verb == 'get'\n---\nid: third\nenabled: false\ncondition: 'true'\n"
	rules, problems := loadLayers(t, map[string]string{"a.yaml": shipped}, map[string]string{
		"o.yaml": "overrides:\n  exec: {params: {allowed: [b]}, severity: low}\n  other: {enabled: false}\n  third: {enabled: true}\n"})
	if problems != nil {
		t.Fatal(problems)
	}
	r := rules["exec"]
	if r.Severity != "low" || matches(t, r, `{"user":{"username":"b"},"responseStatus":{"code":4}}`) || !matches(t, r, `{"user":{"username":"a"},"responseStatus":{"code":4}}`) {
		t.Errorf("exec is not overridden: %+v", r)
	}
	if failed := r.RunTests(); failed != nil {
		t.Error(failed)
	}
	if rules["other"].Off == "" || rules["third"].Off != "" {
		t.Error("enabled is not overridden")
	}
}

func TestCorrelations(t *testing.T) {
	rules, problems := loadLayers(t, map[string]string{"a.yaml": `
id: burst
title: Burst
group_by: [peer]
condition: responseStatus.code == 403
count: {over: 5m, by: [user.username, peer], at_least: 10, less_than: 20, quiet: 1h}
tests:
- {name: ten, match: true, repeat: 10, every: 2s, message: x, events: [{verb: "get-{n}", auditID: "a{n}", user: {username: m}, responseStatus: {code: 403}}]}
- {name: mixed, match: false, events: [{verb: a}, {wait: 1d}, {repeat: 2, every: 0s, events: [{verb: "{n}"}]}, {verb: b, stageTimestamp: "2027-01-01T00:00:00Z"}]}
---
id: harvest
condition: objectRef.resource == 'secrets' && requestObject.x == 1
distinct: {of: [objectRef.name, objectRef.namespace], over: 10m, by: user.username, more_than: 3}
---
id: fresh
rules: []
---
id: fresh2
first_seen: {of: [user.username, userAgent], within: 7d, rules: [burst, "falco:x"]}
---
id: seq
sequence: {over: 5m, ordered: false, steps: [{name: rbac, condition: verb == 'create'}, {rule: other}, {condition: verb == 'get'}]}
`})
	if want := []string{
		`a.yaml:16:1: rule fresh: unknown field "rules" in rule; one of id, title, description, severity, tags, level, stages, params, condition, message, group_by, enabled, per_event, silent, references, runbook, actions, false_positives, tests, lists, count, distinct, first_seen, sequence is expected`,
		`a.yaml:15:1: rule fresh: no condition; a CEL expression is expected`,
	}; !cmp.Equal(problems, want) {
		t.Error(cmp.Diff(want, problems))
	}
	key := func(paths ...string) (out []rule.Key) {
		for _, p := range paths {
			out = append(out, rule.Key{Name: p, Path: p})
		}
		return out
	}
	for id, want := range map[string]*rule.Correlation{
		"burst": {Type: rule.EventCount, Of: []string{"burst#1"}, GroupBy: key("user.username", "peer"), Timespan: 5 * time.Minute, Quiet: time.Hour,
			Conds: []rule.Compare{{Op: "gte", Value: 10}, {Op: "lt", Value: 20}}},
		"harvest": {Type: rule.ValueCount, Of: []string{"harvest#1"}, GroupBy: key("user.username"), Fields: key("objectRef.name", "objectRef.namespace"),
			Timespan: 10 * time.Minute, Conds: []rule.Compare{{Op: "gt", Value: 3}}},
		"fresh2": {Type: rule.FirstSeen, Of: []string{"burst", "falco:x"}, GroupBy: key("user.username", "userAgent"), Timespan: 7 * 24 * time.Hour, Baseline: 24 * time.Hour},
		"seq":    {Type: rule.Temporal, Of: []string{"seq#1", "other", "seq#2"}, Names: []string{"rbac", "other", "step3"}, Timespan: 5 * time.Minute},
	} {
		r := rules[id]
		if r == nil {
			t.Errorf("no rule %s", id)
			continue
		}
		if diff := cmp.Diff(want, r.Correlation); diff != "" {
			t.Errorf("%s: %s", id, diff)
		}
		if r.Expr != nil || r.Condition != nil {
			t.Errorf("%s has a condition of its own", id)
		}
	}
	base := rules["burst#1"]
	if base == nil || !base.Silent || !matches(t, base, `{"responseStatus":{"code":403}}`) || matches(t, base, `{"responseStatus":{"code":200}}`) {
		t.Errorf("burst#1: %+v", base)
	}
	if got := rules["harvest"].GroupBy; !cmp.Equal(got, []string{"user.username"}) {
		t.Errorf("harvest groups by %q", got)
	}
	checkEvents(t, rules["burst"].Tests)
}

func checkEvents(t *testing.T, tests []rule.Test) {
	t.Helper()
	var got [][]string
	for _, tt := range tests {
		var times []string
		for i := range tt.Events {
			ev := &tt.Events[i]
			times = append(times, ev.Time().Format(time.RFC3339)+" "+ev.Verb+" "+strings.TrimLeft(ev.AuditID, "0-4"))
		}
		got = append(got, times)
	}
	want := [][]string{{}, {"2026-01-01T00:00:00Z a 8000-000000000000", "2026-01-02T00:00:01Z 1 8000-000000000001", "2026-01-02T00:00:01Z 2 8000-000000000002",
		"2027-01-01T00:00:00Z b 8000-000000000003"}}
	if len(got) != 2 || len(got[0]) != 10 || got[0][9] != "2026-01-01T00:00:18Z get-10 a10" || !cmp.Equal(got[1], want[1]) {
		t.Errorf("events: %v", cmp.Diff(want, got))
	}
	if tests[0].Events[0].Stage != audit.StageResponseComplete {
		t.Error("no stage")
	}
}

func TestSyntaxProblems(t *testing.T) {
	const ok = "id: r\nparams: {a: [x]}\ncondition: verb == 'get'\n---\n"
	for text, want := range map[string][]string{
		"id: x\nlists: [a, a, 'b c']\ncondition: glob(verb, lists.aa)\n": {
			`a.yaml:2:12: rule x: lists: "a" stands twice`, `a.yaml:2:15: rule x: lists: the name "b c": letters, digits and _ are expected`},
		"id: x\nlists: [abc]\ncondition: glob(verb, lists.abd)\n": {
			`a.yaml:3:28: rule x: condition: unknown list "lists.abd" in condition; one that the rule names under lists is expected (did you mean "lists.abc"?)`},
		"lists: {a: {fil: x}, b: 3}\n": {
			`a.yaml:1:13: unknown field "fil" in list a; one of file is expected (did you mean "file"?)`, `a.yaml:1:25: a list is expected, not the scalar "3"`},
		"lists: {a: {file: ../x}, b: {file: nope.txt}}\nx: 1\n": {
			`a.yaml:1:19: file "../x": a path below the rules' folder is expected, as seen from this file`, `a.yaml:1:36: cannot read list: open nope.txt: file does not exist`,
			`a.yaml:2:1: unknown field "x" in lists and overrides; one of lists, overrides is expected`},
		"lists: {a: [x]}\n---\nlists: {a: [x]}\n": {`a.yaml:3:9: list a is given already at a.yaml:1:9`},
		ok + "overrides:\n  s: {}\n  r: {params: {b: 1}, severity: lo}\n": {`a.yaml:7:33: "lo": one of info, low, medium, high, critical is expected (did you mean "low"?)`,
			`a.yaml:6:3: overrides: no native rule has the id "s" (did you mean "r"?)`},
		ok + "overrides: {r: {params: {b: [y]}}}\n": {`a.yaml:5:26: overrides: rule r has no param "b" (did you mean "a"?)`},
		ok + "overrides: {r: {params: {a: y}}}\n":   {`a.yaml:5:26: overrides: param "a" of rule r is a list, not a string`},
		"id: x\ncondition: verb == 'get'\ncount: {over: 5, by: [user.nme], at_lest: 3}\n": {
			`a.yaml:3:15: rule x: "5": a duration such as 30s, 5m, 1h30m, 7d or 2w is expected`,
			`a.yaml:3:23: rule x: path: unknown path "user.nme"`,
			`a.yaml:3:34: rule x: unknown field "at_lest" in count; one of quiet, over, by, rules, at_least, more_than, at_most, less_than, exactly is expected (did you mean "at_least"?)`},
		"id: x\ncondition: verb.matches('(')\n": {
			"a.yaml:2:24: rule x: condition: not a regular expression: error parsing regexp: missing closing ): `(`"},
		"id: x\ncondition: inCIDR(peer, ['1.2.3.4/33'])\n":     {`a.yaml:2:18: rule x: condition: "1.2.3.4/33" is neither a network nor an address`},
		"id: x\ncondition: verb == 'get'\ncount: {over: 5m}\n": {`a.yaml:3:8: rule x: count: none of at_least, more_than, at_most, less_than, exactly`},
		"id: x\ncount: {over: 5m, at_least: 3}\n":              {`a.yaml:2:8: rule x: count: no condition, and no rules; a condition beside it that says which events it looks at is expected`},
		"id: x\ncondition: verb == 'get'\nfirst_seen: {}\ncount: {over: 1w, at_least: -1}\n": {`a.yaml:3:13: rule x: first_seen: no within; a duration such as 5m or 7d is expected`,
			`a.yaml:3:13: rule x: first_seen: no of; a path or a list of paths is expected`,
			`a.yaml:4:8: rule x: count beside first_seen: a rule has one of count, distinct, first_seen, sequence`},
		"id: x\nsequence: {over: 5m, steps: [{condition: verb == 'get' && vrb == ''}, {condition: 'true', rule: x}]}\n": {
			`a.yaml:2:71: rule x: step: either condition or rule is expected`},
		"id: x\nsequence: {over: 5m, steps: [{condition: verb == 'get' && vrb == ''}, {rule: x}]}\n": {
			`a.yaml:2:59: rule x: condition: unknown name "vrb" in condition; a field of the audit event or a function is expected (did you mean "verb"?)`},
		"id: x\ncondition: verb == 'get'\ntests: [{name: a, match: true, events: [{}]}]\n": {
			`a.yaml:3:9: rule x: test "a": events, repeat and every are for rules that count, and this one looks at single events`},
		"id: x\ncondition: verb == 'get'\nmessage: 'a {correlation.number}'\n": {`a.yaml:3:10: rule x: message: unknown path "correlation.number"`},
	} {
		if _, problems := loadLayers(t, map[string]string{"a.yaml": text}); !cmp.Equal(problems, want) {
			t.Errorf("%s\n%s", text, cmp.Diff(want, problems))
		}
	}
}

func TestSwitchedOffWithoutCondition(t *testing.T) {
	rules, problems := loadLayers(t, map[string]string{"a.yaml": "id: x\ncondition: verb == 'get'\n"}, map[string]string{"a.yaml": "id: x\nenabled: false\n"})
	if problems != nil || rules["x"].Off != "enabled: false" || matches(t, rules["x"], bare) {
		t.Error(problems, rules["x"])
	}
}

func TestDurations(t *testing.T) {
	for s, want := range map[string]time.Duration{"5m": 5 * time.Minute, "1d": 24 * time.Hour, "1w2d3h4ms": 9*24*time.Hour + 3*time.Hour + 4*time.Millisecond, "0": 0, "1.5d": 36 * time.Hour} {
		if got, err := parseDuration(s); got != want || err != nil {
			t.Errorf("%s: %v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "5", "1h5", "-1d", "d", "1x", "200000d", "1.2.3d", "99999999w", "1h-5m"} {
		if got, err := parseDuration(s); err == nil && got >= 0 {
			t.Errorf("%s: %v", s, got)
		}
	}
}
