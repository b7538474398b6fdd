// Package wire is how records, queries and places in results are written in the HTTP API: what the server in package api and
// the client in package remote have in common. docs/reference/api.md specifies it.
package wire

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"
	"time"
	"unicode/utf8"

	"whodunit/internal/audit"
	"whodunit/internal/store"
)

// NDJSON is the media type of streams: one JSON object a line.
const NDJSON = "application/x-ndjson"

// ProblemJSON is the media type of errors (RFC 9457).
const ProblemJSON = "application/problem+json"

// ErrCursor says that a cursor is none of ours, or damaged.
var ErrCursor = errors.New("not a cursor")

// timeLayout has microseconds, which is all that event times have.
const timeLayout = "2006-01-02T15:04:05.000000Z07:00"

// Time writes microseconds since 1970 UTC.
func Time(micros int64) string { return time.UnixMicro(micros).UTC().Format(timeLayout) }

// EncodeCursor writes a place in the results as opaque text.
func EncodeCursor(p store.Position) string {
	b := []byte{1}
	b = binary.BigEndian.AppendUint64(b, uint64(p.Micros))
	b = binary.BigEndian.AppendUint64(b, p.Seq)
	b = binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b))
	return base64.RawURLEncoding.EncodeToString(b)
}

// DecodeCursor reads what EncodeCursor wrote; anything else is ErrCursor.
func DecodeCursor(s string) (store.Position, error) {
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil || len(b) != 21 || b[0] != 1 || binary.BigEndian.Uint32(b[17:]) != crc32.ChecksumIEEE(b[:17]) {
		return store.Position{}, ErrCursor
	}
	return store.Position{Micros: int64(binary.BigEndian.Uint64(b[1:])), Seq: binary.BigEndian.Uint64(b[9:])}, nil
}

// OneLine is the raw event without line breaks. Outside strings a line break is mere white space, and inside one it cannot
// stand, so the event stays the same. It copies only where there is one.
func OneLine(raw []byte) []byte {
	if bytes.IndexByte(raw, '\n') < 0 && bytes.IndexByte(raw, '\r') < 0 {
		return raw
	}
	out := bytes.Clone(raw)
	for i, c := range out {
		if c == '\n' || c == '\r' {
			out[i] = ' '
		}
	}
	return out
}

// AppendItem writes one record as a JSON object on one line. The event stands in it byte for byte, but for line breaks,
// and then its exact bytes are in raw besides.
func AppendItem(b []byte, r *audit.Record) []byte {
	b = append(b, `{"identity":"`...)
	b = append(b, r.Identity.String()...)
	b = append(b, `","seq":`...)
	b = strconv.AppendUint(b, r.Seq, 10)
	b = append(b, `,"time":"`...)
	b = append(b, Time(r.Event.Micros())...)
	b = append(b, `","cluster":`...)
	b = appendString(b, r.Event.Cluster)
	b = append(b, `,"ingested":"`...)
	b = append(b, Time(r.IngestedMicros)...)
	b = append(b, `","source":`...)
	b = appendString(b, r.Source)
	if r.Event.Flags != 0 {
		b = append(b, `,"flags":`...)
		b = strconv.AppendUint(b, uint64(r.Event.Flags), 10)
	}
	line := OneLine(r.Event.Raw)
	if !bytes.Equal(line, r.Event.Raw) || !utf8.Valid(line) {
		b = append(b, `,"raw":"`...)
		b = base64.StdEncoding.AppendEncode(b, r.Event.Raw)
		b = append(b, '"')
	}
	b = append(b, `,"event":`...)
	b = append(b, bytes.ToValidUTF8(line, []byte("\uFFFD"))...)
	return append(b, '}')
}

func appendString(b []byte, s string) []byte {
	q, err := json.Marshal(s)
	if err != nil { // a string always encodes
		return append(b, `""`...)
	}
	return append(b, q...)
}

// item is AppendItem's object.
type item struct {
	Identity string          `json:"identity"`
	Seq      uint64          `json:"seq"`
	Time     string          `json:"time"`
	Cluster  string          `json:"cluster"`
	Ingested time.Time       `json:"ingested"`
	Source   string          `json:"source"`
	Flags    audit.Flags     `json:"flags"`
	Raw      []byte          `json:"raw"`
	Event    json.RawMessage `json:"event"`
}

// ParseItem reads what AppendItem wrote. It keeps no part of b.
func ParseItem(b []byte) (audit.Record, error) {
	var it item
	if err := json.Unmarshal(b, &it); err != nil {
		return audit.Record{}, fmt.Errorf("cannot read item: %w", err)
	}
	raw := it.Raw
	if raw == nil {
		raw = it.Event
	}
	e, err := audit.Parse(it.Cluster, bytes.Clone(raw))
	if err != nil {
		return audit.Record{}, fmt.Errorf("cannot read item %.40q: %w", it.Identity, err)
	}
	e.Flags = it.Flags
	r := audit.Record{Seq: it.Seq, IngestedMicros: it.Ingested.UnixMicro(), Source: it.Source, Event: e}
	if n, err := hex.Decode(r.Identity[:], []byte(it.Identity[:min(len(it.Identity), 32)])); err != nil || n != len(r.Identity) {
		return audit.Record{}, fmt.Errorf("cannot read item: %.40q is no identity", it.Identity)
	}
	return r, nil
}

// Control is a line of a stream that is no item: exactly one of its fields is set.
type Control struct {
	Stats     *store.Stats `json:"stats,omitempty"`     // the end of a search
	Error     *Problem     `json:"error,omitempty"`     // the end of a search or tail that failed
	Dropped   int64        `json:"dropped,omitempty"`   // tail: so many events were left out here because the client was too slow
	Keepalive string       `json:"keepalive,omitempty"` // tail: the server's time, every 15 s while nothing comes
}

// IsItem tells the lines of a stream apart: items begin with their identity.
func IsItem(line []byte) bool { return bytes.HasPrefix(line, []byte(`{"identity":`)) }

// Problem is an error as RFC 9457 has it, with two members of our own.
type Problem struct {
	Type     string `json:"type,omitempty"`
	Title    string `json:"title"`
	Status   int    `json:"status"`
	Detail   string `json:"detail,omitempty"`
	Instance string `json:"instance,omitempty"`
	Hint     string `json:"hint,omitempty"`   // what to do next
	Column   int    `json:"column,omitempty"` // of a query that cannot be read: the character, from 1
}

// Error is the problem in a sentence.
func (p *Problem) Error() string {
	s := p.Title
	if p.Detail != "" {
		s = p.Detail
	}
	if p.Hint != "" {
		s += " (" + p.Hint + ")"
	}
	return s
}

// Page is the answer of a search that is not streamed.
type Page struct {
	Items []json.RawMessage `json:"items"`
	Next  string            `json:"next,omitempty"` // the cursor of the next page; empty: this is the last
	Stats store.Stats       `json:"stats"`
}

// Buckets is the answer of top and histogram.
type Buckets struct {
	Buckets  []store.Bucket `json:"buckets"`
	Interval int64          `json:"interval,omitempty"` // histogram: the width in microseconds
	Stats    store.Stats    `json:"stats"`
}

// Count is the answer of count.
type Count struct {
	Count int64       `json:"count"`
	Stats store.Stats `json:"stats"`
}
