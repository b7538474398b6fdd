package falco

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"whodunit/internal/audit"
	"whodunit/internal/match"
)

// oracle evaluates a parsed condition as Falco's documentation words it, over the values of its fields.
type oracle struct {
	c  *compiler
	ev *audit.Event
}

func (o oracle) eval(n *node) bool {
	switch n.kind {
	case andNode:
		return !slices.ContainsFunc(n.parts, func(p *node) bool { return !o.eval(p) })
	case orNode:
		return slices.ContainsFunc(n.parts, o.eval)
	case notNode:
		return !o.eval(n.parts[0])
	}
	k := n.check
	left, _ := o.c.operand(k.left)
	values := left.collect(o.ev)
	if len(values) == 0 {
		return false
	}
	var right []string
	if k.right != nil {
		r, _ := o.c.operand(k.right)
		if right = r.collect(o.ev); len(right) == 0 {
			return false
		}
	} else if k.values != nil {
		right = k.values.texts
	}
	in := func(v string) bool { return slices.Contains(right, v) }
	switch k.op {
	case "exists":
		return true
	case "in":
		return !slices.ContainsFunc(values, func(v string) bool { return !in(v) })
	case "intersects":
		return slices.ContainsFunc(values, in)
	}
	n1 := 0
	for _, r := range right {
		if one(k.op, values[0], r) {
			n1++
		}
	}
	switch k.mod {
	case "oneof":
		return n1 == 1
	case "allof":
		return n1 == len(right) && n1 > 0
	}
	return n1 > 0
}

func one(op, v, c string) bool {
	switch op {
	case "=", "==":
		return v == c
	case "!=":
		return v != c
	case "contains":
		return strings.Contains(v, c)
	case "icontains":
		return strings.Contains(strings.ToLower(v), strings.ToLower(c))
	case "startswith":
		return strings.HasPrefix(v, c)
	case "endswith":
		return strings.HasSuffix(v, c)
	case "regex":
		m := regexp.MustCompile(c)
		m.Longest()
		return m.FindString(v) == v && m.MatchString(v)
	case "pmatch":
		parts := func(s string) []string { return strings.FieldsFunc(s, func(r rune) bool { return r == '/' }) }
		path, prefix := parts(v), parts(c)
		return len(path) >= len(prefix) && slices.Equal(path[:len(prefix)], prefix)
	case "glob":
		return match.MatchGlob(c, v)
	}
	a, err := strconv.Atoi(v)
	b, _ := strconv.Atoi(c)
	switch op {
	case "<":
		return err == nil && a < b
	case "<=":
		return err == nil && a <= b
	case ">":
		return err == nil && a > b
	}
	return err == nil && a >= b
}

// TestOracle holds what conditions compile to against an interpreter of their own.
func TestOracle(t *testing.T) {
	text := rapid.SampledFrom([]string{"a", "b", "ab", "/a", "/a/b", "12", "9"})
	scalar := rapid.SampledFrom([]string{"ka.verb", "ka.user.name", "ka.uri", "ka.response.code", "jevt.value[/requestObject/x]", "tolower(ka.verb)", "ka.req.pod.host_pid", "concat(ka.verb, ka.uri)", "ka.uri.param[a]"})
	list := rapid.SampledFrom([]string{"ka.user.groups", "ka.sourceips", "ka.req.pod.containers.name", "ka.req.role.rules.verbs", "toupper(ka.user.groups)", "ka.user.groups"})
	values := func(t *rapid.T) string {
		return "(" + strings.Join(rapid.SliceOfN(text, 0, 3).Draw(t, "values"), ", ") + ")"
	}
	check := func(t *rapid.T) string {
		switch rapid.IntRange(0, 6).Draw(t, "kind") {
		case 0:
			return rapid.OneOf(scalar, list).Draw(t, "field") + " exists"
		case 1:
			return rapid.OneOf(scalar, list).Draw(t, "field") + rapid.SampledFrom([]string{" in ", " intersects "}).Draw(t, "op") + values(t)
		case 2:
			return scalar.Draw(t, "field") + rapid.SampledFrom([]string{" < ", " <= ", " > ", " >= "}).Draw(t, "op") + rapid.SampledFrom([]string{"9", "12", "100"}).Draw(t, "number")
		case 3:
			return scalar.Draw(t, "field") + rapid.SampledFrom([]string{" = ", " != ", " startswith ", " contains "}).Draw(t, "op") + rapid.SampledFrom(modifiers).Draw(t, "mod") + values(t)
		case 4:
			return scalar.Draw(t, "field") + rapid.SampledFrom([]string{" = ", " != ", " endswith ", " in "}).Draw(t, "op") + "val(" + rapid.SampledFrom([]string{"ka.verb", "ka.uri"}).Draw(t, "other") + ")"
		case 5:
			return scalar.Draw(t, "field") + " pmatch (" + rapid.SampledFrom([]string{"/a", "/a/b", "/a, /b", "/a/"}).Draw(t, "paths") + ")"
		}
		return scalar.Draw(t, "field") + " " + rapid.SampledFrom([]string{"=", "!=", "contains", "icontains", "startswith", "endswith", "regex", "glob"}).Draw(t, "op") + " " + text.Draw(t, "text")
	}
	rapid.Check(t, func(t *rapid.T) {
		var b strings.Builder
		for i := range rapid.IntRange(1, 4).Draw(t, "checks") {
			if i > 0 {
				b.WriteString(rapid.SampledFrom([]string{" and ", " or ", " and not ", ") or ("}).Draw(t, "word"))
			}
			b.WriteString(check(t))
		}
		condition := "(" + b.String() + ")"
		if rapid.Bool().Draw(t, "not") {
			condition = "not (" + condition + ")"
		}
		member := func(name string) string {
			if rapid.Bool().Draw(t, name) {
				return fmt.Sprintf(",%q:%q", name, text.Draw(t, "value"))
			}
			return ""
		}
		raw := `{"auditID":"a","stage":"Panic"` + member("verb") + member("requestURI") + rapid.SampledFrom([]string{
			"", `,"user":{"username":"b"}`, `,"user":{"groups":[]}`, `,"user":{"username":"ab","groups":["a","b"]}`, `,"user":{"groups":["12"]}`,
		}).Draw(t, "user") + rapid.SampledFrom([]string{"", `,"responseStatus":{"code":12}`, `,"responseStatus":{"code":100},"sourceIPs":["9","a"]`, `,"sourceIPs":[]`}).Draw(t, "status") + rapid.SampledFrom([]string{
			"", `,"requestObject":{"x":"ab","spec":{"hostPID":true,"containers":[{"name":"a"},{"name":"b"}]}}`, `,"requestObject":{"x":9,"spec":{"containers":[{"name":"a"},{}]},"rules":[{"verbs":["a"]},{"verbs":[]}]}`,
			`,"requestObject":[{"x":"a"}]`,
		}).Draw(t, "object") + "}"
		ev, err := audit.Parse("c", []byte(raw))
		if err != nil {
			t.Fatal(raw, err)
		}
		l := newLoader(reader{})
		n, bad := parse(condition, testLists{})
		if bad != nil {
			t.Fatal(condition, bad)
		}
		x, bad := l.compiler.compile(n)
		if bad != nil {
			t.Fatal(condition, bad)
		}
		if got, want := match.Eval(x.expr, &ev), (oracle{l.compiler, &ev}).eval(n); got != want {
			t.Fatalf("%s: %t, want %t: %s\n%s", condition, got, want, x.expr, raw)
		}
	})
}
