package audit

import (
	"bytes"
	"iter"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
	"unsafe"
)

// Valid says what keeps b from being exactly one well-formed JSON value nested at most about 10,000 deep; nil if nothing does.
// Invalid UTF-8 inside strings is let pass, as encoding/json does.
func Valid(b []byte) error {
	s := scanner{b: b}
	if err := s.value(); err != nil {
		return err
	}
	s.ws()
	if s.i != len(b) {
		return s.fail(errSyntax)
	}
	return nil
}

// Members ranges over the members of the JSON object b: decoded name, raw value (a sub-slice of b). b must have passed
// Valid or come from an Event; anything but an object has no members. Duplicate names come as often as they stand there.
func Members(b []byte) iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		s := scanner{b: b}
		_ = s.object(true, func(m member) error { // what is valid need not be read again
			if !yield(text(m.name, m.escaped), m.value) {
				return errEnd
			}
			return nil
		})
	}
}

// Elements ranges over the raw elements of the JSON array b, under the same conditions as Members.
func Elements(b []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		s := scanner{b: b}
		if s.expect('[') != nil {
			return
		}
		s.ws()
		if s.i < len(b) && b[s.i] == ']' {
			return
		}
		for {
			s.ws()
			v := s.i
			if s.skip() != nil || !yield(b[v:s.i]) {
				return
			}
			s.ws()
			if s.i >= len(b) || b[s.i] != ',' {
				return
			}
			s.i++
		}
	}
}

// Leaves ranges over what the JSON array b holds once arrays in it are entered, however deep: its scalars and objects, under the
// same conditions as Members. Each byte is read once; Elements within Elements would read the deepest once for each level, which a
// client can make 10,000. What is no array is its own only leaf.
func Leaves(b []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		s := scanner{b: b}
		for s.ws(); s.i < len(b); s.ws() {
			if c := b[s.i]; c == '[' || c == ']' || c == ',' {
				s.i++
				continue
			}
			v := s.i
			if s.skip() != nil || !yield(b[v:s.i]) {
				return
			}
		}
	}
}

// Text is the text of the raw JSON scalar v: a string decoded, a number or boolean as it is written. It reports false
// for null, objects, arrays, and nothing. The result may share v's memory.
func Text(v []byte) (string, bool) {
	if len(v) == 0 {
		return "", false
	}
	switch v[0] {
	case '{', '[', 'n':
		return "", false
	case '"':
		return text(v[1:len(v)-1], bytes.IndexByte(v, '\\') >= 0), true
	}
	return alias(v), true
}

// alias views b as a string without copying. Raw is never written to once an Event is made of it.
func alias(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// text decodes the inside of a JSON string; without escapes it shares b's memory.
func text(b []byte, escaped bool) string {
	if !escaped {
		return alias(b)
	}
	return alias(Unescape(make([]byte, 0, len(b)), b))
}

// Unescape appends the inside of a JSON string, decoded, to dst. What is no escape, and all behind it, stays as it is.
func Unescape(dst, b []byte) []byte {
	for {
		i := bytes.IndexByte(b, '\\')
		if i < 0 {
			return append(dst, b...)
		}
		dst, b = append(dst, b[:i]...), b[i:]
		n := escapeLen(b)
		if n == 0 {
			return append(dst, b...)
		}
		if b[1] == 'u' {
			r, _ := hex4(b)
			if utf16.IsSurrogate(r) {
				low, _ := hex4(b[6:])
				if r = utf16.DecodeRune(r, low); r != utf8.RuneError {
					n = 12
				}
			}
			dst = utf8.AppendRune(dst, r)
		} else {
			dst = append(dst, unescape(b[1]))
		}
		b = b[n:]
	}
}

func unescape(c byte) byte {
	switch c {
	case 'b':
		return '\b'
	case 'f':
		return '\f'
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	}
	return c
}

// integer reads a JSON number as an int; 0 where it is none.
func integer(v []byte) int {
	n, err := strconv.Atoi(alias(v))
	if err != nil {
		return 0
	}
	return n
}
