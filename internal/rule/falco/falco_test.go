package falco

import (
	"fmt"
	"path"
	"strings"
	"testing"
	"testing/fstest"

	"pgregory.net/rapid"

	"whodunit/internal/audit"
	"whodunit/internal/match"
	"whodunit/internal/rule"
)

// noLists is a lister of a few lists.
type testLists map[string][]string

func (l testLists) values(name string) ([]string, bool) { v, ok := l[name]; return v, ok }
func (l testLists) cut(string) bool                     { return false }
func (l testLists) spend(int) bool                      { return true }

func TestGrammar(t *testing.T) {
	good := []string{
		"m", " m ", "(m)", "m and n", "m or n", "m and n or o", "(m)and(n)or(o)", "m and(n)", "not m", "not(m)", "not not m", "not not(m)", "not (not (m))",
		"(m and not n)", "m and notn", "notm and n", "m and and_m", "m and or_m", "ka.verb exists", "ka.verb exists and m", "ka.verb = get", "ka.verb=get", "ka.verb==get",
		"ka.verb != get", "ka.verb = 'get'", `ka.verb = "get"`, "ka.verb = not", "ka.verb = ka.uri", `ka.verb = ""`, "ka.uri = 0a!@#456:/\\.;!$%^&*[]{}|",
		"ka.verb in (get)", "ka.verb in()", "ka.verb in (get, 'list' ,\"watch\")", "ka.verb in ((get, list), watch)", "ka.verb in (ka.verb, 1)", "ka.verb in get",
		"ka.user.groups intersects (a)", "ka.uri pmatch (/a, /b)", "ka.uri contains x", "ka.uri\ncontains\n\tx", "ka.uri glob *x", "ka.uri regex '^[a-z]+$'",
		"ka.response.code >= 400", "ka.response.code<0x1F", "ka.response.code > -0.5e+10", "ka.response.code <= +1.", "ka.uri.param['a b'] = x", "ka.uri.param[a(){}|] = x",
		"ka.uri.param[\"a\\\"b\"] exists", "tolower(ka.verb) = get", "toupper( tolower(ka.verb) ) in (GET)", "len(ka.user.groups) > 3", "basename(ka.uri) = x", "b64(ka.uri) exists",
		"ka.user.name = val(ka.impuser.name)", "ka.user.name = tolower(ka.impuser.name)", "ka.user.groups in val(ka.user.groups)",
		`join("-", (ka.verb, "x", 5, tolower(ka.uri))) = x`, `join(',', ka.user.groups) contains x`, `concat(ka.verb, ":", ka.uri) = x`, `getopt(ka.req.pod.containers.args, "ab:")[b] = x`,
		`toupper(join("/", ( ka.verb , ka.uri ))) = X`, `join("-", ()) = x`, "ka.uri startswith anyof (a, b)", "ka.uri = oneof(a)", "ka.uri != allof (a, b)", "ka.uri = anyof",
		`ka.uri = "a\"b\\c\n\x41"`, `ka.uri = 'it\'s'`, "ka.verb existsand m",
	}
	bad := map[string]string{ // and what stands at the place of the fault
		"": "", "and m": "", "m and": "", "m or": "", "m not": "not", "m andn": "andn", "m n": "n", "(m": "", "m)": ")", "#m": "#", "m > 12": ">", "m and or n": "",
		"ka.verb": "", "ka.verb equals get": "equals", "ka.verb Exists": "Exists", "ka.verb =": "", "ka.verb = (get)": "(", "ka.verb = a,": ",", "ka.verb = a=": "=",
		"ka.verb in (": "", "ka.verb in )": ")", "ka.verb in (a,)": ")", "ka.verb in (,a)": ",", "ka.verb in (a b)": "b", "ka.uri containsx": "containsx",
		"ka.uri.param[] = x": "]", "ka.uri.param[a = x": " = x", "ka.uri.param[ a ] = x": " a", "ka.verb = 'x": "'x", "ka.verb = \"x'": "\"x'", `ka.verb = 'a\"'`: "", `ka.verb = "\q"`: `\q`,
		"ka.response.code > x": "x", "ka.response.code > !1": "!1", "tolower(m) = x": "m", "tolower(ka.verb = x": "=", "upper(ka.verb) = X": "upper", "ka.uri = val(m)": "m",
		`join("-", (ka.verb,)) = x`: ")", `join("-", ((ka.verb))) = x`: "", `join("-", (m)) = x`: "m", "ka.verb exists x": "x",
		strings.Repeat("(", 300) + "m" + strings.Repeat(")", 300): "",
	}
	for _, s := range good {
		if _, err := parse(s, testLists{}); err != nil {
			t.Errorf("%s: byte %d: %v", s, err.at, err)
		}
	}
	for s, want := range bad {
		_, err := parse(s, testLists{})
		switch {
		case err == nil:
			t.Errorf("%.80s is taken", s)
		case err.at > len(s) || want != "" && !strings.HasPrefix(s[err.at:], want):
			t.Errorf("%.80s: the fault is at byte %d, not at %q: %v", s, err.at, want, err)
		}
	}
}

