package segment

import (
	"bytes"
	"context"
	"flag"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"testing"

	"whodunit/internal/audit"
)

var update = flag.Bool("update", false, "write testdata afresh")

// sample is a handful of recorded events, which are in testdata.
func sample(tb testing.TB) []audit.Record {
	tb.Helper()
	b, err := os.ReadFile("testdata/events.jsonl")
	if err != nil {
		tb.Fatal(err)
	}
	var out []audit.Record
	for line := range bytes.Lines(b) {
		ev, err := audit.Parse("prod", bytes.TrimSuffix(line, []byte("\n")))
		if err != nil {
			tb.Fatal(err)
		}
		out = append(out, audit.Record{Seq: uint64(len(out) + 101), IngestedMicros: 1767323045000000 + int64(len(out)), Source: "webhook", Identity: ev.Identity(), Event: ev})
	}
	return out
}

// readable opens what is in path and checks that each event is either the one that was written or counted. It says how many were lost;
// ok is false where the file does not open.
func readable(tb testing.TB, path string, want []audit.Record) (lost int64, ok bool) {
	tb.Helper()
	f, err := Open(path)
	if err != nil {
		return 0, false
	}
	defer func() { _ = f.Close() }()
	got, damaged := scan(tb, f, 0)
	if int64(len(got))+damaged != int64(len(want)) {
		tb.Fatalf("%d events and %d damaged, of %d", len(got), damaged, len(want))
	}
	i := 0
	for j := range got {
		for i < len(want) && want[i].Seq != got[j].Seq {
			i++
		}
		if i == len(want) {
			tb.Fatalf("event %d is not there or out of order", got[j].Seq)
		}
		same(tb, got[j:j+1], want[i:i+1])
	}
	return damaged, true
}

// small makes a merged segment of two groups with small pages.
func small(tb testing.TB, records []audit.Record) (path string, perPage int64) {
	tb.Helper()
	dir := tb.TempDir()
	half := len(records) / 2
	a, b := filepath.Join(dir, "a.parquet"), filepath.Join(dir, "b.parquet")
	for p, rs := range map[string][]audit.Record{a: records[:half], b: records[half:]} {
		if _, err := write(p, rs, rs[0].Seq, rs[len(rs)-1].Seq, 4<<10); err != nil {
			tb.Fatal(err)
		}
	}
	path = filepath.Join(dir, "c.parquet")
	if _, err := Merge(path, []string{a, b}); err != nil {
		tb.Fatal(err)
	}
	f := open(tb, path)
	for i := range f.groups {
		for _, p := range f.groups[i].RawPages() {
			perPage = max(perPage, int64(p.Rows))
		}
	}
	return path, perPage
}

// TestEveryByte flips every byte of a segment, one at a time: nothing may panic, no event may be read wrong, and no more may be
// lost than a page's.
func TestEveryByte(t *testing.T) {
	records := sample(t)[:14]
	path, perPage := small(t, records)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	step := 1
	if testing.Short() {
		step = 17
	} else if raceEnabled() {
		step = 5
	}
	bad := filepath.Join(t.TempDir(), "bad.parquet")
	whole, worst, seen := 0, int64(0), 0
	f, err := os.Create(bad)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if _, err := f.Write(good); err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(good); i += step {
		if _, err := f.WriteAt([]byte{good[i] ^ 0x41}, int64(i)); err != nil {
			t.Fatal(err)
		}
		lost, ok := readable(t, bad, records)
		if !ok {
			t.Fatalf("byte %d of %d: the file does not open", i, len(good))
		}
		if lost > perPage {
			t.Fatalf("byte %d: %d events lost, a page holds %d", i, lost, perPage)
		}
		if lost == 0 {
			whole++
		}
		worst = max(worst, lost)
		if i%101 == 0 {
			s := open(t, bad)
			r, err := s.Verify(context.Background())
			if err != nil || r.OK() || r.DamagedRows != lost {
				t.Fatalf("byte %d: Verify says %+v, %v", i, r, err)
			}
			seen++
		}
		if _, err := f.WriteAt(good[i:i+1], int64(i)); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d bytes: %d places cost nothing, the worst %d events; %d verified", len(good), whole, worst, seen)
}

// raceEnabled reports whether the race detector makes everything slow.
func raceEnabled() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.ContainsFunc(info.Settings, func(s debug.BuildSetting) bool { return s.Key == "-race" && s.Value == "true" })
}

