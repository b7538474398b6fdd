package match

import (
	"bytes"
	"errors"
	"fmt"
	"math"

	"whodunit/internal/audit"
)

var (
	errNoObject = errors.New("a JSON object is wanted")
	errCut      = errors.New("the JSON object does not end")
	errSyntax   = errors.New("invalid JSON")
	errTrailing = errors.New("text follows the JSON object")
	errTooLong  = errors.New("longer than 2 GiB")
)

// span is a part of a document.
type span struct{ start, end uint32 }

func (s span) none() bool { return s.end == 0 }

// entry is a member of an object, or an object in an array.
type entry struct {
	name    span // between the quotes
	value   span
	escaped bool // the name has escapes
}

// container says where the entries of the object or array at off are.
type container struct{ gen, off, first, n uint32 }

// document is one event's bytes and what was found in them so far. Its top level is walked once; what is below is looked into when a path
// leads there, and then remembered. One goroutine's.
type document struct {
	raw     []byte
	levels  []*level
	views   []*view // of the levels; the first is the top
	top     []span  // of the first view
	dotted  bool    // a top-level name has a dot
	root    span
	entries []entry
	held    []container // a hash table, of a power of two
	gen     uint32
	count   int // of held, in this gen
	found   []span
	name    []byte // scratch
	text    []byte // scratch
}

const (
	heldStart   = 64
	keepEntries = 1 << 14 // what one huge event has made grow is given back
)

func newDocument(levels []*level) *document {
	d := &document{levels: levels, held: make([]container, heldStart)}
	for _, l := range levels {
		d.views = append(d.views, newView(l))
	}
	d.top = d.views[0].at
	return d
}

// reset makes d the document raw and walks its top level. The error says why raw is no JSON object, as far as that shows on the way.
func (d *document) reset(raw []byte) error {
	d.raw, d.dotted, d.count = raw, false, 0
	d.entries, d.found = d.entries[:0], d.found[:0]
	if cap(d.entries) > keepEntries {
		d.entries, d.held = nil, make([]container, heldStart)
	}
	if cap(d.found) > keepEntries {
		d.found = nil
	}
	if cap(d.text)+cap(d.name) > 1<<20 {
		d.text, d.name = nil, nil
	}
	if d.gen++; d.gen == 0 {
		clear(d.held)
		for _, v := range d.views {
			v.gen = 0
		}
		d.gen = 1
	}
	if len(raw) > math.MaxInt32 {
		return errTooLong
	}
	i := skipSpace(raw, 0)
	if i >= len(raw) || raw[i] != '{' {
		return errNoObject
	}
	top := d.views[0]
	end, err := d.walk(top, i)
	d.top, d.dotted = top.at, top.dotted
	if err != nil {
		return fmt.Errorf("%w at byte %d", err, end)
	}
	d.root = span{uint32(i), uint32(end)}
	if end = skipSpace(raw, end); end != len(raw) {
		return fmt.Errorf("%w at byte %d", errTrailing, end)
	}
	return nil
}

// skipSpace is the first place from i on without white space.
func skipSpace(b []byte, i int) int {
	if i < len(b) && b[i] > ' ' {
		return i
	}
	return skipSpaces(b, i)
}

func skipSpaces(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\t' || b[i] == '\r') {
		i++
	}
	return i
}

// walk notes where the members of the object at start are. It gives the place behind the object, or of the error.
func (d *document) walk(v *view, start int) (int, error) {
	clear(v.at)
	v.gen, v.dotted = d.gen, false
	b, i := d.raw, skipSpace(d.raw, start+1)
	if i < len(b) && b[i] == '}' {
		return i + 1, nil
	}
	last := int32(-1)
	for {
		slot, next, err := d.member(v, i, last)
		if err != nil {
			return next, err
		}
		if i = skipSpace(b, next); i >= len(b) || b[i] != ':' {
			return i, atEnd(b, i)
		}
		i = skipSpace(b, i+1)
		end := audit.SkipValue(b, i)
		if end < 0 || !begins[b[i]] {
			return i, atEnd(b, i)
		}
		if slot >= 0 {
			v.at[slot], last = span{uint32(i), uint32(end)}, slot
		}
		i = skipSpace(b, end)
		if i >= len(b) {
			return i, errCut
		}
		switch b[i] {
		case '}':
			return i + 1, nil
		case ',':
			i = skipSpace(b, i+1)
		default:
			return i, errSyntax
		}
	}
}

func atEnd(b []byte, i int) error {
	if i >= len(b) || b[i] == '"' || b[i] == '{' || b[i] == '[' {
		return errCut
	}
	return errSyntax
}

// begins marks what a JSON value may begin with.
var begins = [256]bool{'"': true, '{': true, '[': true, 't': true, 'f': true, 'n': true, '-': true, '0': true, '1': true, '2': true, '3': true,
	'4': true, '5': true, '6': true, '7': true, '8': true, '9': true}

// member reads the name at i: its number, -1 where it has none, and the place behind it.
func (d *document) member(v *view, i int, last int32) (slot int32, next int, err error) {
	b := d.raw
	if g := v.after[last+1]; g >= 0 {
		n := v.names[g]
		if e := i + len(n) + 1; e < len(b) && b[i] == '"' && b[e] == '"' && string(b[i+1:e]) == n {
			return g, e + 1, nil
		}
	}
	if i >= len(b) {
		return -1, i, errCut
	}
	if b[i] != '"' {
		return -1, i, errSyntax
	}
	end := audit.SkipString(b, i)
	if end < 0 {
		return -1, i, errCut
	}
	name := b[i+1 : end-1]
	if bytes.IndexByte(name, '\\') >= 0 {
		d.name = audit.Unescape(d.name[:0], name)
		name = d.name
	}
	g, ok := v.slot[string(name)]
	if !ok {
		if bytes.IndexByte(name, '.') >= 0 {
			v.dotted = true
			return -1, end, nil
		}
		if g, ok = v.learn(name); !ok {
			return -1, end, nil
		}
	}
	v.after[last+1] = g
	return g, end, nil
}

