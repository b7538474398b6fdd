package native

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"whodunit/internal/audit"
	"whodunit/internal/match"
	"whodunit/internal/rule"
)

// randomExpr draws an expression of any kind but code over few paths and few values.
func randomExpr(t *rapid.T, depth int) match.Expr {
	kind := 0
	if depth > 0 {
		kind = rapid.IntRange(0, 3).Draw(t, "kind")
	}
	parts := func() (out []match.Expr) {
		for range rapid.IntRange(0, 3).Draw(t, "parts") {
			out = append(out, randomExpr(t, depth-1))
		}
		return out
	}
	switch kind {
	case 1:
		return match.And(parts())
	case 2:
		return match.Or(parts())
	case 3:
		return match.Not{X: randomExpr(t, depth-1)}
	}
	switch rapid.IntRange(0, 9).Draw(t, "leaf") {
	case 0:
		return match.Const(rapid.Bool().Draw(t, "const"))
	case 1:
		return &match.Text{Word: rapid.SampledFrom([]string{"get", "ab", "verb", "4"}).Draw(t, "word"), Open: rapid.Bool().Draw(t, "open")}
	}
	p := &match.Pred{
		Path: rapid.SampledFrom([]string{"verb", "user.username", "objectRef.name", "objectRef.namespace", "userAgent", "peer", "user.groups", "sourceIPs", "responseStatus.code",
			"annotations.k", "requestObject.a", "requestObject", "none", "stage", "cluster", "annotations." + audit.AnnotationDecision}).Draw(t, "path"),
		Op: match.Op(rapid.IntRange(0, int(match.Present)).Draw(t, "op")), Fold: rapid.Bool().Draw(t, "fold"), All: rapid.Bool().Draw(t, "all"),
	}
	n := rapid.IntRange(1, 3).Draw(t, "values")
	switch p.Op {
	case match.Exists, match.Present:
		p.All, p.Fold = false, false
		return p
	case match.Less, match.LessEqual, match.Greater, match.GreaterEqual:
		n = 1
	}
	for range n {
		p.Values = append(p.Values, rapid.SampledFrom(append([]string{"AB", "403", "101", "(?i)A", "^$", "\"\\\n\x7fé\u2028", "10.0.0.0/8", "k*"}, words...)).Draw(t, "value"))
	}
	if p.Op == match.Regex { // front ends refuse bad patterns
		p.Values = []string{rapid.SampledFrom([]string{"^a", "b$", "^$", "(?i)GE", ".", "a|^$", `\d{3}`}).Draw(t, "regex")}
	}
	return p
}

// TestEncodeMeansTheSame: a rule that is written and read again decides as it did before.
func TestEncodeMeansTheSame(t *testing.T) {
	f := format(t)
	rapid.Check(t, func(t *rapid.T) {
		r := &rule.Rule{ID: "Some Rule: x", Title: "T", Format: "sigma", Expr: randomExpr(t, 3)}
		if rapid.Bool().Draw(t, "stages") {
			r.Stages = []audit.Stage{audit.StageResponseComplete}
		}
		b, err := f.Encode(r)
		if err != nil {
			t.Fatal(r.Expr, err)
		}
		loaded := rule.Parse("x.yaml", b, f)
		if len(loaded.Problems) > 0 || len(loaded.Rules) != 1 {
			t.Fatalf("%s\n%v", b, loaded.Problems)
		}
		got := loaded.Rules[0]
		for range 10 {
			ev := randomEvent(t)
			want, _ := r.Match(&ev)
			if ok, err := got.Match(&ev); ok != want {
				t.Fatalf("%s\n%s\nexpr %s\nis %t, %v; %s is %t\nevent %s", b, got.Expr, got.Expr, ok, err, r.Expr, want, ev.Raw)
			}
		}
	})
}

