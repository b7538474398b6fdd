package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"whodunit/internal/audit"
	"whodunit/internal/coverage"
	"whodunit/internal/envelope"
	"whodunit/internal/rule"
	"whodunit/internal/source/lines"
)

func (c *cmdline) rulesCoverageCmd() *cobra.Command {
	var src ruleSource
	var form, policy string
	var corpus []string
	cmd := &cobra.Command{
		Use:   "coverage",
		Short: "Tell which techniques the rules look for, and which rules can never fire on what arrives",
		Long: `Counts the techniques of MITRE ATT&CK (its matrix for containers) and of Microsoft's threat matrix for Kubernetes that the tags of the rules name.

With --corpus or --policy it says instead which rules can never fire on the events of those files, or on what that audit policy lets the API server
record, and why: the level, the stage, the verb or the resource does not arrive. It looks at these alone, so what it does not name may still never fire.

Exit status: 0; with --corpus or --policy 1 where a rule can never fire; 2 trouble.`,
		Example: "  whodunit rules coverage\n  whodunit rules coverage --corpus audit.log.zst --rules ./sigma\n  whodunit rules coverage --policy audit-policy.yaml",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, set, problems, err := src.load()
			if err != nil {
				return err
			}
			sayProblems(c.Err, problems)
			switch {
			case policy != "" && len(corpus) > 0:
				return errors.New("--policy and --corpus are two questions: ask one at a time")
			case policy != "":
				text, err := os.ReadFile(policy)
				if err != nil {
					return fmt.Errorf("cannot read audit policy: %w", err)
				}
				a, err := coverage.Policy(text, set.Rules())
				if err != nil {
					return err
				}
				return c.blind(form, a, fmt.Sprintf("what %s lets through", policy), set.Rules())
			case len(corpus) > 0:
				a, err := c.arrivals(cmd.Context(), corpus)
				if err != nil {
					return err
				}
				return c.blind(form, a, several(a.Events(), "event"), set.Rules())
			}
			return c.matrices(form, set.Rules())
		},
	}
	src.flags(cmd)
	outFlag(cmd, &form, "text", "json")
	cmd.Flags().StringArrayVar(&corpus, "corpus", nil, "a file of audit events, plain or compressed; may be given again")
	cmd.Flags().StringVar(&policy, "policy", "", "a Kubernetes audit policy")
	return cmd
}

// arrivals reads the events of files.
func (c *cmdline) arrivals(ctx context.Context, paths []string) (*coverage.Arrivals, error) {
	a := coverage.NewArrivals()
	bad := &badLines{}
	bar := c.progress(paths)
	defer bar.done()
	for _, p := range paths {
		if err := eachEvent(ctx, p, func(n int64, l lines.Line) {
			bar.add(p, l.Size+1)
			r, err := envelope.Any("", l.Bytes)
			if err != nil && len(l.Bytes) > 0 {
				bad.add(p, n, err)
			}
			for i := range r.Events {
				if r.Events[i].Kind != audit.KindFinding {
					a.Add(&r.Events[i])
				}
			}
		}); err != nil {
			return nil, err
		}
	}
	bad.report(c.Err)
	if a.Events() == 0 {
		return nil, errors.New("the files hold no audit events")
	}
	return a, nil
}

// eachEvent hands on the lines of a file, numbered from 1.
func eachEvent(ctx context.Context, path string, f func(n int64, l lines.Line)) error {
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("cannot read events: %w", err)
	}
	defer file.Close()
	in, _, err := lines.Decode(file)
	if err != nil {
		return fmt.Errorf("cannot read %s: %w", path, err)
	}
	defer in.Close()
	r := lines.NewReader(in, audit.MaxEventBytes, 0)
	for n := int64(1); ; n++ {
		l, err := r.Next()
		if errors.Is(err, io.EOF) {
			if l, ok := r.Rest(); ok {
				f(n, l)
			}
			return nil
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return fmt.Errorf("cannot read %s: %w", path, err)
		}
		f(n, l)
	}
}

type blindDoc struct {
	ID     string `json:"rule_id"`
	Title  string `json:"rule"`
	Format string `json:"format"`
	Level  string `json:"level,omitempty"`
	Reason string `json:"reason"`
}

// blind writes the rules that can never fire.
func (c *cmdline) blind(form string, a *coverage.Arrivals, on string, rules []*rule.Rule) error {
	blind, err := a.Blind(rules)
	if err != nil {
		return err
	}
	if form == "json" {
		enc := c.encoder()
		for _, b := range blind {
			if err := enc.Encode(blindDoc{b.Rule.ID, b.Rule.Title, b.Rule.Format, string(b.Rule.Level), b.Reason}); err != nil {
				return err
			}
		}
	} else {
		wide, _ := terminal(c.Out)
		t := newTable([]column{{name: "RULE", pad: 36, share: 2}, {name: "WHY IT CAN NEVER FIRE", share: 3}}, wide)
		if len(blind) > 0 {
			fmt.Fprintln(c.Out, t.header())
		}
		for _, b := range blind {
			fmt.Fprintln(c.Out, t.row(b.Rule.ID, b.Reason))
		}
		fmt.Fprintln(c.Out, printable(fmt.Sprintf("%d of %s can never fire on %s", len(blind), several(visible(rules), "rule"), on), false))
	}
	if len(blind) > 0 {
		return errFound
	}
	return nil
}

type matrixDoc struct {
	Matrix     string         `json:"matrix"`
	Source     string         `json:"source"`
	Techniques int            `json:"techniques"`
	Covered    int            `json:"covered"`
	Each       []techniqueDoc `json:"each"`
	Others     []string       `json:"others,omitempty"`
}

type techniqueDoc struct {
	ID      string   `json:"id"`
	Name    string   `json:"name"`
	Tactics []string `json:"tactics"`
	Rules   []string `json:"rules"`
	Unseen  string   `json:"unseen,omitempty"`
}

// matrices writes what the rules' tags name.
func (c *cmdline) matrices(form string, rules []*rule.Rule) error {
	enc := c.encoder()
	for _, m := range []*coverage.Matrix{coverage.Attack(), coverage.ThreatMatrix()} {
		others := m.Cover(rules)
		if form == "json" {
			d := matrixDoc{m.Name, m.Source, len(m.Techniques), m.Covered(), nil, others}
			for _, t := range m.Techniques {
				d.Each = append(d.Each, techniqueDoc{t.ID, t.Name, t.Tactics, append([]string{}, t.Rules...), t.Unseen})
			}
			if err := enc.Encode(d); err != nil {
				return err
			}
			continue
		}
		fmt.Fprintf(c.Out, "%s: %d of %d techniques have a rule\n", m.Name, m.Covered(), len(m.Techniques))
		wide, _ := terminal(c.Out)
		tab := newTable([]column{{name: "ID", pad: 9}, {name: "RULES", pad: 5}, {name: "TECHNIQUE", pad: 48, share: 2}, {name: "", share: 3, least: 100}}, wide)
		fmt.Fprintln(c.Out, tab.header())
		for _, t := range m.Techniques {
			note := strings.Join(t.Rules, " ")
			if len(t.Rules) == 0 && t.Unseen != "" {
				note = "not seen in audit events: " + t.Unseen
			}
			fmt.Fprintln(c.Out, tab.row(t.ID, fmt.Sprint(len(t.Rules)), t.Name, note))
		}
		if len(others) > 0 {
			fmt.Fprintln(c.Out, "other techniques that tags name: "+printable(strings.Join(others, ", "), false))
		}
		fmt.Fprintln(c.Out)
	}
	return nil
}
