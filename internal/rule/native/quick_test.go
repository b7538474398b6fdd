package native

import (
	"os"
	"path/filepath"
	"testing"

	"cel.dev/cel-go/common"
	"cel.dev/cel-go/common/ast"
	"go.yaml.in/yaml/v3"
	"pgregory.net/rapid"
)

// conditionsOf are conditions that people wrote: the shipped rules'.
func conditionsOf(t testing.TB) []string {
	files, err := filepath.Glob(filepath.Join("..", "..", "..", "rules", "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatal("no shipped rules", err)
	}
	var out []string
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		var r struct{ Condition string }
		if yaml.Unmarshal(b, &r) == nil && r.Condition != "" {
			out = append(out, r.Condition)
		}
	}
	return out
}

var odd = []string{
	"a ? b : c", "a.b.?c.orValue(1)", "[1, 2u, -3, 1.5e3, b'x', r'\\d', \"\\u00e9\", '''x\ny''']", "{'a': 1, 'b': [2]}", "a[?0]", "-a.b - -1", "!!a", "a.all(x, x) && b.exists(y, has(y.z))",
	"a.map(x, x > 1, x + 1).filter(y, y in [1])", "cel.bind(x, 1, x == 1)", "a && b && c && d && e || f || g || h", "// c\na", "a == b == c", "a.`b-c`", "uriParam('x') == execCommand()",
	".a.b", "a(", "'", "a b", "1 +", "has(a)", "a.exists(1, 2)", "a.b{c: 1}", "\x00", "in", "a.in", "if", "\"\\xff\"", "a.transformList(i, v, v)", "0x1F", "99999999999999999999",
}

// sameTree holds the quick parser against the other one.
func sameTree(t interface {
	Helper()
	Errorf(string, ...any)
}, env *environment, text string) {
	t.Helper()
	quick, faults := env.quick.Parse(common.NewTextSource(text))
	slow, issues := env.cel.Parse(text)
	quickOK, slowOK := len(faults.GetErrors()) == 0, issues == nil || issues.Err() == nil
	if quickOK && !slowOK {
		t.Errorf("%q is taken by the quick parser alone: %v", text, issues.Err())
	}
	if quickOK && slowOK && !ast.EquivExpr(quick.Expr(), slow.NativeRep().Expr()) {
		t.Errorf("%q has two trees", text)
	}
}

func TestQuickParser(t *testing.T) {
	env := format(t).env
	for _, c := range append(conditionsOf(t), odd...) {
		sameTree(t, env, c)
	}
	rapid.Check(t, func(t *rapid.T) { sameTree(t, env, conditionText(t, 3)) })
}

// TestQuickCheck: what is taken without a type check has the right types.
func TestQuickCheck(t *testing.T) {
	env := format(t).env
	for _, c := range append([]string{
		`verb == ["get"]`, `verb in "get"`, `verb.startsWith(["a"])`, `startsWith(verb, "a")`, `verb.glob("a")`, `responseStatus.code == [3]`, `responseStatus.code == "a"`, `verb in [1]`,
		`"x" in verb`, `["a"] == verb`, `verb == 1`, `has(verb)`, `1 in user.groups`, `verb in ["a", 1]`, `verb.matches(["x"])`, `!verb`, `verb && true`, `responseStatus.code in 3`, `user.groups == "x"`,
		`inCIDR(peer, 3)`, `peer.inCIDR("10.0.0.0/8")`, `isSystemUser(["x"])`, `user.username.isSystemUser()`, `idReused == "x"`, `decision in "allow"`, `annotations["x"] in "y"`, `execCommand() == ["x"]`,
		`annotations[1] == "x"`, `"x" in annotations["x"]`, `matches(verb, "x")`, `verb.matches("(")`,
	}, conditionsOf(t)...) {
		_, errs := env.check(c, constants{})
		if _, _, ok := env.quickCheck(c, constants{}); ok && len(errs) > 0 {
			t.Errorf("%s is taken, but %v", c, errs)
		}
	}
}

func FuzzQuickParser(f *testing.F) {
	env := format(f).env
	for _, c := range append(conditionsOf(f), odd...) {
		f.Add(c)
	}
	f.Fuzz(func(t *testing.T, c string) {
		if len(c) < 1000 {
			sameTree(t, env, c)
		}
	})
}
