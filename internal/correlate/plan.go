package correlate

import (
	"container/list"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"strings"

	"whodunit/internal/audit"
	"whodunit/internal/match"
	"whodunit/internal/rule"
)

// plan is one correlation and its groups.
type plan struct {
	rule      *rule.Rule
	c         *rule.Correlation
	place     int
	positions map[string][]int // rule id to its places in Of
	span      int64            // microseconds
	quiet     int64            // microseconds; below 0: none
	atClose   bool             // decided when the window closes, not at each event

	groups map[string]*group
	idle   list.List // of *group, the one that was touched longest ago first
	firing int       // groups whose streak goes on
	first  int64     // time of the first event ever
	any    bool      // there was one
}

func newPlan(r *rule.Rule, place int) *plan {
	c := r.Correlation
	p := &plan{rule: r, c: c, place: place, positions: map[string][]int{}, groups: map[string]*group{}, span: c.Timespan.Microseconds(), quiet: c.Quiet.Microseconds()}
	switch {
	case c.Quiet == 0:
		p.quiet = p.span
	case c.Quiet < 0:
		p.quiet = -1
	}
	for i, id := range c.Of {
		p.positions[id] = append(p.positions[id], i)
	}
	switch c.Type {
	case rule.FirstSeen, rule.Streak, rule.TemporalOrdered:
	default:
		for _, cond := range c.Conds {
			p.atClose = p.atClose || cond.Op != "gt" && cond.Op != "gte"
		}
	}
	return p
}

// horizon is how long a group matters after its last event.
func (p *plan) horizon() int64 { return max(p.span, p.quiet) }

// occurrence is one event of a rule that a plan looks at, or a finding of a correlation.
type occurrence struct {
	micros int64
	id     audit.Identity
	event  *audit.Event
	rule   *rule.Rule
	group  []value // of a finding: its group's values, and the plan that made it
	plan   *plan
}

// value is what an event has for a key.
type value struct {
	text string
	has  bool
}

const (
	maxKeyBytes = 256 // of one value as it is kept; of a longer one the beginning and a hash stay
	maxValues   = 100 // of one event, of one field
)

// values ranges over what o has for the key.
func (o *occurrence) values(k rule.Key, yield func(string) bool) {
	path := k.For(o.rule.ID)
	if o.plan != nil {
		for i, own := range o.plan.c.GroupBy {
			if own.Name == k.Name && k.Name != "" || own.Name == path || own.Path == path {
				if v := o.group[i]; v.has {
					yield(v.text)
				}
				return
			}
		}
	}
	n := 0
	each := func(v string) bool { n++; return n <= maxValues && yield(short(v)) }
	if k.Values != nil {
		k.Values(o.event, path, each)
		return
	}
	match.Values(o.event, path)(each)
}

// joined is what o has for the key as one text.
func (o *occurrence) joined(k rule.Key) value {
	var first string
	var rest []string
	n := 0
	o.values(k, func(v string) bool {
		if n++; n == 1 {
			first = v
		} else {
			rest = append(rest, v)
		}
		return true
	})
	if n > 1 {
		first = short(first + "," + strings.Join(rest, ","))
	}
	return value{first, n > 0}
}

// short is v, or as much of it as tells it from others.
func short(v string) string {
	if len(v) <= maxKeyBytes {
		return v
	}
	h := sha256.Sum256([]byte(v))
	return v[:maxKeyBytes-len(h)] + hex.EncodeToString(h[:16])
}

// key is the group of o: its values, each with its length, so that no two groups share a key.
func (p *plan) key(o *occurrence) string {
	var b []byte
	for _, k := range p.c.GroupBy {
		b = o.joined(k).appendTo(b)
	}
	return string(b)
}

// values reads a key.
func (p *plan) values(key string) []value {
	out := make([]value, 0, len(p.c.GroupBy))
	for b := []byte(key); len(b) > 0; {
		n, size := binary.Uvarint(b)
		b = b[size:]
		if n == 0 {
			out = append(out, value{})
			continue
		}
		out = append(out, value{string(b[:n-1]), true})
		b = b[n-1:]
	}
	return out
}

func (v value) appendTo(b []byte) []byte {
	if !v.has {
		return append(b, 0)
	}
	b = binary.AppendUvarint(b, uint64(len(v.text))+1)
	return append(b, v.text...)
}

func asGroup(e *list.Element) *group {
	g, _ := e.Value.(*group)
	return g
}
