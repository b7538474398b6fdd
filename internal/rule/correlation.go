package rule

import (
	"time"

	"whodunit/internal/audit"
)

// CorrelationType is how a correlation counts.
type CorrelationType string

// The types: Sigma's seven (its specification v2.1.0, correlation rules), and those that native rules add.
const (
	EventCount      CorrelationType = "event_count"      // events
	ValueCount      CorrelationType = "value_count"      // distinct values of Fields
	Temporal        CorrelationType = "temporal"         // rules that matched, in any order
	TemporalOrdered CorrelationType = "temporal_ordered" // rules that matched, in the order of Of
	ValueSum        CorrelationType = "value_sum"
	ValueAvg        CorrelationType = "value_avg"
	ValuePercentile CorrelationType = "value_percentile"
	// FirstSeen is true of a group that did not come within Timespan before. Baseline keeps it quiet while it learns.
	FirstSeen CorrelationType = "first_seen"
	// Streak is Parseable's `repeats`: the Min-th match fires once, and the rule is quiet until an event has come that does not match.
	Streak CorrelationType = "streak"
)

// Correlation looks at what other rules match, over windows of event time. Immutable.
type Correlation struct {
	Type CorrelationType
	Of   []string // ids of the rules, plain ones or correlations, that it looks at
	// Names are what the rules of Of are called in aliases and conditions, one for each; nil: their ids.
	Names []string
	// GroupBy is one key a group; empty: all is one group. A value that is missing is a group of its own. Values of a list are joined.
	GroupBy  []Key
	Fields   []Key         // of value_count (several: distinct combinations), value_sum, value_avg, value_percentile
	Timespan time.Duration // of the window, which slides; greater than 0, but for Streak
	Conds    []Compare     // all must hold of the count, sum, average or percentile
	// Percentile is from 0 to 100, of value_percentile.
	Percentile float64
	// Baseline is how long after the first event it ever saw a first_seen stays quiet.
	Baseline time.Duration
	// Quiet is how long after a finding the same group makes no other; 0: Timespan.
	Quiet time.Duration
	// Logic is, for temporal types, which of the rules must have matched: by place in Of, in disjunctive form. nil: all.
	Logic [][]int
	// Resolves makes a streak that is over a finding as well: one whose State is finding.Resolved, where the reader asks for it.
	Resolves bool
}

// Key is a path, or another path for some of the rules: Sigma's aliases.
type Key struct {
	Name   string
	Path   string            // for rules that Of does not name
	ByRule map[string]string // rule id to path
	// Values finds a path's values where the format has its own places for a field; nil: match.Values. Safe for concurrent use.
	Values func(ev *audit.Event, path string, yield func(string) bool)
}

// For is the path of the key for one rule.
func (k Key) For(rule string) string {
	if p, ok := k.ByRule[rule]; ok {
		return p
	}
	return k.Path
}

// Compare is one condition on a number.
type Compare struct {
	Op    string // "gt", "gte", "lt", "lte", "eq", "neq"
	Value float64
}

// Holds reports whether n satisfies c.
func (c Compare) Holds(n float64) bool {
	switch c.Op {
	case "gt":
		return n > c.Value
	case "gte":
		return n >= c.Value
	case "lt":
		return n < c.Value
	case "lte":
		return n <= c.Value
	case "eq":
		return n == c.Value
	case "neq":
		return n != c.Value
	}
	return false
}

// Facts are what a correlation found when its conditions held.
type Facts struct {
	Number      float64 // the count, sum, average or percentile; of temporal types the number of rules
	Events      int     // in the window, of this group
	First, Last int64   // their times, microseconds since 1970 UTC
}

// FactsRenderer is a Renderer that knows a correlation's facts.
type FactsRenderer interface {
	RenderFacts(ev *audit.Event, f Facts) string
}
