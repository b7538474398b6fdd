package sigma_test

import (
	"strings"
	"testing"

	"whodunit/internal/audit"
	"whodunit/internal/rule"
	"whodunit/internal/rule/sigma"
)

var placeholders = map[string][]string{"admins": {"adm_*", "root"}, "one": {"x"}}

// load reads YAML and wants no problems.
func load(t testing.TB, o sigma.Options, y string) []*rule.Rule {
	t.Helper()
	out := rule.Parse("r.yml", []byte(y), sigma.New(o))
	for _, p := range out.Problems {
		t.Fatalf("%v\n%s", p, y)
	}
	return out.Rules
}

// detection is a rule of it, for any JSON.
func detection(t testing.TB, det string) *rule.Rule {
	t.Helper()
	y := "title: T\nsigma-version: 3\nlogsource: {product: x}\ndetection:\n  " + strings.ReplaceAll(strings.TrimSpace(det), "\n", "\n  ") + "\n"
	if !strings.Contains(det, "condition:") || strings.Contains(det, "  condition:") {
		y += "  condition: s\n"
	}
	return load(t, sigma.Options{Generic: true, Placeholders: placeholders}, y)[0]
}

func generic(t testing.TB, raw string) *audit.Event {
	t.Helper()
	ev, err := audit.Generic("c", []byte(raw))
	if err != nil {
		t.Fatalf("%v: %s", err, raw)
	}
	return &ev
}

