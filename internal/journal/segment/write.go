package segment

import (
	"errors"

	"whodunit/internal/audit"
)

// Write makes the file.
func Write(path string, records []audit.Record, minSeq, maxSeq uint64) (Meta, error) {
	return Meta{}, errors.ErrUnsupported
}

// Merge combines files.
func Merge(path string, sources []string) (Meta, error) { return Meta{}, errors.ErrUnsupported }

// Salvage rewrites what can be read.
func Salvage(dst, src string) (Meta, int64, error) { return Meta{}, 0, errors.ErrUnsupported }
