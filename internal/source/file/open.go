package file

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"whodunit/internal/audit"
	"whodunit/internal/source/lines"
)

// packed is a compressed file that is being read.
type packed struct {
	src  io.Reader
	dec  io.ReadCloser
	head []byte // the first up to 1,024 bytes, decompressed
	read int64  // bytes of the file
}

func (p *packed) Read(b []byte) (int, error) {
	n, err := p.src.Read(b)
	p.read += int64(n)
	return n, err
}

func (p *packed) close() {
	if p.dec != nil {
		_ = p.dec.Close()
	}
}

// openPacked opens a decoder over the file's beginning.
func openPacked(f *os.File) (*packed, error) {
	p := &packed{src: io.NewSectionReader(f, 0, 1<<62)}
	dec, _, err := lines.Decode(p)
	if err != nil {
		return nil, err
	}
	p.dec = dec
	return p, nil
}

// open opens t and finds its place. It says whether t can be read now.
func (s *Source) open(t *tail) bool {
	f, err := os.Open(t.path)
	if err != nil {
		if !errors.Is(err, os.ErrNotExist) {
			s.cfg.Metrics.problem("open")
			s.once("open "+t.path, "a file cannot be opened; trying again", err)
		}
		return false
	}
	delete(s.said, "open "+t.path)
	fi, err := f.Stat()
	var magic [4]byte
	n, _ := f.ReadAt(magic[:], 0)
	if err != nil || idOf(fi) != t.id || n < len(magic) { // rotated since the scan, or nothing in it yet
		_ = f.Close()
		return false
	}
	t.f, t.size, t.mtime = f, fi.Size(), fi.ModTime()
	s.opened++
	var ready bool
	if lines.Sniff(magic[:]) == lines.Plain {
		ready = s.openPlain(t)
	} else {
		ready = s.openCompressed(t)
	}
	if !ready {
		s.shut(t)
	} else if t.place.Path != t.path && t.place.Path != "" {
		t.renamed = true // while we did not run
	}
	return ready
}

func (s *Source) openPlain(t *tail) bool {
	best, wait := s.recognise(t)
	switch {
	case best != nil:
		s.begin(t, s.adopt(t, best))
	case wait && s.cfg.Now().Sub(t.mtime) < s.cfg.Grace:
		return false // a copy that is still being made
	default:
		p := &place{Device: t.id.Device, Inode: t.id.Inode}
		if t.fromEnd {
			p = s.endOf(t, p)
		}
		s.begin(t, s.state.add(p))
	}
	return true
}

// recognise finds the furthest place in the file's content. wait says that the file may become one that we know.
func (s *Source) recognise(t *tail) (best *place, wait bool) {
	heads := map[int]mark{}
	for _, p := range s.state.Places {
		if p.Offset == 0 || p.Head.N == 0 || p.Tail.N == 0 {
			continue
		}
		m, ok := heads[p.Head.N]
		if !ok {
			m, _ = markAt(t.f, 0, p.Head.N)
			heads[p.Head.N] = m
		}
		switch {
		case m != p.Head:
		case t.size < p.Offset:
			wait = true
		case holds(t.f, p) && s.better(t, p, best):
			best = p
		}
	}
	return best, wait && best == nil
}

// better prefers the place further on, and of equal ones the file's own.
func (s *Source) better(t *tail, p, than *place) bool {
	if than == nil || p.Offset != than.Offset {
		return than == nil || p.Offset > than.Offset
	}
	return p.Device == t.id.Device && p.Inode == t.id.Inode
}

// adopt makes p the place of t: itself, or a copy if it is another file's.
func (s *Source) adopt(t *tail, p *place) *place {
	own := p.Device == t.id.Device && p.Inode == t.id.Inode
	for _, other := range s.tails {
		own = own && other.place != p
	}
	if own {
		return p
	}
	c := *p
	c.Device, c.Inode = t.id.Device, t.id.Inode
	return s.state.add(&c)
}

// endOf is the place behind the last whole line.
func (s *Source) endOf(t *tail, p *place) *place {
	const chunk = 64 << 10
	end := t.size
	for at := end; at > 0 && end-at <= audit.MaxEventBytes; {
		n := min(chunk, at)
		b := make([]byte, n)
		if _, err := t.f.ReadAt(b, at-n); err != nil {
			return p
		}
		at -= n
		i := bytes.LastIndexByte(b, '\n')
		if i < 0 {
			continue
		}
		p.Offset = at + int64(i) + 1
		size := int(min(markBytes, p.Offset))
		p.Head, _ = markAt(t.f, 0, size)
		p.Tail, _ = markAt(t.f, p.Offset-int64(size), size)
		s.dirty = true
		break
	}
	return p
}

