package cli

import (
	"runtime"
	"runtime/debug"
)

const (
	loadingPercent = 400
	loadingBytes   = 160 << 20

	roomBytes = 32 << 20
)

// loading lets the collector rest while rules are read and made ready, which makes much that is thrown away at once, up to a size of the
// process that 20,000 rules stay below. done sets things back. Who has set GOGC or GOMEMLIMIT is not overruled.
func (c *cmdline) loading() (done func()) {
	if c.Getenv("GOGC") != "" || c.Getenv("GOMEMLIMIT") != "" {
		return func() {}
	}
	percent, limit := debug.SetGCPercent(loadingPercent), debug.SetMemoryLimit(loadingBytes)
	return func() {
		debug.SetGCPercent(percent)
		debug.SetMemoryLimit(limit)
	}
}

// roomy spares a short run the collections of a heap of a few megabytes, which come one after the other: the heap counts as larger than it
// is, by memory that is never touched and so takes none. A large heap is collected as ever. done gives the room back.
func (c *cmdline) roomy() (done func()) {
	if c.Getenv("GOGC") != "" || c.Getenv("GOMEMLIMIT") != "" {
		return func() {}
	}
	room := make([]byte, roomBytes)
	return func() { runtime.KeepAlive(room) }
}
