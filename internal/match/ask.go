package match

import (
	"bytes"
	"slices"
	"strconv"

	"whodunit/internal/audit"
)

// folding takes the values of a field one after the other and keeps the class of all of them.
type folding struct {
	m     *Matcher
	f     int32
	n     int   // values so far
	any   int32 // set of what some value satisfies
	all   int32 // set of what every value satisfies
	wide  marks // in place of any, beyond fewJoined values
	yield func(string) bool
}

// fewJoined values of a list are put together pair by pair, which is remembered. Beyond, each pair would be a set of its own, and a client that
// names all that rules look for could fill the memory with the square of their number.
const fewJoined = 64

func newFolding(m *Matcher) *folding {
	g := &folding{m: m}
	g.wide.fit(m.e.preds)
	g.yield = func(v string) bool { g.value(aliasBytes(v)); return true }
	return g
}

func (g *folding) begin(f int32) { g.f, g.n, g.any, g.all = f, 0, 0, 0 }

func (g *folding) value(v []byte) {
	m := g.m
	set := m.classify(g.f, v)
	if g.n++; g.n == 1 {
		g.any, g.all = set, set
		return
	}
	switch {
	case g.n <= fewJoined:
		g.any = m.join(m.union, g.any, set, true)
	case g.n == fewJoined+1:
		g.wide.reset()
		g.wide.add(m.sets.list(g.any))
		fallthrough
	default:
		g.wide.add(m.sets.list(set))
	}
	if m.e.fields[g.f].every != nil {
		g.all = m.join(m.inter, g.all, set, false)
	}
}

// class is the class of the values, given whether the path is there and whether it is not null.
func (g *folding) class(exists, present bool) int32 {
	m, f := g.m, g.m.e.fields[g.f]
	if g.n > fewJoined {
		slices.Sort(g.wide.list)
		g.any = m.sets.intern(g.wide.list)
	}
	switch {
	case g.n == 0 && exists:
		return m.sets.intern(f.present)
	case g.n == 0 && present:
		m.s.preds.reset()
		for _, p := range f.present {
			if !slices.Contains(f.exists, p) {
				m.s.preds.list = append(m.s.preds.list, p)
			}
		}
		return m.sets.intern(m.s.preds.list)
	case g.any == g.all || f.every == nil:
		return g.any
	}
	key := uint64(uint32(g.any))<<32 | uint64(uint32(g.all))
	if set, ok := m.both[key]; ok {
		return set
	}
	all := m.sets.list(g.all)
	m.s.preds.reset()
	for _, p := range m.sets.list(g.any) {
		if _, every := slices.BinarySearch(f.every, p); every {
			if _, ok := slices.BinarySearch(all, p); !ok {
				continue
			}
		}
		m.s.preds.list = append(m.s.preds.list, p)
	}
	set := m.sets.intern(m.s.preds.list)
	m.both[key] = set
	return set
}

// join is the union or intersection of two sets.
func (m *Matcher) join(known map[uint64]int32, a, b int32, union bool) int32 {
	if a == b {
		return a
	}
	if a == 0 || b == 0 {
		if union {
			return a + b
		}
		return 0
	}
	key := uint64(uint32(a))<<32 | uint64(uint32(b))
	if set, ok := known[key]; ok {
		return set
	}
	m.s.preds.reset()
	la, lb := m.sets.list(a), m.sets.list(b)
	if union {
		m.s.preds.add(la)
		m.s.preds.add(lb)
		slices.Sort(m.s.preds.list)
	} else {
		for _, p := range la {
			if _, ok := slices.BinarySearch(lb, p); ok {
				m.s.preds.list = append(m.s.preds.list, p)
			}
		}
	}
	set := m.sets.intern(m.s.preds.list)
	known[key] = set
	return set
}

// classify is the set of predicates of field f that one value satisfies.
func (m *Matcher) classify(f int32, v []byte) int32 {
	mm := &m.memo[f]
	if mm.rest > 0 || len(v) > memoLongest {
		mm.rest -= min(mm.rest, 1)
		return m.sets.intern(m.e.fields[f].c.classify(v, &m.s))
	}
	if set, ok := mm.again(v); ok {
		return set
	}
	h := hashText(m.e.seed, v)
	if set, ok := mm.find(h, v); ok {
		return set
	}
	set := m.sets.intern(m.e.fields[f].c.classify(v, &m.s))
	if mm.rest > 0 { // it has just been given up
		m.held, mm.size = m.held-mm.size, 0
		return set
	}
	grown := mm.add(h, v, set)
	m.held, mm.size = m.held+grown, mm.size+grown
	return set
}

// ask finds out the class of field f, once for each event.
func (m *Matcher) ask(f int32) int32 {
	if m.asked[f] == m.gen {
		return m.class[f]
	}
	fd := m.e.fields[f]
	var class int32
	switch fd.kind {
	case pathField:
		class = m.askPath(f, fd)
	case computedField:
		class = m.askComputed(f, fd)
	case textField:
		m.buf = fd.search.occurring(m.raw, &m.s, m.buf)
		class = m.sets.intern(m.s.preds.list)
	case funcField:
		if fd.fn.Flags != 0 && fd.fn.Flags&m.flags == 0 {
			break
		}
		if ev := m.event(); ev != nil && fd.fn.Eval(ev) {
			class = m.sets.intern(fd.preds)
		}
	}
	m.class[f], m.asked[f] = class, m.gen
	return class
}

func (m *Matcher) askComputed(f int32, fd *field) int32 {
	ev := m.forField(fd.computed)
	if ev == nil {
		return 0
	}
	g := m.fold
	g.begin(f)
	fd.computed.Values(ev, g.yield)
	present := g.n == 0 && len(fd.present) > 0 && fd.computed.Null != nil && fd.computed.Null(ev)
	return g.class(false, present)
}

