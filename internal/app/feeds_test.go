package app

import (
	"context"
	"testing"
	"time"

	"whodunit/internal/alert"
	"whodunit/internal/audit"
)

type counting int

func (c *counting) Notify(_ context.Context, findings []alert.Finding) error {
	*c += counting(len(findings))
	return nil
}

// TestFilterByAge: what is told to people is of late. An event that does not say when it was is one of now, as it is for alerts.
func TestFilterByAge(t *testing.T) {
	for name, c := range map[string]struct {
		micros int64
		want   counting
	}{"now": {time.Now().UnixMicro(), 1}, "old": {time.Now().Add(-2 * time.Hour).UnixMicro(), 0}, "without a time": {0, 1}, "1970": {1, 0}} {
		t.Run(name, func(t *testing.T) {
			var got counting
			f := filter{Notifier: &got, maxAge: time.Hour, held: func(string) {}}
			x := alert.Read(&audit.Record{Event: audit.Event{StageMicros: c.micros, Raw: []byte("{}")}})
			if err := f.Notify(t.Context(), []alert.Finding{x}); err != nil || got != c.want {
				t.Errorf("%d are told, want %d; %v", got, c.want, err)
			}
		})
	}
}
