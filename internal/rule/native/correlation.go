package native

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"whodunit/internal/rule"
)

// The keys of a rule that make it a correlation.
const (
	keyCount     = "count"
	keyDistinct  = "distinct"
	keyFirstSeen = "first_seen"
	keySequence  = "sequence"
)

// defaultLearn is how long a first_seen rule is quiet at first unless it says otherwise.
const defaultLearn = 24 * time.Hour

// correlation is a rule's count, distinct, first_seen or sequence.
type correlation struct {
	key   string
	at    *yaml.Node
	spec  rule.Correlation // without Of
	rules []string         // other rules that it looks at, in place of a condition
	steps []step           // of a sequence
}

// step is one part of a sequence: a condition, or another rule.
type step struct {
	name      string
	condition *yaml.Node
	rule      string
}

// correlations are the fields that make a rule a correlation.
func (l *loader) correlations() []field {
	var out []field
	for key, typ := range map[string]rule.CorrelationType{keyCount: rule.EventCount, keyDistinct: rule.ValueCount, keyFirstSeen: rule.FirstSeen, keySequence: rule.TemporalOrdered} {
		out = append(out, field{key, func(n *yaml.Node) {
			if c := l.draft.corr; c != nil {
				l.fail(n, "%s beside %s: a rule has one of count, distinct, first_seen, sequence", key, c.key)
				return
			}
			l.draft.corr = &correlation{key: key, at: n, spec: rule.Correlation{Type: typ}}
			l.draft.corr.read(l, n)
		}})
	}
	slices.SortFunc(out, func(a, b field) int { return strings.Compare(a.name, b.name) })
	return out
}

var compareOps = []struct{ word, op string }{{"at_least", "gte"}, {"more_than", "gt"}, {"at_most", "lte"}, {"less_than", "lt"}, {"exactly", "eq"}}

func (c *correlation) read(l *loader, n *yaml.Node) {
	s := &c.spec
	over := field{"over", func(n *yaml.Node) { s.Timespan = l.duration(n, 1) }}
	by := field{"by", func(n *yaml.Node) { s.GroupBy = l.keys(n) }}
	rules := field{"rules", func(n *yaml.Node) { c.rules = l.texts(n) }}
	known := []field{{"quiet", func(n *yaml.Node) { s.Quiet = l.duration(n, 1) }}}
	if c.key == keyCount || c.key == keyDistinct {
		known = append(known, over, by, rules)
		for _, o := range compareOps {
			known = append(known, field{o.word, func(n *yaml.Node) {
				if v, err := strconv.ParseUint(n.Value, 10, 31); err == nil && n.Tag == "!!int" {
					s.Conds = append(s.Conds, rule.Compare{Op: o.op, Value: float64(v)})
				} else {
					l.fail(n, "%s: a whole number is expected, not %s", o.word, kind(n))
				}
			}})
		}
	}
	switch c.key {
	case keyDistinct:
		known = append(known, field{"of", func(n *yaml.Node) { s.Fields = l.keys(n) }})
	case keyFirstSeen:
		s.Baseline = defaultLearn
		known = append(known, rules, field{"of", func(n *yaml.Node) { s.GroupBy = l.keys(n) }},
			field{"within", func(n *yaml.Node) { s.Timespan = l.duration(n, 1) }},
			field{"learn", func(n *yaml.Node) { s.Baseline = l.duration(n, 0) }})
	case keySequence:
		known = append(known, over, by,
			field{"ordered", func(n *yaml.Node) {
				if !l.boolean(n) {
					s.Type = rule.Temporal
				}
			}},
			field{"steps", func(n *yaml.Node) { c.readSteps(l, n) }})
	}
	before := len(l.problems)
	l.fields(n, c.key, known)
	if len(l.problems) == before {
		c.wanted(l, n)
	}
}

// wanted says which fields are missing.
func (c *correlation) wanted(l *loader, n *yaml.Node) {
	s := &c.spec
	window := "over"
	if c.key == keyFirstSeen {
		window = "within"
	}
	if s.Timespan == 0 {
		l.fail(n, "%s: no %s; a duration such as 5m or 7d is expected", c.key, window)
	}
	if (c.key == keyCount || c.key == keyDistinct) && len(s.Conds) == 0 {
		l.fail(n, "%s: none of at_least, more_than, at_most, less_than, exactly", c.key)
	}
	if c.key == keyDistinct && len(s.Fields) == 0 || c.key == keyFirstSeen && len(s.GroupBy) == 0 {
		l.fail(n, "%s: no of; a path or a list of paths is expected", c.key)
	}
	if c.key == keySequence && len(c.steps) < 2 {
		l.fail(n, "%s: two steps at least are expected", c.key)
	}
}

