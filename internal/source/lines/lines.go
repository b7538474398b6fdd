// Package lines cuts byte streams into lines, the way that every source of line-wise input needs it: bounded, without
// copying, and aware of half-written last lines. Decode recognises compressed input.
package lines

import (
	"bytes"
	"fmt"
	"io"
)

// KeepBytes is how much of a line that is too long is kept for evidence.
const KeepBytes = 64 << 10

const (
	minBlock = 64 << 10
	maxBlock = 1 << 20
	minRead  = 4 << 10
)

// Line is one line without its newline (and without a carriage return before that).
type Line struct {
	Bytes   []byte // owned by the receiver; shares its block's memory with other lines
	Start   int64  // offset of its first byte in the stream
	Size    int64  // of the whole line, newline excluded
	TooLong bool   // Bytes is only the beginning
}

// Reader cuts a stream into lines. A line longer than its limit is skipped without buffering it. Not safe for concurrent use.
type Reader struct {
	src   io.Reader
	limit int
	block []byte // [start:len] is read and not yet returned; never written below len
	start int
	scan  int   // there is no newline in block[start:scan]
	at    int64 // stream offset of block[start]
	skip  *Line // the too-long line that is being skipped
	size  int   // of the next block
}

// NewReader reads lines of at most limit bytes from src, whose first byte is at the stream offset at.
func NewReader(src io.Reader, limit int, at int64) *Reader {
	return &Reader{src: src, limit: limit, at: at, size: minBlock}
}

// Next gives the next line. Empty lines are given as well. An error of the stream, io.EOF included, is returned as it
// is and loses nothing: a half-written line stays, and Next may be called again when the stream has more.
func (r *Reader) Next() (Line, error) {
	for {
		if n := bytes.IndexByte(r.block[r.scan:], '\n'); n >= 0 {
			if l, ok := r.cut(r.scan+n, 1); ok {
				return l, nil
			}
			continue
		}
		r.scan = len(r.block)
		if r.skip != nil || len(r.block)-r.start > r.limit {
			r.skipOver()
		}
		if err := r.fill(); err != nil {
			return Line{}, err
		}
	}
}

// Buffered says whether Next has more without reading from the stream.
func (r *Reader) Buffered() bool { return bytes.IndexByte(r.block[r.scan:], '\n') >= 0 }

// Rest gives the line at the end that has no newline, if there is one. It is for a stream that has ended.
func (r *Reader) Rest() (Line, bool) {
	if r.skip == nil && len(r.block) == r.start {
		return Line{}, false
	}
	return r.cut(len(r.block), 0)
}

// Offset is the stream offset of the first byte that Next has not returned: where a later Reader goes on.
func (r *Reader) Offset() int64 {
	if r.skip != nil {
		return r.skip.Start
	}
	return r.at
}

// Pending is the unfinished line that Rest would give, without taking it; nil while a too-long line is skipped.
func (r *Reader) Pending() []byte {
	if r.skip != nil {
		return nil
	}
	return r.block[r.start:]
}

// Half is how many bytes of an unfinished line are held in memory.
func (r *Reader) Half() int { return len(r.block) - r.start }

// cut ends the current line at block[end] and passes over sep bytes more.
func (r *Reader) cut(end, sep int) (Line, bool) {
	raw := r.block[r.start:end:end]
	l := Line{Start: r.at, Size: int64(len(raw))}
	r.at += int64(len(raw) + sep)
	r.start = end + sep
	r.scan = r.start
	if r.skip != nil {
		l, r.skip = *r.skip, nil
		l.Size = r.at - int64(sep) - l.Start
		return l, true
	}
	if l.TooLong = len(raw) > r.limit; l.TooLong {
		l.Bytes = bytes.Clone(raw[:min(KeepBytes, len(raw))])
		return l, true
	}
	l.Bytes = bytes.TrimSuffix(raw, []byte{'\r'})
	return l, true
}

// skipOver drops what is buffered of a line that is too long.
func (r *Reader) skipOver() {
	if r.skip == nil {
		keep := min(KeepBytes, len(r.block)-r.start)
		r.skip = &Line{Bytes: bytes.Clone(r.block[r.start : r.start+keep]), Start: r.at, TooLong: true}
	}
	r.at += int64(len(r.block) - r.start)
	r.start = len(r.block)
	r.scan = r.start
}

// fill reads once. The memory below len(block) belongs to lines already given, so a full block is left to them and the
// half line moves to a new one; a long half line doubles it.
func (r *Reader) fill() error {
	if cap(r.block)-len(r.block) < minRead {
		half := r.block[r.start:]
		next := make([]byte, len(half), max(r.size, 2*len(half)))
		copy(next, half)
		r.block, r.scan, r.start = next, r.scan-r.start, 0
		r.size = min(2*r.size, maxBlock)
	}
	for range 100 {
		n, err := r.src.Read(r.block[len(r.block):cap(r.block)])
		r.block = r.block[:len(r.block)+n]
		if n > 0 {
			return nil // an error comes again
		}
		if err != nil {
			return err
		}
	}
	return fmt.Errorf("cannot read: %w", io.ErrNoProgress)
}