func TestEncode(t *testing.T) {
	f := format(t)
	for _, tt := range []struct {
		r    rule.Rule
		want string
		err  string
	}{
		{rule.Rule{ID: "Falco: Attach/Exec", Title: "A: b", Severity: "high", Tags: []string{"x"}, PerEvent: true, Expr: match.And{
			&match.Pred{Path: "verb", Op: match.Equal, Values: []string{"get", "create"}},
			match.Not{X: &match.Pred{Path: "requestObject.spec.image", Op: match.Prefix, Values: []string{"X"}, Fold: true}}}},
			"id: falco-attach-exec\ntitle: 'A: b'\nseverity: high\ntags: [x]\nstages: [RequestReceived, ResponseStarted, ResponseComplete, Panic]\nper_event: true\n" +
				"condition: (verb in [\"get\", \"create\"] && !(values(\"requestObject.spec.image\").exists(v, fold(v).startsWith(\"x\"))))\n", ""},
		{rule.Rule{ID: "x", Off: "enabled: false", Stages: rule.DefaultStages()}, "id: x\nenabled: false\n", ""},
		{rule.Rule{ID: "x", Stages: rule.DefaultStages(), Correlation: &rule.Correlation{Type: rule.TemporalOrdered, Of: []string{"A B", "c"}, Names: []string{"one", "c"}, Timespan: time.Minute,
			GroupBy: []rule.Key{{Path: "peer"}}}},
			"id: x\nsequence:\n  over: 1m0s\n  by: [peer]\n  ordered: true\n  steps:\n    - name: one\n      rule: a-b\n    - rule: c\n", ""},
		{rule.Rule{ID: "x", Correlation: &rule.Correlation{Type: rule.ValueSum, Timespan: time.Minute}}, "", "rule x: a correlation of type value_sum cannot be expressed as a native rule"},
		{rule.Rule{ID: "x", Expr: &match.Func{Name: "keywords"}}, "", `rule x: "keywords" cannot be expressed as a native rule: it is code`},
		{rule.Rule{ID: "x", Expr: &match.Pred{Field: &match.Field{Name: "ka.x"}, Op: match.Exists}}, "", `rule x: the field "ka.x" cannot be expressed as a native rule`},
		{rule.Rule{ID: "x", Expr: &match.Pred{Path: "verb", Values: []string{"\xff"}, Op: match.Equal}}, "", `rule x: "\xff" cannot be expressed as a native rule: it is not valid UTF-8`},
		{rule.Rule{ID: "x", Expr: &match.Pred{Path: "a", Values: []string{strings.Repeat("a{900}", 20)}, Op: match.Regex}}, "", "rule x: cannot be expressed"},
	} {
		b, err := f.Encode(&tt.r)
		if diff := cmp.Diff(tt.want, string(b)); diff != "" && tt.err == "" {
			t.Error(diff, err)
		}
		if tt.err != "" && (err == nil || !strings.HasPrefix(err.Error(), tt.err) || !errors.Is(err, ErrInexpressible)) || tt.err == "" && err != nil {
			t.Errorf("error %v, want %s", err, tt.err)
		}
	}
}

// TestEncodeShipped: the shipped rules, written and read again, are the same rules.
func TestEncodeShipped(t *testing.T) {
	f := format(t)
	dir := filepath.Join("..", "..", "..", "rules")
	loaded := rule.Load([]rule.Layer{{FS: os.DirFS(dir)}}, f)
	if len(loaded.Rules) == 0 {
		t.Fatal("no rules", loaded.Problems)
	}
	for _, r := range loaded.Rules {
		b, err := f.Encode(r)
		if err != nil {
			t.Error(err)
			continue
		}
		again := rule.Parse("x.yaml", b, f)
		if len(again.Problems) > 0 {
			t.Errorf("%s\n%v", b, again.Problems)
			continue
		}
		got := again.Rules[0]
		if diff := cmp.Diff(r, got, cmpopts.IgnoreFields(rule.Rule{}, "ID", "File", "Line", "Column", "Tests", "Condition", "Message", "Expr", "Off", "Correlation")); diff != "" && !r.Silent {
			t.Errorf("%s: %s", r.ID, diff)
		}
		for i := range r.Tests {
			tt := &r.Tests[i]
			if tt.Events != nil || tt.With != nil {
				continue
			}
			if ok, err := got.Match(&tt.Event); ok != tt.Match {
				t.Errorf("%s, test %s: %t, %v\n%s", r.ID, tt.Name, ok, err, b)
			}
		}
	}
}