// askPath is what Values, Has and IsPresent say, on the bytes.
func (m *Matcher) askPath(f int32, fd *field) int32 {
	if fd.special != plainPath && !m.generic {
		if v, ok, exists := m.header(fd); ok {
			if len(v) > 0 {
				return m.classify(f, v)
			}
			g := m.fold
			g.begin(f)
			if !exists && len(fd.present) > 0 && fd.special == clusterPath {
				m.walk()
				m.find(fd)
				return g.class(m.reached())
			}
			return g.class(exists, exists)
		}
	}
	d := m.walk()
	if v, one := d.one(fd); one {
		if v.none() {
			return 0
		}
		if c := d.raw[v.start]; c != '[' && c != '{' && c != 'n' {
			text, _ := d.scalar(v)
			return m.classify(f, text)
		}
		d.found = append(d.found[:0], v)
	} else {
		m.find(fd)
	}
	if len(d.found) == 0 {
		return 0
	}
	g := m.fold
	g.begin(f)
	for _, v := range d.found {
		if d.raw[v.start] != '[' {
			if text, ok := d.scalar(v); ok {
				g.value(text)
			}
			continue
		}
		for el, next := d.leaf(v, int(v.start)); !el.none(); el, next = d.leaf(v, next) {
			if text, ok := d.scalar(el); ok {
				g.value(text)
			}
		}
	}
	return g.class(m.reached())
}

// walk makes sure that the document is the event's.
func (m *Matcher) walk() *document {
	if !m.walked {
		m.walked = true
		if m.doc.reset(m.raw) != nil { // an Event without its bytes: it has no values there
			clear(m.doc.top)
			m.doc.raw, m.doc.root = nil, span{}
		}
	}
	return m.doc
}

// one is where the path leads, if that is seen without a search.
func (d *document) one(fd *field) (v span, ok bool) {
	switch {
	case d.dotted || fd.first < 0 || d.root.none():
		return span{}, false
	case fd.rest == "" || d.top[fd.first].none():
		return d.top[fd.first], true
	case fd.level == 0 || d.raw[d.top[fd.first].start] != '{':
		return span{}, false
	}
	v = d.below(fd.level).at[fd.slot]
	return v, !v.none() || !fd.parts
}

// find leaves in m.doc.found what the path leads to.
func (m *Matcher) find(fd *field) {
	d := m.doc
	d.found = d.found[:0]
	switch {
	case d.root.none():
	case d.dotted || fd.first < 0:
		d.reach(d.root, fd.path)
	case !d.top[fd.first].none():
		d.reach(d.top[fd.first], fd.rest)
	}
}

// reached says whether find found something that is not null, and whether it found anything.
func (m *Matcher) reached() (exists, present bool) {
	d := m.doc
	for _, v := range d.found {
		if d.raw[v.start] != 'n' {
			return true, true
		}
	}
	return false, len(d.found) > 0
}

// header is what header in values.go says: for an event that is parsed already from it, else by the way that audit.Parse takes.
// ok is false where the bytes must be asked. exists is about an empty v.
func (m *Matcher) header(fd *field) (v []byte, ok, exists bool) {
	if fd.special == clusterPath {
		return aliasBytes(m.cluster), true, false
	}
	if m.given {
		return m.headerOf(m.ev, fd)
	}
	d := m.walk()
	switch {
	case fd.special == peerPath:
		v, exists = m.peer()
		return v, true, exists
	case fd.special == groupPath:
		if v, _ = d.scalar(d.named(d.top[m.e.slots.ref], "apiGroup")); len(v) > 0 {
			return v, true, false
		}
		if v, _ = d.scalar(d.named(d.top[m.e.slots.ref], "apiVersion")); len(v) > 0 {
			if i := bytes.IndexByte(v, '/'); i > 0 {
				return v[:i], true, false
			}
		}
		return nil, false, false
	case d.dotted:
		s := d.top[fd.first]
		if fd.rest != "" {
			s = d.named(s, fd.rest)
		}
		v, _ = d.scalar(s)
		if fd.special == codePath {
			n, err := strconv.Atoi(alias(v))
			if err != nil || n == 0 || d.raw[s.start] == '"' {
				v = nil
			}
		}
		return v, len(v) > 0, false
	}
	return nil, false, false
}

func (m *Matcher) headerOf(ev *audit.Event, fd *field) (v []byte, ok, exists bool) {
	if fd.special == codePath {
		m.buf = strconv.AppendInt(m.buf[:0], int64(ev.Response.Code), 10)
		return m.buf, ev.Response.Code != 0, false
	}
	s, ok := header(ev, fd.path)
	return aliasBytes(s), ok, fd.special == peerPath && len(ev.SourceIPs) > 0
}

// peer is the last of sourceIPs, and whether there is any.
func (m *Matcher) peer() (last []byte, some bool) {
	d := m.doc
	v := d.top[m.e.slots.ips]
	if v.none() || d.raw[v.start] != '[' {
		return nil, false
	}
	b, i := d.raw[:v.end-1], int(v.start+1)
	el := span{}
	for {
		i = skipSpace(b, i)
		end := audit.SkipValue(b, i)
		if end < 0 {
			break
		}
		if c := b[i]; c != '{' && c != '[' && c != 'n' {
			el = span{uint32(i), uint32(end)}
		}
		if i = skipSpace(b, end); i >= len(b) || b[i] != ',' {
			break
		}
		i++
	}
	last, some = d.scalar(el)
	return last, some
}
