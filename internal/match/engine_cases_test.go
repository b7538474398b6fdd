package match

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"whodunit/internal/audit"
)

// Real events under rules of real shapes: all lines, a matcher that learns, and one that keeps running out of states.
func TestEngineIsEvalOnRecordedEvents(t *testing.T) {
	exprs := append(realistic(300, 11), questions()...)
	for i, f := range []string{"requestObject.spec.containers.image", "user.groups"} {
		exprs = append(exprs, &Pred{Field: &Field{Name: fmt.Sprint("f", i), Values: func(ev *audit.Event, yield func(string) bool) {
			for v := range Values(ev, f) {
				if !yield(v) {
					return
				}
			}
		}}, Op: Glob, Values: []string{"*a*b*", "system:*s"}, All: i == 1})
	}
	matchers := map[string]*Matcher{}
	for name, o := range map[string]EngineOptions{"default": {}, "5 states": {MaxStates: 5}, "200 states": {MaxStates: 200}} {
		e, err := NewEngine(exprs, o)
		if err != nil {
			t.Fatal(err)
		}
		matchers[name] = e.Matcher()
	}
	for file, step := range map[string]int{"apiserver-1.36.log.zst": 11, "edge-1.36.log.zst": 1, "load-1.36.log.zst": 300} {
		hits := 0
		for _, line := range recordedLines(t, file, step) {
			ev, err := audit.Parse("", line)
			if err != nil {
				t.Fatal(err)
			}
			var want []int
			for i, x := range exprs {
				if Eval(x, &ev) {
					want = append(want, i)
				}
			}
			hits += len(want)
			for name, m := range matchers {
				got, err := m.MatchRaw("", line, nil)
				if err != nil {
					t.Fatal(err)
				}
				if !slices.Equal(got, want) {
					explain(t, name, exprs, line, got, want)
				}
				if got := m.Match(&ev, nil); !slices.Equal(got, want) {
					explain(t, name+" (parsed)", exprs, line, got, want)
				}
			}
		}
		t.Logf("%s: %d hits", file, hits)
	}
	for name, m := range matchers {
		t.Logf("%s: %+v", name, m.Stats())
	}
}

func TestMatchRawRefuses(t *testing.T) {
	m := mustEngine(t, []Expr{nil, p("verb", Equal, "get"), &Text{Word: "x"}, testFunc(0)}).Matcher()
	for raw, notAudit := range map[string]bool{
		``: false, ` `: false, `null`: false, `[]`: false, `"x"`: false, `{`: false, `{"auditID"`: false, `{"auditID":`: false, `{"auditID":"x`: false,
		`{"auditID":"x","stage":"y"`: false, `{"auditID":"x","stage":"y"}}`: false, `{"auditID":"x","stage":"y"} {}`: false, `{"auditID":"x" "stage":"y"}`: false,
		`{"auditID":"x","stage":"y",}`: false, `{"auditID":"x","stage":"y","requestObject":{"a":[}`: false, `{"auditID":"x","stage":"y","a":,"b":1}`: false,
		`{"auditID":"x","stage":"y","a"}`: false, `{"auditID":"x","stage":"y","a":x}`: false, `{"auditID":"x","stage":"y",a:1}`: false,
		`{}`: true, `{"auditID":"x"}`: true, `{"stage":"y"}`: true, `{"auditID":"","stage":"y"}`: true, `{"auditID":{},"stage":"y"}`: true, `{"auditID":null,"stage":"y"}`: true,
		`{"kind":"EventList","items":[],"auditID":"x","stage":"y"}`: true, `{"kind":"Event","apiVersion":"v1","auditID":"x","stage":"y"}`: true,
		`{"auditID":"x","auditID":[],"stage":"y"}`: true, `{"auditID":"x","st\u0061ge":"y","kind":"P\u006fd"}`: true,
	} {
		hits, err := m.MatchRaw("", []byte(raw), []int{9})
		if err == nil || !slices.Equal(hits, []int{9}) || errors.Is(err, audit.ErrNotAudit) != notAudit {
			t.Errorf("%s: %v %v", raw, hits, err)
		}
		if _, parseErr := audit.Parse("", []byte(raw)); parseErr == nil {
			t.Errorf("%s: Parse takes it", raw)
		}
	}
	for _, raw := range []string{`{"\u0061uditID":"x","stage":"y","kind":"Finding","apiVersion":"z"}`, "\t{\"auditID\" : 1 , \"stage\":true } \r\n"} {
		if _, err := m.MatchRaw("", []byte(raw), nil); err != nil {
			t.Errorf("%s: %v", raw, err)
		}
	}
}

