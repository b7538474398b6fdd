// Package scan runs rules over files of events: the detector's program and judge without a journal. A reader cuts a file into chunks of whole
// lines, workers match them, and their hits are judged in the order of the input, so the result does not depend on how many there are.
package scan

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"whodunit/internal/audit"
	"whodunit/internal/correlate"
	"whodunit/internal/detect"
	"whodunit/internal/envelope"
)

// DefaultMaxLine is how long a line may be, in bytes, unless Options say otherwise.
const DefaultMaxLine = 64 << 20

// correlationBytes bounds what correlations keep. Half of it is events that wait for the end of the input, in which files may stand in any
// order of time; beyond that the oldest are decided before.
const correlationBytes = 128 << 20

// Input is one file or stream.
type Input struct {
	Name string
	Open func() (io.ReadCloser, error)
}

// Place is where an event stands: Line is from 1. Events of one envelope have the line on which that begins.
type Place struct {
	File string
	Line int64
}

func (p Place) String() string {
	if p.Line == 0 {
		return p.File
	}
	return fmt.Sprintf("%s:%d", p.File, p.Line)
}

// Options of a Run. Program and Result are wanted.
type Options struct {
	Program *detect.Program
	Cluster string // of events whose envelope names none
	Generic bool   // events are any JSON objects, not audit events
	Workers int    // 0: one a processor
	MaxLine int    // bytes; 0: DefaultMaxLine

	// Result takes each finding, in the order of the input; those that correlations make at its end have the place of the last event. An error
	// ends the run. What the result refers to is reused afterwards.
	Result func(r *detect.Result, at Place) error
	// Bad takes what is no event: line is its beginning, and is reused afterwards. Of very many close together only the first are handed on;
	// Stats counts all. It may be nil.
	Bad func(at Place, line []byte, err error)
	// Progress is told how many bytes of an input's own form were read since it was told last. It may be nil, and is called by another
	// goroutine.
	Progress func(name string, n int64)

	memory int // in place of correlationBytes, for tests
}

// Stats are what a Run saw.
type Stats struct {
	Bytes    int64 // decompressed
	Lines    int64 // that are not empty
	Events   int64
	Findings int64
	Skipped  map[string]int64         // parts of envelopes that hold no audit events, by reason
	Bad      map[string]int64         // lines and parts of lines, by reason
	Rules    map[string]*ErroredRules // by rule id: conditions that could not decide
	// Forgotten is what correlations left out of account for want of memory, by reason: whole groups (memory), the oldest events of one
	// (group), events that were decided before the end (hurried), and those of an earlier time that came after these (late). nil: nothing.
	Forgotten map[string]int64
}

// ErroredRules counts the events about which a rule's condition could not decide.
type ErroredRules struct {
	Count int64 // missing fields apart, which are normal
	First error // hostile text
}

// ErrLong is wrapped where a line has more bytes than allowed.
var ErrLong = errors.New("line too long")

// Run scans the inputs one after the other, as one stream: correlations go over their borders. An input that cannot be read ends it
// with an error, after the results of what was read.
func Run(ctx context.Context, inputs []Input, o Options) (Stats, error) {
	if o.Workers <= 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	if o.MaxLine <= 0 {
		o.MaxLine = DefaultMaxLine
	}
	if o.Bad == nil {
		o.Bad = func(Place, []byte, error) {}
	}
	if o.Progress == nil {
		o.Progress = func(string, int64) {}
	}
	ctx, stop := context.WithCancel(ctx)
	p := newPipeline(o)
	var wg sync.WaitGroup
	var readErr error
	wg.Go(func() {
		defer close(p.jobs)
		defer close(p.order)
		for _, in := range inputs {
			if readErr = p.read(ctx, in); readErr != nil {
				return
			}
		}
	})
	for range o.Workers {
		wg.Go(p.work)
	}
	err := p.judge(stop)
	stop()
	wg.Wait()
	for _, w := range p.workers {
		w.Stats(p.errored)
	}
	if err == nil {
		err = readErr
	}
	return p.stats, err
}

