package coverage

import (
	"fmt"
	"slices"
	"strings"

	"whodunit/internal/audit"
	"whodunit/internal/match"
	"whodunit/internal/rule"
)

// Shape is what events have in common, as far as it decides which rules can fire on them.
type Shape struct {
	Level                        audit.Level
	Stage                        audit.Stage
	Verb                         string
	Group, Resource, Subresource string // "" in requests for no resource
}

// Arrivals counts the events of each shape. Not safe for concurrent use.
type Arrivals struct {
	shapes map[Shape]int
	events int
	full   bool // there were more shapes than are kept
}

// maxShapes bounds the memory of hostile input, whose verbs and resources are the client's.
const maxShapes = 100_000

// NewArrivals makes an empty one.
func NewArrivals() *Arrivals { return &Arrivals{shapes: map[Shape]int{}} }

// Add counts one event.
func (a *Arrivals) Add(ev *audit.Event) {
	a.add(Shape{ev.Level, ev.Stage, strings.Clone(ev.Verb), strings.Clone(ev.ObjectRef.APIGroup), strings.Clone(ev.ObjectRef.Resource), strings.Clone(ev.ObjectRef.Subresource)}, 1)
}

func (a *Arrivals) add(s Shape, n int) {
	a.events += n
	if _, ok := a.shapes[s]; !ok && len(a.shapes) >= maxShapes {
		a.full = true
		return
	}
	a.shapes[s] += n
}

// Events is how many were counted.
func (a *Arrivals) Events() int { return a.events }

// Blind is a rule that can never fire, and why.
type Blind struct {
	Rule   *rule.Rule
	Reason string
}

// Blind gives the rules that none of the shapes can satisfy. What a shape does not decide, such as names and users, counts as possible,
// so a rule that is not here may still never fire. Correlations are here when one of the rules that they need is. The error is permanent:
// there were too many shapes to know them all.
func (a *Arrivals) Blind(set []*rule.Rule) ([]Blind, error) {
	if a.full {
		return nil, fmt.Errorf("cannot tell which rules never fire: more than %d combinations of level, stage, verb and resource", maxShapes)
	}
	why := map[string]string{}
	var out []Blind
	for _, r := range set {
		if r.Off != "" || r.Correlation != nil {
			continue
		}
		if reason := a.reason(r); reason != "" {
			why[r.ID] = reason
			if !r.Silent {
				out = append(out, Blind{r, reason})
			}
		}
	}
	for _, r := range set {
		c := r.Correlation
		if r.Off != "" || c == nil {
			continue
		}
		var blind []string
		for _, id := range c.Of {
			if why[id] != "" {
				blind = append(blind, id)
			}
		}
		all := c.Type == rule.Temporal && c.Logic == nil || c.Type == rule.TemporalOrdered
		if len(blind) == len(c.Of) || all && len(blind) > 0 {
			out = append(out, Blind{r, why[blind[0]]})
		}
	}
	return out, nil
}

// part is what a look at a shape leaves out.
type part int

const (
	nothing part = iota
	theLevel
	theStage
	theVerb
	theResource
)

// reason is "" where some shape can satisfy r. Otherwise it is the first of level, stage, verb and resource without which one could.
func (a *Arrivals) reason(r *rule.Rule) string {
	if _, ok := a.possible(r, nothing); ok {
		return ""
	}
	if s, ok := a.possible(r, theLevel); ok {
		return fmt.Sprintf("it needs events of level %s; those of %s arrive at %s", needs(r), s.what(), s.Level)
	}
	if s, ok := a.possible(r, theStage); ok {
		return fmt.Sprintf("its stages (%s) do not arrive for %s", stages(r), s.what())
	}
	if s, ok := a.possible(r, theVerb); ok {
		return fmt.Sprintf("none of its verbs arrives for %s", s.object())
	}
	if _, ok := a.possible(r, theResource); ok {
		return "no event of what it looks at arrives: " + named(r)
	}
	return "no event that arrives fits it"
}

