package act

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestLogV1: what a server of the first version wrote is read for ever.
func TestLogV1(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("testdata", "actions-v1.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "actions.jsonl"), b, 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := openLog(dir, time.Hour, func() time.Time { return time.UnixMicro(1795265800000000) }, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	if e := l.get("00112233445566778899aabbccddeeff", "quarantine"); e == nil || e.Outcome != done || e.Rule != "privileged-pod" {
		t.Errorf("an attempt that was done: %+v", e)
	}
	if e := l.get("ffeeddccbbaa99887766554433221100", "cordon"); e == nil || e.Outcome != "" || !e.Tried {
		t.Errorf("an attempt without an outcome: %+v", e)
	}
}

// FuzzLog: whatever is in the file, it is read, and what was read is still there after it was rewritten.
func FuzzLog(f *testing.F) {
	for _, s := range []string{"", "\n", "{}\n{", `{"v":1,"t":1,"event":"a","action":"b"}` + "\n", `{"v":2,"t":1,"event":"a","action":"b"}` + "\n", `{"v":1,"t":-9223372036854775808,"event":"a","action":"b","tried":true}` + "\nx"} {
		f.Add([]byte(s))
	}
	now := func() time.Time { return time.Unix(0, 0) }
	f.Fuzz(func(t *testing.T, b []byte) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "actions.jsonl"), b, 0o600); err != nil {
			t.Fatal(err)
		}
		var sizes []int
		for range 2 {
			l, err := openLog(dir, time.Hour, now, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			sizes = append(sizes, len(l.entries))
			l.close()
		}
		if sizes[0] != sizes[1] {
			t.Errorf("%d entries, then %d", sizes[0], sizes[1])
		}
	})
}
