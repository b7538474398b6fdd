package falco

import (
	"fmt"
	"slices"
	"strings"

	"whodunit/internal/rule"
)

// Limits on one condition.
const (
	maxCondition = 1 << 20 // bytes
	maxDepth     = 200     // of parentheses, negations and functions
	maxValues    = 100_000 // of one list, those of lists in it included
)

// Operators, in the order in which Falco's parser tries them: what begins like another must come before it. Words are followed by a
// blank, but for those that a parenthesis may follow.
var (
	numberOps = []string{"<=", "<", ">=", ">"}
	signOps   = []string{"==", "=", "!="}
	wordOps   = []string{"glob", "iglob", "contains", "icontains", "bcontains", "startswith", "bstartswith", "endswith", "regex"}
	listOps   = []string{"intersects", "in", "pmatch"}
	modifiers = []string{"oneof", "anyof", "allof"}
	functions = []string{"tolower", "toupper", "b64", "basename", "len", "join", "concat", "getopt"}

	allOps = slices.Concat([]string{"exists"}, numberOps, signOps, wordOps, listOps)
)

// lister gives the values of a list by its name.
type lister interface {
	values(name string) ([]string, bool)
	// cut says whether the list holds more than may be.
	cut(name string) bool
	// spend notes that n values were copied. It is false once a load has copied too many.
	spend(n int) bool
}

// parser reads one condition. It panics with a *syntaxError, which parse catches.
type parser struct {
	s     string
	i     int
	depth int
	lists lister
}

// parse reads a condition. Names of lists among its values stand for what the lists hold.
func parse(s string, lists lister) (n *node, err *syntaxError) {
	p := &parser{s: s, lists: lists}
	defer p.catch(&err)
	if len(s) > maxCondition {
		p.fail(0, "longer than %d bytes", maxCondition)
	}
	n = p.or()
	p.blank()
	if p.i < len(s) {
		p.fail(p.i, "%s: and, or or the end is expected", p.here())
	}
	return n, nil
}

// parseTerm reads a field, or functions over fields, alone.
func parseTerm(s string, lists lister) (t *term, err *syntaxError) {
	p := &parser{s: s, lists: lists}
	defer p.catch(&err)
	if t = p.term(); t == nil {
		p.fail(p.i, "%s: a field is expected", p.here())
	}
	if p.blank(); p.i < len(s) {
		p.fail(p.i, "%s: the end is expected", p.here())
	}
	return t, nil
}

func (p *parser) catch(err **syntaxError) {
	if r := recover(); r != nil {
		e, ok := r.(*syntaxError)
		if !ok {
			panic(r)
		}
		*err = e
	}
}

func (p *parser) fail(at int, format string, a ...any) { p.failNear(at, "", format, a...) }

func (p *parser) failNear(at int, near, format string, a ...any) {
	panic(&syntaxError{at: at, text: fmt.Sprintf(format, a...), near: near})
}

// here is what stands at p.i, for messages.
func (p *parser) here() string {
	if p.i >= len(p.s) {
		return "the condition ends"
	}
	end := p.i + 1
	if wordByte(p.s[p.i]) {
		for end < len(p.s) && wordByte(p.s[end]) {
			end++
		}
	}
	return fmt.Sprintf("%.60q", p.s[p.i:end])
}

func (p *parser) enter() {
	if p.depth++; p.depth > maxDepth {
		p.fail(p.i, "nested deeper than %d", maxDepth)
	}
}

func isBlank(c byte) bool {
	return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\b' || c == '\v' || c == '\f'
}

// wordByte says whether c may be part of a bare text.
func wordByte(c byte) bool { return !isBlank(c) && strings.IndexByte(`()"'=,`, c) < 0 }

func isLetter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }
func isDigit(c byte) bool  { return c >= '0' && c <= '9' }

func (p *parser) blank() bool {
	start := p.i
	for p.i < len(p.s) && isBlank(p.s[p.i]) {
		p.i++
	}
	return p.i > start
}

func (p *parser) take(s string) bool {
	if !strings.HasPrefix(p.s[p.i:], s) {
		return false
	}
	p.i += len(s)
	return true
}

func (p *parser) want(s string) {
	if p.blank(); !p.take(s) {
		p.fail(p.i, "%s: %s is expected", p.here(), s)
	}
}

func (p *parser) or() *node { return p.chain("or", orNode, p.and) }

func (p *parser) and() *node { return p.chain("and", andNode, p.not) }

