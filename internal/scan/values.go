package scan

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"whodunit/internal/audit"
)

// span is one JSON value of a chunk, and the line of the file on which it begins, from 1.
type span struct {
	from, to int
	line     int64
}

// byValue reports whether a file is not one value a line but an array, an indented document, or objects without line breaks, as Firehose
// writes them.
func byValue(head []byte) bool {
	head = bytes.TrimLeft(bytes.TrimPrefix(head, []byte("\xef\xbb\xbf")), " \t\r\n")
	if len(head) == 0 {
		return false
	}
	line, after, _ := bytes.Cut(head, []byte{'\n'})
	switch line = bytes.TrimRight(line, " \t\r"); {
	case head[0] == '[':
		in := bytes.TrimLeft(head[1:], " \t\r\n")
		return len(in) == 0 || strings.IndexByte("{[]\"", in[0]) >= 0
	case head[0] != '{':
		return false
	}
	if end := audit.SkipValue(line, 0); end >= 0 {
		behind := bytes.TrimLeft(line[end:], " \t")
		return len(behind) > 0 && behind[0] == '{'
	}
	// A torn line ends anywhere and is followed by one that begins anew; an indented document goes on within.
	if last := line[len(line)-1]; last == '{' || last == '[' {
		return true
	}
	after = bytes.TrimLeft(after, " \t\r\n")
	return len(after) > 0 && (after[0] == '"' || after[0] == '}' || after[0] == ']')
}

// cutValues sends whole JSON values to the workers, those in arrays one by one. What a value lacks at the end of a chunk is copied to the
// next; at the end of the file it goes to a worker as it is.
func (p *pipeline) cutValues(ctx context.Context, how form, r io.Reader) error {
	var half []byte
	line := int64(1)
	for first, end := true, false; !end; first = false {
		c, err := p.next(ctx, how)
		if err != nil {
			return err
		}
		c.first = first
		c.data = append(c.data[:0], half...)
		var rest int
		begin := line
		for size := max(chunkBytes, 2*len(half)); ; size *= 2 {
			if end, err = more(r, c, size); err != nil {
				p.send(c)
				return err
			}
			rest, line = c.spans(begin, end)
			if end || len(c.values) > 0 || len(c.data)-rest > p.o.MaxLine {
				break
			}
		}
		half = append(half[:0], c.data[rest:]...)
		if c.data = c.data[:rest]; len(half) > p.o.MaxLine { // nobody can tell where it would end
			c.items = append(c.items, item{line: line, raw: bytes.Clone(half[:min(len(half), showBytes)]), err: fmt.Errorf("%w: a value of more than %d bytes; the rest of the file is not read", ErrLong, p.o.MaxLine)})
			c.full, c.skipped, end = c.full+1, int64(len(half)), true
		}
		p.send(c)
	}
	return nil
}

// more reads until a chunk has size bytes, or the input ends.
func more(r io.Reader, c *chunk, size int) (end bool, err error) {
	if cap(c.data) < size {
		c.data = append(make([]byte, 0, size), c.data...)
	}
	n, err := io.ReadFull(r, c.data[len(c.data):size])
	c.data = c.data[:len(c.data)+n]
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return true, ended(r)
	}
	return false, err
}

// spans finds the values in a chunk, whose data begins on that line, and gives the place behind the last whole one with its line. At the
// end of the file nothing is left over.
func (c *chunk) spans(line int64, end bool) (rest int, at int64) {
	c.values = c.values[:0]
	counted, i := 0, 0
	if bytes.HasPrefix(c.data, []byte("\xef\xbb\xbf")) {
		i = 3
	}
	for {
		for i < len(c.data) && (c.data[i] <= ' ' || strings.IndexByte("[],", c.data[i]) >= 0) {
			i++
		}
		line += int64(bytes.Count(c.data[counted:i], []byte{'\n'}))
		if i == len(c.data) {
			return i, line
		}
		to := -1
		if c.data[i] == '{' || c.data[i] == '"' {
			to = audit.SkipValue(c.data, i)
		} else if n := bytes.IndexAny(c.data[i:], "{\n"); n > 0 {
			to = i + n
		}
		if to < 0 && end {
			to = len(c.data)
		}
		if to < 0 {
			return i, line
		}
		c.values = append(c.values, span{i, to, line})
		line += int64(bytes.Count(c.data[i:to], []byte{'\n'}))
		i, counted = to, to
	}
}
