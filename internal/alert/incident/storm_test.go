package incident

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"whodunit/internal/alert"
)

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func TestAStormKeepsMemoryFlat(t *testing.T) {
	c := newClock()
	tr, _ := tracker(t, c, Options{})
	before := heap()
	batch := make([]alert.Finding, 100)
	for seq := uint64(1); seq <= 1_000_000; {
		for i := range batch {
			batch[i] = cheap(seq, "r"+fmt.Sprint(seq%50), fmt.Sprint("user-", seq), c.Now())
			seq++
		}
		notify(t, tr, batch...)
	}
	grown := heap() - before
	t.Logf("heap grew by %d KiB for %d alerts", grown>>10, len(tr.Active()))
	if grown > 64<<20 {
		t.Errorf("heap grew by %d bytes", grown)
	}
	if n := len(tr.Active()); n != DefaultMaxActive+50 {
		t.Errorf("%d alerts", n)
	}
	if n := testutil.ToFloat64(tr.m.findings); n != 1_000_000 {
		t.Errorf("%v findings", n)
	}
	runtime.KeepAlive(tr)
}

func BenchmarkNotify(b *testing.B) {
	for _, users := range []int{10, 1_000_000} {
		b.Run(fmt.Sprint(users, "users"), func(b *testing.B) {
			c := newClock()
			tr, _ := tracker(b, c, Options{})
			batch := make([]alert.Finding, 100)
			all := make([]alert.Finding, 100_000)
			for i := range all {
				all[i] = cheap(0, "r"+fmt.Sprint(i%50), fmt.Sprint("user-", (i*7919)%users), c.Now())
			}
			seq := uint64(0)
			b.ReportAllocs()
			for b.Loop() {
				for i := range batch {
					batch[i] = all[seq%uint64(len(all))]
					seq++
					batch[i].Seq = seq
				}
				if err := tr.Notify(b.Context(), batch); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(seq)/b.Elapsed().Seconds(), "findings/s")
		})
	}
}