// chain reads parts with a word between them. Behind the word stands a blank or a parenthesis.
func (p *parser) chain(word string, kind nodeKind, part func() *node) *node {
	p.blank()
	at := p.i
	parts := []*node{part()}
	for p.blank(); strings.HasPrefix(p.s[p.i:], word); p.blank() {
		after := p.i + len(word)
		switch {
		case after < len(p.s) && p.s[after] == '(':
			p.i = after + 1
			parts = append(parts, p.inside())
		case after < len(p.s) && isBlank(p.s[after]):
			p.i = after
			p.blank()
			parts = append(parts, part())
		case after == len(p.s):
			p.i = after
			p.fail(p.i, "the condition ends behind %s", word)
		default:
			p.fail(p.i, "%s: and, or or the end is expected", p.here())
		}
	}
	if len(parts) == 1 {
		return parts[0]
	}
	return &node{kind: kind, parts: parts, at: at}
}

// inside reads what follows an opening parenthesis, and the closing one.
func (p *parser) inside() *node {
	p.enter()
	n := p.or()
	p.want(")")
	p.depth--
	return n
}

func (p *parser) not() *node {
	p.blank()
	at, negate := p.i, false
	for strings.HasPrefix(p.s[p.i:], "not") && p.i+3 < len(p.s) && isBlank(p.s[p.i+3]) {
		p.i += 3
		p.blank()
		negate = !negate
	}
	var n *node
	if p.take("not(") {
		negate = !negate
		n = p.inside()
	} else {
		n = p.one()
	}
	if negate {
		return &node{kind: notNode, parts: []*node{n}, at: at}
	}
	return n
}

func (p *parser) one() *node {
	p.blank()
	at := p.i
	if p.take("(") {
		return p.inside()
	}
	if t := p.term(); t != nil {
		return &node{kind: checkNode, check: p.comparison(t), at: at}
	}
	name := p.identifier()
	if name == "" {
		p.fail(at, "%s: a field, a macro or ( is expected", p.here())
	}
	if p.i < len(p.s) && p.s[p.i] == '(' {
		p.failNear(at, rule.Nearest(name, functions), "unknown function %.60q; one of %s is expected", name, strings.Join(functions, ", "))
	}
	return &node{kind: macroNode, macro: name, at: at}
}

// identifier reads a name, "" where none stands.
func (p *parser) identifier() string {
	start := p.i
	for p.i < len(p.s) && (isLetter(p.s[p.i]) || p.i > start && (isDigit(p.s[p.i]) || p.s[p.i] == '_')) {
		p.i++
	}
	return p.s[start:p.i]
}

// fieldName reads names with dots between them, "" where none stand.
func (p *parser) fieldName() string {
	start := p.i
	p.identifier()
	first := p.i
	for p.i > start && p.i+1 < len(p.s) && p.s[p.i] == '.' && isLetter(p.s[p.i+1]) {
		p.i++
		p.identifier()
	}
	if p.i == first {
		p.i = start
	}
	return p.s[start:p.i]
}

// term reads a field or a function, nil where neither stands.
func (p *parser) term() *term {
	at := p.i
	if name := p.fieldName(); name != "" {
		t := &term{kind: fieldTerm, name: name, at: at}
		p.brackets(t)
		return t
	}
	for _, f := range functions {
		if p.take(f + "(") {
			return p.call(f, at)
		}
	}
	return nil
}

// brackets reads the argument of a field.
func (p *parser) brackets(t *term) {
	if !p.take("[") {
		return
	}
	t.hasArg = true
	if p.i < len(p.s) && (p.s[p.i] == '"' || p.s[p.i] == '\'') {
		t.arg = p.quoted()
	} else {
		start := p.i
		for p.i < len(p.s) && !isBlank(p.s[p.i]) && strings.IndexByte(`[]"'`, p.s[p.i]) < 0 {
			p.i++
		}
		if t.arg = p.s[start:p.i]; t.arg == "" {
			p.fail(p.i, "%s: an argument is expected between [ and ]", p.here())
		}
	}
	if !p.take("]") {
		p.fail(p.i, "%s: ] is expected", p.here())
	}
}

// call reads a function's arguments, behind its opening parenthesis.
func (p *parser) call(name string, at int) *term {
	p.enter()
	t := &term{kind: callTerm, name: name, at: at}
	many := name == "join" || name == "concat" || name == "getopt"
	for {
		t.args = append(t.args, p.argument(many))
		if p.blank(); !many || !p.take(",") {
			break
		}
	}
	p.want(")")
	if name == "getopt" {
		p.brackets(t)
	}
	p.depth--
	return t
}

// argument reads one argument of a function; texts and tuples only where many may stand.
func (p *parser) argument(many bool) *term {
	p.blank()
	at := p.i
	if t := p.term(); t != nil {
		return t
	}
	if many && p.i < len(p.s) {
		switch c := p.s[p.i]; {
		case c == '"' || c == '\'':
			return &term{kind: textTerm, text: p.quoted(), at: at}
		case c == '(':
			return p.tuple()
		case isDigit(c) || c == '+' || c == '-':
			return &term{kind: textTerm, text: p.number(), at: at}
		}
	}
	p.fail(at, "%s: a field is expected", p.here())
	return nil
}

