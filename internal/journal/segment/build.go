package segment

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
	"runtime"
	"slices"
	"strings"

	"github.com/cespare/xxhash/v2"
	"github.com/klauspost/compress/zstd"
	"github.com/parquet-go/parquet-go/bloom"
	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"

	"whodunit/internal/audit"
)

const (
	groupBytes   = 64 << 20  // raw bytes of a row group at most, but for a single larger event
	pageBytes    = 256 << 10 // raw bytes of a page of the raw column at least, but for the last
	bloomBits    = 12        // of the Parquet bloom filters, for each distinct value: one false positive in 200
	maxBound     = 64        // bytes of a column's minimum and maximum
	maxDictShare = 2         // a dictionary of more than rows/maxDictShare values is given up for plain values
)

// builder makes the bytes of one group.
type builder struct {
	z    *zstd.Encoder
	body []byte
	spec [numColumns]columnSpec
	rows []row
	g    group
	buf  []byte // a page

	packed []byte // a page, compressed

	pageBytes int // of raw; tests want small ones
}

func newBuilder() (*builder, error) {
	z, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderCRC(true))
	if err != nil {
		return nil, err
	}
	return &builder{z: z, spec: schema(), pageBytes: pageBytes}, nil
}

// build encodes records, which it does not change, and gives the group; its bytes are in b.body until the next call.
func (b *builder) build(records []audit.Record) (*group, error) {
	b.body, b.g = b.body[:0], group{rows: len(records), unique: true}
	b.rows = slices.Grow(b.rows[:0], len(records))
	for i := range records {
		b.rows = append(b.rows, derive(&records[i]))
		yield(i)
	}
	b.describe()
	b.body = slices.Grow(b.body, int(b.g.rawBytes/8))
	slices.SortFunc(b.rows, func(x, y row) int {
		return cmp.Or(strings.Compare(x.Event.ObjectRef.Resource, y.Event.ObjectRef.Resource), strings.Compare(x.Event.Verb, y.Event.Verb),
			cmp.Compare(x.Event.Micros(), y.Event.Micros()), cmp.Compare(x.Seq, y.Seq))
	})
	for c := range numColumns {
		if err := b.column(c); err != nil {
			return nil, fmt.Errorf("column %s: %w", b.spec[c].name, err)
		}
	}
	for c := range numColumns {
		if b.spec[c].bloom {
			if err := b.bloom(c); err != nil {
				return nil, err
			}
		}
	}
	b.words()
	if err := b.spares(); err != nil {
		return nil, err
	}
	b.g.size = int64(len(b.body))
	g := b.g
	return &g, nil
}

// yield lets others run now and then: building takes a second of processor time in one go, and somebody may be waiting for an
// acknowledgement on a machine with few cores.
func yield(i int) {
	if i%32 == 0 {
		runtime.Gosched()
	}
}

func (b *builder) describe() {
	g := &b.g
	seen := make(map[audit.Identity]struct{}, len(b.rows))
	for i := range b.rows {
		r := &b.rows[i]
		if i == 0 || r.Seq < g.minSeq {
			g.minSeq = r.Seq
		}
		g.maxSeq = max(g.maxSeq, r.Seq)
		g.rawBytes += int64(len(r.Event.Raw))
		g.maxIngested = max(g.maxIngested, r.IngestedMicros)
		seen[r.Identity] = struct{}{}
		if r.irregular {
			g.irregular++
		}
		t := r.Event.Micros()
		if t == 0 {
			g.untimed++
			continue
		}
		if i == g.untimed || t < g.minMicros {
			g.minMicros = t
		}
		if i == g.untimed || t > g.maxMicros {
			g.maxMicros = t
		}
	}
	g.unique = len(seen) == len(b.rows)
}

func (b *builder) column(c Column) error {
	s := &b.spec[c]
	switch s.kind {
	case kindInt, kindTime:
		return b.numbers(c)
	case kindCode, kindText:
		return b.texts(c)
	case kindList:
		return b.lists(c)
	case kindFixed:
		b.buf = b.buf[:0]
		for i := range b.rows {
			b.buf = append(b.buf, s.text(&b.rows[i])...)
		}
		return b.data(c, format.Plain, len(b.rows), len(b.rows))
	}
	return b.raw()
}

