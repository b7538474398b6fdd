package memory

import (
	"context"
	"errors"
	"testing"
	"time"

	"go.uber.org/goleak"

	"whodunit/internal/audit"
	"whodunit/internal/match"
	"whodunit/internal/store"
	"whodunit/internal/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestConformance(t *testing.T) {
	storetest.Test(t, func(_ *testing.T, records []audit.Record) store.Searcher {
		s := &Store{}
		s.Add(records...)
		return s
	})
}

func TestTail(t *testing.T) {
	s := &Store{}
	records := storetest.Records(t, 1, 50)
	s.Add(records[:10]...)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	enough := errors.New("enough")
	got := make(chan error)
	first := make(chan audit.Record, 1)
	go func() {
		got <- s.Tail(ctx, store.Query{Expr: match.Const(true)}, func(r *audit.Record) error { first <- *r; return enough })
	}()
	for i := 10; ; i = min(i+1, len(records)-1) { // the tail begins some time after it was asked for
		s.Add(records[i])
		s.Add(records[0]) // known already
		select {
		case err := <-got:
			if r := <-first; !errors.Is(err, enough) || r.Seq <= 10 {
				t.Errorf("%v, %d", err, r.Seq)
			}
			return
		case <-time.After(time.Millisecond):
		}
		if i == len(records)-1 {
			t.Fatal("nothing came")
		}
	}
}
