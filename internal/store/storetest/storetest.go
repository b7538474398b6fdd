// Package storetest holds every store.Searcher to the contract, by comparing it with an oracle that filters and sorts.
package storetest

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"whodunit/internal/audit"
	"whodunit/internal/match"
	"whodunit/internal/store"
)

// Test runs the suite. open makes a searcher over the records, whose sequence numbers run from 1 without a gap and whose cluster is
// Cluster; it may be called several times, and cleans up by t.Cleanup.
func Test(t *testing.T, open func(t *testing.T, records []audit.Record) store.Searcher) {
	records := Records(t, 1, 600)
	s := open(t, records)
	o := newOracle(records)
	t.Run("Everything", func(t *testing.T) { check(t, s, o, store.Query{}) })
	t.Run("Limit", func(t *testing.T) {
		for _, n := range []int{1, 2, 7, 100, 10000} {
			check(t, s, o, store.Query{Limit: n})
		}
	})
	t.Run("Paging", func(t *testing.T) { paging(t, s, o) })
	t.Run("TimeBounds", func(t *testing.T) { bounds(t, s, o) })
	t.Run("Questions", func(t *testing.T) { questions(t, s, o) })
	t.Run("Random", func(t *testing.T) { random(t, s, o, records) })
	t.Run("Top", func(t *testing.T) { tops(t, s, o) })
	t.Run("Histogram", func(t *testing.T) { histograms(t, s, o) })
	t.Run("YieldError", func(t *testing.T) { yieldError(t, s) })
	t.Run("Cancel", func(t *testing.T) { cancelled(t, s) })
	t.Run("Concurrent", func(t *testing.T) { concurrent(t, s, o) })
	t.Run("Kept", func(t *testing.T) { kept(t, s, o) })
	t.Run("Empty", func(t *testing.T) {
		s := open(t, nil)
		check(t, s, nil, store.Query{})
		if got, _, err := s.Top(t.Context(), store.Query{}, []string{"verb"}, 0); err != nil || len(got) != 0 {
			t.Errorf("Top: %v, %v", got, err)
		}
	})
}

// failer is what testing.T and rapid.T share here.
type failer interface {
	Helper()
	Fatalf(format string, args ...any)
}

func search(t failer, s store.Searcher, q store.Query) ([]audit.Record, store.Stats) {
	t.Helper()
	var out []audit.Record
	st, err := s.Search(context.Background(), q, func(r *audit.Record) error {
		out = append(out, *r)
		return nil
	})
	if err != nil {
		t.Fatalf("Search %s: %v", describe(q), err)
	}
	return out, st
}

func describe(q store.Query) string {
	if q.Expr == nil {
		return "everything"
	}
	return q.Expr.String()
}

// check compares one search with the oracle, and what it says of itself.
func check(t failer, s store.Searcher, o oracle, q store.Query) {
	t.Helper()
	got, st := search(t, s, q)
	same(t, q, got, o.search(q, true))
	if st.Matched != int64(len(got)) {
		t.Fatalf("Search %s: Stats.Matched is %d, %d were shown", describe(q), st.Matched, len(got))
	}
	if st.Damaged != 0 || st.Unreadable != 0 {
		t.Fatalf("Search %s: damage where there is none: %+v", describe(q), st)
	}
}

func same(t failer, q store.Query, got, want []audit.Record) {
	t.Helper()
	for i := range min(len(got), len(want)) {
		g, w := &got[i], &want[i]
		if !bytes.Equal(g.Event.Raw, w.Event.Raw) || g.Seq != w.Seq || g.Event.Cluster != w.Event.Cluster || g.Identity != w.Identity {
			t.Fatalf("Search %s %+v: result %d is\n%d %s\nwant\n%d %s", describe(q), q.Before, i, g.Seq, g.Event.Raw, w.Seq, w.Event.Raw)
		}
	}
	if len(got) != len(want) {
		t.Fatalf("Search %s from %d to %d limit %d: %d results, want %d", describe(q), q.From, q.To, q.Limit, len(got), len(want))
	}
}

func paging(t *testing.T, s store.Searcher, o oracle) {
	for _, size := range []int{1, 3, 50} {
		q := store.Query{Limit: size, Expr: match.Not{X: &match.Pred{Path: "verb", Op: match.Equal, Values: []string{"list"}}}}
		var got []audit.Record
		for {
			page, _ := search(t, s, q)
			if len(page) == 0 {
				break
			}
			got = append(got, page...)
			last := &page[len(page)-1]
			q.Before = store.Position{Micros: last.Event.Micros(), Seq: last.Seq}
		}
		same(t, q, got, o.search(store.Query{Expr: q.Expr}, false))
	}
}

