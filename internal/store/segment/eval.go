package segmentstore

import (
	"whodunit/internal/journal/segment"
	"whodunit/internal/match"
)

// columns is what has been read of one group for one question.
type columns struct {
	g     *segment.Group
	texts map[segment.Column]*segment.Texts
	lists map[segment.Column]*segment.Lists
	times []int64
	flags []uint32
	read  bool // something has been read but bloom filters
}

func newColumns(g *segment.Group) *columns {
	return &columns{g: g, texts: map[segment.Column]*segment.Texts{}, lists: map[segment.Column]*segment.Lists{}}
}

func (c *columns) text(col segment.Column) (*segment.Texts, error) {
	if t, ok := c.texts[col]; ok {
		return t, nil
	}
	c.read = true
	t, err := c.g.Texts(col)
	if err != nil {
		return nil, err
	}
	c.texts[col] = &t
	return &t, nil
}

func (c *columns) list(col segment.Column) (*segment.Lists, error) {
	if l, ok := c.lists[col]; ok {
		return l, nil
	}
	c.read = true
	l, err := c.g.Lists(col)
	if err != nil {
		return nil, err
	}
	c.lists[col] = &l
	return &l, nil
}

func (c *columns) time() ([]int64, error) {
	if c.times != nil {
		return c.times, nil
	}
	c.read = true
	t, err := c.g.Numbers(segment.Time)
	c.times = t
	return t, err
}

func (c *columns) flagBits() ([]uint32, error) {
	if c.flags != nil {
		return c.flags, nil
	}
	c.read = true
	f, err := c.g.FlagBits()
	c.flags = f
	return f, err
}

// irregular are the rows that columns say nothing about.
func (c *columns) irregular() (rowset, error) {
	s := newRows(c.g.Rows())
	if c.g.Irregular() == 0 {
		return s, nil
	}
	flags, err := c.flagBits()
	for i, f := range flags {
		if f&segment.Irregular != 0 {
			s.add(i)
		}
	}
	return s, err
}

// possible reports whether a regular row may match, as far as bloom filters and bounds say.
func (n *node) possible(g *segment.Group) bool {
	switch n.kind {
	case isConst:
		return n.value
	case isAnd:
		for _, k := range n.kids {
			if !k.possible(g) {
				return false
			}
		}
	case isOr:
		for _, k := range n.kids {
			if k.possible(g) {
				return true
			}
		}
		return false
	case isColumn:
		if n.pred.Op != match.Equal || n.pred.Fold || n.col.IsList() || n.col == segment.Code {
			return true
		}
		for _, v := range n.pred.Values {
			if g.MayHold(n.col, v) {
				return true
			}
		}
		return false
	}
	return true
}

// eval gives the rows of alive that match for certain, and those that may match: for them the raw event must be asked. All rows of alive
// are regular. The sets are the caller's.
func (n *node) eval(c *columns, alive rowset) (yes, maybe rowset, err error) {
	switch n.kind {
	case isConst:
		if n.value {
			return alive.clone(), make(rowset, len(alive)), nil
		}
		return make(rowset, len(alive)), make(rowset, len(alive)), nil
	case isAnd:
		return n.evalAnd(c, alive)
	case isOr:
		return n.evalOr(c, alive)
	case isNot:
		y, m, err := n.kids[0].eval(c, alive)
		if err != nil {
			return nil, nil, err
		}
		no := alive.clone()
		no.without(y)
		no.without(m)
		return no, m, nil
	case isColumn:
		var y rowset
		if n.col.IsList() {
			y, err = n.evalList(c)
		} else {
			y, err = n.evalText(c)
		}
		if err != nil {
			return nil, nil, err
		}
		y.and(alive)
		return y, make(rowset, len(alive)), nil
	}
	return make(rowset, len(alive)), n.haveWords(c, alive), nil
}

