package segment

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// File is an open segment. It holds the index, about 12 KiB for each row group (of 64 MB of events), and nothing else. All
// methods are safe for concurrent use, but none may be called after Close.
type File struct {
	path   string
	f      *os.File
	meta   Meta
	index  *index
	start  int64 // where the groups begin
	groups []Group
	lost   []string // which copies of the index are damaged, in words
}

// maxPage bounds the decompressed size of a page: the largest event is 50 MB, and the columns of a group hold less than its events.
const maxPage = 1 << 30

// Open opens a segment for reading. It reads the index at the file's start, and the other copy only if that is damaged. The
// error wraps ErrCorrupt where both are.
func Open(path string) (*File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cannot open segment: %w", err)
	}
	s := &File{path: path, f: f}
	if err := s.open(); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot open segment %s: %w", path, err), f.Close())
	}
	return s, nil
}

func (f *File) open() error {
	st, err := f.f.Stat()
	if err != nil {
		return err
	}
	x, n, err := f.frame(int64(len(parquetMagic)), st.Size())
	if err != nil {
		f.lost = append(f.lost, "first index: "+err.Error())
		var err2 error
		if x, n, err2 = f.second(st.Size()); err2 != nil {
			return errors.Join(err, err2)
		}
	}
	f.index, f.start = x, int64(len(parquetMagic))+n
	f.meta = x.meta
	f.meta.FileBytes = st.Size()
	for i := range x.groups {
		f.groups = append(f.groups, Group{f: f, g: &x.groups[i]})
	}
	return nil
}

// frame reads the index copy at off and gives the whole frame's size.
func (f *File) frame(off, size int64) (*index, int64, error) {
	var head [frameHead]byte
	if _, err := f.f.ReadAt(head[:], off); err != nil {
		return nil, 0, fmt.Errorf("%w: index: %w", ErrCorrupt, err)
	}
	n := int64(binary.LittleEndian.Uint32(head[4:]))
	if string(head[:4]) != frameMagic || off+frameHead+n > size {
		return nil, 0, corrupt("index: no frame at byte %d", off)
	}
	payload := make([]byte, n)
	if _, err := f.f.ReadAt(payload, off+frameHead); err != nil {
		return nil, 0, fmt.Errorf("%w: index: %w", ErrCorrupt, err)
	}
	if checksum(payload) != binary.LittleEndian.Uint32(head[8:]) {
		return nil, 0, corrupt("index: checksum")
	}
	x, err := decodeIndex(payload)
	return x, frameHead + n, err
}

// second reads the copy before the Parquet footer.
func (f *File) second(size int64) (*index, int64, error) {
	var end [8]byte
	if _, err := f.f.ReadAt(end[:], max(0, size-8)); err != nil {
		return nil, 0, fmt.Errorf("%w: footer: %w", ErrCorrupt, err)
	}
	at := size - 8 - int64(binary.LittleEndian.Uint32(end[:])) - frameTail
	if at < 0 {
		return nil, 0, corrupt("footer: its length")
	}
	var tail [frameTail]byte
	if _, err := f.f.ReadAt(tail[:], at); err != nil {
		return nil, 0, fmt.Errorf("%w: index: %w", ErrCorrupt, err)
	}
	n := int64(binary.LittleEndian.Uint32(tail[:]))
	if string(tail[4:]) != frameMagic || at < n {
		return nil, 0, corrupt("index: no frame before the footer")
	}
	return f.frame(at-n, size)
}

// Meta describes the file.
func (f *File) Meta() Meta { return f.meta }

// Path is where the file was opened; it may have been removed since.
func (f *File) Path() string { return f.path }

// Groups are the row groups, in ascending order of their sequence numbers.
func (f *File) Groups() []Group { return f.groups }

// Close closes the file.
func (f *File) Close() error {
	return f.f.Close()
}

// read reads n bytes of the group and checks them.
func (g *Group) read(b blob, off int64) ([]byte, error) {
	if off < 0 || off+int64(b.size) > g.g.size {
		return nil, corrupt("%s: byte %d is outside its row group", g.f.path, off)
	}
	buf := make([]byte, b.size)
	at := g.f.start + g.g.off + off
	if _, err := g.f.f.ReadAt(buf, at); err != nil {
		if errors.Is(err, io.EOF) {
			err = fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
		return nil, fmt.Errorf("cannot read %s at byte %d: %w", g.f.path, at, err)
	}
	if checksum(buf) != b.crc {
		return nil, corrupt("%s: checksum of %d bytes at byte %d", g.f.path, b.size, at)
	}
	return buf, nil
}

// page reads and decompresses a page, from its second copy if the first is damaged.
func (g *Group) page(p *page) ([]byte, error) {
	buf, err := g.read(p.blob, p.off)
	if err != nil && p.spare > 0 {
		buf, err = g.read(p.blob, p.spare)
	}
	if err != nil {
		return nil, err
	}
	out, err := decompress(buf[p.head:], p.raw)
	if err != nil {
		return nil, fmt.Errorf("%s: page at byte %d of its row group: %w", g.f.path, p.off, err)
	}
	return out, nil
}

// decoder is shared by all files, so that an open file costs no buffers. It has no state and starts no goroutine.
var decoder = sync.OnceValues(func() (*zstd.Decoder, error) {
	return zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderMaxMemory(maxPage))
})

// decompress expands b to exactly size bytes; any size if it is below 0. It checks zstd's own checksum, too.
func decompress(b []byte, size int) ([]byte, error) {
	var h zstd.Header
	if size > maxPage {
		return nil, corrupt("page of %d bytes", size)
	}
	if err := h.Decode(b); err != nil {
		return nil, corrupt("%v", err)
	}
	// small frames do not say their size
	if h.HasFCS && (h.FrameContentSize > maxPage || size >= 0 && h.FrameContentSize != uint64(size)) {
		return nil, corrupt("zstd frame of %d bytes, not %d", h.FrameContentSize, size)
	}
	z, err := decoder()
	if err != nil {
		return nil, err
	}
	out, err := z.DecodeAll(b, make([]byte, 0, max(size, int(h.FrameContentSize))))
	if err != nil || size >= 0 && len(out) != size {
		return nil, corrupt("%d bytes, not %d: %v", len(out), size, err)
	}
	return out, nil
}
