package match

import (
	"bytes"
	"cmp"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"
)

// classifier says of one value which predicates of a field it satisfies. All constants of all predicates are asked together: equality by
// a hash table, text inside text by one automaton, networks by a table for each length, orders by constants that are read already.
// Immutable once built.
type classifier struct {
	equal  map[string][]int32 // predicates by constant
	folded map[string][]int32 // by folded constant
	every  []int32            // true of every value
	checks []check
	always []int32 // checks that no literal announces
	lits   *automaton
	uses   [][]int32 // checks by literal
	text   bool      // the folded value is wanted
	nets   []netLevel
	ints   []ordered[int64]
	floats []ordered[float64] // all numbers, also those in ints
	times  []ordered[time.Time]
}

type checkKind uint8

const (
	anywhere checkKind = iota // the folded literal's occurrence is enough
	atHead                    // of the folded value
	atTail                    // of the folded value
	verified                  // the operator itself is asked
)

// check is one operator and constant that a literal announces.
type check struct {
	kind  checkKind
	op    Op
	fold  bool
	c     string // folded if fold
	raw   []byte // c
	re    *regexp.Regexp
	preds []int32
}

type netLevel struct {
	bits  int
	four  bool
	preds map[netip.Addr][]int32
}

type ordered[T any] struct {
	op    Op
	c     T
	exact bool // an integer: compared as one with integers
	preds []int32
}

// atom is a constant under an operator: what predicates have in common.
type atom struct {
	op   Op
	c    string
	fold bool
}

// classBuilder collects the atoms of one field.
type classBuilder struct {
	c     classifier
	atoms map[atom]int // place in list
	list  []atom
	preds [][]int32
}

func (b *classBuilder) add(p *Pred, id int32) {
	if p.Op.bare() {
		b.c.every = append(b.c.every, id) // a value is there: so is the path
		return
	}
	for _, c := range p.Values {
		at := normal(p.Op, c, p.Fold)
		if at.op == Contains && at.c == "" {
			b.c.every = append(b.c.every, id)
			continue
		}
		i, ok := b.atoms[at]
		if !ok {
			i = len(b.list)
			if b.atoms == nil {
				b.atoms = map[atom]int{}
			}
			b.atoms[at] = i
			b.list, b.preds = append(b.list, at), append(b.preds, nil)
		}
		if l := b.preds[i]; len(l) == 0 || l[len(l)-1] != id {
			b.preds[i] = append(l, id)
		}
	}
}

// normal is the simplest atom of the same meaning.
func normal(op Op, c string, fold bool) atom {
	fold = fold && op <= Glob
	if fold {
		c = Fold(c)
	}
	if op == Glob {
		op, c, _ = simpleGlob(c)
	}
	if c == "" && (op == Prefix || op == Suffix) {
		op = Contains
	}
	return atom{op, c, fold}
}

func (b *classBuilder) build(from *compiler) (*classifier, error) {
	c := &b.c
	var sets [][]needed // by check
	for i, at := range b.list {
		preds := b.preds[i]
		switch at.op {
		case Equal:
			m := &c.equal
			if at.fold {
				m = &c.folded
			}
			if *m == nil {
				*m = map[string][]int32{}
			}
			(*m)[at.c] = preds
		case CIDR:
			if err := c.addNet(at.c, preds); err != nil {
				return nil, err
			}
		case Less, LessEqual, Greater, GreaterEqual:
			c.addOrder(at.op, at.c, preds)
		case Contains, Prefix, Suffix, Glob, Regex:
			ch := check{op: at.op, fold: at.fold, c: at.c, raw: []byte(at.c), preds: preds}
			need := ch.prepare(from)
			c.checks, sets = append(c.checks, ch), append(sets, need)
		}
	}
	c.announce(sets)
	return c, nil
}

// prepare says which literals announce the check.
func (ch *check) prepare(from *compiler) []needed {
	ch.kind = verified
	switch ch.op {
	case Regex:
		p := from.pattern(ch.c)
		ch.re = p.re
		return p.needs
	case Glob:
		return globNeeds(ch.c)
	}
	if !utf8.ValidString(ch.c) {
		return nil // folding would change it
	}
	if ch.fold {
		ch.kind = map[Op]checkKind{Contains: anywhere, Prefix: atHead, Suffix: atTail}[ch.op]
	}
	return []needed{{Fold(ch.c)}}
}

