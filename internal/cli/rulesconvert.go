package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"whodunit/internal/app"
)

func (c *cmdline) rulesConvertCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "convert PATH...",
		Short: "Write rules of any format as whodunit's own",
		Long: `Reads rules of any format and writes each that can be said in CEL as a native rule with the same meaning, to standard output. What cannot is named on standard
error, with the reason; such a rule runs as it is all the same.

Exit status: 0 all were converted, 1 some were not, 2 trouble.`,
		Example: "  whodunit rules convert ./sigma > converted.yaml",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			src := ruleSource{paths: args}
			loaded, set, problems, err := src.load()
			if err != nil {
				return err
			}
			sayProblems(c.Err, problems)
			format, err := app.NativeFormat(src.o)
			if err != nil {
				return err
			}
			missed, written := len(problems), 0
			for _, r := range effective(loaded, set) {
				text, err := format.Encode(r)
				if err != nil {
					missed++
					fmt.Fprintln(c.Err, printable(fmt.Sprintf("%s: rule %s is not converted: %v", r.Where(), r.ID, err), false))
					continue
				}
				if written++; written > 1 {
					fmt.Fprintln(c.Out, "---")
				}
				fmt.Fprint(c.Out, string(text))
			}
			if missed > 0 {
				return errFound
			}
			return nil
		},
	}
}
