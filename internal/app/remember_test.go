package app

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"whodunit/internal/audit"
	"whodunit/internal/detect"
	"whodunit/internal/journal"
	"whodunit/internal/match"
	"whodunit/internal/rule"
)

// TestRemembering: a rule about what comes for the first time in a month knows after a restart what came weeks ago, though the journal
// is read again from yesterday on.
func TestRemembering(t *testing.T) {
	j, err := journal.Open(t.TempDir(), journal.DefaultOptions())
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	now := time.Now()
	add := func(id, verb, user string, ago time.Duration) {
		t.Helper()
		ev, err := audit.Parse("c", fmt.Appendf(nil, `{"auditID":%q,"stage":"ResponseComplete","verb":%q,"user":{"username":%q},"stageTimestamp":%q}`,
			id, verb, user, now.Add(-ago).UTC().Format(time.RFC3339Nano)))
		if err != nil {
			t.Fatal(err)
		}
		if err := j.Append(t.Context(), audit.Batch{Events: []audit.Event{ev}}); err != nil {
			t.Fatal(err)
		}
	}
	const days = 24 * time.Hour
	add("1", "create", "forgotten", 40*days)
	add("2", "create", "old", 20*days)
	add("3", "get", "other", 19*days)
	add("4", "create", "old", 10*days)
	if err := j.Seal(t.Context()); err != nil {
		t.Fatal(err)
	}
	add("5", "get", "yesterday", 1*days)
	add("6", "create", "old", 2*time.Hour)
	add("7", "create", "new", time.Hour)
	add("8", "create", "forgotten", time.Minute)

	base := &rule.Rule{ID: "base", Silent: true, Expr: &match.Pred{Path: "verb", Op: match.Equal, Values: []string{"create"}}}
	first := &rule.Rule{ID: "first", Correlation: &rule.Correlation{Type: rule.FirstSeen, Of: []string{"base"}, Timespan: 30 * days, Baseline: 7 * days,
		GroupBy: []rule.Key{{Name: "user", Path: "user.username"}}}}
	var current rule.Current
	set, _ := rule.NewSet([]*rule.Rule{base, first})
	current.Store(set)
	p, problems := detect.Compile(set, detect.ProgramOptions{})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	const start, from = 5, 6
	a := &App{events: j, log: slog.New(slog.DiscardHandler)}
	journalReader := j.Reader(start)
	defer journalReader.Close()
	r := a.remembering(journalReader, p, start)
	var read, found []string
	d, err := detect.New(detect.Options{Reader: readerFunc(func(ctx context.Context) ([]audit.Record, error) {
		if len(read) == 6 {
			return nil, io.EOF
		}
		recs, err := r.Next(ctx)
		for i := range recs {
			read = append(read, recs[i].Event.AuditID)
		}
		return recs, err
	}), Rules: &current, From: from, Judge: detect.JudgeOptions{Lateness: time.Millisecond}, Emit: func(_ context.Context, b audit.Batch) error {
		for i := range b.Events {
			found = append(found, b.Events[i].AuditID)
		}
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"2", "4", "5", "6", "7", "8"}, read); diff != "" {
		t.Errorf("read: %s", diff)
	}
	if diff := cmp.Diff([]string{"7", "8"}, found); diff != "" {
		t.Errorf("found: %s", diff)
	}
}

type readerFunc func(ctx context.Context) ([]audit.Record, error)

func (f readerFunc) Next(ctx context.Context) ([]audit.Record, error) { return f(ctx) }
