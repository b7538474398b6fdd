package act

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// The log knows after every restart what it knew before, wherever the last line was torn.
func TestLog(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("", "log-") //nolint:usetesting // rapid has no folders
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		now := time.Unix(1_800_000_000, 0)
		open := func() *logFile {
			l, err := openLog(dir, time.Hour, func() time.Time { return now }, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			return l
		}
		l := open()
		defer func() { l.close() }()
		want := map[logKey]entry{}
		for range rapid.IntRange(0, 30).Draw(t, "steps") {
			key := logKey{fmt.Sprint(rapid.IntRange(0, 5).Draw(t, "event")), rapid.SampledFrom([]string{"a", "b"}).Draw(t, "action")}
			switch rapid.SampledFrom([]string{"intent", "outcome", "torn", "restart"}).Draw(t, "step") {
			case "intent":
				if l.get(key.event, key.action) != nil {
					continue
				}
				e := entry{Version: logVersion, Micros: now.UnixMicro(), Event: key.event, Action: key.action, Tried: true}
				want[key] = e
				if err := l.save(&e, true); err != nil {
					t.Fatal(err)
				}
			case "outcome":
				e := l.get(key.event, key.action)
				if e == nil {
					e = &entry{Micros: now.UnixMicro(), Event: key.event, Action: key.action}
				}
				e.Outcome, e.Message = done, rapid.String().Draw(t, "message")
				e.Message = clean(e.Message, 100)
				if err := l.save(e, true); err != nil {
					t.Fatal(err)
				}
				want[key] = *l.get(key.event, key.action)
			case "torn":
				l.close()
				f, err := os.OpenFile(l.path, os.O_APPEND|os.O_WRONLY, 0)
				if err != nil {
					t.Fatal(err)
				}
				_, _ = f.WriteString(rapid.SampledFrom([]string{"{", `{"t":1,"event":"1","act`, "\x00"}).Draw(t, "rest"))
				_ = f.Close()
				l = open()
			case "restart":
				l.close()
				l = open()
			}
			if len(l.entries) != len(want) || len(l.order) != len(want) {
				t.Fatalf("%d entries, %d in order, %d wanted", len(l.entries), len(l.order), len(want))
			}
			skips := 0
			for k, e := range want {
				if got := l.get(k.event, k.action); got == nil || *got != e {
					t.Fatalf("%v: %+v, wanted %+v", k, got, e)
				}
				if !e.Tried {
					skips++
				}
			}
			if l.skips != skips {
				t.Fatalf("%d skips, wanted %d", l.skips, skips)
			}
		}
	})
}

// However many findings are held back, the log stays small, and attempts are not forgotten over them; but for those that are old.
func TestLogBounded(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	dir := t.TempDir()
	l, err := openLog(dir, time.Hour, func() time.Time { return now }, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	tried := &entry{Micros: now.UnixMicro(), Event: "tried", Action: "a", Tried: true, Outcome: done}
	if err := l.save(tried, true); err != nil {
		t.Fatal(err)
	}
	for i := range 5 * maxSkips {
		if err := l.save(&entry{Micros: now.UnixMicro(), Event: fmt.Sprint(i), Action: "a", Outcome: refused, Message: "a message of some length, as they are"}, false); err != nil {
			t.Fatal(err)
		}
		if len(l.entries) > 2*maxSkips+2 {
			t.Fatalf("%d entries", len(l.entries))
		}
	}
	if info, err := os.Stat(filepath.Join(dir, "actions.jsonl")); err != nil || info.Size() > 10<<20 {
		t.Errorf("%d bytes, %v", info.Size(), err)
	}
	if l.get("tried", "a") == nil || l.get(fmt.Sprint(5*maxSkips-1), "a") == nil || l.get("0", "a") != nil {
		t.Error("not the oldest of those that were held back are forgotten")
	}
	now = now.Add(minKeep + time.Second)
	if err := l.compact(); err != nil || len(l.entries) != 0 || len(l.byEvent) != 0 || l.skips != 0 {
		t.Errorf("%v: %d entries are left", err, len(l.entries))
	}
}
