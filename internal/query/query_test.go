package query

import (
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"whodunit/internal/match"
)

func TestParse(t *testing.T) {
	for _, c := range []struct{ q, want string }{
		{"", "true"}, {"  ", "true"}, {"*", "true"}, {"*:*", "true"}, {"not *", "false"},
		{"verb:delete", `verb == "delete"`},
		{"verb: delete", `verb == "delete"`},
		{"verb:delete and objectRef.resource:secrets and not user.username:system\\:*",
			`(verb == "delete" and objectRef.resource == "secrets" and not user.username startsWith "system:")`},
		{"a:1 or b:2 and c:3", `(a == "1" or (b == "2" and c == "3"))`},
		{"(a:1 or b:2) AND c:3", `((a == "1" or b == "2") and c == "3")`},
		{"a:1 Or (b:2 oR c:3)", `(a == "1" or b == "2" or c == "3")`},
		{"not not a:1", `a == "1"`}, {"not (a:1 and b:2)", `not (a == "1" and b == "2")`},
		{"verb:(create or update or patch)", `verb == "create"|"update"|"patch"`},
		{"a:(x* or y* or z)", `(a startsWith "x"|"y" or a == "z")`},
		{"a:(x and not y)", `(a == "x" and not a == "y")`},
		{"a:not x", "ERROR"},
		{"code >= 400", `responseStatus.code >= "400"`}, {"code<500", `responseStatus.code < "500"`},
		{"@timestamp >= 2026-11-21", `stageTimestamp >= "2026-11-21T00:00:00Z"`},
		{`stageTimestamp < "2026-11-21T10:00:00+01:00"`, `stageTimestamp < "2026-11-21T10:00:00+01:00"`},
		{"severity >= high", `severity == "high"|"critical"`}, {"level < Request", `level == "None"|"Metadata"`}, {"level < None", "false"},
		{"as:*", "impersonatedUser.username exists"}, {"not as:*", "not impersonatedUser.username exists"},
		{"uri:*exec*", `requestURI contains "exec"`}, {"uri:*exec", `requestURI endsWith "exec"`},
		{"uri:/api/*/pods/*?x", `requestURI glob "/api/*/pods/*\\?x"`},
		{`a:"x*"`, `a == "x*"`}, {`a:x\*`, `a == "x*"`}, {`a:""`, `a == ""`}, {`a:"\"\\\t\u0041\("`, `a == "\"\\\tA\\("`},
		{`a:\and`, `a == "and"`}, {`a:\andy`, "ERROR"}, {`a:\u00e9t\u00E9`, `a == "été"`},
		{"a:John Doe", `a == "John Doe"`}, {"a:John Do* and b:1", `(a startsWith "John Do" and b == "1")`},
		{`"user":*`, "user exists"}, {`"id":x`, `id == "x"`}, {"requestObject.spec.replicas:0", `requestObject.spec.replicas == "0"`},
		{"sa:shop/web", `user.username == "system:serviceaccount:shop:web"`}, {"sa:shop/*", `user.username startsWith "system:serviceaccount:shop:"`},
		{"sa:web", `user.username glob "system:serviceaccount:*:web"`}, {"sa:*", `user.username startsWith "system:serviceaccount:"`},
		{"ip:10.0.0.0/8", `sourceIPs startsWith "10."`}, {"peer:192.0.2.128/25", ""},
		{"ip:172.16.0.0/14", `sourceIPs startsWith "172.16."|"172.17."|"172.18."|"172.19."`},
		{"ip:192.0.2.7/32", `sourceIPs == "192.0.2.7"`}, {"ip:192.0.2.4/31", `sourceIPs == "192.0.2.4"|"192.0.2.5"`},
		{"Mallory", `text "mallory"`}, {"mal*", `text "mal"*`}, {`"Cat /etc/Shadow"`, `text "cat /etc/shadow"`},
		{"mallory shadow", `(text "mallory" and text "shadow")`}, {"mallory or verb:get", `(text "mallory" or verb == "get")`},
		{"android", `text "android"`}, {"nothing", `text "nothing"`},
	} {
		e, err := Parse(c.q)
		switch {
		case c.want == "ERROR" && err == nil:
			t.Errorf("%s: got %v, want an error", c.q, e)
		case c.want == "ERROR":
		case err != nil:
			t.Errorf("%s: %v", c.q, err)
		case c.want != "" && e.String() != c.want:
			t.Errorf("%s:\n got %v\nwant %v", c.q, e, c.want)
		}
	}
}

func TestErrorsPointAtThePlace(t *testing.T) {
	for _, c := range []struct {
		q      string
		column int
		msg    string
	}{
		{"verb:delete resource:secrets", 13, `expected "and" or "or" before resource`},
		{"verb:", 6, "expected a value after verb:, found the end"},
		{"user:system:masters", 12, "colon"},
		{"(verb:get", 1, "not closed"}, {"verb:get)", 9, `no "("`}, {`verb:"get`, 6, "not closed"},
		{"verb:get and", 13, "expected a condition such as verb:delete, found the end"}, {"and", 1, "expected a condition"},
		{"code >= high", 9, "expected a number or a time"}, {"code >=", 8, "found the end"}, {"code:>=400", 6, "without the colon"},
		{"@timestamp > 2026-11-21T10:00:00Z", 14, "must be quoted"}, {"severity > hi", 12, "expected one of info, low"},
		{"é:\\x", 3, "backslash"}, {"*dmin", 1, "wildcard may only end"}, {"a*b:c", 1, "field name cannot have a wildcard"},
		{"a:{b:c}", 3, "found {"}, {`""`, 1, "expected a word"}, {`"":x`, 1, "expected a field name"}, {"ip:10.0.0/8", 4, "10.0.0.0/8"},
		{"ip:fd00\\:\\:/8", 4, "IPv6"}, {"foo verb:get", 5, `before verb`}, {"a:(x y:z)", 6, "before y"}, {"a:(x or)", 8, "found )"},
		{strings.Repeat("(", 70) + "a", 65, "nested deeper"}, {strings.Repeat("not ", 70) + "a", 257, "nested deeper"},
		{strings.Repeat("a", MaxLength+1), MaxLength + 1, "longer than"}, {"a < 1 2", 7, `before 2`},
	} {
		_, err := Parse(c.q)
		var e *Error
		if !errors.As(err, &e) {
			t.Errorf("%.80s: got %v", c.q, err)
			continue
		}
		if e.Column() != c.column || !strings.Contains(e.Msg, c.msg) {
			t.Errorf("%.80s: got column %d: %s", c.q, e.Column(), e.Msg)
		}
	}
}

