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

var words = []string{"", "a", "b", "ab", "get", "*", "a*"}

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
	switch rapid.IntRange(0, 10).Draw(t, "leaf") {
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
	return "responseStatus.code in [200, 403]"
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
	for key, fields := range map[string][]string{"user": {"username"}, "impersonatedUser": {"username"}, "objectRef": {"name", "namespace"}, "annotations": {"k"}, "requestObject": {"a"}} {
		if rapid.Bool().Draw(t, key) {
			o := map[string]any{}
			for _, f := range fields {
				put(o, f)
			}
			if key == "user" {
				o["groups"] = rapid.SliceOfN(rapid.SampledFrom(words), 0, 2).Draw(t, "groups")
			}
			m[key] = o
		}
	}
	m["sourceIPs"] = rapid.SliceOfN(rapid.SampledFrom(words), 0, 2).Draw(t, "ips")
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
	return ev
}

// TestPrefilterIsImplied: on random conditions and events, a prefilter is true whenever its condition is.
func TestPrefilterIsImplied(t *testing.T) {
	env := format(t).env
	filters := 0
	rapid.Check(t, func(t *rapid.T) {
		text := conditionText(t, 3)
		c, pre, errs := compileBoth(env, text, nil)
		if len(errs) > 0 {
			t.Fatal(text, errs)
		}
		if pre == nil {
			return
		}
		filters++
		for range 10 {
			ev := randomEvent(t)
			ok, err := c.Match(&ev)
			want := match.Eval(pre, &ev)
			if ok && !want {
				t.Fatalf("%s\nprefilter %s\nrejects %s (%v)", text, pre, ev.Raw, err)
			}
		}
	})
	if filters == 0 {
		t.Error("no condition had a prefilter")
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