// event makes an event with the members that every one has.
func event(t testing.TB, members string) *audit.Event {
	t.Helper()
	if members != "" {
		members = "," + members
	}
	ev, err := audit.Parse("c", []byte(`{"auditID":"a1","stage":"ResponseComplete","stageTimestamp":"2026-11-21T13:24:59.897748Z"`+members+`}`))
	if err != nil {
		t.Fatal(members, err)
	}
	return &ev
}

// condition compiles one condition, or says what is wrong.
func condition(t testing.TB, compat, s string, lists testLists) (match.Expr, *syntaxError) {
	t.Helper()
	n, err := parse(s, lists)
	if err != nil {
		return nil, err
	}
	l := newLoader(reader{upstream: compat == Upstream})
	x, err := l.compiler.compile(n)
	return x.expr, err
}

const ordinary = `"verb":"create","requestURI":"/api/v1/namespaces/x/pods?a=1&b=%2Ftmp&a=2&command=sh&command=-c","user":{"username":"Alice","groups":["g1","g2"]},` +
	`"impersonatedUser":{"username":"alice"},"objectRef":{"resource":"pods","namespace":"x"},"responseStatus":{"code":404,"reason":null},"userAgent":"kubectl/v1.30 [x]",` +
	`"sourceIPs":["10.0.0.1","2001:db8::1"],"annotations":{"authorization.k8s.io/decision":"allow","a/b~c":"odd"},` +
	`"requestObject":{"spec":{"hostNetwork":true,"list":[1,{"k":"v"},[2]],"empty":[],"containers":[{"name":"c","image":"r/i:1","args":["-t","x","-vq","y"]}]},"path":"/usr/bin/cat","b64":"aGVsbG8","bad64":"!!"}`

