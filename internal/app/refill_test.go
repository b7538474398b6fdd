package app

import (
	"testing"
	"time"
)

func TestRefillStart(t *testing.T) {
	at := func(minutes int) int64 { return time.Date(2026, 1, 2, 0, minutes, 0, 0, time.UTC).UnixMicro() }
	hourly := []stretch{{1, at(0)}, {1_000_000, at(60)}, {1_100_000, at(120)}, {1_200_000, at(180)}, {1_300_000, at(240)}}
	for name, c := range map[string]struct {
		all   []stretch
		from  uint64
		reach time.Duration
		want  uint64
	}{
		"within the newest":         {hourly, 1_350_000, 30 * time.Minute, 1_300_000},
		"two before":                {hourly, 1_350_000, 2 * time.Hour, 1_100_000},
		"the newest is too short":   {hourly, 1_300_100, time.Minute, 1_280_100},
		"all":                       {hourly, 1_350_000, 100 * time.Hour, 1},
		"too many":                  {[]stretch{{1, at(0)}, {3_000_000, at(10)}}, 3_500_000, 10 * time.Hour, 1_500_000},
		"behind the cursor":         {hourly, 1_150_000, time.Minute, 1_100_000},
		"one stretch of everything": {[]stretch{{1, at(0)}}, 5_000_000, time.Hour, 3_000_000},
		"none":                      {nil, 100_000, time.Hour, 80_000},
	} {
		if got := refillStart(c.all, c.from, c.reach); got != c.want {
			t.Errorf("%s: from %d, want %d", name, got, c.want)
		}
	}
}
