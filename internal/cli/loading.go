package cli

import "runtime/debug"

const (
	loadingPercent = 400
	loadingBytes   = 160 << 20
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
