package wal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"

	"whodunit/internal/audit"
)

const (
	codecZstd    = 1 // read, no longer written
	codecS2      = 2
	batchVersion = 1
	// maxDecoded bounds what one payload may expand to: one event of the largest size and its batch's head.
	maxDecoded = audit.MaxEventBytes + audit.MaxBatchBytes + 1<<20
)

// Codec turns records into payloads and back. It is safe for concurrent use.
type Codec struct {
	dec  *zstd.Decoder
	bufs sync.Pool
}

// NewCodec makes a codec that decompresses in so many goroutines at once.
func NewCodec(workers int) (*Codec, error) {
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(workers), zstd.WithDecoderMaxMemory(maxDecoded))
	if err != nil {
		return nil, fmt.Errorf("cannot make zstd decoder: %w", err)
	}
	return &Codec{dec: dec}, nil
}

// Close releases the codec's workers.
func (c *Codec) Close() { c.dec.Close() }

// Encode makes the payload of records, which must share Source and IngestedMicros. Their sequence numbers are not in it: the
// frame has them.
func (c *Codec) Encode(position string, records []audit.Record) []byte {
	buf, _ := c.bufs.Get().(*[]byte)
	if buf == nil {
		buf = new([]byte)
	}
	b := append((*buf)[:0], batchVersion)
	b = binary.AppendVarint(b, records[0].IngestedMicros)
	b = appendString(b, records[0].Source)
	b = appendString(b, position)
	clusters := map[string]uint64{}
	var names []string
	for i := range records {
		name := records[i].Event.Cluster
		if _, ok := clusters[name]; !ok {
			clusters[name] = uint64(len(names))
			names = append(names, name)
		}
	}
	b = binary.AppendUvarint(b, uint64(len(names)))
	for _, n := range names {
		b = appendString(b, n)
	}
	b = binary.AppendUvarint(b, uint64(len(records)))
	for i := range records {
		r := &records[i]
		b = binary.AppendUvarint(b, clusters[r.Event.Cluster])
		b = append(b, byte(r.Event.Flags))
		b = append(b, r.Identity[:]...)
		b = binary.AppendUvarint(b, uint64(len(r.Event.Raw)))
	}
	for i := range records {
		b = append(b, records[i].Event.Raw...)
	}
	n := len(b)
	b = slices.Grow(b, 1+s2.MaxEncodedLen(n))
	out := append(b[n:], codecS2)
	out = bytes.Clone(out[:1+len(s2.Encode(out[1:cap(out)], b[:n]))])
	if cap(b) <= 4*audit.MaxBatchBytes {
		*buf = b
		c.bufs.Put(buf)
	}
	return out
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// Decode makes records of a frame's payload. An event that no longer parses (a newer rule, an older writer) fails the batch
// with ErrDamaged.
func (c *Codec) Decode(f Frame, payload []byte) ([]audit.Record, error) {
	b, err := c.decompress(payload)
	if err != nil {
		return nil, fmt.Errorf("cannot read batch %d: %w: %w", f.Seq, err, ErrDamaged)
	}
	r := reader{b: b}
	records := r.batch()
	if r.err == nil && len(records) != int(f.Count) {
		r.err = errors.New("the frame says another count")
	}
	for i := range records {
		rec := &records[i]
		rec.Seq = f.Seq + uint64(i)
		if r.err != nil {
			break
		}
		ev, err := audit.Parse(rec.Event.Cluster, rec.Event.Raw)
		if err != nil {
			r.err = err
		}
		ev.Flags = rec.Event.Flags
		rec.Event = ev
	}
	if r.err != nil {
		return nil, fmt.Errorf("cannot read batch %d: %w: %w", f.Seq, r.err, ErrDamaged)
	}
	return records, nil
}

var errCodec = errors.New("unknown codec or size")

func (c *Codec) decompress(payload []byte) ([]byte, error) {
	if len(payload) == 0 {
		return nil, errCodec
	}
	switch codec, b := payload[0], payload[1:]; codec {
	case codecZstd:
		return c.dec.DecodeAll(b, nil)
	case codecS2:
		n, err := s2.DecodedLen(b)
		if err != nil || n > maxDecoded {
			return nil, errors.Join(errCodec, err)
		}
		return s2.Decode(nil, b)
	}
	return nil, errCodec
}

// reader takes a decoded payload apart; the first error sticks.
type reader struct {
	b   []byte
	err error
}

var errShort = errors.New("batch is cut short")

func (r *reader) take(n uint64) []byte {
	if r.err != nil || n > uint64(len(r.b)) {
		r.b, r.err = nil, errors.Join(r.err, errShort)
		return nil
	}
	out := r.b[:n:n]
	r.b = r.b[n:]
	return out
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.take(uint64(len(r.b)) + 1)
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) varint() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.take(uint64(len(r.b)) + 1)
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) string() string { return string(r.take(r.uvarint())) }

func (r *reader) batch() []audit.Record {
	if v := r.take(1); r.err == nil && v[0] != batchVersion {
		r.err = fmt.Errorf("unknown batch version %d", v[0])
	}
	ingested, source := r.varint(), r.string()
	_ = r.string() // position: evidence for people, shown by `journal info`
	n := r.uvarint()
	if r.err != nil || n > uint64(len(r.b)) {
		r.err = errors.Join(r.err, errShort)
		return nil
	}
	clusters := make([]string, n)
	for i := range clusters {
		clusters[i] = r.string()
	}
	n = r.uvarint()
	if r.err != nil || n > uint64(len(r.b)) {
		r.err = errors.Join(r.err, errShort)
		return nil
	}
	records := make([]audit.Record, n)
	sizes := make([]uint64, n)
	for i := range records {
		rec := &records[i]
		c := r.uvarint()
		if flags := r.take(1); len(flags) == 1 {
			rec.Event.Flags = audit.Flags(flags[0])
		}
		copy(rec.Identity[:], r.take(uint64(len(rec.Identity))))
		sizes[i] = r.uvarint()
		if c >= uint64(len(clusters)) {
			r.err = errors.Join(r.err, errShort)
			return nil
		}
		rec.Event.Cluster, rec.Source, rec.IngestedMicros = clusters[c], source, ingested
	}
	for i := range records {
		records[i].Event.Raw = r.take(sizes[i])
	}
	return records
}
