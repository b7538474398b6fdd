package journal

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/klauspost/compress/zstd"

	"whodunit/internal/audit"
)

// corpus are the lines of the recorded API server.
func corpus(b *testing.B) [][]byte {
	root := os.Getenv("WHODUNIT_SHARED")
	if root == "" {
		root = "../../../shared"
	}
	f, err := os.Open(filepath.Join(root, "data/audit/apiserver-1.36.log.zst"))
	if err != nil {
		b.Skipf("SKIPPED: no recorded events: %v", err)
	}
	defer f.Close()
	z, err := zstd.NewReader(f)
	if err != nil {
		b.Fatal(err)
	}
	defer z.Close()
	s := bufio.NewScanner(z)
	s.Buffer(nil, audit.MaxEventBytes)
	var lines [][]byte
	for s.Scan() {
		lines = append(lines, bytes.Clone(s.Bytes()))
	}
	return lines
}

// BenchmarkAppendAndSeal takes the corpus in, in batches of 400 as the webhook does, and seals it: one operation is one event.
func BenchmarkAppendAndSeal(b *testing.B) {
	lines := corpus(b)
	var size int64
	for _, l := range lines {
		size += int64(len(l))
	}
	o := DefaultOptions()
	o.MinFree = 1
	j, err := Open(b.TempDir(), o)
	if err != nil {
		b.Fatal(err)
	}
	defer j.Close()
	b.SetBytes(size / int64(len(lines)))
	b.ReportAllocs()
	ctx := context.Background()
	n := 0
	var batch audit.Batch
	flush := func() {
		if err := j.Append(ctx, batch); err != nil {
			b.Fatal(err)
		}
		batch = audit.Batch{Origin: audit.Origin{Source: "bench"}}
	}
	for b.Loop() {
		raw := bytes.Clone(lines[n%len(lines)])
		if i := bytes.Index(raw, []byte(`"auditID":"`)); i > 0 {
			copy(raw[i+11:], fmt.Sprintf("%08x", n))
		}
		n++
		e, err := audit.Parse("c", raw)
		if err != nil {
			b.Fatal(err)
		}
		if batch.Events = append(batch.Events, e); len(batch.Events) == 400 {
			flush()
		}
	}
	flush()
	if err := j.Seal(ctx); err != nil {
		b.Fatal(err)
	}
}