// needs holds the correlation against the rule's condition.
func (c *correlation) needs(l *loader, condition *yaml.Node) {
	switch {
	case c.key == keySequence && condition != nil:
		l.fail(condition, "condition beside sequence: its steps have conditions of their own")
	case c.key != keySequence && condition == nil && len(c.rules) == 0:
		l.fail(c.at, "%s: no condition, and no rules; a condition beside it that says which events it looks at is expected", c.key)
	case condition != nil && len(c.rules) > 0:
		l.fail(condition, "condition beside rules of %s: one of them is expected", c.key)
	}
}

func (c *correlation) readSteps(l *loader, n *yaml.Node) {
	const most = 20
	seen := map[string]bool{}
	for i, el := range l.list(n) {
		var s step
		l.fields(el, "step", []field{
			{"name", func(n *yaml.Node) { s.name, _ = l.text(n) }},
			{"condition", func(n *yaml.Node) {
				if _, ok := l.text(n); ok {
					s.condition = n
				}
			}},
			{"rule", func(n *yaml.Node) { s.rule, _ = l.text(n) }},
		})
		el = resolve(el)
		if (s.condition == nil) == (s.rule == "") {
			l.fail(el, "step: either condition or rule is expected")
		}
		if s.name == "" {
			if s.name = s.rule; s.name == "" {
				s.name = "step" + strconv.Itoa(i+1)
			}
		}
		if seen[s.name] {
			l.fail(el, "step: the name %.60q stands twice", s.name)
		}
		if seen[s.name] = true; i == most {
			l.fail(el, "sequence: more than %d steps", most)
			return
		}
		c.steps = append(c.steps, s)
	}
}

// keys reads a path or a list of paths.
func (l *loader) keys(n *yaml.Node) []rule.Key {
	nodes := []*yaml.Node{n}
	if n.Kind == yaml.SequenceNode {
		nodes = n.Content
	}
	var out []rule.Key
	for _, c := range nodes {
		p, ok := l.text(c)
		if !ok {
			continue
		}
		if err := knownPath(p); err != nil {
			l.failPath(resolve(c), "path", err)
			continue
		}
		out = append(out, rule.Key{Name: p, Path: p})
	}
	return out
}

// duration reads a duration of at least least.
func (l *loader) duration(n *yaml.Node, least time.Duration) time.Duration {
	s, ok := l.text(n)
	if !ok {
		return 0
	}
	d, err := parseDuration(s)
	if err != nil || d < least {
		l.fail(n, "%.60q: a duration such as 30s, 5m, 1h30m, 7d or 2w is expected", s)
		return 0
	}
	return d
}

// parseDuration reads Go's durations, and days (24 h) and weeks as d and w.
func parseDuration(s string) (time.Duration, error) {
	var total time.Duration
	for rest := s; rest != ""; {
		n := strings.IndexFunc(rest, func(c rune) bool { return c != '.' && (c < '0' || c > '9') })
		if n <= 0 {
			if d, err := time.ParseDuration(rest); err != nil || d != 0 || total != 0 {
				return 0, fmt.Errorf("%.60q is no duration", s)
			}
			return 0, nil
		}
		unit := rest[n:]
		if i := strings.IndexAny(unit, "0123456789."); i >= 0 {
			unit = unit[:i]
		}
		number := rest[:n]
		rest = rest[n+len(unit):]
		var d time.Duration
		var err error
		switch days := map[string]float64{"d": 1, "w": 7}[unit]; days {
		case 0:
			d, err = time.ParseDuration(number + unit)
		default:
			var f float64
			if f, err = strconv.ParseFloat(number, 64); err == nil && f*days > 100_000 {
				err = fmt.Errorf("%s%s is too long", number, unit)
			}
			d = time.Duration(f * days * float64(24*time.Hour))
		}
		if err != nil {
			return 0, err
		}
		if total += d; total < 0 || d == math.MaxInt64 {
			return 0, fmt.Errorf("%.60q is too long", s)
		}
	}
	if s == "" {
		return 0, fmt.Errorf("no duration")
	}
	return total, nil
}