func bounds(t *testing.T, s store.Searcher, o oracle) {
	newest := o[0].Event.Micros()
	for _, q := range []store.Query{{From: newest}, {To: newest}, {From: newest - 20_000_000, To: newest - 5_000_000}, {From: newest + 1}, {To: 1},
		{From: 1}, {From: newest - 5_000_000, To: newest - 5_000_000}, {From: newest, To: newest - 1}, {From: -5, To: 5}} {
		check(t, s, o, q)
		q.Expr = &match.Text{Word: "secrets"}
		check(t, s, o, q)
	}
}

func is(path, v string) match.Expr {
	return &match.Pred{Path: path, Op: match.Equal, Values: []string{v}}
}
func has(path string) match.Expr { return &match.Pred{Path: path, Op: match.Exists} }

// questions are those of people, and the traps that we know.
func questions(t *testing.T, s store.Searcher, o oracle) {
	for _, e := range []match.Expr{
		match.And{is("verb", "delete"), is("objectRef.resource", "secrets")},
		match.And{is("verb", "delete"), match.Not{X: &match.Pred{Path: "user.username", Op: match.Glob, Values: []string{"system:*"}}}},
		&match.Pred{Path: "responseStatus.code", Op: match.GreaterEqual, Values: []string{"400"}},
		&match.Pred{Path: "userAgent", Op: match.Contains, Values: []string{"KUBECTL"}, Fold: true},
		is("requestObject.spec.containers.image", "busybox"), is("requestObject.spec.hostNetwork", "true"),
		is("requestObject.metadata.labels.app.kubernetes.io/name", "web"), is("requestObject.op", "add"),
		&match.Pred{Path: "requestObject.spec.replicas", Op: match.Less, Values: []string{"2"}},
		&match.Text{Word: "secret"}, &match.Text{Word: "secr", Open: true}, &match.Text{Word: "kelvin"}, &match.Text{Word: "café"}, &match.Text{Word: "nginx:1.27"},
		has("objectRef.namespace"), match.Not{X: has("objectRef.namespace")}, has("sourceIPs"), has("user.groups"), has("peer"), has("user"),
		has("annotations.authorization.k8s.io/reason"), is("annotations.authorization.k8s.io/reason", ""), is("verb", ""), is("sourceIPs", ""),
		is("sourceIPs", "10.0.0.1"), is("peer", "10.0.0.1"), is("user.groups", "system:masters"), is("user.username", "<script>alert(1)</script>"),
		is("user.username", "mallory\u001b[31m"), is("objectRef.name", "x\"y\\z"), is("objectRef.apiVersion", "apps/v1"), is("responseStatus.code", "0"),
		is("rule", "secret-read"), is("cluster", Cluster), is("cluster", "other"), match.And{}, match.Or{}, match.Const(false), match.Not{X: match.Const(false)},
		match.Or{is("verb", "create"), &match.Text{Word: "busybox"}}, match.Not{X: &match.Text{Word: "busybox"}},
	} {
		check(t, s, o, store.Query{Expr: e})
		check(t, s, o, store.Query{Expr: e, Limit: 3})
	}
	for i := range o {
		if i%40 == 0 {
			check(t, s, o, store.Query{Expr: is("auditID", o[i].Event.AuditID)})
		}
	}
}

func random(t *testing.T, s store.Searcher, o oracle, records []audit.Record) {
	newest := o[0].Event.Micros()
	exprs := Exprs(records)
	rapid.Check(t, func(t *rapid.T) {
		q := store.Query{Expr: exprs.Draw(t, "expr"), Limit: rapid.SampledFrom([]int{0, 0, 1, 10}).Draw(t, "limit")}
		if rapid.Bool().Draw(t, "timed") {
			q.From = newest - rapid.Int64Range(0, 200_000_000).Draw(t, "from")
			q.To = newest - rapid.Int64Range(-10, 100_000_000).Draw(t, "to")
		}
		if rapid.Bool().Draw(t, "paged") {
			r := rapid.SampledFrom(records).Draw(t, "before")
			q.Before = store.Position{Micros: r.Event.Micros(), Seq: r.Seq}
		}
		check(t, s, o, q)
	})
}

