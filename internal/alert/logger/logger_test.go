package logger

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"whodunit/internal/alert"
	"whodunit/internal/alert/alerttest"
	"whodunit/internal/finding"
)

func TestLog(t *testing.T) {
	var b bytes.Buffer
	l := New(slog.New(slog.NewTextHandler(&b, nil)))
	low := alerttest.Finding(t, "x")
	low.Severity = finding.Low
	if err := l.Notify(t.Context(), []alert.Finding{alerttest.Finding(t, alerttest.Hostile), low}); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(b.String()), "\n")
	if len(lines) != 2 || strings.ContainsAny(b.String(), "\x1b\x00\r") {
		t.Fatalf("one escaped line a finding is wanted:\n%q", b.String())
	}
	if !strings.Contains(lines[0], "level=WARN") || !strings.Contains(lines[1], "level=INFO") ||
		!strings.Contains(lines[1], "rule=r severity=low cluster=prodx user=x audit_id=a-1") {
		t.Error(b.String())
	}
}
