package file

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"whodunit/internal/audit"
	"whodunit/internal/envelope"
	"whodunit/internal/source"
	"whodunit/internal/source/lines"
)

// tail is one file.
type tail struct {
	id      fileID
	path    string
	size    int64
	mtime   time.Time // at the last scan
	checked time.Time // mtime at the last check of an open file
	changed time.Time // when we last saw it grow, renamed, or gone
	fromEnd bool      // there before our very first start, whose content is not wanted

	renamed, gone bool
	finished      bool // read to its end and closed; it opens again when its size or time changes

	f      *os.File // nil: closed
	place  *place   // nil: not recognised yet
	r      *lines.Reader
	plain  *plainReader // of r; nil if compressed
	packed *packed      // of r; nil if plain
	first  lines.Line   // of the batch
	held   *lines.Line  // read, but did not fit into the last batch
	ended  bool         // what is buffered is the last of a content that was truncated away
}

// plainReader reads on in a file that may grow.
type plainReader struct {
	f     *os.File
	pos   int64
	last  []byte // the up to 1,024 bytes before pos, as they were read
	ended bool
}

func (p *plainReader) Read(b []byte) (int, error) {
	if p.ended {
		return 0, io.EOF
	}
	n, err := p.f.ReadAt(b, p.pos)
	if n == 0 {
		return 0, err
	}
	p.pos += int64(n)
	p.last = append(p.last, b[max(0, n-markBytes):n]...)
	p.last = append(p.last[:0], p.last[max(0, len(p.last)-markBytes):]...)
	return n, nil
}

// intact says whether the file still has what was read of it: before the reader, at the beginning of the line that is
// half read, at the beginning of the batch, and before the place. If not, it was truncated, and may have grown since,
// perhaps between two reads of one batch.
func (t *tail) intact() bool {
	half, first := t.r.Pending(), t.first.Bytes
	half, first = half[:min(len(half), markBytes)], first[:min(len(first), markBytes)]
	return same(t.f, t.plain.last, t.plain.pos-int64(len(t.plain.last))) && same(t.f, half, t.r.Offset()) &&
		same(t.f, first, t.first.Start) && holds(t.f, t.place)
}

func same(f io.ReaderAt, want []byte, at int64) bool {
	b := make([]byte, len(want))
	n, _ := f.ReadAt(b, at)
	return n == len(want) && bytes.Equal(b, want)
}

// step reads one batch of t and delivers it. It says whether there is more to read now. The error is ctx's.
func (s *Source) step(ctx context.Context, t *tail, recent bool, emit source.Emit) (more bool, err error) {
	if t.f == nil && (t.finished || s.opened >= maxOpen && !recent || !s.open(t)) {
		return false, nil
	}
	s.check(t)
	over := t.ended
	b := &lines.Batch{Source: s.cfg.Name, Path: t.path, Cluster: s.cfg.Cluster, Decode: s.cfg.Decode, Reject: s.cfg.Reject, Skipped: s.cfg.Metrics.skip}
	next, rerr := t.fill(b)
	eof := errors.Is(rerr, io.EOF)
	if eof || t.broken(rerr) {
		if l, ok := s.rest(t, rerr); ok {
			b.Add(l)
			next = l.Start + l.Size
		}
	}
	if !b.Empty() {
		n := b.Bytes()
		if err := b.Deliver(ctx, emit, s.cfg.Backoff); err != nil {
			return false, err
		}
		s.cfg.Metrics.bytes.Add(float64(n))
		s.advance(t, next)
		t.first = lines.Line{} // it keeps its block alive
	}
	if rerr == nil || t.ended && !over { // ended while we read: its last line comes first
		return true, nil
	}
	return s.after(t, rerr, recent), nil
}

// fill puts lines into b until it is full (and returns nil) or there are none now.
func (t *tail) fill(b *lines.Batch) (next int64, err error) {
	t.first = lines.Line{}
	add := func(l lines.Line) {
		if len(t.first.Bytes) == 0 {
			t.first = l
		}
		b.Add(l)
		next = l.Start + l.Size + 1
	}
	if t.held != nil {
		add(*t.held)
		t.held = nil
	}
	for {
		l, err := t.r.Next()
		if err != nil {
			return next, err
		}
		if !b.Fits(l) {
			t.held = &l
			return next, nil
		}
		add(l)
	}
}

// broken says that a compressed file cannot be read on, as opposed to not yet.
func (t *tail) broken(err error) bool {
	return err != nil && t.packed != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF)
}

// rest gives the last line without a newline if it is not going to get one: its content is over; or, after a while, if
// it is a complete event.
func (s *Source) rest(t *tail, err error) (lines.Line, bool) {
	idle := s.cfg.Now().Sub(t.changed) >= s.cfg.Grace
	switch {
	case t.ended, t.packed != nil, idle && (t.renamed || t.gone), idle && s.complete(t.r.Pending()):
		return t.r.Rest()
	}
	return lines.Line{}, false
}

func (s *Source) complete(half []byte) bool {
	if !bytes.HasSuffix(bytes.TrimRight(half, " \t\r"), []byte{'}'}) || len(half) > audit.MaxEventBytes {
		return false
	}
	r, err := s.cfg.Decode(s.cfg.Cluster, half)
	return err == nil && len(r.Events) > 0 && len(r.Rejects) == 0
}