func (s *Source) openCompressed(t *tail) bool {
	for _, p := range s.state.Places {
		if p.Done && p.Device == t.id.Device && p.Inode == t.id.Inode && p.Size == t.size && p.MTime == t.mtime.UnixNano() {
			t.place, t.finished = p, true
			return false
		}
	}
	if t.fromEnd {
		t.place = s.state.add(&place{Path: t.path, Device: t.id.Device, Inode: t.id.Inode})
		s.done(t)
		return false
	}
	p, err := s.recognisePacked(t)
	if err == nil {
		t.packed, err = openPacked(t.f)
	}
	if err == nil {
		t.packed.head, err = headOf(t.packed.dec)
	}
	if err == nil && p.Offset > 0 {
		_, err = io.CopyN(io.Discard, t.packed.dec, p.Offset-min(p.Offset, int64(len(t.packed.head))))
	}
	if err != nil {
		t.place = p
		if t.place == nil {
			t.place = s.state.add(&place{Path: t.path, Device: t.id.Device, Inode: t.id.Inode})
		}
		s.unpacked(t, err)
		return false
	}
	t.place = p
	rest := t.packed.head[min(p.Offset, int64(len(t.packed.head))):]
	t.r = lines.NewReader(io.MultiReader(bytes.NewReader(rest), t.packed.dec), audit.MaxEventBytes, p.Offset)
	return true
}

// headOf reads the first bytes of a stream, fewer if it is short.
func headOf(r io.Reader) ([]byte, error) {
	b := make([]byte, markBytes)
	n, err := io.ReadFull(r, b)
	if errors.Is(err, io.ErrUnexpectedEOF) && n > 0 || errors.Is(err, io.EOF) {
		err = nil // the next read says whether the stream is cut
	}
	return b[:n], err
}

// recognisePacked finds the furthest place in a compressed file's content: its own from an earlier run, or that of the
// plain file that it was.
func (s *Source) recognisePacked(t *tail) (*place, error) {
	p, err := openPacked(t.f)
	if err != nil {
		return nil, err
	}
	defer p.close()
	head, err := headOf(p.dec)
	if err != nil {
		return nil, err
	}
	var best *place
	var known []*place
	for _, c := range s.state.Places {
		if c.Offset == 0 || c.Head.N == 0 || c.Head.N > len(head) || markOf(head[:c.Head.N]) != c.Head {
			continue
		}
		if c.Tail.N > 0 {
			known = append(known, c)
		} else if c.Device == t.id.Device && c.Inode == t.id.Inode && s.better(t, c, best) {
			best = c
		}
	}
	if found := furthest(io.MultiReader(bytes.NewReader(head), p.dec), known); found != nil && (best == nil || found.Offset > best.Offset) {
		best = found
	}
	if best == nil {
		return s.state.add(&place{Path: t.path, Device: t.id.Device, Inode: t.id.Inode}), nil
	}
	c := s.adopt(t, best)
	c.Done = false
	return c, nil
}

// furthest is the last of the places that lies in the stream. A stream that breaks has those before the break.
func furthest(r io.Reader, places []*place) (best *place) {
	slices.SortFunc(places, func(a, b *place) int { return int(min(max(a.Offset-b.Offset, -1), 1)) })
	var window []byte // the bytes before pos
	pos := int64(0)
	for _, p := range places {
		if skip := p.Offset - markBytes - pos; skip > 0 {
			n, err := io.CopyN(io.Discard, r, skip)
			if pos += n; err != nil {
				return best
			}
			window = window[:0]
		}
		b := make([]byte, p.Offset-pos)
		n, err := io.ReadFull(r, b)
		if err != nil && n < len(b) {
			return best
		}
		pos = p.Offset
		window = append(window, b...)
		window = window[max(0, len(window)-markBytes):]
		if len(window) >= p.Tail.N && markOf(window[len(window)-p.Tail.N:]) == p.Tail {
			best = p
		}
	}
	return best
}

// unpacked ends the reading of a compressed file: at its end, at a break that may be healed because the file is still
// being written, or at damage.
func (s *Source) unpacked(t *tail, err error) {
	switch {
	case errors.Is(err, io.EOF):
		s.done(t)
	case errors.Is(err, io.ErrUnexpectedEOF):
		s.cfg.Metrics.problem("incomplete")
		s.once("incomplete "+t.path, "a compressed file ends early; trying again when it changes", fmt.Errorf("%s: %w", t.path, err))
		t.finished = true
	default:
		s.once("corrupt "+t.path, "a compressed file is damaged; the rest of it is lost", fmt.Errorf("%s: %w", t.path, err))
		s.corrupt(t, err)
		s.done(t)
	}
	s.shut(t)
}

// done marks a compressed file as read, so that it is not opened again.
func (s *Source) done(t *tail) {
	t.finished = true
	t.place.Done, t.place.Size, t.place.MTime = true, t.size, t.mtime.UnixNano()
	t.place.Path, t.place.Device, t.place.Inode = t.path, t.id.Device, t.id.Inode
	s.dirty = true
	s.cfg.Progress(t.path, t.size, t.size)
}
