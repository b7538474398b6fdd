package journal

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"whodunit/internal/audit"
)

var update = flag.Bool("update", false, "write the sample of the current version")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func batch(ids ...int) audit.Batch {
	b := audit.Batch{Origin: audit.Origin{Source: "test", Position: "x"}}
	for _, id := range ids {
		b.Events = append(b.Events, event(fmt.Sprint(id), "get"))
	}
	return b
}

func event(id, verb string) audit.Event {
	e, err := audit.Parse("c", fmt.Appendf(nil, `{"level":"Metadata","auditID":"id-%s","stage":"ResponseComplete","requestURI":"/api/v1/pods","verb":%q,"user":{"username":"u"},"objectRef":{"resource":"pods","name":"p%s"},"stageTimestamp":"2026-11-21T13:24:46.327284Z"}`, id, verb, id))
	if err != nil {
		panic(err)
	}
	return e
}

func open(t testing.TB, dir string, o Options) *Journal {
	t.Helper()
	if o.MinFree == 0 {
		o.MinFree = 1
	}
	j, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := j.Close(); err != nil {
			t.Error(err)
		}
	})
	return j
}

func mustAppend(t testing.TB, j *Journal, b audit.Batch) {
	t.Helper()
	if err := j.Append(context.Background(), b); err != nil {
		t.Fatal(err)
	}
}

// contents reads the whole journal in order by a Reader and checks that sequence numbers rise.
func contents(t testing.TB, j *Journal) []string {
	t.Helper()
	r := j.Reader(1)
	defer r.Close()
	var ids []string
	last := uint64(0)
	for r.At() <= j.Last() {
		records, err := r.Next(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		for _, rec := range records {
			if rec.Seq <= last {
				t.Fatalf("sequence number %d after %d", rec.Seq, last)
			}
			last = rec.Seq
			if rec.Identity != rec.Event.Identity() {
				t.Fatalf("record %d has another event's identity", rec.Seq)
			}
			ids = append(ids, rec.Event.AuditID)
		}
	}
	return ids
}

// snapshot reads the whole journal as a search does.
func snapshot(t testing.TB, s *Snapshot) []string {
	t.Helper()
	defer s.Close()
	var ids []string
	add := func(records []audit.Record) error {
		for _, r := range records {
			ids = append(ids, r.Event.AuditID)
		}
		return nil
	}
	for _, f := range s.Segments {
		if _, err := f.Scan(context.Background(), 0, add); err != nil {
			t.Fatal(err)
		}
	}
	for _, b := range s.Head {
		records, _, err := b.Load()
		if err != nil {
			t.Fatal(err)
		}
		_ = add(records)
	}
	return ids
}

func want(t testing.TB, got []string, ids ...int) {
	t.Helper()
	var w []string
	for _, id := range ids {
		w = append(w, fmt.Sprintf("id-%d", id))
	}
	if !slices.Equal(got, w) {
		t.Fatalf("journal holds %v, want %v", got, w)
	}
}

func TestAppendSurvivesRestart(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, Options{})
	mustAppend(t, j, batch(1, 2))
	mustAppend(t, j, batch(3))
	want(t, contents(t, j), 1, 2, 3)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if err := j.Append(context.Background(), batch(9)); !errors.Is(err, ErrClosed) {
		t.Errorf("append after close: %v", err)
	}
	j = open(t, dir, Options{})
	mustAppend(t, j, batch(4))
	want(t, contents(t, j), 1, 2, 3, 4)
	if in := j.Info(); in.Lost != 0 || in.Events != 4 || in.LastSeq != 4 {
		t.Errorf("info %+v", in)
	}
}

func TestDuplicatesAreDropped(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, Options{IDReuse: true})
	mustAppend(t, j, batch(1, 2, 2, 1))
	mustAppend(t, j, batch(2, 3))
	mustAppend(t, j, batch(3))
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	j = open(t, dir, Options{IDReuse: true}) // remembered across a restart, from the WAL
	mustAppend(t, j, batch(1, 4))
	if err := j.Seal(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	j = open(t, dir, Options{IDReuse: true}) // and from segments
	mustAppend(t, j, batch(4, 5))
	want(t, contents(t, j), 1, 2, 3, 4, 5)
}

