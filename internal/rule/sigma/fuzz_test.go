package sigma_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"whodunit/internal/match"
	"whodunit/internal/rule"
	"whodunit/internal/rule/sigma"
)

func FuzzDocuments(f *testing.F) {
	f.Add("title: a\nlogsource: {product: kubernetes}\ndetection: {s: {a|windash|contains|all: [' -x', y]}, condition: 1 of s*}\n", `{"a":" /x y"}`)
	f.Add("title: a\nsigma-version: 3\nlogsource: {}\ndetection: {s: {'a.b[any]': {condition: t, t: {'.|re': x}}, 'c[-1]': z}, condition: s}\n", `{"a":{"b":["x"]},"c":[1]}`)
	f.Add("title: a\ncorrelation: {type: temporal, rules: [a], timespan: 5m}\n---\ntitle: f\nfilter: {rules: any, s: [x], condition: not s}\n", `{}`)
	f.Add("detection: &a {s: [{<<: {x: 1}}, y], condition: [s, not s], timeframe: 1m}\ntitle: x\n", `{"Event":{"EventData":{"Data":[{"#attributes":{"Name":"x"},"#text":1}]}}}`)
	f.Add("title: a\ndetection: {s: {a|fieldref|startswith: b, c|hour|gte: 3, d|base64offset|contains: foo}, condition: s | count() > 3}\n", `{"a":null}`)
	f.Fuzz(func(t *testing.T, y, raw string) {
		for _, generic := range []bool{false, true} {
			out := rule.Parse("f.yml", []byte(y), sigma.New(sigma.Options{Generic: generic, WebsocketVerbs: true, Placeholders: placeholders}))
			for _, p := range out.Problems {
				if p.File != "f.yml" || p.Text == "" {
					t.Errorf("problem %+v says too little", p)
				}
			}
			ev := parsed(raw)
			if ev == nil {
				continue
			}
			for _, r := range out.Rules {
				if _, err := r.Match(ev); err != nil {
					t.Error(err)
				}
				r.Text(ev)
				if r.Expr != nil {
					match.Walk(r.Expr, func(match.Expr) {})
				}
			}
		}
	})
}

// many is n rules in the forms that published ones have, in documents of a few files.
func many(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `title: Rule number %d of a large pack
id: 00000000-0000-4000-8000-%012d
status: test
description: |
    Detects something that a large pack of rules detects, told in a sentence or two as they are.
references:
    - https://example.org/%d
tags:
    - attack.t1552.007
logsource:
    product: kubernetes
    service: audit
detection:
    selection:
        verb: [create, patch]
        objectRef.resource: 'things%d'
        requestObject.spec.containers.image|contains: ['/bad%d/', ':evil%d']
    filter_main_system:
        user.username|startswith: 'system:'
    condition: selection and not 1 of filter_main_*
falsepositives:
    - Unknown
level: medium
---
`, i, i, i, i%500, i, i)
	}
	return b.String()
}

func TestMany(t *testing.T) {
	if rules := load(t, sigma.Options{}, many(2000)); len(rules) != 2000 {
		t.Error(len(rules))
	}
}

func BenchmarkLoad20000(b *testing.B) {
	y := []byte(many(20000))
	for b.Loop() {
		out := rule.Parse("r.yml", y, sigma.New(sigma.Options{}))
		if len(out.Rules) != 20000 {
			b.Fatal(len(out.Rules), out.Problems[0])
		}
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		b.ReportMetric(float64(m.HeapAlloc)/(1<<20), "MB-live")
		b.ReportMetric(float64(m.Sys)/(1<<20), "MB-sys")
		runtime.KeepAlive(out)
	}
}
