// Package wal reads and writes the journal's write-ahead log files: checked frames, each holding one batch of records.
// docs/reference/wal.md specifies the format.
package wal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"path/filepath"
	"strconv"
	"strings"
)

// Version of the file format.
const Version = 1

// HeaderSize is the length of a file's header, FrameHeaderSize that of a frame's, in bytes.
const (
	HeaderSize      = 32
	FrameHeaderSize = 28
)

// MaxPayload bounds one frame's payload. The largest batch is one event of audit.MaxEventBytes that does not compress.
const MaxPayload = 80 << 20

var (
	fileMagic  = []byte("WHOWAL\r\n")
	frameMagic = []byte("WDR1")
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
)

// errFrame says that no valid frame stands at a place.
var errFrame = errors.New("no valid frame")

// Name is the name of the file whose first frame has sequence number first. The salt, random per file and kept in name and
// header, goes into every checksum: whoever writes events cannot put bytes into them that pass for a frame when a damaged
// file is searched for the next good one.
func Name(first, salt uint64) string { return fmt.Sprintf("%020d-%016x.wal", first, salt) }

// ParseName takes a file's name (with or without folders) apart. ok is false where it is no WAL file's.
func ParseName(path string) (first, salt uint64, ok bool) {
	base, found := strings.CutSuffix(filepath.Base(path), ".wal")
	a, b, cut := strings.Cut(base, "-")
	if !found || !cut || len(a) != 20 || len(b) != 16 {
		return 0, 0, false
	}
	first, err1 := strconv.ParseUint(a, 10, 64)
	salt, err2 := strconv.ParseUint(b, 16, 64)
	return first, salt, err1 == nil && err2 == nil
}

// checksum is crc32c over the salt (little-endian) and b.
func checksum(salt uint64, b []byte) uint32 {
	var s [8]byte
	binary.LittleEndian.PutUint64(s[:], salt)
	return crc32.Update(crc32.Checksum(s[:], castagnoli), castagnoli, b)
}

func fileHeader(first, salt uint64) []byte {
	b := make([]byte, 0, HeaderSize)
	b = append(b, fileMagic...)
	b = binary.LittleEndian.AppendUint32(b, Version)
	b = binary.LittleEndian.AppendUint64(b, salt)
	b = binary.LittleEndian.AppendUint64(b, first)
	return binary.LittleEndian.AppendUint32(b, crcOf(b))
}

// checkFileHeader says what is wrong with the header of a file of that name. A damaged header costs nothing, as the
// name says the same; a newer version must not be read.
func checkFileHeader(b []byte, first, salt uint64) error {
	if len(b) < HeaderSize {
		return errors.New("file header is cut short")
	}
	b = b[:HeaderSize]
	if crcOf(b[:28]) != binary.LittleEndian.Uint32(b[28:]) || !bytes.HasPrefix(b, fileMagic) {
		return errors.New("file header is damaged")
	}
	if v := binary.LittleEndian.Uint32(b[8:]); v != Version {
		return fmt.Errorf("%w %d, this program reads %d", ErrVersion, v, Version)
	}
	if binary.LittleEndian.Uint64(b[12:]) != salt || binary.LittleEndian.Uint64(b[20:]) != first {
		return errors.New("file header does not agree with the file's name")
	}
	return nil
}

// ErrVersion is wrapped where a file is of a format that this program does not know.
var ErrVersion = errors.New("unknown WAL version")

// Frame is one frame's place and header.
type Frame struct {
	Seq    uint64 // sequence number of its first record
	Count  uint32 // records in it: Seq to Seq+Count-1
	Offset int64  // of the frame in its file
	Size   int    // header and payload
	crc    uint32
}

// Next is the sequence number behind the frame.
func (f Frame) Next() uint64 { return f.Seq + uint64(f.Count) }

// AppendFrame appends a frame to dst.
func AppendFrame(dst []byte, salt, seq uint64, count uint32, payload []byte) []byte {
	at := len(dst)
	dst = append(dst, frameMagic...)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(payload)))
	dst = binary.LittleEndian.AppendUint32(dst, count)
	dst = binary.LittleEndian.AppendUint64(dst, seq)
	dst = binary.LittleEndian.AppendUint32(dst, checksum(salt, payload))
	dst = binary.LittleEndian.AppendUint32(dst, checksum(salt, dst[at:]))
	return append(dst, payload...)
}

// parseFrame reads the frame header that b begins with.
func parseFrame(b []byte, salt uint64, offset int64) (Frame, error) {
	if len(b) < FrameHeaderSize || !bytes.HasPrefix(b, frameMagic) {
		return Frame{}, errFrame
	}
	if checksum(salt, b[:24]) != binary.LittleEndian.Uint32(b[24:]) {
		return Frame{}, errFrame
	}
	n := binary.LittleEndian.Uint32(b[4:])
	if n > MaxPayload {
		return Frame{}, errFrame
	}
	return Frame{
		Seq: binary.LittleEndian.Uint64(b[12:]), Count: binary.LittleEndian.Uint32(b[8:]), Offset: offset,
		Size: FrameHeaderSize + int(n), crc: binary.LittleEndian.Uint32(b[20:]),
	}, nil
}

func crcOf(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }
