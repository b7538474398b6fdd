package falco

import "whodunit/internal/rule"

// node is a part of a condition.
type node struct {
	kind  nodeKind
	parts []*node // of and, or, not
	macro string
	check *check
	at    int // where it stands in the text
}

type nodeKind uint8

const (
	andNode nodeKind = iota
	orNode
	notNode
	macroNode
	checkNode
)

// check is one comparison.
type check struct {
	left   *term
	op     string
	opAt   int
	mod    string // "oneof", "anyof", "allof" or ""
	values *values
	right  *term // in place of values: another field
}

// values is the constants of a check. Those of one list are shared by all checks that name the list alone.
type values struct {
	texts []string
	at    int
}

// term is what a check asks: a field, or functions over fields and texts.
type term struct {
	kind termKind
	name string // of the field or function
	arg  string // in brackets
	args []*term
	text string
	at   int

	hasArg bool
}

type termKind uint8

const (
	fieldTerm termKind = iota
	callTerm
	textTerm
	tupleTerm // terms in parentheses: a list
)

// syntaxError is a fault at a place in a condition's text.
type syntaxError struct {
	at   int
	text string
	near string        // the nearest known name
	root *rule.Problem // the problem that is reported already and made this one
}

func (e *syntaxError) Error() string { return e.text }