func TestErrorText(t *testing.T) {
	for q, want := range map[string]string{
		"verb:get and \x1b[2J ns:(a or": `cannot read the query at column 19: expected "and" or "or" before ns
    verb:get and  [2J ns:(a or
                      ^`,
		strings.Repeat("a and ", 50) + "verb:) and " + strings.Repeat("b or ", 50): `cannot read the query at column 306: expected a value after verb:, found )
    …` + (strings.Repeat("a and ", 50) + "verb:")[245:] + (") and " + strings.Repeat("b or ", 50))[:60] + `…
    ` + strings.Repeat(" ", 61) + "^",
	} {
		_, err := Parse(q)
		if err == nil || err.Error() != want {
			t.Errorf("%q:\n%v\nwant\n%s", q, err, want)
		}
	}
}

// check holds Parse and Format against each other for one query and says whether it parsed.
func check(t interface {
	Errorf(string, ...any)
	Helper()
}, q string) bool {
	t.Helper()
	e, err := Parse(q)
	if err != nil {
		var at *Error
		if !errors.As(err, &at) || at.Offset > len(at.Query) {
			t.Errorf("%q: %v", q, err)
		}
		_ = err.Error()
		return false
	}
	written, err := Format(e)
	if err != nil {
		t.Errorf("%q: %v", q, err)
		return true
	}
	again, err := Parse(written)
	if err != nil {
		t.Errorf("%q was written as %q, which does not parse: %v", q, written, err)
		return true
	}
	if again.String() != e.String() {
		t.Errorf("%q was written as %q:\n got %v\nwant %v", q, written, again, e)
	}
	return true
}

func TestFormatIsStable(t *testing.T) {
	pieces := []string{"a", "verb", "user", "ip", "sa", ":", ":", " ", " ", "(", ")", "and", "or", "not", " and ", " or ", " not ", "*", `"`, `\`, `\:`,
		"<", ">=", "10", "2026-11-21", "10.0.0.0/12", "é", "İ", "K", "x y", `"p q"`, "\t", "{", `\u0041`, "severity", "high", "?", "/"}
	rapid.Check(t, func(t *rapid.T) {
		check(t, strings.Join(rapid.SliceOfN(rapid.SampledFrom(pieces), 0, 14).Draw(t, "query"), ""))
	})
}

// Format's query for any expression that has one means the same.
func TestFormatOfBuiltExpressions(t *testing.T) {
	texts := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"and", "NOT", "a b", " a", "*", `\`, `"`, "x:y", "1", "", "\u2028", "\xff"}))
	var draw func(t *rapid.T, depth int) match.Expr
	draw = func(t *rapid.T, depth int) match.Expr {
		switch kind := rapid.IntRange(0, 6).Draw(t, "kind"); {
		case kind == 0 && depth > 0:
			return match.And{draw(t, depth-1), draw(t, depth-1), draw(t, depth-1)}
		case kind == 1 && depth > 0:
			return match.Or{draw(t, depth-1), draw(t, depth-1)}
		case kind == 2 && depth > 0:
			return match.Not{X: draw(t, depth-1)}
		case kind == 3:
			return &match.Text{Word: lower(texts.Draw(t, "word")), Open: rapid.Bool().Draw(t, "open")}
		}
		p := &match.Pred{Path: texts.Draw(t, "path"), Op: match.Op(rapid.IntRange(0, int(match.GreaterEqual)).Draw(t, "op"))}
		if p.Op != match.Exists {
			p.Values = []string{texts.Draw(t, "value")}
			if p.Op < match.Less && rapid.Bool().Draw(t, "two") {
				p.Values = append(p.Values, texts.Draw(t, "value"))
			}
		}
		return p
	}
	rapid.Check(t, func(t *rapid.T) {
		e := draw(t, 3)
		written, err := Format(e)
		if err != nil {
			return
		}
		again, err := Parse(written)
		if err != nil {
			t.Fatalf("%v was written as %q: %v", e, written, err)
		}
		twice, err := Format(again)
		if err != nil {
			t.Fatal(err)
		}
		third, err := Parse(twice)
		if err != nil || third.String() != again.String() {
			t.Fatalf("%v was written as %q, then as %q: %v", e, written, twice, err)
		}
	})
}

func FuzzParse(f *testing.F) {
	for _, q := range []string{"", "verb:delete and not user:system\\:*", `a:(x or "y z" and not \and*) or code >= 4e2`, `"a":\u0041`, "ip:10.0.0.0/9", "sa:*/x", "foo bar*", "((", "a:*b*c*"} {
		f.Add(q)
	}
	f.Fuzz(func(t *testing.T, q string) { check(t, q) })
}
