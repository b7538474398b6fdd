package query

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Range is a span of event time in microseconds since 1970 UTC: From inclusive, To exclusive, 0 where that side is open.
type Range struct{ From, To int64 }

// ParseRange reads the two ends of a range as a person types them, see ParseTime; an empty one leaves its side open. A range
// that cannot hold anything is an error.
func ParseRange(since, until string, now time.Time) (Range, error) {
	var r Range
	for _, end := range []struct {
		name, text string
		to         *int64
	}{{"since", since, &r.From}, {"until", until, &r.To}} {
		if strings.TrimSpace(end.text) == "" {
			continue
		}
		t, err := ParseTime(end.text, now)
		if err != nil {
			return Range{}, fmt.Errorf("cannot read --%s: %w", end.name, err)
		}
		*end.to = t.UnixMicro()
	}
	if r.From != 0 && r.To != 0 && r.From >= r.To {
		return Range{}, fmt.Errorf("the time range is empty: --since %s is %s, not before --until %s, which is %s",
			printable(since), stamp(r.From), printable(until), stamp(r.To))
	}
	return r, nil
}

func stamp(micros int64) string { return time.UnixMicro(micros).UTC().Format(time.RFC3339) }

// ParseTime reads a moment: an age such as 90s, 24h, 7d, 2w or 1h30m (that long before now), now, now-1h, now+1h, today,
// yesterday, a date 2026-11-21 (its midnight), 2026-11-21T10:00 with or without seconds, or RFC 3339. What names no zone is
// UTC, as the times of events are; a day is 24 hours.
func ParseTime(s string, now time.Time) (time.Time, error) {
	s = strings.TrimSpace(s)
	now = now.UTC()
	midnight := now.Truncate(24 * time.Hour)
	switch {
	case s == "now":
		return now, nil
	case s == "today":
		return midnight, nil
	case s == "yesterday":
		return midnight.Add(-24 * time.Hour), nil
	case strings.HasPrefix(s, "now-"), strings.HasPrefix(s, "now+"):
		d, err := parseAge(s[4:])
		if err != nil {
			return time.Time{}, err
		}
		if s[3] == '-' {
			d = -d
		}
		return inRange(now.Add(d))
	}
	for _, layout := range []string{time.RFC3339Nano, time.DateOnly, "2006-01-02T15:04:05.999999", "2006-01-02T15:04", time.DateTime, "2006-01-02 15:04"} {
		if t, err := time.Parse(layout, s); err == nil {
			return inRange(t.UTC())
		}
	}
	d, err := parseAge(s)
	if err != nil {
		return time.Time{}, err
	}
	return inRange(now.Add(-d))
}

// inRange keeps times apart from the 0 that means an open side.
func inRange(t time.Time) (time.Time, error) {
	if t.UnixMicro() <= 0 || t.Year() > 9999 {
		return time.Time{}, fmt.Errorf("%s is outside the years 1970 to 9999", t.Format(time.RFC3339))
	}
	return t, nil
}

// parseAge reads durations such as 24h, 7d, 2w or 1d12h.
func parseAge(s string) (time.Duration, error) {
	bad := fmt.Errorf("%q is no time: expected an age such as 24h, 7d or 2w, a date such as 2026-11-21, RFC 3339, or now-1h", s)
	var sum time.Duration
	for rest := s; ; {
		n := 0
		for n < len(rest) && rest[n]-'0' <= 9 {
			n++
		}
		count, err := strconv.ParseInt(rest[:n], 10, 64)
		if err != nil || n == len(rest) {
			return 0, bad
		}
		unit, ok := map[byte]time.Duration{
			's': time.Second, 'm': time.Minute, 'h': time.Hour, 'd': 24 * time.Hour, 'w': 7 * 24 * time.Hour,
		}[rest[n]]
		if !ok {
			return 0, bad
		}
		const most = 100 * 366 * 24 * time.Hour
		if count > int64(most/unit) || sum+time.Duration(count)*unit > most {
			return 0, fmt.Errorf("%q is longer than a century", s)
		}
		sum += time.Duration(count) * unit
		if rest = rest[n+1:]; rest == "" {
			return sum, nil
		}
	}
}
