package detect

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"whodunit/internal/match"
	"whodunit/internal/rule"
)

// ProgramOptions say how rules are run. The zero value is the detector's.
type ProgramOptions struct {
	FalcoFirst bool // of the falco rules that an event satisfies, only the one that stands first in their files counts
	Generic    bool // events are any JSON objects, not audit events
	MaxStates  int  // see match.EngineOptions
}

// Program is a set of rules made ready to run: one engine for what they say of single events, and a plan of the correlations.
// It is immutable and safe for concurrent use; Workers and Judges run it.
type Program struct {
	o            ProgramOptions
	set          *rule.Set
	rules        []*rule.Rule // in the engine, by place
	engine       *match.Engine
	correlations []*rule.Rule // each behind those that it looks at
	bases        []bool       // by place: a correlation looks at the rule
	everything   bool         // a correlation counts events that match nothing, too
}

// Compile makes a program of set. Rules that are off and silent rules that no correlation looks at are not in it. A rule that cannot
// run (a regular expression that the engine refuses, a correlation over a rule that is not there, or over itself) is a Problem and
// left out; the others run.
func Compile(set *rule.Set, o ProgramOptions) (*Program, []*rule.Problem) {
	p := &Program{o: o, set: set}
	wanted := map[string]bool{}
	for _, r := range set.Rules() {
		if r.Correlation != nil {
			for _, id := range r.Correlation.Of {
				wanted[id] = true
			}
		}
	}
	for _, r := range set.Rules() {
		if r.Off == "" && r.Correlation == nil && (!r.Silent || wanted[r.ID]) {
			p.rules = append(p.rules, r)
		}
	}
	problems := p.build()
	problems = append(problems, p.plan()...)
	looked := map[string]bool{}
	for _, r := range p.correlations {
		for _, id := range r.Correlation.Of {
			looked[id] = true
		}
		p.everything = p.everything || r.Correlation.Type == rule.Streak
	}
	p.bases = make([]bool, len(p.rules))
	for i, r := range p.rules {
		p.bases[i] = looked[r.ID]
	}
	return p, problems
}

// build makes the engine. Where it refuses, each rule is tried alone to find those that are to blame.
func (p *Program) build() []*rule.Problem {
	o := match.EngineOptions{MaxStates: p.o.MaxStates, Generic: p.o.Generic}
	compile := func(rules []*rule.Rule) (*match.Engine, error) {
		exprs := make([]match.Expr, len(rules))
		for i, r := range rules {
			exprs[i] = p.expr(r)
		}
		return match.NewEngine(exprs, o)
	}
	var err error
	if p.engine, err = compile(p.rules); err == nil {
		return nil
	}
	var problems []*rule.Problem
	p.rules = slices.DeleteFunc(p.rules, func(r *rule.Rule) bool {
		_, err := compile([]*rule.Rule{r})
		if err != nil {
			problems = append(problems, problem(r, "it cannot run: %v", err))
		}
		return err != nil
	})
	if p.engine, err = compile(p.rules); err == nil {
		return problems
	}
	for _, r := range p.rules { // each alone is good, all together are not: too many
		problems = append(problems, problem(r, "it cannot run together with the others: %v", err))
	}
	p.rules, p.engine = nil, nil
	return problems
}

// expr is what the engine is told of r.
func (p *Program) expr(r *rule.Rule) match.Expr {
	if p.o.Generic { // other logs have no stages
		return r.Expr
	}
	return r.Whole()
}

func problem(r *rule.Rule, format string, a ...any) *rule.Problem {
	return &rule.Problem{File: r.File, Line: r.Line, Column: r.Column, Rule: r.ID, Text: fmt.Sprintf(format, a...)}
}

// candidate is a correlation whose place is to be found.
type candidate struct {
	r     *rule.Rule
	place int // in the set
	round int // how often the set must be gone through, in its order, before the correlation can be taken
	state candidateState
	lacks string // the rule that a bad one looks at
}

type candidateState uint8

const (
	untried candidateState = iota
	busy
	good
	bad    // it looks at what is not in force
	cyclic // it looks at itself
)

