package query

import (
	"bufio"
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"whodunit/internal/audit"
	"whodunit/internal/match"
)

func sampleEvents(t *testing.T) []audit.Event {
	f, err := os.Open("testdata/events.ndjson")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var out []audit.Event
	for s := bufio.NewScanner(f); s.Scan(); {
		var line struct {
			Cluster string
			Event   json.RawMessage
		}
		if err := json.Unmarshal(s.Bytes(), &line); err != nil {
			t.Fatal(err)
		}
		ev, err := audit.Parse(line.Cluster, line.Event)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, ev)
	}
	return out
}

// TestReferencePage runs every example of the reference: a query finds some of the sample events and not all, and survives
// Format; a time means what the page says; an error reads as shown.
func TestReferencePage(t *testing.T) {
	page, err := os.ReadFile("../../docs/reference/query.md")
	if err != nil {
		t.Fatal(err)
	}
	events := sampleEvents(t)
	section, queries, times, errs := "", 0, 0, 0
	row := regexp.MustCompile("^\\| `(.+?)` \\| (.*) \\|$")
	short := regexp.MustCompile(`^\| (\S+) \| (\S+) \|$`)
	var fields []Field
	lines := strings.Split(string(page), "\n")
	for i := 0; i < len(lines); i++ {
		line := lines[i]
		switch {
		case strings.HasPrefix(line, "## "):
			section = line[3:]
		case line == "```query-error":
			end := i + 1
			for lines[end] != "```" {
				end++
			}
			errs++
			pageError(t, lines[i+1], strings.Join(lines[i+2:end], "\n"))
			i = end
		case section == "Field names" && short.MatchString(line):
			if m := short.FindStringSubmatch(line); m[1] != "---" && m[1] != "short" {
				fields = append(fields, Field{m[1], m[2]})
			}
		case !row.MatchString(line):
		case section == "Times":
			times++
			m := row.FindStringSubmatch(line)
			pageTime(t, m[1], m[2])
		default:
			queries++
			pageQuery(t, events, row.FindStringSubmatch(line)[1])
		}
	}
	if queries < 60 || times < 10 || errs < 5 {
		t.Errorf("only %d queries, %d times and %d errors were found on the page", queries, times, errs)
	}
	if d := cmp.Diff(Fields(), fields); d != "" {
		t.Errorf("the page's table of short names: %s", d)
	}
	t.Logf("%d queries, %d times, %d errors", queries, times, errs)
}

func pageQuery(t *testing.T, events []audit.Event, q string) {
	if !check(t, q) {
		_, err := Parse(q)
		t.Errorf("%v", err)
		return
	}
	e, _ := Parse(q)
	found := 0
	for i := range events {
		if match.Eval(e, &events[i]) {
			found++
		}
	}
	switch {
	case q == "*" && found == len(events), q == "not *" && found == 0:
	case found == 0 || found == len(events):
		t.Errorf("%s: finds %d of %d sample events (%v)", q, found, len(events), e)
	}
}

func pageTime(t *testing.T, typed, want string) {
	got, err := ParseTime(typed, time.Date(2026, 11, 21, 10, 30, 0, 0, time.UTC))
	if err != nil || got.Format(time.RFC3339) != want {
		t.Errorf("%s: got %v %v, the page says %s", typed, got, err, want)
	}
}

func pageError(t *testing.T, q, want string) {
	_, err := Parse(q)
	if err == nil || err.Error() != want {
		t.Errorf("%s: got\n%v\nthe page says\n%s", q, err, want)
	}
}
