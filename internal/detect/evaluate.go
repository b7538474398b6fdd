package detect

import (
	"context"
	"io"
	"runtime"
	"sync"
	"sync/atomic"

	"whodunit/internal/audit"
	"whodunit/internal/rule"
)

// Compiled is where who reads rules leaves their program for who runs them. The zero value is empty. Safe for concurrent use.
type Compiled struct{ p atomic.Pointer[Program] }

// Load is the program that was left last, nil before.
func (c *Compiled) Load() *Program { return c.p.Load() }

// of is the program of set, nil if there is none.
func (c *Compiled) of(set *rule.Set) *Program {
	if c == nil {
		return nil
	}
	if p := c.p.Load(); p != nil && p.set == set {
		return p
	}
	return nil
}

// refresh takes over the set that is in force.
func (d *Detector) refresh() {
	set := d.o.Rules.Load()
	if d.program != nil && set == d.set {
		return
	}
	p := d.o.Compiled.of(set)
	if p == nil {
		var problems []*rule.Problem
		p, problems = Compile(set, d.o.Program)
		for _, problem := range problems {
			if text := problem.Error(); !d.said[text] {
				d.said[text] = true
				d.o.Logger.Error("rule cannot run", "problem", text)
			}
		}
	}
	d.set, d.program, d.workers = set, p, nil
	if d.judge == nil {
		d.judge = p.Judge(d.o.Judge)
	} else {
		d.judge.Use(p)
	}
}

// perWorker is how many records are worth a goroutine.
const perWorker = 128

// match runs the rules on all records, side by side. d.hits has the result for each.
func (d *Detector) match(recs []audit.Record) {
	n := min(max(len(recs)/perWorker, 1), runtime.GOMAXPROCS(0))
	for len(d.workers) < n {
		w := d.program.Worker()
		w.now, w.own = d.o.Now, d.o.Own
		d.workers = append(d.workers, w)
	}
	d.hits = append(d.hits[:0], make([][]Hit, len(recs))...)
	size := (len(recs) + n - 1) / n
	var wg sync.WaitGroup
	for i := 1; i < n; i++ {
		wg.Go(func() { d.workers[i].batch(recs, d.hits, i*size, min((i+1)*size, len(recs))) })
	}
	d.workers[0].batch(recs, d.hits, 0, min(size, len(recs)))
	wg.Wait()
	for _, w := range d.workers {
		d.report(w)
	}
}

// batch matches recs[from:to].
func (w *Worker) batch(recs []audit.Record, hits [][]Hit, from, to int) {
	begin := w.now()
	w.hits = nil // the batch keeps it
	for i := from; i < to; i++ {
		if w.own != nil && w.own(&recs[i].Event) {
			w.owned++
			continue
		}
		start := len(w.hits)
		w.hits = w.appendHits(w.hits, &recs[i].Event)
		hits[i] = w.hits[start:len(w.hits):len(w.hits)]
	}
	w.spent += w.now().Sub(begin)
}

// report counts what a worker did. Of evaluations that could not decide only the first of each rule and reason is logged, and "missing",
// which is in the nature of events of a lower level, not at all.
func (d *Detector) report(w *Worker) {
	m := d.o.Metrics
	engine := w.spent
	w.spent = 0
	m.Own.Add(float64(w.owned))
	w.owned = 0
	w.Stats(func(r *rule.Rule, s RuleStats) {
		m.Evaluations.WithLabelValues(r.ID).Add(float64(s.Evaluations))
		m.Seconds.WithLabelValues(r.ID).Add(s.Time.Seconds())
		engine -= s.Time
		for i, n := range s.Errors {
			if n == 0 {
				continue
			}
			reason := ErrorReason(i)
			m.Errors.WithLabelValues(r.ID, reason).Add(float64(n))
			if key := r.ID + "\x00" + reason; reason != "missing" && !d.said[key] {
				d.said[key] = true
				d.o.Logger.Warn("rule cannot decide; further cases of it are only counted", "rule", r.ID, "reason", reason, "error", s.First[i])
			}
		}
	})
	m.Engine.Add(max(engine, 0).Seconds())
}

// evaluate gives the findings of recs, in their order and that of rules, and those of correlations that are decided now. What comes while
// the memory is refilled was handed on before: what waited then waits again, until as many records have come as then.
func (d *Detector) evaluate(recs []audit.Record) []audit.Event {
	d.refresh()
	d.match(recs)
	var out []audit.Event
	for i := range recs {
		found := d.judge.AddRecord(&recs[i], d.hits[i])
		if recs[i].Seq >= d.o.From {
			out = d.documents(out, found)
		}
	}
	if len(recs) > 0 {
		d.next = recs[len(recs)-1].Seq + 1
	}
	return out
}

// documents appends the findings' documents.
func (d *Detector) documents(out []audit.Event, results []Result) []audit.Event {
	for i := range results {
		r := &results[i]
		ev, err := r.Finding().Event(r.Event)
		if err != nil {
			d.o.Metrics.Errors.WithLabelValues(r.Rule.ID, "encode").Inc()
			d.o.Logger.Error("finding lost", "rule", r.Rule.ID, "audit_id", r.Event.AuditID, "error", err)
			continue
		}
		d.o.Metrics.Findings.WithLabelValues(r.Rule.ID, string(r.Rule.Severity)).Inc()
		out = append(out, ev)
	}
	return out
}

// Backtest gives the findings of recs under set, without journal, cursor or metrics, and without those that say that another is over.
func Backtest(set *rule.Set, recs []audit.Record) ([]audit.Event, error) {
	var cur rule.Current
	cur.Store(set)
	d, err := New(Options{Reader: none{}, Rules: &cur, Emit: func(context.Context, audit.Batch) error { return nil }, Judge: JudgeOptions{Lateness: -1}})
	if err != nil {
		return nil, err
	}
	d.o.Judge.Resolved = false
	out := d.evaluate(recs)
	return d.documents(out, d.judge.Flush()), nil
}

type none struct{}

func (none) Next(context.Context) ([]audit.Record, error) { return nil, io.EOF }