func (b *builder) numbers(c Column) error {
	s := &b.spec[c]
	vs := make([]int64, 0, len(b.rows))
	present := make([]uint32, 0, len(b.rows))
	for i := range b.rows {
		v := s.num(&b.rows[i])
		if s.kind == kindTime {
			if v == 0 {
				present = append(present, 0)
				continue
			}
			present = append(present, 1)
		}
		vs = append(vs, v)
	}
	b.buf = b.buf[:0]
	if s.kind == kindTime {
		b.buf = levels(b.buf, present)
	}
	var err error
	if b.buf, err = deltas(b.buf, vs); err != nil {
		return err
	}
	return b.data(c, format.DeltaBinaryPacked, len(b.rows), len(b.rows))
}

// dictionary numbers the distinct values in the order in which they come.
type dictionary struct {
	values []string
	index  map[string]uint32
	last   uint32
}

func (d *dictionary) of(s string) uint32 {
	if len(d.values) > 0 && d.values[d.last] == s {
		return d.last
	}
	i, ok := d.index[s]
	if !ok {
		if d.index == nil {
			d.index = make(map[string]uint32)
		}
		i = uint32(len(d.values))
		d.values = append(d.values, s)
		d.index[s] = i
	}
	d.last = i
	return i
}

// valid makes text of events valid UTF-8, as Parquet wants it; such rows are irregular, so nothing rests on it. Names that we
// give (source, cluster) stay as they are.
func (b *builder) valid(c Column, r *row, s string) string {
	if r.irregular && !b.spec[c].twice && b.spec[c].kind != kindCode {
		return strings.ToValidUTF8(s, "\uFFFD")
	}
	return s
}

func (b *builder) texts(c Column) error {
	s := &b.spec[c]
	var d dictionary
	idx := make([]uint32, 0, len(b.rows))
	for i := range b.rows {
		idx = append(idx, d.of(b.valid(c, &b.rows[i], s.text(&b.rows[i]))))
	}
	b.bounds(c, d.values)
	if s.kind == kindText && len(d.values) > 16 && len(d.values) > len(b.rows)/maxDictShare {
		b.buf = b.buf[:0]
		for _, i := range idx {
			b.buf = plain(b.buf, d.values[i])
		}
		return b.data(c, format.Plain, len(b.rows), len(b.rows))
	}
	if err := b.dict(c, d.values); err != nil {
		return err
	}
	width := widthOf(len(d.values))
	b.buf = hybrid(append(b.buf[:0], byte(width)), idx, width)
	return b.data(c, format.RLEDictionary, len(b.rows), len(b.rows))
}

func (b *builder) lists(c Column) error {
	s := &b.spec[c]
	var d dictionary
	var idx, reps, defs []uint32
	for i := range b.rows {
		vs := s.list(&b.rows[i])
		if len(vs) == 0 {
			reps, defs = append(reps, 0), append(defs, 0)
			continue
		}
		for j, v := range vs {
			reps, defs = append(reps, uint32(min(j, 1))), append(defs, 1)
			idx = append(idx, d.of(b.valid(c, &b.rows[i], v)))
		}
	}
	if err := b.dict(c, d.values); err != nil {
		return err
	}
	width := widthOf(len(d.values))
	b.buf = levels(levels(b.buf[:0], reps), defs)
	b.buf = hybrid(append(b.buf, byte(width)), idx, width)
	return b.data(c, format.RLEDictionary, len(defs), len(b.rows))
}

func (b *builder) bounds(c Column, values []string) {
	if b.spec[c].kind != kindText || len(values) == 0 {
		return
	}
	lo, hi := slices.Min(values), slices.Max(values)
	if len(lo) <= maxBound && len(hi) <= maxBound {
		ch := &b.g.columns[c]
		ch.min, ch.max, ch.bounded = strings.Clone(lo), strings.Clone(hi), true
	}
}

func (b *builder) dict(c Column, values []string) error {
	b.buf = b.buf[:0]
	for _, v := range values {
		if b.spec[c].kind == kindCode {
			b.buf = append(b.buf, v...)
		} else {
			b.buf = plain(b.buf, v)
		}
	}
	h := format.PageHeader{Type: format.DictionaryPage,
		DictionaryPageHeader: thrift.New(format.DictionaryPageHeader{NumValues: int32(len(values)), Encoding: format.Plain})}
	p, err := b.page(h)
	if err != nil {
		return err
	}
	p.values = len(values)
	b.g.columns[c].dict = &p
	return nil
}