// below is the view of level l, an object's that is walked unless it is already. The object must be there.
func (d *document) below(l int32) *view {
	v := d.views[l]
	if v.gen != d.gen {
		_, _ = d.walk(v, int(d.top[d.levels[l].top].start)) // what follows an error is not seen
	}
	return v
}

// reach notes in d.found every value that the path leads to from v, arrays entered on the way but not at its end: what the function
// of this name in values.go says.
func (d *document) reach(v span, path string) {
	if path == "" {
		d.found = append(d.found, v)
		return
	}
	switch d.raw[v.start] {
	case '[':
		c := d.hold(v)
		for k := range c.n {
			d.reach(d.entries[c.first+k].value, path)
		}
	case '{':
		c := d.hold(v)
		best, value := 0, span{}
		for k := c.first; k < c.first+c.n; k++ {
			e := &d.entries[k]
			n := int(e.name.end - e.name.start)
			name := d.raw[e.name.start:e.name.end]
			if e.escaped {
				d.name = audit.Unescape(d.name[:0], name)
				name, n = d.name, len(d.name)
			}
			if n >= best && n > 0 && (n == len(path) || n < len(path) && path[n] == '.') && string(name) == path[:n] {
				best, value = n, e.value
			}
		}
		switch {
		case best == 0:
		case best == len(path):
			d.reach(value, "")
		default:
			d.reach(value, path[best+1:])
		}
	}
}

// named is the last member of this name of the object v.
func (d *document) named(v span, name string) span {
	if v.none() || d.raw[v.start] != '{' {
		return span{}
	}
	c, out := d.hold(v), span{}
	for k := c.first; k < c.first+c.n; k++ {
		e := &d.entries[k]
		got := d.raw[e.name.start:e.name.end]
		if e.escaped {
			d.name = audit.Unescape(d.name[:0], got)
			got = d.name
		}
		if string(got) == name {
			out = e.value
		}
	}
	return out
}

// hold lists the members of the object v, or the objects in the array v, unless that is done already.
func (d *document) hold(v span) container {
	mask := uint32(len(d.held) - 1)
	at := v.start * 0x9E3779B1 >> 7 & mask
	for d.held[at].gen == d.gen {
		if d.held[at].off == v.start {
			return d.held[at]
		}
		at = (at + 1) & mask
	}
	first := uint32(len(d.entries))
	if d.raw[v.start] == '{' {
		d.object(int(v.start))
	} else {
		d.array(v)
	}
	c := container{d.gen, v.start, first, uint32(len(d.entries)) - first}
	d.held[at] = c
	if d.count++; d.count*2 > len(d.held) {
		d.grow()
	}
	return c
}

func (d *document) grow() {
	old := d.held
	d.held = make([]container, 2*len(old))
	mask := uint32(len(d.held) - 1)
	for _, c := range old {
		if c.gen != d.gen {
			continue
		}
		at := c.off * 0x9E3779B1 >> 7 & mask
		for d.held[at].gen == d.gen {
			at = (at + 1) & mask
		}
		d.held[at] = c
	}
}

// object appends the members of the object at i to entries. What follows a syntax error is not seen.
func (d *document) object(i int) {
	b := d.raw
	for {
		i = skipSpace(b, i+1)
		if i >= len(b) || b[i] != '"' {
			return
		}
		end := audit.SkipString(b, i)
		if end < 0 {
			return
		}
		e := entry{name: span{uint32(i + 1), uint32(end - 1)}}
		e.escaped = bytes.IndexByte(b[i+1:end-1], '\\') >= 0
		if i = skipSpace(b, end); i >= len(b) || b[i] != ':' {
			return
		}
		i = skipSpace(b, i+1)
		if end = audit.SkipValue(b, i); end < 0 {
			return
		}
		e.value = span{uint32(i), uint32(end)}
		d.entries = append(d.entries, e)
		if i = skipSpace(b, end); i >= len(b) || b[i] != ',' {
			return
		}
	}
}

// array appends the objects in the array v to entries, those of inner arrays as well. Nothing else has members.
func (d *document) array(v span) {
	for el, next := d.leaf(v, int(v.start)); !el.none(); el, next = d.leaf(v, next) {
		if d.raw[el.start] == '{' {
			d.entries = append(d.entries, entry{value: el})
		}
	}
}

// leaf is the next thing from i on in the array v that is no array, and where to go on. What is no array is its own leaf.
func (d *document) leaf(v span, i int) (el span, next int) {
	for b := d.raw; i < int(v.end); i++ {
		switch b[i] {
		case '[', ']', ',', ' ', '\n', '\t', '\r':
			continue
		}
		end := audit.SkipValue(b, i)
		if end < 0 {
			break
		}
		return span{uint32(i), uint32(end)}, end
	}
	return span{}, int(v.end)
}

// scalar is the text of the scalar v, as audit.Text gives it; ok is false for null, objects, arrays and nothing. It holds until the
// next call.
func (d *document) scalar(v span) (text []byte, ok bool) {
	if v.none() {
		return nil, false
	}
	b := d.raw[v.start:v.end]
	switch b[0] {
	case '{', '[', 'n':
		return nil, false
	case '"':
		b = b[1 : len(b)-1]
		if bytes.IndexByte(b, '\\') >= 0 {
			d.text = audit.Unescape(d.text[:0], b)
			return d.text, true
		}
	}
	return b, true
}