func tops(t *testing.T, s store.Searcher, o oracle) {
	qs := []store.Query{{}, {Expr: is("verb", "get")}, {Expr: &match.Text{Word: "secrets"}}, {From: o[0].Event.Micros() - 60_000_000, Limit: 1, Before: store.Position{Micros: 1, Seq: 1}}}
	for _, q := range qs {
		for _, fields := range [][]string{{"verb"}, {"user.username"}, {"auditID"}, {"user.groups"}, {"sourceIPs"}, {"peer"}, {"responseStatus.code"}, {"objectRef.namespace"},
			{"annotations.authorization.k8s.io/reason"}, {"requestObject.spec.containers.image"}, {"verb", "objectRef.resource"}, {"user.groups", "verb"},
			{"user.username", "requestObject.spec.containers.image"}, {"cluster"}, {"nothing"}} {
			for _, n := range []int{0, 3} {
				got, st, err := s.Top(t.Context(), q, fields, n)
				if err != nil {
					t.Fatalf("Top %v of %s: %v", fields, describe(q), err)
				}
				if d := cmp.Diff(o.top(q, fields, n), got, cmpopts.EquateEmpty()); d != "" {
					t.Fatalf("Top %v of %s (-want +got):\n%s", fields, describe(q), d)
				}
				if want := int64(len(o.search(q, false))); st.Matched != want {
					t.Fatalf("Top %v of %s: Stats.Matched is %d, want %d", fields, describe(q), st.Matched, want)
				}
			}
		}
	}
}

func histograms(t *testing.T, s store.Searcher, o oracle) {
	for _, q := range []store.Query{{}, {Expr: is("verb", "get")}, {Expr: &match.Text{Word: "secrets"}}, {From: o[0].Event.Micros() - 60_000_000}} {
		for _, width := range []int64{1, 1_000_000, 3_600_000_000, 1 << 62} {
			got, _, err := s.Histogram(t.Context(), q, width)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(o.histogram(q, width), got, cmpopts.EquateEmpty()); d != "" {
				t.Fatalf("Histogram by %d of %s (-want +got):\n%s", width, describe(q), d)
			}
		}
	}
	if _, _, err := s.Histogram(t.Context(), store.Query{}, 0); err == nil {
		t.Error("a histogram of width 0 gave no error")
	}
}

func yieldError(t *testing.T, s store.Searcher) {
	stop := errors.New("enough")
	n := 0
	_, err := s.Search(t.Context(), store.Query{}, func(*audit.Record) error {
		if n++; n == 5 {
			return stop
		}
		return nil
	})
	if !errors.Is(err, stop) || n != 5 {
		t.Errorf("Search ended with %v after %d results", err, n)
	}
}

func cancelled(t *testing.T, s store.Searcher) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Search(ctx, store.Query{}, func(*audit.Record) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("Search: %v", err)
	}
	if _, _, err := s.Top(ctx, store.Query{}, []string{"verb"}, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("Top: %v", err)
	}
	if _, _, err := s.Histogram(ctx, store.Query{}, 1000); !errors.Is(err, context.Canceled) {
		t.Errorf("Histogram: %v", err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	n := 0
	_, err := s.Search(ctx, store.Query{}, func(*audit.Record) error {
		n++
		cancel()
		return nil
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Search that is cancelled at its first result: %v after %d", err, n)
	}
}

func concurrent(t *testing.T, s store.Searcher, o oracle) {
	done := make(chan string)
	q := store.Query{Expr: match.Or{&match.Text{Word: "secrets"}, is("verb", "get")}}
	want := len(o.search(q, true))
	for range 4 {
		go func() {
			n := 0
			_, err := s.Search(context.Background(), q, func(*audit.Record) error { n++; return nil })
			switch {
			case err != nil:
				done <- err.Error()
			case n != want:
				done <- "another number of results"
			default:
				done <- ""
			}
		}()
	}
	for range 4 {
		if e := <-done; e != "" {
			t.Error(e)
		}
	}
}

// kept: records stay what they are after the search went on.
func kept(t *testing.T, s store.Searcher, o oracle) {
	var refs []*audit.Record
	if _, err := s.Search(t.Context(), store.Query{}, func(r *audit.Record) error { refs = append(refs, r); return nil }); err != nil {
		t.Fatal(err)
	}
	got := make([]audit.Record, len(refs))
	for i, r := range refs {
		got[i] = *r
	}
	same(t, store.Query{}, got, o)
}
