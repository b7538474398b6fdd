package match

import (
	"bytes"
	"slices"
	"unicode/utf8"

	"whodunit/internal/audit"
)

// textSearch looks for all Texts in one pass over an event. Immutable.
type textSearch struct {
	lits   *automaton
	filter *textFilter // nil: none
	uses   [][]textUse // by literal
	total  int
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
		s.lits.ignoreCase()
		s.filter = newTextFilter(literals)
	}
	return s
}

// occurring leaves in s.preds.list the Texts that occur in raw, in ascending order.
func (ts *textSearch) occurring(raw []byte, s *scratch, buf []byte) []byte {
	s.preds.reset()
	if ts.lits == nil || ts.filter != nil && ts.filter.none(raw) {
		return buf
	}
	for i := 0; i < len(raw); {
		start := i
		switch raw[i] {
		case '{', '}', '[', ']', ':', ',', ' ', '\t', '\n', '\r':
			i++
			continue
		case '"':
			if end := ts.plain(raw, i+1, s); end > 0 {
				i = end
				continue
			}
			if i = audit.SkipString(raw, i); i < 0 { // no event
				i = len(raw)
				continue
			}
			v := raw[start+1 : i-1]
			if bytes.IndexByte(v, '\\') >= 0 {
				buf = audit.Unescape(buf[:0], v)
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

// plain is the way through most strings: those of ASCII without escapes, which need neither decoding nor folding. It gives the place behind
// the string's end, -1 for other strings, which must be taken again.
func (ts *textSearch) plain(raw []byte, start int, s *scratch) int {
	a := ts.lits
	if !a.anyCase {
		return -1
	}
	n, rows, shift, hit := int32(0), a.rows, a.shift&31, a.hit
	for i := start; i+1 < len(raw) || i < len(raw) && raw[i] == '"'; i++ {
		c := raw[i]
		if leavesPlain[c] {
			if c == '"' {
				return i + 1
			}
			return -1
		}
		if n < a.dense {
			n = rows[int(n)<<shift+int(a.class[c])]
		} else {
			n = a.step(n, c)
		}
		if hit[n] {
			if next := raw[i+1]; next == '\\' || next >= utf8.RuneSelf {
				return -1
			}
			ts.ending(n, raw[start:], i+1-start, s)
		}
	}
	return -1
}

// leavesPlain marks the bytes at which plain stops.
var leavesPlain = func() (t [256]bool) {
	t['"'], t['\\'] = true, true
	for c := utf8.RuneSelf; c < len(t); c++ {
		t[c] = true
	}
	return t
}()

// ending takes the literals that end at node n, at this place of the text.
func (ts *textSearch) ending(n int32, text []byte, end int, s *scratch) {
	a := ts.lits
	for e := n; ; e = a.more[e] {
		if l := a.out[e]; l >= 0 {
			ts.word(l, end-int(a.lens[l]), end, text, s)
		}
		if a.more[e] == 0 {
			return
		}
	}
}

func (ts *textSearch) in(v []byte, s *scratch) {
	s.folded = appendFoldedBytes(s.folded[:0], v)
	text, a := s.folded, ts.lits
	for n, i := a.next(0, text, 0); n >= 0; n, i = a.next(n, text, i) {
		ts.ending(n, text, i, s)
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
