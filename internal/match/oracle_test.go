package match

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"unicode"

	"pgregory.net/rapid"

	"whodunit/internal/audit"
)

// The oracle reads the event with encoding/json into a tree and follows the comments of Expr and Values word by word.

// naiveNodes is what the path leads to, arrays entered on the way alone.
func naiveNodes(v any, path []string) []any {
	if len(path) == 0 {
		return []any{v}
	}
	switch v := v.(type) {
	case []any:
		var out []any
		for _, el := range v {
			out = append(out, naiveNodes(el, path)...)
		}
		return out
	case map[string]any:
		for n := len(path); n > 0; n-- {
			if m, ok := v[strings.Join(path[:n], ".")]; ok {
				return naiveNodes(m, path[n:])
			}
		}
	}
	return nil
}

func naiveScalars(v any) []string {
	switch v := v.(type) {
	case []any:
		var out []string
		for _, el := range v {
			out = append(out, naiveScalars(el)...)
		}
		return out
	case string:
		return []string{v}
	case json.Number:
		return []string{v.String()}
	case bool:
		return []string{strconv.FormatBool(v)}
	}
	return nil
}

func naiveValues(v any, path string) []string {
	var out []string
	for _, n := range naiveNodes(v, strings.Split(path, ".")) {
		out = append(out, naiveScalars(n)...)
	}
	return out
}

func naiveTexts(v any) []string {
	switch v := v.(type) {
	case []any:
		var out []string
		for _, el := range v {
			out = append(out, naiveTexts(el)...)
		}
		return out
	case map[string]any:
		var out []string
		for k, el := range v {
			out = append(append(out, k), naiveTexts(el)...)
		}
		return out
	}
	return naiveScalars(v)
}

func naivePred(p *Pred, v any) bool {
	if p.Op == Exists {
		for _, n := range naiveNodes(v, strings.Split(p.Path, ".")) {
			if n != nil {
				return true
			}
		}
		return false
	}
	for _, s := range naiveValues(v, p.Path) {
		for _, c := range p.Values {
			if naiveAccepts(p, s, c) {
				return true
			}
		}
	}
	return false
}

func naiveAccepts(p *Pred, s, c string) bool {
	flags := "(?s)"
	if p.Fold {
		flags = "(?si)"
	}
	quoted := regexp.QuoteMeta(c)
	var pattern string
	switch p.Op {
	case Equal:
		pattern = "^" + quoted + "$"
	case Contains:
		pattern = quoted
	case Prefix:
		pattern = "^" + quoted
	case Suffix:
		pattern = quoted + "$"
	case Glob:
		pattern = "^" + globRegexp(c) + "$"
	default:
		n, ok := Compare(s, c)
		return ok && map[Op]bool{Less: n < 0, LessEqual: n <= 0, Greater: n > 0, GreaterEqual: n >= 0}[p.Op]
	}
	return regexp.MustCompile(flags + pattern).MatchString(s)
}

func globRegexp(glob string) string {
	var b strings.Builder
	rs := []rune(glob)
	for i := 0; i < len(rs); i++ {
		switch {
		case rs[i] == '*':
			b.WriteString(".*")
		case rs[i] == '?':
			b.WriteString(".")
		case rs[i] == '\\' && i+1 < len(rs):
			i++
			b.WriteString(regexp.QuoteMeta(string(rs[i])))
		default:
			b.WriteString(regexp.QuoteMeta(string(rs[i])))
		}
	}
	return b.String()
}

func naiveText(t *Text, v any) bool {
	want := []rune(t.Word)
	letter := func(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) || r == 0x345 }
	for _, s := range naiveTexts(v) {
		rs := []rune(s)
		for i := 0; i+len(want) <= len(rs); i++ {
			end := i + len(want)
			if strings.EqualFold(string(rs[i:end]), t.Word) && (i == 0 || !letter(rs[i-1])) &&
				(t.Open || end == len(rs) || !letter(rs[end])) {
				return true
			}
		}
	}
	return false
}

func naive(e Expr, v any) bool {
	switch e := e.(type) {
	case Const:
		return bool(e)
	case And:
		all := true
		for _, p := range e {
			all = naive(p, v) && all
		}
		return all
	case Or:
		some := false
		for _, p := range e {
			some = naive(p, v) || some
		}
		return some
	case Not:
		return !naive(e.X, v)
	case *Pred:
		return naivePred(e, v)
	case *Text:
		return naiveText(e, v)
	}
	panic(fmt.Sprintf("%T", e))
}

