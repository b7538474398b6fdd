package post

import (
	"errors"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"whodunit/internal/alert"
)

// A pump sends batches, all of one again after an error that is worth it, and each finding alone after a refusal. Whatever the answers, each
// finding is taken or refused once, in order, and its outcome is told.
func TestEachFindingOnce(t *testing.T) {
	down, refused := errors.New("down"), fmt.Errorf("%w: 400", alert.ErrRejected)
	rapid.Check(t, func(t *rapid.T) {
		var b Batch
		var done []string
		bad := map[string]bool{}
		notify := func(fs []alert.Finding) error {
			return b.Each(fs, func(f *alert.Finding) error {
				if rapid.IntRange(0, 3).Draw(t, "down") == 0 {
					return down
				}
				done = append(done, f.ID)
				if bad[f.ID] {
					return refused
				}
				return nil
			})
		}
		untilDone := func(fs []alert.Finding) error {
			for {
				if err := notify(fs); !errors.Is(err, down) {
					return err
				}
			}
		}
		var want []string
		for range rapid.IntRange(1, 4).Draw(t, "batches") {
			fs := make([]alert.Finding, rapid.IntRange(1, 5).Draw(t, "size"))
			some := false
			for i := range fs {
				fs[i].ID = fmt.Sprint(len(want))
				want = append(want, fs[i].ID)
				bad[fs[i].ID] = rapid.IntRange(0, 4).Draw(t, "refused") == 0
				some = some || bad[fs[i].ID]
			}
			err := untilDone(fs)
			if errors.Is(err, alert.ErrRejected) != some {
				t.Fatalf("a batch with refused ones %t: %v", some, err)
			}
			for i := range fs {
				if some && errors.Is(untilDone(fs[i:i+1]), alert.ErrRejected) != bad[fs[i].ID] {
					t.Fatalf("finding %s alone", fs[i].ID)
				}
			}
		}
		if fmt.Sprint(done) != fmt.Sprint(want) {
			t.Fatalf("sent %v, want %v", done, want)
		}
	})
}
