package sigma_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"whodunit/internal/rule"
	"whodunit/internal/rule/sigma"
)

const base = `
title: A
name: a
id: 11111111-1111-1111-1111-111111111111
logsource: {product: kubernetes, service: audit}
detection: {s: {verb: get}, condition: s}
---
title: B
name: b
logsource: {product: kubernetes, service: audit}
detection: {s: {verb: list}, condition: s}
---
`

func TestCorrelations(t *testing.T) {
	const idA = "11111111-1111-1111-1111-111111111111"
	key := func(s string) []rule.Key { return []rule.Key{{Name: s, Path: s}} }
	for _, c := range []struct {
		y    string
		want rule.Correlation
	}{
		{"{type: event_count, rules: [a], group-by: [user.username], timespan: 10m, condition: {gte: 10, lt: 20}}",
			rule.Correlation{Type: rule.EventCount, Of: []string{idA}, Names: []string{"a"}, GroupBy: key("user.username"), Timespan: 10 * time.Minute, Conds: []rule.Compare{{Op: "gte", Value: 10}, {Op: "lt", Value: 20}}}},
		{"{type: value_count, rules: a, timespan: 1d, condition: {neq: 3, field: [x, apiGroup]}}",
			rule.Correlation{Type: rule.ValueCount, Of: []string{idA}, Names: []string{"a"}, Timespan: 24 * time.Hour, Conds: []rule.Compare{{Op: "neq", Value: 3}}, Fields: []rule.Key{{Name: "x", Path: "x"}, {Name: "apiGroup", Path: "objectRef.apiGroup"}}}},
		{"{type: temporal, rules: [a, " + idA + ", b], timespan: 30s}",
			rule.Correlation{Type: rule.Temporal, Of: []string{idA, idA, "b"}, Names: []string{"a", idA, "b"}, Timespan: 30 * time.Second}},
		{"{type: temporal_ordered, rules: [a, b], timespan: 2w, condition: {gte: 2}, group-by: [ip], aliases: {ip: {a: x.y, b: z}}}",
			rule.Correlation{Type: rule.TemporalOrdered, Of: []string{idA, "b"}, Names: []string{"a", "b"}, Timespan: 14 * 24 * time.Hour, Conds: []rule.Compare{{Op: "gte", Value: 2}},
				GroupBy: []rule.Key{{Name: "ip", Path: "ip", ByRule: map[string]string{idA: "x.y", "b": "z"}}}}},
		{"{type: temporal, timespan: 1h, condition: a AND (b or a)}",
			rule.Correlation{Type: rule.Temporal, Of: []string{idA, "b"}, Names: []string{"a", "b"}, Timespan: time.Hour, Logic: [][]int{{0, 1}, {0}}}},
		{"{type: value_sum, rules: [a], timespan: 5m, condition: {gt: 1.5, field: n}}",
			rule.Correlation{Type: rule.ValueSum, Of: []string{idA}, Names: []string{"a"}, Timespan: 5 * time.Minute, Conds: []rule.Compare{{Op: "gt", Value: 1.5}}, Fields: key("n")}},
		{"{type: value_avg, rules: [a], timespan: 5m, condition: {eq: 1, field: n}}",
			rule.Correlation{Type: rule.ValueAvg, Of: []string{idA}, Names: []string{"a"}, Timespan: 5 * time.Minute, Conds: []rule.Compare{{Op: "eq", Value: 1}}, Fields: key("n")}},
		{"{type: value_percentile, rules: [a], timespan: 1M, condition: {lte: 1, field: n, percentile: 95}}",
			rule.Correlation{Type: rule.ValuePercentile, Of: []string{idA}, Names: []string{"a"}, Timespan: 2629746 * time.Second, Conds: []rule.Compare{{Op: "lte", Value: 1}}, Fields: key("n"), Percentile: 95}},
	} {
		rules := load(t, sigma.Options{}, base+"title: C\nlevel: high\ntags: [attack.t1110]\ncorrelation: "+c.y)
		r := rules[2]
		if d := cmp.Diff(&c.want, r.Correlation); d != "" {
			t.Errorf("%s:\n%s", c.y, d)
		}
		if !rules[0].Silent || r.Silent || r.Severity != "high" || r.ID != "c" || r.Expr != nil {
			t.Errorf("%s: %+v", c.y, r)
		}
	}
}

