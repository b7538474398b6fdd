package segmentstore

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sort"
	"strings"

	"whodunit/internal/audit"
	"whodunit/internal/journal/segment"
	"whodunit/internal/store"
)

// tally counts matches in one way.
type tally interface {
	group(f *found) error // all rows of f
	event(ev *audit.Event) error
}

// aggregate shows t every match once. Events can come again only where units overlap in time, so nothing but those is
// held against each other.
func (s *Store) aggregate(ctx context.Context, q *store.Query, t tally) (store.Stats, error) {
	in := bounds(q, false)
	a, done, err := s.ask(ctx, q, in)
	if err != nil {
		return store.Stats{}, err
	}
	defer done()
	if in.from > in.to {
		return a.stats(), nil
	}
	twice, spans := contested(a.units), windows(a.units, in, s.window)
	if s.distinct {
		twice, spans = nil, []span{in}
	}
	matched := int64(0)
	for _, w := range spans {
		seen := map[audit.Identity]struct{}{}
		for _, u := range a.units {
			if !w.touches(u) {
				continue
			}
			n, err := a.tally(ctx, u, w, twice, seen, t)
			if err != nil {
				return a.stats(), err
			}
			matched += n
		}
	}
	a.seen = len(a.units)
	st := a.stats()
	st.Matched = matched
	return st, nil
}

func (a *asked) tally(ctx context.Context, u *unit, w span, twice []span, seen map[audit.Identity]struct{}, t tally) (int64, error) {
	f, err := a.look(ctx, u, w)
	if err != nil {
		return 0, err
	}
	for {
		var n int64
		if u.block != nil || f.records != nil {
			n, err = f.tallyRecords(twice, seen, t)
		} else {
			n, err = f.tallyRows(twice, seen, t)
		}
		if !errors.Is(err, segment.ErrCorrupt) || f.records != nil || u.block != nil {
			return n, err
		}
		if f, err = a.lookSlow(ctx, u, w); err != nil {
			return 0, err
		}
		if f.records == nil {
			return 0, nil
		}
	}
}

func (f *found) tallyRecords(twice []span, seen map[audit.Identity]struct{}, t tally) (int64, error) {
	n := int64(0)
	for i := range f.records {
		r := &f.records[i]
		if isIn(twice, r.Event.Micros()) {
			if _, again := seen[r.Identity]; again {
				continue
			}
			seen[r.Identity] = struct{}{}
		}
		n++
		if err := t.event(&r.Event); err != nil {
			return n, err
		}
	}
	return n, nil
}

func (f *found) tallyRows(twice []span, seen map[audit.Identity]struct{}, t tally) (int64, error) {
	if f.rows == nil || f.rows.empty() {
		return 0, nil
	}
	added, err := f.once(twice, seen)
	if err == nil && !f.rows.empty() {
		err = t.group(f)
	}
	if err != nil {
		for _, id := range added { // the group is counted again by another way
			delete(seen, id)
		}
		return 0, err
	}
	return int64(f.rows.count()), nil
}

// once takes those rows out that were seen before, and gives the identities that are new.
func (f *found) once(twice []span, seen map[audit.Identity]struct{}) (added []audit.Identity, err error) {
	overlap := slices.ContainsFunc(twice, func(s span) bool { return s.touches(f.u) })
	if !overlap {
		return nil, nil
	}
	times, err := f.cols.time()
	if err != nil {
		return nil, err
	}
	var ids []audit.Identity
	f.rows.rows(func(i int) {
		if err != nil || !isIn(twice, times[i]) {
			return
		}
		if ids == nil {
			if ids, err = f.u.group.Identities(); err != nil {
				return
			}
		}
		if _, again := seen[ids[i]]; again {
			f.rows[i>>6] &^= 1 << (i & 63)
			return
		}
		seen[ids[i]] = struct{}{}
		added = append(added, ids[i])
	})
	return added, err
}

func isIn(spans []span, t int64) bool {
	i := sort.Search(len(spans), func(i int) bool { return spans[i].to >= t })
	return i < len(spans) && spans[i].from <= t
}

// histogram counts by intervals of time.
type histogram struct {
	width  int64
	counts map[int64]int64
}

func (h *histogram) event(ev *audit.Event) error {
	h.counts[floor(ev.Micros(), h.width)]++
	return nil
}

func (h *histogram) group(f *found) error {
	u := f.u
	if at := floor(u.oldest, h.width); at == floor(u.newest, h.width) {
		h.counts[at] += int64(f.rows.count())
		return nil
	}
	times, err := f.cols.time()
	if err != nil {
		return err
	}
	at, n := int64(math.MinInt64), int64(0) // rows of one resource and verb come in order of time
	end := at
	f.rows.rows(func(i int) {
		if t := times[i]; t < at || t >= end {
			if n > 0 {
				h.counts[at] += n
			}
			at, n = floor(t, h.width), 0
			if end = at + h.width; end < at {
				end = math.MaxInt64
			}
		}
		n++
	})
	if n > 0 {
		h.counts[at] += n
	}
	return nil
}

// top counts by the values of fields.
type top struct {
	fields  []string
	columns []segment.Column // as many as fields, where all fields are columns
	counts  map[string]int64
}

func newTop(fields []string) *top {
	t := &top{fields: fields, counts: map[string]int64{}}
	for _, f := range fields {
		if c, ok := segment.PathColumn(f); ok && !c.IsList() {
			t.columns = append(t.columns, c)
		}
	}
	return t
}

