package journal

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// niceness of the maintainer's thread, of 19.
const niceness = 10

// yieldThread gives the calling goroutine a thread of its own for good, with low priority: sealing takes a second of processor time in
// one go, and on a machine with few cores the goroutines that acknowledge must not wait for it. Where the kernel does not want
// that, sealing merely competes.
func yieldThread() {
	runtime.LockOSThread()
	_ = unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), niceness)
}