func TestTruncated(t *testing.T) {
	records := sample(t)
	path, _ := small(t, records)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	bad := filepath.Join(t.TempDir(), "bad.parquet")
	if err := os.WriteFile(bad, good, 0o600); err != nil {
		t.Fatal(err)
	}
	s := open(t, path)
	opens := s.start
	last := int64(len(records))
	for n := int64(len(good)); n >= 0; n -= 7 {
		if err := os.Truncate(bad, n); err != nil {
			t.Fatal(err)
		}
		lost, ok := readable(t, bad, records)
		if !ok && n >= opens {
			t.Fatalf("cut to %d of %d bytes: it does not open", n, len(good))
		}
		if ok {
			last = lost
		}
	}
	if last != int64(len(records)) {
		t.Errorf("without any group %d events are lost, not all", last)
	}
}

func TestSalvage(t *testing.T) {
	records := sample(t)
	path, _ := small(t, records)
	f := open(t, path)
	g := &f.groups[1]
	at := f.start + g.g.off + g.g.columns[Raw].pages[0].off + 20
	w, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.WriteAt([]byte("damage"), at); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	dst := filepath.Join(t.TempDir(), "out.parquet")
	m, lost, err := Salvage(dst, path)
	if err != nil {
		t.Fatal(err)
	}
	if want := int64(g.g.columns[Raw].pages[0].rows); lost != want || m.Rows != int64(len(records))-want {
		t.Errorf("%d lost and %d kept, want %d lost", lost, m.Rows, want)
	}
	if m.MinSeq != f.meta.MinSeq || m.MaxSeq != f.meta.MaxSeq {
		t.Errorf("the range became %d to %d", m.MinSeq, m.MaxSeq)
	}
	s := open(t, dst)
	if r, err := s.Verify(t.Context()); err != nil || !r.OK() {
		t.Errorf("Verify: %+v, %v", r, err)
	}
	if left, err := filepath.Glob(dst + ".*"); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestVersion1 reads the file of version 1 that is kept for ever.
func TestVersion1(t *testing.T) {
	records := sample(t)
	const path = "testdata/v1.parquet"
	if *update {
		p, _ := small(t, records)
		b, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	f := open(t, path)
	got, damaged := scan(t, f, 0)
	if damaged != 0 {
		t.Errorf("%d damaged", damaged)
	}
	same(t, got, records)
	if r, err := f.Verify(t.Context()); err != nil || !r.OK() {
		t.Errorf("Verify: %+v, %v", r, err)
	}
	m := f.Meta()
	if m.Version != 1 || m.MinSeq != 101 || m.Rows != int64(len(records)) {
		t.Errorf("Meta is %+v", m)
	}
}

func TestSameTwice(t *testing.T) {
	records := sample(t)
	a, b := filepath.Join(t.TempDir(), "a.parquet"), filepath.Join(t.TempDir(), "b.parquet")
	back := slices.Clone(records)
	slices.Reverse(back)
	for p, rs := range map[string][]audit.Record{a: records, b: back} {
		if _, err := Write(p, rs, 1, 1000); err != nil {
			t.Fatal(err)
		}
	}
	x, errX := os.ReadFile(a)
	y, errY := os.ReadFile(b)
	if errX != nil || errY != nil || !bytes.Equal(x, y) {
		t.Errorf("the same records gave other bytes (%v, %v)", errX, errY)
	}
	if back[0].Seq != records[len(records)-1].Seq {
		t.Error("Write changed the order of its records")
	}
}
