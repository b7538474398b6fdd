package segment

import (
	"context"
	"errors"

	"whodunit/internal/audit"
)

// File is an open segment.
type File struct {
	path string
	meta Meta
}

// Open opens a segment.
func Open(path string) (*File, error) { return nil, errors.ErrUnsupported }

// Meta describes the file.
func (f *File) Meta() Meta { return f.meta }

// Path is where it was opened.
func (f *File) Path() string { return f.path }

// Close closes it.
func (f *File) Close() error { return nil }

// Scan hands out records.
func (f *File) Scan(ctx context.Context, from uint64, yield func([]audit.Record) error) (damaged int64, err error) {
	return 0, errors.ErrUnsupported
}

// Verify reads everything.
func (f *File) Verify(ctx context.Context) (Report, error) { return Report{}, errors.ErrUnsupported }
