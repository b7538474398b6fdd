package journal

import (
	"errors"
	"fmt"
	"math"
	"os"
	"sync"

	"whodunit/internal/audit"
	"whodunit/internal/journal/wal"
)

// block is one durable frame of the WAL that is not sealed yet. Its fields but records never change; records is guarded by
// the journal's mutex.
type block struct {
	frame                wal.Frame
	file                 *walFile
	rawBytes             int64
	minMicros, maxMicros int64
	records              []audit.Record // nil where they must be read from the file again
}

// walFile is a WAL file that blocks point into. It stays open for reading until the last user lets go, so that a search may
// go on while sealing deletes it.
type walFile struct {
	path string
	salt uint64
	size int64
	last uint64 // highest sequence number in it

	mu   sync.Mutex
	f    *os.File
	refs int
}

func openWAL(path string, salt uint64) (*walFile, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cannot open WAL: %w", err)
	}
	return &walFile{path: path, salt: salt, f: f, refs: 1}, nil
}

func (w *walFile) acquire() {
	w.mu.Lock()
	w.refs++
	w.mu.Unlock()
}

func (w *walFile) release() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.refs--; w.refs == 0 {
		_ = w.f.Close() // only ever read
	}
}

func newBlock(f wal.Frame, file *walFile, records []audit.Record) *block {
	b := &block{frame: f, file: file, minMicros: math.MaxInt64, maxMicros: math.MinInt64}
	for i := range records {
		m := records[i].Event.Micros()
		b.minMicros, b.maxMicros = min(b.minMicros, m), max(b.maxMicros, m)
		b.rawBytes += int64(len(records[i].Event.Raw))
	}
	return b
}

// load reads the block's records from the file. A damaged frame gives none, and how many were lost.
func (b *block) load(c *wal.Codec) (records []audit.Record, damaged int64, err error) {
	payload, err := wal.ReadFrame(b.file.f, b.file.salt, b.frame)
	if err == nil {
		records, err = c.Decode(b.frame, payload)
	}
	if errors.Is(err, wal.ErrDamaged) {
		return nil, int64(b.frame.Count), nil
	}
	return records, 0, err
}
