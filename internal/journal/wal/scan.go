package wal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
)

// Damage is a stretch of a file that holds no readable frame.
type Damage struct {
	Path   string `json:"path"`
	Offset int64  `json:"offset"`
	Bytes  int64  `json:"bytes"`
	Seq    uint64 `json:"seq,omitempty"`    // first lost record, where known
	Events uint32 `json:"events,omitempty"` // lost records, where known
	// Torn is a write that was cut off at the file's end: its events were never acknowledged.
	Torn   bool   `json:"torn,omitempty"`
	Reason string `json:"reason"`
}

func (d Damage) String() string {
	what := "damaged"
	if d.Torn {
		what = "torn write (never acknowledged)"
	}
	s := fmt.Sprintf("%s: %d bytes at offset %d %s: %s", d.Path, d.Bytes, d.Offset, what, d.Reason)
	if d.Events > 0 {
		s += fmt.Sprintf("; events %d to %d", d.Seq, d.Seq+uint64(d.Events)-1)
	}
	return s
}

// Scan reads the file's frames in order and hands each good one with its payload (valid only during the call) to yield.
// Where a frame is bad it goes on at the next good one: the damage is returned, not an error. Frames with a sequence number of
// end or more are void (they were written before a failed sync and written again to the next file); end 0 means no such bound.
// Memory: one file.
func Scan(path string, end uint64, yield func(Frame, []byte) error) ([]Damage, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read WAL: %w", err)
	}
	defer func() { _ = f.Close() }() // it was only read
	return ScanFile(f, end, yield)
}

// ScanFile is Scan of a file that is open, which it reads from its beginning whatever its offset; its name may be gone.
func ScanFile(f *os.File, end uint64, yield func(Frame, []byte) error) ([]Damage, error) {
	path := f.Name()
	first, salt, ok := ParseName(path)
	if !ok {
		return nil, fmt.Errorf("cannot read WAL %s: the name is no WAL file's", path)
	}
	b, err := io.ReadAll(io.NewSectionReader(f, 0, math.MaxInt64))
	if err != nil {
		return nil, fmt.Errorf("cannot read WAL: %w", err)
	}
	var damage []Damage
	at := int64(HeaderSize)
	if err := checkFileHeader(b, first, salt); errors.Is(err, ErrVersion) {
		return nil, fmt.Errorf("cannot read WAL %s: %w", path, err)
	} else if err != nil {
		damage = append(damage, Damage{Path: path, Bytes: min(HeaderSize, int64(len(b))), Reason: err.Error(), Torn: len(b) < HeaderSize})
	}
	s := scan{path: path, b: b, salt: salt, end: end, next: first}
	for at < int64(len(b)) {
		f, d, err := s.frame(at)
		if d != nil {
			damage = append(damage, *d)
			at = d.Offset + d.Bytes
			continue
		}
		if err != nil {
			return damage, err
		}
		at += int64(f.Size)
		if end > 0 && f.Seq >= end {
			continue
		}
		if err := yield(f, b[f.Offset+FrameHeaderSize:at]); err != nil {
			return damage, err
		}
	}
	return damage, nil
}

type scan struct {
	path      string
	b         []byte
	salt, end uint64
	next      uint64 // the sequence number that should come
}

// frame reads the frame at the offset, or says how far the damage there reaches.
func (s *scan) frame(at int64) (Frame, *Damage, error) {
	f, err := parseFrame(s.b[at:], s.salt, at)
	if err != nil {
		return Frame{}, s.damaged(at), nil //nolint:nilerr // told as damage
	}
	if at+int64(f.Size) > int64(len(s.b)) {
		return Frame{}, &Damage{Path: s.path, Offset: at, Bytes: int64(len(s.b)) - at, Seq: f.Seq, Events: f.Count, Torn: true,
			Reason: "the file ends inside the frame"}, nil
	}
	if checksum(s.salt, s.b[at+FrameHeaderSize:at+int64(f.Size)]) != f.crc {
		s.next = f.Next()
		return Frame{}, &Damage{Path: s.path, Offset: at, Bytes: int64(f.Size), Seq: f.Seq, Events: f.Count,
			Reason: "payload checksum does not match"}, nil
	}
	s.next = f.Next()
	return f, nil, nil
}

// damaged finds the next good frame behind at. What lies between is lost; how many events that is shows in the sequence
// number of the next frame.
func (s *scan) damaged(at int64) *Damage {
	d := &Damage{Path: s.path, Offset: at, Seq: s.next, Reason: "frame header is damaged"}
	for i := at + 1; ; {
		j := bytes.Index(s.b[min(i, int64(len(s.b))):], frameMagic)
		if j < 0 {
			d.Bytes = int64(len(s.b)) - at
			d.Torn = d.Bytes < FrameHeaderSize || allZero(s.b[at:])
			if d.Torn {
				d.Reason = "the file ends inside a frame header"
			}
			return d
		}
		i += int64(j)
		if f, err := parseFrame(s.b[i:], s.salt, i); err == nil {
			d.Bytes = i - at
			if f.Seq > s.next {
				d.Events = uint32(f.Seq - s.next)
			}
			return d
		}
		i++
	}
}

// allZero: file systems may leave zeros at the end of a file that grew shortly before a power failure.
func allZero(b []byte) bool { return len(bytes.TrimLeft(b, "\x00")) == 0 }

// ReadFrame reads one frame's payload through r, checked again.
func ReadFrame(r io.ReaderAt, salt uint64, f Frame) ([]byte, error) {
	b := make([]byte, f.Size)
	if _, err := r.ReadAt(b, f.Offset); err != nil {
		return nil, fmt.Errorf("cannot read WAL frame at %d: %w", f.Offset, err)
	}
	g, err := parseFrame(b, salt, f.Offset)
	if err != nil || g.Seq != f.Seq || g.Size != f.Size || checksum(salt, b[FrameHeaderSize:]) != g.crc {
		return nil, fmt.Errorf("cannot read WAL frame at %d: %w", f.Offset, ErrDamaged)
	}
	return b[FrameHeaderSize:], nil
}

// ErrDamaged is wrapped where bytes on disk are not those that were written.
var ErrDamaged = errors.New("damaged")
