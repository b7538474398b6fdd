package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"whodunit/internal/app"
	"whodunit/internal/detect"
	"whodunit/internal/finding"
	"whodunit/internal/rule"
)

func (c *cmdline) rulesCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rules",
		Short: "List, show, check, test and convert detection rules, and tell what they cover",
		Long: `Detection rules of every format: whodunit's own, Falco's, Sigma's, Parseable's and labels. A file's format is recognised by its content, so a
folder may hold all of them.`,
		Example: "  whodunit rules list\n  whodunit rules test ./rules\n  whodunit rules coverage --policy audit-policy.yaml",
	}
	cmd.AddCommand(c.rulesListCmd(), c.rulesShowCmd(), c.rulesLintCmd(), c.rulesTestCmd(), c.rulesCoverageCmd(), c.rulesConvertCmd())
	return cmd
}

// ruleDoc is a rule as JSON.
type ruleDoc struct {
	ID             string           `json:"rule_id"`
	Title          string           `json:"rule"`
	Format         string           `json:"format"`
	Severity       finding.Severity `json:"severity"`
	Priority       string           `json:"priority,omitempty"`
	Level          string           `json:"level,omitempty"`
	Stages         []string         `json:"stages,omitempty"`
	Tags           []string         `json:"tags,omitempty"`
	Off            string           `json:"off,omitempty"`
	Place          string           `json:"place"`
	Description    string           `json:"description,omitempty"`
	GroupBy        []string         `json:"group_by,omitempty"`
	References     []string         `json:"references,omitempty"`
	FalsePositives []string         `json:"false_positives,omitempty"`
	Matches        string           `json:"matches,omitempty"`
	Correlates     []string         `json:"correlates,omitempty"`
	Tests          int              `json:"tests"`
}

func document(r *rule.Rule) ruleDoc {
	d := ruleDoc{ID: r.ID, Title: r.Title, Format: r.Format, Severity: r.Severity, Priority: r.Priority, Level: string(r.Level), Tags: r.Tags, Off: r.Off, Place: r.Where(),
		Description: strings.TrimSpace(r.Description), GroupBy: r.GroupBy, References: r.References, FalsePositives: r.FalsePositives, Tests: len(r.Tests)}
	for _, s := range r.Stages {
		d.Stages = append(d.Stages, string(s))
	}
	if r.Expr != nil {
		d.Matches = r.Expr.String()
		if r.Condition != nil {
			d.Matches += " and then its condition"
		}
	}
	if r.Correlation != nil {
		d.Correlates = append([]string{string(r.Correlation.Type)}, r.Correlation.Of...)
	}
	return d
}

func (c *cmdline) rulesListCmd() *cobra.Command {
	src := ruleSource{o: app.RuleOptions{Tests: true}}
	var form, tag string
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the rules: the shipped ones and those of --rules",
		Example: "  whodunit rules list --rules ./sigma --tag attack.t1552",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			loaded, set, problems, err := src.load()
			if err != nil {
				return err
			}
			sayProblems(c.Err, problems)
			rules := slices.DeleteFunc(effective(loaded, set), func(r *rule.Rule) bool {
				return r.Silent || tag != "" && !slices.ContainsFunc(r.Tags, func(t string) bool { return strings.HasPrefix(strings.ToLower(t), strings.ToLower(tag)) })
			})
			if form == "json" {
				return c.ruleLines(rules)
			}
			wide, _ := terminal(c.Out)
			t := newTable([]column{{name: "ID", pad: 36, share: 2}, {name: "SEVERITY", pad: 8}, {name: "FORMAT", pad: 9}, {name: "LEVEL", pad: 15, least: 100}, {name: "STATE", pad: 5}, {name: "TITLE", share: 3}}, wide)
			fmt.Fprintln(c.Out, t.header())
			for _, r := range rules {
				state := "on"
				if r.Off != "" {
					state = "off"
				}
				fmt.Fprintln(c.Out, t.row(r.ID, string(r.Severity), r.Format, string(r.Level), state, r.Title))
			}
			if len(rules) == 0 {
				return errNothing
			}
			return nil
		},
	}
	src.flags(cmd)
	outFlag(cmd, &form, "text", "json")
	cmd.Flags().StringVar(&tag, "tag", "", "only rules with a tag that begins so")
	return cmd
}

// encoder writes values as JSON, one a line.
func (c *cmdline) encoder() *json.Encoder {
	enc := json.NewEncoder(c.Out)
	enc.SetEscapeHTML(false)
	return enc
}

func (c *cmdline) ruleLines(rules []*rule.Rule) error {
	enc := c.encoder()
	for _, r := range rules {
		if err := enc.Encode(document(r)); err != nil {
			return err
		}
	}
	return nil
}