func (t *top) add(value string, n int64) error {
	if _, ok := t.counts[value]; !ok && len(t.counts) >= maxValues {
		return fmt.Errorf("cannot count by %s: there are more than %d values; narrow the search", strings.Join(t.fields, ", "), maxValues)
	}
	t.counts[value] += n
	return nil
}

func (t *top) event(ev *audit.Event) error {
	keys, err := store.Keys(ev, t.fields)
	if err != nil {
		return err
	}
	for _, v := range keys {
		if err := t.add(v, 1); err != nil {
			return err
		}
	}
	return nil
}

func (t *top) group(f *found) error {
	odd, err := f.cols.irregular()
	if err != nil {
		return err
	}
	odd.and(f.rows)
	regular := f.rows.clone()
	regular.without(odd)
	counts := map[string]int64{}
	switch {
	case regular.empty():
	case len(t.columns) == len(t.fields) && len(t.fields) == 1:
		err = t.one(f, regular, counts)
	case len(t.columns) == len(t.fields):
		err = t.several(f, regular, counts)
	case len(t.fields) == 1 && isListPath(t.fields[0]):
		err = t.list(f, regular, counts)
	default:
		odd = f.rows
	}
	if err != nil {
		return err
	}
	if err := t.byRaw(f, odd, counts); err != nil {
		return err
	}
	for v, n := range counts {
		if err := t.add(strings.Clone(v), n); err != nil {
			return err
		}
	}
	return nil
}

// one counts by one column: by places in the dictionary, not by values.
func (t *top) one(f *found, rows rowset, counts map[string]int64) error {
	tx, err := f.cols.text(t.columns[0])
	if err != nil {
		return err
	}
	if tx.Index == nil {
		rows.rows(func(i int) { counts[tx.Values[i]]++ })
		return nil
	}
	n := make([]int64, len(tx.Values))
	rows.rows(func(i int) { n[tx.Index[i]]++ })
	for i, c := range n {
		if c > 0 {
			counts[tx.Values[i]] += c
		}
	}
	return nil
}

func (t *top) several(f *found, rows rowset, counts map[string]int64) error {
	columns := make([]*segment.Texts, len(t.columns))
	for i, c := range t.columns {
		var err error
		if columns[i], err = f.cols.text(c); err != nil {
			return err
		}
	}
	if n := combinations(columns); n > 0 {
		t.dense(columns, n, rows, counts)
		return nil
	}
	var key []byte
	rows.rows(func(i int) {
		key = key[:0]
		for j, c := range columns {
			if j > 0 {
				key = append(key, '\t')
			}
			key = append(key, c.At(i)...)
		}
		counts[string(key)]++
	})
	return nil
}

// combinations is how many combinations of the columns' distinct values there are; 0 where that is too many to number.
func combinations(columns []*segment.Texts) int {
	n := 1
	for _, c := range columns {
		if c.Index == nil || len(c.Values) > 1<<16 {
			return 0
		}
		if n *= len(c.Values); n > 1<<18 {
			return 0
		}
	}
	return n
}

// dense counts by the number of the combination.
func (t *top) dense(columns []*segment.Texts, n int, rows rowset, counts map[string]int64) {
	sums := make([]int64, n)
	rows.rows(func(i int) {
		at := 0
		for _, c := range columns {
			at = at*len(c.Values) + int(c.Index[i])
		}
		sums[at]++
	})
	parts := make([]string, len(columns))
	for at, sum := range sums {
		if sum == 0 {
			continue
		}
		for j := len(columns) - 1; j >= 0; j-- {
			values := columns[j].Values
			parts[j] = values[at%len(values)]
			at /= len(values)
		}
		counts[strings.Join(parts, "\t")] += sum // values may hold tabs themselves
	}
}

func isListPath(path string) bool {
	c, ok := segment.PathColumn(path)
	return ok && c.IsList()
}

func (t *top) list(f *found, rows rowset, counts map[string]int64) error {
	c, _ := segment.PathColumn(t.fields[0])
	l, err := f.cols.list(c)
	if err != nil {
		return err
	}
	n := make([]int64, len(l.Values))
	last := make([]int, len(l.Values)) // the last row that had the value, plus one
	rows.rows(func(i int) {
		vs := l.Index[l.Start[i]:l.Start[i+1]]
		if len(vs) == 0 {
			counts[""]++
		}
		for _, v := range vs {
			if last[v] != i+1 {
				last[v] = i + 1
				n[v]++
			}
		}
	})
	for i, c := range n {
		if c > 0 {
			counts[l.Values[i]] += c
		}
	}
	return nil
}

// byRaw counts by the raw events.
func (t *top) byRaw(f *found, rows rowset, counts map[string]int64) error {
	if rows.empty() {
		return nil
	}
	cluster, err := f.cols.text(segment.Cluster)
	if err != nil {
		return err
	}
	f.cols.read = true
	rows.rows(func(i int) {
		if err != nil {
			return
		}
		var raw []byte
		if raw, err = f.raw(i); err != nil || raw == nil {
			return
		}
		ev, bad := audit.Parse(cluster.At(i), raw)
		if bad != nil {
			return
		}
		var keys []string
		if keys, err = store.Keys(&ev, t.fields); err != nil {
			return
		}
		for _, v := range keys {
			counts[v]++
		}
	})
	return err
}