// pipeline is one run.
type pipeline struct {
	o     Options
	jobs  chan *chunk // to the workers
	order chan *chunk // the same, to the judge
	free  chan *chunk // used chunks; as many exist as fit into it, which bounds the memory
	stats Stats

	mu      sync.Mutex
	workers []*detect.Worker
}

func newPipeline(o Options) *pipeline {
	n := 2*o.Workers + 2
	p := &pipeline{o: o, jobs: make(chan *chunk, n), order: make(chan *chunk, n), free: make(chan *chunk, n),
		stats: Stats{Skipped: map[string]int64{}, Bad: map[string]int64{}, Rules: map[string]*ErroredRules{}}}
	for range n {
		p.free <- &chunk{done: make(chan struct{}, 1)}
	}
	return p
}

func (p *pipeline) work() {
	w := &worker{Worker: p.o.Program.Worker(), o: &p.o}
	p.mu.Lock()
	p.workers = append(p.workers, w.Worker)
	p.mu.Unlock()
	for c := range p.jobs {
		w.chunk(c)
		c.done <- struct{}{}
	}
}

// judge takes the chunks in order and makes findings of their hits. stop ends the reader, whose chunks are then let pass.
func (p *pipeline) judge(stop func()) error {
	reg := prometheus.NewRegistry()
	defer p.forgotten(reg)
	j := p.o.Program.Judge(detect.JudgeOptions{Lateness: -1, MaxBytes: cmp.Or(p.o.memory, correlationBytes), Correlations: correlate.NewMetrics(reg)})
	var err error
	var at Place
	file, lines := "", int64(0) // of the current file, before the current chunk
	for c := range p.order {
		<-c.done
		if err == nil {
			if c.file != file || c.first {
				file, lines = c.file, 0
			}
			for i := range c.items {
				if at, err = p.item(j, c, &c.items[i], lines); err != nil {
					stop()
					break
				}
			}
			lines += c.lines
			p.stats.Bytes += int64(len(c.data)) + c.skipped
			p.stats.Lines += c.full
			p.stats.Events += c.events
			for reason, n := range c.skips {
				p.stats.Skipped[reason] += n
			}
			for reason, n := range c.unseen {
				p.stats.Bad[reason] += n
			}
		}
		c.reset()
		p.free <- c
	}
	if err != nil {
		return err
	}
	return p.results(j.Flush(), at)
}

// forgotten adds up the counters of correlations.
func (p *pipeline) forgotten(reg *prometheus.Registry) {
	families, err := reg.Gather()
	if err != nil {
		return // it is ours alone: nothing in it can be inconsistent
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			reason := "hurried"
			if l := m.GetLabel(); len(l) > 0 {
				reason = l[0].GetValue()
			}
			n := int64(m.GetCounter().GetValue())
			if n == 0 {
				continue
			}
			if p.stats.Forgotten == nil {
				p.stats.Forgotten = map[string]int64{}
			}
			p.stats.Forgotten[reason] += n
		}
	}
}

func (p *pipeline) item(j *detect.Judge, c *chunk, it *item, before int64) (Place, error) {
	at := Place{File: c.file, Line: before + it.line}
	if it.err != nil {
		p.stats.Bad[reason(it.err)]++
		p.o.Bad(at, it.raw, it.err)
		return at, nil //nolint:nilerr // what is wrong with a line is no error of the run
	}
	return at, p.results(j.Add(it.ev, c.hits[it.from:it.to]), at)
}

func (p *pipeline) results(rs []detect.Result, at Place) error {
	for i := range rs {
		p.stats.Findings++
		if err := p.o.Result(&rs[i], at); err != nil {
			return err
		}
	}
	return nil
}

// reason is the word for what is wrong with a line.
func reason(err error) string {
	if errors.Is(err, ErrLong) {
		return envelope.ReasonTooLarge
	}
	return envelope.Reason(err)
}

// item is one event that something is to be said about, or something bad.
type item struct {
	line     int64 // in its chunk, from 1
	ev       *audit.Event
	from, to int // of the chunk's hits
	raw      []byte
	err      error
}
