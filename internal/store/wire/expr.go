package wire

import (
	"encoding/json"
	"fmt"
	"slices"

	"whodunit/internal/match"
)

// maxExprDepth bounds the nesting of an expression that a client sends.
const maxExprDepth = 200

// node is one expression in JSON: exactly one of the first six is set.
type node struct {
	And   *[]json.RawMessage `json:"and,omitempty"`
	Or    *[]json.RawMessage `json:"or,omitempty"`
	Not   json.RawMessage    `json:"not,omitempty"`
	Const *bool              `json:"const,omitempty"`
	Path  *string            `json:"path,omitempty"`
	Text  *string            `json:"text,omitempty"`

	Op     string   `json:"op,omitempty"`
	Values []string `json:"values,omitempty"`
	Fold   bool     `json:"fold,omitempty"`
	All    bool     `json:"all,omitempty"`
	Open   bool     `json:"open,omitempty"`
}

// EncodeExpr writes an expression, which not every query language can, as JSON. nil is the empty text.
func EncodeExpr(e match.Expr) (string, error) {
	if e == nil {
		return "", nil
	}
	b, err := encode(e)
	return string(b), err
}

func encode(e match.Expr) (json.RawMessage, error) {
	var n node
	var err error
	switch e := e.(type) {
	case match.And:
		n.And, err = encodeAll(e)
	case match.Or:
		n.Or, err = encodeAll(e)
	case match.Not:
		n.Not, err = encode(e.X)
	case match.Const:
		b := bool(e)
		n.Const = &b
	case *match.Pred:
		if e.Field != nil || !slices.Contains(sendable, e.Op) {
			err = fmt.Errorf("cannot send %.200q to a server: it is for rules alone", e.String())
		}
		n.Path, n.Op, n.Values, n.Fold, n.All = &e.Path, e.Op.String(), e.Values, e.Fold, e.All
	case *match.Text:
		n.Text, n.Open = &e.Word, e.Open
	case *match.Func:
		err = fmt.Errorf("cannot send %.200q to a server: it is for rules alone", e.String())
	default:
		err = fmt.Errorf("cannot encode expression of type %T", e)
	}
	if err != nil {
		return nil, err
	}
	return json.Marshal(n)
}

func encodeAll(parts []match.Expr) (*[]json.RawMessage, error) {
	out := make([]json.RawMessage, len(parts))
	for i, p := range parts {
		b, err := encode(p)
		if err != nil {
			return nil, err
		}
		out[i] = b
	}
	return &out, nil
}

// DecodeExpr reads what EncodeExpr wrote, and refuses what a match.Expr may not be.
func DecodeExpr(s string) (match.Expr, error) {
	if s == "" {
		return nil, nil
	}
	return decode([]byte(s), maxExprDepth)
}

func decode(b []byte, depth int) (match.Expr, error) {
	if depth == 0 {
		return nil, fmt.Errorf("cannot read expression: nested deeper than %d", maxExprDepth)
	}
	var n node
	if err := json.Unmarshal(b, &n); err != nil {
		return nil, fmt.Errorf("cannot read expression: %w", err)
	}
	switch {
	case n.And != nil:
		parts, err := decodeAll(*n.And, depth)
		return match.And(parts), err
	case n.Or != nil:
		parts, err := decodeAll(*n.Or, depth)
		return match.Or(parts), err
	case n.Not != nil:
		x, err := decode(n.Not, depth-1)
		return match.Not{X: x}, err
	case n.Const != nil:
		return match.Const(*n.Const), nil
	case n.Path != nil:
		return pred(n)
	case n.Text != nil && *n.Text != "":
		return &match.Text{Word: *n.Text, Open: n.Open}, nil
	}
	return nil, fmt.Errorf("cannot read expression: %.60q is none", b)
}

func decodeAll(parts []json.RawMessage, depth int) ([]match.Expr, error) {
	out := make([]match.Expr, len(parts))
	for i, p := range parts {
		e, err := decode(p, depth-1)
		if err != nil {
			return nil, err
		}
		out[i] = e
	}
	return out, nil
}

// sendable are the operators that a server takes. Regular expressions are for rules, which are compiled once: a search would compile them
// for each value.
var sendable = []match.Op{match.Exists, match.Equal, match.Contains, match.Prefix, match.Suffix, match.Glob, match.Less, match.LessEqual,
	match.Greater, match.GreaterEqual, match.CIDR, match.Present}

func pred(n node) (match.Expr, error) {
	i := slices.IndexFunc(sendable, func(o match.Op) bool { return o.String() == n.Op })
	if i < 0 {
		return nil, fmt.Errorf("cannot read expression: no operator %.20q", n.Op)
	}
	op := sendable[i]
	ranked, bare := op >= match.Less && op <= match.GreaterEqual, op == match.Exists || op == match.Present
	if ranked && len(n.Values) != 1 || bare && len(n.Values) != 0 {
		return nil, fmt.Errorf("cannot read expression: %s with %d values", op, len(n.Values))
	}
	return &match.Pred{Path: *n.Path, Op: op, Values: n.Values, Fold: n.Fold, All: n.All}, nil
}
