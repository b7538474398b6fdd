package segment

import (
	"encoding/binary"
	"slices"
	"strconv"
	"unsafe"

	"github.com/cespare/xxhash/v2"
	"github.com/parquet-go/parquet-go/bloom"

	"whodunit/internal/audit"
)

// Group is one row group: some ten thousand events, sorted by resource, verb and time. Rows are numbered from 0. Every
// method that reads gives an error that wraps ErrCorrupt where bytes are damaged. Safe for concurrent use. Nothing is cached.
type Group struct {
	f *File
	g *group
}

// Rows is the number of events.
func (g *Group) Rows() int { return g.g.rows }

// Times are the oldest and the newest event time, events without a time counting as 0.
func (g *Group) Times() (oldest, newest int64) {
	oldest, newest = g.g.minMicros, g.g.maxMicros
	if g.g.untimed > 0 {
		oldest, newest = min(oldest, 0), max(newest, 0)
	}
	return oldest, newest
}

// Seqs are the lowest and the highest sequence number.
func (g *Group) Seqs() (low, high uint64) { return g.g.minSeq, g.g.maxSeq }

// RawBytes is the sum of the events' sizes.
func (g *Group) RawBytes() int64 { return g.g.rawBytes }

// Unique reports whether no two rows share an identity.
func (g *Group) Unique() bool { return g.g.unique }

// Irregular is the number of rows with the Irregular bit; what columns say of a group holds only for the others.
func (g *Group) Irregular() int { return g.g.irregular }

// Texts is a column of texts: the value of row i is Values[Index[i]], or Values[i] where Index is nil.
type Texts struct {
	Values []string
	Index  []uint32
}

// At is the value of row i.
func (t *Texts) At(i int) string {
	if t.Index != nil {
		i = int(t.Index[i])
	}
	return t.Values[i]
}

// Lists is a column of lists: those of row i are Values[Index[j]] for j from Start[i] to Start[i+1], exclusive.
type Lists struct {
	Values []string
	Start  []uint32
	Index  []uint32
}

// Values reads the distinct values of a text or list column without its rows; all is false where the column has no
// dictionary, so that only its rows say. Codes are given as decimal numbers, 0 as "".
func (g *Group) Values(c Column) (values []string, all bool, err error) {
	ch := &g.g.columns[c]
	if ch.dict == nil {
		return nil, false, nil
	}
	b, err := g.page(ch.dict)
	if err != nil {
		return nil, false, err
	}
	values = make([]string, 0, ch.dict.values)
	if c == Code || c == Flags {
		if len(b) != 4*ch.dict.values {
			return nil, false, corrupt("%s: dictionary of %d bytes", g.f.path, len(b))
		}
		for ; len(b) > 0; b = b[4:] {
			s := ""
			if n := int32(binary.LittleEndian.Uint32(b)); n != 0 {
				s = strconv.Itoa(int(n))
			}
			values = append(values, s)
		}
		return values, true, nil
	}
	err = unplain(b, ch.dict.values, func(_ int, v []byte) { values = append(values, alias(v)) })
	return values, true, err
}

// Texts reads a text column.
func (g *Group) Texts(c Column) (t Texts, err error) {
	values, all, err := g.Values(c)
	if err != nil {
		return t, err
	}
	ch := &g.g.columns[c]
	if all {
		t.Values = values
		t.Index, err = g.indexes(ch, len(values))
		return t, err
	}
	for i := range ch.pages {
		b, err := g.page(&ch.pages[i])
		if err != nil {
			return t, err
		}
		t.Values = slices.Grow(t.Values, ch.pages[i].values)
		if err := unplain(b, ch.pages[i].values, func(_ int, v []byte) { t.Values = append(t.Values, alias(v)) }); err != nil {
			return t, err
		}
	}
	if len(t.Values) != g.g.rows {
		return t, corrupt("%s: %d values in a group of %d rows", g.f.path, len(t.Values), g.g.rows)
	}
	return t, nil
}

