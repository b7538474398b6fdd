package native

import (
	"bytes"
	"math"
	"strconv"
	"strings"
	"unsafe"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"

	"whodunit/internal/audit"
	"whodunit/internal/rule"
)

// sort is the type of a val.
type sort uint8

const (
	kNone sort = iota // a variable without a value yet
	kErr
	kNull
	kBool
	kInt
	kDouble
	kString
	kObject   // a JSON object, as its bytes
	kArray    // a JSON array, as its bytes
	kList     // values that were gathered
	kOptional // with a value in list[0], or without
)

// val is a value of a fast evaluation.
type val struct {
	k    sort
	s    string // the text, the bytes of an object or array, or what an error says
	n    int64  // a number, the bits of a double, 1 for true, the reason of an error
	list []val
}

// Reasons of errors.
const (
	whyEval int64 = iota
	whyMissing
	whyCost
)

var reasons = [...]error{rule.ErrEval, rule.ErrMissing, rule.ErrCost}

func boolVal(b bool) val {
	if b {
		return val{k: kBool, n: 1}
	}
	return val{k: kBool}
}

func stringVal(s string) val { return val{k: kString, s: s} }
func intVal(n int64) val     { return val{k: kInt, n: n} }
func missing(key string) val { return val{k: kErr, n: whyMissing, s: key} }

// overload is what CEL says where no form of a function takes a value of v's type; of an error the error.
func overload(v val) val {
	if v.k == kErr {
		return v
	}
	return val{k: kErr, s: "no such overload"}
}

func (v val) isTrue() bool    { return v.k == kBool && v.n == 1 }
func (v val) isFalse() bool   { return v.k == kBool && v.n == 0 }
func (v val) double() float64 { return math.Float64frombits(uint64(v.n)) }

// bytesOf is s as bytes, which must not be written to.
func bytesOf(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }

