package audit

import (
	"errors"
	"fmt"
	"math/bits"
	"unsafe"
)

// maxDepth bounds the nesting of one event. Real ones stay below 40, but a client may nest its object as deep as
// kube-apiserver's decoder goes, 10,000 (sigs.k8s.io/json, as encoding/json): whoever could make an event that is refused here
// would be invisible. The event itself and what a collector may wrap round it come on top.
const maxDepth = 10_016

// shallow is the nesting that needs no memory of its own.
const shallow = 256

var (
	errEnd    = errors.New("unexpected end of JSON")
	errSyntax = errors.New("invalid JSON")
	errDepth  = errors.New("JSON nested deeper than 10016")
)

// scanner is a strict, allocation-free reader of one JSON text.
type scanner struct {
	b     []byte
	i     int
	space bool // white space was seen outside strings
}

func (s *scanner) fail(err error) error { return fmt.Errorf("%w at byte %d", err, s.i) }

func (s *scanner) ws() {
	if s.i < len(s.b) && s.b[s.i] > ' ' {
		return
	}
	s.skipSpace()
}

func (s *scanner) skipSpace() {
	for s.i < len(s.b) {
		switch s.b[s.i] {
		case ' ', '\t', '\n', '\r':
			s.space = true
			s.i++
		default:
			return
		}
	}
}

// expect skips white space and then the byte c.
func (s *scanner) expect(c byte) error {
	s.ws()
	if s.i >= len(s.b) {
		return s.fail(errEnd)
	}
	if s.b[s.i] != c {
		return s.fail(errSyntax)
	}
	s.i++
	return nil
}

const (
	lsb = 0x0101010101010101
	msb = 0x8080808080808080
)

// special marks, in the high bit of each byte, a quote, a backslash, or a control character. Marks above the first
// one may be false; the first is always right.
func special(w uint64) uint64 {
	q := w ^ (lsb * '"')
	e := w ^ (lsb * '\\')
	return ((q-lsb) & ^q | (e-lsb) & ^e | (w-lsb*0x20) & ^w) & msb
}

// plain is the index behind the string whose first character is b[i], if it ends and has neither escapes nor errors; else -1.
func plain(b []byte, i int) int {
	for ; i+8 <= len(b); i += 8 {
		m := special(*(*uint64)(unsafe.Pointer(&b[i])))
		if m == 0 {
			continue
		}
		if i += bits.TrailingZeros64(m) >> 3; b[i] == '"' {
			return i + 1
		}
		return -1
	}
	return -1
}

// str skips a string and says whether it holds an escape. s.i is at the opening quote.
func (s *scanner) str() (escaped bool, err error) {
	if s.i >= len(s.b) {
		return false, s.fail(errEnd)
	}
	if s.b[s.i] != '"' {
		return false, s.fail(errSyntax)
	}
	s.i++
	b, i := s.b, s.i
	for {
		for i+8 <= len(b) {
			w := *(*uint64)(unsafe.Pointer(&b[i])) // little-endian on every platform we build for
			if m := special(w); m != 0 {
				i += bits.TrailingZeros64(m) >> 3
				break
			}
			i += 8
		}
		if i >= len(b) {
			s.i = i
			return escaped, s.fail(errEnd)
		}
		switch c := b[i]; {
		case c == '"':
			s.i = i + 1
			return escaped, nil
		case c == '\\':
			escaped = true
			n := escapeLen(b[i:])
			if n == 0 {
				s.i = i
				return escaped, s.fail(errSyntax)
			}
			i += n
		case c < 0x20:
			s.i = i
			return escaped, s.fail(errSyntax)
		default:
			i++
		}
	}
}

// escapeLen is the length of the escape that b begins with, 0 where it is none.
func escapeLen(b []byte) int {
	if len(b) < 2 {
		return 0
	}
	switch b[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
		if _, ok := hex4(b); ok {
			return 6
		}
	}
	return 0
}

