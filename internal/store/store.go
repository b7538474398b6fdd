// Package store is the contract of everything that can be searched: the journal's segments, plain files, a server over
// HTTP. Package storetest holds every implementation to it.
package store

import (
	"context"

	"whodunit/internal/audit"
	"whodunit/internal/match"
)

// Query selects events. Times are event times (audit.Event.Micros) in microseconds since 1970 UTC; zero leaves that side open.
type Query struct {
	Expr   match.Expr // nil: everything
	From   int64      // inclusive
	To     int64      // exclusive
	Before Position   // only what comes after this place in the results, for paging; zero: from the start
	Limit  int        // at most so many results; 0: all
}

// Position is a result's place in the order of results: newest event time first, and for equal times the highest sequence
// number first.
type Position struct {
	Micros int64
	Seq    uint64
}

// Bucket is one value, or the start of one interval, with the number of events in it.
type Bucket struct {
	Value string `json:"value"`
	Count int64  `json:"count"`
}

// Stats says what an answer rests on. Damaged and Unreadable above zero mean that the answer may lack events.
type Stats struct {
	Matched    int64 `json:"matched"`    // events that matched; for Search, those handed out
	Rows       int64 `json:"rows"`       // events looked at in any form
	Segments   int   `json:"segments"`   // segments looked into
	Pruned     int   `json:"pruned"`     // segments passed over by time, column statistics or bloom filter
	Damaged    int64 `json:"damaged"`    // events lost to damaged pages
	Unreadable int   `json:"unreadable"` // segments or files that could not be read at all
}

// Searcher answers questions. All methods are safe for concurrent use, stop early with ctx's error when ctx is done, and
// count and show each event once even if it is stored twice.
type Searcher interface {
	// Search hands the matching records to yield, in the order of Position, as soon as their order is certain. A record and
	// its bytes may be kept. An error of yield ends the search and is returned as it is.
	Search(ctx context.Context, q Query, yield func(*audit.Record) error) (Stats, error)
	// Top counts the matching events by each of the fields' values (a full path as in match.Values; a list counts each
	// of its distinct values, a missing value counts as ""; several fields are joined by a tab) and returns the n largest counts,
	// ties by value. n 0: all. Before and Limit are not used. At most 1 million distinct values are held: beyond that it fails
	// with a message that says so.
	Top(ctx context.Context, q Query, fields []string, n int) ([]Bucket, Stats, error)
	// Histogram counts the matching events in intervals of width microseconds aligned to 1970 UTC, oldest first, without
	// empty ones. Value is the interval's start in microseconds as a decimal number. Before and Limit are not used.
	Histogram(ctx context.Context, q Query, width int64) ([]Bucket, Stats, error)
}
