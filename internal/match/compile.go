package match

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"whodunit/internal/audit"
)

type fieldKind uint8

const (
	pathField     fieldKind = iota
	computedField           // a Field
	textField               // all Texts
	funcField               // one Func
)

// special marks paths that are not (or not always) what the bytes say; see header in values.go.
type special uint8

const (
	plainPath special = iota
	headerPath
	codePath
	groupPath
	clusterPath
	peerPath
)

// field is what predicates ask: all predicates on one path, on one computed field, all Texts, or one Func. Immutable once built.
type field struct {
	kind    fieldKind
	special special
	path    string
	first   int32  // the top-level name it begins with; -1: it cannot be in a document without dotted names
	rest    string // of the path
	level   int32  // of the object that first names, where all of rest may be one name; 0: none
	slot    int32  // rest's in that level
	parts   bool   // rest may be several names as well
	weight  int
	costly  bool // holds patterns that no literal announces, in a field of their own that is asked late

	c        *classifier
	exists   []int32 // predicates that are true when the path is there and not null
	present  []int32 // those that are true when the path is there: exists and more
	every    []int32 // predicates that every value must satisfy, of a list
	computed *Field
	fn       *Func
	texts    []*Text
	search   *textSearch
	preds    []int32

	build classBuilder
}

// compiler makes an engine of expressions.
type compiler struct {
	e      *Engine
	fields map[string]*field
	order  []*field
	preds  []predicate
	known  map[string]int32 // predicates by what they say
	leaves map[Expr]int32   // predicates by pointer
	said   map[string]pattern
	key    []byte
	err    error
}

// pattern is a regular expression that was read already.
type pattern struct {
	re    *regexp.Regexp
	needs []needed
	err   error
}

func (c *compiler) pattern(s string) pattern {
	p, ok := c.said[s]
	if !ok {
		p.re, p.needs, p.err = readPattern(s)
		c.said[s] = p
	}
	return p
}

type predicate struct {
	f    *field
	pred *Pred // nil for Text and Func
	rank int32
}

