package native

import (
	"path"
	"slices"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"

	"whodunit/internal/audit"
	"whodunit/internal/match"
)

// below walks into objects; false where there is nothing.
func (f *frame) below(v val, names ...string) (val, bool) {
	for _, n := range names {
		if v.k != kObject {
			return val{}, false
		}
		var found bool
		if v, found = f.find(v, n); !found {
			return val{}, false
		}
	}
	return v, true
}

// podSpecs is the function of this name for conditions, as the others below.
func (f *frame) podSpecs(v val) val {
	if !f.isRequest(v) {
		return f.findSpecs(v)
	}
	if f.known.specs.k == kNone {
		found := f.lasting(f.findSpecs(v))
		if f.budget <= 0 { // they may not be all
			return found
		}
		f.known.specs = found
	}
	return f.known.specs
}

// lasting is a list that outlives the evaluation.
func (f *frame) lasting(v val) val { return val{k: kList, list: slices.Clone(v.list)} }

func (f *frame) findSpecs(v val) val {
	spec, _ := f.below(v, "spec")
	template, _ := f.below(spec, "template", "spec")
	job, _ := f.below(spec, "jobTemplate", "spec", "template", "spec")
	bare, _ := f.below(v, "template", "spec")
	return f.gather(func() {
		for _, s := range []val{spec, template, job, bare} {
			if s.k == kObject {
				f.arena = append(f.arena, s)
			}
		}
	})
}

func (f *frame) containers(v val) val {
	if !f.isRequest(v) {
		return f.findContainers(v)
	}
	if f.known.containers.k == kNone {
		found := f.lasting(f.findContainers(v))
		if f.budget <= 0 { // it may not be all
			return found
		}
		f.known.containers = found
	}
	return f.known.containers
}

func (f *frame) findContainers(v val) val {
	specs := f.podSpecs(v)
	return f.gather(func() {
		for _, spec := range specs.list {
			for _, kind := range []string{"containers", "initContainers", "ephemeralContainers"} {
				if l, ok := f.below(spec, kind); ok && l.k == kArray {
					f.each(l, func(c val) bool { f.arena = append(f.arena, c); return true })
				}
			}
		}
	})
}

func (f *frame) images(v val) val {
	containers := f.containers(v)
	return f.gather(func() {
		from := len(f.arena)
		var seen map[string]bool // of many, as looking through all for each would take the square of their number
		for _, c := range containers.list {
			s, ok := f.below(c, "image")
			if !ok || s.k != kString || s.s == "" || !f.spend(len(s.s)) {
				continue
			}
			if seen == nil && len(f.arena)-from >= 32 {
				seen = make(map[string]bool, len(containers.list))
				for _, o := range f.arena[from:] {
					seen[o.s] = true
				}
			}
			if seen[s.s] || seen == nil && slices.ContainsFunc(f.arena[from:], func(o val) bool { return o.s == s.s }) {
				continue
			}
			if seen != nil {
				seen[s.s] = true
			}
			f.arena = append(f.arena, s)
		}
	})
}

func (f *frame) hostPaths(v val) val {
	specs := f.podSpecs(v)
	var out []string
	for _, spec := range specs.list {
		if l, ok := f.below(spec, "volumes"); ok && l.k == kArray {
			f.each(l, func(v val) bool {
				if s, ok := f.below(v, "hostPath", "path"); ok && s.k == kString {
					out = append(out, path.Clean(s.s))
				}
				return true
			})
		}
	}
	slices.Sort(out)
	return stringList(slices.Compact(out))
}

// eventCall compiles the searches' view of the event, where its arguments are constants.
func (k *fastCompiler) eventCall(fn string, exprs []ast.Expr) term {
	if len(exprs) < 2 || pathOf(exprs[0]) != eventVariable {
		return nil
	}
	arg, ok := (deriver{consts: k.consts}).constant(exprs[1]).(types.String)
	if !ok {
		return nil
	}
	name := string(arg)
	test := func(g func(ev *audit.Event) bool) term {
		return func(f *frame) val {
			f.spend(len(f.ev.Raw))
			return boolVal(g(f.ev))
		}
	}
	switch fn {
	case "exists":
		return test(func(ev *audit.Event) bool { return match.Has(ev, name) })
	case "present":
		return test(func(ev *audit.Event) bool { return match.IsPresent(ev, name) })
	case "text":
		word := &match.Text{Word: name}
		if len(exprs) == 3 {
			open, ok := (deriver{consts: k.consts}).constant(exprs[2]).(types.Bool)
			if !ok {
				return nil
			}
			word.Open = bool(open)
		}
		return test(func(ev *audit.Event) bool { return word.Occurs(ev.Raw) })
	case "values":
		return func(f *frame) val {
			f.spend(len(f.ev.Raw))
			return f.gather(func() {
				for v := range match.Values(f.ev, name) {
					f.arena = append(f.arena, stringVal(v))
				}
			})
		}
	}
	return nil
}