// plan orders the correlations so that each stands behind those it looks at.
func (p *Program) plan() []*rule.Problem {
	single, byID := map[string]bool{}, map[string]*candidate{}
	for _, r := range p.rules {
		single[r.ID] = true
	}
	var all []*candidate
	for i, r := range p.set.Rules() {
		if r.Off == "" && r.Correlation != nil {
			c := &candidate{r: r, place: i}
			all, byID[r.ID] = append(all, c), c
		}
	}
	var problems []*rule.Problem
	for _, c := range all {
		if c.settle(single, byID); c.state == bad {
			problems = append(problems, problem(c.r, "it correlates rule %q, which is not in force", c.lacks))
		}
	}
	for _, c := range all {
		if c.state == cyclic {
			problems = append(problems, problem(c.r, "it correlates itself, directly or through others"))
		}
	}
	slices.SortStableFunc(all, func(a, b *candidate) int { return cmp.Compare(a.round, b.round) })
	for _, c := range all {
		if c.state == good {
			p.correlations = append(p.correlations, c.r)
		}
	}
	return problems
}

// settle finds out the state and round of c, once.
func (c *candidate) settle(single map[string]bool, byID map[string]*candidate) {
	if c.state != untried {
		return
	}
	c.state = busy
	state := good
	for _, id := range c.r.Correlation.Of {
		if single[id] {
			continue
		}
		d := byID[id]
		if d != nil {
			d.settle(single, byID)
		}
		switch {
		case d == nil || d.state == bad:
			state, c.lacks = bad, id
		case d.state == good && d.place > c.place:
			c.round = max(c.round, d.round+1)
		case d.state == good:
			c.round = max(c.round, d.round)
		case state == good:
			state = cyclic
		}
	}
	c.state = state
}

// Set is what the program was made of.
func (p *Program) Set() *rule.Set { return p.set }

// Rules is how many rules look at single events, and how many at what others match.
func (p *Program) Rules() (single, correlations int) { return len(p.rules), len(p.correlations) }

// NeedsAll reports whether a Judge must be given events without hits, too: a correlation looks at what does not match.
func (p *Program) NeedsAll() bool { return p.everything }

// Worker makes a Worker that measures nothing and logs nothing.
func (p *Program) Worker() *Worker {
	return &Worker{p: p, matcher: p.matcher(), stats: make([]RuleStats, len(p.rules))}
}

func (p *Program) matcher() *match.Matcher {
	if p.engine == nil {
		return nil
	}
	return p.engine.Matcher()
}

// Reach is how far back a correlation may look, those that it looks at included: the event time of journal that a Judge must be given again
// after a restart to know what it knew. Streaks, which have no window, and requests that gave a finding already are not in it.
func (p *Program) Reach() time.Duration {
	reach := map[string]time.Duration{}
	var most time.Duration
	for _, r := range p.correlations { // bases come first
		c := r.Correlation
		var below time.Duration
		for _, id := range c.Of {
			below = max(below, reach[id])
		}
		own := min(c.Timespan, maxReach) + min(max(c.Quiet, c.Timespan, c.Baseline), maxReach)
		reach[r.ID] = min(own+below, maxReach)
		most = max(most, reach[r.ID])
	}
	return most
}

// maxReach keeps sums of durations from overflowing.
const maxReach = 10 * 365 * 24 * time.Hour

// Memory is what the first_seen correlations that look back further than least must be given again after a restart: the events that expr
// is true of, as far back as reach. expr is nil where there are none, or where nothing can be said about their events before all are read.
func (p *Program) Memory(least time.Duration) (expr match.Expr, reach time.Duration) {
	byID, taken := map[string]*rule.Rule{}, map[string]bool{}
	for _, r := range p.rules {
		byID[r.ID] = r
	}
	var all match.Or
	for _, r := range p.correlations {
		c := r.Correlation
		if c.Type != rule.FirstSeen || c.Timespan <= least {
			continue
		}
		var of match.Or
		for _, id := range c.Of {
			if base := byID[id]; base != nil && base.Expr != nil && !taken[id] {
				taken[id] = true
				of = append(of, base.Whole())
			}
		}
		if len(of) > 0 {
			all, reach = append(all, of...), max(reach, min(c.Timespan, maxReach))
		}
	}
	if all == nil {
		return nil, 0
	}
	return all, reach
}
