package storetest

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"whodunit/internal/audit"
	"whodunit/internal/match"
	"whodunit/internal/store"
)

// oracle answers as simply as can be.
type oracle []audit.Record

// newOracle puts the records in the order of results and keeps one of each event: the one that was last in the journal.
func newOracle(records []audit.Record) oracle {
	o := slices.Clone(records)
	slices.SortFunc(o, func(a, b audit.Record) int {
		return cmp.Or(cmp.Compare(b.Event.Micros(), a.Event.Micros()), cmp.Compare(b.Seq, a.Seq))
	})
	seen := map[audit.Identity]bool{}
	return slices.DeleteFunc(o, func(r audit.Record) bool {
		again := seen[r.Identity]
		seen[r.Identity] = true
		return again
	})
}

func (o oracle) search(q store.Query, paged bool) (out []audit.Record) {
	for i := range o {
		r := &o[i]
		t := r.Event.Micros()
		if q.From != 0 && t < q.From || q.To != 0 && t >= q.To || !match.Eval(q.Expr, &r.Event) {
			continue
		}
		if b := q.Before; paged && b != (store.Position{}) && (t > b.Micros || t == b.Micros && r.Seq >= b.Seq) {
			continue
		}
		if out = append(out, *r); paged && q.Limit > 0 && len(out) == q.Limit {
			break
		}
	}
	return out
}

func (o oracle) top(q store.Query, fields []string, n int) []store.Bucket {
	counts := map[string]int64{}
	for _, r := range o.search(q, false) {
		keys := []string{}
		for i, f := range fields {
			vs := slices.Sorted(match.Values(&r.Event, f))
			if vs = slices.Compact(vs); len(vs) == 0 {
				vs = []string{""}
			}
			if i == 0 {
				keys = vs
				continue
			}
			var next []string
			for _, k := range keys {
				for _, v := range vs {
					next = append(next, k+"\t"+v)
				}
			}
			keys = next
		}
		for _, k := range keys {
			counts[k]++
		}
	}
	out := []store.Bucket{}
	for v, c := range counts {
		out = append(out, store.Bucket{Value: v, Count: c})
	}
	slices.SortFunc(out, func(a, b store.Bucket) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), strings.Compare(a.Value, b.Value))
	})
	if n > 0 && len(out) > n {
		out = out[:n]
	}
	return out
}

func (o oracle) histogram(q store.Query, width int64) []store.Bucket {
	counts := map[int64]int64{}
	for _, r := range o.search(q, false) {
		t := r.Event.Micros()
		at := t / width * width
		if at > t {
			at -= width
		}
		counts[at]++
	}
	at := []int64{}
	for t := range counts {
		at = append(at, t)
	}
	slices.Sort(at)
	out := []store.Bucket{}
	for _, t := range at {
		out = append(out, store.Bucket{Value: strconv.FormatInt(t, 10), Count: counts[t]})
	}
	return out
}
