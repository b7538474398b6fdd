package lines

import (
	"context"
	"testing"

	"whodunit/internal/audit"
	"whodunit/internal/envelope"
)

// A short line that unpacks to much fills a batch, so that many of them do not fill the memory.
func TestUnpackedFillsBatch(t *testing.T) {
	skipped := 0
	b := Batch{Decode: func(string, []byte) (envelope.Result, error) {
		return envelope.Result{Events: []audit.Event{{Raw: make([]byte, audit.MaxBatchBytes)}}, Skipped: map[string]int{"x": 2}}, nil
	}, Skipped: func(_ string, n int) { skipped += n }}
	l := Line{Bytes: []byte("short")}
	if b.Add(l); b.Fits(l) || b.Bytes() != len(l.Bytes) {
		t.Errorf("%d bytes; another line is taken", b.Bytes())
	}
	if err := b.Deliver(t.Context(), func(context.Context, audit.Batch) error { return nil }, Backoff{}); err != nil || !b.Fits(l) || skipped != 2 {
		t.Errorf("%v, %d skipped", err, skipped)
	}
}
