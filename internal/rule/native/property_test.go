package native

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"whodunit/internal/audit"
	"whodunit/internal/match"
)

var words = []string{"", "a", "b", "ab", "aB", "get", "*", "a*"}

// conditionText draws a random condition over few fields and few values, so that it is often true.
func conditionText(t *rapid.T, depth int) string {
	word := func() string { return strconv.Quote(rapid.SampledFrom(words).Draw(t, "word")) }
	field := rapid.SampledFrom([]string{"verb", "user.username", "objectRef.name", "objectRef.namespace", "impersonatedUser.username", "peer", "userAgent"})
	kind := 0
	if depth > 0 {
		kind = rapid.IntRange(0, 3).Draw(t, "kind")
	}
	switch kind {
	case 1:
		return "(" + conditionText(t, depth-1) + " && " + conditionText(t, depth-1) + ")"
	case 2:
		return "(" + conditionText(t, depth-1) + " || " + conditionText(t, depth-1) + ")"
	case 3:
		return "!(" + conditionText(t, depth-1) + ")"
	}
	f := field.Draw(t, "field")
	switch rapid.IntRange(0, 22).Draw(t, "leaf") {
	case 0:
		return f + rapid.SampledFrom([]string{" == ", " != "}).Draw(t, "op") + word()
	case 1:
		return word() + " == " + f
	case 2:
		return f + " in [" + word() + ", " + word() + "]"
	case 3:
		return f + "." + rapid.SampledFrom([]string{"startsWith", "endsWith", "contains"}).Draw(t, "op") + "(" + word() + ")"
	case 4:
		return "glob(" + f + ", " + word() + ")"
	case 5:
		return "has(user.username)"
	case 6:
		return word() + " in user.groups"
	case 7:
		return "responseStatus.code " + rapid.SampledFrom([]string{"==", "!=", "<", "<=", ">", ">="}).Draw(t, "op") + " " + strconv.Itoa(rapid.SampledFrom([]int{0, 200, 403}).Draw(t, "code"))
	case 8:
		return "requestObject.a == " + word() // may fail
	case 9:
		return `annotations["k"] == ` + word() // may fail
	}
	return moreLeaves(t, f, word)
}

// names are users, some of which stand for more than themselves.
var names = []string{"", "a", "system:node:n", "system:node:", "system:serviceaccount:kube-system:x", "system:serviceaccount:a:b", "system:serviceaccount:a", "system:serviceaccount::b", "system:apiserver"}

var addresses = []string{"", "10.1.2.3", "::ffff:10.1.2.3", "8.8.8.8", "2001:4860::1", "fe80::1%eth0", "junk", "::1"}

func moreLeaves(t *rapid.T, f string, word func() string) string {
	pick := func(from ...string) string { return rapid.SampledFrom(from).Draw(t, "pick") }
	user := pick("user.username", "impersonatedUser.username")
	leaves := []string{
		"responseStatus.code in [200, 403]", "idReused", pick("decision", "reason") + pick(" == ", " != ") + word(),
		f + ".matches(" + pick(`"^a"`, `"b$"`, `"^$"`, `"a*"`) + ")", "matches(" + f + `, "a")`, "inCIDR(peer, " + pick(`"10.0.0.0/8"`, `["::/0", "8.8.8.8"]`) + ")",
		pick("", "!") + "isServiceAccount(" + user + ")", "isSystemUser(" + user + ")", "isPublicIP(peer)",
		"serviceAccountNamespace(" + user + ")" + pick(` == "a"`, ` != "a"`, ` in ["a", "b"]`, ` == ""`), `execCommand()` + pick(` == "a b"`, ` == ""`, `.contains("a")`, `.matches("a|^$")`, `.startsWith("")`),
		`annotations["k"]` + pick(` != "a"`, ` in ["", "a"]`, `.startsWith("a")`, `.contains("")`), pick(`"k" in annotations`, `has(annotations.k)`, `annotations.k == "a"`),
		pick("user.groups", "sourceIPs") + `.exists(g, ` + pick(`g == "a"`, `g != "a"`, `g.startsWith("")`, `g == "a" || g.endsWith("b")`, `g == "a" && g == verb`, `true`, `verb == "a"`, `isSystemUser(g)`, `glob(g, "*")`, `idReused`, `!(g == "a")`, `inCIDR(g, "10.0.0.0/8")`) + ")",
		`uriParam("command")` + pick(` == []`, ` != []`, `.exists(v, v == "")`, `.exists(v, v.startsWith("a") || v == "b")`), word() + ` in uriParam("command")`,
		`requestURI.split("?")[0]` + pick(` == ""`, `.matches("^/")`, `.lowerAscii() != "/a"`), `user.username.lowerAscii() == "a"`, f + " in []", "glob(" + f + ", [])", "!(" + f + " in [])",
		"responseStatus.code " + pick("==", "!=", "<", "<=", ">", ">=") + " " + pick("-1", "1", "0"), "-1 < responseStatus.code",
		"fold(" + f + ")" + pick(" == ", " != ") + word(), "glob(fold(" + f + "), [" + word() + ", " + word() + "])", `fold(user.username).startsWith(` + word() + ")", "isSystemUser(fold(user.username))", "fold(" + f + ").matches(\"^A\")",
		"text(" + word() + pick("", ", true", ", false") + ")",
	}
	return pick(leaves...)
}

