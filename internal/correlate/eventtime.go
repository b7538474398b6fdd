package correlate

import (
	"strconv"
	"strings"
	"time"

	"whodunit/internal/audit"
	"whodunit/internal/match"
)

// timePaths is where logs of other systems have their time, the first that is there and can be read counts: Elastic's and common names, then
// Sysmon's and Windows' as evtx_dump, winlogbeat and others write them, CloudTrail's, Entra's and Okta's.
var timePaths = [...]string{
	"@timestamp", "timestamp", "time", "Timestamp", "ts", "_time", "datetime", "date",
	"stageTimestamp", "requestReceivedTimestamp", "UtcTime", "TimeCreated", "SystemTime", "EventTime", "eventTime", "TimeGenerated", "createdDateTime", "published",
	"Event.System.TimeCreated.#attributes.SystemTime", "Event.System.TimeCreated_attributes.SystemTime", "Event.System.TimeCreated.@SystemTime",
	"Event.System.TimeCreated.SystemTime", "System.TimeCreated.SystemTime", "event.created",
}

var timeLayouts = [...]string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05.999999999", "2006-01-02 15:04:05.999999999Z07:00", "2006-01-02T15:04:05.999999999Z0700"}

// Micros is an event's time in microseconds since 1970 UTC, 0 where it has none. A text without a zone counts as UTC, a number as
// seconds, milli-, micro- or nanoseconds since 1970, by its size.
func Micros(ev *audit.Event) int64 {
	if ev.Flags&audit.FlagGeneric == 0 {
		return ev.Micros()
	}
	for _, p := range timePaths {
		for v := range match.Values(ev, p) {
			if at, ok := parseTime(v); ok {
				return at
			}
			break
		}
	}
	return 0
}

func parseTime(s string) (int64, bool) {
	if len(s) < 8 || len(s) > 40 {
		return 0, false
	}
	if strings.Trim(s, "0123456789.eE+") == "" {
		f, err := strconv.ParseFloat(s, 64)
		if err != nil || f <= 0 {
			return 0, false
		}
		for _, unit := range []float64{1e6, 1e3, 1, 1e-3} { // seconds up to the year 5138, and so on
			if f < 1e11*1e6/unit {
				return int64(f * unit), true
			}
		}
		return 0, false
	}
	for _, l := range timeLayouts {
		if t, err := time.Parse(l, s); err == nil {
			return t.UnixMicro(), true
		}
	}
	return 0, false
}
