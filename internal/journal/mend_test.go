package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// segmented makes a journal of n segments with one event each, and closes it.
func segmented(t *testing.T, n int) (dir string) {
	t.Helper()
	dir = t.TempDir()
	j := open(t, dir, Options{})
	for i := range n {
		mustAppend(t, j, batch(i))
		if err := j.Seal(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

func segmentOf(dir string, seq uint64) string {
	return filepath.Join(dir, "segments", segmentName(seq, seq))
}

func damageFile(t *testing.T, path string) {
	t.Helper()
	if err := os.WriteFile(path, []byte("no segment"), 0o600); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

// Without a manifest the segments are still the events' only copy: they are not leftovers of a crash.
func TestMissingManifestIsMadeAnew(t *testing.T) {
	dir := segmented(t, 3)
	remove(t, filepath.Join(dir, manifestName))
	s, err := OpenReadOnly(dir)
	if err != nil {
		t.Fatal(err)
	}
	want(t, snapshot(t, s), 0, 1, 2)
	r, err := Check(context.Background(), dir, func(string, int64) {})
	if err != nil || r.Events != 3 || len(r.Problems) != 1 || !r.OK() {
		t.Errorf("check: %+v, %v", r, err)
	}
	j := open(t, dir, Options{})
	want(t, contents(t, j), 0, 1, 2)
	mustAppend(t, j, batch(3))
	want(t, contents(t, j), 0, 1, 2, 3)
}

// What can be read of neither manifest nor segment is kept for repair.
func TestUnreadableSegmentsAreKeptWhenTheManifestIsMadeAnew(t *testing.T) {
	dir := segmented(t, 3)
	remove(t, filepath.Join(dir, manifestName))
	damageFile(t, segmentOf(dir, 2))
	j := open(t, dir, Options{})
	want(t, contents(t, j), 0, 2)
	if got := j.Info().Lost; got != 1 {
		t.Errorf("%d events are said to be lost, want 1", got)
	}
	if _, err := os.Stat(filepath.Join(dir, "quarantine", segmentName(2, 2))); err != nil {
		t.Error(err)
	}
}

// A segment that is missing leaves a gap. Merging goes on at both sides of it.
func TestMergeGoesOnAroundAGap(t *testing.T) {
	dir := segmented(t, 2*mergeFan-1)
	remove(t, segmentOf(dir, 5))
	j := open(t, dir, Options{})
	if err := j.mergeReady(context.Background()); err != nil {
		t.Fatal(err)
	}
	if got := j.Info().Segments; got != mergeFan-1 { // 4, a gap, and 10 of which 8 became 1
		t.Errorf("%d segments, want %d", got, mergeFan-1)
	}
	want(t, contents(t, j), 0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14)
	r, err := Check(context.Background(), dir, func(string, int64) {})
	if err != nil || !r.OK() || len(r.Problems) != 1 || r.Problems[0].Events != 1 {
		t.Errorf("check: %+v, %v", r, err)
	}
}

// A segment deleted by hand costs its own events, for readers beside a server too.
func TestReadOnlyWithoutASegment(t *testing.T) {
	dir := segmented(t, 3)
	remove(t, segmentOf(dir, 2))
	s, err := OpenReadOnly(dir)
	if err != nil {
		t.Fatal(err)
	}
	if s.Unreadable != 1 {
		t.Errorf("%d segments are said to be unreadable, want 1", s.Unreadable)
	}
	want(t, snapshot(t, s), 0, 2)
	r, err := Check(context.Background(), dir, func(string, int64) {})
	if err != nil || r.OK() {
		t.Errorf("check: %+v, %v", r, err)
	}
}

// A damaged cursor is set aside, and its reader begins at the oldest event: twice is better than never.
func TestDamagedCursor(t *testing.T) {
	dir := segmented(t, 3)
	path := filepath.Join(dir, "cursors", "detect.json")
	for i, text := range []string{"", "{", `{"version":1}`, `{"version":1,"next":-4}`, "\x00\x00"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if in, err := InfoReadOnly(dir); err != nil || in.Events != 3 {
			t.Errorf("%q: %+v %v", text, in, err)
		}
		if r, err := Check(context.Background(), dir, func(string, int64) {}); err != nil || len(r.Problems) != 1 || !r.OK() {
			t.Errorf("%q: check: %+v, %v", text, r, err)
		}
		m := NewMetrics(prometheus.NewRegistry(), "j")
		j := open(t, dir, Options{Metrics: m})
		c, err := j.Cursor("detect", 0)
		if err != nil || c.Next() != 1 {
			t.Fatalf("%q: %v, begins at %d", text, err, c.Next())
		}
		if got := testutil.ToFloat64(m.resets.WithLabelValues("detect")); got != 1 {
			t.Errorf("counted %g times", got)
		}
		if err := errors.Join(c.Save(3), j.Close()); err != nil {
			t.Fatal(err)
		}
		kept, err := filepath.Glob(filepath.Join(dir, "quarantine", "detect*"))
		if err != nil || len(kept) != 1 {
			t.Errorf("round %d: kept %v, %v", i, kept, err)
		}
		j = open(t, dir, Options{})
		if c, err = j.Cursor("detect", 0); err != nil || c.Next() != 3 {
			t.Errorf("%v, begins at %d", err, c.Next())
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// A cursor of a newer version is not damaged.
func TestCursorOfAnotherVersion(t *testing.T) {
	dir := segmented(t, 1)
	if err := os.WriteFile(filepath.Join(dir, "cursors", "detect.json"), []byte(`{"version":2,"next":1}`), 0o600); err != nil {
		t.Fatal(err)
	}
	j := open(t, dir, Options{})
	if c, err := j.Cursor("detect", 0); err == nil {
		t.Errorf("taken, at %d", c.Next())
	}
}

// Checking while another process seals and merges finds nothing wrong.
func TestCheckBesideAWriter(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, Options{WALFileBytes: 1 << 10})
	stop := make(chan struct{})
	done := make(chan error)
	go func() {
		defer close(done)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			err := j.Append(context.Background(), batch(3*i, 3*i+1, 3*i+2))
			if i%10 == 9 {
				err = errors.Join(err, j.Seal(context.Background()), j.mergeReady(context.Background()))
			}
			if err != nil {
				done <- err
				return
			}
		}
	}()
	for i := range 30 {
		r, err := Check(context.Background(), dir, func(string, int64) {})
		if err != nil || len(r.Problems) > 0 {
			t.Fatal(i, err, fmt.Sprintf("%+v", r))
		}
		s, err := OpenReadOnly(dir)
		if err != nil || s.Unreadable > 0 {
			t.Fatal(i, err)
		}
		seen := map[string]bool{}
		for _, id := range snapshot(t, s) {
			if seen[id] {
				t.Fatalf("round %d: %s is there twice", i, id)
			}
			seen[id] = true
		}
		if _, err := InfoReadOnly(dir); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// A journal that nobody writes to finds out by itself that there is room again: its server is not ready until then, so nobody would.
func TestRoomIsFoundWithoutAppend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := open(t, t.TempDir(), Options{MinFree: 1 << 60})
		if err := j.Append(context.Background(), batch(1)); !errors.Is(err, ErrFull) || j.Info().Full == "" {
			t.Fatalf("append: %v; full: %q", err, j.Info().Full)
		}
		j.mu.Lock()
		j.o.MinFree = 1 // as if files were deleted
		j.mu.Unlock()
		time.Sleep(2 * time.Second) //nolint:forbidigo // on the bubble's clock
		synctest.Wait()
		if why := j.Info().Full; why != "" {
			t.Errorf("still %q", why)
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// Writes that fail are said by Info, and once in the log, until one succeeds, or for a while.
func TestFailingWritesAreSaid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		var log bytes.Buffer
		j := open(t, dir, Options{WALFileBytes: 1, Log: slog.New(slog.NewTextHandler(&log, nil))})
		mustAppend(t, j, batch(1))
		wal, away := filepath.Join(dir, "wal"), filepath.Join(dir, "away")
		move := func(from, to string) {
			t.Helper()
			if err := os.Rename(from, to); err != nil {
				t.Fatal(err)
			}
		}
		fail := func(id int) {
			t.Helper()
			move(wal, away)
			for range 10 {
				if err := j.Append(context.Background(), batch(id)); err == nil || j.Info().Full == "" {
					t.Fatalf("append: %v; full: %q", err, j.Info().Full)
				}
			}
			move(away, wal)
		}
		fail(2)
		mustAppend(t, j, batch(2))
		if why := j.Info().Full; why != "" {
			t.Errorf("still %q", why)
		}
		fail(3)
		time.Sleep(time.Minute) //nolint:forbidigo // on the bubble's clock
		synctest.Wait()
		if why := j.Info().Full; why != "" {
			t.Errorf("a minute later still %q", why)
		}
		if got := strings.Count(log.String(), "level=ERROR"); got != 2 {
			t.Errorf("%d errors in the log, want 2:\n%s", got, log.String())
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// Who tidies up and removes LOCK does not let a second process in.
func TestSecondProcessRefusesWithoutTheLockFile(t *testing.T) {
	dir := t.TempDir()
	open(t, dir, Options{})
	remove(t, filepath.Join(dir, "LOCK"))
	if j, err := Open(dir, Options{}); !errors.Is(err, ErrLocked) {
		t.Fatalf("%v, %v", j, err)
	}
}

// A reader that got nothing more after its last save has it on disk a moment later all the same.
func TestCursorIsWrittenWithoutAnotherSave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		j := open(t, dir, Options{})
		mustAppend(t, j, batch(1, 2, 3))
		c, err := j.Cursor("detect", 1)
		if err = errors.Join(err, c.Save(2), c.Save(3)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second) //nolint:forbidigo // on the bubble's clock
		synctest.Wait()
		if next, err := readCursor(filepath.Join(dir, "cursors", "detect.json")); err != nil || next != 3 {
			t.Errorf("%d on disk, %v", next, err)
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
	})
}
