package cli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"whodunit/internal/rule"
	"whodunit/internal/rule/native"
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
			format, err := native.New()
			if err != nil {
				return err
			}
			var rules, tests, problems int
			for _, path := range args {
				files, err := ruleFiles(path, format)
				if err != nil {
					return err
				}
				var all []*rule.Rule
				var found []*rule.Problem
				for _, f := range files {
					found = append(found, f.Problems...)
					all = append(all, f.Rules...)
				}
				_, twice := rule.NewSet(all)
				found = append(found, twice...)
				for _, r := range all {
					tests += len(r.Tests)
					found = append(found, r.RunTests()...)
				}
				for _, p := range found {
					fmt.Fprintln(c.Out, printable(p.Error(), false))
				}
				rules, problems = rules+len(all), problems+len(found)
			}
			fmt.Fprintf(c.Out, "%d rules, %d tests, %d problems\n", rules, tests, problems)
			if problems > 0 {
				return errRules
			}
			return nil
		},
	}
}

// ruleFiles reads a folder of rules or one file; problems name the path as it was given.
func ruleFiles(path string, format rule.Format) ([]rule.File, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read rules: %w", err)
	}
	dir := path
	var files []rule.File
	if info.IsDir() {
		files = rule.Load(os.DirFS(dir), format)
	} else {
		dir = filepath.Dir(path)
		files = []rule.File{rule.LoadFile(os.DirFS(dir), filepath.Base(path), format)}
	}
	for _, f := range files {
		for _, p := range f.Problems {
			p.File = filepath.Join(dir, p.File)
		}
		for _, r := range f.Rules {
			r.File = filepath.Join(dir, r.File)
		}
	}
	return files, nil
}