func (n *node) evalAnd(c *columns, alive rowset) (yes, maybe rowset, err error) {
	yes, maybe = alive.clone(), make(rowset, len(alive))
	for _, k := range n.kids {
		y, m, err := k.eval(c, yes)
		if err != nil {
			return nil, nil, err
		}
		maybe.or(m)
		y.or(m)
		yes = y
		if yes.empty() {
			break
		}
	}
	maybe.and(yes)
	yes.without(maybe)
	return yes, maybe, nil
}

func (n *node) evalOr(c *columns, alive rowset) (yes, maybe rowset, err error) {
	yes, maybe = make(rowset, len(alive)), make(rowset, len(alive))
	rest := alive.clone()
	for _, k := range n.kids {
		if rest.empty() {
			break
		}
		y, m, err := k.eval(c, rest)
		if err != nil {
			return nil, nil, err
		}
		yes.or(y)
		maybe.or(m)
		rest.without(y)
	}
	maybe.without(yes)
	return yes, maybe, nil
}

// accepts evaluates the predicate once for each distinct value. "" is a missing path.
func (n *node) accepts(values []string) (ok []bool, some bool) {
	ok = make([]bool, len(values))
	for i, v := range values {
		ok[i] = v != "" && n.pred.Accepts(v)
		some = some || ok[i]
	}
	return ok, some
}

func (n *node) evalText(c *columns) (rowset, error) {
	out := newRows(c.g.Rows())
	empty := n.col == segment.Reason && n.pred.Accepts("")
	if t, ok := c.texts[n.col]; !ok && !empty {
		values, all, err := c.g.Values(n.col)
		if err != nil {
			return nil, err
		}
		c.read = true
		if _, some := n.accepts(values); all && !some {
			return out, nil
		}
	} else if ok && t.Index == nil {
		return n.plainRows(t, out), nil
	}
	t, err := c.text(n.col)
	if err != nil {
		return nil, err
	}
	if t.Index == nil {
		return n.plainRows(t, out), nil
	}
	ok, some := n.accepts(t.Values)
	if some {
		for i, v := range t.Index {
			if ok[v] {
				out.add(i)
			}
		}
	}
	if empty {
		flags, err := c.flagBits()
		if err != nil {
			return nil, err
		}
		for i, f := range flags {
			if f&segment.EmptyReason != 0 {
				out.add(i)
			}
		}
	}
	return out, nil
}

// plainRows asks each row, where the column has no dictionary.
func (n *node) plainRows(t *segment.Texts, out rowset) rowset {
	exact := n.pred.Op == match.Equal && !n.pred.Fold && len(n.pred.Values) == 1
	for i, v := range t.Values {
		if v == "" {
			continue
		}
		if exact && v == n.pred.Values[0] || !exact && n.pred.Accepts(v) {
			out.add(i)
		}
	}
	return out
}

func (n *node) evalList(c *columns) (rowset, error) {
	out := newRows(c.g.Rows())
	l, err := c.list(n.col)
	if err != nil {
		return nil, err
	}
	ok := make([]bool, len(l.Values))
	for i, v := range l.Values {
		ok[i] = n.pred.Op == match.Exists || n.pred.Accepts(v) && !(n.peer && v == "")
	}
	for i := range c.g.Rows() {
		from, to := l.Start[i], l.Start[i+1]
		if n.peer && to > from {
			from = to - 1
		}
		for _, v := range l.Index[from:to] {
			if ok[v] {
				out.add(i)
				break
			}
		}
	}
	return out, nil
}

// haveWords leaves those of alive whose events may have the words.
func (n *node) haveWords(c *columns, alive rowset) rowset {
	out := alive.clone()
	if n.words == nil {
		return out
	}
	for _, w := range c.g.WordRuns() {
		if !out.within(w.First, w.First+w.Rows) {
			continue
		}
		if !c.g.MayHaveAnyWords(w, n.words) {
			out.remove(w.First, w.First+w.Rows)
		}
	}
	return out
}
