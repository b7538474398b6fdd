package match

import (
	"bytes"
	"slices"
	"unicode/utf8"

	"whodunit/internal/audit"
)

// textSearch looks for all Texts in one pass over an event. Immutable.
type textSearch struct {
	lits  *automaton
	uses  [][]textUse // by literal
	total int
}

type textUse struct {
	open bool
	pred int32
}

func newTextSearch(texts []*Text, preds []int32) *textSearch {
	s := &textSearch{total: len(texts)}
	place := map[string]int{}
	var literals []string
	for i, t := range texts {
		if t.Word == "" {
			continue // never occurs
		}
		at, ok := place[t.Word]
		if !ok {
			at = len(literals)
			place[t.Word] = at
			literals, s.uses = append(literals, t.Word), append(s.uses, nil)
		}
		s.uses[at] = append(s.uses[at], textUse{t.Open, preds[i]})
	}
	if len(literals) > 0 {
		s.lits = newAutomaton(literals)
	}
	return s
}

// occurring leaves in s.preds.list the Texts that occur in raw, in ascending order.
func (ts *textSearch) occurring(raw []byte, s *scratch, buf []byte) []byte {
	s.preds.reset()
	if ts.lits == nil {
		return buf
	}
	for i := 0; i < len(raw); {
		start := i
		switch raw[i] {
		case '{', '}', '[', ']', ':', ',', ' ', '\t', '\n', '\r':
			i++
			continue
		case '"':
			if i = audit.SkipString(raw, i); i < 0 { // no event
				i = len(raw)
				continue
			}
			v := raw[start+1 : i-1]
			if bytes.IndexByte(v, '\\') >= 0 {
				buf = unescape(buf[:0], v)
				v = buf
			}
			ts.in(v, s)
		default:
			i = audit.SkipValue(raw, i)
			if raw[start] != 'n' { // null has no text
				ts.in(raw[start:i], s)
			}
		}
		if len(s.preds.list) == ts.total {
			break
		}
	}
	slices.Sort(s.preds.list)
	return buf
}

func (ts *textSearch) in(v []byte, s *scratch) {
	s.folded = appendFoldedBytes(s.folded[:0], v)
	text, a := s.folded, ts.lits
	for n, i := a.next(0, text, 0); n >= 0; n, i = a.next(n, text, i) {
		for e := n; ; e = a.more[e] {
			if l := a.out[e]; l >= 0 {
				ts.word(l, i-int(a.lens[l]), i, text, s)
			}
			if a.more[e] == 0 {
				break
			}
		}
	}
}

// word takes an occurrence of literal l in the folded text, from start to end.
func (ts *textSearch) word(l int32, start, end int, text []byte, s *scratch) {
	if before, _ := utf8.DecodeLastRune(text[:start]); start > 0 && wordRune(before) {
		return
	}
	after, _ := utf8.DecodeRune(text[end:])
	closed := end == len(text) || !wordRune(after)
	for _, u := range ts.uses[l] {
		if (u.open || closed) && s.preds.once(u.pred) {
			s.preds.list = append(s.preds.list, u.pred)
		}
	}
}