func (g *Group) indexes(ch *chunk, values int) ([]uint32, error) {
	idx := make([]uint32, 0, g.g.rows)
	for i := range ch.pages {
		b, err := g.page(&ch.pages[i])
		if err != nil {
			return nil, err
		}
		if idx, err = dictIndexes(idx, b, ch.pages[i].values, values); err != nil {
			return nil, err
		}
	}
	if len(idx) != g.g.rows {
		return nil, corrupt("%s: %d values in a group of %d rows", g.f.path, len(idx), g.g.rows)
	}
	return idx, nil
}

// dictIndexes reads n places in a dictionary of the given size.
func dictIndexes(dst []uint32, b []byte, n, size int) ([]uint32, error) {
	if len(b) < 1 {
		return nil, corrupt("no width of values")
	}
	from := len(dst)
	dst, err := unhybrid(dst, b[1:], int(b[0]), n)
	if err != nil {
		return nil, err
	}
	top := uint32(0)
	for _, v := range dst[from:] {
		top = max(top, v)
	}
	if n > 0 && int(top) >= size {
		return nil, corrupt("value %d of a dictionary of %d", top, size)
	}
	return dst, nil
}

// Lists reads a list column.
func (g *Group) Lists(c Column) (l Lists, err error) {
	if l.Values, _, err = g.Values(c); err != nil {
		return l, err
	}
	ch := &g.g.columns[c]
	l.Start = make([]uint32, 0, g.g.rows+1)
	for i := range ch.pages {
		p := &ch.pages[i]
		b, err := g.page(p)
		if err != nil {
			return l, err
		}
		reps, b, err := unlevels(b, p.values)
		if err != nil {
			return l, err
		}
		defs, b, err := unlevels(b, p.values)
		if err != nil {
			return l, err
		}
		n := len(l.Index)
		for j, d := range defs {
			if reps[j] == 0 {
				l.Start = append(l.Start, uint32(n))
			}
			n += int(d)
		}
		if l.Index, err = dictIndexes(l.Index, b, n-len(l.Index), len(l.Values)); err != nil {
			return l, err
		}
	}
	if len(l.Start) != g.g.rows {
		return l, corrupt("%s: %d lists in a group of %d rows", g.f.path, len(l.Start), g.g.rows)
	}
	l.Start = append(l.Start, uint32(len(l.Index)))
	return l, nil
}

// Numbers reads a column of numbers or times; a missing time is 0.
func (g *Group) Numbers(c Column) ([]int64, error) {
	ch := &g.g.columns[c]
	out := make([]int64, 0, g.g.rows)
	for i := range ch.pages {
		p := &ch.pages[i]
		b, err := g.page(p)
		if err != nil {
			return nil, err
		}
		if c == Seq || c == Size {
			vs, err := undelta(b, p.values)
			if err != nil {
				return nil, err
			}
			out = append(out, vs...)
			continue
		}
		defs, b, err := unlevels(b, p.values)
		if err != nil {
			return nil, err
		}
		n := 0
		for _, d := range defs {
			n += int(d)
		}
		vs, err := undelta(b, n)
		if err != nil {
			return nil, err
		}
		if n == len(defs) {
			out = append(out, vs...)
			continue
		}
		for _, d := range defs {
			v := int64(0)
			if d == 1 {
				v, vs = vs[0], vs[1:]
			}
			out = append(out, v)
		}
	}
	if len(out) != g.g.rows {
		return nil, corrupt("%s: %d values in a group of %d rows", g.f.path, len(out), g.g.rows)
	}
	return out, nil
}

// Identities reads the column of identities.
func (g *Group) Identities() ([]audit.Identity, error) {
	out := make([]audit.Identity, 0, g.g.rows)
	ch := &g.g.columns[Identity]
	for i := range ch.pages {
		b, err := g.page(&ch.pages[i])
		if err != nil {
			return nil, err
		}
		for ; len(b) >= 16; b = b[16:] {
			out = append(out, audit.Identity(b[:16]))
		}
	}
	if len(out) != g.g.rows {
		return nil, corrupt("%s: %d identities in a group of %d rows", g.f.path, len(out), g.g.rows)
	}
	return out, nil
}

