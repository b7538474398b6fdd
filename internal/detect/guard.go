package detect

import (
	"fmt"
	"runtime/debug"

	"whodunit/internal/audit"
	"whodunit/internal/match"
	"whodunit/internal/rule"
)

// match asks the engine about ev. Where it panics, because a field or function of one rule does, each rule is asked by itself, so that the
// guilty is counted and the others are heard.
func (w *Worker) match(ev *audit.Event) {
	if !w.fast(func() { w.places = w.matcher.Match(ev, w.places[:0]) }) {
		w.oneByOne(ev)
	}
}

// matchRaw is match for an event's bytes.
func (w *Worker) matchRaw(cluster string, raw []byte) (err error) {
	if w.fast(func() { w.places, err = w.matcher.MatchRaw(cluster, raw, w.places[:0]) }) {
		return err
	}
	parse := audit.Parse
	if w.p.o.Generic {
		parse = audit.Generic
	}
	ev, err := parse(cluster, raw)
	if err == nil {
		w.oneByOne(&ev)
	}
	return err
}

// fast runs f and reports whether it ran to its end. A matcher that did not is in no state to go on.
func (w *Worker) fast(f func()) (ok bool) {
	defer func() {
		if p := recover(); p != nil {
			ok, w.matcher = false, w.p.matcher()
		}
	}()
	f()
	return true
}

func (w *Worker) oneByOne(ev *audit.Event) {
	w.places = w.places[:0]
	for i, r := range w.p.rules {
		ok, err := guardedEval(w.p.expr(r), ev)
		if err != nil {
			w.failed(i, err)
		}
		if ok {
			w.places = append(w.places, i)
		}
	}
}

func guardedEval(x match.Expr, ev *audit.Event) (ok bool, err error) {
	defer recovered(&ok, &err)
	return match.Eval(x, ev), nil
}

func guarded(c rule.Condition, ev *audit.Event) (ok bool, err error) {
	defer recovered(&ok, &err)
	return c.Match(ev)
}

// recovered makes an error of a panic. It is deferred.
func recovered(ok *bool, err *error) {
	if p := recover(); p != nil {
		*ok, *err = false, fmt.Errorf("%w: %v\n%s", errPanic, p, debug.Stack())
	}
}
