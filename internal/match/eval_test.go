package match

import (
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"

	"whodunit/internal/audit"
)

const sample = `{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"RequestResponse","auditID":"a1","stage":"ResponseComplete",
"requestURI":"/api/v1/namespaces/shop/pods/web-1?x=%20","verb":"delete","user":{"username":"Alice","groups":["dev","system:authenticated"],
"extra":{"example.org/team":["blue"]}},"sourceIPs":["10.0.0.9","192.0.2.7"],"userAgent":"kubectl/v1.36.3","objectRef":{"resource":"pods",
"namespace":"shop","name":"web-1","apiVersion":"v1"},"responseStatus":{"metadata":{},"code":403},"requestObject":{"spec":{"containers":[
{"image":"nginx:1.27","args":[]},{"image":"R\u0026D"}],"replicas":3,"paused":true,"nothing":null,"matrix":[[1,2],[3]]}},
"stageTimestamp":"2026-11-21T10:00:00.000001Z","annotations":{"authorization.k8s.io/decision":"forbid","authorization.k8s.io/reason":""}}`

func parse(t testing.TB, raw string) *audit.Event {
	t.Helper()
	ev, err := audit.Parse("prod", []byte(raw))
	if err != nil {
		t.Fatal(err)
	}
	return &ev
}

func p(path string, op Op, values ...string) *Pred { return &Pred{Path: path, Op: op, Values: values} }

func fold(path string, op Op, values ...string) *Pred {
	return &Pred{Path: path, Op: op, Values: values, Fold: true}
}

func TestEvalPredicates(t *testing.T) {
	ev := parse(t, sample)
	for _, c := range []struct {
		e    Expr
		want bool
	}{
		{nil, true}, {And{}, true}, {Or{}, false}, {Const(true), true}, {Const(false), false},
		{p("verb", Equal, "get", "delete"), true},
		{p("verb", Equal, "Delete"), false},
		{fold("verb", Equal, "DELETE"), true},
		{p("verb", Equal), false},
		{p("cluster", Equal, "prod"), true},
		{p("peer", Equal, "192.0.2.7"), true},
		{p("sourceIPs", Equal, "10.0.0.9"), true},
		{p("user.groups", Suffix, ":authenticated"), true},
		{p("user.extra.example.org/team", Equal, "blue"), true},
		{p("annotations.authorization.k8s.io/decision", Equal, "forbid"), true},
		{p("annotations.authorization.k8s.io/reason", Equal, ""), true},
		{p("annotations.authorization.k8s.io/reason", Exists), true},
		{p("responseStatus.code", Equal, "403"), true},
		{p("responseStatus.code", GreaterEqual, "4e2"), true},
		{p("responseStatus.code", Less, "403"), false},
		{p("responseStatus.code", LessEqual, "403.0"), true},
		{p("responseStatus.code", Greater, "abc"), false},
		{p("stageTimestamp", Less, "2026-11-21T11:00:00+01:00"), false},
		{p("stageTimestamp", Greater, "2026-11-21T11:00:00+01:00"), true},
		{p("stageTimestamp", Greater, "2026"), false},
		{p("requestObject.spec.replicas", Equal, "3"), true},
		{p("requestObject.spec.paused", Equal, "true"), true},
		{p("requestObject.spec.matrix", Equal, "3"), true},
		{p("requestObject.spec.containers.image", Equal, "R&D"), true},
		{p("requestObject.spec.containers.image", Contains, "inx"), true},
		{p("requestObject.spec.containers.image", Prefix, "nginx:"), true},
		{p("requestObject.spec.containers.image", Glob, "n*:?.27"), true},
		{p("requestObject.spec.containers", Equal, ""), false},
		{p("requestObject.spec.containers", Exists), true},
		{p("requestObject.spec.containers.args", Exists), true},
		{p("requestObject.spec.containers.args", Equal, ""), false},
		{p("requestObject.spec.nothing", Exists), false},
		{p("requestObject.spec.absent", Exists), false},
		{p("requestObject.spec", Exists), true},
		{p("impersonatedUser.username", Exists), false},
		{Not{p("impersonatedUser.username", Equal, "x")}, true},
		{And{p("verb", Equal, "delete"), Not{p("user.username", Equal, "Alice")}}, false},
		{Or{p("verb", Equal, "get"), p("user.username", Equal, "Alice")}, true},
	} {
		if got := Eval(c.e, ev); got != c.want {
			t.Errorf("%v: got %v, want %v", c.e, got, c.want)
		}
	}
}

