package audit

import (
	"math/bits"
	"unsafe"
)

// SkipValue gives the index behind the JSON value that begins at b[i], -1 where it does not end in b. Of an object or array it follows
// strings and brackets alone (which need not be of one kind), so it is many times as fast as a parser, and what it has skipped
// may still be invalid.
func SkipValue(b []byte, i int) int {
	if i < 0 || i >= len(b) {
		return -1
	}
	switch b[i] {
	case '"':
		return SkipString(b, i)
	case '{', '[':
		return skipContainer(b, i+1)
	}
	start := i
	for i < len(b) && !endsScalar[b[i]] {
		i++
	}
	if i == start {
		return -1
	}
	return i
}

// endsScalar marks what a number or literal cannot hold.
var endsScalar = [256]bool{',': true, ']': true, '}': true, '{': true, '[': true, '"': true, ':': true, ' ': true, '\t': true, '\n': true, '\r': true}

// SkipString gives the index behind the JSON string whose opening quote is b[i], -1 where it does not end in b.
func SkipString(b []byte, i int) int {
	for i++; i+8 <= len(b); {
		w := *(*uint64)(unsafe.Pointer(&b[i])) // little-endian on every platform we build for
		q, e := w^(lsb*'"'), w^(lsb*'\\')
		m := ((q-lsb)&^q | (e-lsb)&^e) & msb // marks above the first may be false
		if m == 0 {
			i += 8
			continue
		}
		if i += bits.TrailingZeros64(m) >> 3; b[i] == '"' {
			return i + 1
		}
		i += 2
	}
	for ; i < len(b); i++ {
		switch b[i] {
		case '"':
			return i + 1
		case '\\':
			i++
		}
	}
	return -1
}

// skipState is where a walk over brackets stands between two blocks.
type skipState struct {
	depth    int    // of open brackets, from 1
	inString uint64 // all ones inside a string
	escaped  uint64 // 1 if the next byte is escaped
}

// skipContainer gives the index behind the bracket that closes the one before b[i].
func skipContainer(b []byte, i int) int {
	st := skipState{depth: 1}
	if n := (len(b) - i) / blockBytes; n > 0 && haveBlocks {
		if end := skipBlocks(&b[i], n, &st); end >= 0 {
			return i + end
		}
		i += n * blockBytes
	}
	return skipBytes(b, i, st)
}

// skipBytes is the plain form, for what is left of blocks and for processors without them.
func skipBytes(b []byte, i int, st skipState) int {
	if st.inString != 0 {
		// The string began before b[i], so b[i-1] stands for its quote: what is before it has been judged.
		if i += int(st.escaped) - 1; i >= len(b) {
			return -1
		}
		if i = SkipString(b, i); i < 0 {
			return -1
		}
	}
	depth := st.depth
	if st.inString == 0 && st.escaped == 1 && i < len(b) && (b[i] == '"' || b[i] == '\\') {
		i++
	}
	for i < len(b) {
		switch b[i] {
		case '"':
			if i = SkipString(b, i); i < 0 {
				return -1
			}
			continue
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return i + 1
			}
		case '\\': // no JSON; as skipBlocks takes it
			if i+1 < len(b) && (b[i+1] == '"' || b[i+1] == '\\') {
				i++
			}
		}
		i++
	}
	return -1
}

// blockBytes is what skipBlocks looks at in one step.
const blockBytes = 64