// needs is the level that r declares, or that a body it looks into has.
func needs(r *rule.Rule) audit.Level {
	level := r.Level
	match.Walk(r.Whole(), func(x match.Expr) {
		if p, ok := x.(*match.Pred); ok {
			if need := bodyLevel(p.Path); need != "" && !level.Covers(need) {
				level = need
			}
		}
	})
	return level
}

// bodyLevel is the lowest level whose events have the body that the path leads into; "" for other paths.
func bodyLevel(path string) audit.Level {
	switch {
	case strings.HasPrefix(path, "requestObject"):
		return audit.LevelRequest
	case strings.HasPrefix(path, "responseObject"):
		return audit.LevelRequestResponse
	}
	return ""
}

func stages(r *rule.Rule) string {
	var s []string
	for _, x := range r.Stages {
		s = append(s, string(x))
	}
	if s == nil {
		return "all"
	}
	return strings.Join(s, ", ")
}

// named are the resources that r names.
func named(r *rule.Rule) string {
	var names []string
	match.Walk(r.Whole(), func(x match.Expr) {
		if p, ok := x.(*match.Pred); ok && (p.Path == "objectRef.resource" || p.Path == "objectRef.subresource") {
			names = append(names, p.Values...)
		}
	})
	slices.Sort(names)
	if names = slices.Compact(names); len(names) == 0 {
		return "resources that it does not name"
	}
	return strings.Join(names[:min(len(names), 8)], ", ")
}

func (s Shape) object() string {
	o := s.Resource
	if o == "" {
		return "requests without a resource"
	}
	if s.Subresource != "" {
		o += "/" + s.Subresource
	}
	return o
}

func (s Shape) what() string { return s.Verb + " " + s.object() }

// possible finds a shape that may satisfy r when one of its parts is not looked at.
func (a *Arrivals) possible(r *rule.Rule, without part) (best Shape, ok bool) {
	x := r.Whole()
	for s := range a.shapes {
		if without != theLevel && !s.Level.Covers(r.Level) {
			continue
		}
		if eval(x, &s, without) != no && (!ok || less(s, best)) {
			best, ok = s, true // the least, so that the words do not depend on the map's order
		}
	}
	return best, ok
}

func less(a, b Shape) bool {
	return slices.Compare([]string{a.Resource, a.Subresource, a.Verb, string(a.Level), string(a.Stage), a.Group}, []string{b.Resource, b.Subresource, b.Verb, string(b.Level), string(b.Stage), b.Group}) < 0
}

// truth is three-valued: a shape does not decide everything.
type truth int8

const (
	no truth = iota
	maybe
	yes
)

func eval(x match.Expr, s *Shape, without part) truth {
	switch x := x.(type) {
	case nil:
		return yes
	case match.Const:
		if x {
			return yes
		}
		return no
	case match.And:
		out := yes
		for _, p := range x {
			out = min(out, eval(p, s, without))
		}
		return out
	case match.Or:
		out := no
		for _, p := range x {
			out = max(out, eval(p, s, without))
		}
		return out
	case match.Not:
		return yes - eval(x.X, s, without)
	case *match.Pred:
		return evalPred(x, s, without)
	}
	return maybe
}

func evalPred(p *match.Pred, s *Shape, without part) truth {
	var v string
	var of part
	switch p.Path {
	case "stage":
		v, of = string(s.Stage), theStage
	case "level":
		v, of = string(s.Level), theLevel
	case "verb":
		v, of = s.Verb, theVerb
	case "objectRef.resource":
		v, of = s.Resource, theResource
	case "objectRef.subresource":
		v, of = s.Subresource, theResource
	case "objectRef.apiGroup":
		v, of = s.Group, theResource
	default:
		if need := bodyLevel(p.Path); need != "" && !s.Level.Covers(need) && without != theLevel {
			return no
		}
		return maybe
	}
	switch {
	case of == without:
		return maybe
	case v != "" && p.Accepts(v):
		return yes
	}
	return no
}