// hex4 reads the four digits of the \uXXXX that b begins with.
func hex4(b []byte) (rune, bool) {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return 0, false
	}
	var r rune
	for _, c := range b[2:6] {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

func (s *scanner) digits() bool {
	n := s.i
	for s.i < len(s.b) && s.b[s.i]-'0' <= 9 {
		s.i++
	}
	return s.i > n
}

func (s *scanner) number() error {
	if s.b[s.i] == '-' {
		s.i++
	}
	start := s.i
	if !s.digits() || (s.b[start] == '0' && s.i > start+1) {
		return s.fail(errSyntax)
	}
	if s.i < len(s.b) && s.b[s.i] == '.' {
		s.i++
		if !s.digits() {
			return s.fail(errSyntax)
		}
	}
	if s.i < len(s.b) && s.b[s.i]|0x20 == 'e' {
		s.i++
		if s.i < len(s.b) && (s.b[s.i] == '+' || s.b[s.i] == '-') {
			s.i++
		}
		if !s.digits() {
			return s.fail(errSyntax)
		}
	}
	return nil
}

func (s *scanner) literal(word string) error {
	if len(s.b)-s.i < len(word) || string(s.b[s.i:s.i+len(word)]) != word {
		return s.fail(errSyntax)
	}
	s.i += len(word)
	return nil
}

// key skips `"name" :`.
func (s *scanner) key() error {
	s.ws()
	if _, err := s.str(); err != nil {
		return err
	}
	if s.i < len(s.b) && s.b[s.i] == ':' {
		s.i++
		return nil
	}
	return s.expect(':')
}

// open enters the object or array at s.i and says whether it is empty (and so already left).
func (s *scanner) open(object bool) (empty bool, err error) {
	s.i++
	s.ws()
	if s.i >= len(s.b) {
		return false, s.fail(errEnd)
	}
	if object {
		if s.b[s.i] == '}' {
			s.i++
			return true, nil
		}
		return false, s.key()
	}
	if s.b[s.i] == ']' {
		s.i++
		return true, nil
	}
	return false, nil
}

func (s *scanner) scalar() error {
	switch c := s.b[s.i]; {
	case c == '"':
		_, err := s.str()
		return err
	case c == '-' || c-'0' <= 9:
		return s.number()
	case c == 't':
		return s.literal("true")
	case c == 'f':
		return s.literal("false")
	case c == 'n':
		return s.literal("null")
	}
	return s.fail(errSyntax)
}

// value skips one value of any kind, checking its syntax. It does not recurse. This is the hottest loop of the program: it keeps
// its state in local variables and takes compact JSON's turns first.
func (s *scanner) value() error {
	var first [shallow / 64]uint64
	objects := first[:] // a bit by depth: 1 where the container is an object
	b, i, depth := s.b, s.i, 0
	fail := func(err error) error { s.i = i; return s.fail(err) }
	for {
		if i < len(b) && b[i] <= ' ' {
			i = s.spaceAt(i)
		}
		if i >= len(b) {
			return fail(errEnd)
		}
		switch c := b[i]; c {
		case '"':
			j := plain(b, i+1)
			if j < 0 {
				s.i = i
				if _, err := s.str(); err != nil {
					return err
				}
				j = s.i
			}
			i = j
		case '{', '[':
			if depth == len(objects)*64 {
				if depth >= maxDepth {
					return fail(errDepth)
				}
				objects = append(objects, make([]uint64, len(objects))...)
			}
			s.i = i
			empty, err := s.open(c == '{')
			if err != nil {
				return err
			}
			if i = s.i; !empty {
				bit := uint64(1) << (depth & 63)
				objects[depth>>6] &^= bit
				if c == '{' {
					objects[depth>>6] |= bit
				}
				depth++
				continue
			}
		default:
			s.i = i
			if err := s.scalar(); err != nil {
				return err
			}
			i = s.i
		}
		for { // leave every container that ends here
			if depth == 0 {
				s.i = i
				return nil
			}
			if i < len(b) && b[i] <= ' ' {
				i = s.spaceAt(i)
			}
			if i >= len(b) {
				return fail(errEnd)
			}
			object := objects[(depth-1)>>6]>>((depth-1)&63)&1 == 1
			switch c := b[i]; {
			case c == ',' && object:
				i++
				if i < len(b) && b[i] == '"' {
					if j := plain(b, i+1); j > 0 && j < len(b) && b[j] == ':' {
						i = j + 1
						break
					}
				}
				s.i = i
				if err := s.key(); err != nil {
					return err
				}
				i = s.i
			case c == ',':
				i++
			case c == '}' && object, c == ']' && !object:
				i++
				depth--
				continue
			default:
				return fail(errSyntax)
			}
			break
		}
	}
}

// spaceAt skips white space from i on.
func (s *scanner) spaceAt(i int) int {
	s.i = i
	s.skipSpace()
	return s.i
}

// member is one member of an object: name is the raw text between the quotes, value the raw value.
type member struct {
	name, value []byte
	start, end  int // of the whole member in the scanner's text
	escaped     bool
}

// members calls f for each member of the object at s.i, in order, and leaves s.i behind it.
func (s *scanner) members(f func(m member) error) error { return s.object(false, f) }

// object is members. Where skim, values are skipped unread.
func (s *scanner) object(skim bool, f func(m member) error) error {
	if err := s.expect('{'); err != nil {
		return err
	}
	s.ws()
	if s.i < len(s.b) && s.b[s.i] == '}' {
		s.i++
		return nil
	}
	for {
		s.ws()
		m := member{start: s.i}
		esc, err := s.str()
		if err != nil {
			return err
		}
		m.escaped, m.name = esc, s.b[m.start+1:s.i-1]
		if err := s.expect(':'); err != nil {
			return err
		}
		s.ws()
		v := s.i
		if skim {
			err = s.skip()
		} else {
			err = s.value()
		}
		if err != nil {
			return err
		}
		m.value, m.end = s.b[v:s.i], s.i
		if err := f(m); err != nil {
			return err
		}
		s.ws()
		if s.i >= len(s.b) {
			return s.fail(errEnd)
		}
		c := s.b[s.i]
		s.i++
		if c == '}' {
			return nil
		}
		if c != ',' {
			s.i--
			return s.fail(errSyntax)
		}
	}
}

// skip is value without a look into it.
func (s *scanner) skip() error {
	end := SkipValue(s.b, s.i)
	if end < 0 {
		return s.fail(errEnd)
	}
	s.i = end
	return nil
}
