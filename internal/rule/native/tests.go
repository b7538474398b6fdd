package native

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"whodunit/internal/audit"
	"whodunit/internal/rule"
)

// maxTestEvents bounds the events of one test, which `repeat` makes of a few lines.
const maxTestEvents = 10_000

// test is a test of a rule, with what it needs beside the rule.
type test struct {
	rule.Test
	lists map[string][]string
}

// tests reads the rule's own tests.
func (l *loader) tests(n *yaml.Node) {
	for _, c := range l.list(n) {
		t := test{Test: rule.Test{Line: c.Line}}
		m := eventMaker{every: time.Second, cluster: "test", next: testStart}
		repeat, decided := 1, false
		var event, events *yaml.Node
		l.fields(c, "test", []field{
			{"name", func(n *yaml.Node) { t.Name, _ = l.text(n) }},
			{"event", func(n *yaml.Node) { event = n }},
			{"events", func(n *yaml.Node) { events = n }},
			{"every", func(n *yaml.Node) { m.every = l.duration(n, 0) }},
			{"repeat", func(n *yaml.Node) { repeat = l.count(n, maxTestEvents) }},
			{"match", func(n *yaml.Node) { t.Match = l.boolean(n); decided = true }},
			{"message", func(n *yaml.Node) { t.Message, _ = l.text(n) }},
			{"cluster", func(n *yaml.Node) { m.cluster, _ = l.text(n) }},
			{"id_reused", func(n *yaml.Node) { m.reused = l.boolean(n) }},
			{"lists", func(n *yaml.Node) { t.lists = l.testLists(n) }},
		})
		counts := l.draft.corr != nil
		switch {
		case (event == nil) == (events == nil) || !decided || t.Name == "":
			l.fail(c, "test: name, match and one of event and events are expected")
			continue
		case !counts && (events != nil || hasKey(c, "repeat") || hasKey(c, "every")):
			l.fail(c, "test %q: events, repeat and every are for rules that count, and this one looks at single events", t.Name)
			continue
		case l.draft.condition == nil && !counts:
			l.fail(c, "test %q: the rule has no condition to test", t.Name)
			continue
		}
		at := event
		if events != nil {
			at = events
		} else {
			event = &yaml.Node{Kind: yaml.SequenceNode, Content: []*yaml.Node{event}, Line: event.Line, Column: event.Column}
			events = event
		}
		if events = resolve(events); events.Kind != yaml.SequenceNode {
			l.fail(events, "a list is expected, not %s", kind(events))
			continue
		}
		if err := m.block(events, repeat, 0); err != nil {
			l.fail(at, "test %q: %v", t.Name, err)
			continue
		}
		if l.loads.events += len(m.events); l.loads.events > maxAllEvents {
			l.fail(at, "test %q: all tests have more than %d events", t.Name, maxAllEvents)
			return
		}
		if counts {
			t.Events = m.events
		} else {
			t.Event = m.events[0]
		}
		l.draft.tests = append(l.draft.tests, t)
	}
}

// count reads a whole number from 1 to most.
func (l *loader) count(n *yaml.Node, most int) int {
	if v, err := strconv.Atoi(n.Value); err == nil && n.Tag == "!!int" && v > 0 && v <= most {
		return v
	}
	l.fail(n, "a whole number from 1 to %d is expected, not %s", most, kind(n))
	return 1
}

// testLists reads the lists that a test gives, of those that the rule names.
func (l *loader) testLists(n *yaml.Node) map[string][]string {
	if n.Kind != yaml.MappingNode {
		l.fail(n, "lists: a mapping is expected, not %s", kind(n))
		return nil
	}
	out := map[string][]string{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k := resolve(n.Content[i])
		if !slices.Contains(l.draft.lists, k.Value) {
			l.failNear(k, rule.Nearest(k.Value, l.draft.lists), "test: the rule names no list %.60q", k.Value)
			continue
		}
		out[k.Value] = l.texts(n.Content[i+1])
	}
	return out
}

// testStart is the time of a test's first event.
var testStart = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// eventMaker makes a test's events of their YAML.
type eventMaker struct {
	cluster string
	reused  bool
	every   time.Duration
	next    time.Time // of the next event
	events  []audit.Event
}