func TestEvalText(t *testing.T) {
	ev := parse(t, sample)
	for _, c := range []struct {
		word string
		open bool
		want bool
	}{
		{"alice", false, true}, {"lice", false, false}, {"alic", false, false}, {"alic", true, true}, {"lic", true, false},
		{"web-1", false, true}, {"web", false, true}, {"web-", false, false}, {"web-", true, true}, {"1.27", false, true},
		{"r&d", false, true}, {"u0026", false, false}, {"true", false, true}, {"null", false, false}, {"403", false, true},
		{"40", false, false}, {"namespace", false, true}, {"prod", false, false}, {"dev system", false, false},
		{"/api/v1/namespaces/shop", false, true}, {":1", true, false}, {"", false, false}, {"matrix", false, true},
	} {
		if got := Eval(&Text{Word: c.word, Open: c.open}, ev); got != c.want {
			t.Errorf("%q open %v: got %v, want %v", c.word, c.open, got, c.want)
		}
	}
}

func TestTextRetriesOverlaps(t *testing.T) {
	ev := parse(t, `{"auditID":"x","stage":"Panic","verb":"aa-aa-aab a-a-aa-aa"}`)
	if !Eval(&Text{Word: "aa-aa"}, ev) {
		t.Error("the occurrence at the end was passed over")
	}
}

func TestTokens(t *testing.T) {
	for _, c := range []struct {
		t    Text
		want []string
	}{
		{Text{Word: "web-1"}, []string{"web", "1"}},
		{Text{Word: "web-1", Open: true}, []string{"web"}},
		{Text{Word: "system:", Open: true}, []string{"system"}},
		{Text{Word: "web", Open: true}, []string{}},
		{Text{Word: "::"}, nil},
		{Text{Word: "groß ΣΊΣΥΦΟΣ"}, []string{"groß", Fold("σίσυφος")}},
	} {
		if d := cmp.Diff(c.want, c.t.Tokens()); d != "" {
			t.Errorf("%v: %s", &c.t, d)
		}
	}
}

// Words must be cut alike before and after folding, or the bloom filters of segments would miss some.
func TestFoldKeepsWords(t *testing.T) {
	for r := rune(0); r <= unicode.MaxRune; r++ {
		f := foldRune(r)
		if foldRune(f) != f {
			t.Fatalf("%U folds to %U, which folds on", r, f)
		}
		if r != 0x345 && wordRune(r) != wordRune(f) {
			t.Fatalf("%U folds to %U: one is part of words, the other is not", r, f)
		}
		for g := unicode.SimpleFold(r); g != r; g = unicode.SimpleFold(g) {
			if foldRune(g) != f {
				t.Fatalf("%U and %U fold apart", r, g)
			}
		}
	}
}

func TestMatchGlob(t *testing.T) {
	for _, c := range []struct {
		pattern, s string
		want       bool
	}{
		{"", "", true}, {"", "a", false}, {"*", "", true}, {"*", "abc", true}, {"?", "é", true}, {"?", "", false}, {"??", "é", false},
		{"a*b*c", "aXbYbZc", true}, {"a*b*c", "aXbYbZ", false}, {`\*`, "*", true}, {`\*`, "a", false}, {`a\?`, "a?", true},
		{`a\`, `a\`, true}, {`\\*`, `\x`, true}, {"*a", "aaab", false}, {"**", "", true}, {"*?", "", false}, {"a?*", "ab", true},
		{"*é*", "café au lait", true}, {"?", "\xff", true}, {"\xff", "\xfe", false},
	} {
		if got := MatchGlob(c.pattern, c.s); got != c.want {
			t.Errorf("%q against %q: got %v", c.pattern, c.s, got)
		}
	}
	for pattern, want := range map[string]string{"abc": "abc", `a\*b*`: "a*b", "?": "", `system\:*`: "system:"} {
		if got, _ := GlobPrefix(pattern); got != want {
			t.Errorf("prefix of %q: %q, want %q", pattern, got, want)
		}
	}
}

func TestCompare(t *testing.T) {
	for _, c := range []struct {
		v, c string
		want int
		ok   bool
	}{
		{"9007199254740993", "9007199254740992", 1, true}, {"1e400", "1e300", 1, true}, {"-1", "1", -1, true}, {"0", "-0", 0, true},
		{"1.5", "1.50", 0, true}, {"007", "7", 0, false}, {"0x10", "7", 0, false}, {"inf", "7", 0, false}, {"", "7", 0, false}, {"1e", "1", 0, false},
		{"2026-11-21T10:00:00Z", "2026-11-21T10:00:00.1Z", -1, true}, {"2026-11-21T10:00:00Z", "5", 0, false}, {"5", "2026-11-21T10:00:00Z", 0, false},
	} {
		n, ok := Compare(c.v, c.c)
		if ok != c.ok || ok && n != c.want {
			t.Errorf("%q, %q: got %d %v", c.v, c.c, n, ok)
		}
	}
}