// TestOperators holds every operator against what is there, missing, a list, and an empty list.
func TestOperators(t *testing.T) {
	ev := event(t, ordinary)
	tests := map[string]bool{
		"ka.verb exists": true, "ka.target.name exists": false, "ka.user.groups exists": true, "ka.req.pod.supplemental_groups exists": false,
		"ka.verb = create": true, "ka.verb = Create": false, "ka.verb == create": true, "ka.verb != create": false, "ka.verb != get": true,
		"ka.target.name != x": false, "not ka.target.name = x": true, "not ka.target.name != x": true, "ka.target.name = ''": false, "not ka.target.name exists": true,
		"ka.response.code = 404": true, "ka.response.code > 399": true, "ka.response.code < 1000": true, "ka.response.code >= 404": true, "ka.response.code <= 403": false,
		"ka.response.code > 0x193": true, "ka.verb > 3": false, "ka.target.name < 5": false, "ka.response.code startswith 4": true,
		"ka.response.reason exists":                          true, // the plugin takes null for the text "null"
		"jevt.value[/requestObject/spec/hostNetwork] = true": true, "jevt.value[/requestObject/spec/list] = '[1,{\"k\":\"v\"},[2]]'": true,
		"jevt.value[/requestObject/spec/list/0] = 1": true, "jevt.value[/requestObject/spec/list/1/k] = v": true, "jevt.value[/requestObject/spec/list/2/0] = 2": true,
		"jevt.value[/requestObject/spec/list/k] exists": false, "jevt.value[/requestObject/spec/list/9] exists": false, "jevt.value[/annotations/a~1b~0c] = odd": true,
		"jevt.value[/stage] in (ResponseComplete)": true, "json.value[/user/groups/1] = g2": true, "jevt.value[/user/groups] = '[\"g1\",\"g2\"]'": true, "jevt.value[/nope] != x": false,
		"jevt.value[requestObject/spec/empty] = '[]'": true, "jevt.rawtime exists": true, "jevt.rawtime = 0": false, "evt.num >= 0": true, "evt.num=0": false, "evt.rawtime > 0": true, "evt.num exists": true, "jevt.rawtime = 1795267499897748000": true, "jevt.obj contains '\"verb\": \"create\"'": true,
		"ka.verb in (get, create)": true, "ka.verb in (get)": false, "ka.verb in ()": false, "ka.verb intersects (create)": true, "ka.verb in create": true, "not ka.verb in ()": true,
		"ka.target.name in ()": false, "not ka.target.name in (x)": true,
		"ka.user.groups in (g1)": false, "ka.user.groups in (g1, g2, g3)": true, "ka.user.groups in ()": false, "ka.user.groups intersects (g2, x)": true, "ka.user.groups intersects (x)": false,
		"ka.user.groups intersects ()": false, "ka.req.pod.supplemental_groups in (1)": false, "not ka.req.pod.supplemental_groups in (1)": true, "not ka.req.role.rules.verbs intersects (get)": true,
		"ka.sourceips intersects (10.0.0.1)": true, "ka.sourceips[1] in (2001:db8::1)": true, "ka.sourceips[2] exists": false, "ka.sourceips in (10.0.0.1)": false, "ka.sourceips exists": true,
		"ka.uri contains /namespaces/": true, "ka.uri contains ''": true, "ka.target.name contains ''": false, "ka.uri icontains NAMESPACES": true, "ka.uri bcontains 2f6170": true,
		"ka.uri startswith /api": true, "ka.uri startswith api": false, "ka.uri bstartswith 2f61": true, "ka.uri endswith -c": true,
		"ka.useragent glob kubectl*": true, "ka.useragent glob kubectl": false, "ka.useragent glob '*[[]x]'": true, "ka.useragent glob 'kubectl/v[0-9].?? *'": true, "ka.useragent glob 'kubectl/v[!0-9]*'": false,
		"ka.useragent iglob KUBE*": true, "ka.useragent iglob 'KUBECTL/V[0-9]*'": true, "ka.useragent glob '*[[:digit:]]0 *'": true, "ka.useragent glob 'kubectl\\/*'": true, "ka.useragent glob '*\\\\'": false,
		"ka.useragent regex kubectl": false, "ka.useragent regex 'kubectl.*'": true, "ka.verb regex '(get|create)'": true, "ka.verb regex '^create$'": true, "ka.verb regex 'get|cre'": false,
		"jevt.value[/requestObject/path] pmatch (/usr)": true, "jevt.value[/requestObject/path] pmatch (/usr/bi)": false, "jevt.value[/requestObject/path] pmatch (/etc, /usr/bin/)": true,
		"jevt.value[/requestObject/path] pmatch (/usr/*/cat)": true, "jevt.value[/requestObject/path] pmatch (/*/cat)": false, "jevt.value[/requestObject/path] pmatch (/usr/b[i]n)": true,
		"jevt.value[/requestObject/path] pmatch (/usr/bin/cat/x)": false, "jevt.value[/requestObject/path] pmatch (/)": true, "jevt.value[/requestObject/path] pmatch ()": false, "ka.target.name pmatch (/)": false,
		"tolower(ka.user.name) = alice": true, "toupper(ka.user.name) = ALICE": true, "toupper(ka.user.groups) intersects (G1)": true, "basename(jevt.value[/requestObject/path]) = cat": true,
		"basename(ka.verb) = create": true, "b64(jevt.value[/requestObject/b64]) = hello": true, "b64(jevt.value[/requestObject/bad64]) != x": false, "len(ka.user.groups) = 2": true, "len(ka.user.groups) > 1": true,
		"len(ka.verb) = 6": true, "len(ka.verb) in (0x6)": true, "len(ka.target.name) = 0": false, "len(ka.verb) != 6": false, "len(ka.verb) != 5": true, "len(ka.target.name) >= 0": false,
		"ka.user.name = val(ka.impuser.name)": false, "tolower(ka.user.name) = val(ka.impuser.name)": true, "ka.user.name != val(ka.impuser.name)": true, "ka.user.name != val(ka.target.name)": false,
		"ka.target.name = val(ka.target.name)": false, "ka.user.groups in val(ka.user.groups)": true, "ka.user.groups intersects val(ka.sourceips)": false, "ka.user.name icontains val(ka.impuser.name)": true,
		"ka.uri startswith val(ka.verb)": false, "len(ka.verb) > len(ka.user.name)": true, "len(ka.verb) = len(ka.user.name)": false,
		`concat(ka.verb, "-", ka.user.name) = create-Alice`: true, `concat(ka.verb, ka.target.name) exists`: false, `join("+", ka.user.groups) = g1+g2`: true, `join("+", (ka.verb, "x")) = create+x`: true,
		`join("+", (ka.verb, ka.target.name)) exists`: false, `getopt(ka.req.pod.containers.args, "t:")[t] = x`: false, `len(concat(ka.verb, "x")) = 7`: true,
		"ka.verb startswith anyof (x, cr)": true, "ka.verb startswith oneof (c, cr)": false, "ka.verb startswith oneof (c, x)": true, "ka.verb startswith allof (c, cr)": true, "ka.verb startswith allof (c, x)": false,
		"ka.verb = anyof (get, create)": true, "ka.verb != anyof (get, create)": true, "ka.verb != allof (get, create)": false, "ka.verb != allof (get, list)": true, "ka.verb = anyof ()": false, "ka.verb != allof ()": false,
		"ka.target.name != allof (x)": false, "ka.target.name startswith oneof (x, y)": false, "ka.verb regex oneof ('c.*', 'd.*')": true, "ka.verb = oneof (create, create)": false,
		"ka.uri.param[a] = 1": true, "ka.uri.param[b] = /tmp": true, "ka.uri.param[command] = sh": true, "ka.uri.param[none] exists": false,
		"ka.verb = get or ka.verb = create and ka.stage = Panic": false, "(ka.verb = get or ka.verb = create) and not ka.stage = Panic": true, "not(ka.verb = get)and(ka.verb = create)": true,
	}
	for s, want := range tests {
		x, err := condition(t, Corrected, s, testLists{})
		if err != nil {
			t.Errorf("%s: %v", s, err)
		} else if got := match.Eval(x, ev); got != want {
			t.Errorf("%s: %t, want %t: %s", s, got, want, x)
		}
	}
}

