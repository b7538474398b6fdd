package native

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"whodunit/internal/audit"
	"whodunit/internal/match"
	"whodunit/internal/rule"
)

// planned is a condition with both programs; fast is nil where it has no such form.
func planned(t interface{ Fatal(...any) }, env *environment, text string, c constants) *condition {
	checked, errs := env.check(text, c)
	if len(errs) > 0 {
		t.Fatal(text, errs)
	}
	out := &condition{env: env, text: text, consts: c}
	out.once.Do(func() {})
	out.planCEL(checked)
	if out.err != nil {
		t.Fatal(text, out.err)
	}
	quick := &condition{env: env, text: text, consts: c}
	quick.plan()
	out.fast = quick.fast
	return out
}

// sameAnswer holds the fast form against CEL, reasons of errors included: but where several parts fail, either may name its own.
func sameAnswer(c *condition, ev *audit.Event) error {
	got, gotErr := c.fast.run(ev, &c.env.frames)
	want, wantErr := c.matchCEL(ev)
	if got != want || (gotErr == nil) != (wantErr == nil) || errors.Is(gotErr, rule.ErrCost) != errors.Is(wantErr, rule.ErrCost) {
		return fmt.Errorf("%s\nis %t (%v), and CEL says %t (%v)\nof %.4000s", c.text, got, gotErr, want, wantErr, ev.Raw)
	}
	return nil
}

// bodyValue draws a JSON value of the few names and texts that bodyCondition asks for.
func bodyValue(t *rapid.T, depth int) string {
	kind := rapid.IntRange(0, 9).Draw(t, "json")
	if depth == 0 {
		kind %= 6
	}
	var parts []string
	switch kind {
	case 0, 1:
		return strconv.Quote(rapid.SampledFrom([]string{"", "a", "b", "AB", "/a/../b", "a/b:1", "é", "10.0.0.1"}).Draw(t, "text"))
	case 2:
		return rapid.SampledFrom([]string{"0", "1", "-1", "1.0", "1.5", "1e400", "99999999999999999999", "9007199254740993"}).Draw(t, "number")
	case 3:
		return rapid.SampledFrom([]string{"true", "false"}).Draw(t, "bool")
	case 4:
		return "null"
	case 5:
		return rapid.SampledFrom([]string{"{}", "[]", `"\ud800"`, `"\u0061"`, `[["a"],"a"]`, "\"\xff\""}).Draw(t, "odd")
	case 6, 7:
		for range rapid.IntRange(0, 2).Draw(t, "elements") {
			parts = append(parts, bodyValue(t, depth-1))
		}
		return "[" + strings.Join(parts, " ,") + "]"
	}
	for range rapid.IntRange(0, 3).Draw(t, "members") {
		name := rapid.SampledFrom([]string{`"a"`, `"a"`, `"b"`, `"\u0061"`, `"a.b"`, `""`}).Draw(t, "name")
		parts = append(parts, name+" : "+bodyValue(t, depth-1))
	}
	return "{" + strings.Join(parts, ", ") + "}"
}

// bodyEvent draws an event with bodies: of a pod, of anything, or JSON Patches.
func bodyEvent(t *rapid.T) audit.Event {
	ev := randomEvent(t)
	body := func() string {
		switch rapid.IntRange(0, 5).Draw(t, "body") {
		case 0:
			return "null"
		case 1:
			return fmt.Sprintf(`[{"op":"add","path":%q,"value":%s},{"op":"replace","path":"/b/0","value":%s}]`, rapid.SampledFrom([]string{"/a", "/a/b", "/a/-", ""}).Draw(t, "path"), bodyValue(t, 2), bodyValue(t, 1))
		case 2:
			spec := fmt.Sprintf(`{"containers":[{"image":%s,"a":%s},%s],"initContainers":%s,"volumes":[{"hostPath":{"path":%s}},{"hostPath":%s}]}`,
				bodyValue(t, 0), bodyValue(t, 1), bodyValue(t, 1), bodyValue(t, 1), bodyValue(t, 0), bodyValue(t, 1))
			return strings.ReplaceAll(rapid.SampledFrom([]string{`{"spec":@}`, `{"spec":{"template":{"spec":@}}}`, `{"spec":{"jobTemplate":{"spec":{"template":{"spec":@}}}}}`, `{"template":{"spec":@}}`}).Draw(t, "workload"), "@", spec)
		}
		return bodyValue(t, 4)
	}
	var m map[string]json.RawMessage
	if err := json.Unmarshal(ev.Raw, &m); err != nil {
		t.Fatal(err)
	}
	delete(m, "requestObject")
	raw, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	text := string(raw[:len(raw)-1]) + `,"requestObject":` + body() + `,"responseObject":` + body() + "}"
	out, err := audit.Parse("c", []byte(text))
	if err != nil {
		t.Fatal(err, text)
	}
	out.Flags = ev.Flags
	return out
}

