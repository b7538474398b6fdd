package cli

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

var update = flag.Bool("update", false, "write docs/reference/cli.md")

// TestReference keeps docs/reference/cli.md what the commands say of themselves.
func TestReference(t *testing.T) {
	c := &cmdline{Streams: OS(), version: "test"}
	var b bytes.Buffer
	root := c.root()
	fmt.Fprintf(&b, "# Command line\n\nGenerated from the commands by `go test ./internal/cli -update`; do not edit.\n\n%s\n\n%s", root.Long, `Errors go to standard error and say what to do next. Times are UTC, on a terminal those of its zone; what an event says is shown with
its control characters escaped. On a terminal, rows are cut to its width; elsewhere nothing is cut. A search that ends early because
its reader does (`+"`| head`"+`) is no error.

Environment: `+"`WHODUNIT_SERVER`, `WHODUNIT_TOKEN`, `WHODUNIT_PASSWORD`, `WHODUNIT_DATA`"+`, each where no flag says otherwise.
`+"`whodunit completion bash|zsh|fish|powershell`"+` prints a completion script.

`)
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		if cmd.Hidden || cmd.Name() == "help" || cmd.Name() == "completion" {
			return
		}
		if cmd.HasParent() {
			describe(&b, cmd)
		}
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	walk(root)
	path := filepath.FromSlash("../../docs/reference/cli.md")
	got := strings.TrimRight(b.String(), "\n") + "\n"
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("%s is not what the commands say; run this test with -update (-file +commands):\n%s", path, d)
	}
}

func describe(b *bytes.Buffer, cmd *cobra.Command) {
	fmt.Fprintf(b, "## %s\n\n    %s\n\n%s.", strings.TrimPrefix(cmd.CommandPath(), "whodunit "), cmd.UseLine(), cmd.Short)
	if cmd.Long != "" {
		fmt.Fprintf(b, " %s", cmd.Long)
	}
	b.WriteString("\n\n")
	if cmd.Example != "" {
		fmt.Fprintf(b, "```sh\n%s\n```\n\n", strings.ReplaceAll("\n"+cmd.Example, "\n  ", "\n")[1:])
	}
	var rows []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) { rows = append(rows, flagRow(f)) })
	cmd.InheritedFlags().VisitAll(func(f *pflag.Flag) { rows = append(rows, flagRow(f)) })
	if len(rows) > 0 {
		fmt.Fprintf(b, "| flag | default | |\n| --- | --- | --- |\n%s\n\n", strings.Join(rows, "\n"))
	}
}

func flagRow(f *pflag.Flag) string {
	name := "`--" + f.Name + "`"
	if f.Shorthand != "" {
		name = "`-" + f.Shorthand + "`, " + name
	}
	value := strings.Trim(f.DefValue, "[]")
	if value != "" {
		value = "`" + value + "`"
	}
	return fmt.Sprintf("| %s | %s | %s |", name, value, strings.ReplaceAll(f.Usage, "|", `\|`))
}