// data writes b.buf as one data page.
func (b *builder) data(c Column, e format.Encoding, values, rows int) error {
	h := format.PageHeader{Type: format.DataPage, DataPageHeader: thrift.New(format.DataPageHeader{NumValues: int32(values),
		Encoding: e, DefinitionLevelEncoding: format.RLE, RepetitionLevelEncoding: format.RLE})}
	p, err := b.page(h)
	if err != nil {
		return err
	}
	p.values, p.rows = values, rows
	b.g.columns[c].pages = append(b.g.columns[c].pages, p)
	return nil
}

func (b *builder) page(h format.PageHeader) (page, error) {
	if len(b.buf) > math.MaxInt32/2 {
		return page{}, fmt.Errorf("page of %d bytes is too large", len(b.buf))
	}
	runtime.Gosched()
	b.packed = b.z.EncodeAll(b.buf, b.packed[:0])
	z := b.packed
	h.UncompressedPageSize, h.CompressedPageSize = int32(len(b.buf)), int32(len(z))
	h.CRC = int32(crc32.ChecksumIEEE(z))
	head, err := thrift.Marshal(&thrift.CompactProtocol{}, &h)
	if err != nil {
		return page{}, err
	}
	off := len(b.body)
	b.body = append(append(b.body, head...), z...)
	return page{blob: b.blob(off), head: len(head), raw: len(b.buf)}, nil
}

// blob describes what was appended to the body since off.
func (b *builder) blob(off int) blob {
	return blob{off: int64(off), size: len(b.body) - off, crc: checksum(b.body[off:])}
}

func (b *builder) raw() error {
	b.buf = b.buf[:0]
	n := 0
	for i := range b.rows {
		b.buf = plain(b.buf, b.rows[i].Event.Raw)
		if n++; len(b.buf) >= b.pageBytes || i == len(b.rows)-1 {
			if err := b.data(Raw, format.Plain, n, n); err != nil {
				return err
			}
			b.buf, n = b.buf[:0], 0
		}
	}
	return nil
}

func (b *builder) bloom(c Column) error {
	s := &b.spec[c]
	hashes := make([]uint64, 0, len(b.rows))
	for i := range b.rows {
		hashes = append(hashes, xxhash.Sum64String(b.valid(c, &b.rows[i], s.text(&b.rows[i]))))
	}
	slices.Sort(hashes)
	hashes = slices.Compact(hashes)
	f := make(bloom.SplitBlockFilter, max(1, bloom.NumSplitBlocksOf(int64(len(hashes)), bloomBits)))
	f.InsertBulk(hashes)
	bits := f.Bytes()
	head, err := thrift.Marshal(&thrift.CompactProtocol{}, &format.BloomFilterHeader{NumBytes: int32(len(bits)),
		Algorithm:   format.BloomFilterAlgorithm{Value: &format.SplitBlockAlgorithm{}},
		Hash:        format.BloomFilterHash{Value: &format.XxHash{}},
		Compression: format.BloomFilterCompression{Value: &format.BloomFilterUncompressed{}}})
	if err != nil {
		return err
	}
	off := len(b.body)
	b.body = append(append(b.body, head...), bits...)
	b.g.columns[c].bloom = b.blob(off)
	return nil
}

// words makes the word filters, one for each run of raw pages.
func (b *builder) words() {
	set := &wordSet{}
	pages := b.g.columns[Raw].pages
	first, bytes, at := 0, 0, 0
	for i, p := range pages {
		for range p.rows {
			set.event(b.rows[at].Event.Raw)
			yield(at)
			at++
		}
		if bytes += p.raw; bytes < tokensBytes && i < len(pages)-1 {
			continue
		}
		off := len(b.body)
		b.body = append(b.body, set.filter()...)
		b.g.tokens = append(b.g.tokens, tokens{blob: b.blob(off), first: first, pages: i + 1 - first})
		first, bytes = i+1, 0
	}
}

// spares writes the pages again that cannot be had from the raw events.
func (b *builder) spares() error {
	for c := range numColumns {
		if !b.spec[c].twice {
			continue
		}
		ch := &b.g.columns[c]
		again := func(p *page) {
			p.spare = int64(len(b.body))
			b.body = append(b.body, bytes.Clone(b.body[p.off:p.off+int64(p.size)])...)
		}
		if ch.dict != nil {
			again(ch.dict)
		}
		for i := range ch.pages {
			again(&ch.pages[i])
		}
	}
	return nil
}

// size32 is the size that a field of four bytes holds.
func size32(n int) []byte { return binary.LittleEndian.AppendUint32(nil, uint32(n)) }
