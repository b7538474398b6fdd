package scan

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"whodunit/internal/detect"
	"whodunit/internal/envelope"
	"whodunit/internal/source/lines"
)

const (
	chunkBytes = 1 << 20
	// headBytes of a file say how it is laid out.
	headBytes = 256 << 10
	// showBytes of a bad line are kept to be shown, and showBad of a chunk's bad lines: a file of garbage must not fill the memory.
	showBytes = 200
	showBad   = 1000
)

// chunk is some whole lines, or JSON values, of one file on their way through the pipeline. Its memory is used again.
type chunk struct {
	file    string
	first   bool   // of its file
	wrapped bool   // most of the file is no plain events: envelopes are looked for first
	values  []span // of data, where the file is not one value a line
	data    []byte
	long    bool  // data is the beginning of a line that is too long
	skipped int64 // bytes of it that are not in data
	done    chan struct{}

	// What the worker found.
	items  []item
	hits   []detect.Hit
	events int64
	lines  int64
	full   int64 // lines that are not empty
	skips  map[string]int64
	bads   int
	unseen map[string]int64 // bad lines beyond showBad, by reason
}

func (c *chunk) reset() {
	clear(c.items)
	data := c.data[:0]
	if cap(data) > 16*chunkBytes { // a line of extreme length leaves nothing behind
		data = nil
	}
	*c = chunk{data: data, done: c.done, values: c.values[:0], items: c.items[:0], hits: c.hits[:0]}
}

// counted tells how many bytes were read.
type counted struct {
	io.Reader
	tell func(int64)
}

func (c counted) Read(b []byte) (int, error) {
	n, err := c.Reader.Read(b)
	c.tell(int64(n))
	return n, err
}

// read cuts one input into chunks.
func (p *pipeline) read(ctx context.Context, in Input) error {
	f, err := in.Open()
	if err != nil {
		return fmt.Errorf("cannot read %s: %w", in.Name, err)
	}
	defer f.Close()
	plain, _, err := lines.Decode(counted{f, func(n int64) { p.o.Progress(in.Name, n) }})
	if err != nil {
		return fmt.Errorf("cannot read %s: %w", in.Name, err)
	}
	defer plain.Close()
	head := make([]byte, headBytes)
	n, err := io.ReadFull(plain, head)
	head = head[:n]
	rest := io.MultiReader(bytes.NewReader(head), plain) // an error comes again
	how := form{name: in.Name, wrapped: !p.o.Generic && wrapped(head)}
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		rest = io.MultiReader(bytes.NewReader(head), failed{err})
	}
	cut := p.cut
	if byValue(head) {
		cut = p.cutValues
	}
	if err := cut(ctx, how, rest); err != nil && ctx.Err() == nil {
		return fmt.Errorf("cannot read %s: %w", in.Name, err)
	}
	return ctx.Err()
}

// form is what is known of a file.
type form struct {
	name    string
	wrapped bool
}

// failed is a reader that has failed.
type failed struct{ err error }

func (f failed) Read([]byte) (int, error) { return 0, f.err }

// wrapped reports whether a file holds something else than plain events, by its first lines.
func wrapped(head []byte) bool {
	const enough = 8
	n := 0
	for whole := len(head) < headBytes; n < enough && len(head) > 0; {
		line, rest, ended := bytes.Cut(head, []byte{'\n'})
		if head = rest; len(bytes.TrimSpace(line)) == 0 || !ended && !whole {
			continue
		}
		if n++; envelope.Plain(line) {
			return false
		}
	}
	return n > 0
}

// cut sends whole lines to the workers. What a line lacks at the end of a chunk is copied to the next.
func (p *pipeline) cut(ctx context.Context, how form, r io.Reader) error {
	var half []byte // the beginning of a line
	first := true
	for {
		c, err := p.next(ctx, how)
		if err != nil {
			return err
		}
		c.first = first
		c.data = append(c.data[:0], half...)
		half = half[:0]
		end, err := fill(r, c, p.o.MaxLine)
		if err != nil {
			p.send(c)
			return err
		}
		first = false
		if !end {
			n := bytes.LastIndexByte(c.data, '\n') + 1
			if n == 0 { // a line that is longer than allowed: what follows of it is read and dropped
				c.items = append(c.items, item{line: 1, raw: bytes.Clone(c.data[:min(len(c.data), showBytes)]), err: fmt.Errorf("%w: more than %d bytes", ErrLong, p.o.MaxLine)})
				c.lines, c.full = 1, 1
				if half, c.skipped, end, err = dropLine(r, half); err != nil {
					p.send(c)
					return err
				}
				c.long = true
				c.skipped += int64(len(c.data))
				c.data = c.data[:0]
			} else {
				half = append(half, c.data[n:]...)
				c.data = c.data[:n]
			}
		}
		p.send(c)
		if end {
			return nil
		}
	}
}

// next is an unused chunk.
func (p *pipeline) next(ctx context.Context, how form) (*chunk, error) {
	select {
	case c := <-p.free:
		c.file, c.wrapped = how.name, how.wrapped
		return c, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// send gives a chunk to a worker and to the judge. There is room for every chunk that exists.
func (p *pipeline) send(c *chunk) {
	p.jobs <- c
	p.order <- c
}

// fill reads until a chunk is full and holds a whole line, or as much as a line may have. end: the input has ended.
func fill(r io.Reader, c *chunk, maxLine int) (end bool, err error) {
	if cap(c.data) < chunkBytes {
		c.data = append(make([]byte, 0, chunkBytes), c.data...)
	}
	for {
		n, err := io.ReadFull(r, c.data[len(c.data):cap(c.data)])
		fresh := c.data[len(c.data) : len(c.data)+n]
		c.data = c.data[:len(c.data)+n]
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return true, ended(r)
		case err != nil:
			return false, err
		case bytes.IndexByte(fresh, '\n') >= 0:
			return false, nil
		case len(c.data) > maxLine:
			return false, nil
		}
		c.data = append(make([]byte, 0, min(2*cap(c.data), max(maxLine+chunkBytes, cap(c.data)+1))), c.data...)
	}
}

// ended tells a stream that has ended from one that breaks off in the middle of a compressed block: asked again, that one says so.
func ended(r io.Reader) error {
	var b [1]byte
	if _, err := r.Read(b[:]); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// dropLine reads up to the end of a line, and gives what was read behind it.
func dropLine(r io.Reader, half []byte) (rest []byte, dropped int64, end bool, err error) {
	buf := make([]byte, chunkBytes)
	for {
		n, err := r.Read(buf)
		if i := bytes.IndexByte(buf[:n], '\n'); i >= 0 {
			return append(half[:0], buf[i+1:n]...), dropped + int64(i+1), false, nil
		}
		dropped += int64(n)
		if errors.Is(err, io.EOF) {
			return half[:0], dropped, true, nil
		}
		if err != nil {
			return half, dropped, false, err
		}
	}
}
