package segment

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"

	"github.com/klauspost/compress/zstd"
)

// The index is kept twice, as a frame: magic, length and CRC-32C of the payload, the payload (zstd over the form below). The
// first copy follows the Parquet magic at the file's start, the second one, with its length and the magic again behind it,
// stands before the Parquet footer. Positions in it count from the start of the row groups, so both copies are the same.
const (
	parquetMagic = "PAR1"
	frameMagic   = "WDX1"
	frameHead    = 12
	frameTail    = 8
)

// blob is a checksummed piece of the file.
type blob struct {
	off  int64 // from the start of the group
	size int
	crc  uint32 // CRC-32C
}

// page is one Parquet page, its header included.
type page struct {
	blob
	head   int   // length of its header
	raw    int   // size when decompressed
	values int   // values in it, with nulls; entries of a dictionary
	rows   int   // rows in it
	spare  int64 // where its second copy stands, 0 if there is none
}

// chunk is one column of a group.
type chunk struct {
	dict     *page // nil: plain or delta
	pages    []page
	min, max string // of text columns, cut to 64 bytes; max "" with bounded false says nothing
	bounded  bool   // min and max hold
	bloom    blob   // Parquet bloom filter with its header, size 0 if there is none
	size     int    // sum of pages and dictionary
	raw      int    // the same when decompressed
	values   int
}

// tokens is the bloom filter over the words of a run of raw pages.
type tokens struct {
	blob
	first, pages int // raw pages
}

type group struct {
	off, size            int64 // from the start of the first group
	minSeq, maxSeq       uint64
	minMicros, maxMicros int64 // of events that have a time
	untimed              int
	rows                 int
	rawBytes             int64
	unique               bool // no two rows share an identity
	irregular            int  // rows with the Irregular bit
	maxIngested          int64
	columns              [numColumns]chunk
	tokens               []tokens
}

type index struct {
	meta   Meta // FileBytes is not kept
	groups []group
}

type enc struct{ b []byte }

func (e *enc) u(v uint64) { e.b = binary.AppendUvarint(e.b, v) }
func (e *enc) n(v int)    { e.b = binary.AppendUvarint(e.b, uint64(v)) }
func (e *enc) i(v int64)  { e.b = binary.AppendVarint(e.b, v) }
func (e *enc) s(v string) { e.n(len(v)); e.b = append(e.b, v...) }
func (e *enc) bool(v bool) {
	if v {
		e.n(1)
	} else {
		e.n(0)
	}
}
func (e *enc) blob(v blob) {
	e.i(v.off)
	e.n(v.size)
	e.b = binary.LittleEndian.AppendUint32(e.b, v.crc)
}

func (e *enc) page(p *page) {
	e.blob(p.blob)
	e.n(p.head)
	e.n(p.raw)
	e.n(p.values)
	e.n(p.rows)
	e.i(p.spare)
}

func (e *enc) chunk(c *chunk) {
	e.bool(c.dict != nil)
	if c.dict != nil {
		e.page(c.dict)
	}
	e.n(len(c.pages))
	for i := range c.pages {
		e.page(&c.pages[i])
	}
	e.bool(c.bounded)
	e.s(c.min)
	e.s(c.max)
	e.blob(c.bloom)
}

func (e *enc) group(g *group) {
	e.i(g.off)
	e.i(g.size)
	e.u(g.minSeq)
	e.u(g.maxSeq)
	e.i(g.minMicros)
	e.i(g.maxMicros)
	e.n(g.untimed)
	e.n(g.rows)
	e.i(g.rawBytes)
	e.bool(g.unique)
	e.n(g.irregular)
	e.i(g.maxIngested)
	e.n(int(numColumns))
	for c := range g.columns {
		e.chunk(&g.columns[c])
	}
	e.n(len(g.tokens))
	for _, t := range g.tokens {
		e.blob(t.blob)
		e.n(t.first)
		e.n(t.pages)
	}
}

// frame encodes the index with its checksum.
func (x *index) frame() ([]byte, error) {
	e := enc{}
	e.n(x.meta.Version)
	e.u(x.meta.MinSeq)
	e.u(x.meta.MaxSeq)
	e.n(len(x.groups))
	for i := range x.groups {
		e.group(&x.groups[i])
	}
	z, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedDefault))
	if err != nil {
		return nil, err
	}
	defer func() { _ = z.Close() }()
	payload := z.EncodeAll(e.b, nil)
	if len(payload) > math.MaxInt32 {
		return nil, fmt.Errorf("index of %d bytes is too large", len(payload))
	}
	out := append([]byte(frameMagic), make([]byte, 8)...)
	binary.LittleEndian.PutUint32(out[4:], uint32(len(payload)))
	binary.LittleEndian.PutUint32(out[8:], checksum(payload))
	return append(out, payload...), nil
}

// trailer stands behind the second copy of the frame.
func trailer(frame []byte) []byte {
	return append(binary.LittleEndian.AppendUint32(nil, uint32(len(frame))), frameMagic...)
}

func checksum(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

// dec reads what enc wrote. After the first error everything is zero.
type dec struct {
	b   []byte
	err error
}

func (d *dec) fail(format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf("%w: index: %s", ErrCorrupt, fmt.Sprintf(format, args...))
		d.b = nil
	}
}

