package segment

import (
	"encoding/binary"
	"math/bits"
	"slices"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/parquet-go/parquet-go/bloom"
)

// Words are the runs of letters and digits in the text of names and scalars. The word filters hold those that are all ASCII
// once case is folded (the long s and the Kelvin sign fold into ASCII); words with any other letter are in no filter, since what is a
// letter changes from one Unicode version to the next and files live for years. Left out as well are words that tell nothing
// apart and would fill the filters: digits followed by z (the fraction of a time) and four hexadecimal digits with at
// least one decimal among them (the middle of a UUID).

const (
	letterBits  = 0x2020202020202020 // turns ASCII letters into small ones and leaves digits as they are
	wordKey     = 0x9e3779b97f4a7c15
	wordBits    = 8       // of filter for each distinct word
	tokensBytes = 2 << 20 // raw bytes that one filter covers at least
)

// wordHash is the hash of an ASCII word, in any case: over its length and its bytes as little-endian integers.
func wordHash(w []byte) uint64 {
	h := uint64(len(w)) * wordKey
	for ; len(w) >= 8; w = w[8:] {
		h = mixWord(h, binary.LittleEndian.Uint64(w)|letterBits)
	}
	if len(w) > 0 {
		var v uint64
		for i, c := range w {
			v |= uint64(c|0x20) << (8 * i)
		}
		h = mixWord(h, v)
	}
	return h ^ h>>29
}

func mixWord(h, v uint64) uint64 {
	hi, lo := bits.Mul64(h^v, wordKey)
	return hi ^ lo
}

// skipWord reports whether the word is in no filter.
func skipWord(w []byte) bool {
	last := len(w) - 1
	switch {
	case len(w) == 4:
		decimal := false
		for _, c := range w {
			switch c |= 0x20; {
			case c >= '0' && c <= '9':
				decimal = true
			case c < 'a' || c > 'f':
				return false
			}
		}
		return decimal
	case last > 0 && w[last]|0x20 == 'z' && w[0] <= '9':
		for _, c := range w[:last] {
			if c > '9' {
				return false
			}
		}
		return true
	}
	return false
}

