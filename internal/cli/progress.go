package cli

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
)

// bar is a progress bar on a terminal, nothing elsewhere.
type bar struct {
	mu          sync.Mutex
	w           io.Writer
	total, read int64
	shown       time.Time
	now         func() time.Time
	on, drawn   bool
}

// progress makes a bar for reading files.
func (c *cmdline) progress(paths []string) *bar {
	b := &bar{w: c.Err, now: c.Now}
	_, b.on = terminal(c.Err)
	for _, p := range paths {
		if st, err := os.Stat(p); err == nil {
			b.total += st.Size()
		}
	}
	b.shown = c.Now() // nothing for what is quick
	return b
}

func (b *bar) add(_ string, n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.read += n
	if b.read >= b.total { // what is read is answered next, on the same terminal
		b.wipe()
		return
	}
	if now := b.now(); b.on && b.total > 0 && now.Sub(b.shown) > 200*time.Millisecond {
		b.shown, b.drawn = now, true
		done := min(int(b.read*30/b.total), 30)
		fmt.Fprintf(b.w, "\r[%s%s] %3d%% of %d MB", strings.Repeat("#", done), strings.Repeat(".", 30-done), min(b.read*100/b.total, 100), (b.total+1<<20-1)>>20)
	}
}

func (b *bar) done() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.wipe()
}

// clear makes room for a line on the same terminal.
func (b *bar) clear() {
	if b.on {
		b.done()
	}
}

// wipe takes the bar off the terminal.
func (b *bar) wipe() {
	if b.drawn {
		b.drawn = false
		fmt.Fprint(b.w, "\r\x1b[K")
	}
}