func (d *dec) u() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.fail("it ends early")
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *dec) i() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.fail("it ends early")
		return 0
	}
	d.b = d.b[n:]
	return v
}

// n reads a count or size.
func (d *dec) n() int {
	v := d.u()
	if v > math.MaxInt32 {
		d.fail("a size of %d", v)
		return 0
	}
	return int(v)
}

// count reads the length of a list whose elements take at least size bytes each.
func (d *dec) count(size int) int {
	n := d.n()
	if n > len(d.b)/size {
		d.fail("a list of %d", n)
		return 0
	}
	return n
}

func (d *dec) bool() bool { return d.n() == 1 }

func (d *dec) s() string {
	n := d.n()
	if n > len(d.b) {
		d.fail("it ends early")
		return ""
	}
	s := string(d.b[:n])
	d.b = d.b[n:]
	return s
}

func (d *dec) blob() (v blob) {
	v.off, v.size = d.i(), d.n()
	if len(d.b) < 4 {
		d.fail("it ends early")
		return blob{}
	}
	v.crc = binary.LittleEndian.Uint32(d.b)
	d.b = d.b[4:]
	return v
}

func (d *dec) page() (p page) {
	p.blob = d.blob()
	p.head, p.raw, p.values, p.rows, p.spare = d.n(), d.n(), d.n(), d.n(), d.i()
	if p.head > p.size || p.values > 1<<30 {
		d.fail("a page of %d bytes with a header of %d and %d values", p.size, p.head, p.values)
	}
	return p
}

func (d *dec) chunk(c *chunk, rows int) {
	if d.bool() {
		p := d.page()
		c.dict = &p
		c.size, c.raw = p.size, p.raw+p.head
	}
	n := d.count(10)
	c.pages = make([]page, 0, n)
	got := 0
	for range n {
		p := d.page()
		c.pages = append(c.pages, p)
		c.size += p.size
		c.raw += p.raw + p.head
		c.values += p.values
		got += p.rows
	}
	c.bounded = d.bool()
	c.min, c.max = d.s(), d.s()
	c.bloom = d.blob()
	if got != rows {
		d.fail("pages of %d rows in a group of %d", got, rows)
	}
}

func (d *dec) group(g *group) {
	g.off, g.size = d.i(), d.i()
	g.minSeq, g.maxSeq = d.u(), d.u()
	g.minMicros, g.maxMicros = d.i(), d.i()
	g.untimed, g.rows = d.n(), d.n()
	g.rawBytes = d.i()
	g.unique = d.bool()
	g.irregular = d.n()
	g.maxIngested = d.i()
	if n := d.n(); n != int(numColumns) {
		d.fail("%d columns, not %d", n, numColumns)
		return
	}
	for c := range g.columns {
		d.chunk(&g.columns[c], g.rows)
	}
	n := d.count(7)
	g.tokens = make([]tokens, 0, n)
	for range n {
		t := tokens{blob: d.blob()}
		t.first, t.pages = d.n(), d.n()
		if t.size%32 != 0 || t.first+t.pages > len(g.columns[Raw].pages) {
			d.fail("words of pages %d and %d more", t.first, t.pages)
		}
		g.tokens = append(g.tokens, t)
	}
}

// decodeIndex reads a frame's payload.
func decodeIndex(payload []byte) (*index, error) {
	b, err := decompress(payload, -1)
	if err != nil {
		return nil, fmt.Errorf("index: %w", err)
	}
	return readIndex(b)
}

func readIndex(b []byte) (*index, error) {
	d := dec{b: b}
	x := &index{}
	if x.meta.Version = d.n(); x.meta.Version != Version && d.err == nil {
		return nil, fmt.Errorf("segment of version %d; this program reads version %d", x.meta.Version, Version)
	}
	x.meta.MinSeq, x.meta.MaxSeq = d.u(), d.u()
	n := d.count(int(numColumns))
	x.groups = make([]group, n)
	for i := range x.groups {
		d.group(&x.groups[i])
	}
	if len(d.b) > 0 {
		d.fail("%d bytes behind its end", len(d.b))
	}
	x.sum()
	return x, d.err
}

// sum fills what of meta follows from the groups.
func (x *index) sum() {
	m := &x.meta
	m.Rows, m.RawBytes, m.Untimed, m.MinMicros, m.MaxMicros, m.MaxIngested = 0, 0, 0, 0, 0, 0
	timed := false
	for i := range x.groups {
		g := &x.groups[i]
		m.Rows += int64(g.rows)
		m.RawBytes += g.rawBytes
		m.Untimed += int64(g.untimed)
		m.MaxIngested = max(m.MaxIngested, g.maxIngested)
		if g.rows == g.untimed {
			continue
		}
		if !timed || g.minMicros < m.MinMicros {
			m.MinMicros = g.minMicros
		}
		if !timed || g.maxMicros > m.MaxMicros {
			m.MaxMicros = g.maxMicros
		}
		timed = true
	}
}

// body is the size of all groups.
func (x *index) body() int64 {
	n := int64(0)
	for i := range x.groups {
		n = max(n, x.groups[i].off+x.groups[i].size)
	}
	return n
}
