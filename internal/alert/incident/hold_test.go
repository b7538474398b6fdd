package incident

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// TestHold: an alert that a receiver was not told of does not end until it was, or a day is over. The taker never sees its end meanwhile.
func TestHold(t *testing.T) {
	for name, told := range map[string]time.Duration{"told after an hour": time.Hour, "never told": 100 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			c, owed := newClock(), true
			tr, got := tracker(t, c, Options{ResolveAfter: 5 * time.Minute, Owed: func(map[string]string) bool { return owed }})
			notify(t, tr, cheap(1, "r", "u", c.Now()))
			begin := c.Now()
			var ends, over time.Time
			for c.Now().Sub(begin) < 26*time.Hour && over.IsZero() {
				put(t, tr)
				for _, a := range got.take() {
					ends = a.EndsAt
				}
				if len(tr.Active()) == 0 {
					over = c.Now()
				} else if !ends.After(c.Now()) {
					t.Fatalf("after %s the taker sees the end", c.Now().Sub(begin))
				}
				owed = c.Now().Sub(begin) < told
				c.add(time.Second)
			}
			want := min(told, maxHold+5*time.Minute)
			if d := over.Sub(begin); d < want || d > want+2*time.Minute {
				t.Errorf("it ended after %s", d)
			}
			if testutil.ToFloat64(tr.m.held) != 1 {
				t.Error("it is not counted once")
			}
		})
	}
}