var (
	names  = []string{"a", "b", "a.b", "c", "verb", "user", "username", "B"}
	paths  = []string{"a", "b", "a.b", "a.b.c", "b.a", "c", "c.c", "verb", "user.username", "user", "responseStatus.code", "objectRef.name", "stage"}
	pieces = []string{"a", "A", "b", "é", "É", "ſ", "S", "K", "k", "ι", "ͅ", "-", " ", "1", "٣", "*", "?", `\`, `"`, "&", "\u2028", "\n", "Web", "web", "-1", "2.5", "1e2", "日"}
)

func drawText(t *rapid.T, label string, least int) string {
	return strings.Join(rapid.SliceOfN(rapid.SampledFrom(pieces), least, 4).Draw(t, label), "")
}

func drawJSON(t *rapid.T, depth int) any {
	kind := rapid.IntRange(0, 6).Draw(t, "kind")
	if depth == 0 && kind < 2 {
		kind += 2
	}
	switch kind {
	case 0:
		m := map[string]any{}
		for range rapid.IntRange(0, 3).Draw(t, "members") {
			m[rapid.SampledFrom(names).Draw(t, "name")] = drawJSON(t, depth-1)
		}
		return m
	case 1:
		a := []any{}
		for range rapid.IntRange(0, 3).Draw(t, "elements") {
			a = append(a, drawJSON(t, depth-1))
		}
		return a
	case 2:
		return nil
	case 3:
		return rapid.Bool().Draw(t, "bool")
	case 4:
		return json.Number(rapid.SampledFrom([]string{"0", "-1", "2.5", "100", "1e2", "9007199254740993"}).Draw(t, "number"))
	}
	return drawText(t, "string", 0)
}

func drawEvent(t *rapid.T) []byte {
	ev := map[string]any{"auditID": "id-" + drawText(t, "auditID", 0), "stage": "Panic"}
	for _, name := range []string{"verb", "a", "b", "c", "objectRef"} {
		if rapid.Bool().Draw(t, "has "+name) {
			ev[name] = drawJSON(t, 3)
		}
	}
	if rapid.Bool().Draw(t, "has user") {
		ev["user"] = map[string]any{"username": drawText(t, "username", 0), "groups": []any{"a"}}
	}
	if rapid.Bool().Draw(t, "has code") {
		ev["responseStatus"] = map[string]any{"code": rapid.SampledFrom([]int{0, 200, 403}).Draw(t, "code")}
	}
	raw, err := json.Marshal(ev)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func drawExpr(t *rapid.T, depth int) Expr {
	kind := rapid.IntRange(0, 7).Draw(t, "expr")
	if depth == 0 && kind < 3 {
		kind += 4
	}
	parts := func() []Expr {
		var out []Expr
		for range rapid.IntRange(0, 3).Draw(t, "parts") {
			out = append(out, drawExpr(t, depth-1))
		}
		return out
	}
	switch kind {
	case 0:
		return And(parts())
	case 1:
		return Or(parts())
	case 2:
		return Not{drawExpr(t, depth-1)}
	case 3:
		return Const(rapid.Bool().Draw(t, "const"))
	case 4:
		return &Text{Word: strings.ToLower(drawText(t, "word", 1)), Open: rapid.Bool().Draw(t, "open")}
	}
	p := &Pred{Path: rapid.SampledFrom(paths).Draw(t, "path"), Op: Op(rapid.IntRange(0, int(GreaterEqual)).Draw(t, "op"))}
	least, most := 1, 3
	switch {
	case p.Op == Exists:
		return p
	case p.Op >= Less:
		most = 1
	}
	for range rapid.IntRange(least, most).Draw(t, "constants") {
		p.Values = append(p.Values, drawText(t, "constant", 0))
	}
	p.Fold = rapid.Bool().Draw(t, "fold")
	return p
}

func TestEvalIsTheOracle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		raw := drawEvent(t)
		ev, err := audit.Parse("", raw)
		if err != nil {
			t.Fatalf("%s: %v", raw, err)
		}
		var tree any
		d := json.NewDecoder(bytes.NewReader(raw))
		d.UseNumber()
		if err := d.Decode(&tree); err != nil {
			t.Fatal(err)
		}
		e := drawExpr(t, 3)
		if got, want := Eval(e, &ev), naive(e, tree); got != want {
			t.Fatalf("%v on %s: got %v, the oracle says %v", e, raw, got, want)
		}
	})
}

// A text that occurs must have all its tokens among the event's.
func TestTokensAreNecessary(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		raw := drawEvent(t)
		text := &Text{Word: strings.ToLower(drawText(t, "word", 1)), Open: rapid.Bool().Draw(t, "open")}
		if !text.Occurs(raw) {
			return
		}
		have := map[string]bool{}
		EventTokens(raw, func(w string) bool { have[w] = true; return true })
		for _, w := range text.Tokens() {
			if !have[w] {
				t.Fatalf("%v occurs in %s but its token %q does not", text, raw, w)
			}
		}
	})
}

func FuzzEval(f *testing.F) {
	f.Add([]byte(sample), "requestObject.spec.containers.image", "R*", byte(Glob))
	f.Add([]byte(`{"auditID":"x","stage":"Panic","a":[[],{"b.c":null}]}`), "a.b.c", "1", byte(Less))
	f.Add([]byte(`{"auditID":"\ud83d\ude00","stage":"Panic","a":"\u0000"}`), "auditID", "😀", byte(Equal))
	f.Fuzz(func(t *testing.T, raw []byte, path, value string, op byte) {
		ev, err := audit.Parse("c", raw)
		if err != nil {
			return
		}
		p := &Pred{Path: path, Op: Op(op % 10), Values: []string{value}}
		folded := *p
		folded.Fold = true
		if p.Op != Glob && Eval(p, &ev) && !Eval(&folded, &ev) {
			t.Errorf("%v is true, without case it is false", p)
		}
		Eval(&Text{Word: strings.ToLower(value) + "x"}, &ev)
	})
}
