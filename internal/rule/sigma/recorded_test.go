package sigma_test

import (
	"bufio"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"whodunit/internal/audit"
	"whodunit/internal/match"
	"whodunit/internal/rule"
	"whodunit/internal/rule/sigma"
)

// TestRecorded runs the published rules over recorded events, by the engine and by the interpreter.
func TestRecorded(t *testing.T) {
	dir := sharedDir(t)
	l, err := rule.OpenLayer(dir)
	if err != nil {
		t.Fatal(err)
	}
	out := rule.Load([]rule.Layer{l}, sigma.New(sigma.Options{WebsocketVerbs: true}))
	var exprs []match.Expr
	for _, r := range out.Rules {
		exprs = append(exprs, r.Whole())
	}
	engine, err := match.NewEngine(exprs, match.EngineOptions{})
	if err != nil {
		t.Fatal(err)
	}
	m := engine.Matcher()
	hits := map[string]int{}
	n := 0
	for _, name := range []string{"edge-1.36.log.zst", "apiserver-1.36.log.zst"} {
		f, err := os.Open(filepath.Join(dir, "..", "audit", name))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		z, err := zstd.NewReader(f)
		if err != nil {
			t.Fatal(err)
		}
		defer z.Close()
		lines := bufio.NewScanner(z)
		lines.Buffer(nil, 64<<20)
		for lines.Scan() && n < 5000 {
			ev, err := audit.Parse("c", slices.Clone(lines.Bytes()))
			if err != nil {
				continue
			}
			n++
			var want []int
			for i, x := range exprs {
				if match.Eval(x, &ev) {
					want = append(want, i)
					hits[filepath.Base(out.Rules[i].File)]++
				}
			}
			got, err := m.MatchRaw("c", ev.Raw, nil)
			if d := cmp.Diff(want, got); err != nil || d != "" {
				t.Fatalf("%v %s\n%s", err, d, ev.Raw)
			}
		}
	}
	t.Logf("%d events: %v", n, hits)
	if len(hits) < 5 {
		t.Errorf("only %d of the rules fire", len(hits))
	}
}

// TestGenericEngine holds the engine to the interpreter where events are of any kind.
func TestGenericEngine(t *testing.T) {
	rules := load(t, sigma.Options{Generic: true}, `
title: one
detection: {s: {EventID: 1, Image|endswith: '\x.exe'}, f: {User: null}, k: [needle], condition: (s or k) and not f}
---
title: two
detection: {s: {CommandLine|windash|contains|all: [' -a', ' -b']}, condition: s}
`)
	var exprs []match.Expr
	for _, r := range rules {
		exprs = append(exprs, r.Expr)
	}
	engine, err := match.NewEngine(exprs, match.EngineOptions{Generic: true})
	if err != nil {
		t.Fatal(err)
	}
	m := engine.Matcher()
	buf := make([]byte, 0, 1<<10) // events in one buffer: what is remembered of one must not be taken for another's
	for _, c := range []struct {
		raw  string
		want []int
	}{
		{`{"Event":{"System":{"EventID":1},"EventData":{"Image":"C:\\x.exe","User":"u"}}}`, []int{0}},
		{`{"Event":{"System":{"EventID":1},"EventData":{"Image":"C:\\y.exe","User":"u"}}}`, nil},
		{`{"Event":{"System":{"EventID":1},"EventData":{"Image":"C:\\x.exe","User":null}}}`, nil},
		{`{"Event":{"EventData":{"CommandLine":"q /a –b"}},"x":"a needle","User":"v"}`, []int{0, 1}},
		{`{"CommandLine":"q /a"}`, nil},
	} {
		buf = append(buf[:0], c.raw...)
		got, err := m.MatchRaw("c", buf, nil)
		if d := cmp.Diff(c.want, got); err != nil || d != "" {
			t.Errorf("%s: %v %s", c.raw, err, d)
		}
	}
}