// What the recent-set has forgotten is found in the segments.
func TestLateDuplicatesAreDropped(t *testing.T) {
	j := open(t, t.TempDir(), Options{DedupEvents: 2})
	for i := range 10 {
		mustAppend(t, j, batch(i))
	}
	if err := j.Seal(context.Background()); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, j, batch(0, 1, 2, 3, 10, 4))
	want(t, contents(t, j), 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10)
}

func TestReusedAuditIDIsMarkedNotDropped(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, Options{IDReuse: true})
	mustAppend(t, j, audit.Batch{Events: []audit.Event{event("1", "get"), event("1", "delete")}})
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	j = open(t, dir, Options{IDReuse: true})
	mustAppend(t, j, audit.Batch{Events: []audit.Event{event("1", "list"), event("2", "get")}})
	if err := j.Seal(context.Background()); err != nil {
		t.Fatal(err)
	}
	r := j.Reader(1)
	defer r.Close()
	var flags []audit.Flags
	for len(flags) < 4 {
		records, err := r.Next(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		for _, rec := range records {
			flags = append(flags, rec.Event.Flags)
		}
	}
	if !slices.Equal(flags, []audit.Flags{0, audit.FlagIDReused, audit.FlagIDReused, 0}) {
		t.Errorf("flags %v", flags)
	}
}

// Many writers at once, some sending the same events: each event is there once, and all are when their Append has returned.
func TestConcurrentAppend(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, Options{SegmentBytes: 4 << 10, WALFileBytes: 8 << 10})
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 50 {
				if err := j.Append(context.Background(), batch(i*4+w%4, i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	got := contents(t, j)
	slices.Sort(got)
	if n := len(slices.Compact(slices.Clone(got))); n != 200 || len(got) != 200 {
		t.Fatalf("%d events, %d different, want 200", len(got), n)
	}
	s, err := j.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	if again := snapshot(t, s); len(again) != 200 {
		t.Fatalf("a snapshot has %d events", len(again))
	}
}

func TestSealMergeAndReadBack(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, Options{SegmentBytes: 1 << 10})
	var all []int
	for i := range 60 {
		mustAppend(t, j, batch(i))
		all = append(all, i)
		if i%3 == 0 {
			if err := j.Seal(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := j.Seal(context.Background()); err != nil {
		t.Fatal(err)
	}
	before, err := j.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	if err := j.mergeReady(context.Background()); err != nil {
		t.Fatal(err)
	}
	want(t, contents(t, j), all...)
	want(t, snapshot(t, before), all...) // merged away meanwhile, and still readable
	ro, err := OpenReadOnly(dir)
	if err != nil {
		t.Fatal(err)
	}
	want(t, snapshot(t, ro), all...)
	if n := j.Info().Segments; n >= 21 {
		t.Errorf("%d segments after merging", n)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "segments", "*.parquet"))
	j = open(t, dir, Options{})
	if err != nil || len(files) != j.Info().Segments {
		t.Errorf("%d segment files for %d segments: %v", len(files), j.Info().Segments, err)
	}
	want(t, contents(t, j), all...)
}

func TestSecondProcessRefuses(t *testing.T) {
	dir := t.TempDir()
	open(t, dir, Options{})
	if _, err := Open(dir, Options{}); !errors.Is(err, ErrLocked) {
		t.Errorf("a second process opened the journal: %v", err)
	}
}

func TestReaderWaitsAndEnds(t *testing.T) {
	j := open(t, t.TempDir(), Options{})
	r := j.Reader(0)
	defer r.Close()
	got := make(chan string)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			records, err := r.Next(context.Background())
			if err != nil {
				got <- err.Error()
				return
			}
			got <- records[0].Event.AuditID
		}
	})
	mustAppend(t, j, batch(1))
	if s := <-got; s != "id-1" {
		t.Error(s)
	}
	mustAppend(t, j, batch(2))
	if s := <-got; s != "id-2" {
		t.Error(s)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if s := <-got; s != ErrClosed.Error() {
		t.Error(s)
	}
	wg.Wait()
}

func TestCursor(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, Options{})
	mustAppend(t, j, batch(1, 2, 3))
	c, err := j.Cursor("detect", 1)
	if err != nil || c.Next() != 1 {
		t.Fatal(err, c.Next())
	}
	if tail, err := j.Cursor("tail", 0); err != nil || tail.Next() != 4 {
		t.Error(err, tail.Next())
	}
	if err := errors.Join(c.Save(2), c.Save(3)); err != nil {
		t.Fatal(err)
	}
	if _, err := j.Cursor("../x", 1); err == nil {
		t.Error("a cursor outside its folder")
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	j = open(t, dir, Options{})
	if c, err = j.Cursor("detect", 1); err != nil || c.Next() != 3 {
		t.Error(err, c.Next())
	}
}

func TestRetentionBySizeSaysWhatReadersMiss(t *testing.T) {
	j := open(t, t.TempDir(), Options{RetainBytes: 1})
	c, err := j.Cursor("slow", 1)
	if err != nil {
		t.Fatal(err)
	}
	mustAppend(t, j, batch(1, 2))
	if err := j.Seal(context.Background()); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, j, batch(3))
	if err := j.retire(newClock(time.Now)); err != nil {
		t.Fatal(err)
	}
	want(t, contents(t, j), 3)
	r := j.Reader(c.Next())
	defer r.Close()
	records, err := r.Next(context.Background())
	if err != nil || records[0].Event.AuditID != "id-3" || r.Skipped != 2 {
		t.Errorf("reader got %v, skipped %d, %v", records, r.Skipped, err)
	}
	mustAppend(t, j, batch(4))
	if j.Last() != 4 {
		t.Errorf("sequence numbers begin anew: %d", j.Last())
	}
}

