package sigma

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

// aggregation is the old form `| count(field) by group > 5`.
var aggregation = regexp.MustCompile(`(?i)^\s*(count|min|max|avg|sum)\s*\(\s*([^)\s]*)\s*\)\s*(?:by\s+([^<>=\s]+))?\s*(<=|>=|<|>|==?)\s*([0-9.]+)\s*$`)

var comparisons = map[string]string{"<": "lt", "<=": "lte", ">": "gt", ">=": "gte", "=": "eq", "==": "eq"}

// legacy is the error for a condition with a pipe: what to write instead.
func legacy(condition string, timeframe *yaml.Node) error {
	base, pipe, _ := strings.Cut(condition, "|")
	span := "5m"
	if timeframe != nil && len(timeframe.Value) < 20 {
		span = timeframe.Value
	}
	m := aggregation.FindStringSubmatch(pipe)
	var b strings.Builder
	fmt.Fprintf(&b, "a condition with | is of an old Sigma version; end it before the pipe (condition: %.200s), give the rule a name, and write a correlation", strings.TrimSpace(base))
	switch {
	case len(m) > 0 && !strings.EqualFold(m[1], "min") && !strings.EqualFold(m[1], "max"):
		typ := "event_count"
		switch {
		case strings.EqualFold(m[1], "avg"), strings.EqualFold(m[1], "sum"):
			typ = "value_" + strings.ToLower(m[1])
		case m[2] != "":
			typ = "value_count"
		}
		fmt.Fprintf(&b, ":\n---\ntitle: ...\ncorrelation:\n  type: %s\n  rules: [the rule's name]\n", typ)
		if m[3] != "" {
			fmt.Fprintf(&b, "  group-by: [%s]\n", m[3])
		}
		fmt.Fprintf(&b, "  timespan: %s\n  condition:\n", span)
		if m[2] != "" {
			fmt.Fprintf(&b, "    field: %s\n", m[2])
		}
		fmt.Fprintf(&b, "    %s: %s", comparisons[m[4]], m[5])
	case strings.HasPrefix(strings.ToLower(strings.TrimSpace(pipe)), "near"):
		fmt.Fprintf(&b, " of one rule for each search identifier:\n---\ntitle: ...\ncorrelation:\n  type: temporal\n  rules: [the rules' names]\n  timespan: %s", span)
	default:
		b.WriteString(" (docs/reference/rules-sigma.md)")
	}
	return errors.New(b.String())
}
