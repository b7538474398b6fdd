package correlate

import (
	"math"
	"slices"
	"strconv"
	"strings"

	"whodunit/internal/finding"
	"whodunit/internal/rule"
)

// ring is a queue.
type ring[T any] struct {
	buf  []T
	head int
}

func (r *ring[T]) len() int   { return len(r.buf) - r.head }
func (r *ring[T]) push(v T)   { r.buf = append(r.buf, v) }
func (r *ring[T]) at(i int) T { return r.buf[r.head+i] }
func (r *ring[T]) front() T   { return r.buf[r.head] }
func (r *ring[T]) back() T    { return r.buf[len(r.buf)-1] }

// pop takes the oldest; what is popped makes room once it is half of all.
func (r *ring[T]) pop() T {
	v := r.buf[r.head]
	var none T
	r.buf[r.head] = none
	if r.head++; r.head > 16 && 2*r.head >= len(r.buf) {
		r.buf = slices.Clone(r.buf[r.head:])
		r.head = 0
	}
	return v
}

// distinct counts the different values in a window.
type distinct struct {
	count map[string]*counter
	slots ring[slot]
}

type counter struct {
	text string
	n    int
}

type slot struct {
	micros int64
	of     *counter
}

func (d *distinct) add(micros int64, text string) (bytes int) {
	c := d.count[text]
	if c == nil {
		if d.count == nil {
			d.count = map[string]*counter{}
		}
		c = &counter{text: strings.Clone(text)}
		d.count[c.text] = c
		bytes = valueBytes + len(text)
	}
	c.n++
	d.slots.push(slot{micros, c})
	return bytes + slotBytes
}

func (d *distinct) trim(from int64) (bytes int) {
	for d.slots.len() > 0 && d.slots.front().micros < from {
		c := d.slots.pop().of
		bytes += slotBytes
		if c.n--; c.n == 0 {
			delete(d.count, c.text)
			bytes += valueBytes + len(c.text)
		}
	}
	return bytes
}

// numbers are the values of a field in a window. Values of at most six decimals are added up as whole numbers and millionths, so that a sum is
// exact and depends on neither order nor history.
type numbers struct {
	slots  ring[number]
	whole  int64     // of the tame
	parts  int64     // millionths of the tame
	wild   int       // values that are no such number
	sorted []float64 // for percentiles
	rank   bool      // sorted is wanted
}

type number struct {
	micros int64
	v      float64
	exact  int64 // millionths
	tame   bool
}

// maxNumbers bounds what must be looked at for each event: windows with values that are not tame, and those of percentiles.
const maxNumbers = 20_000

// parseNumber reads a decimal number.
func parseNumber(s string) (number, bool) {
	if s == "" || len(s) > 64 || strings.Trim(s, "0123456789+-.eE") != "" {
		return number{}, false
	}
	v, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsInf(v, 0) || math.IsNaN(v) {
		return number{}, false
	}
	n := number{v: v}
	if m := v * 1e6; math.Abs(v) < 9e9 && math.Abs(m-math.Round(m)) < 1e-3 {
		n.exact, n.tame = int64(math.Round(m)), true
	}
	return n, true
}

func (w *numbers) add(n number) (bytes int) {
	w.slots.push(n)
	if n.tame {
		w.whole, w.parts = w.whole+n.exact/1e6, w.parts+n.exact%1e6
	} else {
		w.wild++
	}
	if w.rank {
		i, _ := slices.BinarySearch(w.sorted, n.v)
		w.sorted = slices.Insert(w.sorted, i, n.v)
	}
	return slotBytes + timeBytes
}

func (w *numbers) crowded() bool { return w.slots.len() > maxNumbers && (w.rank || w.wild > 0) }

func (w *numbers) trim(from int64) (bytes int) {
	for w.slots.len() > 0 && w.slots.front().micros < from {
		n := w.slots.pop()
		bytes += slotBytes + timeBytes
		if n.tame {
			w.whole, w.parts = w.whole-n.exact/1e6, w.parts-n.exact%1e6
		} else {
			w.wild--
		}
		if w.rank {
			i, _ := slices.BinarySearch(w.sorted, n.v)
			w.sorted = slices.Delete(w.sorted, i, i+1)
		}
	}
	return bytes
}

func (w *numbers) total() float64 {
	if whole, parts := w.whole+w.parts/1e6, w.parts%1e6; w.wild == 0 {
		if whole > -9e12 && whole < 9e12 {
			return float64(whole*1e6+parts) / 1e6
		}
		return float64(whole) + float64(parts)/1e6
	}
	t := 0.0
	for i := range w.slots.len() {
		t += w.slots.at(i).v
	}
	return t
}

// percentile is the smallest value that at least p of 100 values do not exceed (the nearest rank).
func (w *numbers) percentile(p float64) float64 {
	n := len(w.sorted)
	i := int(math.Ceil(p/100*float64(n))) - 1
	return w.sorted[min(max(i, 0), n-1)]
}

// measure takes from an event what the plan's type counts.
func (c *Correlator) measure(g *group, occ []occurrence) {
	p, now := g.p, occ[0].micros
	switch p.c.Type {
	case rule.ValueCount:
		for i := range occ {
			c.charge(g, g.count(&occ[i]))
		}
	case rule.ValueSum, rule.ValueAvg, rule.ValuePercentile:
		g.numbers.rank = p.c.Type == rule.ValuePercentile
		for _, k := range p.c.Fields {
			occ[0].values(k, func(v string) bool {
				if n, ok := parseNumber(v); ok {
					n.micros = now
					c.charge(g, g.numbers.add(n))
				}
				return true
			})
		}
	case rule.Temporal, rule.TemporalOrdered:
		c.charge(g, g.temporal.add(p, occ))
	}
}

// count adds an event's values: each value of a single field, or the combination of several. An event that lacks all of them adds none.
func (g *group) count(o *occurrence) (bytes int) {
	if len(g.p.c.Fields) == 1 {
		o.values(g.p.c.Fields[0], func(v string) bool {
			bytes += g.distinct.add(o.micros, v)
			return true
		})
		return bytes
	}
	var b []byte
	some := false
	for _, k := range g.p.c.Fields {
		v := o.joined(k)
		b = v.appendTo(b)
		some = some || v.has
	}
	if some {
		bytes = g.distinct.add(o.micros, string(b))
	}
	return bytes
}

// verdict is the group's number, the evidence, and whether the conditions hold.
func (g *group) verdict(now int64) (n float64, proof []finding.Evidence, ok bool) {
	p := g.p
	switch p.c.Type {
	case rule.ValueCount:
		n, ok = float64(len(g.distinct.count)), true
	case rule.ValueSum, rule.ValueAvg, rule.ValuePercentile:
		if g.numbers.slots.len() == 0 {
			return 0, nil, false
		}
		switch p.c.Type {
		case rule.ValueSum:
			n = g.numbers.total()
		case rule.ValueAvg:
			n = g.numbers.total() / float64(g.numbers.slots.len())
		default:
			n = g.numbers.percentile(p.c.Percentile)
		}
		ok = true
	case rule.Temporal:
		return g.temporal.together(p, now-p.span)
	case rule.TemporalOrdered:
		return g.temporal.inOrder(p, now-p.span)
	default:
		n, ok = float64(g.times.len()), true
	}
	if !ok || !holds(p.c.Conds, n) {
		return 0, nil, false
	}
	return n, g.proof(), true
}
