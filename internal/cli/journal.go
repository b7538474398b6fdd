package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"whodunit/internal/journal"
)

// errProblems ends a check that found something wrong; it was said already.
var errProblems = errors.New("the journal has problems; 'whodunit journal repair' sets damaged files aside and keeps what can be read")

func (c *cmdline) journalCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "journal",
		Short: "Look at, check and repair the data folder's journals",
		Long: `The data folder holds two journals, events and findings. info and check change nothing and may run while a server uses the folder;
repair needs it alone.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			return fmt.Errorf("unknown command %q for %q: it has info, check and repair", args[0], cmd.CommandPath())
		},
	}
	var data, form string
	cmd.PersistentFlags().StringVar(&data, "data", "", "the data folder ($WHODUNIT_DATA)")
	each := func(use, short, example string, f func(cmd *cobra.Command, dir string) (any, error)) *cobra.Command {
		sub := &cobra.Command{Use: use, Short: short, Example: example, Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
			return c.eachJournal(c.dataDir(data), form, use == "check", func(dir string) (any, error) { return f(cmd, dir) })
		}}
		outFlag(sub, &form, "text", "json")
		return sub
	}
	cmd.AddCommand(
		each("info", "What is kept: events, time span, size, readers", "  whodunit journal info\n  whodunit journal info --data /var/lib/whodunit -o json",
			func(_ *cobra.Command, dir string) (any, error) { return journal.InfoReadOnly(dir) }),
		each("check", "Read every byte and say what is damaged or missing", "  whodunit journal check",
			func(cmd *cobra.Command, dir string) (any, error) {
				bar := c.progress(journalFiles(dir))
				defer bar.done()
				return journal.Check(cmd.Context(), dir, bar.add)
			}),
		each("repair", "Set damaged files aside and bring back what can be read", "  whodunit journal repair",
			func(cmd *cobra.Command, dir string) (any, error) { return c.repair(cmd.Context(), dir) }),
	)
	return cmd
}

func journalFiles(dir string) []string {
	a, _ := filepath.Glob(filepath.Join(dir, "segments", "*.parquet")) // the patterns are good
	b, _ := filepath.Glob(filepath.Join(dir, "wal", "*.wal"))
	return append(a, b...)
}

func (c *cmdline) repair(ctx context.Context, dir string) (any, error) {
	o := journal.DefaultOptions()
	o.MinFree = 1
	o.IDReuse = filepath.Base(dir) == "events"
	o.Log = slog.New(slog.NewTextHandler(c.Err, nil))
	return journal.Repair(ctx, dir, o)
}

// eachJournal runs f on both journals of a data folder, or on the one that dir itself is. With check, problems are an error.
func (c *cmdline) eachJournal(data, form string, check bool, f func(dir string) (any, error)) error {
	var dirs []string
	for _, d := range []string{filepath.Join(data, "events"), filepath.Join(data, "findings"), data} {
		if _, err := os.Stat(filepath.Join(d, "wal")); err == nil {
			dirs = append(dirs, d)
		}
	}
	if len(dirs) == 0 {
		return fmt.Errorf("there is no journal in %s: name a data folder with --data", data)
	}
	bad := false
	for _, d := range dirs {
		got, err := f(d)
		if err != nil {
			return err
		}
		if r, ok := got.(*journal.Report); ok && check {
			bad = bad || !r.OK()
		}
		if form == "json" {
			b, err := json.Marshal(got)
			if err != nil {
				return fmt.Errorf("cannot write JSON: %w", err)
			}
			fmt.Fprintf(c.Out, "%s\n", b)
			continue
		}
		c.showJournal(got, check)
	}
	if bad {
		return errProblems
	}
	return nil
}

// shownProblems is how many problems of one file are shown as text, shownFiles of how many files.
const shownProblems, shownFiles = 10, 50

// showProblems writes the first problems of each file; -o json has them all.
func (c *cmdline) showProblems(problems []journal.Problem) {
	var files []string
	of := map[string][]journal.Problem{}
	for _, p := range problems {
		if of[p.File] == nil {
			files = append(files, p.File)
		}
		of[p.File] = append(of[p.File], p)
	}
	for i, f := range files {
		if i == shownFiles {
			fmt.Fprintf(c.Out, "  and problems in %d more files: -o json shows all\n", len(files)-i)
			return
		}
		for k, p := range of[f] {
			if k == shownProblems {
				c.more(f, of[f][k:])
				break
			}
			word := "note"
			if p.Fatal {
				word = "LOST"
			}
			fmt.Fprintf(c.Out, "  %s  %s: %s", word, printable(p.File, false), printable(p.What, false))
			if p.Events > 0 {
				fmt.Fprintf(c.Out, " (%d events)", p.Events)
			}
			fmt.Fprintln(c.Out)
		}
	}
}

// more sums up the problems of a file that are not shown one by one.
func (c *cmdline) more(file string, rest []journal.Problem) {
	word, events := "note", int64(0)
	for _, p := range rest {
		events += p.Events
		if p.Fatal {
			word = "LOST"
		}
	}
	fmt.Fprintf(c.Out, "  %s  %s: and %d more", word, printable(file, false), len(rest))
	if events > 0 {
		fmt.Fprintf(c.Out, " (%d events)", events)
	}
	fmt.Fprintln(c.Out)
}

func (c *cmdline) showJournal(got any, check bool) {
	switch j := got.(type) {
	case *journal.Report:
		fmt.Fprintf(c.Out, "%s: %d events readable in %d segments and %d WAL files\n", printable(j.Dir, false), j.Events, j.Segments, j.WALFiles)
		c.showProblems(j.Problems)
		switch {
		case len(j.Problems) == 0:
			fmt.Fprintln(c.Out, "  nothing is damaged or missing")
		case j.OK() && check:
			fmt.Fprintln(c.Out, "  no event is lost; repair mends it")
		}
	case journal.Info:
		when := func(micros int64) string {
			if micros == 0 {
				return "-"
			}
			return time.UnixMicro(micros).UTC().Format(time.RFC3339)
		}
		w := tabwriter.NewWriter(c.Out, 0, 0, 2, ' ', 0)
		fmt.Fprintf(w, "%s\t\n", printable(j.Dir, false))
		fmt.Fprintf(w, "  events\t%d (%d not sealed yet)\n", j.Events, j.Unsealed)
		fmt.Fprintf(w, "  numbered\t%d to %d\n", j.FirstSeq, j.LastSeq)
		fmt.Fprintf(w, "  from\t%s\n  to\t%s\n", when(j.Oldest), when(j.Newest))
		fmt.Fprintf(w, "  raw\t%.1f MB\n  on disk\t%.1f MB in %d segments\n", float64(j.RawBytes)/1e6, float64(j.DiskBytes)/1e6, j.Segments)
		for _, r := range j.Cursors {
			fmt.Fprintf(w, "  reader %s\tat %d, %d behind\n", printable(r.Name, false), r.Next, r.Lag)
		}
		_ = w.Flush()
	}
}