func TestMatchRawGeneric(t *testing.T) {
	e, err := NewEngine([]Expr{p("cluster", Equal, "x"), p("peer", Equal, "y"), p("EventID", GreaterEqual, "4000"), p("cluster", Equal, "prod")}, EngineOptions{Generic: true})
	if err != nil {
		t.Fatal(err)
	}
	hits, err := e.Matcher().MatchRaw("prod", []byte(`{"cluster":"x","peer":["y"],"EventID":4688}`), nil)
	if err != nil || !slices.Equal(hits, []int{0, 1, 2}) {
		t.Errorf("%v %v", hits, err)
	}
}

func TestNewEngineRefuses(t *testing.T) {
	_, err := NewEngine([]Expr{Const(true), And{p("a", Regex, "fine"), Not{p("user.username", Regex, "(")}}, p("peer", CIDR, "10.0.0.0/33")}, EngineOptions{})
	if err == nil || !strings.Contains(err.Error(), "expression 1: user.username") || !strings.Contains(err.Error(), "expression 2: peer") ||
		strings.Contains(err.Error(), "expression 0") {
		t.Error(err)
	}
}

// Events as large and as deep as the API server takes them.
func TestEngineOnHugeEvents(t *testing.T) {
	exprs := []Expr{
		p("requestObject.a.a.a.b", Equal, "x"), p("requestObject.items.metadata.name", Equal, "n49999"), p("requestObject.x", Equal, "y"),
		p("requestObject", Equal, "7"), &Text{Word: "n49999"}, &Pred{Path: "requestObject.items.metadata.name", Op: Prefix, Values: []string{"n"}, All: true},
		p("user.groups", Equal, "g99999"), p("annotations.big", Suffix, "end"), p("requestObject.items.metadata", Exists), fold("annotations.big", Contains, "AAAAEND"),
	}
	var items, groups []string
	for i := range 50_000 {
		items = append(items, fmt.Sprintf(`{"metadata":{"name":"n%d"}}`, i))
		groups = append(groups, fmt.Sprintf(`"g%d"`, 2*i+1))
	}
	m := mustEngine(t, exprs).Matcher()
	for _, member := range []string{
		`"requestObject":{"items":[` + strings.Join(items, ",") + `]},"user":{"groups":[` + strings.Join(groups, ",") + `]}`,
		`"requestObject":` + strings.Repeat("[", 9_900) + `{"x":"y"},7` + strings.Repeat("]", 9_900),
		`"requestObject":` + strings.Repeat(`{"a":`, 9_900) + `{"b":"x"}` + strings.Repeat("}", 9_900),
		`"requestObject":{"a":{"a":{"a":{"b":"x"}}}}`,
		`"annotations":{"big":"` + strings.Repeat("a", 2<<20) + `end"}`,
	} {
		raw := []byte(`{"auditID":"1","stage":"Panic",` + member + `}`)
		for range 3 {
			agree(t, m, exprs, raw, false)
		}
	}
	if n := m.Stats().Bytes; n > 16<<20 {
		t.Errorf("%d bytes are kept", n)
	}
	if n := cap(m.doc.entries); n > keepEntries*2 {
		if agree(t, m, exprs, []byte(`{"auditID":"1","stage":"Panic"}`), false); cap(m.doc.entries) > keepEntries {
			t.Errorf("%d entries are kept", n)
		}
	}
}

