package wal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"whodunit/internal/audit"
)

var update = flag.Bool("update", false, "write the sample of the current version")

func records(t testing.TB, seq uint64, raws ...string) []audit.Record {
	t.Helper()
	var out []audit.Record
	for i, raw := range raws {
		e, err := audit.Parse(fmt.Sprintf("cluster-%d", i%2), []byte(raw))
		if err != nil {
			t.Fatal(err)
		}
		e.Flags = audit.Flags(i % 2)
		out = append(out, audit.Record{Seq: seq + uint64(i), IngestedMicros: 42, Source: "test", Identity: e.Identity(), Event: e})
	}
	return out
}

func event(i int) string {
	return fmt.Sprintf(`{"auditID":"id-%d","stage":"ResponseComplete","verb":"get","user":{"username":"u%d"},"stageTimestamp":"2026-11-21T13:24:46.327284Z"}`, i, i%3)
}

// write makes a file of one frame per group and returns its path and what is in it.
func write(t testing.TB, dir string, first uint64, groups ...[]audit.Record) (string, []byte) {
	t.Helper()
	c := codec(t)
	w, err := Create(dir, first)
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range groups {
		if err := w.Write(AppendFrame(nil, w.Salt(), g[0].Seq, uint32(len(g)), c.Encode("here", g))); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(w.Path())
	if err != nil {
		t.Fatal(err)
	}
	return w.Path(), b
}

func codec(t testing.TB) *Codec {
	t.Helper()
	c, err := NewCodec(1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// read gives the auditIDs of a file by sequence number, and its damage.
func read(t testing.TB, c *Codec, path string, end uint64) (map[uint64]string, []Damage) {
	t.Helper()
	got := map[uint64]string{}
	damage, err := Scan(path, end, func(f Frame, payload []byte) error {
		rs, err := c.Decode(f, payload)
		if err != nil {
			t.Fatalf("a frame with good checksums does not decode: %v", err)
		}
		for _, r := range rs {
			got[r.Seq] = r.Event.AuditID
		}
		return nil
	})
	if err != nil && !errors.Is(err, ErrVersion) {
		t.Fatal(err)
	}
	return got, damage
}

func TestRoundTrip(t *testing.T) {
	a := records(t, 7, event(1), event(2), event(3))
	b := records(t, 10, event(4))
	path, _ := write(t, t.TempDir(), 7, a, b)
	c := codec(t)
	var got []audit.Record
	damage, err := Scan(path, 0, func(f Frame, p []byte) error {
		rs, err := c.Decode(f, p)
		got = append(got, rs...)
		return err
	})
	if err != nil || len(damage) != 0 {
		t.Fatal(err, damage)
	}
	want := append(a, b...)
	if len(got) != len(want) {
		t.Fatalf("%d records, want %d", len(got), len(want))
	}
	for i := range got {
		w, g := want[i], got[i]
		if g.Seq != w.Seq || g.IngestedMicros != 42 || g.Source != "test" || g.Identity != w.Identity || g.Event.Cluster != w.Event.Cluster ||
			g.Event.Flags != w.Event.Flags || !bytes.Equal(g.Event.Raw, w.Event.Raw) {
			t.Errorf("record %d is %+v, want %+v", i, g, w)
		}
	}
}

// Every byte of a file is flipped, one at a time: at most the frame that it is in may be lost, and it must be said.
func TestEveryFlippedByte(t *testing.T) {
	groups := [][]audit.Record{records(t, 1, event(1), event(2)), records(t, 3, event(3)), records(t, 4, event(4), event(5)), records(t, 6, event(6))}
	path, whole := write(t, t.TempDir(), 1, groups...)
	c := codec(t)
	all, _ := read(t, c, path, 0)
	if len(all) != 6 {
		t.Fatalf("%d records", len(all))
	}
	for off := range whole {
		b := bytes.Clone(whole)
		b[off] ^= byte(1 + rand.IntN(255))
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		got, damage := read(t, c, path, 0)
		if off >= 8 && off < 12 && len(got) == 0 {
			continue // a version from the future, with a wrong checksum, is damage; never read wrongly
		}
		lost := 0
		for seq, id := range all {
			if g, ok := got[seq]; !ok {
				lost++
			} else if g != id {
				t.Fatalf("offset %d: record %d is %q, want %q", off, seq, g, id)
			}
		}
		if lost > 2 || len(damage) != 1 || (off < HeaderSize && lost > 0) {
			t.Fatalf("offset %d: %d records lost, damage %v", off, lost, damage)
		}
		if d := damage[0]; lost > 0 && int(d.Events) != lost && d.Offset+d.Bytes < int64(len(whole)) {
			t.Fatalf("offset %d: %d records lost, but said %v", off, lost, d)
		}
	}
}

// A file cut off anywhere keeps all frames before the cut.
func TestEveryTornLength(t *testing.T) {
	groups := [][]audit.Record{records(t, 1, event(1), event(2)), records(t, 3, event(3))}
	path, whole := write(t, t.TempDir(), 1, groups...)
	c := codec(t)
	for n := range whole {
		if err := os.WriteFile(path, whole[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		got, damage := read(t, c, path, 0)
		if len(got) != 0 && len(got) != 2 {
			t.Fatalf("length %d: %d records", n, len(got))
		}
		for _, d := range damage {
			if !d.Torn {
				t.Fatalf("length %d: a torn end is called %v", n, d)
			}
		}
	}
}

// An event may hold bytes that look like frames; without the file's salt they never pass for one.
func TestForgedFrameInsideDamage(t *testing.T) {
	c := codec(t)
	forged := AppendFrame(nil, 0, 2, 1, c.Encode("x", records(t, 2, event(666))))
	w, err := Create(t.TempDir(), 1)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	payload := append([]byte{9}, forged...) // as if the compressor had stored it plainly
	frame := AppendFrame(nil, w.Salt(), 1, 1, payload)
	frame[9] ^= 1 // the real frame's header is damaged, so reading looks for the next
	if err := w.Write(frame); err != nil {
		t.Fatal(err)
	}
	got, damage := read(t, c, w.Path(), 0)
	if len(got) != 0 || len(damage) != 1 {
		t.Fatalf("got %v, damage %v", got, damage)
	}
}

func TestFramesOfAFailedSyncAreVoid(t *testing.T) {
	path, _ := write(t, t.TempDir(), 1, records(t, 1, event(1)), records(t, 2, event(2)))
	got, _ := read(t, codec(t), path, 2)
	if d := cmp.Diff(map[uint64]string{1: "id-1"}, got); d != "" {
		t.Error(d)
	}
}

func TestNewerVersionIsNotRead(t *testing.T) {
	path, b := write(t, t.TempDir(), 1, records(t, 1, event(1)))
	binary.LittleEndian.PutUint32(b[8:], Version+1)
	first, salt, _ := ParseName(path)
	_ = first
	h := fileHeader(1, salt)
	binary.LittleEndian.PutUint32(h[8:], Version+1)
	binary.LittleEndian.PutUint32(h[28:], crcOf(h[:28]))
	copy(b, h)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Scan(path, 0, func(Frame, []byte) error { return nil }); !errors.Is(err, ErrVersion) {
		t.Errorf("got %v", err)
	}
}

// The sample of version 1 is kept for ever: whoever changes the format must still read it.
func TestSampleOfVersion1(t *testing.T) {
	dir := "testdata"
	if *update {
		if old, err := filepath.Glob(dir + "/*.wal"); err != nil || len(old) > 0 {
			t.Fatal("a version's sample is never replaced", old, err)
		}
		write(t, dir, 1, records(t, 1, event(1), event(2)), records(t, 3, event(3)))
	}
	paths, err := filepath.Glob(dir + "/*.wal")
	if err != nil || len(paths) != 1 {
		t.Fatal(paths, err)
	}
	got, damage := read(t, codec(t), paths[0], 0)
	if d := cmp.Diff(map[uint64]string{1: "id-1", 2: "id-2", 3: "id-3"}, got); d != "" || len(damage) > 0 {
		t.Error(d, damage)
	}
}

func FuzzScan(f *testing.F) {
	_, b := write(f, f.TempDir(), 1, records(f, 1, event(1), event(2)), records(f, 3, event(3)))
	f.Add(b)
	f.Add(b[:40])
	f.Add([]byte("WHOWAL\r\n"))
	c := codec(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		path := filepath.Join(t.TempDir(), Name(1, 0))
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Scan(path, 0, func(f Frame, p []byte) error {
			_, err := c.Decode(f, p)
			if err != nil && !errors.Is(err, ErrDamaged) {
				return err
			}
			return nil
		})
		if err != nil && !errors.Is(err, ErrVersion) {
			t.Fatal(err)
		}
	})
}

func FuzzDecode(f *testing.F) {
	c := codec(f)
	f.Add(c.Encode("here", records(f, 1, event(1), event(2))))
	f.Add([]byte{codecZstd})
	f.Add([]byte(strings.Repeat("\xff", 40)))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := c.Decode(Frame{Seq: 1, Count: 2}, b); err != nil && !errors.Is(err, ErrDamaged) {
			t.Fatal(err)
		}
		r := reader{b: b}
		r.batch() // as if it had been compressed well
	})
}