// announce chooses for each check the literals that the automaton looks for.
func (c *classifier) announce(sets [][]needed) {
	uses := map[string]int{}
	for _, need := range sets {
		for _, n := range need {
			for _, l := range n {
				uses[l]++
			}
		}
	}
	place := map[string]int{}
	var literals []string
	for i, need := range sets {
		n := rarest(need, uses)
		if n == nil {
			c.always = append(c.always, int32(i))
			continue
		}
		for _, l := range n {
			at, ok := place[l]
			if !ok {
				at = len(literals)
				place[l] = at
				literals, c.uses = append(literals, l), append(c.uses, nil)
			}
			if u := c.uses[at]; len(u) == 0 || u[len(u)-1] != int32(i) {
				c.uses[at] = append(u, int32(i))
			}
		}
	}
	if len(literals) > 0 {
		c.lits = newAutomaton(literals)
	}
	c.text = c.folded != nil || c.lits != nil || slices.ContainsFunc(c.always, func(i int32) bool { return c.checks[i].fold })
}

// readNetwork reads a network or single address as InCIDR does.
func readNetwork(s string) (netip.Prefix, error) {
	n, err := netip.ParsePrefix(s)
	if err != nil {
		one, errOne := netip.ParseAddr(s)
		if errOne != nil {
			return n, fmt.Errorf("cannot read network %.80q: %w", s, err)
		}
		one = one.Unmap().WithZone("")
		n = netip.PrefixFrom(one, one.BitLen())
	}
	if n.Addr().Is4In6() && n.Bits() >= 96 {
		n = netip.PrefixFrom(n.Addr().Unmap(), n.Bits()-96)
	}
	return n.Masked(), nil
}

func (c *classifier) addNet(s string, preds []int32) error {
	n, err := readNetwork(s)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(c.nets, func(l netLevel) bool { return l.bits == n.Bits() && l.four == n.Addr().Is4() })
	if i < 0 {
		i = len(c.nets)
		c.nets = append(c.nets, netLevel{n.Bits(), n.Addr().Is4(), map[netip.Addr][]int32{}})
	}
	c.nets[i].preds[n.Addr()] = append(c.nets[i].preds[n.Addr()], preds...)
	return nil
}

// addOrder takes a constant; one that is neither a number nor a time is never satisfied.
func (c *classifier) addOrder(op Op, s string, preds []int32) {
	if number(s) {
		f, _ := strconv.ParseFloat(s, 64)
		n, err := strconv.ParseInt(s, 10, 64)
		c.floats = append(c.floats, ordered[float64]{op, f, err == nil, preds})
		if err == nil {
			c.ints = append(c.ints, ordered[int64]{op, n, true, preds})
		}
		return
	}
	if t, err := time.Parse(time.RFC3339Nano, s); err == nil {
		c.times = append(c.times, ordered[time.Time]{op, t, false, preds})
	}
}

// marks notes numbers once each. The zero value wants room by fit.
type marks struct {
	gen  uint32
	seen []uint32
	list []int32
}

func (m *marks) fit(n int) { m.seen = make([]uint32, n) }

func (m *marks) reset() {
	m.list = m.list[:0]
	if m.gen++; m.gen == 0 {
		clear(m.seen)
		m.gen = 1
	}
}

func (m *marks) add(ids []int32) {
	for _, id := range ids {
		if m.seen[id] != m.gen {
			m.seen[id] = m.gen
			m.list = append(m.list, id)
		}
	}
}

func (m *marks) once(id int32) bool {
	if m.seen[id] == m.gen {
		return false
	}
	m.seen[id] = m.gen
	return true
}

// scratch is what one goroutine needs to classify.
type scratch struct {
	preds  marks // of the engine
	checks marks // of one field
	folded []byte
}

