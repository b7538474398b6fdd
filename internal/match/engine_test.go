package match

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"whodunit/internal/audit"
)

// The engine is held to Eval: for any rules and any events, Match and MatchRaw give the places of exactly the rules that Eval says are
// true, whatever the matcher has learnt before.

var (
	hostileNames = []string{"a", "b", "a.b", "a.b.c", "c", "verb", "user", "user.username", "username", "objectRef", "resource", "apiGroup", "apiVersion",
		"annotations", "authorization.k8s.io/decision", "cluster", "peer", "sourceIPs", "requestObject", "spec", "containers", "image", "", ".", "code",
		"objectRef.resource", "responseStatus", "authorization", "k8s"}
	hostilePaths = []string{"a", "b", "a.b", "a.b.c", "a.a.a", "b.a", "c", "c.c", "verb", "user.username", "user", "responseStatus.code", "objectRef.resource",
		"objectRef.apiGroup", "stage", "cluster", "peer", "sourceIPs", "annotations.authorization.k8s.io/decision", "requestObject.spec.containers.image",
		"requestObject", "requestObject.a", "requestObject.a.b", "", ".", "a.", ".a", "verb.", "impersonatedUser.username", "objectRef", "annotations", "auditID"}
	hostileValues = []string{"a", "A", "", "b", "ab", "é", "É", "ſ", "K", "\u017f", "ͅ", "web", "Web-1", "-1", "0", "2.5", "1e2", "200", "403", "true", "null", "10.0.0.7",
		"::ffff:10.0.0.7", "2001:db8::1", "fe80::1%eth0", "2026-11-21T10:00:00Z", "2026-11-21T11:00:00.5+01:00", "pods", "system:node:a", "apps/v1",
		"\u2028&<>", "\n", "日本", "a\\b", "\"", "�", "aaaaaaaaaaaa", "9007199254740993", "9223372036854775808", "-0"}
	regexes  = []string{"a", "^a", "b$", "(?i)WEB", "a|b", "(?i:é)k?", "we[bB]", "^$", ".", "", "[a-z]+-[0-9]", "(foo|web|日)", "s(y|z)stem:(node|pod)", "\\x{fffd}", "(a+)+$", "(?s)^.*$"}
	networks = []string{"10.0.0.0/8", "10.0.0.7", "::ffff:10.0.0.0/104", "2001:db8::/32", "::/0", "0.0.0.0/0", "fe80::1", "::ffff:0:0/90", "10.0.0.9/30"}
)

func hostileText(t *rapid.T) string {
	if rapid.IntRange(0, 3).Draw(t, "pieces") == 0 {
		return drawText(t, "text", 0)
	}
	return rapid.SampledFrom(hostileValues).Draw(t, "value")
}

// appendHostile writes JSON that no encoder would: duplicate names, escapes, white space, invalid UTF-8.
func appendHostile(t *rapid.T, b []byte, depth int) []byte {
	kind := rapid.IntRange(0, 9).Draw(t, "kind")
	if depth == 0 && kind < 4 {
		kind += 4
	}
	space := func() {
		if rapid.IntRange(0, 7).Draw(t, "space") == 0 {
			b = append(b, " \n\t"...)
		}
	}
	switch kind {
	case 0, 1:
		b = append(b, '{')
		for i := range rapid.IntRange(0, 4).Draw(t, "members") {
			if i > 0 {
				b = append(b, ',')
			}
			space()
			b = appendString(t, b, rapid.SampledFrom(hostileNames).Draw(t, "name"))
			space()
			b = append(b, ':')
			space()
			b = appendHostile(t, b, depth-1)
			space()
		}
		return append(b, '}')
	case 2, 3:
		b = append(b, '[')
		for i := range rapid.IntRange(0, 3).Draw(t, "elements") {
			if i > 0 {
				b = append(b, ',')
			}
			space()
			b = appendHostile(t, b, depth-1)
			space()
		}
		return append(b, ']')
	case 4:
		return append(b, rapid.SampledFrom([]string{"null", "true", "false"}).Draw(t, "word")...)
	case 5:
		return append(b, rapid.SampledFrom([]string{"0", "-0", "-1", "2.5", "200", "403", "1e2", "9007199254740993", "9223372036854775808"}).Draw(t, "number")...)
	}
	return appendString(t, b, hostileText(t))
}

