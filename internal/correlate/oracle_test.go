package correlate

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"whodunit/internal/audit"
	"whodunit/internal/rule"
)

// in is one event of a test, with the rules that are true of it.
type in struct {
	at      int // seconds
	ev      audit.Event
	id      audit.Identity
	rules   []*rule.Rule
	user    string // "" is missing
	value   string // "" is missing
	arrival int    // seconds
}

const base = 1_700_000_000

func micros(at int) int64 { return int64(base+at) * 1e6 }

func event(t rapid.TB, n, at int, user, value string) (audit.Event, audit.Identity) {
	m := map[string]any{"auditID": fmt.Sprintf("id-%d", n), "stage": "ResponseComplete", "verb": "get",
		"stageTimestamp": time.UnixMicro(micros(at)).UTC().Format(time.RFC3339Nano)}
	if user != "" {
		m["user"] = map[string]any{"username": user}
	}
	if value != "" {
		m["requestURI"] = value
	}
	raw, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	ev, err := audit.Parse("c", raw)
	if err != nil {
		t.Fatal(err)
	}
	return ev, ev.Identity()
}

func bases(n int) []*rule.Rule {
	var out []*rule.Rule
	for i := range n {
		out = append(out, &rule.Rule{ID: fmt.Sprintf("r%d", i), PerEvent: true})
	}
	return out
}

func drawEvents(t *rapid.T, rules []*rule.Rule, single bool) []in {
	n := rapid.IntRange(0, 40).Draw(t, "n")
	var out []in
	for i := range n {
		x := in{at: rapid.IntRange(0, 40).Draw(t, "at"), user: rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "user"),
			value: rapid.SampledFrom([]string{"", "1", "2", "-3.5", "2.25", "x", "1e30"}).Draw(t, "value")}
		for _, r := range rules {
			if rapid.IntRange(0, 2).Draw(t, "hit") == 0 {
				x.rules = append(x.rules, r)
			}
		}
		if single && len(x.rules) > 1 {
			x.rules = x.rules[:1]
		}
		x.ev, x.id = event(t, i, x.at, x.user, x.value)
		x.arrival = x.at + rapid.IntRange(0, 10).Draw(t, "delay")
		out = append(out, x)
	}
	return out
}

func drawCorrelation(t *rapid.T, rules []*rule.Rule) *rule.Correlation {
	c := &rule.Correlation{
		Type: rapid.SampledFrom([]rule.CorrelationType{rule.EventCount, rule.ValueCount, rule.Temporal, rule.TemporalOrdered, rule.ValueSum,
			rule.ValueAvg, rule.ValuePercentile, rule.FirstSeen}).Draw(t, "type"),
		Timespan:   time.Duration(rapid.IntRange(1, 15).Draw(t, "span")) * time.Second,
		Quiet:      time.Duration(rapid.SampledFrom([]int{0, -1, 1, 20}).Draw(t, "quiet")) * time.Second,
		Percentile: float64(rapid.IntRange(0, 100).Draw(t, "percentile")),
		Baseline:   time.Duration(rapid.IntRange(0, 5).Draw(t, "baseline")) * time.Second,
	}
	for _, r := range rules {
		c.Of = append(c.Of, r.ID)
	}
	if rapid.Bool().Draw(t, "grouped") {
		c.GroupBy = []rule.Key{{Name: "user", Path: "user.username"}}
	}
	c.Fields = []rule.Key{{Path: "requestURI"}}
	if c.Type == rule.ValueCount && rapid.Bool().Draw(t, "two") {
		c.Fields = append(c.Fields, rule.Key{Path: "user.username"})
	}
	if c.Type != rule.Temporal || rapid.Bool().Draw(t, "conds") {
		for range rapid.IntRange(1, 2).Draw(t, "nconds") {
			c.Conds = append(c.Conds, rule.Compare{Op: rapid.SampledFrom([]string{"gt", "gte", "lt", "lte", "eq", "neq"}).Draw(t, "op"),
				Value: float64(rapid.IntRange(0, 4).Draw(t, "threshold"))})
		}
	}
	if c.Type == rule.Temporal && rapid.Bool().Draw(t, "logic") {
		c.Logic, c.Conds = [][]int{{0}, {1, 2}}, nil
	}
	return c
}

