package target

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestStateV1: what a server of the first version wrote is read for ever.
func TestStateV1(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("testdata", "targets-v1.json"))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "targets.json")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	n := create(t, Options{Rule: newRules(composite("r", every(time.Minute, 5))).get, StateFile: path, Now: func() time.Time { return epoch }})
	got := n.s.runs[key{"r", "prod", 0}]
	if next, _ := n.Next(); next != 41 || len(n.s.runs) != 2 || got == nil || got.Sent != 2 || !got.Due.Equal(epoch.Add(time.Minute)) {
		t.Errorf("next %d, %+v", next, n.s.runs)
	}
}

// FuzzState: whatever is in the file, the server starts.
func FuzzState(f *testing.F) {
	for _, s := range []string{"", "{}", `{"version":1,"next":3,"runs":[null,{"rule":"r","target":-1}]}`, `{"version":1,"runs":[{"rule":"r","target":0,"again":true,"due":"2026-11-21T12:00:00Z"}]}`} {
		f.Add([]byte(s))
	}
	rules := newRules(composite("r", every(time.Minute, 5)))
	f.Fuzz(func(t *testing.T, b []byte) {
		path := filepath.Join(t.TempDir(), "targets.json")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		n, err := New(Options{Rule: rules.get, StateFile: path, Now: func() time.Time { return epoch }})
		if err != nil {
			t.Fatal(err)
		}
		n.pass()
		if _, err := n.snapshot(); err != nil {
			t.Error(err)
		}
	})
}
