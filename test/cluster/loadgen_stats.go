package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

const reportEvery = 10 * time.Second

// loadStats counts calls and keeps their latencies. It is safe for concurrent use.
type loadStats struct {
	out   io.Writer
	start time.Time

	mu                  sync.Mutex
	latency             map[string][]time.Duration // by kind of call; "ALL" has every one
	ops, denied, failed int
	lastErr             error
}

func newLoadStats(out io.Writer) *loadStats {
	return &loadStats{out: out, start: time.Now(), latency: map[string][]time.Duration{}}
}

func (s *loadStats) add(kind string, d time.Duration, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ops++
	s.latency[kind] = append(s.latency[kind], d)
	s.latency["ALL"] = append(s.latency["ALL"], d)
	switch {
	case err == nil, apierrors.IsNotFound(err), apierrors.IsAlreadyExists(err), apierrors.IsConflict(err):
		// Users step on each other here: these answers are part of the load.
	case apierrors.IsForbidden(err):
		s.denied++
	default:
		s.failed++
		s.lastErr = fmt.Errorf("%s: %w", kind, err)
	}
}

// report prints a line now and then until ctx is done.
func (s *loadStats) report(ctx context.Context) {
	tick := time.NewTicker(reportEvery)
	defer tick.Stop()
	last := 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		s.mu.Lock()
		fmt.Fprintf(s.out, "%6.0fs calls %d (%.0f/s) denied %d failed %d\n", time.Since(s.start).Seconds(), s.ops,
			float64(s.ops-last)/reportEvery.Seconds(), s.denied, s.failed)
		last = s.ops
		s.mu.Unlock()
	}
}

func (s *loadStats) summary() {
	s.mu.Lock()
	defer s.mu.Unlock()
	took := time.Since(s.start).Seconds()
	fmt.Fprintf(s.out, "done: %d calls in %.1fs = %.0f/s, denied %d, failed %d\n", s.ops, took, float64(s.ops)/took, s.denied, s.failed)
	if s.lastErr != nil {
		fmt.Fprintf(s.out, "last failure: %v\n", s.lastErr)
	}
	for _, kind := range slices.Sorted(maps.Keys(s.latency)) {
		l := s.latency[kind]
		slices.Sort(l)
		at := func(percent int) time.Duration {
			return l[min(len(l)*percent/100, len(l)-1)].Round(10 * time.Microsecond)
		}
		fmt.Fprintf(s.out, "  %-14s n=%d p50=%s p95=%s p99=%s max=%s\n", kind, len(l), at(50), at(95), at(99), at(100))
	}
}