func TestUpstream(t *testing.T) {
	ev := event(t, ordinary)
	for s, want := range map[string]bool{
		"ka.sourceips exists": false, "ka.sourceips intersects (10.0.0.1)": false, "ka.response.code < 1000": false, "ka.response.code > 399": true, "ka.verb > 3": true, "ka.target.name < 5": false,
	} {
		x, err := condition(t, Upstream, s, testLists{})
		if err != nil {
			t.Errorf("%s: %v", s, err)
		} else if got := match.Eval(x, ev); got != want {
			t.Errorf("%s: %t, want %t", s, got, want)
		}
	}
}

// TestGlob holds patterns against package path, whose brackets are as fnmatch's but for the sign of negation.
func TestGlob(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pattern := rapid.StringOfN(rapid.RuneFrom([]rune(`ab*?[]-^\é`)), 0, 8, -1).Draw(t, "pattern")
		value := rapid.StringOfN(rapid.RuneFrom([]rune("ab[]-^é")), 0, 6, -1).Draw(t, "value")
		want, err := path.Match(pattern, value)
		if err != nil || strings.Contains(pattern, "[") && strings.ContainsAny(pattern, `-^`) {
			t.Skip("another meaning, or none")
		}
		ev := audit.Event{AuditID: "a", Stage: "Panic", Verb: value, Raw: []byte(fmt.Sprintf("{\"auditID\":\"a\",\"stage\":\"Panic\",\"verb\":%q}", value))}
		l := newLoader(reader{})
		o, _ := l.compiler.operand(&term{kind: fieldTerm, name: "ka.verb"})
		x, bad := l.compiler.compare(o, "glob", []string{pattern}, 0)
		if bad != nil {
			t.Fatal(bad)
		}
		if got := match.Eval(x, &ev); got != want {
			t.Fatalf("%q, %q: %t, want %t: %s", pattern, value, got, want, x)
		}
	})
}