func appendString(t *rapid.T, b []byte, s string) []byte {
	switch rapid.IntRange(0, 5).Draw(t, "form") {
	case 0: // everything escaped
		b = append(b, '"')
		for _, r := range s {
			if r > 0xffff {
				r = 0xfffd
			}
			b = fmt.Appendf(b, `\u%04x`, r)
		}
		return append(b, '"')
	case 1: // bytes that are no UTF-8, a lone surrogate
		q, _ := json.Marshal(s)
		return append(append(b, q[:len(q)-1]...), "\xff\xc3\\ud800\\/\""...)
	}
	q, _ := json.Marshal(s)
	return append(b, q...)
}

func hostileEvent(t *rapid.T, generic bool) []byte {
	b := []byte(`{"auditID":"a1","stage":"Panic"`)
	if generic {
		b = []byte(`{"x":1`)
	}
	top := append([]string{"auditID", "stage", "kind", "apiVersion", "level", "requestURI", "responseObject", "impersonatedUser"}, hostileNames...)
	for range rapid.IntRange(0, 8).Draw(t, "members") {
		b = append(b, ',')
		name := rapid.SampledFrom(top).Draw(t, "name")
		b = append(appendString(t, b, name), ':')
		switch rapid.IntRange(0, 3).Draw(t, "shape") {
		case 0:
			b = append(b, shapes(t, name)...)
		default:
			b = appendHostile(t, b, 3)
		}
	}
	return append(b, rapid.SampledFrom([]string{"}", " }\n"}).Draw(t, "end")...)
}

// shapes is a value of the kind that the name has in real events.
func shapes(t *rapid.T, name string) string {
	v := strconv.Quote(rapid.SampledFrom([]string{"pods", "web", "a", "10.0.0.7", "apps/v1"}).Draw(t, "real"))
	switch name {
	case "user", "impersonatedUser":
		return `{"username":` + v + `,"groups":["a",` + v + `]}`
	case "objectRef":
		return `{"resource":` + v + `,"apiVersion":` + v + `,"name":"web"}`
	case "sourceIPs":
		return `["10.0.0.9",null,{"a":1},` + v + `]`
	case "responseStatus":
		return `{"code":` + rapid.SampledFrom([]string{"200", "403", `"403"`, "-0", "4e2"}).Draw(t, "code") + `}`
	case "annotations":
		return `{"authorization.k8s.io/decision":` + v + `}`
	case "requestObject":
		return `{"spec":{"containers":[{"image":` + v + `},{"image":"a"},[{"image":"b"}]]},"a":[{"b":1},{"b":null}]}`
	}
	return v
}

// Computed fields and conditions of the tests; what they mean hangs on their names alone.
func testField(i int) *Field {
	f := &Field{Name: "field" + strconv.Itoa(i), Values: func(ev *audit.Event, yield func(string) bool) {
		for v := range Values(ev, []string{"a", "requestObject.spec.containers.image", "sourceIPs"}[i]) {
			if !yield(v) {
				return
			}
		}
		if i == 1 {
			yield(ev.Verb)
		}
	}}
	if i > 0 {
		f.Null = func(ev *audit.Event) bool { return IsPresent(ev, "b") }
	}
	return f
}

func testFunc(i int) *Func {
	if i == 3 {
		return &Func{Name: "reused", Flags: audit.FlagIDReused, Eval: func(ev *audit.Event) bool { return ev.Flags&audit.FlagIDReused != 0 }}
	}
	return &Func{Name: "func" + strconv.Itoa(i), Eval: func(ev *audit.Event) bool { return len(ev.Raw)%(i+2) == 0 }}
}

func hostileExpr(t *rapid.T, depth int) Expr {
	kind := rapid.IntRange(0, 11).Draw(t, "expr")
	if depth == 0 && kind < 3 {
		kind += 6
	}
	switch kind {
	case 0, 1:
		parts := make([]Expr, rapid.IntRange(0, 3).Draw(t, "parts"))
		for i := range parts {
			parts[i] = hostileExpr(t, depth-1)
		}
		if kind == 0 {
			return And(parts)
		}
		return Or(parts)
	case 2:
		return Not{hostileExpr(t, depth-1)}
	case 3:
		return &Text{Word: strings.ToLower(drawText(t, "word", 1)), Open: rapid.Bool().Draw(t, "open")}
	case 4:
		if rapid.Bool().Draw(t, "constant") {
			return rapid.SampledFrom([]Expr{nil, Const(true), Const(false)}).Draw(t, "const")
		}
		return testFunc(rapid.IntRange(0, 3).Draw(t, "func"))
	}
	return hostilePred(t)
}

