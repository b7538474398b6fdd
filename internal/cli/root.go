// Package cli is the command line: flags to questions and answers to text. Commands that only ask work on a server, straight on
// a data folder, or on log files.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"syscall"
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

// errClosed ends a command whose reader went away, as head does: there is nobody left to tell.
var errClosed = errors.New("nobody reads the output any more")

// pipe is an output whose reader may go away.
type pipe struct{ io.Writer }

func (p pipe) Write(b []byte) (int, error) {
	n, err := p.Writer.Write(b)
	if errors.Is(err, syscall.EPIPE) {
		err = errClosed
	}
	return n, err
}

// terminal reports whether w is one, and how wide.
func terminal(w io.Writer) (width int, ok bool) {
	if p, ok := w.(pipe); ok {
		w = p.Writer
	}
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

// Main is the program: it runs the process's command line until its end, SIGINT or SIGTERM, and returns the exit code.
func Main(version string) int {
	signal.Ignore(syscall.SIGPIPE) // a write to a closed pipe is an error like any other
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once, whatever holds up the first
	return Run(ctx, os.Args[1:], version, OS())
}

// Run executes one command line and returns its exit code. ctx ends it early (a signal).
func Run(ctx context.Context, args []string, version string, s Streams) int {
	s.Out = pipe{s.Out}
	c := &cmdline{Streams: s, version: version}
	root := c.root()
	root.SetArgs(args)
	root.SetIn(s.In)
	root.SetOut(s.Out)
	root.SetErr(s.Err)
	err := root.ExecuteContext(ctx)
	switch {
	case err == nil, errors.Is(err, errClosed):
		return ExitOK
	case errors.Is(err, errNothing), errors.Is(err, errFound):
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
	add("ask", c.whoCmd(), c.queryCmd(), c.tailCmd(), c.topCmd(), c.errorsCmd(), c.loadCmd(), c.findingsCmd(), c.alertsCmd(), c.scanCmd())
	add("run", c.serveCmd(), c.importCmd(), c.rulesCmd(), c.actCmd(), c.journalCmd(), c.tokenCmd(), c.passwordCmd(), c.webhookConfigCmd())
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return fmt.Errorf("%w; see '%s --help'", err, cmd.CommandPath())
	})
	helpful(root)
	return root
}

// helpful makes every command say where to look when its arguments are wrong.
func helpful(cmd *cobra.Command) {
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if err := check(cmd, args); err != nil {
				return fmt.Errorf("%w: usage: %s; see '%s --help'", err, cmd.UseLine(), cmd.CommandPath())
			}
			return nil
		}
	}
	for _, sub := range cmd.Commands() {
		helpful(sub)
	}
}

// count is a flag that takes a number from 0 on.
type count int

func (n *count) String() string { return strconv.Itoa(int(*n)) }
func (n *count) Type() string   { return "int" }
func (n *count) Set(s string) error {
	v, err := strconv.ParseUint(s, 10, 31)
	if err != nil {
		return errors.New("a whole number from 0 on is wanted")
	}
	*n = count(v)
	return nil
}

// limitFlag adds --limit, which every command that lists has.
func limitFlag(cmd *cobra.Command, to *int, otherwise int, of string) {
	*to = otherwise
	cmd.Flags().Var((*count)(to), "limit", "at most so many "+of+"; 0: all")
}
