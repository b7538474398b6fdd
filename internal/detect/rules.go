package detect

import (
	"hash/maphash"
	"io/fs"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"whodunit/internal/rule"
)

// Layer is one place that rules come from.
type Layer struct {
	Name string // for messages: "shipped", or the folder's path
	FS   fs.FS
	Dir  string // the folder to watch for changes; "" for none
}

// RulesOptions are what Rules needs. Current and Formats are wanted.
type RulesOptions struct {
	Layers  []Layer // a rule of a later layer replaces one of the same id in an earlier layer
	Formats []rule.Format
	Current *rule.Current // where the set is put in force
	Metrics *Metrics
	Logger  *slog.Logger
}

// Rules keeps a Current up to date with rule files. Safe for concurrent use.
type Rules struct {
	o RulesOptions

	mu       sync.Mutex
	files    []map[string]rule.File // the good rules in force, by layer and path
	problems []*rule.Problem
	said     map[string]bool // problems that the log has already

	hash  maphash.Seed
	print uint64 // of the files when they were read last
}

// NewRules reads nothing yet: call Reload.
func NewRules(o RulesOptions) *Rules {
	if o.Metrics == nil {
		o.Metrics = NewMetrics(nil)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	o.Logger = o.Logger.With("component", "rules")
	return &Rules{o: o, files: make([]map[string]rule.File, len(o.Layers)), said: map[string]bool{}, hash: maphash.MakeSeed()}
}

// Reload reads every layer and puts the result in force. What is wrong is returned, and logged once until it changes. A file
// with a problem keeps those of its rules that were good before and that it does not bring anew; a folder that cannot be
// read keeps all of its rules.
func (r *Rules) Reload() []*rule.Problem {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.print = r.scan(nil) // before reading: what changes meanwhile shows as a difference later
	var problems []*rule.Problem
	var set *rule.Set
	kept := 0
	for i, l := range r.o.Layers {
		files, n := merge(r.files[i], rule.Load(l.FS, r.o.Formats...))
		kept += n
		r.files[i] = files
		var rules []*rule.Rule
		for _, f := range files {
			rules = append(rules, f.Rules...)
			problems = append(problems, in(l, f.Problems)...)
		}
		var twice []*rule.Problem
		set, twice = rule.Over(set, rules)
		problems = append(problems, in(l, twice)...)
	}
	slices.SortFunc(problems, func(a, b *rule.Problem) int { return strings.Compare(a.Error(), b.Error()) })
	r.problems = problems
	r.o.Current.Store(set)
	r.say(set, kept)
	return problems
}

// in names the layer in the problems' file.
func in(l Layer, ps []*rule.Problem) []*rule.Problem {
	out := make([]*rule.Problem, len(ps))
	for i, p := range ps {
		c := *p
		c.File = l.Name + "/" + p.File
		out[i] = &c
	}
	return out
}

// merge fills what is broken in now from what was good before.
func merge(before map[string]rule.File, now []rule.File) (files map[string]rule.File, kept int) {
	files = make(map[string]rule.File, len(now))
	var broken []string
	for _, f := range now {
		if len(f.Problems) > 0 {
			broken = append(broken, f.Path)
			for _, old := range before[f.Path].Rules {
				if !slices.ContainsFunc(f.Rules, func(n *rule.Rule) bool { return n.ID == old.ID }) {
					f.Rules = append(f.Rules, old)
					kept++
				}
			}
		}
		files[f.Path] = f
	}
	for path, f := range before {
		if _, ok := files[path]; ok || len(f.Rules) == 0 {
			continue
		}
		if slices.ContainsFunc(broken, func(dir string) bool { return dir == "." || strings.HasPrefix(path, dir+"/") }) {
			f.Problems = nil
			files[path] = f
			kept += len(f.Rules)
		}
	}
	return files, kept
}

func (r *Rules) say(set *rule.Set, kept int) {
	result := "ok"
	if len(r.problems) > 0 {
		result = "partial"
	}
	r.o.Metrics.Reloads.WithLabelValues(result).Inc()
	r.o.Metrics.Rules.Set(float64(len(set.Rules())))
	r.o.Metrics.Problems.Set(float64(len(r.problems)))
	said := make(map[string]bool, len(r.problems))
	for _, p := range r.problems {
		text := p.Error()
		if !r.said[text] && !said[text] {
			r.o.Logger.Error("rule file has a problem", "problem", text)
		}
		said[text] = true
	}
	r.said = said
	r.o.Logger.Info("rules read", "rules", len(set.Rules()), "problems", len(r.problems), "kept_from_before", kept)
}

// Problems is what was wrong at the last Reload.
func (r *Rules) Problems() []*rule.Problem {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.problems)
}
