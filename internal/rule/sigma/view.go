package sigma

import (
	"hash/maphash"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"unsafe"

	"whodunit/internal/audit"
	"whodunit/internal/match"
)

// Events that are not audit events have their fields in many places. A name is looked for in these, in order: the event itself,
// Event.EventData (an object, or a list of Data elements with names), Event.System, the objects in Event.UserData, EventData, System,
// winlog.event_data, winlog, data; then as an attribute of a System element, joined by _ (specification, "Field Usage"); and then in
// all of them again without case.
var boxes = []string{"Event.EventData", "Event.System", "Event.UserData", "EventData", "System", "winlog.event_data", "winlog", "data"}

// view is one event's fields by name. Immutable but for folded.
type view struct {
	at     *byte
	n      int
	sum    uint64
	boxes  [][]byte
	fields map[string]found
	folded func() map[string][]byte
}

type found struct {
	box   int
	value []byte
}

// views remembers the views of the last events, because every field of every rule asks for them. An event is known again by the place and
// the hash of its bytes, for a caller may use its buffer again. Safe for concurrent use.
type views struct {
	seed maphash.Seed
	last [64]atomic.Pointer[view]
	big  atomic.Pointer[view] // of an event of more than maxKept bytes: one is kept, not 64
}

const maxKept = 64 << 10

func (s *views) of(raw []byte) *view {
	at := unsafe.SliceData(raw)
	slot := &s.last[(uintptr(unsafe.Pointer(at))>>6)%uintptr(len(s.last))]
	if len(raw) > maxKept {
		slot = &s.big
	}
	sum := maphash.Bytes(s.seed, raw)
	if v := slot.Load(); v != nil && v.at == at && v.n == len(raw) && v.sum == sum {
		return v
	}
	v := newView(raw)
	v.at, v.n, v.sum = at, len(raw), sum
	slot.Store(v)
	return v
}

func newView(raw []byte) *view {
	v := &view{fields: map[string]found{}}
	v.add(raw)
	for _, path := range boxes {
		reach(raw, path, false, func(b []byte) bool {
			if strings.HasSuffix(path, "UserData") {
				for _, el := range audit.Members(b) {
					v.add(el)
				}
			} else {
				v.add(b)
			}
			return true
		})
	}
	for _, path := range []string{"Event.System", "System"} {
		reach(raw, path, false, func(b []byte) bool {
			v.attributes(b)
			return true
		})
	}
	reach(raw, "winlog", false, func(b []byte) bool {
		v.winlogbeat(b)
		return true
	})
	v.folded = sync.OnceValue(func() map[string][]byte {
		out, from := make(map[string][]byte, len(v.fields)), make(map[string]int, len(v.fields))
		for _, name := range slices.Sorted(maps.Keys(v.fields)) { // of names that differ by case alone the first place wins
			f, key := v.fields[name], match.Fold(name)
			if box, ok := from[key]; !ok || f.box < box {
				out[key], from[key] = f.value, f.box
			}
		}
		return out
	})
	return v
}

// add takes the members of one object, behind those that are there already.
func (v *view) add(b []byte) {
	if len(b) == 0 || b[0] != '{' {
		return
	}
	box := len(v.boxes)
	v.boxes = append(v.boxes, b)
	for name, value := range audit.Members(b) {
		v.put(box, name, value)
	}
	if data := member(b, "Data"); data != nil {
		for el := range audit.Leaves(data) {
			v.data(box, el)
		}
	}
}

func (v *view) put(box int, name string, value []byte) {
	if f, ok := v.fields[name]; !ok || f.box == box { // the last of duplicate names wins
		v.fields[name] = found{box, value}
	}
}

// data takes one <Data Name="x">y</Data>, as the usual converters write it.
func (v *view) data(box int, el []byte) {
	if el[0] != '{' {
		return
	}
	var name string
	value := []byte("null")
	for k, mv := range audit.Members(el) {
		switch k {
		case "#attributes":
			name, _ = audit.Text(member(mv, "Name"))
		case "@Name", "Name":
			name, _ = audit.Text(mv)
		case "#text", "text", "Value", "value":
			value = mv
		}
	}
	if name == "" {
		return
	}
	if _, ok := v.fields[name]; !ok {
		v.fields[name] = found{box, value}
	}
}

// winlogbeat adds Windows' own names of what Winlogbeat (Elastic's reference of exported fields) calls otherwise.
func (v *view) winlogbeat(b []byte) {
	box := len(v.boxes)
	for name, value := range audit.Members(b) {
		switch name {
		case "event_id":
			v.put(box, "EventID", value)
		case "computer_name":
			v.put(box, "Computer", value)
			v.put(box, "ComputerName", value)
		case "record_id":
			v.put(box, "EventRecordID", value)
		}
	}
}

// attributes adds those of System's elements as Element_Attribute.
func (v *view) attributes(b []byte) {
	box := len(v.boxes)
	for name, value := range audit.Members(b) {
		if len(value) == 0 || value[0] != '{' {
			continue
		}
		name = strings.TrimSuffix(name, "_attributes")
		for attribute, av := range audit.Members(value) {
			if attribute == "#attributes" {
				for a, av := range audit.Members(av) {
					v.put(box, name+"_"+a, av)
				}
			} else if attribute != "#text" {
				v.put(box, name+"_"+strings.TrimPrefix(attribute, "@"), av)
			}
		}
	}
}

// find calls f for the raw values of a field.
func (v *view) find(name string, f func([]byte) bool) {
	if fd, ok := v.fields[name]; ok {
		f(fd.value)
		return
	}
	dotted := strings.Contains(name, ".")
	for _, fold := range [2]bool{false, true} {
		if fold {
			if value, ok := v.folded()[match.Fold(name)]; ok {
				f(value)
				return
			}
		}
		if !dotted {
			continue
		}
		for _, b := range v.boxes {
			hit := false
			reach(b, name, fold, func(v []byte) bool { hit = true; return f(v) })
			if hit {
				return
			}
		}
	}
}

// target is a field of a generic event.
func (s *views) target(name string) *target {
	return rawTarget("field "+name, func(ev *audit.Event, yield func([]byte) bool) {
		s.of(ev.Raw).find(name, yield)
	})
}

// values hands a field's texts to yield.
func (s *views) values(ev *audit.Event, name string, yield func(string) bool) {
	s.of(ev.Raw).find(name, func(v []byte) bool { return texts(v, yield) })
}