func (p *parser) tuple() *term {
	p.enter()
	t := &term{kind: tupleTerm, at: p.i}
	p.i++
	if p.blank(); !p.take(")") {
		for {
			a := p.argument(true)
			if a.kind == tupleTerm {
				p.fail(a.at, "a list within a list is not expected")
			}
			t.args = append(t.args, a)
			if p.blank(); !p.take(",") {
				break
			}
		}
		p.want(")")
	}
	p.depth--
	return t
}

// comparison reads an operator and its right side.
func (p *parser) comparison(left *term) *check {
	p.blank()
	c := &check{left: left, opAt: p.i}
	switch {
	case p.take("exists"):
		c.op = "exists"
		return c
	case p.op(c, numberOps, false):
		if c.right = p.otherField(); c.right == nil {
			c.values = p.numberValue()
		}
	case p.op(c, signOps, false), p.op(c, wordOps, true):
		p.modifier(c)
		switch {
		case c.mod != "":
			c.values = p.list()
		default:
			if c.right = p.otherField(); c.right == nil {
				c.values = p.single()
			}
		}
	case p.op(c, listOps, false):
		p.blank()
		if p.i < len(p.s) && p.s[p.i] == '(' {
			c.values = p.list()
		} else if c.right = p.otherField(); c.right == nil {
			c.values = p.bareList()
		}
	default:
		word := p.s[p.i:]
		for i := range len(word) {
			if !wordByte(word[i]) {
				word = word[:i]
				break
			}
		}
		p.failNear(p.i, rule.Nearest(word, allOps), "%s: an operator is expected, one of %s", p.here(), strings.Join(allOps, " "))
	}
	return c
}

// op reads one of the operators. Behind a word must stand a blank.
func (p *parser) op(c *check, ops []string, word bool) bool {
	for _, o := range ops {
		if strings.HasPrefix(p.s[p.i:], o) {
			end := p.i + len(o)
			if word && (end >= len(p.s) || !isBlank(p.s[end])) {
				continue
			}
			c.op, p.i = o, end
			return true
		}
	}
	return false
}

// modifier reads oneof, anyof or allof, which a parenthesis follows.
func (p *parser) modifier(c *check) {
	start := p.i
	p.blank()
	for _, m := range modifiers {
		if p.take(m) {
			if p.blank(); p.i < len(p.s) && p.s[p.i] == '(' {
				c.mod = m
				return
			}
		}
	}
	p.i = start
}

// otherField reads val(field) or functions over fields, nil where neither stands.
func (p *parser) otherField() *term {
	p.blank()
	at := p.i
	if p.take("val(") {
		p.blank()
		name := p.fieldName()
		if name == "" {
			p.fail(p.i, "%s: a field is expected", p.here())
		}
		t := &term{kind: fieldTerm, name: name, at: at + len("val(")}
		p.brackets(t)
		p.want(")")
		return t
	}
	for _, f := range functions {
		if p.take(f + "(") {
			return p.call(f, at)
		}
	}
	return nil
}

// single reads one constant.
func (p *parser) single() *values {
	p.blank()
	at := p.i
	if p.i < len(p.s) && (p.s[p.i] == '"' || p.s[p.i] == '\'') {
		return &values{[]string{p.quoted()}, at}
	}
	w := p.bare()
	if w == "" {
		p.fail(at, "%s: a text is expected", p.here())
	}
	return &values{[]string{p.alone(w, at)}, at}
}

// named gives the values of a list.
func (p *parser) named(name string, at int) ([]string, bool) {
	l, ok := p.lists.values(name)
	if ok && p.lists.cut(name) {
		p.fail(at, "list %.60q is too large", name)
	}
	return l, ok
}

// alone is a bare word, or what the list of that name holds, which must be one value.
func (p *parser) alone(word string, at int) string {
	l, ok := p.named(word, at)
	if !ok {
		return word
	}
	if len(l) != 1 {
		p.fail(at, "list %.60q has %d values; one is expected here", word, len(l))
	}
	return l[0]
}

func (p *parser) bare() string {
	start := p.i
	for p.i < len(p.s) && wordByte(p.s[p.i]) {
		p.i++
	}
	return p.s[start:p.i]
}

func (p *parser) bareList() *values {
	at := p.i
	name := p.identifier()
	if name == "" {
		p.fail(at, "%s: a list in parentheses is expected", p.here())
	}
	if l, ok := p.named(name, at); ok {
		return &values{l, at}
	}
	return &values{[]string{name}, at}
}
