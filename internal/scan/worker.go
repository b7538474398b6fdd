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
}

func (w *worker) chunk(c *chunk) {
	for _, v := range c.values {
		w.line(c, v.line, c.data[v.from:v.to])
	}
	if c.long || len(c.values) > 0 {
		return // all that a long line is about was said by the reader
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
			w.line(c, c.lines, line)
		}
	}
}

// line matches one line, or one value: nearly always a single event.
func (w *worker) line(c *chunk, n int64, line []byte) {
	if len(line) > w.o.MaxLine {
		c.full++
		c.bad(n, line, ErrLong)
		return
	}
	if !c.wrapped {
		ev, hits, err := w.MatchRaw(w.o.Cluster, line[:len(line):len(line)])
		if err == nil {
			c.full++
			c.events++
			if ev != nil {
				w.hit(c, n, ev, hits)
			}
			return
		}
	}
	if line = bytes.TrimSpace(line); len(line) == 0 {
		return
	}
	c.full++
	w.body(c, n, line)
}

// body takes a text that is no single plain event: an envelope, several values, or nothing of use.
func (w *worker) body(c *chunk, line int64, text []byte) {
	text = bytes.TrimPrefix(text, []byte("\xef\xbb\xbf"))
	if w.o.Generic {
		w.generic(c, line, text)
		return
	}
	r, err := envelope.Any(w.o.Cluster, text)
	for reason, n := range r.Skipped {
		c.skip(reason, n)
	}
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
}

var errOmitted = errors.New("one of many bad parts of an envelope")

// generic takes JSON objects that stand one after the other, and the elements of arrays of them.
func (w *worker) generic(c *chunk, line int64, text []byte) {
	for len(text) > 0 {
		end := audit.SkipValue(text, 0)
		if end < 0 || text[0] != '{' && text[0] != '[' {
			_, err := audit.Generic(w.o.Cluster, text)
			c.bad(line, text, err)
			return
		}
		value := text[:end:end]
		if text = bytes.TrimLeft(text[end:], " \t\r\n,"); value[0] == '[' {
			if err := audit.Valid(value); err != nil {
				c.bad(line, value, err)
				continue
			}
			for el := range audit.Elements(value) {
				w.object(c, line, el)
			}
			continue
		}
		w.object(c, line, value)
	}
}

func (w *worker) object(c *chunk, line int64, value []byte) {
	ev, hits, err := w.MatchRaw(w.o.Cluster, value)
	if err != nil {
		c.bad(line, value, err)
		return
	}
	c.events++
	if ev != nil {
		w.hit(c, line, ev, hits)
	}
}

// hit keeps what the judge is to see. ev and hits are the worker's, so they are copied; what ev refers to is the chunk's.
func (w *worker) hit(c *chunk, line int64, ev *audit.Event, hits []detect.Hit) {
	own := *ev
	from := len(c.hits)
	c.hits = append(c.hits, hits...)
	c.items = append(c.items, item{line: line, ev: &own, from: from, to: len(c.hits)})
}

func (c *chunk) skip(reason string, n int) {
	if c.skips == nil {
		c.skips = map[string]int64{}
	}
	c.skips[reason] += int64(n)
}

func (c *chunk) bad(line int64, raw []byte, err error) {
	if c.bads++; c.bads > showBad {
		if c.unseen == nil {
			c.unseen = map[string]int64{}
		}
		c.unseen[reason(err)]++
		return
	}
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
