// Package memory is a store.Searcher over records in memory: a plain reading of the contract, for tests and for small inputs.
package memory

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"whodunit/internal/audit"
	"whodunit/internal/match"
	"whodunit/internal/store"
)

// Store holds records. The zero Store is empty and ready. It is safe for concurrent use.
type Store struct {
	mu      sync.Mutex
	records []audit.Record // newest first
	seen    map[audit.Identity]bool
	changed chan struct{} // closed at the next Add
	added   []audit.Record
}

// Add takes records over. Of those with one identity the one with the highest Position is shown.
func (s *Store) Add(records ...audit.Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.seen == nil {
		s.seen = map[audit.Identity]bool{}
	}
	for _, r := range records {
		if !s.seen[r.Identity] {
			s.seen[r.Identity] = true
			s.added = append(s.added, r)
		}
	}
	s.records = append(s.records, records...)
	slices.SortStableFunc(s.records, func(a, b audit.Record) int {
		return cmp.Or(cmp.Compare(b.Event.Micros(), a.Event.Micros()), cmp.Compare(b.Seq, a.Seq))
	})
	shown := map[audit.Identity]bool{}
	s.records = slices.DeleteFunc(s.records, func(r audit.Record) bool {
		again := shown[r.Identity]
		shown[r.Identity] = true
		return again
	})
	if s.changed != nil {
		close(s.changed)
		s.changed = nil
	}
}

func (s *Store) matching(ctx context.Context, q store.Query) (out []audit.Record, st store.Stats, err error) {
	s.mu.Lock()
	records := slices.Clone(s.records)
	s.mu.Unlock()
	for _, r := range records {
		if err := ctx.Err(); err != nil {
			return nil, st, err
		}
		st.Rows++
		t := r.Event.Micros()
		if (q.From == 0 || t >= q.From) && (q.To == 0 || t < q.To) && match.Eval(q.Expr, &r.Event) {
			out = append(out, r)
		}
	}
	return out, st, nil
}

// Search is that of store.Searcher.
func (s *Store) Search(ctx context.Context, q store.Query, yield func(*audit.Record) error) (store.Stats, error) {
	records, st, err := s.matching(ctx, q)
	for i := range records {
		r := &records[i]
		if err := ctx.Err(); err != nil {
			return st, err
		}
		t := r.Event.Micros()
		if p := q.Before; p != (store.Position{}) && (t > p.Micros || t == p.Micros && r.Seq >= p.Seq) {
			continue
		}
		if q.Limit > 0 && st.Matched >= int64(q.Limit) {
			break
		}
		st.Matched++
		if err := yield(r); err != nil {
			return st, err
		}
	}
	return st, err
}

// maxDistinct bounds Top, as the contract says.
const maxDistinct = 1_000_000

// Top is that of store.Searcher.
func (s *Store) Top(ctx context.Context, q store.Query, fields []string, n int) ([]store.Bucket, store.Stats, error) {
	records, st, err := s.matching(ctx, q)
	if err != nil {
		return nil, st, err
	}
	st.Matched = int64(len(records))
	counts := map[string]int64{}
	for i := range records {
		keys := map[string]bool{"": true}
		for j, f := range fields {
			next := map[string]bool{}
			vals := slices.Collect(match.Values(&records[i].Event, f))
			if len(vals) == 0 {
				vals = []string{""}
			}
			for k := range keys {
				for _, v := range vals {
					if j > 0 {
						v = k + "\t" + v
					}
					next[v] = true
				}
			}
			keys = next
		}
		for k := range keys {
			counts[strings.Clone(k)]++
		}
		if len(counts) > maxDistinct {
			return nil, st, fmt.Errorf("cannot count the values of %s: more than %d distinct ones", strings.Join(fields, ", "), maxDistinct)
		}
	}
	out := make([]store.Bucket, 0, len(counts))
	for v, c := range counts {
		out = append(out, store.Bucket{Value: v, Count: c})
	}
	slices.SortFunc(out, func(a, b store.Bucket) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Value, b.Value))
	})
	if n > 0 && len(out) > n {
		out = out[:n]
	}
	return out, st, nil
}

// Histogram is that of store.Searcher.
func (s *Store) Histogram(ctx context.Context, q store.Query, width int64) ([]store.Bucket, store.Stats, error) {
	if width <= 0 {
		return nil, store.Stats{}, fmt.Errorf("cannot count in intervals of %d microseconds", width)
	}
	records, st, err := s.matching(ctx, q)
	if err != nil {
		return nil, st, err
	}
	st.Matched = int64(len(records))
	var out []store.Bucket
	for _, r := range slices.Backward(records) {
		t := r.Event.Micros()
		v := strconv.FormatInt(t-((t%width)+width)%width, 10)
		if len(out) == 0 || out[len(out)-1].Value != v {
			out = append(out, store.Bucket{Value: v})
		}
		out[len(out)-1].Count++
	}
	return out, st, nil
}

// Tail hands matching records to yield that are added from now on, until ctx is done (whose error it returns) or yield fails.
func (s *Store) Tail(ctx context.Context, q store.Query, yield func(*audit.Record) error) error {
	s.mu.Lock()
	at := len(s.added)
	for {
		fresh := slices.Clone(s.added[at:])
		at = len(s.added)
		if s.changed == nil {
			s.changed = make(chan struct{})
		}
		changed := s.changed
		s.mu.Unlock()
		for i := range fresh {
			if !match.Eval(q.Expr, &fresh[i].Event) {
				continue
			}
			if err := yield(&fresh[i]); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
		s.mu.Lock()
	}
}