// bodyCondition draws a condition about bodies; vars are the variables in scope.
func bodyCondition(t *rapid.T, depth int, vars ...string) string {
	pick := func(from ...string) string { return rapid.SampledFrom(from).Draw(t, "pick") }
	if depth > 0 {
		v := "v" + strconv.Itoa(len(vars))
		sub := func(more ...string) string {
			return bodyCondition(t, depth-1, append(append([]string{}, vars...), more...)...)
		}
		switch rapid.IntRange(0, 8).Draw(t, "form") {
		case 0:
			return "(" + sub() + pick(" && ", " || ") + sub() + ")"
		case 1:
			return "!(" + sub() + ")"
		case 2, 3:
			return bodyTerm(t, vars...) + pick(".exists(", ".exists(", ".all(") + v + ", " + sub(v) + ")"
		case 4:
			return pick("containers(requestObject)", "podSpecs(requestObject)", "images(requestObject)", "hostPaths(requestObject)", "[requestObject, responseObject]", `["a", "b", "^a"]`, "user.groups") +
				pick(".exists(", ".all(") + v + ", " + sub(v) + ")"
		case 5:
			return "cel.bind(" + v + ", " + bodyTerm(t, vars...) + ", " + sub(v) + ")"
		case 6:
			return "(" + sub() + " ? " + sub() + " : " + sub() + ")"
		case 7:
			return conditionText(t, 1)
		}
	}
	return bodyLeaf(t, pick, vars...)
}

func bodyLeaf(t *rapid.T, pick func(...string) string, vars ...string) string {
	x := bodyTerm(t, vars...)
	word := strconv.Quote(pick("", "a", "b", "ab", "/b", "a*"))
	switch rapid.IntRange(0, 9).Draw(t, "leaf") {
	case 0, 1:
		return x + pick(" == ", " != ") + pick(word, "true", "1", "1.0", "null", "[]", "9007199254740992", `["a"]`, bodyTerm(t, vars...))
	case 2:
		return x + pick(" in ", " in ") + pick(`["a", "b"]`, `[1, 2]`, `[1.0, "a"]`, "[]", `["a","b","c","d","e","f","g","h","i"]`, bodyTerm(t, vars...))
	case 3:
		return word + " in " + x
	case 4:
		return x + "." + pick("startsWith", "endsWith", "contains", "matches") + "(" + pick(`"a"`, `""`, `"^b"`) + ")"
	case 5:
		return x + pick(" < ", " <= ", " > ", " >= ") + pick("1", "1.5", `"a"`, "true", bodyTerm(t, vars...))
	case 6:
		return "has(" + pick(append([]string{"requestObject", "requestObject.a", "responseObject.b", "annotations", "user"}, vars...)...) + pick(".a", ".b", ".a.b") + ")"
	case 7:
		return x + ".size()" + pick(" > ", " == ", " != ") + pick("0", "1", "2")
	case 8:
		return pick("isServiceAccount", "isSystemUser", "isPublicIP") + "(" + x + ")"
	}
	return x
}

