package match

import (
	"bytes"
	"fmt"
	"hash/maphash"
	"slices"

	"whodunit/internal/audit"
)

// EngineOptions bound an Engine. The zero value is good for production.
type EngineOptions struct {
	MaxStates int  // of the decision diagram that each Matcher builds as events come; 0 is the default
	Generic   bool // events are any JSON objects, not audit events
}

const (
	defaultStates = 1 << 14
	learntBytes   = 24 << 20 // of a Matcher's diagram and memos, beyond what the rules themselves take in its first state
)

// Engine is many expressions compiled into one. It answers as Eval does for each, event by event. Immutable, safe for concurrent use;
// what is learnt from events is in its Matchers.
//
// Every distinct predicate is kept once and filed under its field: a path, a computed field, all Texts, a Func. A Matcher asks field
// after field, in one fixed order from cheap and telling to costly. A field's answer is a class: the set of its predicates that are
// true. The expressions that are still open, simplified by all answers so far, are a state; a state and a class lead to the next state
// and to the expressions that have come out true. States are made when an event first leads there and remembered, so that an event
// takes about ten table lookups however many expressions there are, and a field that no open expression asks for is never read.
type Engine struct {
	o         EngineOptions
	levels    []*level // the first is the event itself
	fields    []*field // in the order in which they are asked; a node's rank is its place here
	firstFunc int32    // of fields: from here on the open expressions are evaluated one by one
	nodes     *nodes
	roots     []item    // the distinct expressions
	places    [][]int32 // by distinct expression: which of those given it is
	preds     int
	checks    int // most of one field
	seed      maphash.Seed
	slots     struct{ kind, version, id, stage, ips, ref, request, response int32 }
}

// NewEngine compiles exprs; a nil one is always true. An error names the expression by its place: a bad regular expression or network.
func NewEngine(exprs []Expr, o EngineOptions) (*Engine, error) {
	e := &Engine{o: o, levels: []*level{newLevel(-1)}, nodes: newNodes(nil), seed: maphash.MakeSeed()}
	if e.o.MaxStates <= 0 {
		e.o.MaxStates = defaultStates
	}
	top := e.levels[0]
	for _, n := range audit.TopNames { // first, so that a name's number is its place there
		top.add(n)
	}
	e.slots.kind, e.slots.version = top.slot["kind"], top.slot["apiVersion"]
	e.slots.id, e.slots.stage = top.slot["auditID"], top.slot["stage"]
	e.slots.ips, e.slots.ref = top.slot["sourceIPs"], top.slot["objectRef"]
	e.slots.request, e.slots.response = top.slot["requestObject"], top.slot["responseObject"]
	c := compiler{e: e, fields: map[string]*field{}, known: map[string]int32{}, leaves: map[Expr]int32{}, said: map[string]pattern{}}
	if err := c.compile(exprs); err != nil {
		return nil, fmt.Errorf("cannot compile rules: %w", err)
	}
	return e, nil
}

// Stats is what a Matcher has done and holds.
type Stats struct {
	Events  uint64 // asked
	States  int    // of the diagram now
	Flushes uint64 // times it was full and begun anew
	Misses  uint64 // steps for which there was no state yet
	Direct  uint64 // expressions evaluated one by one: for their Funcs, or for want of room in the diagram
	Parses  uint64 // events of MatchRaw of which an audit.Event had to be made, for a computed field or a condition
	Bytes   int    // of diagram, classes and memos, about
}

// Matcher runs an engine for one goroutine.
type Matcher struct {
	e    *Engine
	doc  *document
	dia  *diagram
	sets *sets
	memo []memo // by field
	held int    // bytes of all memos

	gen   uint32 // of the event
	class []int32
	asked []uint32 // by field: the gen in which class was found out
	told  []uint32 // by field: the gen in which truth was told
	truth []uint32 // by predicate: the last gen in which it was true
	union map[uint64]int32
	inter map[uint64]int32
	both  map[uint64]int32

	// the event
	cluster string
	raw     []byte
	ev      *audit.Event // given, or parsed; nil: not yet
	parsed  audit.Event
	bodies  audit.Event // its bodies alone; without Raw: not yet
	flags   audit.Flags
	generic bool
	given   bool // by Match: the header as it was parsed counts
	walked  bool // doc is raw's
	err     error
	hits    []int

	s     scratch
	fold  *folding
	buf   []byte
	stats Stats
}