// naive is the oracle: it looks at all events for each.
func naive(c *rule.Correlation, all []in) []string {
	all = slices.Clone(all)
	all = slices.DeleteFunc(all, func(x in) bool { return len(x.rules) == 0 })
	slices.SortFunc(all, func(a, b in) int { return cmp.Or(a.at-b.at, bytes.Compare(a.id[:], b.id[:])) })
	var out []string
	span, quiet := int(c.Timespan/time.Second), int(c.Quiet/time.Second)
	if c.Quiet == 0 {
		quiet = span
	}
	group := func(x in) string {
		if len(c.GroupBy) == 0 {
			return "all"
		}
		return x.user
	}
	closing := slices.ContainsFunc(c.Conds, func(c rule.Compare) bool { return c.Op[0] != 'g' }) && c.Type != rule.TemporalOrdered && c.Type != rule.FirstSeen
	type found struct {
		at   int
		text string
	}
	var finds []found
	fired := map[string]int{}
	open := map[string][]in{}
	say := func(win []in, now int) {
		g := group(win[0])
		if f, ok := fired[g]; ok && now-f <= quiet {
			return
		}
		n, ok := naiveVerdict(c, win)
		if !ok {
			return
		}
		fired[g] = now
		finds = append(finds, found{now, fmt.Sprintf("%s n=%g events=%d first=%d last=%d", win[len(win)-1].ev.AuditID, n, len(win), win[0].at, win[len(win)-1].at)})
	}
	closeBefore := func(t int) {
		var ends []string
		for g, w := range open {
			if w[0].at+span < t {
				ends = append(ends, g)
			}
		}
		slices.SortFunc(ends, func(a, b string) int {
			return cmp.Or(open[a][0].at-open[b][0].at, cmp.Compare(len(a), len(b)), cmp.Compare(a, b))
		})
		for _, g := range ends {
			say(open[g], open[g][0].at+span)
			delete(open, g)
		}
	}
	for i, x := range all {
		if c.Type == rule.FirstSeen {
			before := slices.ContainsFunc(all[:i], func(y in) bool { return group(y) == group(x) && x.at-y.at <= span })
			if !before && x.at-all[0].at >= int(c.Baseline/time.Second) {
				finds = append(finds, found{x.at, fmt.Sprintf("%s n=1 events=1 first=%d last=%d", x.ev.AuditID, x.at, x.at)})
			}
			continue
		}
		if closing {
			closeBefore(x.at)
			open[group(x)] = append(open[group(x)], x)
			continue
		}
		var win []in
		for _, y := range all[:i+1] {
			if group(y) == group(x) && x.at-y.at <= span {
				win = append(win, y)
			}
		}
		say(win, x.at)
	}
	closeBefore(math.MaxInt)
	for _, f := range finds {
		out = append(out, f.text)
	}
	return out
}

func naiveVerdict(c *rule.Correlation, win []in) (float64, bool) {
	n := 0.0
	hit := map[string]bool{}
	values := map[string]bool{}
	var nums []float64
	for _, x := range win {
		for _, r := range x.rules {
			hit[r.ID] = true
		}
		switch v := x.value; {
		case len(c.Fields) == 2 && (v != "" || x.user != ""):
			values[v+"|"+x.user] = true
		case len(c.Fields) == 1 && v != "":
			values[v] = true
			var f float64
			if _, err := fmt.Sscanf(v, "%g", &f); err == nil {
				nums = append(nums, f)
			}
		}
	}
	sum := 0.0
	for _, f := range nums {
		sum += f
	}
	sorted := slices.Sorted(slices.Values(nums))
	switch c.Type {
	case rule.EventCount:
		n = float64(len(win))
	case rule.ValueCount:
		n = float64(len(values))
	case rule.ValueSum:
		n = sum
	case rule.ValueAvg:
		n = sum / float64(len(nums))
	case rule.ValuePercentile:
		for _, f := range sorted { // the first that enough do not exceed
			le := 0
			for _, g := range sorted {
				if g <= f {
					le++
				}
			}
			n = f
			if float64(le)*100 >= c.Percentile*float64(len(sorted)) {
				break
			}
		}
	case rule.Temporal:
		n = float64(len(hit))
		switch {
		case c.Logic != nil:
			return n, hit["r0"] || hit["r1"] && hit["r2"]
		case len(c.Conds) == 0:
			return n, len(hit) == len(c.Of)
		}
	case rule.TemporalOrdered:
		return float64(len(c.Of)), chain(c.Of, win, -1, map[int]bool{})
	}
	if len(nums) == 0 && (c.Type == rule.ValueSum || c.Type == rule.ValueAvg || c.Type == rule.ValuePercentile) {
		return 0, false
	}
	for _, cond := range c.Conds {
		if !cond.Holds(n) {
			return 0, false
		}
	}
	return n, true
}

// chain tries every way to find the rules in order, each in an event of its own; events of one time have no order.
func chain(of []string, win []in, at int, used map[int]bool) bool {
	if len(of) == 0 {
		return true
	}
	for i, x := range win {
		if used[i] || x.at < at || !slices.ContainsFunc(x.rules, func(r *rule.Rule) bool { return r.ID == of[0] }) {
			continue
		}
		used[i] = true
		if chain(of[1:], win, x.at, used) {
			return true
		}
		delete(used, i)
	}
	return false
}