// bodyTerm draws a value.
func bodyTerm(t *rapid.T, vars ...string) string {
	pick := func(from ...string) string { return rapid.SampledFrom(from).Draw(t, "pick") }
	root := append([]string{"requestObject", "responseObject", "requestObject.spec", "annotations"}, vars...)
	root = append(root, vars...)
	x := pick(root...)
	switch rapid.IntRange(0, 12).Draw(t, "term") {
	case 0:
		return x + ".?a.orValue(" + pick(`"a"`, "1", "null", "[]") + ")"
	case 1:
		return x + pick(".?a.?b", ".?a.b") + ".or(" + pick(root...) + ".?b).orValue(" + pick(`"a"`, "false") + ")"
	case 2:
		return x + pick(`["a"]`, `["a.b"]`, "[0]", "[1]", `["a"][0]`)
	case 3:
		return x + ".a." + pick(`lowerAscii()`, `upperAscii()`, `replace("a", "")`, `split("/")`, `split("")`)
	case 4:
		return pick("fold", "cleanPath", "imageRegistry", "imageRepository", "serviceAccountNamespace", "serviceAccountName", "execCommand") + "(" + x + pick("", ".a", ".image") + ")"
	case 5:
		return pick(`uriParam("command")`, `values("requestObject.a")`, "user.groups", "sourceIPs", "execCommand()", "userAgent", "responseStatus.code", `requestURI.split("?")[0]`, `user.extra`)
	case 6:
		return pick("images", "hostPaths", "containers", "podSpecs") + "(" + x + ")"
	case 7:
		return x
	}
	return x + pick(".a", ".b", ".a.b", ".image", ".b.a")
}

// TestFastIsCEL: on random conditions and events the fast form says what CEL says.
func TestFastIsCEL(t *testing.T) {
	env := format(t).env
	fast, all, right := 0, 0, 0
	rapid.Check(t, func(t *rapid.T) {
		text := bodyCondition(t, 3)
		if _, errs := env.check(text, constants{}); len(errs) > 0 {
			t.Skip() // has no type
		}
		c := planned(t, env, text, constants{})
		both, _ := env.compile(text, constants{})
		pre := both.expr
		if all++; c.fast == nil {
			return
		}
		fast++
		for range 6 {
			ev := bodyEvent(t)
			if ok, _ := c.matchCEL(&ev); ok && pre != nil && !match.Eval(pre, &ev) {
				t.Fatalf("%s\nis true, and its prefilter %s not, of %s", text, pre, ev.Raw)
			}
			if err := sameAnswer(c, &ev); err != nil {
				t.Fatal(err)
			}
			if _, err := c.matchCEL(&ev); err == nil {
				right++
			}
		}
	})
	if fast*4 < all*3 || right == 0 {
		t.Errorf("%d of %d conditions have a fast form; %d answers", fast, all, right)
	}
}

// TestShippedRulesAreFast: the conditions of the shipped rules have the form, and say of recorded events what CEL says.
func TestShippedRulesAreFast(t *testing.T) {
	f := format(t)
	loaded := rule.Load([]rule.Layer{{FS: os.DirFS(filepath.Join("..", "..", "..", "rules"))}}, f)
	events := []audit.Event{event(t, bare), event(t, secretGet), event(t, podCreate), event(t, jsonPatch)}
	for _, r := range loaded.Rules {
		for _, test := range r.Tests {
			events = append(append(events, test.Event), test.Events...)
		}
	}
	n := 0
	for _, r := range loaded.Rules {
		c, ok := r.Condition.(*condition)
		if !ok {
			continue
		}
		n++
		both := planned(t, f.env, c.text, c.consts)
		if both.fast == nil {
			t.Errorf("%s has no fast form", r.ID)
			continue
		}
		for i := range events {
			if ok, _ := both.matchCEL(&events[i]); ok && !match.Eval(r.Expr, &events[i]) {
				t.Fatalf("%s: the prefilter %s rejects %s", r.ID, r.Expr, events[i].Raw)
			}
			if err := sameAnswer(both, &events[i]); err != nil {
				t.Fatalf("%s: %v", r.ID, err)
			}
		}
	}
	if n == 0 || len(events) < 100 {
		t.Errorf("%d conditions, %d events", n, len(events))
	}
}
