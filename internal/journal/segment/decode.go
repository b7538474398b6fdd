package segment

import (
	"encoding/binary"
	"fmt"

	"github.com/parquet-go/parquet-go/encoding/delta"
)

func corrupt(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrCorrupt, fmt.Sprintf(format, args...))
}

// unhybrid reads n values of the given width, appending to dst.
func unhybrid(dst []uint32, b []byte, width, n int) ([]uint32, error) {
	if width > 32 {
		return nil, corrupt("values of %d bits", width)
	}
	for n > 0 {
		h, k := binary.Uvarint(b)
		if k <= 0 {
			return nil, corrupt("a run of values ends early")
		}
		b = b[k:]
		count := h >> 1
		if h&1 == 0 {
			size := (width + 7) / 8
			if count == 0 || count > uint64(n) || len(b) < size {
				return nil, corrupt("a run of %d values", count)
			}
			v := uint32(0)
			for i := range size {
				v |= uint32(b[i]) << (8 * i)
			}
			b = b[size:]
			n -= int(count)
			for range count {
				dst = append(dst, v)
			}
			continue
		}
		if count == 0 || count > uint64(n+7)/8 || uint64(len(b)) < count*uint64(width) {
			return nil, corrupt("%d groups of values", count)
		}
		take := min(n, int(count)*8)
		dst = unpack(dst, b, width, take)
		b = b[int(count)*width:]
		n -= take
	}
	return dst, nil
}

func unpack(dst []uint32, b []byte, width, n int) []uint32 {
	mask := uint64(1)<<width - 1
	bit := 0
	for range n {
		at := bit >> 3
		var w uint64
		if at+8 <= len(b) {
			w = binary.LittleEndian.Uint64(b[at:])
		} else {
			for i := at; i < len(b); i++ {
				w |= uint64(b[i]) << (8 * (i - at))
			}
		}
		dst = append(dst, uint32(w>>(bit&7)&mask))
		bit += width
	}
	return dst
}

// unlevels reads n levels and gives what follows them.
func unlevels(b []byte, n int) (levels []uint32, rest []byte, err error) {
	if len(b) < 4 {
		return nil, nil, corrupt("levels end early")
	}
	size := binary.LittleEndian.Uint32(b)
	if b = b[4:]; uint64(size) > uint64(len(b)) {
		return nil, nil, corrupt("levels of %d bytes", size)
	}
	levels, err = unhybrid(make([]uint32, 0, n), b[:size], 1, n)
	return levels, b[size:], err
}

// unplain reads n byte arrays and hands them out. They share b's memory.
func unplain(b []byte, n int, yield func(i int, v []byte)) error {
	for i := range n {
		if len(b) < 4 {
			return corrupt("values end early")
		}
		size := binary.LittleEndian.Uint32(b)
		if b = b[4:]; uint64(size) > uint64(len(b)) {
			return corrupt("a value of %d bytes", size)
		}
		yield(i, b[:size:size])
		b = b[size:]
	}
	if len(b) > 0 {
		return corrupt("%d bytes behind the last value", len(b))
	}
	return nil
}

// undelta reads n numbers.
func undelta(b []byte, n int) (vs []int64, err error) {
	defer recovered(&err)
	vs, err = (&delta.BinaryPackedEncoding{}).DecodeInt64(make([]int64, 0, n+128), b)
	if err != nil {
		return nil, corrupt("%v", err)
	}
	if len(vs) != n {
		return nil, corrupt("%d numbers, not %d", len(vs), n)
	}
	return vs, nil
}

// recovered turns a panic of a decoder that is not ours into an error.
func recovered(err *error) {
	if p := recover(); p != nil {
		*err = corrupt("%v", p)
	}
}