func TestRetentionByAgeAndClockJumps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var jumped atomic.Int64 // also read by the maintainer
		now := func() time.Time { return time.Now().Add(time.Duration(jumped.Load())) }
		j := open(t, t.TempDir(), Options{RetainAge: time.Minute, Now: now})
		defer j.Close()
		mustAppend(t, j, batch(1))
		if err := j.Seal(context.Background()); err != nil {
			t.Fatal(err)
		}
		c := newClock(now)
		for _, jump := range []time.Duration{365 * 24 * time.Hour, -365 * 24 * time.Hour} {
			jumped.Store(int64(jump))
			if err := j.retire(c); err != nil {
				t.Fatal(err)
			}
			want(t, contents(t, j), 1)
		}
		jumped.Store(0)
		time.Sleep(2 * time.Minute) //nolint:forbidigo // on the bubble's clock
		if err := j.retire(c); err != nil {
			t.Fatal(err)
		}
		s, err := j.Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		if got := snapshot(t, s); len(got) != 0 {
			t.Errorf("kept after its age: %v", got)
		}
	})
}

func TestFullDiskRefusesAndRecovers(t *testing.T) {
	j := open(t, t.TempDir(), Options{MinFree: 1 << 60})
	if err := j.Append(context.Background(), batch(1)); !errors.Is(err, ErrFull) {
		t.Fatalf("append: %v", err)
	}
	if in := j.Info(); in.Full == "" {
		t.Error("nothing says that the journal is full")
	}
	j.setLimits(func(o *Options) { o.MinFree = 1 })
	mustAppend(t, j, batch(1))
	want(t, contents(t, j), 1)
}

func TestDamagedManifestIsMadeAnew(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, Options{})
	for i := range 3 {
		mustAppend(t, j, batch(i))
		if err := j.Seal(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	mustAppend(t, j, batch(3))
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, manifestName)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for off := range b {
		c := slices.Clone(b)
		c[off] ^= 0x40
		if err := os.WriteFile(path, c, 0o600); err != nil {
			t.Fatal(err)
		}
		j, err := Open(dir, Options{MinFree: 1})
		if err != nil {
			t.Fatalf("offset %d: %v", off, err)
		}
		want(t, contents(t, j), 0, 1, 2, 3)
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
