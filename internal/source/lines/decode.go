package lines

import (
	"bufio"
	"compress/gzip"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
)

// Format is how a stream is compressed.
type Format string

// The formats that Decode recognises.
const (
	Plain Format = "plain"
	Gzip  Format = "gzip"
	Zstd  Format = "zstd"
)

// maxWindow bounds the memory of one zstd decoder. `zstd --long` uses 128 MiB.
const maxWindow = 128 << 20

// Sniff recognises a format by its first bytes, of which four are enough: gzip by RFC 1952 section 2.3.1, zstd frames
// and skippable frames by RFC 8878 sections 3.1.1 and 3.1.2. No text begins like that.
func Sniff(b []byte) Format {
	switch {
	case len(b) >= 2 && b[0] == 0x1f && b[1] == 0x8b:
		return Gzip
	case len(b) >= 4 && b[0] == 0x28 && b[1] == 0xb5 && b[2] == 0x2f && b[3] == 0xfd,
		len(b) >= 4 && b[0]&0xf0 == 0x50 && b[1] == 0x2a && b[2] == 0x4d && b[3] == 0x18:
		return Zstd
	}
	return Plain
}

// Decode gives the plain bytes of r, which may be plain, gzip or zstd (several members or frames too). Close frees the
// decoder and leaves r open. A stream that ends early gives io.ErrUnexpectedEOF.
func Decode(r io.Reader) (io.ReadCloser, Format, error) {
	b := bufio.NewReaderSize(r, 64<<10)
	magic, err := b.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, Plain, fmt.Errorf("cannot read the first bytes: %w", err)
	}
	switch f := Sniff(magic); f {
	case Gzip:
		z, err := gzip.NewReader(b)
		if err != nil {
			return nil, f, fmt.Errorf("cannot read gzip header: %w", early(err))
		}
		return z, f, nil
	case Zstd:
		z, err := ZstdReader(b)
		return z, f, err
	}
	return io.NopCloser(b), Plain, nil
}

func early(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// ZstdReader decodes zstd on the caller's goroutine, with its memory bounded.
func ZstdReader(r io.Reader) (io.ReadCloser, error) {
	z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
	if err != nil {
		return nil, fmt.Errorf("cannot read zstd: %w", early(err))
	}
	return z.IOReadCloser(), nil
}