func randomEvent(t *rapid.T) audit.Event {
	m := map[string]any{"auditID": "x", "stage": "ResponseComplete"}
	put := func(m map[string]any, key string) {
		switch rapid.IntRange(0, 3).Draw(t, key) {
		case 0:
		case 1:
			m[key] = nil
		default:
			m[key] = rapid.SampledFrom(words).Draw(t, key)
		}
	}
	put(m, "verb")
	put(m, "userAgent")
	m["requestURI"] = rapid.SampledFrom([]string{"", "/A", "/a?b", "?a", "/x/exec?command=a&command=b", "/x?comman%64=a", "/x?command="}).Draw(t, "uri")
	for key, fields := range map[string][]string{"user": {"username"}, "impersonatedUser": {"username"}, "objectRef": {"name", "namespace"}, "annotations": {"k", "authorization.k8s.io/decision", "authorization.k8s.io/reason"}, "requestObject": {"a"}} {
		if rapid.Bool().Draw(t, key) {
			o := map[string]any{}
			for _, f := range fields {
				put(o, f)
			}
			if o["username"] != nil && rapid.Bool().Draw(t, "name") {
				o["username"] = rapid.SampledFrom(names).Draw(t, "username")
			}
			if key == "user" {
				o["groups"] = rapid.SliceOfN(rapid.SampledFrom(words), 0, 2).Draw(t, "groups")
			}
			m[key] = o
		}
	}
	m["sourceIPs"] = rapid.SliceOfN(rapid.SampledFrom(append(addresses, words...)), 0, 2).Draw(t, "ips")
	if code := rapid.SampledFrom([]int{0, 101, 200, 403}).Draw(t, "code"); code > 0 {
		m["responseStatus"] = map[string]any{"code": code}
	}
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	ev, err := audit.Parse("c", b)
	if err != nil {
		t.Fatal(err)
	}
	if rapid.IntRange(0, 3).Draw(t, "reused") == 0 {
		ev.Flags |= audit.FlagIDReused
	}
	return ev
}

// TestPrefilterIsImplied: on random conditions and events, a prefilter is true whenever its condition is, and of nothing else where it
// stands for the condition.
func TestPrefilterIsImplied(t *testing.T) {
	env := format(t).env
	filters, whole := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		text := conditionText(t, 3)
		both, errs := env.compile(text, constants{})
		if len(errs) > 0 {
			t.Fatal(text, errs)
		}
		if _, errs := env.check(text, constants{}); len(errs) > 0 {
			t.Fatal(text, errs)
		}
		c, pre, exact := planned(t, env, text, constants{}), both.expr, both.condition == nil
		if pre == nil {
			return
		}
		filters++
		if exact {
			whole++
		}
		for range 10 {
			ev := randomEvent(t)
			ok, err := c.matchCEL(&ev)
			want := match.Eval(pre, &ev)
			if ok && !want || exact && ok != want {
				t.Fatalf("%s\nprefilter %s\nis %t, and it %t, of %s (%v)", text, pre, want, ok, ev.Raw, err)
			}
		}
	})
	if filters == 0 || whole == 0 {
		t.Error("no condition had a prefilter, or none was said whole")
	}
}

// TestPatchObject holds the partial object against what the operations write.
func TestPatchObject(t *testing.T) {
	op := func(op, path, value string) string {
		return fmt.Sprintf(`{"op":%q,"path":%q,"value":%s}`, op, path, value)
	}
	for _, tt := range []struct{ patch, want string }{
		{op("add", "/a/b", "1"), `{"a":{"b":1}}`},
		{op("add", "/a/-", "1") + "," + op("add", "/a/-", "2") + "," + op("add", "/a/0", "0"), `{"a":[0,1,2]}`},
		{op("replace", "", `{"a":{"b":[{"c":1}]}}`) + "," + op("add", "/a/b/0/d", "2"), `{"a":{"b":[{"c":1,"d":2}]}}`},
		{op("add", "/a/999999999/b", "1"), `{"a":[{"b":1}]}`},
		{op("add", "/a/x~1y~0z", "1"), `{"a":{"x/y~z":1}}`},
		{op("test", "/a", "1") + "," + op("remove", "/b", "1"), `{}`},
		{op("add", "/a", "1") + "," + op("add", "/a/b", "2"), `{"a":{"b":2}}`},
		{op("add", "/n", "12345678901234567890.5"), `{"n":12345678901234567890.5}`},
		{"1", "[1]"},
		{`{"x":1}`, `[{"x":1}]`},
		{op("add", strings.Repeat("/a", 100), "1"), ""},
	} {
		raw := "[" + tt.patch + "]"
		if tt.want == "" {
			tt.want = raw
		}
		if got := string(body([]byte(raw))); got != tt.want {
			t.Errorf("%.200s\ngives %s\nwant  %s", raw, got, tt.want)
		}
	}
}

func FuzzBody(f *testing.F) {
	f.Add([]byte(`[{"op":"add","path":"/a/-/b","value":[{"c":1}]},{"op":"replace","path":"","value":3}]`))
	f.Add([]byte(`[{"op":"add","path":"/a/0","value":{}},{"op":"add","path":"/a/b","value":1}]`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if audit.Valid(b) != nil {
			return
		}
		if out := body(b); audit.Valid(out) != nil {
			t.Fatalf("%q gives %q", b, out)
		}
	})
}