func texts(fs []Finding) (out []string) {
	for _, f := range fs {
		out = append(out, fmt.Sprintf("%s n=%g events=%d first=%d last=%d", f.Event.AuditID, f.Facts.Number, f.Facts.Events, f.Facts.First/1e6-base, f.Facts.Last/1e6-base))
	}
	return out
}

func TestOracle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rules := bases(3)
		c := drawCorrelation(t, rules)
		events := drawEvents(t, rules, c.Type == rule.TemporalOrdered)
		r := &rule.Rule{ID: "c", Correlation: c}
		x := New([]*rule.Rule{r}, Options{Lateness: -1})
		order := make([]int, len(events))
		for i := range order {
			order[i] = i
		}
		for _, n := range rapid.Permutation(order).Draw(t, "order") {
			i := events[n]
			if len(i.rules) == 0 {
				x.See(&i.ev, 0)
			} else if got := x.Add(&i.ev, i.id, 0, i.rules); got != nil {
				t.Fatal("found before the flush")
			}
		}
		if diff := gocmp.Diff(naive(c, events), texts(x.Flush())); diff != "" {
			t.Fatal(diff)
		}
		if x.queue.bytes != 0 {
			t.Fatalf("%d bytes wait", x.queue.bytes)
		}
		sum := 0
		for _, p := range x.plans {
			for _, g := range p.groups {
				sum += g.bytes
				if g.bytes < 0 {
					t.Fatal("a group costs less than nothing")
				}
			}
		}
		if sum != x.state {
			t.Fatalf("groups cost %d, reckoned %d", sum, x.state)
		}
	})
}

// TestArrival: whatever the order of arrival within the lateness, with and without times of arrival, with time passing in between or not,
// the findings are the same, evidence included, and in the same order.
func TestArrival(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rules := bases(3)
		var correlations []*rule.Rule
		for i := range 2 {
			correlations = append(correlations, &rule.Rule{ID: fmt.Sprintf("c%d", i), Correlation: drawCorrelation(t, rules)})
		}
		streak := rapid.Bool().Draw(t, "streak")
		if streak {
			correlations = append(correlations, &rule.Rule{ID: "streak", Correlation: &rule.Correlation{Type: rule.Streak, Of: []string{"r0"}, Conds: []rule.Compare{{Op: "gte", Value: 2}}, Resolves: true}})
		}
		correlations = append(correlations,
			&rule.Rule{ID: "over", Correlation: &rule.Correlation{Type: rule.EventCount, Of: []string{"c0", "c1", "streak"}, Timespan: 20 * time.Second,
				GroupBy: []rule.Key{{Path: "user.username"}}, Conds: []rule.Compare{{Op: "gte", Value: 2}}}})
		events := drawEvents(t, rules, false)
		if streak { // they depend on the order of arrival between events of one time
			slices.SortStableFunc(events, func(a, b in) int { return a.at - b.at })
			events = slices.CompactFunc(events, func(a, b in) bool { return a.at == b.at })
		}
		run := func(events []in, o Options, ingested, idle bool) (out []Finding) {
			x := New(correlations, o)
			for _, e := range events {
				at := int64(0)
				if ingested {
					at = micros(e.arrival)
					if idle {
						out = append(out, x.Advance(at-500_000)...)
					}
				}
				if len(e.rules) == 0 {
					out = append(out, x.See(&e.ev, at)...)
				} else {
					out = append(out, x.Add(&e.ev, e.id, at, e.rules)...)
				}
			}
			if n := x.queue.len(); n > 0 && ingested {
				clock, ok := x.Waiting()
				for i := 0; ok && i < 200; i++ {
					out = append(out, x.Advance(clock)...)
					clock, ok = x.Waiting()
				}
				if ok || x.queue.len() > 0 {
					t.Fatal("events wait for ever")
				}
			}
			return append(out, x.Flush()...)
		}
		sorted := slices.Clone(events)
		slices.SortStableFunc(sorted, func(a, b in) int { return a.at - b.at })
		want := run(sorted, Options{Lateness: -1, Resolved: true}, false, false)
		arrived := slices.Clone(events)
		slices.SortStableFunc(arrived, func(a, b in) int { return a.arrival - b.arrival })
		o := Options{Lateness: 10 * time.Second, Resolved: true}
		full := func(fs []Finding) (out []string) {
			for _, f := range fs {
				out = append(out, fmt.Sprintf("%s %s %v %v %t", f.Rule.ID, f.Event.AuditID, f.Facts, f.Evidence, f.Resolved))
			}
			return out
		}
		for name, got := range map[string][]Finding{"by watermark": run(arrived, o, false, false), "with arrivals": run(arrived, o, true, false), "with idle times": run(arrived, o, true, true)} {
			if diff := gocmp.Diff(full(want), full(got)); diff != "" {
				t.Fatalf("%s: %s", name, diff)
			}
		}
	})
}
