package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Duration is a span of time. In the file it is written as in Go ("90s", "1h30m") with d (24 h) and w (7 d) besides.
type Duration time.Duration

// Size is a number of bytes. In the file it is a number with a unit: B, KB, MB, GB, TB, PB (powers of 1000) or KiB, MiB,
// GiB, TiB, PiB (powers of 1024).
type Size int64

type unit struct {
	name   string
	factor int64
}

func durationUnits() []unit {
	const us = int64(time.Microsecond)
	return []unit{
		{"w", int64(7 * 24 * time.Hour)}, {"d", int64(24 * time.Hour)}, {"h", int64(time.Hour)}, {"m", int64(time.Minute)},
		{"s", int64(time.Second)}, {"ms", int64(time.Millisecond)}, {"us", us}, {"µs", us},
	}
}

func sizeUnits() []unit {
	return []unit{
		{"PiB", 1 << 50}, {"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10},
		{"PB", 1e15}, {"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"KB", 1e3}, {"B", 1},
	}
}

// ParseDuration reads a Duration. A lone 0 needs no unit.
func ParseDuration(s string) (Duration, error) {
	if s == "0" {
		return 0, nil
	}
	rest, total := s, int64(0)
	for rest != "" || s == "" {
		num := leadingNumber(rest)
		tail := rest[len(num):]
		word := tail[:len(tail)-len(strings.TrimLeft(tail, "abcdefghijklmnopqrstuvwxyzµ"))]
		n, ok := scaled(num, word, durationUnits())
		if !ok || total > math.MaxInt64-n {
			return 0, fmt.Errorf("%.40q is no duration: write a number and a unit (ms, s, m, h, d, w), such as 90s, 1h30m or 7d", s)
		}
		total, rest = total+n, tail[len(word):]
	}
	return Duration(total), nil
}

// ParseSize reads a Size. A lone 0 needs no unit.
func ParseSize(s string) (Size, error) {
	if s == "0" {
		return 0, nil
	}
	num := leadingNumber(s)
	n, ok := scaled(num, strings.TrimLeft(s[len(num):], " "), sizeUnits())
	if !ok {
		return 0, fmt.Errorf("%.40q is no size: write a number and a unit (B, KB, MB, GB, TB, KiB, MiB, GiB, TiB), such as 512MB or 1GiB", s)
	}
	return Size(n), nil
}

func leadingNumber(s string) string { return s[:len(s)-len(strings.TrimLeft(s, "0123456789."))] }

func scaled(num, word string, units []unit) (int64, bool) {
	for _, u := range units {
		if u.name != word {
			continue
		}
		if n, err := strconv.ParseInt(num, 10, 64); err == nil {
			return n * u.factor, n <= math.MaxInt64/u.factor
		}
		f, err := strconv.ParseFloat(num, 64)
		f *= float64(u.factor)
		return int64(f), err == nil && f < math.MaxInt64/2
	}
	return 0, false
}

// String writes d so that ParseDuration reads it back: in the units that divide it, largest first.
func (d Duration) String() string {
	if d == 0 {
		return "0"
	}
	if d < 0 || d%Duration(time.Microsecond) != 0 {
		return time.Duration(d).String()
	}
	var b strings.Builder
	for _, u := range durationUnits()[:7] {
		if n := int64(d) / u.factor; n > 0 && (u.name != "w" || int64(d)%u.factor == 0) {
			fmt.Fprintf(&b, "%d%s", n, u.name)
			d -= Duration(n * u.factor)
		}
	}
	return b.String()
}

// Std is d for the standard library.
func (d Duration) Std() time.Duration { return time.Duration(d) }

// String writes n so that ParseSize reads it back: in the largest unit that divides it.
func (n Size) String() string {
	if n == 0 {
		return "0"
	}
	for _, u := range sizeUnits() {
		if int64(n)%u.factor == 0 {
			return strconv.FormatInt(int64(n)/u.factor, 10) + u.name
		}
	}
	return strconv.FormatInt(int64(n), 10) + "B"
}
