// Package cli is the command line: flags to questions and answers to text. Commands that only ask work on a server, straight on
// a data folder, or on log files.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// Exit codes. They are part of the interface.
const (
	ExitOK      = 0
	ExitNothing = 1 // a question was answered, and nothing was found
	ExitTrouble = 2 // anything else
)

// errNothing ends a command that found nothing.
var errNothing = errors.New("nothing found")

// Streams are what a command talks to.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
	Getenv   func(string) string
	Now      func() time.Time
}

// OS are the process's own streams.
func OS() Streams {
	return Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Getenv: os.Getenv, Now: time.Now}
}

// terminal reports whether w is one, and how wide.
func terminal(w io.Writer) (width int, ok bool) {
	f, isFile := w.(*os.File)
	if !isFile || !term.IsTerminal(int(f.Fd())) {
		return 0, false
	}
	width, _, err := term.GetSize(int(f.Fd()))
	if err != nil || width <= 0 {
		width = 120
	}
	return width, true
}

// cmdline is what all commands share.
type cmdline struct {
	Streams
	version string
}

// Run executes one command line and returns its exit code. ctx ends it early (a signal).
func Run(ctx context.Context, args []string, version string, s Streams) int {
	c := &cmdline{Streams: s, version: version}
	root := c.root()
	root.SetArgs(args)
	root.SetIn(s.In)
	root.SetOut(s.Out)
	root.SetErr(s.Err)
	err := root.ExecuteContext(ctx)
	switch {
	case err == nil:
		return ExitOK
	case errors.Is(err, errNothing):
		return ExitNothing
	case errors.Is(err, context.Canceled) && ctx.Err() != nil:
		return ExitTrouble
	}
	fmt.Fprintf(s.Err, "whodunit: %s\n", printable(err.Error(), true))
	return ExitTrouble
}

func (c *cmdline) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "whodunit",
		Short: "Who did what in a Kubernetes cluster, and should somebody be woken up",
		Long: `whodunit keeps the audit events of Kubernetes API servers and answers: who did what, to which object, when, from where, was it allowed,
and what changed.

Commands that ask look, in this order, at the FILEs they are given, at --server (or $WHODUNIT_SERVER), at the data folder --data (or
$WHODUNIT_DATA, or the default one of this user).

Exit status: 0 found, 1 nothing found, 2 trouble.`,
		Example: `  whodunit serve
  whodunit who deleted deploy/checkout -n shop
  whodunit query 'verb:delete and resource:secrets' --since 24h
  whodunit query 'code >= 400' audit.log.gz -o json`,
		SilenceUsage: true, SilenceErrors: true, Version: c.version,
	}
	root.SetVersionTemplate("whodunit {{.Version}}\n")
	root.AddGroup(&cobra.Group{ID: "ask", Title: "Ask:"}, &cobra.Group{ID: "run", Title: "Run:"})
	add := func(group string, cmds ...*cobra.Command) {
		for _, cmd := range cmds {
			cmd.GroupID = group
			root.AddCommand(cmd)
		}
	}
	add("ask", c.whoCmd(), c.queryCmd(), c.tailCmd(), c.topCmd(), c.errorsCmd(), c.loadCmd(), c.findingsCmd())
	add("run", c.serveCmd(), c.importCmd(), c.journalCmd(), c.tokenCmd(), c.webhookConfigCmd())
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return fmt.Errorf("%w; see '%s --help'", err, cmd.CommandPath())
	})
	return root
}
