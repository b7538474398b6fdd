package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"whodunit/internal/audit"
	"whodunit/internal/config"
	"whodunit/internal/journal"
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
	f := cmd.Flags()
	f.StringVar(&t.server, "server", "", "ask the whodunit server at this URL ($WHODUNIT_SERVER)")
	f.StringVar(&t.token, "token-file", "", "file with an API token for --server (or the token itself in $WHODUNIT_TOKEN)")
	f.StringVar(&t.user, "user", "", "log in to --server as this user; the password comes from $WHODUNIT_PASSWORD or is asked for")
	f.StringVar(&t.ca, "ca-file", "", "trust this authority for --server; by default that of the local data folder and the system's")
	f.StringVar(&t.data, "data", "", "ask straight on this data folder ($WHODUNIT_DATA)")
	f.StringVar(&t.cluster, "cluster", "", "only events of this cluster; for FILEs, the cluster they are from")
	t.rangeFlags(cmd)
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

// folder opens a journal for each question, so that it always sees what has come in.
type folder string

func (f folder) Snapshot() (*journal.Snapshot, error) { return journal.OpenReadOnly(string(f)) }

func (c *cmdline) openData(t *target) (*opened, error) {
	dir := c.dataDir(t.data)
	name := "events"
	if t.findings {
		name = "findings"
	}
	path := filepath.Join(dir, name)
	if _, err := os.Stat(filepath.Join(path, "wal")); err != nil {
		return nil, fmt.Errorf("there is no journal in %s: name a data folder with --data, a server with --server, or log files", dir)
	}
	src := folder(path)
	s := segmentstore.New(src, segmentstore.Options{})
	return &opened{Searcher: s, where: path, close: func() error { return nil }, tail: src.tail}, nil
}

// tailEvery is how often a data folder is looked at for new events.
const tailEvery = 500 * time.Millisecond

// tail hands on what comes in from now on.
func (f folder) tail(ctx context.Context, q store.Query, yield func(*audit.Record) error) error {
	next := uint64(0)
	tick := time.NewTicker(tailEvery)
	defer tick.Stop()
	for {
		var err error
		if next, err = f.since(ctx, next, q.Expr, yield); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// since hands on the matching records from sequence number next on and returns the one behind the last. next 0 only finds the end.
func (f folder) since(ctx context.Context, next uint64, e match.Expr, yield func(*audit.Record) error) (uint64, error) {
	s, err := journal.OpenReadOnly(string(f))
	if err != nil {
		return next, err
	}
	defer s.Close()
	emit := func(records []audit.Record) error {
		for i := range records {
			r := &records[i]
			if r.Seq < next || next == 0 {
				continue
			}
			if match.Eval(e, &r.Event) {
				if err := yield(r); err != nil {
					return err
				}
			}
		}
		return nil
	}
	end := max(next, 1)
	for _, seg := range s.Segments {
		if m := seg.Meta(); m.MaxSeq >= next {
			if next > 0 {
				if _, err := seg.Scan(ctx, next, emit); err != nil {
					return next, err
				}
			}
			end = max(end, m.MaxSeq+1)
		}
	}
	for _, b := range s.Head {
		if b.Last >= next {
			if next > 0 {
				records, _, err := b.Load()
				if err == nil {
					err = emit(records)
				}
				if err != nil {
					return next, err
				}
			}
			end = max(end, b.Last+1)
		}
	}
	return end, nil
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

func (c *cmdline) openServer(t *target) (*opened, error) {
	o := remote.Options{URL: t.server, CAFile: t.ca, User: t.user, Token: c.Getenv("WHODUNIT_TOKEN"), UserAgent: "whodunit/" + c.version}
	if t.token != "" {
		token, err := config.ReadSecret(t.token)
		if err != nil {
			return nil, err
		}
		o.Token = token
	}
	if o.User != "" {
		o.Password = c.Getenv("WHODUNIT_PASSWORD")
		if o.Password == "" {
			p, err := c.askPassword(o.User)
			if err != nil {
				return nil, err
			}
			o.Password = p
		}
	}
	if own := filepath.Join(c.dataDir(t.data), "tls", "ca.crt"); o.CAFile == "" {
		if _, err := os.Stat(own); err == nil {
			o.CAFile = own
		}
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
