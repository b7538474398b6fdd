package match

import (
	"bytes"
	"encoding/binary"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
	"unsafe"
)

// unescape appends the inside of a JSON string, decoded, to dst.
func unescape(dst, b []byte) []byte {
	for {
		i := bytes.IndexByte(b, '\\')
		if i < 0 {
			return append(dst, b...)
		}
		dst, b = append(dst, b[:i]...), b[i:]
		if len(b) < 2 {
			return append(dst, b...)
		}
		n := 2
		switch c := b[1]; c {
		case 'u':
			r, ok := hex4(b)
			if !ok {
				return append(dst, b...)
			}
			n = 6
			if utf16.IsSurrogate(r) {
				low, _ := hex4(b[6:])
				if r = utf16.DecodeRune(r, low); r != utf8.RuneError {
					n = 12
				}
			}
			dst = utf8.AppendRune(dst, r)
		default:
			k := strings.IndexByte(`"\/bfnrt`, c)
			if k < 0 {
				return append(dst, b...)
			}
			dst = append(dst, "\"\\/\b\f\n\r\t"[k])
		}
		b = b[n:]
	}
}

// hex4 reads the four digits of the \uXXXX that b begins with.
func hex4(b []byte) (rune, bool) {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return 0, false
	}
	var r rune
	for _, c := range b[2:6] {
		switch {
		case c-'0' <= 9:
			c -= '0'
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			c = c | 0x20 - 'a' + 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

// integer reads a JSON number that is an integer of 64 bits, as strconv.ParseInt does, without an error to allocate.
func integer(v []byte) (int64, bool) {
	if bytes.ContainsAny(v, ".eE") || len(v) > len("-9223372036854775808") {
		return 0, false
	}
	n, err := strconv.ParseInt(alias(v), 10, 64)
	return n, err == nil
}

func inOrder(op Op, n int) bool {
	switch op {
	case Less:
		return n < 0
	case LessEqual:
		return n <= 0
	case Greater:
		return n > 0
	}
	return n >= 0
}

// alias views b as a string without copying, for what does not keep it.
func alias(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// appendFoldedBytes appends Fold(v) to b, eight letters at a time as long as they are ASCII.
func appendFoldedBytes(b, v []byte) []byte {
	const low, high = 0x0101010101010101, 0x8080808080808080
	i := 0
	for ; i+8 <= len(v); i += 8 {
		w := binary.LittleEndian.Uint64(v[i:])
		if w&high != 0 {
			break
		}
		upper := ((w + low*(0x80-'A')) ^ (w + low*(0x7f-'Z'))) & high
		b = binary.LittleEndian.AppendUint64(b, w|upper>>2)
	}
	return appendFolded(b, alias(v[i:]))
}

func aliasBytes(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }
