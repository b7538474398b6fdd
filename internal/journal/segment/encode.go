package segment

import (
	"encoding/binary"
	"math/bits"

	"github.com/parquet-go/parquet-go/encoding/delta"
)

// hybrid appends vs in Parquet's RLE / bit-packing hybrid of the given width: runs of eight and more equal values as runs,
// the rest packed in groups of eight (https://parquet.apache.org/docs/file-format/data-pages/encodings/).
func hybrid(dst []byte, vs []uint32, width int) []byte {
	packed := 0 // start of what is to be packed
	for i := 0; i < len(vs); {
		run := i + 1
		for run < len(vs) && vs[run] == vs[i] {
			run++
		}
		// a packed group holds eight values, so what precedes a run is filled up from it
		fill := (8 - (i-packed)%8) % 8
		if run-i-fill < 8 {
			i = run
			continue
		}
		dst = pack(dst, vs[packed:i+fill], width)
		dst = binary.AppendUvarint(dst, uint64(run-i-fill)<<1)
		for v, n := vs[i], (width+7)/8; n > 0; n-- {
			dst = append(dst, byte(v))
			v >>= 8
		}
		packed, i = run, run
	}
	return pack(dst, vs[packed:], width)
}

// pack appends one bit-packed run; the last group is filled up with zeros.
func pack(dst []byte, vs []uint32, width int) []byte {
	if len(vs) == 0 {
		return dst
	}
	groups := (len(vs) + 7) / 8
	dst = binary.AppendUvarint(dst, uint64(groups)<<1|1)
	acc, have := uint64(0), 0
	put := func(v uint32) {
		acc |= uint64(v) << have
		for have += width; have >= 8; have -= 8 {
			dst = append(dst, byte(acc))
			acc >>= 8
		}
	}
	for _, v := range vs {
		put(v)
	}
	for range groups*8 - len(vs) {
		put(0)
	}
	return dst
}

// widthOf is the number of bits that n different numbers from 0 take.
func widthOf(n int) int {
	if n < 2 {
		return 0
	}
	return bits.Len(uint(n - 1))
}

// levels appends repetition or definition levels of at most 1, with their length, as a version 1 data page has them.
func levels(dst []byte, vs []uint32) []byte {
	at := len(dst)
	dst = hybrid(append(dst, 0, 0, 0, 0), vs, 1)
	binary.LittleEndian.PutUint32(dst[at:], uint32(len(dst)-at-4))
	return dst
}

// plain appends a BYTE_ARRAY.
func plain[T string | []byte](dst []byte, s T) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(s)))
	return append(dst, s...)
}

func deltas(dst []byte, vs []int64) ([]byte, error) {
	b, err := (&delta.BinaryPackedEncoding{}).EncodeInt64(nil, vs)
	return append(dst, b...), err
}