// classify leaves in s.preds.list the predicates that v satisfies, in ascending order.
func (c *classifier) classify(v []byte, s *scratch) []int32 {
	s.preds.reset()
	s.preds.add(c.every)
	if c.equal != nil {
		s.preds.add(c.equal[string(v)])
	}
	if c.text {
		c.byText(v, s)
	}
	for _, i := range c.always {
		if c.checks[i].holds(v, s.folded) {
			s.preds.add(c.checks[i].preds)
		}
	}
	if c.nets != nil {
		c.byNet(v, s)
	}
	if c.floats != nil || c.times != nil {
		c.byOrder(v, s)
	}
	if len(s.preds.list) > 1 {
		slices.Sort(s.preds.list)
	}
	return s.preds.list
}

func (c *classifier) byText(v []byte, s *scratch) {
	s.folded = appendFoldedBytes(s.folded[:0], v)
	text := s.folded
	if c.folded != nil {
		s.preds.add(c.folded[string(text)])
	}
	if c.lits == nil {
		return
	}
	s.checks.reset()
	a := c.lits
	for n, i := a.next(0, text, 0); n >= 0; n, i = a.next(n, text, i) {
		for e := n; ; e = a.more[e] {
			if l := a.out[e]; l >= 0 {
				c.announced(l, i-int(a.lens[l]), i, v, s)
			}
			if a.more[e] == 0 {
				break
			}
		}
	}
}

// announced asks the checks of literal l, which stands in the folded value from start to end.
func (c *classifier) announced(l int32, start, end int, v []byte, s *scratch) {
	for _, i := range c.uses[l] {
		ch := &c.checks[i]
		switch ch.kind {
		case anywhere:
			s.preds.add(ch.preds)
		case atHead:
			if start == 0 {
				s.preds.add(ch.preds)
			}
		case atTail:
			if end == len(s.folded) {
				s.preds.add(ch.preds)
			}
		case verified:
			if s.checks.once(i) && ch.holds(v, s.folded) {
				s.preds.add(ch.preds)
			}
		}
	}
}

// holds asks the operator. folded is only looked at where case does not count.
func (ch *check) holds(v, folded []byte) bool {
	if ch.fold {
		v = folded
	}
	switch ch.op {
	case Contains:
		return bytes.Contains(v, ch.raw)
	case Prefix:
		return bytes.HasPrefix(v, ch.raw)
	case Suffix:
		return bytes.HasSuffix(v, ch.raw)
	case Glob:
		return MatchGlob(ch.c, alias(v))
	case Regex:
		return ch.re.Match(v)
	}
	return false
}

func (c *classifier) byNet(v []byte, s *scratch) {
	if len(v) < 2 || len(v) > 80 {
		return // no address
	}
	if c0 := v[0]; c0 != ':' && (c0-'0' > 9) && (c0|0x20 < 'a' || c0|0x20 > 'f') {
		return
	}
	a, err := netip.ParseAddr(alias(v))
	if err != nil {
		return
	}
	a = a.Unmap().WithZone("")
	for _, l := range c.nets {
		if l.four != a.Is4() {
			continue
		}
		if p, err := a.Prefix(l.bits); err == nil {
			s.preds.add(l.preds[p.Addr()])
		}
	}
}

func (c *classifier) byOrder(v []byte, s *scratch) {
	text := alias(v)
	if !number(text) {
		if len(c.times) == 0 || len(v) < len("2006-01-02T5:04:05Z") || v[4] != '-' {
			return
		}
		t, err := time.Parse(time.RFC3339Nano, text)
		if err != nil {
			return
		}
		for _, o := range c.times {
			if inOrder(o.op, t.Compare(o.c)) {
				s.preds.add(o.preds)
			}
		}
		return
	}
	n, ok := integer(v)
	if !ok {
		f, _ := strconv.ParseFloat(text, 64)
		for _, o := range c.floats {
			if inOrder(o.op, cmp.Compare(f, o.c)) {
				s.preds.add(o.preds)
			}
		}
		return
	}
	for _, o := range c.ints {
		if inOrder(o.op, cmp.Compare(n, o.c)) {
			s.preds.add(o.preds)
		}
	}
	if len(c.ints) < len(c.floats) {
		f, _ := strconv.ParseFloat(text, 64)
		for _, o := range c.floats {
			if !o.exact && inOrder(o.op, cmp.Compare(f, o.c)) {
				s.preds.add(o.preds)
			}
		}
	}
}
