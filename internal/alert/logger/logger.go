// Package logger writes findings to the program's log.
package logger

import (
	"context"
	"log/slog"

	"whodunit/internal/alert"
	"whodunit/internal/finding"
)

// Log writes one line a finding: at level warn for severities high and critical, at info for the others. The handler escapes
// what is hostile in the message, as slog's text and JSON handlers do.
type Log struct{ logger *slog.Logger }

// New makes a notifier that writes to logger.
func New(logger *slog.Logger) *Log { return &Log{logger.With("component", "finding")} }

// Notify implements alert.Notifier. It never fails.
func (l *Log) Notify(ctx context.Context, findings []alert.Finding) error {
	for i := range findings {
		f := &findings[i]
		level := slog.LevelInfo
		if f.Severity.Rank() >= finding.High.Rank() {
			level = slog.LevelWarn
		}
		//nolint:sloglint // the finding's message is what the line is there for
		l.logger.LogAttrs(ctx, level, f.Message, slog.String("rule", f.Rule), slog.String("severity", string(f.Severity)),
			slog.String("cluster", f.Cluster), slog.String("user", f.User), slog.String("audit_id", f.AuditID),
			slog.Time("event_time", f.Time), slog.String("finding", f.ID))
	}
	return nil
}
