// Package sigma reads Sigma rules, correlations and filters (Sigma specification v2.1.0,
// https://github.com/SigmaHQ/sigma-specification). docs/reference/rules-sigma.md says where the specification leaves a choice and which is made.
package sigma

import (
	"cmp"
	"hash/maphash"
	"maps"
	"slices"

	"go.yaml.in/yaml/v3"

	"whodunit/internal/rule"
)

// Options of the front end.
type Options struct {
	// Generic: events are any JSON objects, so rules of every log source are loaded, and the log source is no condition.
	Generic bool
	// WebsocketVerbs: a rule that asks for the verb create on exec, attach or portforward is matched by get as well, which kubectl sends since
	// version 1.30 (port-forward 1.31).
	WebsocketVerbs bool
	Placeholders   map[string][]string // values of %name%, for the modifier expand; they may hold wildcards
	Fields         map[string]string   // field names in rules to paths of the event
}

// Format is the front end; it implements rule.Format. Safe for concurrent use.
type Format struct {
	o     Options
	views *views
}

// New makes the front end. It keeps o's maps, which must not be changed.
func New(o Options) *Format { return &Format{o, &views{seed: maphash.MakeSeed()}} }

// Name implements rule.Format.
func (f *Format) Name() string { return "sigma" }

// Claims implements rule.Format: a mapping with one of Sigma's own sections.
func (f *Format) Claims(doc *yaml.Node) bool {
	for k, v := range pairs(doc) {
		switch v = resolve(v); k.Value {
		case "detection", "logsource":
			return true
		case "correlation", "filter":
			if v.Kind == yaml.MappingNode {
				return true
			}
		}
	}
	return false
}

// Loader implements rule.Format.
func (f *Format) Loader() rule.Loader {
	return &loader{
		c:  compiler{o: f.o, views: f.views, targets: map[string]*target{}, strings: map[string]string{}},
		by: map[string][]*draft{},
	}
}

// loader gathers rules; correlations and filters wait for all.
type loader struct {
	c        compiler
	drafts   []*draft
	by       map[string][]*draft // by id and by name
	late     []*late
	problems []*rule.Problem
	looked   int // how often nearest was asked
}

// draft is a rule and what filters and correlations must know of it.
type draft struct {
	rule      *rule.Rule
	logsource logsource
	broken    bool // its problem is told already
	used      bool // a correlation looks at it
	generate  bool // and wants its findings all the same
	state     int  // of the search for cycles: 1 on the way, 2 done
	of        []*draft
}

// late is a correlation or a filter.
type late struct {
	at    rule.Place
	doc   *yaml.Node
	draft *draft // nil: a filter
}

// Add implements rule.Loader.
func (l *loader) Add(at rule.Place, doc *yaml.Node) {
	doc = resolve(doc)
	if n := field(doc, "filter"); n != nil && field(doc, "detection") == nil && field(doc, "correlation") == nil {
		l.late = append(l.late, &late{at: at, doc: doc})
		return
	}
	d := &draft{}
	var err error
	if d.rule, err = l.header(at, doc); err == nil {
		d.logsource = l.logsource(field(doc, "logsource"))
		if field(doc, "correlation") != nil {
			l.late = append(l.late, &late{at: at, doc: doc, draft: d})
		} else {
			err = l.plain(d, doc)
		}
	}
	if err != nil {
		d.broken = true
		l.problems = append(l.problems, problem(at, d.rule.ID, doc, err))
	}
	l.drafts = append(l.drafts, d)
	keys := []string{d.rule.ID}
	if n := field(doc, "name"); n != nil && n.Value != "" && n.Value != d.rule.ID {
		keys = append(keys, l.c.intern(n.Value))
	}
	for _, k := range keys {
		l.by[k] = append(l.by[k], d)
	}
}

// Finish implements rule.Loader.
func (l *loader) Finish() ([]*rule.Rule, []*rule.Problem) {
	for _, w := range l.late {
		if w.draft == nil {
			l.filter(w)
		}
	}
	for _, w := range l.late {
		if w.draft != nil {
			if err := l.correlation(w.draft, w.doc); err != nil {
				l.drop(w, err)
			}
		}
	}
	for changed := true; changed; { // what looks at a broken rule is broken, too
		changed = false
		for _, w := range l.late {
			if w.draft != nil && !w.draft.broken {
				if err := l.settle(w.draft); err != nil {
					l.drop(w, err)
					changed = true
				}
			}
		}
	}
	var rules []*rule.Rule
	for _, d := range l.drafts {
		if d.broken {
			continue
		}
		d.rule.Silent = d.used && !d.generate
		rules = append(rules, d.rule)
	}
	slices.SortStableFunc(l.problems, func(a, b *rule.Problem) int { return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line)) })
	return rules, l.problems
}

func (l *loader) drop(w *late, err error) {
	w.draft.broken = true
	l.problems = append(l.problems, problem(w.at, w.draft.rule.ID, w.doc, err))
}

// find is the rule of that id or name: of several the one of the last layer, which is in force.
func (l *loader) find(ref string) *draft {
	all := l.by[ref]
	if len(all) == 0 {
		return nil
	}
	best := all[0]
	for _, d := range all[1:] {
		if d.rule.Layer > best.rule.Layer || best.broken && !d.broken {
			best = d
		}
	}
	return best
}

// nearest is a known id or name like ref. Only the first few are looked for: with many rules it takes a while.
func (l *loader) nearest(ref string) string {
	const most = 20
	if l.looked++; l.looked > most {
		return ""
	}
	return rule.Nearest(ref, slices.Sorted(maps.Keys(l.by)))
}