// Matcher makes one. It begins with nothing learnt.
func (e *Engine) Matcher() *Matcher {
	m := &Matcher{
		e: e, doc: newDocument(e.levels), dia: newDiagram(e), sets: newSets(), memo: make([]memo, len(e.fields)),
		class: make([]int32, len(e.fields)), asked: make([]uint32, len(e.fields)), told: make([]uint32, len(e.fields)),
		truth: make([]uint32, e.preds),
		union: map[uint64]int32{}, inter: map[uint64]int32{}, both: map[uint64]int32{},
	}
	m.s.preds.fit(e.preds)
	m.s.checks.fit(e.checks)
	m.fold = newFolding(m)
	return m
}

// Stats is what m has done so far. Not while a match runs.
func (m *Matcher) Stats() Stats {
	s := m.stats
	s.States, s.Bytes = len(m.dia.states), m.dia.bytes()+m.sets.bytes()+m.held
	return s
}

// Match appends to hits the places of all expressions that are true of ev, in ascending order.
func (m *Matcher) Match(ev *audit.Event, hits []int) []int {
	m.start(ev.Cluster, ev.Raw, ev.Flags)
	m.ev, m.given = ev, true
	hits = m.run(hits)
	m.ev, m.raw, m.doc.raw = nil, nil, nil
	return hits
}

// MatchRaw is Match for an event's bytes, which need not be parsed for it. raw is read, not kept. The error is permanent and says why
// raw is no event, as far as that is seen without parsing all of it: whoever goes on with a hit parses, and may find more. Computed fields
// and Funcs get an event of audit.Assemble, which they must not keep.
func (m *Matcher) MatchRaw(cluster string, raw []byte, hits []int) ([]int, error) {
	flags := audit.Flags(0)
	if m.e.o.Generic {
		flags = audit.FlagGeneric
	}
	m.start(cluster, raw, flags)
	m.walked = true
	if err := m.doc.reset(raw); err != nil {
		return hits, fmt.Errorf("cannot match: %w", err)
	}
	if !m.generic {
		if err := m.check(); err != nil {
			return hits, fmt.Errorf("cannot match: %w", err)
		}
	}
	before := len(hits)
	hits = m.run(hits)
	m.ev, m.bodies, m.raw, m.doc.raw = nil, audit.Event{}, nil, nil
	if m.err != nil {
		return hits[:before], fmt.Errorf("cannot match: %w", m.err)
	}
	return hits, nil
}

// check is what audit.Parse asks of an event's own fields.
func (m *Matcher) check() error {
	finding := false
	if text, _ := m.doc.scalar(m.doc.top[m.e.slots.kind]); len(text) > 0 && string(text) != "Event" {
		if finding = string(text) == audit.KindFinding; !finding {
			return fmt.Errorf("%w: kind is %.60q", audit.ErrNotAudit, text)
		}
	}
	if text, _ := m.doc.scalar(m.doc.top[m.e.slots.version]); len(text) > 0 && !finding {
		if !bytes.HasPrefix(text, []byte("audit.k8s.io/")) {
			return fmt.Errorf("%w: apiVersion is %.60q", audit.ErrNotAudit, text)
		}
	}
	if text, _ := m.doc.scalar(m.doc.top[m.e.slots.id]); len(text) == 0 {
		return fmt.Errorf("%w: no auditID", audit.ErrNotAudit)
	}
	if text, _ := m.doc.scalar(m.doc.top[m.e.slots.stage]); len(text) == 0 {
		return fmt.Errorf("%w: no stage", audit.ErrNotAudit)
	}
	return nil
}

func (m *Matcher) start(cluster string, raw []byte, flags audit.Flags) {
	m.cluster, m.raw, m.flags, m.generic = cluster, raw, flags, flags&audit.FlagGeneric != 0
	m.given, m.walked, m.ev, m.bodies.Raw, m.err = false, false, nil, nil, nil
	m.stats.Events++
	if m.gen++; m.gen == 0 {
		clear(m.asked)
		clear(m.told)
		clear(m.truth)
		m.gen = 1
	}
	m.tidy()
}

