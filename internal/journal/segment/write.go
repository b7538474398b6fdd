package segment

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"

	"whodunit/internal/audit"
)

// Write makes the file of the records, which stand for the sequence numbers minSeq to maxSeq; there may be fewer of them.
// It sorts an index of its own and leaves records as they are. The same records give the same bytes, so repeating it after a
// crash changes nothing. While it runs it holds about as much as the compressed file, and some 200 bytes an event.
//
// Errors of the file system are wrapped, so errors.Is(err, syscall.ENOSPC) tells a full disk.
func Write(path string, records []audit.Record, minSeq, maxSeq uint64) (Meta, error) {
	return write(path, records, minSeq, maxSeq, pageBytes)
}

func write(path string, records []audit.Record, minSeq, maxSeq uint64, pageBytes int) (Meta, error) {
	if minSeq > maxSeq || maxSeq > math.MaxInt64 {
		return Meta{}, fmt.Errorf("cannot write segment %s: bad range %d to %d", path, minSeq, maxSeq)
	}
	order := records
	bySeq := func(x, y audit.Record) int {
		if x.Seq < y.Seq {
			return -1
		} else if x.Seq > y.Seq {
			return 1
		}
		return 0
	}
	if !slices.IsSortedFunc(records, bySeq) {
		order = slices.Clone(records)
		slices.SortStableFunc(order, bySeq)
	}
	if n := len(order); n > 0 && (order[0].Seq < minSeq || order[n-1].Seq > maxSeq) {
		return Meta{}, fmt.Errorf("cannot write segment %s: records %d to %d are outside %d to %d", path, order[0].Seq, order[n-1].Seq, minSeq, maxSeq)
	}
	b, err := newBuilder()
	if err != nil {
		return Meta{}, err
	}
	defer func() { _ = b.z.Close() }()
	b.pageBytes = pageBytes
	x := &index{meta: Meta{MinSeq: minSeq, MaxSeq: maxSeq, Version: Version}}
	var bodies [][]byte
	off := int64(0)
	for len(order) > 0 {
		n := take(order)
		g, err := b.build(order[:n])
		if err != nil {
			return Meta{}, fmt.Errorf("cannot write segment %s: %w", path, err)
		}
		g.off = off
		off += g.size
		x.groups = append(x.groups, *g)
		bodies = append(bodies, slices.Clone(b.body))
		order = order[n:]
	}
	return x.write(path, func(w io.Writer) error {
		for _, body := range bodies {
			if _, err := w.Write(body); err != nil {
				return err
			}
		}
		return nil
	})
}

// take is how many of the records make up the next group: at most groupBytes, in parts of about the same size.
func take(records []audit.Record) int {
	total := 0
	for i := range records {
		total += len(records[i].Event.Raw)
	}
	parts := (total + groupBytes - 1) / groupBytes
	size := 0
	for i := range records {
		if size += len(records[i].Event.Raw); parts > 1 && size >= total/parts {
			return max(1, i) // without the one that is too much
		}
	}
	return len(records)
}

// write makes the whole file around the groups' bytes.
func (x *index) write(path string, body func(io.Writer) error) (Meta, error) {
	x.sum()
	frame, err := x.frame()
	if err != nil {
		return Meta{}, fmt.Errorf("cannot write segment %s: %w", path, err)
	}
	start := int64(len(parquetMagic) + len(frame))
	footer, err := x.footer(start, int64(len(frame)))
	if err != nil {
		return Meta{}, fmt.Errorf("cannot write segment %s: %w", path, err)
	}
	err = atomically(path, func(f *os.File) error {
		w := bufio.NewWriterSize(f, 1<<20)
		for _, part := range [][]byte{[]byte(parquetMagic), frame, nil, frame, trailer(frame), footer, size32(len(footer)), []byte(parquetMagic)} {
			if part == nil {
				if err := body(w); err != nil {
					return err
				}
				continue
			}
			if _, err := w.Write(part); err != nil {
				return err
			}
		}
		return w.Flush()
	})
	if err != nil {
		return Meta{}, err
	}
	m := x.meta
	m.FileBytes = start + x.body() + int64(len(frame)) + frameTail + int64(len(footer)) + 8
	return m, nil
}

// Merge combines the sources, which must be given in order and follow each other without a gap, into one file. It copies
// the row groups byte for byte, damaged pages too, so what could be read before can be read afterwards and what was damaged is
// still known to be. It needs little memory. The sources stay as they are.
func Merge(path string, sources []string) (m Meta, err error) {
	if len(sources) == 0 {
		return Meta{}, errors.New("cannot merge segments: there is none")
	}
	x := &index{meta: Meta{Version: Version}}
	var files []*File
	defer func() {
		for _, f := range files {
			err = errors.Join(err, f.Close())
		}
	}()
	off := int64(0)
	for i, s := range sources {
		f, err := Open(s)
		if err != nil {
			return Meta{}, fmt.Errorf("cannot merge segments: %w", err)
		}
		files = append(files, f)
		if m := f.meta; i == 0 {
			x.meta.MinSeq = m.MinSeq
		} else if m.MinSeq != x.meta.MaxSeq+1 {
			return Meta{}, fmt.Errorf("cannot merge segments: %s begins at %d, not at %d", s, m.MinSeq, x.meta.MaxSeq+1)
		}
		x.meta.MaxSeq = f.meta.MaxSeq
		for _, g := range f.index.groups {
			g.off += off
			x.groups = append(x.groups, g)
		}
		off += f.index.body()
	}
	return x.write(path, func(w io.Writer) error {
		for _, f := range files {
			n := f.index.body()
			if got, err := io.Copy(w, io.NewSectionReader(f.f, f.start, n)); err != nil {
				return err
			} else if _, err := io.CopyN(w, zeros{}, n-got); err != nil { // a file cut short
				return err
			}
		}
		return nil
	})
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }
