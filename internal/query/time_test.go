package query

import (
	"testing"
	"time"
)

func TestParseTime(t *testing.T) {
	now := time.Date(2026, 11, 21, 10, 30, 0, 0, time.FixedZone("", 3600)) // 09:30 UTC
	for s, want := range map[string]string{
		"24h": "2026-11-20T09:30:00Z", "7d": "2026-11-14T09:30:00Z", "2w": "2026-11-07T09:30:00Z", "1d12h": "2026-11-19T21:30:00Z",
		"90s": "2026-11-21T09:28:30Z", "now": "2026-11-21T09:30:00Z", "now-1h": "2026-11-21T08:30:00Z", "now+1h30m": "2026-11-21T11:00:00Z",
		"today": "2026-11-21T00:00:00Z", "yesterday": "2026-11-20T00:00:00Z", "2026-11-21": "2026-11-21T00:00:00Z",
		"2026-11-21T08:00": "2026-11-21T08:00:00Z", "2026-11-21 08:00:05": "2026-11-21T08:00:05Z", " 2026-11-21T08:00:00+02:00 ": "2026-11-21T06:00:00Z",
		"": "", "h": "", "1": "", "1y": "", "-1h": "", "now-": "", "now-x": "", "99999999999999999999h": "", "200000000000w": "", "1969-01-01": "",
		"2026-13-01": "", "99w99999999w": "", "9999999d": "",
	} {
		got, err := ParseTime(s, now)
		switch {
		case want == "" && err == nil:
			t.Errorf("%q: got %v, want an error", s, got)
		case want != "" && (err != nil || got.Format(time.RFC3339) != want):
			t.Errorf("%q: got %v %v, want %s", s, got, err, want)
		}
	}
}

func TestParseRange(t *testing.T) {
	now := time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)
	r, err := ParseRange("2h", "now-1h", now)
	if want := (Range{now.Add(-2 * time.Hour).UnixMicro(), now.Add(-time.Hour).UnixMicro()}); err != nil || r != want {
		t.Errorf("got %v %v", r, err)
	}
	if r, err := ParseRange("", " ", now); err != nil || r != (Range{}) {
		t.Errorf("got %v %v", r, err)
	}
	for _, bad := range [][2]string{{"1h", "2h"}, {"now", "now"}, {"x", ""}, {"", "x"}} {
		if r, err := ParseRange(bad[0], bad[1], now); err == nil {
			t.Errorf("%v: got %v", bad, r)
		}
	}
}

func FuzzParseTime(f *testing.F) {
	for _, s := range []string{"24h", "now-1w2d", "2026-11-21", "2026-11-21T10:00:00Z"} {
		f.Add(s)
	}
	now := time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, s string) {
		if got, err := ParseTime(s, now); err == nil && got.UnixMicro() <= 0 {
			t.Errorf("%q: %v", s, got)
		}
	})
}
