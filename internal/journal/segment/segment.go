// Package segment reads and writes the journal's immutable Parquet files. docs/reference/segment.md specifies them.
package segment
