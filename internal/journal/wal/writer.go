package wal

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"whodunit/internal/atomicfile"
)

// Writer appends frames to one file. It is not safe for concurrent use.
type Writer struct {
	f    *os.File
	path string
	salt uint64
	off  int64 // all before it is synced
	bad  bool
}

// Create makes a new file in dir for frames from sequence number first on, and makes its name durable.
func Create(dir string, first uint64) (*Writer, error) {
	var s [8]byte
	rand.Read(s[:]) // never fails
	salt := binary.LittleEndian.Uint64(s[:])
	path := filepath.Join(dir, Name(first, salt))
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot create WAL: %w", err)
	}
	w := &Writer{f: f, path: path, salt: salt, off: HeaderSize}
	if _, err = f.Write(fileHeader(first, salt)); err == nil {
		if err = f.Sync(); err == nil {
			err = atomicfile.SyncDir(dir)
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot create WAL: %w", err), f.Close(), os.Remove(path))
	}
	return w, nil
}

// Path is where the file is, Salt what its checksums are made with, Size how much of it is durable.
func (w *Writer) Path() string { return w.path }

// Salt goes into AppendFrame.
func (w *Writer) Salt() uint64 { return w.salt }

// Size is the durable length in bytes.
func (w *Writer) Size() int64 { return w.off }

// Broken reports that a write failed in a way that cannot be undone: no more may be written to this file.
func (w *Writer) Broken() bool { return w.bad }

// Write appends frames and syncs. nil: they are durable. On an error none of them is: the file is cut back to what was
// durable before. A failed sync breaks the file for good, as the kernel may have dropped the pages that it could not write.
func (w *Writer) Write(frames []byte) error {
	_, err := w.f.WriteAt(frames, w.off)
	if err == nil {
		if err = w.f.Sync(); err == nil {
			w.off += int64(len(frames))
			return nil
		}
		w.bad = true
	}
	err = fmt.Errorf("cannot write WAL: %w", err)
	if cut := w.f.Truncate(w.off); cut != nil {
		w.bad = true
		err = errors.Join(err, cut)
	}
	return err
}

// Close closes the file; everything in it is durable already.
func (w *Writer) Close() error { return w.f.Close() }
