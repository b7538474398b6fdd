package app

import (
	"slices"
	"time"
)

// At a start the detector reads events from before its cursor again, to know what it knew: which requests gave a finding already, what is in
// the windows of correlations, and what waits for late events.
const (
	refillLeast = 20_000         // events, for requests
	refillMost  = 2_000_000      // events, however long the windows are
	refillReach = 24 * time.Hour // of event time, however long the windows are
	refillSlack = 10 * time.Minute
)

// stretch is a run of the journal's events.
type stretch struct {
	first     uint64
	maxMicros int64
}

// refillFrom is where the detector begins to read when the first event whose findings are wanted is from, and rules look back reach.
func (a *App) refillFrom(from uint64, reach time.Duration) (uint64, error) {
	if reach == 0 || from <= refillLeast {
		return before(from, refillLeast), nil
	}
	s, err := a.events.Snapshot()
	if err != nil {
		return 0, err
	}
	defer s.Close()
	var all []stretch
	for _, f := range s.Segments {
		m := f.Meta()
		// An event from the future says nothing about the others.
		all = append(all, stretch{m.MinSeq, min(m.MaxMicros, m.MaxIngested)})
	}
	for _, b := range s.Head {
		all = append(all, stretch{b.First, min(b.MaxMicros, time.Now().UnixMicro())})
	}
	return refillStart(all, from, reach), nil
}

// refillStart goes back stretch by stretch, in whose order they were taken in, while one may have an event within reach of the newest.
func refillStart(all []stretch, from uint64, reach time.Duration) uint64 {
	start, newest := from, int64(0)
	oldest := (min(reach, refillReach) + refillSlack).Microseconds()
	for _, s := range slices.Backward(all) {
		if s.first >= from {
			continue
		}
		if newest == 0 {
			newest = s.maxMicros
		}
		if s.maxMicros < newest-oldest {
			break
		}
		newest, start = max(newest, s.maxMicros), s.first
		if from-start > refillMost {
			break
		}
	}
	return max(min(start, before(from, refillLeast)), before(from, refillMost))
}

// before is n less than seq, but at least 1.
func before(seq, n uint64) uint64 {
	if seq <= n {
		return 1
	}
	return seq - n
}
