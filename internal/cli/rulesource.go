package cli

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"whodunit/internal/app"
	"whodunit/internal/rule"
)

// errFound ends a command that found what it looks for, and has said so: exit status 1, as of grep the other way round.
var errFound = errors.New("problems were found")

// ruleSource says where a command's rules come from.
type ruleSource struct {
	paths   []string
	shipped bool // beside the paths
	o       app.RuleOptions

	placeholders []string
}

// flags adds --rules and how rules are read.
func (s *ruleSource) flags(cmd *cobra.Command) {
	cmd.Flags().StringArrayVar(&s.paths, "rules", nil, "read rules from this file or folder too, of any format; may be given again")
	s.how(cmd)
}

// how adds the flags that say how rules are read, --no-default-rules among them.
func (s *ruleSource) how(cmd *cobra.Command) {
	s.shipped = true
	cmd.Flags().StringVar(&s.o.FalcoCompat, "falco-compat", "corrected", "read the fields that Falco's own plugin gets wrong as they should be (corrected), or as it does (upstream)")
	_ = cmd.RegisterFlagCompletionFunc("falco-compat", cobra.FixedCompletions([]string{"corrected", "upstream"}, cobra.ShellCompDirectiveNoFileComp))
	cmd.Flags().BoolVar(&s.o.NoWebsocketVerbs, "no-websocket-verbs", false, "Sigma rules that ask for create on exec, attach and portforward do not mean get as well")
	cmd.Flags().StringArrayVar(&s.placeholders, "placeholder", nil, "NAME=VALUE: what Sigma's |expand puts in for %NAME%; may be given again")
	cmd.Flags().BoolFunc("no-default-rules", "leave out the rules that come with whodunit", func(string) error { s.shipped = false; return nil })
}

// load reads the rules. Problems with single rules are not an error.
func (s *ruleSource) load() (*rule.Loaded, *rule.Set, []*rule.Problem, error) {
	for _, p := range s.placeholders {
		name, value, ok := strings.Cut(p, "=")
		if !ok || name == "" {
			return nil, nil, nil, fmt.Errorf("--placeholder %q: NAME=VALUE is expected", p)
		}
		if s.o.SigmaPlaceholders == nil {
			s.o.SigmaPlaceholders = map[string][]string{}
		}
		s.o.SigmaPlaceholders[strings.Trim(name, "%")] = append(s.o.SigmaPlaceholders[strings.Trim(name, "%")], value)
	}
	formats, err := app.RuleFormats(s.o)
	if err != nil {
		return nil, nil, nil, err
	}
	var layers []rule.Layer
	if s.shipped {
		layers = append(layers, app.ShippedRules())
	}
	for _, p := range s.paths {
		l, err := rule.OpenLayer(p)
		if err != nil {
			return nil, nil, nil, err
		}
		layers = append(layers, l)
	}
	loaded := rule.Load(layers, formats...)
	set, twice := loaded.Set()
	problems := append(slices.Clone(loaded.Problems), twice...)
	slices.SortStableFunc(problems, func(a, b *rule.Problem) int {
		return cmp.Or(strings.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return loaded, set, problems, nil
}

// own are the rules of the paths.
func (s *ruleSource) own(loaded *rule.Loaded) []*rule.Rule {
	if !s.shipped {
		return loaded.Rules
	}
	return slices.DeleteFunc(slices.Clone(loaded.Rules), func(r *rule.Rule) bool { return r.Layer == 0 })
}

// effective is every rule that stands, rules that are off included: of the same id in several layers the last.
func effective(loaded *rule.Loaded, set *rule.Set) []*rule.Rule {
	out := slices.Clone(set.Rules())
	last := map[string]*rule.Rule{}
	for _, r := range loaded.Rules {
		if old := last[r.ID]; old == nil || r.Layer > old.Layer {
			last[r.ID] = r
		}
	}
	for _, r := range loaded.Rules {
		if r.Off != "" && last[r.ID] == r {
			out = append(out, r)
		}
	}
	return out
}

// sayProblems writes one line a problem.
func sayProblems(w io.Writer, problems []*rule.Problem) {
	for _, p := range problems {
		fmt.Fprintln(w, printable(p.Error(), false))
	}
}