// Whatever the values are, what a matcher keeps stays within its bounds.
func TestMatcherMemoryIsFlat(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var exprs []Expr
	for i := range 400 {
		exprs = append(exprs, And{p("requestURI", Contains, fmt.Sprintf("-%d-", i)), p("userAgent", Contains, fmt.Sprintf("-%d-", i)), p("user.username", Contains, fmt.Sprintf("-%d-", i)),
			p("requestObject.x", Equal, "never")})
	}
	exprs = append(exprs, Const(true))
	m := mustEngine(t, exprs).Matcher()
	word := func() string {
		var b bytes.Buffer
		for range 20 {
			fmt.Fprintf(&b, "-%d-", r.IntN(400))
		}
		return b.String()
	}
	most := 0
	for range 30_000 {
		raw := fmt.Appendf(nil, `{"auditID":"1","stage":"Panic","verb":"get","requestURI":"%s","userAgent":"%s","user":{"username":"%s","groups":["%s","%s"]}}`, word(), word(), word(), word(), word())
		if hits, err := m.MatchRaw("", raw, nil); err != nil || len(hits) != 1 {
			t.Fatal(hits, err)
		}
		most = max(most, m.Stats().Bytes)
	}
	t.Logf("%+v, at most %d bytes", m.Stats(), most)
	if most > learntBytes+setBytes+memoBytes+8<<20 {
		t.Errorf("%d bytes", most)
	}
}

func TestNoAllocations(t *testing.T) {
	m := mustEngine(t, append(realistic(200, 3), p("requestURI", Regex, "x{3}$"), fold("userAgent", Glob, "*É*?z"), p("a.b.c", CIDR, "10.0.0.0/8"),
		p("user.groups", Equal, "nobody"), &Pred{Path: "user.groups", Op: Suffix, Values: []string{"zz"}, All: true}, &Text{Word: "nowhere"})).Matcher()
	raw := []byte(`{"auditID":"1","stage":"ResponseComplete","verb":"create","requestURI":"/a?b\u0026c=1","userAgent":"K\u00e9","user":{"username":"al\"ice","groups":["a","b"]},` +
		`"sourceIPs":["10.0.0.1"],"objectRef":{"resource":"pods"},"requestObject":{"spec":{"containers":[{"image":"x\n"}]}}}`)
	var hits []int
	if n := testing.AllocsPerRun(100, func() { hits, _ = m.MatchRaw("", raw, hits[:0]) }); n != 0 || len(hits) > 0 {
		t.Errorf("%v allocations, hits %v", n, hits)
	}
}

func TestAutomaton(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		alphabet := rapid.SampledFrom([]string{"ab", "abc\x00\xff", ""}).Draw(t, "alphabet")
		draw := func(label string, least, most int) string {
			if alphabet == "" {
				return string(rapid.SliceOfN(rapid.Byte(), least, most).Draw(t, label))
			}
			return string(rapid.SliceOfN(rapid.SampledFrom([]byte(alphabet)), least, most).Draw(t, label))
		}
		var literals []string
		for range rapid.IntRange(1, 40).Draw(t, "literals") {
			if l := draw("literal", 1, 8); !slices.Contains(literals, l) {
				literals = append(literals, l)
			}
		}
		a := newAutomaton(literals)
		if rapid.Bool().Draw(t, "sparse") {
			a.dense = 1
		}
		text := draw("text", 0, 60)
		var got, want []string
		for n, i := a.next(0, []byte(text), 0); n >= 0; n, i = a.next(n, []byte(text), i) {
			for e := n; ; e = a.more[e] {
				if l := a.out[e]; l >= 0 {
					got = append(got, fmt.Sprint(i-len(literals[l]), " ", l))
				}
				if a.more[e] == 0 {
					break
				}
			}
		}
		for l, lit := range literals {
			for i := range len(text) {
				if strings.HasPrefix(text[i:], lit) {
					want = append(want, fmt.Sprint(i, " ", l))
				}
			}
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Fatalf("%q in %q: got %v, want %v", literals, text, got, want)
		}
	})
}

// A pattern's literals must occur in every value that it matches.
func TestNeededLiterals(t *testing.T) {
	for pattern, want := range map[string]string{
		"abc": "[[abc]]", "(?i)ABC": "[[abc]]", "a.*b": "[[a] [b]]", "(foo|bar)+x": "[[foo bar] [x]]", "a*": "[]", "(a|)": "[]", "x{2,}": "[[x] [x]]", "[ab]c": "[[c]]",
		"^/api/v1/(pods|nodes)$": "[[/api/v1/] [pods nodes]]", "(?i:k)": "[[k]]", "fooa|foob": "[[foo]]", "(a?b)?": "[]",
	} {
		_, n, err := readPattern(pattern)
		if got := fmt.Sprint(n); err != nil || got != want && !(want == "[]" && len(n) == 0) {
			t.Errorf("%s: %s %v, want %s", pattern, got, err, want)
		}
	}
}

