package manager

import (
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"whodunit/internal/alert"
)

// TestManyLines: a thousand groups that have no place do not make a thousand lines.
func TestManyLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		logger, text := debugLog()
		m := start(t, Options{MaxGroups: 1, Logger: logger, ConfigFile: yml(t, "route: {receiver: r, group_by: [user]}\nreceivers: [{name: r}]\n")})
		many := make([]alert.Alert, 1001)
		for i := range many {
			many[i] = firing("alertname", "A", "user", strconv.Itoa(i))
		}
		put(t, m, many...)
		synctest.Wait()
		const line = "Failed to create aggregation group"
		lines := strings.Count(text.String(), line)
		if left := testutil.ToFloat64(m.metrics.spared); lines != mostLines || left != 1000-mostLines {
			t.Errorf("%d lines, %v left out", lines, left)
		}
		<-time.After(linesPer)
		put(t, m, firing("alertname", "B", "user", "b"))
		synctest.Wait()
		if want := "left_out=" + strconv.Itoa(1000-mostLines); strings.Count(text.String(), line) != mostLines+1 || strings.Count(text.String(), want) != 1 {
			t.Errorf("a minute later %q is wanted once:\n%.500s", want, text.String()[strings.LastIndex(text.String(), line):])
		}
		stop(t, m)
	})
}
