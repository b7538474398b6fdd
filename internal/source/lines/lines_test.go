package lines

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/klauspost/compress/zstd"
	"pgregory.net/rapid"
)

// growing gives what was written so far, then io.EOF, then more after more was written.
type growing struct {
	b   []byte
	max int // bytes a read
}

func (g *growing) Read(p []byte) (int, error) {
	if len(g.b) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), g.max)], g.b)
	g.b = g.b[n:]
	return n, nil
}

// However a stream arrives, its lines are those of bytes.Split, each byte of the stream is accounted for, and what was
// given is not changed later.
func TestReaderProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.IntRange(1, 300_000).Draw(t, "limit")
		var all []byte
		for range rapid.IntRange(0, 20).Draw(t, "lines") {
			n := rapid.OneOf(rapid.IntRange(0, 50), rapid.IntRange(0, 400_000)).Draw(t, "length")
			all = append(all, bytes.Repeat([]byte{byte('a' + n%26)}, n)...)
			all = append(all, rapid.SampledFrom([]string{"\n", "\r\n", "\n\n"}).Draw(t, "end")...)
		}
		if rapid.Bool().Draw(t, "half") {
			all = append(all, bytes.Repeat([]byte("z"), rapid.IntRange(0, 400_000).Draw(t, "half length"))...)
		}
		g := &growing{max: rapid.IntRange(1000, 1<<20).Draw(t, "read")}
		const base = 1000
		r := NewReader(g, limit, base)
		var got, copies []Line
		take := func(l Line) {
			got = append(got, l)
			l.Bytes = bytes.Clone(l.Bytes)
			copies = append(copies, l)
		}
		for rest := all; len(rest) > 0; {
			n := min(len(rest), rapid.IntRange(1, len(all)).Draw(t, "grow"))
			g.b, rest = rest[:n], rest[n:]
			for {
				l, err := r.Next()
				if err == io.EOF {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				take(l)
			}
			if r.Half() > limit+1 {
				t.Fatalf("%d bytes of a half line are held, limit %d", r.Half(), limit)
			}
		}
		if l, ok := r.Rest(); ok {
			take(l)
		}
		if r.Offset() != base+int64(len(all)) {
			t.Fatalf("offset %d, want %d", r.Offset(), base+len(all))
		}
		want := bytes.Split(all, []byte("\n"))
		if len(want[len(want)-1]) == 0 {
			want = want[:len(want)-1]
		}
		if len(got) != len(want) {
			t.Fatalf("%d lines, want %d", len(got), len(want))
		}
		at := int64(base)
		for i, w := range want {
			l := got[i]
			if l.Start != at || l.Size != int64(len(w)) || l.TooLong != (len(w) > limit) {
				t.Fatalf("line %d: %d+%d too long %v, want %d+%d, limit %d", i, l.Start, l.Size, l.TooLong, at, len(w), limit)
			}
			at += int64(len(w)) + 1
			if l.TooLong {
				w = w[:len(l.Bytes)]
			} else {
				w = bytes.TrimSuffix(w, []byte("\r"))
			}
			if !bytes.Equal(l.Bytes, w) || !bytes.Equal(l.Bytes, copies[i].Bytes) {
				t.Fatalf("line %d differs", i)
			}
		}
	})
}

func TestOffsetGoesBackToTheLine(t *testing.T) {
	g := &growing{b: []byte("one\ntwo" + strings.Repeat("x", 100)), max: 1 << 20}
	r := NewReader(g, 50, 0)
	if l, err := r.Next(); err != nil || string(l.Bytes) != "one" {
		t.Fatal(l, err)
	}
	if _, err := r.Next(); err != io.EOF || r.Offset() != 4 {
		t.Fatalf("offset %d, %v; want the beginning of the line that is being skipped", r.Offset(), err)
	}
}

func TestReaderErrors(t *testing.T) {
	boom := errors.New("boom")
	r := NewReader(io.MultiReader(strings.NewReader("a\nb"), iotest.ErrReader(boom)), 10, 0)
	if l, err := r.Next(); err != nil || string(l.Bytes) != "a" {
		t.Fatal(l, err)
	}
	if _, err := r.Next(); !errors.Is(err, boom) {
		t.Fatal(err)
	}
	if l, ok := r.Rest(); !ok || string(l.Bytes) != "b" {
		t.Fatal(l, ok)
	}
}