// TestJoinedBounds: a rule cannot make one event into gigabytes.
func TestJoinedBounds(t *testing.T) {
	ev := event(t, `"requestURI":"`+strings.Repeat("u", 100_000)+`","user":{"groups":[`+strings.Repeat(`"g",`, 999)+`"g"]}`)
	many := strings.Repeat(", ka.uri", 100)
	for s, want := range map[string]bool{
		"concat(ka.uri, ka.uri) exists": true, "concat(ka.uri" + many + ") exists": false, `join(ka.uri, ka.user.groups) exists`: false, `join("-", ka.user.groups) exists`: true,
		"len(join('', (ka.verb" + many + "))) > 0": false,
	} {
		x, err := condition(t, Corrected, s, nil)
		if err != nil {
			t.Fatal(s, err.text)
		}
		if got := match.Eval(x, ev); got != want {
			t.Errorf("%.60s: %t, want %t", s, got, want)
		}
	}
}

func TestWrongChecks(t *testing.T) {
	for s, want := range map[string]string{
		"ka.nope = x":                                              "unknown field \"ka.nope\"",
		"ka.user.nam = x":                                          "unknown field",
		"ka.user.groups = x":                                       "ka.user.groups is a list: operator = is not for it",
		"ka.user.groups contains x":                                "is a list",
		"ka.user.groups pmatch (x)":                                "is a list",
		"toupper(ka.user.groups) startswith X":                     "is a list",
		"len(ka.verb) contains 1":                                  "is a number",
		"len(ka.verb) = x":                                         "is no number",
		"len(len(ka.verb)) = 1":                                    "not a number",
		"ka.verb[0] = x":                                           "takes no argument",
		"ka.uri.param = x":                                         "needs an argument",
		"jevt.value exists":                                        "needs an argument",
		"ka.req.pod.containers.image[01] exists":                   "no index",
		"ka.req.pod.containers.image[x] exists":                    "no index",
		"ka.req.pod.containers.image[-1] exists":                   "no index",
		"ka.req.pod.containers.image[99999999999999999999] exists": "no index",
		"ka.uri regex '('":                                         "no regular expression",
		"ka.uri regex 'a)(b'":                                      "no regular expression",
		"ka.uri regex '(a{1000}){10}'":                             "no regular expression",
		"ka.uri bcontains xyz":                                     "hexadecimal",
		"ka.user.name = val(ka.user.groups)":                       "cannot be compared",
		"ka.user.name regex val(ka.uri)":                           "takes no field",
		"ka.user.groups = anyof (x)":                               "is a list",
		`join(ka.user.groups, ka.user.groups) = x`:                 "join()",
		`concat(ka.verb) = x`:                                      "concat()",
		`getopt(ka.verb, "a") exists`:                              "getopt()",
		`getopt(ka.user.groups, "a")[bc] exists`:                   "one option's letter",
		"m":                                                        "unknown macro \"m\"",
		"tolower(" + strings.Repeat("tolower(", 600) + "ka.verb" + strings.Repeat(")", 601) + " = x": "nested deeper",
	} {
		_, err := condition(t, Corrected, s, testLists{})
		if err == nil || !strings.Contains(err.text, want) {
			t.Errorf("%.80s: %v, want %q", s, err, want)
		}
	}
	_, err := condition(t, Corrected, "ka.user.nam = x", testLists{})
	if err == nil || err.near != "ka.user.name" {
		t.Errorf("nearest: %+v", err)
	}
	_, err = condition(t, Corrected, "ka.verb containz x", testLists{})
	if err == nil || err.near != "contains" {
		t.Errorf("nearest: %+v", err)
	}
}

// load loads files and gives rules by title.
func load(t testing.TB, files map[string]string) (map[string]*rule.Rule, []string) {
	t.Helper()
	f, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	fsys := fstest.MapFS{}
	for n, s := range files {
		fsys[n] = &fstest.MapFile{Data: []byte(s)}
	}
	loaded := rule.Load([]rule.Layer{{FS: fsys}}, f)
	rules := map[string]*rule.Rule{}
	for _, r := range loaded.Rules {
		rules[r.Title] = r
	}
	var problems []string
	for _, p := range loaded.Problems {
		problems = append(problems, p.Error())
	}
	return rules, problems
}