func TestDetection(t *testing.T) {
	for _, c := range []struct {
		det     string
		yes, no []string
	}{
		{`s: {A: 'Foo'}`, []string{`{"A":"foo"}`, `{"A":["x","FOO"]}`, `{"a":"FOO"}`}, []string{`{"A":"foox"}`, `{}`, `{"A":null}`, `{"B":"foo"}`}},
		{`s: {A|cased: 'Foo'}`, []string{`{"A":"Foo"}`}, []string{`{"A":"foo"}`}},
		{`s: {A: [x, 'y*']}`, []string{`{"A":"X"}`, `{"A":"yz"}`}, []string{`{"A":"z"}`}},
		{`s: {A: 403}`, []string{`{"A":403}`, `{"A":"403"}`}, []string{`{"A":4030}`}},
		{`s: {A: '403'}`, []string{`{"A":403}`, `{"A":"403"}`}, []string{`{"A":40}`}},
		{`s: {A: 1.5}`, []string{`{"A":1.5}`, `{"A":"1.5"}`}, []string{`{"A":1}`}},
		{`s: {A: true}`, []string{`{"A":true}`, `{"A":"True"}`}, []string{`{"A":false}`}},
		{`s: {A: ''}`, []string{`{"A":""}`}, []string{`{}`, `{"A":null}`, `{"A":" "}`}},
		{`s: {A: null}`, []string{`{}`, `{"A":null}`}, []string{`{"A":""}`, `{"A":{"b":1}}`, `{"A":0}`}},
		{`s: {A: '*'}`, []string{`{"A":"x"}`, `{"A":0}`}, []string{`{}`, `{"A":null}`}},
		{`s: {A|exists: true}`, []string{`{"A":null}`, `{"A":""}`}, []string{`{}`}},
		{`s: {A|exists: false}`, []string{`{}`}, []string{`{"A":null}`}},
		{`s: {A|contains: 'b?d'}`, []string{`{"A":"xxBxdxx"}`}, []string{`{"A":"bd"}`}},
		{`s: {A|contains|all: [a, b]}`, []string{`{"A":"xbxa"}`}, []string{`{"A":"a"}`}},
		{`s: {A|startswith: ab}`, []string{`{"A":"ABc"}`}, []string{`{"A":"xab"}`}},
		{`s: {A|endswith: '\cmd.exe'}`, []string{`{"A":"C:\\Windows\\CMD.exe"}`}, []string{`{"A":"cmd.exe"}`}},
		{`s: {A: 'a\*b'}`, []string{`{"A":"a*b"}`}, []string{`{"A":"axb"}`}},
		{`s: {A: 'a\\*b'}`, []string{`{"A":"a\\xb"}`, `{"A":"a\\b"}`}, []string{`{"A":"a*b"}`}},
		{`s: {A: 'a\\\*b'}`, []string{`{"A":"a\\*b"}`}, []string{`{"A":"a\\xb"}`}},
		{`s: {A: 'a\?'}`, []string{`{"A":"a?"}`}, []string{`{"A":"ab"}`}},
		{`s: {A: 'C:\temp\x'}`, []string{`{"A":"c:\\temp\\x"}`}, nil},
		{`s: {A: 'a\\b'}`, []string{`{"A":"a\\b"}`}, []string{`{"A":"a\\\\b"}`}},
		{`s: {A: 'a\'}`, []string{`{"A":"a\\"}`}, nil},
		{`s: {A|re: 'b.d'}`, []string{`{"A":"xbxdx"}`}, []string{`{"A":"BXD"}`}},
		{`s: {A|re|i: 'b.d$'}`, []string{`{"A":"xBXD"}`}, []string{`{"A":"bxdx"}`}},
		{`s: {A|re|m: '^b'}`, []string{`{"A":"a\nb"}`}, nil},
		{`s: {A|re|s: 'a.b'}`, []string{`{"A":"a\nb"}`}, nil},
		{`s: {A|re: 'a.b'}`, nil, []string{`{"A":"a\nb"}`}},
		{`s: {A|cidr: [10.0.0.0/8, 'fd00::/8']}`, []string{`{"A":"10.1.2.3"}`, `{"A":"fd00::1"}`, `{"A":"::ffff:10.0.0.1"}`}, []string{`{"A":"11.0.0.1"}`, `{"A":"x"}`}},
		{`s: {A|gte: 5, A|lt: 7}`, []string{`{"A":5}`, `{"A":"6"}`}, []string{`{"A":7}`, `{"A":"x"}`, `{}`}},
		{`s: {A|lte: 5}`, []string{`{"A":5}`}, []string{`{"A":5.5}`}},
		{`s: {A|gt: -1.5}`, []string{`{"A":-1}`}, []string{`{"A":-2}`}},
		{`s: {A|neq: x}`, []string{`{"A":"y"}`, `{}`}, []string{`{"A":"X"}`}},
		{`s: {A|neq: [x, 1]}`, []string{`{"A":"y"}`}, []string{`{"A":1}`, `{"A":"x"}`}},
		{`s: {A|fieldref: B}`, []string{`{"A":"x","B":"X"}`}, []string{`{"A":"x","B":"y"}`, `{}`}},
		{`s: {A|fieldref|neq: B}`, []string{`{"A":"x","B":"y"}`}, []string{`{"A":"x","B":"X"}`}},
		{`s: {A|fieldref|startswith: B}`, []string{`{"A":"xyz","B":"xy"}`}, []string{`{"A":"yx","B":"x"}`}},
		{`s: {A|fieldref|endswith: B}`, []string{`{"A":"xyz","B":"YZ"}`}, []string{`{"A":"yx","B":"y"}`}},
		{`s: {A|contains|fieldref: B}`, []string{`{"A":"xyz","B":"y"}`}, []string{`{"A":"yx","B":"q"}`}},
		{`s: {A|hour: 13}`, []string{`{"A":"2025-01-06T13:59:59Z"}`, `{"A":"2025-01-06 13:00:00.123"}`}, []string{`{"A":"2025-01-06T14:00:00+01:00"}`, `{"A":"x"}`}},
		{`s: {A|minute: 59, A|day: 6, A|week: 2, A|month: 1, A|year: 2025}`, []string{`{"A":"2025-01-06T13:59:59Z"}`}, []string{`{"A":"2025-01-07T13:59:59Z"}`}},
		{`s: {A|hour|gte: 18}`, []string{`{"A":"2025-01-06T19:59:59Z"}`}, []string{`{"A":"2025-01-06T09:59:59Z"}`}},
		{`s: {A|windash|contains: ' -f '}`, []string{`{"A":"x -f y"}`, `{"A":"x /f y"}`, `{"A":"x –f y"}`, `{"A":"x —F y"}`, `{"A":"x ―f y"}`}, []string{`{"A":"x f y"}`}},
		{`s: {A|windash|contains|all: [' -f', ' /g']}`, []string{`{"A":"x /f -g"}`}, []string{`{"A":"x /f"}`}},
		{`s: {A|contains|windash: 'a-b'}`, []string{`{"A":"a-b"}`}, []string{`{"A":"a/b"}`}},
		{`s: {A|windash: '-a -b -c -d -e'}`, []string{`{"A":"/A -b /c –d /e"}`}, []string{`{"A":"x/A -b /c –d /e"}`}},
		{`s: {A|base64: 'foo'}`, []string{`{"A":"Zm9v"}`}, []string{`{"A":"foo"}`}},
		{`s: {A|base64offset|contains: 'http://'}`, []string{`{"A":"xaHR0cDovLx"}`, `{"A":"h0dHA6Ly"}`, `{"A":"odHRwOi8v"}`}, []string{`{"A":"http://"}`}},
		{`s: {A|wide|base64offset|contains: 'ping'}`, []string{`{"A":"cABpAG4AZw"}`, `{"A":"AAaQBuAGcA cABpAG4AZwA"}`}, []string{`{"A":"ping"}`}},
		{`s: {A|utf16|base64: 'a'}`, []string{`{"A":"//5hAA=="}`}, nil},
		{`s: {A|utf16be|base64: 'a'}`, []string{`{"A":"AGE="}`}, nil},
		{`s: {A|expand: '%admins%'}`, []string{`{"A":"ADM_x"}`, `{"A":"root"}`}, []string{`{"A":"%admins%"}`, `{"A":"x"}`}},
		{`s: {A|expand: '\%one%one%'}`, []string{`{"A":"%onex"}`}, nil},
		{`s: {A: '%admins%'}`, []string{`{"A":"%admins%"}`}, nil},
		{`s: [foo, 'b*r']`, []string{`{"x":{"y":["a FOO b"]}}`, `{"x":"BazR"}`}, []string{`{"foo":"x"}`}},
		{"s:\n  '|all': [foo, bar]", []string{`{"x":"bar","y":"foo"}`}, []string{`{"x":"bar"}`}},
		{`s: [{A: x}, {B: y, C: z}]`, []string{`{"A":"x"}`, `{"B":"y","C":"z"}`}, []string{`{"B":"y"}`}},
		{`s: {a.b.c: x}`, []string{`{"a":{"b":{"c":"x"}}}`, `{"a":[{"b":{"c":"y"}},{"b":[{"c":"x"}]}]}`, `{"a.b":{"c":"x"}}`}, []string{`{"a":{"b.c":"y"}}`}},
		{"s: {A: x}\nt: {B: y}\n_u: {C: z}\ncondition: all of them", []string{`{"A":"x","B":"y"}`}, []string{`{"A":"x"}`}},
		{"s1: {A: x}\ns2: {B: y}\nf: {C: z}\ncondition: 1 of s* and not f", []string{`{"B":"y"}`}, []string{`{"B":"y","C":"z"}`}},
		{"s: {A: x}\nt: {B: y}\nu: {C: z}\ncondition: s or t and not u", []string{`{"A":"x","C":"z"}`, `{"B":"y"}`}, []string{`{"B":"y","C":"z"}`}},
		{"s: {A: x}\nt: {B: y}\ncondition: [s, NOT (s OR t)]", []string{`{"A":"x"}`, `{}`}, []string{`{"B":"y"}`}},
		// arrays
		{"s:\n  c[any]:\n    p: TCP\n    ip|cidr: 10.0.0.0/8", []string{`{"c":[{"p":"tcp","ip":"10.0.0.1"}]}`}, []string{`{"c":[{"p":"TCP","ip":"1.1.1.1"},{"p":"UDP","ip":"10.0.0.1"}]}`, `{}`}},
		{"s:\n  c[all]|startswith: a", []string{`{"c":["ab","ac"]}`}, []string{`{"c":["ab","b"]}`, `{"c":[]}`, `{}`}},
		{"s:\n  c[all_or_empty]|startswith: a", []string{`{"c":["ab"]}`, `{"c":[]}`, `{}`}, []string{`{"c":["b"]}`}},
		{"s:\n  c[none]:\n    i|re: ^evil", []string{`{"c":[{"i":"good"}]}`, `{}`}, []string{`{"c":[{"i":"evil/x"}]}`}},
		{"s:\n  c[0]|endswith: sh\n  c[-1]: b", []string{`{"c":["bash","a","b"]}`}, []string{`{"c":["a","sh","b"]}`, `{"c":"b"}`}},
		{"s:\n  c[any].d[0]: x", []string{`{"c":[{"d":["y"]},{"d":["x"]}]}`}, []string{`{"c":[{"d":["y","x"]}]}`}},
		{"s:\n  r[any]:\n    condition: e and not g\n    e:\n      .|gte: 500\n      .|lte: 599\n    g:\n      .: 504", []string{`{"r":[502,504]}`}, []string{`{"r":[504,200]}`}},
		{`s: {'c\[0\]': x}`, []string{`{"c[0]":"x"}`}, []string{`{"c":["x"]}`}},
		// Windows
		{`s: {EventID: 1, Image|endswith: '\a.exe', Provider_Name: Sysmon, Execution_ProcessID: 7}`, []string{
			`{"Event":{"System":{"EventID":1,"Provider":{"#attributes":{"Name":"Sysmon"}},"Execution":{"#attributes":{"ProcessID":7}}},"EventData":{"Image":"C:\\a.exe"}}}`,
			`{"Event":{"System":{"EventID":{"#attributes":{"Qualifiers":""},"#text":1},"Provider_attributes":{"Name":"Sysmon"},"Execution":{"@ProcessID":"7"}},"EventData":{"Data":[{"#attributes":{"Name":"Image"},"#text":"C:\\A.exe"}]}}}`,
			`{"EventID":"1","image":"x\\a.exe","Provider_Name":"sysmon","Execution_ProcessID":"7"}`,
		}, []string{`{"Event":{"System":{"EventID":2},"EventData":{"Image":"C:\\a.exe"}}}`}},
		{`s: {EventID: 4624, Computer: h}`, []string{`{"winlog":{"event_id":"4624","computer_name":"H"}}`, `{"winlog":{"event_id":1,"computer_name":"h"},"EventID":4624}`},
			[]string{`{"event_id":4624,"computer_name":"h"}`, `{"winlog":{"event_id":4624,"computer_name":"h"},"EventID":1}`}},
		{`s: {P: x}`, []string{`{"Event":{"UserData":{"Y":{"P":"x"}}}}`, `{"EventData":{"P":"x"}}`, `{"winlog":{"event_data":{"P":"x"}}}`, `{"data":{"P":"x"}}`, `{"System":{"P":"X"}}`},
			[]string{`{"P":"y","data":{"P":"x"}}`, `{"other":{"P":"x"}}`}},
		{`s: {Data|contains: x}`, []string{`{"Event":{"EventData":{"Data":["a","bxb"]}}}`, `{"Event":{"EventData":{"Data":{"#text":["a","x"]}}}}`}, nil},
	} {
		r := detection(t, c.det)
		for i, raw := range append(append([]string{}, c.yes...), c.no...) {
			ev := generic(t, raw)
			if got, _ := r.Match(ev); got != (i < len(c.yes)) {
				t.Errorf("%s\n of %s: %t\n%s", c.det, raw, got, r.Expr)
			}
		}
	}
}