func (c *cmdline) rulesShowCmd() *cobra.Command {
	src := ruleSource{o: app.RuleOptions{Tests: true}}
	var form string
	cmd := &cobra.Command{
		Use:     "show RULE",
		Short:   "Show all of one rule, by its id or title",
		Example: "  whodunit rules show pod-exec",
		Args:    cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			loaded, set, _, err := src.load()
			if err != nil {
				return err
			}
			all := effective(loaded, set)
			var found []*rule.Rule
			var ids []string
			for _, r := range all {
				ids = append(ids, r.ID)
				if r.ID == args[0] || strings.EqualFold(r.Title, args[0]) {
					found = append(found, r)
				}
			}
			if len(found) == 0 {
				hint := "; 'whodunit rules list' shows them"
				if near := rule.Nearest(args[0], ids); near != "" {
					hint = fmt.Sprintf("; did you mean %q?", near)
				}
				return fmt.Errorf("no rule has the id or title %q%s", args[0], hint)
			}
			if form == "json" {
				return c.ruleLines(found)
			}
			for _, r := range found {
				showRule(c.Out, document(r))
			}
			return nil
		},
	}
	src.flags(cmd)
	outFlag(cmd, &form, "text", "json")
	return cmd
}

func showRule(w io.Writer, d ruleDoc) {
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(w, "%-16s %s\n", name, printable(value, false))
		}
	}
	list := func(name string, values []string) {
		for _, v := range values {
			line(name, v)
			name = ""
		}
	}
	line("id", d.ID)
	line("title", d.Title)
	line("format", d.Format)
	severity := string(d.Severity)
	if d.Priority != "" && !strings.EqualFold(d.Priority, severity) {
		severity += " (" + d.Priority + ")"
	}
	line("severity", severity)
	line("off", d.Off)
	line("place", d.Place)
	line("level", d.Level)
	line("stages", strings.Join(d.Stages, ", "))
	line("tags", strings.Join(d.Tags, ", "))
	line("group by", strings.Join(d.GroupBy, ", "))
	line("description", strings.Join(strings.Fields(d.Description), " "))
	line("matches", d.Matches)
	line("correlates", strings.Join(d.Correlates, " "))
	list("false positives", d.FalsePositives)
	list("references", d.References)
	line("tests", fmt.Sprint(d.Tests))
}

func (c *cmdline) rulesLintCmd() *cobra.Command {
	src := ruleSource{o: app.RuleOptions{Tests: true}}
	cmd := &cobra.Command{
		Use:   "lint PATH...",
		Short: "Say what is wrong with rule files",
		Long: `Reads rules as the server does, over the shipped ones, which overrides and correlations may name. Every problem is one line with file, line
and column. A rule that is off is named with its reason.

Exit status: 0 nothing is wrong, 1 something is, 2 trouble.`,
		Example: "  whodunit rules lint /etc/whodunit/rules",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			src.paths = args
			defer c.loading()()
			loaded, set, problems, err := src.load()
			if err != nil {
				return err
			}
			own := src.own(loaded)
			_, refused := detect.Compile(set, detect.ProgramOptions{})
			problems = append(problems, refused...)
			sayProblems(c.Out, problems)
			off := 0
			for _, r := range own {
				if r.Off != "" {
					off++
					fmt.Fprintln(c.Out, printable(fmt.Sprintf("%s: rule %s is off: %s", r.Where(), r.ID, r.Off), false))
				}
			}
			fmt.Fprintf(c.Out, "%s, %d off, %s\n", several(visible(own), "rule"), off, several(len(problems), "problem"))
			if len(problems) > 0 {
				return errFound
			}
			return nil
		},
	}
	src.how(cmd)
	return cmd
}

// visible counts the rules that a person wrote: not the silent parts of correlations.
func visible(rules []*rule.Rule) (n int) {
	for _, r := range rules {
		if !r.Silent || !strings.Contains(r.ID, "#") {
			n++
		}
	}
	return n
}

func several(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func (c *cmdline) rulesTestCmd() *cobra.Command {
	src := ruleSource{o: app.RuleOptions{Tests: true}}
	cmd := &cobra.Command{
		Use:   "test PATH...",
		Short: "Read rule files and run the tests that stand in them",
		Long: `Reads rules as the server does, over the shipped ones, which overrides and correlations may name, and runs the tests that stand beside them.
Every problem is one line with file, line and column. The server itself does not run these tests.

Exit status: 0 all passed, 1 something is wrong, 2 trouble.`,
		Example: "  whodunit rules test /etc/whodunit/rules",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			src.paths = args
			loaded, _, problems, err := src.load()
			if err != nil {
				return err
			}
			own, tests := src.own(loaded), 0
			for _, r := range own {
				tests += len(r.Tests)
			}
			problems = append(problems, detect.RunTests(own, detect.ProgramOptions{}, loaded.Rules...)...)
			sayProblems(c.Out, problems)
			fmt.Fprintf(c.Out, "%s, %s, %s\n", several(visible(own), "rule"), several(tests, "test"), several(len(problems), "problem"))
			if len(problems) > 0 {
				return errFound
			}
			return nil
		},
	}
	src.how(cmd)
	return cmd
}