// after decides what comes after the end of what can be read now.
func (s *Source) after(t *tail, rerr error, recent bool) (more bool) {
	now := s.cfg.Now()
	idle := now.Sub(t.changed) >= s.cfg.Grace
	switch {
	case t.ended:
		s.begin(t, s.state.add(&place{Path: t.path, Device: t.id.Device, Inode: t.id.Inode}))
		return true
	case t.packed != nil:
		s.unpacked(t, rerr)
	case !errors.Is(rerr, io.EOF):
		s.cfg.Metrics.problem("read")
		s.once("read "+t.path, "a file cannot be read; trying again", rerr)
		s.shut(t)
		t.place = nil
	case t.gone && idle:
		s.shut(t)
		delete(s.tails, t.id)
	case !recent && now.Sub(t.mtime) > idleClose && t.r.Half() == 0:
		s.shut(t)
		t.finished = true
	default:
		delete(s.said, "read "+t.path)
	}
	return false
}

// check notices that a plain file grew, or was truncated: it is shorter, or what stood before our place is not there.
func (s *Source) check(t *tail) {
	if t.plain == nil || t.ended {
		return
	}
	fi, err := t.f.Stat()
	if err != nil || fi.Size() == t.size && fi.ModTime().Equal(t.checked) && t.plain.pos <= t.size {
		return
	}
	if fi.Size() != t.size {
		t.changed = s.cfg.Now()
	}
	t.size, t.checked = fi.Size(), fi.ModTime()
	if t.size < t.plain.pos || !t.intact() {
		s.end(t)
	}
}

// end stops reading a content that is gone. What is buffered of it is still delivered.
func (s *Source) end(t *tail) {
	s.cfg.Metrics.rotated.WithLabelValues("truncated").Inc()
	s.cfg.Logger.Debug("file truncated", "path", t.path, "read", t.plain.pos, "size", t.size)
	t.ended, t.plain.ended = true, true
}

// holds says whether the bytes before p's place are still those that were read.
func holds(f io.ReaderAt, p *place) bool {
	if p.Tail.N == 0 {
		return true
	}
	m, ok := markAt(f, p.Offset-int64(p.Tail.N), p.Tail.N)
	return ok && m == p.Tail
}

func markAt(f io.ReaderAt, at int64, n int) (mark, bool) {
	b := make([]byte, n)
	if got, err := f.ReadAt(b, at); got < n && err != nil {
		return mark{}, false
	}
	return markOf(b), true
}

// advance moves the place behind what was delivered. The place of a content that was truncated away stays: a copy of it
// may be found, and is known by it.
func (s *Source) advance(t *tail, next int64) {
	if t.ended {
		return
	}
	p := t.place
	head, tailMark := p.Head, mark{}
	if t.plain != nil {
		n := int(min(markBytes, next))
		var ok, ok2 bool
		tailMark, ok = markAt(t.f, next-int64(n), n)
		if ok2 = head.N == markBytes; !ok2 {
			head, ok2 = markAt(t.f, 0, n)
		}
		if !ok || !ok2 || !t.intact() { // asked last: so the marks are of what was read. Delivering may have taken long
			s.end(t)
			return
		}
	} else if head.N < markBytes {
		head = markOf(t.packed.head[:min(int64(len(t.packed.head)), next)])
	}
	p.Offset, p.Head, p.Tail, p.Path = next, head, tailMark, t.path
	p.Device, p.Inode = t.id.Device, t.id.Inode
	s.dirty = true
	done, total := next, t.size
	if t.packed != nil {
		done = t.packed.read
	}
	s.cfg.Progress(t.path, min(done, total), total)
}

// begin reads t from p's place on.
func (s *Source) begin(t *tail, p *place) {
	t.place, t.ended, t.held, t.first = p, false, nil, lines.Line{}
	t.plain = &plainReader{f: t.f, pos: p.Offset, last: make([]byte, p.Tail.N)}
	if n, _ := t.f.ReadAt(t.plain.last, p.Offset-int64(p.Tail.N)); markOf(t.plain.last[:n]) != p.Tail {
		t.plain.last = nil // truncated this moment; check notices it by p
	}
	t.r = lines.NewReader(t.plain, audit.MaxEventBytes, p.Offset)
}

// shut closes t's file.
func (s *Source) shut(t *tail) {
	if t.f == nil {
		return
	}
	if t.packed != nil {
		t.packed.close()
	}
	_ = t.f.Close()
	s.opened--
	t.f, t.r, t.plain, t.packed, t.held, t.ended = nil, nil, nil, nil, nil, false
}

// corrupt keeps aside that a compressed file is damaged.
func (s *Source) corrupt(t *tail, err error) {
	s.cfg.Metrics.problem("corrupt")
	s.cfg.Reject(source.Rejected{
		Origin: audit.Origin{Source: s.cfg.Name, Position: fmt.Sprintf("%s:%d-", t.path, t.place.Offset)},
		Reason: envelope.ReasonEnvelope, Err: fmt.Errorf("cannot decompress: %w", err), Size: t.size,
	})
}