// TestEncodeDerived: what is derived of conditions is written as conditions again.
func TestEncodeDerived(t *testing.T) {
	f := format(t)
	rapid.Check(t, func(t *rapid.T) {
		c, errs := f.env.compile(conditionText(t, 2), constants{})
		if len(errs) > 0 || c.condition != nil {
			return
		}
		r := &rule.Rule{ID: "x", Expr: c.expr}
		b, err := f.Encode(r)
		if err != nil {
			t.Fatal(c.expr, err)
		}
		got := rule.Parse("x.yaml", b, f).Rules[0]
		for range 10 {
			ev := randomEvent(t)
			want, _ := r.Match(&ev)
			if ok, err := got.Match(&ev); ok != want {
				t.Fatalf("%s\nis %t, %v; %s is %t\nevent %s", b, ok, err, r.Expr, want, ev.Raw)
			}
		}
	})
}

// TestEncodeFields: a field of another format is written by its name where the format is told of it.
func TestEncodeFields(t *testing.T) {
	agents := &match.Field{Name: "other:agent", Values: func(ev *audit.Event, yield func(string) bool) {
		for _, s := range strings.Fields(ev.UserAgent) {
			if !yield(s) {
				return
			}
		}
	}}
	f, err := NewWith(Options{Fields: func(name string) *match.Field {
		if name == agents.Name {
			return agents
		}
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []*match.Pred{{Op: match.Equal, Values: []string{"b", "c"}}, {Op: match.Exists}, {Op: match.Present}, {Op: match.Prefix, Values: []string{"A"}, Fold: true, All: true},
		{Op: match.Contains, Values: []string{""}}} {
		p.Field = agents
		r := &rule.Rule{ID: "x", Expr: match.Or{p, match.Not{X: p}, match.And{p, &match.Pred{Path: "verb", Op: match.Equal, Values: []string{"get"}}}}[2]}
		b, err := f.Encode(r)
		if err != nil {
			t.Fatal(err)
		}
		got := rule.Parse("x.yaml", b, f).Rules[0]
		for _, agent := range []string{"", "a b", "ab aC", "d"} {
			ev := event(t, `{"verb":"get","userAgent":"`+agent+`"}`)
			want, _ := r.Match(&ev)
			if ok, err := got.Match(&ev); ok != want {
				t.Errorf("%s\n%q is %t, %v", b, agent, ok, err)
			}
		}
	}
	if p := rule.Parse("x.yaml", []byte("id: x\ncondition: field('other:agnt') == []\n"), f).Problems; len(p) != 1 || p[0].Error() != `x.yaml:2:17: rule x: condition: unknown field "other:agnt"; a field of another rule format is expected` {
		t.Error(p)
	}
}

// TestRunbookAndActions: both are read, written again, and a runbook that is no web link is refused: people click on it.
func TestRunbookAndActions(t *testing.T) {
	doc := "id: a\ncondition: verb == \"get\"\nrunbook: https://wiki.example.com/a\nactions: [quarantine, tell]\n"
	load := func(text string) ([]*rule.Rule, []*rule.Problem) {
		l := rule.Load([]rule.Layer{{FS: fstest.MapFS{"a.yaml": {Data: []byte(text)}}}}, format(t))
		return l.Rules, l.Problems
	}
	rules, problems := load(doc)
	if len(problems) > 0 || len(rules) != 1 || rules[0].Runbook != "https://wiki.example.com/a" || len(rules[0].Actions) != 2 {
		t.Fatalf("%v %+v", problems, rules)
	}
	text, err := Encode(rules[0])
	if err != nil {
		t.Fatal(err)
	}
	again, problems := load(string(text))
	if len(problems) > 0 || again[0].Runbook != rules[0].Runbook || !slices.Equal(again[0].Actions, rules[0].Actions) {
		t.Errorf("%v\n%s", problems, text)
	}
	if _, problems = load(strings.Replace(doc, "https:", "javascript:", 1)); len(problems) != 1 || problems[0].Line != 3 {
		t.Errorf("problems %v", problems)
	}
}