// textOf is b as a string. The bytes of an event are not written to.
func textOf(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// fromJSON is jsonValue for this evaluator: the same types for the same bytes.
func fromJSON(v []byte) val {
	if len(v) == 0 {
		return val{k: kNull}
	}
	switch v[0] {
	case '{':
		return val{k: kObject, s: textOf(v)}
	case '[':
		return val{k: kArray, s: textOf(v)}
	case '"':
		t, _ := audit.Text(v)
		return stringVal(t)
	case 't':
		return boolVal(true)
	case 'f':
		return boolVal(false)
	case 'n':
		return val{k: kNull}
	}
	t := textOf(v)
	if i, err := strconv.ParseInt(t, 10, 64); err == nil {
		return intVal(i)
	}
	f, _ := strconv.ParseFloat(t, 64)
	return val{k: kDouble, n: int64(math.Float64bits(f))}
}

// ref is v for CEL. Optionals have no other form.
func (v val) ref() ref.Val {
	switch v.k {
	case kNull:
		return types.NullValue
	case kBool:
		return types.Bool(v.n == 1)
	case kInt:
		return types.Int(v.n)
	case kDouble:
		return types.Double(v.double())
	case kString:
		return types.String(v.s)
	case kObject, kArray:
		return jsonValue(bytesOf(v.s))
	case kList:
		out := make([]ref.Val, len(v.list))
		for i, el := range v.list {
			out[i] = el.ref()
		}
		return types.NewRefValList(types.DefaultTypeAdapter, out)
	}
	return types.NewErr("%s", v.s)
}

// fromRef takes a constant of a condition; ok is false for types that have no form here.
func fromRef(v ref.Val) (out val, ok bool) {
	switch v := v.(type) {
	case types.Null:
		return val{k: kNull}, true
	case types.Bool:
		return boolVal(bool(v)), true
	case types.Int:
		return intVal(int64(v)), true
	case types.Double:
		return val{k: kDouble, n: int64(math.Float64bits(float64(v)))}, true
	case types.String:
		return stringVal(string(v)), true
	}
	l, ok := v.(traits.Lister)
	if !ok {
		return val{}, false
	}
	out.k = kList
	for it := l.Iterator(); it.HasNext() == types.True; {
		el, ok := fromRef(it.Next())
		if !ok {
			return val{}, false
		}
		out.list = append(out.list, el)
	}
	return out, true
}

func stringList(texts []string) val {
	out := val{k: kList, list: make([]val, len(texts))}
	for i, s := range texts {
		out.list[i] = stringVal(s)
	}
	return out
}

// equal is CEL's ==, of values that are no errors.
func equal(a, b val) val {
	switch {
	case a.k == kOptional || b.k == kOptional || a.k == kNone || b.k == kNone:
		return overload(val{})
	case a.k == kString && b.k == kString:
		return boolVal(a.s == b.s)
	case a.k == b.k && (a.k == kBool || a.k == kInt):
		return boolVal(a.n == b.n)
	case a.k == kList && b.k == kList && len(a.list) != len(b.list):
		return boolVal(false)
	case a.k <= kString && b.k <= kString && (a.k != kInt && a.k != kDouble || b.k != kInt && b.k != kDouble):
		return boolVal(a.k == kNull && b.k == kNull)
	}
	eq, ok := types.Equal(a.ref(), b.ref()).(types.Bool)
	if !ok {
		return overload(val{})
	}
	return boolVal(bool(eq))
}

// order is CEL's <, <=, > and >=.
func order(op string, a, b val) val {
	n := 0
	switch {
	case a.k == kString && b.k == kString:
		n = strings.Compare(a.s, b.s)
	case a.k == kInt && b.k == kInt:
		if a.n < b.n {
			n = -1
		} else if a.n > b.n {
			n = 1
		}
	case a.k == kBool && b.k == kBool:
		n = int(a.n - b.n)
	case (a.k == kInt || a.k == kDouble) && (b.k == kInt || b.k == kDouble):
		var c ref.Val
		if a.k == kInt {
			c = types.Int(a.n).Compare(b.ref())
		} else {
			c = types.Double(a.double()).Compare(b.ref())
		}
		i, ok := c.(types.Int)
		if !ok {
			return overload(val{})
		}
		n = int(i)
	default:
		return overload(val{})
	}
	switch op {
	case "_<_":
		return boolVal(n < 0)
	case "_<=_":
		return boolVal(n <= 0)
	case "_>_":
		return boolVal(n > 0)
	}
	return boolVal(n >= 0)
}

// space skips white space from i on.
func space(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\t' || b[i] == '\r') {
		i++
	}
	return i
}

// eachMember hands the members of the object b to yield, names as they are written; it stops where b is not well-formed.
func eachMember(b []byte, yield func(name, value []byte) bool) {
	for i := space(b, 1); i < len(b) && b[i] == '"'; {
		end := audit.SkipString(b, i)
		if end < 0 {
			return
		}
		name := b[i:end]
		if i = space(b, end); i >= len(b) || b[i] != ':' {
			return
		}
		i = space(b, i+1)
		if end = audit.SkipValue(b, i); end < 0 || !yield(name, b[i:end]) {
			return
		}
		if i = space(b, end); i >= len(b) || b[i] != ',' {
			return
		}
		i = space(b, i+1)
	}
}

// eachElement is eachMember for the array b.
func eachElement(b []byte, yield func(value []byte) bool) {
	for i := space(b, 1); i < len(b) && b[i] != ']'; {
		end := audit.SkipValue(b, i)
		if end < 0 || !yield(b[i:end]) {
			return
		}
		if i = space(b, end); i >= len(b) || b[i] != ',' {
			return
		}
		i = space(b, i+1)
	}
}

// named is the last member of that name of the object b, nil where it has none.
func named(b []byte, name string) (out []byte) {
	eachMember(b, func(n, v []byte) bool {
		if isNamed(n, name) {
			out = v
		}
		return true
	})
	return out
}

// isNamed reports whether the JSON string written says name. No escape makes a text longer than it is written.
func isNamed(written []byte, name string) bool {
	if len(written) == len(name)+2 {
		return string(written[1:len(written)-1]) == name && bytes.IndexByte(written, '\\') < 0
	}
	if len(written) < len(name)+2 || bytes.IndexByte(written, '\\') < 0 {
		return false
	}
	t, _ := audit.Text(written)
	return t == name
}