// FlagBits reads the Flags column: bits of audit.Flags, and Irregular.
func (g *Group) FlagBits() ([]uint32, error) {
	t, err := g.Texts(Flags)
	if err != nil {
		return nil, err
	}
	bits := make([]uint32, len(t.Values))
	for i, s := range t.Values {
		if s != "" {
			n, err := strconv.Atoi(s)
			if err != nil {
				return nil, corrupt("flags %q", s)
			}
			bits[i] = uint32(n)
		}
	}
	out := make([]uint32, len(t.Index))
	for i, v := range t.Index {
		out[i] = bits[v]
	}
	return out, nil
}

// MayHold reports whether a regular row may have the value in the text column; false is certain. It costs no more than
// the column's bloom filter, and where there is none it says by the column's bounds.
func (g *Group) MayHold(c Column, value string) bool {
	ch := &g.g.columns[c]
	if ch.bounded && (value < ch.min || value > ch.max) {
		return false
	}
	if ch.bloom.size == 0 {
		return true
	}
	b, err := g.read(ch.bloom, ch.bloom.off)
	if err != nil {
		return true // it only saves time
	}
	return bloomHolds(b, xxhash.Sum64String(value))
}

// bloomHolds asks a Parquet bloom filter with its header.
func bloomHolds(b []byte, h uint64) bool {
	n := len(b) &^ 31 // the header is shorter than a block
	if n == len(b) || n == 0 {
		return true
	}
	return bloom.MakeSplitBlockFilter(slices.Clone(b[len(b)-n:])).Check(h)
}

// Words is a run of rows that share a word filter.
type Words struct {
	First, Rows int
	t           *tokens
}

// WordRuns are the runs of rows that have a filter, in order; together they are all rows.
func (g *Group) WordRuns() []Words {
	out := make([]Words, 0, len(g.g.tokens))
	at := 0
	for i := range g.g.tokens {
		t := &g.g.tokens[i]
		w := Words{First: at, t: t}
		for _, p := range g.g.columns[Raw].pages[t.first : t.first+t.pages] {
			w.Rows += p.rows
		}
		at += w.Rows
		out = append(out, w)
	}
	return out
}

// MayHaveAnyWords reports whether an event of the run may have in its text all the words (see WordHashes) of at least one of the
// lists; false is certain.
func (g *Group) MayHaveAnyWords(w Words, lists [][]uint64) bool {
	if w.t.size == 0 {
		return true
	}
	b, err := g.read(w.t.blob, w.t.off)
	if err != nil {
		return true // it only saves time
	}
	f := bloom.MakeSplitBlockFilter(b)
	for _, hashes := range lists {
		all := true
		for _, h := range hashes {
			all = all && f.Check(max(h, 1))
		}
		if all {
			return true
		}
	}
	return false
}

// RawPage is one page of raw events.
type RawPage struct {
	First, Rows int
	Bytes       int // of the events, with four bytes more for each
}

// RawPages are the pages of raw events, in the order of their rows.
func (g *Group) RawPages() []RawPage {
	out := make([]RawPage, 0, len(g.g.columns[Raw].pages))
	at := 0
	for _, p := range g.g.columns[Raw].pages {
		out = append(out, RawPage{First: at, Rows: p.rows, Bytes: p.raw})
		at += p.rows
	}
	return out
}

// Path is the file's path.
func (g *Group) Path() string { return g.f.path }

// RawPage reads the raw events of page i (of RawPages). They share memory, which nobody else uses.
func (g *Group) RawPage(i int) ([][]byte, error) {
	p := &g.g.columns[Raw].pages[i]
	b, err := g.page(p)
	if err != nil {
		return nil, err
	}
	if p.values != p.rows {
		return nil, corrupt("%s: raw page of %d values and %d rows", g.f.path, p.values, p.rows)
	}
	out := make([][]byte, 0, p.values)
	err = unplain(b, p.values, func(_ int, v []byte) { out = append(out, v) })
	return out, err
}

// alias views bytes that are never written to again as a string.
func alias(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