// WordHashes are the hashes to ask Group.MayHaveAnyWords for, of words folded as match.Fold does.
func WordHashes(words []string) []uint64 {
	var out []uint64
	for _, w := range words {
		ascii := len(w) > 0
		for i := range len(w) {
			ascii = ascii && w[i] < utf8.RuneSelf && wordClass[w[i]] == inWord
		}
		if ascii && !skipWord([]byte(w)) {
			out = append(out, wordHash([]byte(w)))
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

const (
	between = iota
	inWord
	escape
	beyond // not ASCII
)

var wordClass = func() (t [256]uint8) { // a constant table
	for c := range t {
		switch {
		case c >= '0' && c <= '9', c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z':
			t[c] = inWord
		case c == '\\':
			t[c] = escape
		case c >= utf8.RuneSelf:
			t[c] = beyond
		}
	}
	return t
}()

// wordSet collects the hashes of the words of many events.
type wordSet struct {
	recent [1 << 12]uint64 // what came lately: most words come again soon
	table  []uint64        // open addressing, 0 is empty
	n      int
}

func (s *wordSet) add(h uint64) {
	if h == 0 {
		h = 1
	}
	if r := &s.recent[h>>52]; *r != h {
		*r = h
		s.insert(h)
	}
}

func (s *wordSet) insert(h uint64) {
	if s.n*2 >= len(s.table) {
		old := s.table
		s.table, s.n = make([]uint64, max(1<<14, len(old)*2)), 0
		for _, o := range old {
			if o != 0 {
				s.insert(o)
			}
		}
	}
	mask := uint64(len(s.table) - 1)
	for i := h & mask; ; i = (i + 1) & mask {
		if s.table[i] == h {
			return
		}
		if s.table[i] == 0 {
			s.table[i] = h
			s.n++
			return
		}
	}
}

// filter makes the bloom filter of all that was added and empties the set.
func (s *wordSet) filter() []byte {
	f := make(bloom.SplitBlockFilter, max(1, bloom.NumSplitBlocksOf(int64(s.n), wordBits)))
	for _, h := range s.table {
		if h != 0 {
			f.Insert(h)
		}
	}
	clear(s.table)
	clear(s.recent[:])
	s.n = 0
	return slices.Clone(f.Bytes())
}

// event adds the words of one raw event. JSON's own marks are no letters, so it need not be parsed: only escapes matter. It goes
// by blocks of 64 bytes, and byte by byte where there is more than ASCII without escapes of letters.
func (s *wordSet) event(raw []byte) {
	start, i := -1, 0
	for i+64 <= len(raw) {
		in, special := classes(raw[i : i+64])
		n := 64
		if special != 0 {
			n = bits.TrailingZeros64(special)
			in &= 1<<n - 1
		}
		inside := uint64(0)
		if start >= 0 {
			inside = 1
		}
		for edges := in ^ (in<<1 | inside); edges != 0; edges &= edges - 1 {
			at := bits.TrailingZeros64(edges)
			if at >= n {
				break // the special byte ends no word yet
			}
			if start < 0 {
				start = i + at
			} else {
				s.wordAt(raw, start, i+at)
				start = -1
			}
		}
		if i += n; special != 0 {
			start, i = s.special(raw, start, i)
		}
	}
	for i < len(raw) {
		switch wordClass[raw[i]] {
		case inWord:
			if start < 0 {
				start = i
			}
			i++
		case between:
			if start >= 0 {
				s.wordAt(raw, start, i)
				start = -1
			}
			i++
		default:
			start, i = s.special(raw, start, i)
		}
	}
	if start >= 0 {
		s.wordAt(raw, start, len(raw))
	}
}

// special takes the escape or the character beyond ASCII at i, in a word that began at start (below 0: in none), and gives where
// the word that goes on began and the next byte to look at.
func (s *wordSet) special(raw []byte, start, i int) (int, int) {
	if raw[i] == '\\' && (i+1 >= len(raw) || raw[i+1] != 'u') { // none of the short escapes is a letter
		if start >= 0 {
			s.wordAt(raw, start, i)
		}
		return -1, i + 2
	}
	return -1, s.slow(raw, start, i) + 1
}

const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// classes says of 64 bytes which are ASCII letters and digits, and which must be looked at one by one: bytes beyond ASCII, and
// backslashes before a letter, a digit or another backslash. One before a mark, mostly a quote, only stands between words.
func classes(b []byte) (in, special uint64) {
	var back uint64
	for k := 0; k < 64; k += 8 {
		w := binary.LittleEndian.Uint64(b[k:])
		y := w &^ highs
		z := y | letterBits
		digit := (y + ones*(0x80-'0')) &^ (y + ones*(0x80-'9'-1))
		letter := (z + ones*(0x80-'a')) &^ (z + ones*(0x80-'z'-1))
		slash := (y + ones*(0x80-'\\')) &^ (y + ones*(0x80-'\\'-1))
		in |= gather((digit|letter)&^w) << k
		back |= gather(slash&^w) << k
		special |= gather(w) << k
	}
	return in, special | back&((in|back)>>1|1<<63)
}

// gather makes a byte of the eight high bits.
func gather(w uint64) uint64 { return (w & highs) >> 7 * 0x0102040810204080 >> 56 }

// wordAt adds raw[start:end], which is all ASCII letters and digits.
func (s *wordSet) wordAt(raw []byte, start, end int) {
	n := end - start
	if n > 8 || start+8 > len(raw) {
		s.word(raw[start:end])
		return
	}
	if (n == 4 || raw[end-1]|0x20 == 'z') && skipWord(raw[start:end]) {
		return
	}
	v := (binary.LittleEndian.Uint64(raw[start:]) | letterBits) & (^uint64(0) >> (64 - 8*n))
	h := mixWord(uint64(n)*wordKey, v)
	s.add(h ^ h>>29)
}

func (s *wordSet) word(w []byte) {
	if !skipWord(w) {
		s.add(wordHash(w))
	}
}

// slow takes a word in which, or before which, there is an escape or a letter beyond ASCII: it began at start (below 0: not yet)
// and is read up to i. It gives the last byte that it used.
func (s *wordSet) slow(raw []byte, start, i int) int {
	var buf []byte
	known := true
	if start >= 0 {
		buf = append(buf, raw[start:i]...)
	}
	for i < len(raw) {
		r, n := runeAt(raw[i:])
		switch {
		case r == 0x17f: // long s
			r = 's'
		case r == 0x212a: // Kelvin
			r = 'k'
		}
		i += n
		if r >= utf8.RuneSelf && (unicode.IsLetter(r) || unicode.IsDigit(r)) {
			known = false
			buf = append(buf, '?')
			continue
		}
		if r >= utf8.RuneSelf || wordClass[byte(r)] != inWord {
			break
		}
		buf = append(buf, byte(r))
	}
	if known && len(buf) > 0 {
		s.word(buf)
	}
	return i - 1
}

// runeAt decodes the character that b begins with, a JSON escape or UTF-8.
func runeAt(b []byte) (rune, int) {
	if b[0] != '\\' {
		return utf8.DecodeRune(b)
	}
	if len(b) < 2 || b[1] != 'u' {
		return 0, min(2, len(b)) // none of the short escapes is a letter
	}
	r, ok := hex4(b)
	if !ok {
		return 0, 2
	}
	if utf16.IsSurrogate(r) {
		if low, ok := hex4(b[6:]); ok {
			if r2 := utf16.DecodeRune(r, low); r2 != utf8.RuneError {
				return r2, 12
			}
		}
		return utf8.RuneError, 6
	}
	return r, 6
}

func hex4(b []byte) (r rune, ok bool) {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return 0, false
	}
	for _, c := range b[2:6] {
		switch {
		case c >= '0' && c <= '9':
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