// The rules come from the seed, the event is what the fuzzer makes of it.
func FuzzEngine(f *testing.F) {
	f.Add(uint64(1), []byte(sample))
	f.Add(uint64(2), []byte(`{"auditID":"x","stage":"Panic","requestObject":[{"op":"add","path":"/a","value":{"a":1}}],"user":{},"a":{"a.b":{"c":"1"},"a":{"b.c":"2"}},"a.b":{"c":null}}`))
	f.Add(uint64(3), []byte(`{"auditID":"x","stage":"Panic","a":[[],[{"b":"\ud83d\ude00\ud800"}]],"sourceIPs":["10.0.0.7",{}],"a":"\u0026\xff","objectRef":{"apiVersion":"apps/v1"}}`))
	f.Add(uint64(4), []byte(`{"auditID":"x","stage":"Panic","requestObject":{"spec":{"containers":[{"image":"a]}"},{"image":"b\\"}]}},"b":tru"e}`))
	f.Fuzz(func(t *testing.T, seed uint64, raw []byte) {
		exprs := rapid.Custom(func(t *rapid.T) []Expr {
			out := make([]Expr, 8)
			for i := range out {
				out[i] = hostileExpr(t, 2)
			}
			return out
		}).Example(int(seed % 1024))
		generic := seed%5 == 0
		e, err := NewEngine(exprs, EngineOptions{Generic: generic, MaxStates: int(seed % 7)})
		if err != nil {
			t.Fatal(err)
		}
		m := e.Matcher()
		for range 2 {
			agree(t, m, exprs, raw, generic)
		}
	})
}

// Matchers of one engine run side by side.
func TestMatchersShareAnEngine(t *testing.T) {
	exprs := realistic(200, 5)
	e := mustEngine(t, append(exprs, &Text{Word: "web"}, p("requestURI", Regex, "[a-z]+$")))
	lines := recordedLines(t, "apiserver-1.36.log.zst", 60)
	totals := make([]int, 4)
	var wg sync.WaitGroup
	for i := range totals {
		wg.Go(func() {
			m := e.Matcher()
			for _, l := range lines {
				hits, err := m.MatchRaw("", l, nil)
				if err != nil {
					t.Error(err)
				}
				totals[i] += len(hits)
			}
		})
	}
	wg.Wait()
	if slices.Min(totals) != slices.Max(totals) || totals[0] == 0 {
		t.Error(totals)
	}
}

// TestManyValues: an event that names all that rules look for in a list takes no more memory than its own size.
func TestManyValues(t *testing.T) {
	const n = 8000
	var exprs []Expr
	var groups []string
	for i := range n {
		exprs = append(exprs, &Pred{Path: "user.groups", Op: Equal, Values: []string{fmt.Sprint("g", i)}}, &Pred{Path: "user.groups", Op: Equal, Values: []string{fmt.Sprint("g", i)}, All: true})
		groups = append(groups, strconv.Quote(fmt.Sprint("g", i)))
	}
	e, err := NewEngine(append(exprs, &Pred{Path: "user.groups", Op: Prefix, Values: []string{"g"}, All: true}), EngineOptions{})
	if err != nil {
		t.Fatal(err)
	}
	m := e.Matcher()
	for _, k := range []int{1, 2, fewJoined, fewJoined + 1, fewJoined + 2, n} {
		raw := `{"auditID":"a","stage":"x","user":{"groups":[` + strings.Join(groups[:k], ",") + `]}}`
		hits, err := m.MatchRaw("", []byte(raw), nil)
		want := k + 1
		if k == 1 {
			want++
		}
		if err != nil || len(hits) != want || hits[len(hits)-1] != 2*n {
			t.Errorf("%d groups: %d hits, want %d, %v", k, len(hits), want, err)
		}
	}
	if s := m.Stats(); s.Bytes > 16<<20 {
		t.Errorf("%d bytes", s.Bytes)
	}
}
