package journal

import (
	"bytes"
	"log/slog"
	"math"
	"strings"
	"testing"
)

// A full disk is said once, not with every batch that is refused while it stays full.
func TestFullIsSaidOnce(t *testing.T) {
	var log bytes.Buffer
	j, err := Open(t.TempDir(), Options{Log: slog.New(slog.NewTextHandler(&log, nil)), MinFree: math.MaxInt64})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = j.Close() }()
	for range 3 {
		if j.refusal() == "" {
			t.Fatal("the disk is not full")
		}
		j.mu.Lock()
		j.fullReason += " and another figure"
		j.mu.Unlock()
	}
	if n := strings.Count(log.String(), "no events are taken"); n != 1 {
		t.Errorf("said %d times", n)
	}
}
