package store

import (
	"fmt"
	"strings"

	"whodunit/internal/audit"
	"whodunit/internal/match"
)

// Limits of Keys: a client can put 100,000 groups into one event, and two such lists make 10 billion combinations.
const (
	maxKeys     = 100_000
	maxKeyBytes = 64 << 20
)

// Keys are the values that Searcher.Top counts an event by: each distinct combination of the fields' values, joined by tabs. It fails for
// an event that has more of them than 100,000 of several fields, or 64 MiB. The strings may share the event's memory.
func Keys(ev *audit.Event, fields []string) ([]string, error) {
	keys := []string{""}
	for i, f := range fields {
		values, size := distinct(ev, f)
		if i == 0 {
			keys = values
			continue
		}
		all := size * len(keys)
		for _, k := range keys {
			all += len(values) * (len(k) + 1)
		}
		if n := len(values) * len(keys); n > maxKeys || all > maxKeyBytes {
			return nil, fmt.Errorf("cannot count by %s: one event alone, %.100q, has %d combinations; leave out a field", strings.Join(fields, ", "), ev.AuditID, n)
		}
		next := make([]string, 0, len(values)*len(keys))
		for _, k := range keys {
			for _, v := range values {
				next = append(next, k+"\t"+v)
			}
		}
		keys = next
	}
	return keys, nil
}

// distinct are the values of a path, each once, and their bytes; "" where there is none.
func distinct(ev *audit.Event, path string) (values []string, size int) {
	const few = 16
	var seen map[string]bool
	for v := range match.Values(ev, path) {
		if has(values, seen, v) {
			continue
		}
		values, size = append(values, v), size+len(v)
		switch {
		case seen != nil:
			seen[v] = true
		case len(values) > few:
			seen = make(map[string]bool, 4*few)
			for _, v := range values {
				seen[v] = true
			}
		}
	}
	if values == nil {
		values = []string{""}
	}
	return values, size
}

func has(values []string, seen map[string]bool, v string) bool {
	if seen != nil {
		return seen[v]
	}
	for _, o := range values {
		if o == v {
			return true
		}
	}
	return false
}
