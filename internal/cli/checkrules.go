package cli

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"whodunit/internal/app"
	"whodunit/internal/rule"
)

// errRules ends check-rules where something was found; what it was has been printed.
var errRules = errors.New("the rules have problems")

func (c *cmdline) checkRulesCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "check-rules PATH...",
		Short: "Read rule files or folders, run the rules' own tests, and say what is wrong",
		Long: `Reads rules as the server does and runs the tests that stand beside them. Every problem is one line with file, line and column. The server
itself does not run these tests.`,
		Example: "  whodunit check-rules /etc/whodunit/rules",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			formats, err := app.RuleFormats(app.RuleOptions{})
			if err != nil {
				return err
			}
			var layers []rule.Layer
			for _, path := range args {
				l, err := rule.OpenLayer(path)
				if err != nil {
					return err
				}
				layers = append(layers, l)
			}
			loaded := rule.Load(layers, formats...)
			_, found := loaded.Set()
			found = append(loaded.Problems, found...)
			tests := 0
			for _, r := range loaded.Rules {
				tests += len(r.Tests)
				found = append(found, r.RunTests()...)
			}
			for _, p := range found {
				fmt.Fprintln(c.Out, printable(p.Error(), false))
			}
			rules, problems := len(loaded.Rules), len(found)
			fmt.Fprintf(c.Out, "%d rules, %d tests, %d problems\n", rules, tests, problems)
			if problems > 0 {
				return errRules
			}
			return nil
		},
	}
}
