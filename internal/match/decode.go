package match

import (
	"bytes"
	"encoding/binary"
	"strconv"
	"unsafe"
)

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