func hostilePred(t *rapid.T) *Pred {
	p := &Pred{Op: Op(rapid.IntRange(0, int(Present)).Draw(t, "op")), Fold: rapid.Bool().Draw(t, "fold"), All: rapid.IntRange(0, 2).Draw(t, "all") == 0}
	if rapid.IntRange(0, 5).Draw(t, "computed") == 0 {
		p.Field = testField(rapid.IntRange(0, 2).Draw(t, "field"))
	} else {
		p.Path = rapid.SampledFrom(hostilePaths).Draw(t, "path")
	}
	for range rapid.IntRange(0, 3).Draw(t, "constants") {
		switch p.Op {
		case Regex:
			p.Values = append(p.Values, rapid.SampledFrom(regexes).Draw(t, "regex"))
		case CIDR:
			p.Values = append(p.Values, rapid.SampledFrom(networks).Draw(t, "network"))
		case Glob:
			v := hostileText(t)
			p.Values = append(p.Values, rapid.SampledFrom([]string{v, v + "*", "*" + v, "*" + v + "*", v + "*" + v, v + "?", "*\xff", "**" + v}).Draw(t, "glob"))
		case Exists, Present:
		default:
			p.Values = append(p.Values, rapid.SampledFrom([]string{hostileText(t), hostileText(t), "\xff", "\xc3"}).Draw(t, "constant"))
		}
	}
	return p
}

// agree holds one matcher to Eval on one event.
func agree(t rapid.TB, m *Matcher, exprs []Expr, raw []byte, generic bool) {
	t.Helper()
	parse := audit.Parse
	if generic {
		parse = audit.Generic
	}
	ev, parseErr := parse("prod", slices.Clone(raw))
	got, err := m.MatchRaw("prod", raw, []int{-1})
	if parseErr != nil {
		return // MatchRaw may find less
	}
	if err != nil {
		t.Fatalf("%s: %v", raw, err)
	}
	want := truths(exprs, &ev)
	if !slices.Equal(got, want) {
		explain(t, "MatchRaw", exprs, raw, got, want)
	}
	for range 2 {
		if got := m.Match(&ev, []int{-1}); !slices.Equal(got, want) {
			explain(t, "Match", exprs, raw, got, want)
		}
		ev.Flags |= audit.FlagIDReused
		want = truths(exprs, &ev)
	}
}

// truths is what Eval says, behind a -1.
func truths(exprs []Expr, ev *audit.Event) []int {
	out := []int{-1}
	for i, x := range exprs {
		if Eval(x, ev) {
			out = append(out, i)
		}
	}
	return out
}

func explain(t rapid.TB, what string, exprs []Expr, raw []byte, got, want []int) {
	t.Helper()
	for i, x := range exprs {
		if slices.Contains(got, i) != slices.Contains(want, i) {
			t.Errorf("expression %d: %v: Eval says %v", i, x, slices.Contains(want, i))
		}
	}
	t.Fatalf("%s on %q: got %v, want %v", what, raw, got, want)
}

func TestEngineIsEval(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		exprs := make([]Expr, rapid.IntRange(1, 12).Draw(t, "rules"))
		for i := range exprs {
			exprs[i] = hostileExpr(t, 3)
		}
		generic := rapid.IntRange(0, 4).Draw(t, "generic") == 0
		e, err := NewEngine(exprs, EngineOptions{MaxStates: rapid.SampledFrom([]int{0, 0, 2, 3, 7}).Draw(t, "states"), Generic: generic})
		if err != nil {
			t.Fatal(err)
		}
		m := e.Matcher()
		for range rapid.IntRange(1, 6).Draw(t, "events") {
			raw := hostileEvent(t, generic)
			for range 2 {
				agree(t, m, exprs, raw, generic)
			}
		}
	})
}
