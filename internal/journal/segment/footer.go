package segment

import (
	"strconv"

	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"
)

// footer makes the Parquet footer, for everybody else: start is where the groups begin in the file, frame the size of the
// index behind them.
func (x *index) footer(start, frame int64) ([]byte, error) {
	spec := schema()
	m := format.FileMetaData{Version: 1, NumRows: x.meta.Rows, CreatedBy: "whodunit version " + strconv.Itoa(Version)}
	m.Schema = append(m.Schema, format.SchemaElement{Name: "event", NumChildren: thrift.New(int32(numColumns))})
	for c := range spec {
		m.Schema = append(m.Schema, spec[c].elements()...)
		m.ColumnOrders = append(m.ColumnOrders, format.ColumnOrder{Value: &format.TypeDefinedOrder{}})
	}
	for i := range x.groups {
		m.RowGroups = append(m.RowGroups, x.groups[i].footer(&spec, start, i))
	}
	add := func(k string, v int64) {
		m.KeyValueMetadata = append(m.KeyValueMetadata, format.KeyValue{Key: "whodunit." + k, Value: strconv.FormatInt(v, 10)})
	}
	add("version", int64(x.meta.Version))
	add("min_seq", int64(x.meta.MinSeq))
	add("max_seq", int64(x.meta.MaxSeq))
	add("min_micros", x.meta.MinMicros)
	add("max_micros", x.meta.MaxMicros)
	add("untimed", x.meta.Untimed)
	add("raw_bytes", x.meta.RawBytes)
	add("index_offset", start+x.body())
	add("index_bytes", frame)
	return thrift.Marshal(&thrift.CompactProtocol{}, &m)
}

func (g *group) footer(spec *[numColumns]columnSpec, start int64, ordinal int) format.RowGroup {
	base := start + g.off
	rg := format.RowGroup{NumRows: int64(g.rows), FileOffset: base, Ordinal: int16(ordinal)}
	for _, c := range [...]Column{Resource, Verb, Time} {
		rg.SortingColumns = append(rg.SortingColumns, format.SortingColumn{ColumnIdx: int32(c), NullsFirst: c == Time})
	}
	for c := range g.columns {
		ch := g.columns[c].footer(&spec[c], base)
		rg.TotalByteSize += ch.MetaData.TotalUncompressedSize
		rg.TotalCompressedSize += ch.MetaData.TotalCompressedSize
		rg.Columns = append(rg.Columns, ch)
	}
	return rg
}

func (c *chunk) footer(s *columnSpec, base int64) format.ColumnChunk {
	size, raw, values := 0, 0, 0
	for i := range c.pages {
		size += c.pages[i].size
		raw += c.pages[i].raw + c.pages[i].head
		values += c.pages[i].values
	}
	m := format.ColumnMetaData{Type: s.kind.physical(), Codec: format.Zstd, PathInSchema: s.pathInSchema(), NumValues: int64(values)}
	encoding := format.Plain
	switch {
	case c.dict != nil:
		encoding = format.RLEDictionary
		size += c.dict.size
		raw += c.dict.raw + c.dict.head
		m.DictionaryPageOffset = base + c.dict.off
		m.EncodingStats = append(m.EncodingStats, format.PageEncodingStats{PageType: format.DictionaryPage, Encoding: format.Plain, Count: 1})
		m.Encoding = append(m.Encoding, format.Plain)
	case s.kind == kindInt || s.kind == kindTime:
		encoding = format.DeltaBinaryPacked
	}
	m.Encoding = append(m.Encoding, encoding, format.RLE)
	m.EncodingStats = append(m.EncodingStats, format.PageEncodingStats{PageType: format.DataPage, Encoding: encoding, Count: int32(len(c.pages))})
	m.TotalCompressedSize, m.TotalUncompressedSize = int64(size), int64(raw)
	m.DataPageOffset = base + c.pages[0].off
	if c.bounded {
		m.Statistics = format.Statistics{MinValue: []byte(c.min), MaxValue: []byte(c.max)}
	}
	if c.bloom.size > 0 {
		m.BloomFilterOffset, m.BloomFilterLength = base+c.bloom.off, int32(c.bloom.size)
	}
	return format.ColumnChunk{MetaData: m}
}
