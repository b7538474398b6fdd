package scan

import (
	"bytes"
	"errors"

	"whodunit/internal/audit"
	"whodunit/internal/detect"
	"whodunit/internal/envelope"
	"whodunit/internal/rule"
)

// worker matches the lines of chunks.
type worker struct {
	*detect.Worker
	o *Options
	// envelopes is how many of the last lines were no plain events: then envelopes are looked for first.
	envelopes int
}

func (w *worker) chunk(c *chunk) {
	if c.document {
		c.full = 1
		w.body(c, 0, bytes.TrimSpace(c.data))
		return
	}
	if c.long {
		return // all that it is about was said by the reader
	}
	data := c.data
	for len(data) > 0 {
		line := data
		if i := bytes.IndexByte(data, '\n'); i >= 0 {
			line, data = data[:i], data[i+1:]
		} else {
			data = nil
		}
		c.lines++
		if n := len(line); n > 0 && line[n-1] == '\r' {
			line = line[:n-1]
		}
		if len(line) > 0 {
			w.line(c, line)
		}
	}
}

// line matches one line: nearly always a single event.
func (w *worker) line(c *chunk, line []byte) {
	if len(line) > w.o.MaxLine {
		c.full++
		c.bad(c.lines, line, ErrLong)
		return
	}
	if w.envelopes < 8 {
		ev, hits, err := w.MatchRaw(w.o.Cluster, line[:len(line):len(line)])
		if err == nil {
			c.full++
			c.events++
			if ev != nil {
				w.hit(c, c.lines, ev, hits)
			}
			w.envelopes = 0
			return
		}
	}
	if line = bytes.TrimSpace(line); len(line) == 0 {
		return
	}
	c.full++
	if w.body(c, c.lines, line) {
		w.envelopes = min(w.envelopes+1, 1<<20)
	} else {
		w.envelopes = 0
	}
}

// body takes a text that is no single plain event: an envelope, several values, or nothing of use. It reports whether there were events.
func (w *worker) body(c *chunk, line int64, text []byte) bool {
	text = bytes.TrimPrefix(text, []byte("\xef\xbb\xbf"))
	if w.o.Generic {
		return w.generic(c, line, text)
	}
	r, err := envelope.Line(w.o.Cluster, text)
	for i := range r.Events {
		ev := &r.Events[i]
		c.events++
		if hits := w.Match(ev); len(hits) > 0 || w.o.Program.NeedsAll() {
			w.hit(c, line, ev, hits)
		}
	}
	for _, x := range r.Rejects {
		c.bad(line, x.Raw, x.Err)
	}
	for range r.Omitted {
		c.bad(line, text, errOmitted)
	}
	if err != nil && len(r.Rejects) == 0 {
		c.bad(line, text, err)
	}
	return len(r.Events) > 0
}

var errOmitted = errors.New("one of many bad parts of an envelope")

// generic takes JSON objects that stand one after the other, and the elements of arrays of them.
func (w *worker) generic(c *chunk, line int64, text []byte) (some bool) {
	for len(text) > 0 {
		end := audit.SkipValue(text, 0)
		if end < 0 || text[0] != '{' && text[0] != '[' {
			_, err := audit.Generic(w.o.Cluster, text)
			c.bad(line, text, err)
			return some
		}
		value := text[:end:end]
		if text = bytes.TrimLeft(text[end:], " \t\r\n,"); value[0] == '[' {
			if err := audit.Valid(value); err != nil {
				c.bad(line, value, err)
				continue
			}
			for el := range audit.Elements(value) {
				some = w.object(c, line, el) || some
			}
			continue
		}
		some = w.object(c, line, value) || some
	}
	return some
}

func (w *worker) object(c *chunk, line int64, value []byte) bool {
	ev, hits, err := w.MatchRaw(w.o.Cluster, value)
	if err != nil {
		c.bad(line, value, err)
		return false
	}
	c.events++
	if ev != nil {
		w.hit(c, line, ev, hits)
	}
	return true
}

// hit keeps what the judge is to see. ev and hits are the worker's, so they are copied; what ev refers to is the chunk's.
func (w *worker) hit(c *chunk, line int64, ev *audit.Event, hits []detect.Hit) {
	own := *ev
	from := len(c.hits)
	c.hits = append(c.hits, hits...)
	c.items = append(c.items, item{line: line, ev: &own, from: from, to: len(c.hits)})
}

func (c *chunk) bad(line int64, raw []byte, err error) {
	c.items = append(c.items, item{line: line, raw: raw[:min(len(raw), showBytes)], err: err})
}

// errored adds up what a worker's conditions could not decide.
func (p *pipeline) errored(r *rule.Rule, s detect.RuleStats) {
	for i, n := range s.Errors {
		if n == 0 || detect.ErrorReason(i) == "missing" {
			continue
		}
		e := p.stats.Rules[r.ID]
		if e == nil {
			e = &ErroredRules{}
			p.stats.Rules[r.ID] = e
		}
		e.Count += n
		if e.First == nil {
			e.First = s.First[i]
		}
	}
}
