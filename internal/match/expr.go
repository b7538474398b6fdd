// Package match is the one expression form that searches, rules, sink filters and views compile to, and the plain
// interpreter of it. The interpreter is the meaning: every faster back end is tested against it.
//
// A predicate names a path of the event and an operator. The path is resolved to a list of scalar values (see Values),
// and the predicate is true if and only if at least one value satisfies the operator for at least one of its constants.
// So a missing path, a null, an empty list and an object make every predicate false, and Not of it true. Front ends
// whose language says otherwise build that from these parts.
package match

import (
	"fmt"
	"strconv"
	"strings"

	"whodunit/internal/audit"
)

// Op is how a value is held against a constant.
type Op uint8

// The operators. Strings are compared byte by byte; with Fold, letters are compared without case (Unicode simple folding).
// A number or boolean compares as its JSON text. The ordering operators compare numbers when constant and value both
// read as numbers, times when both read as RFC 3339, and are false otherwise.
const (
	Exists   Op = iota // the path is there and not null; objects and empty lists count as well
	Equal              // the value is the constant
	Contains           // the constant occurs in the value
	Prefix
	Suffix
	Glob // * is any run of characters, ? one character, \ takes the next literally; the whole value must match
	Less
	LessEqual
	Greater
	GreaterEqual
	Regex   // an RE2 pattern (package regexp) matches somewhere in the value; Fold is not for it: write (?i)
	CIDR    // the value is an address inside the network; an IPv4 address in IPv6 form counts as IPv4
	Present // the path is there, be it null
)

var opNames = [...]string{"exists", "==", "contains", "startsWith", "endsWith", "glob", "<", "<=", ">", ">=", "matches", "cidr", "present"}

// bare reports whether the operator takes no constants and asks for the path alone.
func (op Op) bare() bool { return op == Exists || op == Present }

func (op Op) String() string {
	if int(op) < len(opNames) {
		return opNames[op]
	}
	return "op" + strconv.Itoa(int(op))
}

// Expr is a boolean expression: And, Or, Not, Const, *Pred, *Text or *Func. Expressions are immutable once built and safe for
// concurrent use.
type Expr interface {
	fmt.Stringer
	expr()
}

type (
	// And is true when all parts are; an empty And is true.
	And []Expr
	// Or is true when any part is; an empty Or is false.
	Or []Expr
	// Not is true when X is false.
	Not struct{ X Expr }
	// Const is true or false whatever the event.
	Const bool

	// Pred tests one path of the event, or one computed field.
	Pred struct {
		Path   string   // dotted, see Values; "" with a Field
		Field  *Field   // in place of Path
		Op     Op       //
		Values []string // constants, any of which may match; empty for Exists and Present, exactly one for the ordering operators
		Fold   bool     // without case
		All    bool     // every value must satisfy, and there must be one; not for Exists and Present
	}

	// Field is a list of values that no path names: a part of a text, the images of all containers. Fields with the same Name must
	// have the same meaning, so that an engine asks once for all predicates on it.
	Field struct {
		Name   string
		Values func(ev *audit.Event, yield func(string) bool) // until yield returns false; safe for concurrent use
		// Null says whether a Present predicate is true where Values gives nothing; nil: no.
		Null func(ev *audit.Event) bool
		// Bodies says that Values and Null look at no more of an audit event than RequestObject and ResponseObject, so that the rest need
		// not be read for them.
		Bodies bool
	}

	// Func is a condition that has no other form. It is the last that an engine asks, and only while the outcome depends on it.
	// Funcs with the same Name must have the same meaning.
	Func struct {
		Name string
		Eval func(ev *audit.Event) bool // safe for concurrent use
		// Flags says that Eval is false of every event that has none of these, so that most events need not be parsed for it. 0: it
		// does not say.
		Flags audit.Flags
	}

	// Text is true when Word occurs anywhere in the event: in the decoded text of any name or scalar, without case, and
	// with no letter or digit directly before or after it. With Open the end is open (a search for wor*). The cluster's name
	// is not part of the text.
	Text struct {
		Word string // lower case, not empty
		Open bool
	}
)

func (And) expr()   {}
func (Or) expr()    {}
func (Not) expr()   {}
func (Const) expr() {}
func (*Pred) expr() {}
func (*Text) expr() {}
func (*Func) expr() {}

func join(parts []Expr, word, empty string) string {
	if len(parts) == 0 {
		return empty
	}
	s := make([]string, len(parts))
	for i, p := range parts {
		s[i] = p.String()
	}
	return "(" + strings.Join(s, " "+word+" ") + ")"
}

func (a And) String() string   { return join(a, "and", "true") }
func (o Or) String() string    { return join(o, "or", "false") }
func (n Not) String() string   { return "not " + n.X.String() }
func (c Const) String() string { return strconv.FormatBool(bool(c)) }

func (p *Pred) String() string {
	q := make([]string, len(p.Values))
	for i, v := range p.Values {
		q[i] = strconv.Quote(v)
	}
	op := p.Op.String()
	if p.Fold {
		op += "/i"
	}
	if p.All {
		op += "/all"
	}
	return strings.TrimSpace(p.Name() + " " + op + " " + strings.Join(q, "|"))
}

// Name is the path, or the computed field's name in angle brackets.
func (p *Pred) Name() string {
	if p.Field != nil {
		return "<" + p.Field.Name + ">"
	}
	return p.Path
}

func (f *Func) String() string { return "func " + strconv.Quote(f.Name) }

func (t *Text) String() string {
	if t.Open {
		return "text " + strconv.Quote(t.Word) + "*"
	}
	return "text " + strconv.Quote(t.Word)
}

// Walk calls f for every node of e, parents first.
func Walk(e Expr, f func(Expr)) {
	f(e)
	switch e := e.(type) {
	case And:
		for _, p := range e {
			Walk(p, f)
		}
	case Or:
		for _, p := range e {
			Walk(p, f)
		}
	case Not:
		Walk(e.X, f)
	}
}
