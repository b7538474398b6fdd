package sigma

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"whodunit/internal/audit"
	"whodunit/internal/match"
)

// fieldref compares two fields of one event: any value of one with any of the other, without case unless the chain says cased.
func (c *compiler) fieldref(t *target, ch chain, name string) match.Expr {
	o := c.lookup(name)
	c.need(o)
	fold := func(s string) string { return s }
	if !ch.has["cased"] {
		fold = match.Fold
	}
	test, word := func(a, b string) bool { return a == b }, "equals"
	switch before, behind := ch.has["endswith"] || ch.has["contains"], ch.has["startswith"] || ch.has["contains"]; {
	case before && behind:
		test, word = strings.Contains, "contains"
	case before:
		test, word = strings.HasSuffix, "endswith"
	case behind:
		test, word = strings.HasPrefix, "startswith"
	}
	return &match.Func{Name: fmt.Sprintf("%q %s %q, cased %t", t.id(), word, o.id(), ch.has["cased"]), Eval: func(ev *audit.Event) bool {
		const most = 1000 // values of each side, which is a client's
		var others []string
		o.values(ev, func(v string) bool { others = append(others, fold(v)); return len(others) < most })
		hit, n := false, 0
		t.values(ev, func(v string) bool {
			v = fold(v)
			for _, w := range others {
				if test(v, w) {
					hit = true
					return false
				}
			}
			n++
			return n < most
		})
		return hit
	}}
}

// layouts are the forms of time that logs have; the zone stays as it is written.
var layouts = []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05.999999999Z07:00", "2006-01-02 15:04:05.999999999", "2006-01-02 15:04:05.999999999 MST", "2006-01-02"}

// timeTarget is one part of the times in t, as a number.
func timeTarget(t *target, part string) *target {
	return &target{name: t.name, raw: t.raw, field: &match.Field{Name: part + " of " + t.id(), Values: func(ev *audit.Event, yield func(string) bool) {
		t.values(ev, func(v string) bool {
			if len(v) > 64 {
				return true
			}
			for _, l := range layouts {
				if at, err := time.Parse(l, v); err == nil {
					return yield(strconv.Itoa(timePartOf(at, part)))
				}
			}
			return true
		})
	}}}
}

func timePartOf(at time.Time, part string) int {
	switch part {
	case "minute":
		return at.Minute()
	case "hour":
		return at.Hour()
	case "day":
		return at.Day()
	case "week":
		_, w := at.ISOWeek()
		return w
	case "month":
		return int(at.Month())
	}
	return at.Year()
}