var errTooManyEvents = fmt.Errorf("more than %d events", maxTestEvents)

// block makes the events of a list, repeat times. An element is an event, or `{wait: 10m}`, or `{repeat: 5, every: 1s, events: [..]}`.
func (m *eventMaker) block(list *yaml.Node, repeat, depth int) error {
	if depth > 3 {
		return errors.New("events in events in events")
	}
	for n := range repeat {
		for _, c := range list.Content {
			if c = resolve(c); c.Kind != yaml.MappingNode {
				return fmt.Errorf("event: a mapping is expected, not %s", kind(c))
			}
			var err error
			switch {
			case hasKey(c, "wait"):
				err = m.wait(c)
			case hasKey(c, "events"):
				err = m.inner(c, depth)
			default:
				err = m.event(c, n+1)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func (m *eventMaker) wait(n *yaml.Node) error {
	if len(n.Content) != 2 {
		return fmt.Errorf("line %d: wait stands alone", n.Line)
	}
	d, err := parseDuration(resolve(n.Content[1]).Value)
	if err != nil || d < 0 {
		return fmt.Errorf("line %d: wait: a duration such as 10m is expected", n.Line)
	}
	m.next = m.next.Add(d)
	return nil
}

// inner is a block in a block, with a step of its own.
func (m *eventMaker) inner(n *yaml.Node, depth int) error {
	repeat, outer := 1, m.every
	var list *yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		var err error
		v := resolve(n.Content[i+1])
		switch n.Content[i].Value {
		case "events":
			list = v
		case "every":
			if m.every, err = parseDuration(v.Value); m.every < 0 {
				err = errors.New("a duration such as 10s is expected")
			}
		case "repeat":
			if repeat, err = strconv.Atoi(v.Value); err == nil && (repeat < 1 || repeat > maxTestEvents) {
				err = errTooManyEvents
			}
		default:
			err = errors.New("one of events, every, repeat is expected")
		}
		if err != nil {
			return fmt.Errorf("line %d: %.60q: %w", v.Line, n.Content[i].Value, err)
		}
	}
	if list.Kind != yaml.SequenceNode {
		return fmt.Errorf("line %d: events: a list is expected, not %s", list.Line, kind(list))
	}
	err := m.block(list, repeat, depth+1)
	m.every = outer
	return err
}

// event makes one event. auditID, stage, level and the times may be left out; {n} in its texts is the number of the repetition.
func (m *eventMaker) event(n *yaml.Node, number int) error {
	if len(m.events) == maxTestEvents {
		return errTooManyEvents
	}
	v, err := plain(n)
	if err != nil {
		return err
	}
	obj, ok := numbered(v, strconv.Itoa(number)).(map[string]any)
	if !ok {
		return fmt.Errorf("event: a mapping is expected, not %s", kind(n))
	}
	now := m.next.Format(time.RFC3339Nano)
	m.next = m.next.Add(m.every)
	for k, d := range map[string]string{
		"auditID": fmt.Sprintf("00000000-0000-4000-8000-%012d", len(m.events)), "stage": string(audit.StageResponseComplete),
		"level": string(audit.LevelRequestResponse), "stageTimestamp": now, "requestReceivedTimestamp": now,
	} {
		if obj[k] == nil {
			obj[k] = d
		}
	}
	b, err := json.Marshal(obj)
	if err != nil {
		return fmt.Errorf("cannot encode event: %w", err)
	}
	ev, err := audit.Parse(m.cluster, b)
	if err != nil {
		return err
	}
	if m.reused {
		ev.Flags |= audit.FlagIDReused
	}
	m.events = append(m.events, ev)
	return nil
}

// numbered is v with {n} in its texts replaced.
func numbered(v any, n string) any {
	switch v := v.(type) {
	case string:
		return strings.ReplaceAll(v, "{n}", n)
	case []any:
		for i := range v {
			v[i] = numbered(v[i], n)
		}
	case map[string]any:
		for k := range v {
			v[k] = numbered(v[k], n)
		}
	}
	return v
}
