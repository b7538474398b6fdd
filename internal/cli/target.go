package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"whodunit/internal/audit"
	"whodunit/internal/config"
	"whodunit/internal/match"
	"whodunit/internal/query"
	"whodunit/internal/store"
	"whodunit/internal/store/file"
	"whodunit/internal/store/remote"
	segmentstore "whodunit/internal/store/segment"
)

// target says where a question goes.
type target struct {
	server, token, user, ca, data, cluster string
	findings                               bool
	since, until                           string
	files                                  []string
}

func (t *target) flags(cmd *cobra.Command) {
	t.serverFlags(cmd.Flags())
	f := cmd.Flags()
	f.StringVar(&t.data, "data", "", "ask straight on this data folder ($WHODUNIT_DATA)")
	f.StringVar(&t.cluster, "cluster", "", "only events of this cluster; for FILEs, the cluster they are from")
	t.rangeFlags(cmd)
}

func (t *target) serverFlags(f *pflag.FlagSet) {
	f.StringVar(&t.server, "server", "", "ask the whodunit server at this URL ($WHODUNIT_SERVER)")
	f.StringVar(&t.token, "token-file", "", "file with an API token for --server (or the token itself in $WHODUNIT_TOKEN)")
	f.StringVar(&t.user, "user", "", "log in to --server as this user; the password comes from $WHODUNIT_PASSWORD or is asked for")
	f.StringVar(&t.ca, "ca-file", "", "trust this authority for --server; by default that of the local data folder and the system's")
}

func (t *target) rangeFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&t.since, "since", "", "from this time on: 15m, 24h, 7d, 2w, today, 2026-11-21, RFC 3339")
	cmd.Flags().StringVar(&t.until, "until", "", "up to this time, as --since")
}

// opened is a target ready to be asked.
type opened struct {
	store.Searcher
	where string
	tail  func(ctx context.Context, q store.Query, yield func(*audit.Record) error) error
	close func() error
	bad   *badLines // of files
}

// open makes the target ready. FILEs win over the server, the server over the data folder.
func (c *cmdline) open(t *target) (*opened, error) {
	if len(t.files) > 0 {
		return c.openFiles(t)
	}
	if t.server == "" && t.data == "" {
		t.server = c.Getenv("WHODUNIT_SERVER")
	}
	if t.server != "" {
		return c.openServer(t)
	}
	return c.openData(t)
}

// dataDir is the data folder of a command.
func (c *cmdline) dataDir(flag string) string {
	if flag != "" {
		return flag
	}
	return config.Default().DataDir
}

// lost says that a tail has a gap here.
func (c *cmdline) lost(events int64) {
	fmt.Fprintf(c.Err, "whodunit: %d events are missing here; a search shows them if they are kept\n", events)
}

func (c *cmdline) openData(t *target) (*opened, error) {
	dir := c.dataDir(t.data)
	name := "events"
	if t.findings {
		name = "findings"
	}
	path := filepath.Join(dir, name)
	if _, err := os.Stat(filepath.Join(path, "wal")); err != nil {
		if _, err := os.Stat(filepath.Join(dir, "events", "wal")); t.findings && err == nil {
			return nil, fmt.Errorf("there are no findings in %s yet: the rules run when `whodunit serve` does", dir)
		}
		return nil, fmt.Errorf("there is no journal in %s: name a data folder with --data, a server with --server, or log files", dir)
	}
	src := folder{path, c.lost}
	s := segmentstore.New(src, segmentstore.Options{Distinct: true})
	return &opened{Searcher: s, where: path, close: func() error { return nil }, tail: src.tail}, nil
}

func (c *cmdline) openFiles(t *target) (*opened, error) {
	if t.findings {
		return nil, errors.New("findings are in a data folder or on a server, not in log files")
	}
	cluster := t.cluster
	if cluster == "" {
		cluster = "default"
	}
	bad := &badLines{}
	bar := c.progress(t.files)
	s := file.New(file.Options{Paths: t.files, Stdin: c.In, Cluster: cluster, Bad: bad.add, Progress: bar.add})
	return &opened{Searcher: s, where: "files", bad: bad, close: func() error {
		bar.done()
		bad.report(c.Err)
		return nil
	}, tail: func(context.Context, store.Query, func(*audit.Record) error) error {
		return errors.New("tail follows a server or a data folder; to follow a log file, let `whodunit serve` read it")
	}}, nil
}

// serverOptions says how t's server is asked.
func (c *cmdline) serverOptions(t *target) (remote.Options, error) {
	o := remote.Options{URL: t.server, CAFile: t.ca, User: t.user, Token: c.Getenv("WHODUNIT_TOKEN"), UserAgent: "whodunit/" + c.version, OnDropped: c.lost}
	if t.token != "" {
		token, err := config.ReadSecret(t.token)
		if err != nil {
			return o, err
		}
		o.Token = token
	}
	if o.User != "" {
		o.Password = c.Getenv("WHODUNIT_PASSWORD")
		if o.Password == "" {
			p, err := c.askPassword(o.User)
			if err != nil {
				return o, err
			}
			o.Password = p
		}
	}
	if own := c.ownAuthority(t); o.CAFile == "" {
		if _, err := os.Stat(own); err == nil {
			o.CAFile = own
		}
	}
	return o, nil
}

// ownAuthority is where a server that uses the data folder keeps the authority it made.
func (c *cmdline) ownAuthority(t *target) string {
	return filepath.Join(c.dataDir(t.data), "tls", "ca.crt")
}

func (c *cmdline) openServer(t *target) (*opened, error) {
	o, err := c.serverOptions(t)
	if err != nil {
		return nil, err
	}
	s, err := remote.New(o)
	if err != nil {
		return nil, err
	}
	set := s
	if t.findings {
		set = s.Findings()
	}
	return &opened{Searcher: set, where: t.server, tail: set.Tail, close: func() error { s.Close(); return nil }}, nil
}

// expr reads the query and the common flags.
func (t *target) expr(q string, now time.Time) (e match.Expr, r query.Range, err error) {
	if e, err = query.Parse(q); err != nil {
		return nil, r, err
	}
	if t.cluster != "" && len(t.files) == 0 {
		e = match.And{e, &match.Pred{Path: "cluster", Op: match.Equal, Values: []string{t.cluster}}}
	}
	r, err = query.ParseRange(t.since, t.until, now)
	return e, r, err
}