func TestProblems(t *testing.T) {
	doc := func(det string) string {
		return "title: T\nlogsource: {product: kubernetes}\ndetection:\n  " + strings.ReplaceAll(det, "\n", "\n  ")
	}
	for _, c := range []struct{ y, want string }{
		{doc("s: {A|contaisn: x}\ncondition: s"), `r.yml:4:7: rule t: unknown modifier "contaisn" (did you mean "contains"?)`},
		{doc("s: {A|all: x}\ncondition: s"), "all needs a list"},
		{doc("s: {A|contains|all: [x]}\ncondition: s"), "all needs a list"},
		{doc("s: {A: x}\ncondition: s and selction"), `r.yml:5:20: rule t: unknown search identifier "selction"`},
		{doc("s: {A: x}\ncondition: s and (s"), ") is expected"},
		{doc("s: {A: x}\ncondition: 1 of q*"), "means no search identifier"},
		{doc("s: {A: x}\ncondition: 2 of s*"), "`1 of` or `all of` is expected"},
		{doc("s: {A: x}"), "condition is missing"},
		{doc("s: {A|re: '(?=x)'}\ncondition: s"), "cannot use the regular expression"},
		{doc("s: {A|cidr: 10.0.0}\ncondition: s"), "a network such as"},
		{doc("s: {A|gt: x}\ncondition: s"), "a number is expected"},
		{doc("s: {A|expand: '%x%'}\ncondition: s"), "placeholder %x% has no values"},
		{doc("s: {A|contains|base64: x}\ncondition: s"), "cannot encode wildcards"},
		{doc("s: {}\ncondition: s"), "an empty map"},
		{doc("s: {A|i: x}\ncondition: s"), "belongs behind re"},
		{doc("s: {A|lt|contains: 1}\ncondition: s"), "exclude each other"},
		{doc("s: {A: x}\ntimeframe: 10m\ncondition: s | count(B) by C > 5"), "type: value_count"},
		{doc("s: {A: x}\ncondition: s | near x"), "type: temporal"},
		{doc("s: {A: {b: c}}\ncondition: s"), "not a map"},
		{doc("s: {A: x}\ncondition: s") + "\nlevel: hgih\n", `(did you mean "high"?)`},
		{"title: C\ncorrelation: {type: event_count, rules: [nope], timespan: 5m, condition: {gte: 1}}", `unknown rule "nope"`},
		{"title: C\nname: c\ncorrelation: {type: event_count, rules: [c], timespan: 5m, condition: {gte: 1}}", "in a circle"},
		{"title: C\ncorrelation: {type: event_cuont, rules: [c], timespan: 5m}", `(did you mean "event_count"?)`},
		{doc("s: {A: x}\ncondition: s") + "\n---\ntitle: C\ncorrelation: {type: event_count, rules: [t], timespan: 5x, condition: {gte: 1}}", "a timespan is"},
		{doc("s: {A: x}\ncondition: s") + "\n---\ntitle: C\ncorrelation: {type: value_percentile, rules: [t], timespan: 5m, condition: {gte: 1, field: x}}", "needs a percentile"},
		{"title: F\nlogsource: {product: kubernetes}\nfilter: {rules: [nope], s: {a: b}, condition: s}", `unknown rule "nope"`},
	} {
		out := rule.Parse("r.yml", []byte(c.y), sigma.New(sigma.Options{}))
		if len(out.Problems) != 1 || !strings.Contains(out.Problems[0].Error(), c.want) {
			t.Errorf("%s\ngives %v, want %s", c.y, out.Problems, c.want)
		}
	}
}

// parsed is a generic event, nil if raw is none.
func parsed(raw string) *audit.Event {
	ev, err := audit.Generic("c", []byte(raw))
	if err != nil {
		return nil
	}
	return &ev
}
