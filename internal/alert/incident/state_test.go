package incident

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestStateV1: what a server of the first version wrote is read for ever.
func TestStateV1(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("testdata", "alerts-v1.json"))
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "alerts.json")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	tr, _ := tracker(t, newClock(), Options{StateFile: file})
	all := tr.Active()
	if tr.Next() != 12 || len(all) != 1 || all[0].Count != 3 || all[0].Labels["user"] != "alice" || all[0].Annotations["summary"] != "alice read db" ||
		!all[0].EndsAt.Equal(time.Date(2026, 11, 21, 13, 4, 0, 0, time.UTC)) || len(tr.over) != 1 {
		t.Errorf("next %d, %+v, %d over", tr.Next(), all, len(tr.over))
	}
}

// FuzzState: whatever is in the file, the server starts and can write it again.
func FuzzState(f *testing.F) {
	for _, s := range []string{"", "{}", `{"version":1,"next":3,"alerts":[{"labels":{"alertname":"a"},"startsAt":"2026-11-21T12:00:00Z"},{"labels":{"alertname":"a","overflow":"true"},"startsAt":"2026-11-21T12:00:00Z","over":true}]}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		file := filepath.Join(t.TempDir(), "alerts.json")
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
		tr, err := New(Options{Taker: &taker{}, StateFile: file, Now: newClock().Now})
		if err != nil {
			t.Fatal(err)
		}
		tr.Active()
		if err := tr.Close(); err != nil {
			t.Error(err)
		}
	})
}
