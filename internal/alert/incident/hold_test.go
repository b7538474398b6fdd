package incident

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// TestHold: an alert that a receiver was not told of does not end until it was, or a day is over. The taker never sees its end meanwhile.
func TestHold(t *testing.T) {
	// Where one was told, others that are still owed hold up nothing, over a restart too.
	for name, told := range map[string]time.Duration{"told after an hour": time.Hour, "never told": 100 * time.Hour, "one was told": 0} {
		t.Run(name, func(t *testing.T) {
			c, owed := newClock(), true
			o := Options{ResolveAfter: 5 * time.Minute, Owed: func(map[string]string) bool { return owed }, StateFile: filepath.Join(t.TempDir(), "alerts.json")}
			tr, got := tracker(t, c, o)
			f := cheap(1, "r", "u", c.Now())
			notify(t, tr, f)
			if told == 0 {
				tr.Told(Labels(&f))
				if err := tr.Close(); err != nil {
					t.Fatal(err)
				}
				tr, got = tracker(t, c, o)
			}
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
				owed = told == 0 || c.Now().Sub(begin) < told
				c.add(time.Second)
			}
			want, held := min(told, maxHold+5*time.Minute), 1.0
			if told == 0 {
				want, held = 5*time.Minute, 0
			}
			if d := over.Sub(begin); d < want || d > want+2*time.Minute {
				t.Errorf("it ended after %s", d)
			}
			if testutil.ToFloat64(tr.m.held) != held {
				t.Error("it is not counted")
			}
		})
	}
}