func (c *compiler) compile(exprs []Expr) error {
	var errs []error
	for i, x := range exprs {
		c.err = nil
		if x != nil {
			c.collect(x)
		}
		if c.err != nil {
			errs = append(errs, fmt.Errorf("expression %d: %w", i, c.err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if err := c.finish(); err != nil {
		return err
	}
	place := map[int32]int32{}
	for i, x := range exprs {
		id := nodeTrue
		if x != nil {
			id = c.node(x)
		}
		at, ok := place[id]
		if !ok {
			at = int32(len(c.e.roots))
			place[id] = at
			c.e.roots, c.e.places = append(c.e.roots, item{at, id}), append(c.e.places, nil)
		}
		c.e.places[at] = append(c.e.places[at], int32(i))
	}
	return nil
}

// collect interns the predicates of x.
func (c *compiler) collect(x Expr) {
	switch x := x.(type) {
	case And:
		for _, p := range x {
			c.collect(p)
		}
	case Or:
		for _, p := range x {
			c.collect(p)
		}
	case Not:
		c.collect(x.X)
	case *Pred, *Text, *Func:
		if _, ok := c.leaves[x]; !ok {
			c.leaves[x] = c.predicate(x)
		}
	}
}

func (c *compiler) predicate(x Expr) int32 {
	c.key = c.key[:0]
	var f *field
	var p *Pred
	switch x := x.(type) {
	case *Pred:
		p = x
		if err := c.checkConstants(x); err != nil {
			c.err = errors.Join(c.err, err)
			return -1
		}
		f = c.predField(x)
		c.key = appendPredKey(c.key, f, x)
	case *Text:
		t := &Text{Word: Fold(x.Word), Open: x.Open}
		f = c.field("t", func() *field { return &field{kind: textField, weight: weightText} })
		c.key = strconv.AppendBool(append(append(c.key, "t\x00"...), t.Word...), t.Open)
		if _, ok := c.known[string(c.key)]; !ok {
			f.texts = append(f.texts, t)
		}
	case *Func:
		f = c.field("f\x00"+x.Name, func() *field {
			if x.Flags != 0 {
				return &field{kind: funcField, weight: weightFlags, fn: x}
			}
			return &field{kind: funcField, weight: weightFunc, fn: x}
		})
		c.key = append(append(c.key, "f\x00"...), x.Name...)
	}
	if id, ok := c.known[string(c.key)]; ok {
		return id
	}
	id := int32(len(c.preds))
	c.known[string(c.key)] = id
	c.preds = append(c.preds, predicate{f: f, pred: p})
	f.preds = append(f.preds, id)
	if p != nil {
		f.take(p, id)
	}
	return id
}

// take files a predicate under its field.
func (f *field) take(p *Pred, id int32) {
	switch {
	case p.Op == Exists:
		f.exists, f.present = append(f.exists, id), append(f.present, id)
	case p.Op == Present:
		f.present = append(f.present, id)
	case p.All:
		f.every = append(f.every, id)
	}
	f.build.add(p, id)
}

func (c *compiler) checkConstants(p *Pred) error {
	for _, v := range p.Values {
		var err error
		switch p.Op {
		case CIDR:
			_, err = readNetwork(v)
		case Regex:
			err = c.pattern(v).err
		}
		if err != nil {
			return fmt.Errorf("%s: %w", p.Name(), err)
		}
	}
	return nil
}

func appendPredKey(b []byte, f *field, p *Pred) []byte {
	b = append(b, byte('p'+f.kind))
	if f.kind == computedField {
		b = append(b, f.computed.Name...)
	} else {
		b = append(b, f.path...)
	}
	b = append(b, 0, byte(p.Op), 0)
	if p.Fold && p.Op <= Glob && !p.Op.bare() {
		b = append(b, 'i')
	}
	if p.All && !p.Op.bare() {
		b = append(b, 'a')
	}
	for _, v := range p.Values {
		b = strconv.AppendInt(append(b, 0), int64(len(v)), 10)
		b = append(append(b, ' '), v...)
	}
	return b
}

func (c *compiler) field(key string, create func() *field) *field {
	f, ok := c.fields[key]
	if !ok {
		f = create()
		c.fields[key] = f
		c.order = append(c.order, f)
	}
	return f
}

func (c *compiler) predField(p *Pred) *field {
	if p.Field != nil {
		return c.field("c\x00"+p.Field.Name, func() *field { return &field{kind: computedField, computed: p.Field, weight: weightComputed} })
	}
	key, costly := "p\x00"+p.Path, c.unannounced(p)
	if costly {
		key = "l\x00" + p.Path
	}
	return c.field(key, func() *field {
		f := &field{kind: pathField, path: p.Path, costly: costly, special: specials[p.Path], weight: weigh(p.Path), first: -1}
		if costly {
			f.weight += weightCostly
		}
		first, rest, _ := strings.Cut(p.Path, ".")
		if f.rest = rest; first != "" && (rest != "" || len(first) == len(p.Path)) {
			f.first = c.e.levels[0].add(first)
			if rest != "" && (first == "annotations" || strings.IndexByte(rest, '.') < 0) {
				f.level = c.level(f.first)
				f.slot, f.parts = c.e.levels[f.level].add(rest), strings.IndexByte(rest, '.') >= 0
			}
		}
		return f
	})
}

// level is the number of the level of this top-level object.
func (c *compiler) level(top int32) int32 {
	i := slices.IndexFunc(c.e.levels, func(l *level) bool { return l.top == top })
	if i < 0 {
		i = len(c.e.levels)
		c.e.levels = append(c.e.levels, newLevel(top))
	}
	return int32(i)
}

// unannounced says whether a constant of p is a pattern without a literal, which runs over every value.
func (c *compiler) unannounced(p *Pred) bool {
	for _, v := range p.Values {
		switch at := normal(p.Op, v, p.Fold); {
		case at.op == Regex && rarest(c.pattern(at.c).needs, nil) == nil, at.op == Glob && rarest(globNeeds(at.c), nil) == nil:
			return true
		}
	}
	return false
}

var specials = map[string]special{
	"cluster": clusterPath, "peer": peerPath, "responseStatus.code": codePath, "objectRef.apiGroup": groupPath,
	"auditID": headerPath, "stage": headerPath, "level": headerPath, "verb": headerPath, "requestURI": headerPath, "userAgent": headerPath,
	"user.username": headerPath, "impersonatedUser.username": headerPath, "objectRef.resource": headerPath,
	"objectRef.subresource": headerPath, "objectRef.namespace": headerPath, "objectRef.name": headerPath,
	"annotations." + audit.AnnotationDecision: headerPath, "annotations." + audit.AnnotationReason: headerPath,
}

// Fields are asked in the order of their weights: what is cheap and leaves few rules first, then lists, then what is long or below a
// body, then what needs the event parsed, a pass over all of its text, or a program.
const (
	weightFlags    = 3 // among the first: nearly always false, and that costs nothing
	weightOther    = 1_000
	weightBody     = 2_000
	weightCostly   = 3_000
	weightComputed = 10_000
	weightText     = 20_000
	weightFunc     = 30_000
)

var firstFields = []string{
	"objectRef.resource", "verb", "stage", "objectRef.subresource", "objectRef.apiGroup", "cluster", "level", "responseStatus.code",
	"user.username", "objectRef.namespace", "userAgent", "objectRef.name", "annotations." + audit.AnnotationDecision,
	"impersonatedUser.username", "peer", "sourceIPs", "user.groups", "requestURI",
}

func weigh(path string) int {
	if i := slices.Index(firstFields, path); i >= 0 {
		return i
	}
	first, _, _ := strings.Cut(path, ".")
	if first == "requestObject" || first == "responseObject" {
		return weightBody + strings.Count(path, ".")
	}
	return weightOther + strings.Count(path, ".")
}

// finish numbers the fields in their order and builds what classifies their values.
func (c *compiler) finish() error {
	slices.SortStableFunc(c.order, func(a, b *field) int { return cmp.Compare(a.weight, b.weight) })
	c.e.fields = c.order
	c.e.firstFunc = int32(len(c.order))
	for i, f := range c.order {
		if f.weight == weightFunc && int32(i) < c.e.firstFunc {
			c.e.firstFunc = int32(i)
		}
		for _, p := range f.preds {
			c.preds[p].rank = int32(i)
		}
		switch f.kind {
		case pathField, computedField:
			var err error
			if f.c, err = f.build.build(c); err != nil {
				return err
			}
			f.build.atoms, f.build.list, f.build.preds = nil, nil, nil
			c.e.checks = max(c.e.checks, len(f.c.checks))
		case textField:
			f.search = newTextSearch(f.texts, f.preds)
		}
	}
	if len(c.preds) > math.MaxInt32/2 {
		return errors.New("cannot compile: too many predicates")
	}
	c.e.preds = len(c.preds)
	return nil
}

// node is x as a node.
func (c *compiler) node(x Expr) int32 {
	t := c.e.nodes
	switch x := x.(type) {
	case nil:
		return nodeTrue
	case Const:
		if x {
			return nodeTrue
		}
		return nodeFalse
	case And:
		return t.join(andNode, c.list(x))
	case Or:
		return t.join(orNode, c.list(x))
	case Not:
		return t.not(c.node(x.X))
	case *Pred, *Text, *Func:
		id := c.leaves[x]
		return t.leaf(id, c.preds[id].rank)
	}
	return nodeFalse
}

func (c *compiler) list(parts []Expr) []int32 {
	out := make([]int32, len(parts))
	for i, p := range parts {
		out[i] = c.node(p)
	}
	return out
}