// TestChain has the correlation before the rules that it looks at, as the specification's example has.
func TestChain(t *testing.T) {
	parts := strings.SplitN(base, "---\n", 2)
	rules := load(t, sigma.Options{}, "title: Top\ncorrelation: {type: temporal_ordered, rules: [many, b], timespan: 1h}\n---\n"+
		"title: Many\nname: many\ngenerate: true\ncorrelation: {type: event_count, rules: [a], timespan: 5m, condition: {gte: 3}}\n---"+parts[0]+"---\n"+strings.TrimSuffix(parts[1], "---\n"))
	silent := map[string]bool{}
	for _, r := range rules {
		silent[r.Title] = r.Silent
	}
	if d := cmp.Diff(map[string]bool{"Top": false, "Many": true, "A": false, "B": true}, silent); d != "" {
		t.Error(d)
	}
}

func TestCorrelationOfBadOrOff(t *testing.T) {
	out := rule.Parse("r.yml", []byte(`
title: Bad
name: bad
logsource: {product: kubernetes}
detection: {s: {a|b: c}, condition: s}
---
title: Off
name: windows
logsource: {product: windows}
detection: {s: {a: c}, condition: s}
---
title: C1
name: c1
correlation: {type: event_count, rules: [bad], timespan: 5m, condition: {gte: 3}}
---
title: C2
correlation: {type: temporal, rules: [c1], timespan: 5m}
---
title: C3
correlation: {type: event_count, rules: [windows], timespan: 5m, condition: {gte: 3}}
`), sigma.New(sigma.Options{}))
	if len(out.Problems) != 3 || len(out.Rules) != 2 || !strings.HasPrefix(out.Rules[1].Off, "it looks at rule windows") && !strings.HasPrefix(out.Rules[1].Off, "it looks at rule off") {
		t.Errorf("%v %+v", out.Problems, out.Rules)
	}
}

func TestFilters(t *testing.T) {
	for _, filter := range []string{
		"filter: {rules: [a], s: {user.username: bob}, condition: s}",
		"filter: {rules: any, s: {user.username: bob}, condition: not s}",
		"filter: {rules: a, s1: {user.username: bob}, s2: {user.username: eve}, condition: not s1 and not s2}",
		"filter: {rules: [11111111-1111-1111-1111-111111111111], s1: {user.username: bob}, s2: {verb: x}, condition: 1 of s*}",
	} {
		rules := load(t, sigma.Options{}, "title: F\nlogsource: {product: kubernetes, service: audit}\n"+filter+"\n---"+strings.TrimSuffix(base, "---\n"))
		if len(rules) != 2 {
			t.Fatalf("%d rules", len(rules))
		}
		bob := event(t, `"verb":"get"`)
		other := *bob
		other.User.Username = "carol"
		other.Raw = []byte(strings.Replace(string(bob.Raw), "bob", "carol", 1))
		got1, _ := rules[0].Match(bob)
		got2, _ := rules[0].Match(&other)
		if got1 || !got2 {
			t.Errorf("%s: %t %t", filter, got1, got2)
		}
	}
	out := rule.Parse("r.yml", []byte(strings.TrimPrefix(base, "\n")+"title: F\nlogsource: {product: kubernetes, category: process_creation}\nfilter: {rules: [a], s: {x: y}, condition: s}"), sigma.New(sigma.Options{}))
	if len(out.Problems) != 1 || len(out.Rules) != 2 {
		t.Errorf("%v", out.Problems)
	}
}

func TestGenericKeys(t *testing.T) {
	rules := load(t, sigma.Options{Generic: true}, base+"title: C\ncorrelation: {type: event_count, rules: [a], group-by: [User], timespan: 5m, condition: {gte: 2}}")
	k := rules[2].Correlation.GroupBy[0]
	var got []string
	k.Values(generic(t, `{"Event":{"EventData":{"user":["x"]}}}`), k.For("a"), func(v string) bool { got = append(got, v); return true })
	if d := cmp.Diff([]string{"x"}, got); d != "" {
		t.Error(d)
	}
}
