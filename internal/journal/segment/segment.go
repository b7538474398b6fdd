// Package segment reads and writes the journal's immutable Parquet files. docs/reference/segment.md specifies them.
//
// The file is ordinary Parquet for everybody else. This package does not read it through its Parquet footer but through an
// index of its own, of which the file holds two copies, one at each end: it knows a checksum of every page, so damage costs the
// page that it hits, and no single place is needed to read the rest.
package segment

import (
	"errors"
	"fmt"
	"os"

	"whodunit/internal/atomicfile"
)

// Version is the version of the file form that this package writes.
const Version = 1

// ErrCorrupt is wrapped by every error that says that bytes on disk are not what was written. It is permanent.
var ErrCorrupt = errors.New("corrupt segment")

// Meta describes one file. It goes into the journal's manifest.
type Meta struct {
	MaxIngested int64  `json:"maxIngested"` // newest audit.Record.IngestedMicros
	MinSeq      uint64 `json:"minSeq"`      // first sequence number that the file stands for
	MaxSeq      uint64 `json:"maxSeq"`      // last one, inclusive
	MinMicros   int64  `json:"minMicros"`   // oldest event time, microseconds since 1970 UTC; 0 where no event has one
	MaxMicros   int64  `json:"maxMicros"`   // newest event time
	Untimed     int64  `json:"untimed"`     // events that have no time; they count as time 0 and are outside Min and Max
	Rows        int64  `json:"rows"`        // events in the file; fewer than the range where some were duplicates or lost
	RawBytes    int64  `json:"rawBytes"`    // sum of the events' sizes
	FileBytes   int64  `json:"fileBytes"`   // size of the file
	Version     int    `json:"version"`
}

// Report is what Verify found.
type Report struct {
	Meta         Meta     `json:"meta"`
	Rows         int64    `json:"rows"`         // rows that can be read
	DamagedRows  int64    `json:"damagedRows"`  // rows that cannot
	Pages        int64    `json:"pages"`        // pages read
	DamagedPages int64    `json:"damagedPages"` // pages whose checksum or content is wrong; of a column that is not raw they cost no row
	Problems     []string `json:"problems"`     // in words, the first 100
}

// OK reports whether nothing is wrong.
func (r *Report) OK() bool { return len(r.Problems) == 0 && r.DamagedRows == 0 && r.DamagedPages == 0 }

func (r *Report) problem(format string, args ...any) {
	if len(r.Problems) < 100 {
		r.Problems = append(r.Problems, fmt.Sprintf(format, args...))
	}
}

// atomically replaces the segment at path.
func atomically(path string, write func(*os.File) error) error {
	if err := atomicfile.WriteFunc(path, 0o600, write); err != nil {
		return fmt.Errorf("cannot write segment %s: %w", path, err)
	}
	return nil
}
