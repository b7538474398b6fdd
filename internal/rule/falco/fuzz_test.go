package falco

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"whodunit/internal/audit"
	"whodunit/internal/match"
	"whodunit/internal/rule"
)

func FuzzCondition(f *testing.F) {
	for _, s := range []string{
		"ka.verb in (get, 'a b', (l)) and not (ka.user.groups intersects (x) or m)", "ka.uri.param[\"a\"] startswith anyof (a, b)", `join("-", (ka.verb, "x")) = concat(ka.uri, "y")`,
		"ka.response.code >= 0x1F and ka.uri pmatch (/a*/[b-c])", `ka.uri glob "[!a\]]*" or ka.uri regex '^(a|b)+$'`, "len(ka.user.groups) > 1 or b64(ka.uri) exists", "not not(jevt.value[/a~1b/0] != val(ka.verb))",
	} {
		f.Add(s)
	}
	ev, err := audit.Parse("c", []byte(`{"auditID":"a","stage":"Panic",`+podEvent+`}`))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, compat := range []bool{false, true} {
			l := newLoader(reader{upstream: compat})
			l.lists["l"] = &listDef{name: "l", items: []string{"a", "l", "b c", "k"}}
			l.lists["k"] = &listDef{name: "k", items: []string{"l", "'"}}
			l.macros["m"] = &macroDef{name: "m", condition: snippet{parts: []snippetPart{{s: s}}, size: len(s)}}
			n, err := parse(s, l)
			if err != nil {
				if err.at < 0 || err.at > len(s) || err.text == "" {
					t.Fatalf("%q: fault at %d: %s", s, err.at, err.text)
				}
				continue
			}
			x, err := l.compiler.compile(n)
			if err != nil {
				if err.at < 0 || err.at > len(s) || err.text == "" {
					t.Fatalf("%q: fault at %d: %s", s, err.at, err.text)
				}
				continue
			}
			if match.Eval(x.expr, &ev) == match.Eval(x.negate().expr, &ev) {
				t.Fatalf("%q and its negation are the same", s)
			}
			_ = x.expr.String()
		}
	})
}

func FuzzFile(f *testing.F) {
	f.Add("- {list: l, items: [a]}\n- macro: m\n  condition: ka.verb in (l)\n- rule: R\n  desc: d\n  condition: >\n    m and\n    ka.uri=x\n  output: '%ka.verb %5ka.uri.param[x]'\n  priority: info\n  source: k8s_audit\n")
	f.Add(r("R", "ka.verb=a", "exceptions: [{name: x, fields: [ka.verb, ka.uri], comps: [in, =], values: [[[b, c], d]]}]") + "- {rule: R, append: true, condition: or m, exceptions: [{name: x, values: [[e, f]]}]}\n")
	f.Add("- &a {rule: R, override: {condition: replace}, condition: x}\n- *a\n- [*a]\n- required_engine_version: 1\n")
	format, err := New(Options{})
	if err != nil {
		f.Fatal(err)
	}
	ev, err := audit.Parse("c", []byte(`{"auditID":"a","stage":"Panic",`+podEvent+`}`))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if len(s) > 1<<16 {
			return
		}
		out := rule.Parse("f.yaml", []byte(s), format)
		for _, p := range out.Problems {
			if p.File != "f.yaml" || p.Text == "" {
				t.Errorf("problem %+v says too little", p)
			}
		}
		for _, r := range out.Rules {
			if len(r.ID) > 128 || r.Title == "" {
				t.Errorf("%+v", r)
			}
			if r.Message == nil {
				continue
			}
			if _, err := r.Match(&ev); err != nil {
				t.Error(err)
			}
			if _, err := Alert(r, &ev, "h"); err != nil {
				t.Error(err)
			}
		}
	})
}

// generated is a file of n rules as people write them.
func generated(n int) string {
	var b strings.Builder
	b.WriteString("- {list: users, items: ['system:admin', bob, carol]}\n- {macro: done, condition: (ka.stage=ResponseComplete)}\n- {macro: pods, condition: ka.target.resource=pods and not ka.target.subresource exists}\n")
	for i := range n {
		fmt.Fprintf(&b, "- rule: Generated Rule %d\n  desc: >\n    A rule of a generated pack\n  condition: >\n    done and pods and ka.verb in (create, update) and ka.target.namespace=ns-%d\n    and not ka.user.name in (users)"+
			" and ka.req.pod.containers.image.repository intersects (repo/image-%d)\n  output: Pod (user=%%ka.user.name pod=%%ka.resp.name ns=%%ka.target.namespace images=%%ka.req.pod.containers.image)\n"+
			"  priority: WARNING\n  source: k8s_audit\n  tags: [k8s, generated]\n", i, i%997, i%331)
	}
	return b.String()
}

// TestManyRules loads 20,000 rules of one file; the time is logged, and bounded far above it.
func TestManyRules(t *testing.T) {
	file := generated(20_000)
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := time.Now()
	rules, problems := load(t, map[string]string{"a.yaml": file})
	took := time.Since(start)
	runtime.GC()
	runtime.ReadMemStats(&after)
	if len(rules) != 20_000 || len(problems) > 0 {
		t.Fatal(len(rules), problems[:min(3, len(problems))])
	}
	if took > time.Minute {
		t.Errorf("it takes %v", took)
	}
	t.Logf("%.1f MB of YAML in %v, %.0f MB kept", float64(len(file))/1e6, took, float64(after.HeapAlloc-before.HeapAlloc)/1e6)
	runtime.KeepAlive(rules)
}

func BenchmarkLoad(b *testing.B) {
	file := []byte(generated(20_000))
	f, err := New(Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(file)))
	b.ReportAllocs()
	for b.Loop() {
		if out := rule.Parse("a.yaml", file, f); len(out.Rules) != 20_000 {
			b.Fatal(out.Problems[0])
		}
	}
}

// BenchmarkCompile is BenchmarkLoad without reading YAML.
func BenchmarkCompile(b *testing.B) {
	conditions := strings.Split(generated(20_000), "\n  condition: >\n    ")[1:]
	for i, c := range conditions {
		c, _, _ = strings.Cut(c, "\n  output")
		conditions[i] = c
	}
	b.ReportAllocs()
	for b.Loop() {
		l := newLoader(reader{})
		for _, n := range []string{"done", "pods"} {
			d := &macroDef{name: n}
			d.condition.add("ka.stage=ResponseComplete", place{})
			l.macros[n] = d
		}
		for _, c := range conditions {
			n, err := parse(c, l)
			if err == nil {
				_, err = l.compiler.compile(n)
			}
			if err != nil {
				b.Fatal(err)
			}
		}
	}
}
