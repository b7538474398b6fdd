package rule

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
)

// Set is an immutable group of rules with distinct ids, in the order of file, then line. Safe for concurrent use.
type Set struct {
	rules []*Rule
	byID  map[string]*Rule
}

// NewSet makes a set. Of rules with the same id the first (by file, then line) stays; each other is left out and is a Problem.
// Rules that are off are left out, too, once that is settled.
func NewSet(rules []*Rule) (*Set, []*Problem) {
	sorted := slices.Clone(rules)
	slices.SortStableFunc(sorted, func(a, b *Rule) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line))
	})
	s := &Set{byID: make(map[string]*Rule, len(sorted))}
	var problems []*Problem
	for _, r := range sorted {
		if first := s.byID[r.ID]; first != nil {
			problems = append(problems, &Problem{File: r.File, Line: r.Line, Column: r.Column, Rule: r.ID,
				Text: fmt.Sprintf("id is used already at %s; every rule needs an id of its own", first.Where())})
			continue
		}
		s.byID[r.ID] = r
		s.rules = append(s.rules, r)
	}
	return s.without(func(r *Rule) bool { return r.Off != "" }), problems
}

// Rules is every rule in order. The slice must not be changed.
func (s *Set) Rules() []*Rule {
	if s == nil {
		return nil
	}
	return s.rules
}

// Get is the rule with that id, nil if there is none.
func (s *Set) Get(id string) *Rule {
	if s == nil {
		return nil
	}
	return s.byID[id]
}

// Current holds the set in force. The zero value holds none. Safe for concurrent use.
type Current struct{ p atomic.Pointer[Set] }

// Load is the set in force, nil before the first Store.
func (c *Current) Load() *Set { return c.p.Load() }

// Store puts s in force for every evaluation that begins afterwards.
func (c *Current) Store(s *Set) { c.p.Store(s) }

// Over is base with rules on top: a rule of base whose id one of rules has, on or off, is replaced, and so are the silent rules `id#1`,
// `id#2` that stand for parts of it. base may be nil.
func Over(base *Set, rules []*Rule) (*Set, []*Problem) {
	ids := map[string]bool{}
	for _, r := range rules {
		ids[r.ID] = true
	}
	top, problems := NewSet(rules)
	out := base.without(func(r *Rule) bool {
		whole, _, _ := strings.Cut(r.ID, "#")
		return ids[r.ID] || r.Silent && ids[whole]
	})
	for _, r := range top.rules {
		out.rules, out.byID[r.ID] = append(out.rules, r), r
	}
	return out, problems
}

// without is a copy of s that lacks some rules.
func (s *Set) without(drop func(*Rule) bool) *Set {
	out := &Set{byID: map[string]*Rule{}}
	for _, r := range s.Rules() {
		if !drop(r) {
			out.rules, out.byID[r.ID] = append(out.rules, r), r
		}
	}
	return out
}