func compressed(t testing.TB, f Format, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	var w io.WriteCloser
	switch f {
	case Plain:
		return b
	case Gzip:
		w = gzip.NewWriter(&out)
	case Zstd:
		z, err := zstd.NewWriter(&out)
		if err != nil {
			t.Fatal(err)
		}
		w = z
	}
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestDecode(t *testing.T) {
	text := []byte(strings.Repeat("some line of text\n", 10000))
	for _, f := range []Format{Plain, Gzip, Zstd} {
		t.Run(string(f), func(t *testing.T) {
			c := compressed(t, f, text)
			if f != Plain {
				c = append(bytes.Clone(c), c...) // members and frames may follow one another
			}
			d, got, err := Decode(iotest.HalfReader(bytes.NewReader(c)))
			if err != nil || got != f {
				t.Fatal(got, err)
			}
			b, err := io.ReadAll(d)
			if err != nil || !bytes.HasPrefix(b, text) || f != Plain && len(b) != 2*len(text) {
				t.Fatalf("%d bytes, %v", len(b), err)
			}
			if err := d.Close(); err != nil {
				t.Fatal(err)
			}
			if f == Plain {
				return
			}
			for _, n := range []int{4, 5, len(c) / 4, len(c)/2 - 1} {
				d, _, err := Decode(bytes.NewReader(c[:n]))
				if err == nil {
					_, err = io.ReadAll(d)
				}
				if !errors.Is(err, io.ErrUnexpectedEOF) {
					t.Errorf("cut at %d: %v", n, err)
				}
			}
		})
	}
	for _, s := range []string{"", "{", "\x1f", "{}\n"} {
		d, f, err := Decode(strings.NewReader(s))
		if err != nil || f != Plain {
			t.Fatal(f, err)
		}
		if b, err := io.ReadAll(d); err != nil || string(b) != s {
			t.Fatal(b, err)
		}
	}
}

// Lines of 2 and 24 MB, as a real API server wrote them.
func TestRecorded(t *testing.T) {
	dir := os.Getenv("WHODUNIT_SHARED")
	if dir == "" {
		dir = "../../../../shared"
	}
	f, err := os.Open(filepath.Join(dir, "data", "audit", "edge-1.36.log.zst"))
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skipf("SKIPPED: %v", err)
	}
	defer f.Close()
	d, _, err := Decode(f)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	r := NewReader(d, 20<<20, 0)
	n, long := 0, 0
	for {
		l, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		n++
		if l.TooLong {
			long++
			if len(l.Bytes) != KeepBytes {
				t.Errorf("%d bytes kept", len(l.Bytes))
			}
		}
	}
	if n != 460 || long == 0 {
		t.Fatalf("%d lines, %d too long", n, long)
	}
}

func FuzzReader(f *testing.F) {
	f.Add([]byte("a\nb\r\n\nccc"), 2)
	f.Fuzz(func(t *testing.T, b []byte, limit int) {
		if limit < 1 || limit > 1<<20 {
			return
		}
		r := NewReader(iotest.OneByteReader(bytes.NewReader(b)), limit, 0)
		var back []byte
		for {
			l, err := r.Next()
			if err != nil {
				break
			}
			if l.Start != int64(len(back)) {
				t.Fatal("offsets do not add up")
			}
			back = append(back, b[l.Start:l.Start+l.Size]...)
			back = append(back, '\n')
		}
		if l, ok := r.Rest(); ok {
			back = append(back, b[l.Start:l.Start+l.Size]...)
		}
		if !bytes.Equal(b, back) {
			t.Fatalf("%q became %q", b, back)
		}
	})
}

func BenchmarkReader(b *testing.B) {
	text := bytes.Repeat(append(bytes.Repeat([]byte("x"), 3600), '\n'), 10000)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		r := NewReader(bytes.NewReader(text), 1<<20, 0)
		for {
			if _, err := r.Next(); err != nil {
				break
			}
		}
	}
}