// event is the event as a whole, made of its bytes if need be; nil, and m.err, if it is none.
func (m *Matcher) event() *audit.Event {
	if m.ev != nil || m.err != nil {
		return m.ev
	}
	m.stats.Parses++
	if m.generic {
		m.parsed = audit.Event{Cluster: m.cluster, Raw: bytes.TrimSpace(m.raw), Flags: audit.FlagGeneric}
	} else if m.parsed, m.err = m.assemble(); m.err != nil {
		return nil
	}
	m.ev = &m.parsed
	return m.ev
}

// forField is the event as a computed field needs it, nil as event gives it.
func (m *Matcher) forField(f *Field) *audit.Event {
	if m.ev != nil || m.generic || !f.Bodies {
		return m.event()
	}
	if b := &m.bodies; b.Raw == nil {
		b.Cluster, b.Raw = m.cluster, m.raw
		b.RequestObject, b.ResponseObject = m.body(m.e.slots.request), m.body(m.e.slots.response)
	}
	return &m.bodies
}

// body is the value of that slot of the top level, unless it is null.
func (m *Matcher) body(slot int32) []byte {
	v := m.doc.top[slot]
	if v.none() || m.raw[v.start] == 'n' {
		return nil
	}
	return m.raw[v.start:v.end:v.end]
}

// assemble makes the event of what the walk over its top level has found.
func (m *Matcher) assemble() (audit.Event, error) {
	var values [len(audit.TopNames)][]byte
	for i, v := range m.doc.top[:len(values)] {
		if !v.none() {
			values[i] = m.raw[v.start:v.end:v.end]
		}
	}
	return audit.Assemble(m.cluster, m.raw, &values)
}

// run follows the diagram.
func (m *Matcher) run(hits []int) []int {
	before := len(hits)
	m.hits = hits
	m.accept(m.dia.always)
	s := m.dia.root
	for s > 0 {
		f := m.dia.states[s].field
		if f >= m.e.firstFunc {
			m.direct(s)
			break
		}
		class := m.ask(f)
		if m.err != nil {
			break
		}
		next, accepts, ok := m.dia.step(s, class)
		if !ok {
			if next, accepts, ok = m.learn(s, class); !ok {
				m.direct(s)
				break
			}
		}
		if len(accepts) > 0 {
			m.accept(accepts)
		}
		s = next
	}
	hits, m.hits = m.hits, nil
	if own := hits[before:]; len(own) > 1 && !slices.IsSorted(own) {
		slices.Sort(own)
	}
	return hits
}

func (m *Matcher) accept(roots []int32) {
	for _, r := range roots {
		for _, p := range m.e.places[r] {
			m.hits = append(m.hits, int(p))
		}
	}
}

// direct evaluates the open expressions of state s one by one.
func (m *Matcher) direct(s int32) {
	st := m.dia.states[s]
	for _, it := range m.dia.items[st.from:st.to] {
		m.stats.Direct++
		if m.eval(it.node) && m.err == nil {
			for _, p := range m.e.places[it.root] {
				m.hits = append(m.hits, int(p))
			}
		}
		if m.err != nil {
			return
		}
	}
}

// eval is node id of this event.
func (m *Matcher) eval(id int32) bool {
	n := m.dia.nodes.at(id)
	switch n.kind {
	case leafNode:
		if id <= nodeTrue {
			return id == nodeTrue
		}
		m.tell(n.rank)
		return m.truth[n.a] == m.gen
	case notNode:
		return !m.eval(n.a)
	}
	for _, k := range m.dia.nodes.operands(id) {
		if m.eval(k) == (n.kind == orNode) {
			return n.kind == orNode
		}
	}
	return n.kind == andNode
}

// tell notes in m.truth which predicates of field f are true.
func (m *Matcher) tell(f int32) {
	if m.told[f] == m.gen {
		return
	}
	m.told[f] = m.gen
	for _, p := range m.sets.list(m.ask(f)) {
		m.truth[p] = m.gen
	}
}
