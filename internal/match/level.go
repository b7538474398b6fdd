package match

import (
	"maps"
	"slices"
)

// level is the member names of one object that paths ask for, numbered: of the event itself, or of one of its top-level objects.
// Immutable once compiled.
type level struct {
	top   int32 // number of the object among the event's own members
	names []string
	slot  map[string]int32
}

func newLevel(top int32) *level { return &level{top: top, slot: map[string]int32{}} }

func (l *level) add(name string) int32 {
	if i, ok := l.slot[name]; ok {
		return i
	}
	i := int32(len(l.names))
	l.slot[name] = i
	l.names = append(l.names, name)
	return i
}

// view is what a document knows of a level: where its members are. The API server writes them in a fixed order, so the name that came
// next the last time is tried first; names that nobody asks for are learnt for that as well.
type view struct {
	gen    uint32 // of the document, if the object has been walked
	names  []string
	slot   map[string]int32
	at     []span  // by the names' numbers, the last of duplicates
	after  []int32 // by the number of a name, plus one: which came after it; 0: which came first
	dotted bool    // an unknown name has a dot
	learnt int
}

const (
	learntNames = 64 // of a level
	learntName  = 40 // bytes
)

func newView(l *level) *view {
	v := &view{names: slices.Clone(l.names), slot: maps.Clone(l.slot), at: make([]span, len(l.names)), after: make([]int32, len(l.names)+1)}
	for i := range v.after {
		v.after[i] = -1
	}
	return v
}

// learn takes an unknown name, and says whether it is known from now on.
func (v *view) learn(name []byte) (slot int32, ok bool) {
	if v.learnt >= learntNames || len(name) > learntName {
		return -1, false
	}
	v.learnt++
	slot = int32(len(v.names))
	v.names, v.at, v.after = append(v.names, string(name)), append(v.at, span{}), append(v.after, -1)
	v.slot[v.names[slot]] = slot
	return slot, true
}
