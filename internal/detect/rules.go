package detect

import (
	"hash/maphash"
	"log/slog"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"whodunit/internal/rule"
)

// RulesOptions are what Rules needs. Current and Formats are wanted.
type RulesOptions struct {
	Layers  []rule.Layer // a rule of a later layer replaces one of the same id in an earlier layer
	Formats []rule.Format
	Current *rule.Current // where the set is put in force
	// Compiled is where its program is left for the detector; nil: it compiles the set itself. Program is how.
	Compiled *Compiled
	Program  ProgramOptions
	Metrics  *Metrics
	Logger   *slog.Logger
}

// Rules keeps a Current up to date with rule files. Safe for concurrent use.
type Rules struct {
	o RulesOptions

	mu       sync.Mutex
	files    map[string][]*rule.Rule // the good rules in force, by file
	problems []*rule.Problem
	said     map[string]bool // problems that the log has already

	single map[string]bool // folders of layers of one file
	hash   maphash.Seed
	print  uint64 // of the files when they were read last
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
	o.Layers = slices.Clone(o.Layers)
	r := &Rules{o: o, said: map[string]bool{}, hash: maphash.MakeSeed(), single: map[string]bool{}}
	for i, l := range o.Layers {
		if l.File != "" && l.Dir != "" {
			o.Layers[i].FS = &opened{FS: l.FS, names: map[string]bool{l.File: true}}
			r.single[filepath.Clean(l.Dir)] = true
		}
	}
	return r
}

// Reload reads every layer and puts the result in force. What is wrong is returned, and logged once until it changes. A file
// with a problem keeps those of its rules that were good before and that it does not bring anew; a folder that cannot be
// read keeps all of its rules.
func (r *Rules) Reload() []*rule.Problem {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.print = r.scan(nil) // before reading: what changes meanwhile shows as a difference later
	loaded := rule.Load(r.o.Layers, r.o.Formats...)
	kept := r.keep(loaded)
	set, problems := loaded.Set()
	problems = append(problems, loaded.Problems...)
	program, unfit := Compile(set, r.o.Program)
	problems = append(problems, unfit...)
	slices.SortFunc(problems, func(a, b *rule.Problem) int { return strings.Compare(a.Error(), b.Error()) })
	r.problems = problems
	if r.o.Compiled != nil {
		r.o.Compiled.p.Store(program)
	}
	r.o.Current.Store(set)
	r.say(set, kept)
	return problems
}

// keep adds to what was loaded the rules that were good before, of files that are broken now, and remembers the result.
func (r *Rules) keep(now *rule.Loaded) (kept int) {
	files := make(map[string][]*rule.Rule, len(now.Files))
	for _, f := range now.Files {
		files[f] = nil
	}
	for _, x := range now.Rules {
		files[x.File] = append(files[x.File], x)
	}
	broken := map[string]bool{}
	for _, p := range now.Problems {
		broken[p.File] = true
	}
	for file, before := range r.files {
		_, there := files[file]
		if !broken[file] && (there || !within(file, broken)) {
			continue
		}
		anew := map[string]bool{}
		for _, n := range files[file] {
			anew[n.ID] = true
		}
		for _, old := range before {
			if !anew[old.ID] {
				anew[old.ID] = true
				files[file] = append(files[file], old)
				now.Rules = append(now.Rules, old)
				kept++
			}
		}
	}
	r.files = files
	return kept
}

// within reports whether file is below a folder that could not be read.
func within(file string, broken map[string]bool) bool {
	for dir := path.Dir(file); dir != "." && dir != "/"; dir = path.Dir(dir) {
		if broken[dir] {
			return true
		}
	}
	return broken["."] || broken["/"]
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
