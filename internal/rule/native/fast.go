package native

import (
	"bytes"
	"fmt"
	"sync"
	"unsafe"

	"whodunit/internal/audit"
	"whodunit/internal/rule"
)

// A fast program is a condition as closures over an event's bytes: what CEL says of it, at a twentieth of the price. CEL is the meaning:
// what has no fast form (see fastCompiler) runs there, and the property tests hold one against the other.
type fastProgram struct {
	root  term
	slots int // variables
}

// term computes a part of a condition.
type term func(f *frame) val

// frame is one evaluation.
type frame struct {
	ev       *audit.Event
	vars     []val
	arena    []val // of gathered lists
	budget   int   // work that is left, see spend
	request  val   // kNone: not asked yet
	response val
	known    known
}

// known is what was found out of the last request's object: the rules that look at one event ask for the same, one after the other. An
// object is known again by its bytes, of which it keeps a copy.
type known struct {
	raw        []byte
	body       []byte // raw, or what a JSON Patch makes of it; nil: nothing is known
	members    []jsonMember
	indexed    bool
	specs      val // as the functions of conditions give them; kNone: not asked yet
	containers val
}

// jsonMember is a member of an object: its name as it is written, with quotes.
type jsonMember struct{ name, value []byte }

// maxIndexed is how many members are searched one by one.
const maxIndexed = 32

// member is the member of that name of the request's object; ok is false where it has too many to say.
func (k *known) member(name string) (value []byte, ok bool) {
	if !k.indexed {
		k.indexed = true
		k.members = k.members[:0]
		eachMember(k.body, func(n, v []byte) bool {
			k.members = append(k.members, jsonMember{n, v})
			return len(k.members) <= maxIndexed
		})
	}
	if len(k.members) > maxIndexed {
		return nil, false
	}
	for i := len(k.members) - 1; i >= 0; i-- {
		if isNamed(k.members[i].name, name) {
			return k.members[i].value, true
		}
	}
	return nil, true
}

// fastBudget bounds one evaluation in steps of some 100 ns; like costLimit it is not lower because a rule that gives up can be evaded.
const fastBudget = 1_000_000

const keepBody = 64 << 10 // bytes of an object that is remembered

var errCostText = "operation cancelled: actual cost limit exceeded"

// spend takes the price of a look at n bytes; false: there is no more.
func (f *frame) spend(n int) bool {
	f.budget -= 1 + n>>8
	return f.budget > 0
}

// takeFrame begins an evaluation; frames are used again.
func takeFrame(ev *audit.Event, slots, budget int, frames *sync.Pool) *frame {
	f, _ := frames.Get().(*frame)
	if f == nil {
		f = &frame{}
	}
	f.ev, f.budget = ev, budget
	f.request.k, f.response.k = kNone, kNone
	if cap(f.vars) < slots {
		f.vars = make([]val, slots)
	}
	f.vars = f.vars[:slots]
	return f
}

// release ends it.
func (f *frame) release(frames *sync.Pool) {
	f.ev, f.request, f.response = nil, val{}, val{}
	clear(f.vars)
	if clear(f.arena); cap(f.arena) > 1<<12 {
		f.arena = nil
	}
	f.arena = f.arena[:0]
	frames.Put(f)
}

// run evaluates the program.
func (p *fastProgram) run(ev *audit.Event, frames *sync.Pool) (bool, error) {
	f := takeFrame(ev, p.slots, fastBudget, frames)
	v := p.root(f)
	spent := f.budget <= 0
	f.release(frames)
	switch {
	case spent:
		return false, fmt.Errorf("%w: %s", rule.ErrCost, errCostText)
	case v.k == kBool:
		return v.n == 1, nil
	case v.k == kErr && v.n == whyMissing:
		return false, fmt.Errorf("%w: no such key: %.100q", rule.ErrMissing, v.s)
	case v.k == kErr:
		return false, fmt.Errorf("%w: %s", reasons[v.n], v.s)
	}
	return false, fmt.Errorf("%w: it gives no bool", rule.ErrEval)
}

func (f *frame) requestObject() val {
	if f.request.k == kNone {
		f.request = fromJSON(f.body(f.ev.RequestObject))
	}
	return f.request
}

func (f *frame) responseObject() val {
	if f.response.k == kNone {
		f.response = fromJSON(f.ev.ResponseObject)
	}
	return f.response
}

// body is the function of this name, of the same bytes once.
func (f *frame) body(raw []byte) []byte {
	k := &f.known
	if len(raw) == 0 || len(raw) > keepBody || raw[0] != '[' && raw[0] != '{' {
		return body(raw)
	}
	if k.body == nil || !bytes.Equal(raw, k.raw) {
		*k = known{raw: append(k.raw[:0], raw...), members: k.members}
		k.body = body(k.raw)
	}
	return k.body
}

// isRequest reports whether v is the request's object and in known.
func (f *frame) isRequest(v val) bool {
	k := &f.known
	return v.k == kObject && k.body != nil && unsafe.StringData(v.s) == unsafe.SliceData(k.body)
}

// get is the member of that name of v, as CEL's v.name.
func (f *frame) get(v val, name string) val {
	out, found := f.find(v, name)
	switch {
	case found, out.k == kErr:
		return out
	}
	return missing(name)
}

// find is the member of that name of v; without one, or where v cannot have any, found is false. An error is out's.
func (f *frame) find(v val, name string) (out val, found bool) {
	switch v.k {
	case kErr:
		return v, false
	case kObject:
		if !f.spend(len(v.s)) {
			return val{k: kErr, n: whyCost, s: errCostText}, false
		}
		m, ok := []byte(nil), false
		if f.isRequest(v) {
			m, ok = f.known.member(name)
		}
		if !ok {
			m = named(bytesOf(v.s), name)
		}
		if m != nil {
			return fromJSON(m), true
		}
	case kArray, kList:
		return val{k: kErr, s: "a list has no member of that name"}, false
	}
	return val{}, false
}

// each calls yield for what a comprehension ranges over: the elements of a list, the names of an object. It gives an error where v has
// neither.
func (f *frame) each(v val, yield func(val) bool) val {
	more := func(n int) bool { return f.spend(n) }
	switch v.k {
	case kErr:
		return v
	case kList:
		for _, el := range v.list {
			if !more(0) || !yield(el) {
				break
			}
		}
		return val{}
	case kArray:
		eachElement(bytesOf(v.s), func(el []byte) bool { return more(len(el)) && yield(fromJSON(el)) })
		return val{}
	case kObject:
		f.names(v, yield)
		return val{}
	case kString:
		if v.s == "" { // CEL asks for the size first
			return val{}
		}
	}
	return val{k: kErr, s: "an iterable type is expected"}
}

// names yields each name of an object once.
func (f *frame) names(v val, yield func(val) bool) {
	seen := map[string]bool{}
	eachMember(bytesOf(v.s), func(n, _ []byte) bool {
		t, _ := audit.Text(n)
		if seen[t] {
			return true
		}
		seen[t] = true
		return f.spend(len(n)) && yield(stringVal(t))
	})
}

// gather makes a list of what fill appends to the frame's arena.
func (f *frame) gather(fill func()) val {
	from := len(f.arena)
	fill()
	return val{k: kList, list: f.arena[from:len(f.arena):len(f.arena)]}
}
