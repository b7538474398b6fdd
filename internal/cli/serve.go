package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"whodunit/internal/app"
	"whodunit/internal/auth"
	"whodunit/internal/config"
)

func (c *cmdline) serveCmd() *cobra.Command {
	var path, data string
	var imports []string
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the server: take events in, keep them, detect, answer",
		Long: `Needs no configuration: it listens on 127.0.0.1:8443 for people and on 127.0.0.1:9443 for API servers, keeps its data under
~/.local/share/whodunit, and makes certificates and a first login, which it prints once. SIGHUP, or a change of the file, reloads the
configuration; SIGTERM ends it within ten seconds.`,
		Example: "  whodunit serve\n  whodunit serve --config /etc/whodunit/whodunit.yaml\n  kube-apiserver-logs | whodunit serve   # with stdin: true",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.serve(cmd.Context(), path, data, imports)
		},
	}
	cmd.Flags().StringVar(&path, "config", "", "configuration file (docs/reference/config.md)")
	cmd.Flags().StringVar(&data, "data", "", "the data folder; wins over the file and $WHODUNIT_DATA")
	cmd.Flags().StringArrayVar(&imports, "import", nil, "also read this finished log file; what is there already is dropped")
	return cmd
}

// gcPercent keeps the process small: most of its heap is the raw bytes of new events, which cost the collector nothing.
const gcPercent = 50

// loadConfig reads the configuration, or gives the defaults.
func loadConfig(path, data string) (config.Config, error) {
	cfg := config.Default()
	if path != "" {
		var err error
		if cfg, err = config.Load(path); err != nil {
			return cfg, err
		}
	}
	if data != "" {
		cfg.DataDir = data
	}
	return cfg, nil
}

func (c *cmdline) serve(ctx context.Context, path, data string, imports []string) (err error) {
	cfg, err := loadConfig(path, data)
	if err != nil {
		return err
	}
	if c.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if c.Getenv("GOMAXPROCS") == "" { // one more than there are cores: sealing holds one, at low priority
		runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + 1)
	}
	level := &slog.LevelVar{}
	level.Set(app.Level(cfg.Log.Level))
	a, err := app.New(app.Options{Config: cfg, Path: path, DataDir: data, Version: c.version, Stdin: c.In, Stdout: c.Out, Backfill: c.backfill(), Level: level, Log: c.logger(cfg.Log, level)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.Stop()) }()
	reload := make(chan os.Signal, 1)
	signal.Notify(reload, syscall.SIGHUP)
	defer signal.Stop(reload)
	a.Start(ctx)
	watched := make(chan struct{})
	wctx, stopWatch := context.WithCancel(ctx)
	go func() { a.WatchConfig(wctx); close(watched) }()
	defer func() { stopWatch(); <-watched }()
	if len(imports) > 0 { // before the welcome, so that what the rules say of the past does not bury it
		if err := c.importInto(ctx, a, cfg.Webhook.Cluster, imports); err != nil {
			return err
		}
	}
	c.welcome(a, cfg)
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-a.Failed():
			return err
		case <-reload:
			_ = a.Reload() // said in the log
		}
	}
}

func (c *cmdline) logger(l config.Log, level *slog.LevelVar) *slog.Logger {
	o := &slog.HandlerOptions{Level: level}
	if l.Format == "json" {
		return slog.New(slog.NewJSONHandler(c.Err, o))
	}
	return slog.New(slog.NewTextHandler(c.Err, o))
}

// backfillFrom is how much of a followed file must be waiting for a progress bar to be worth while.
const backfillFrom = 8 << 20

// backfill shows on a terminal how far a followed file is read, nil elsewhere.
func (c *cmdline) backfill() func(path string, done, total int64) {
	if _, tty := terminal(c.Err); !tty {
		return nil
	}
	var mu sync.Mutex
	var shown time.Time
	drawn := map[string]bool{}
	return func(path string, done, total int64) {
		mu.Lock()
		defer mu.Unlock()
		switch now := c.Now(); {
		case done >= total && drawn[path]:
			delete(drawn, path)
			fmt.Fprintf(c.Err, "\r\x1b[K%s: read to its end\n", printable(path, false))
		case total-done > backfillFrom && now.Sub(shown) > 200*time.Millisecond:
			shown, drawn[path] = now, true
			fmt.Fprintf(c.Err, "\r\x1b[K%s: %d%% of %d MB", printable(path, false), done*100/total, total>>20)
		}
	}
}

// welcome says where the server is, and on its first start, how to get in.
func (c *cmdline) welcome(a *app.App, cfg config.Config) {
	fmt.Fprintf(c.Out, "whodunit %s\n  web page and API   %s\n", c.version, a.URL())
	if u := a.WebhookURL(); u != "" {
		fmt.Fprintf(c.Out, "  webhook            %s (for kube-apiserver --audit-webhook-config-file)\n", u)
	}
	fmt.Fprintf(c.Out, "  data               %s\n", cfg.DataDir)
	if cfg.Server.TLS.Mode == "generated" {
		fmt.Fprintf(c.Out, "  authority          %s (your browser will ask once; curl --cacert)\n", filepath.Join(cfg.DataDir, "tls", "ca.crt"))
	}
	if first := a.FirstLogin(); first.Created {
		fmt.Fprintf(c.Out, "\nFirst start. These are shown once and kept only as hashes:\n  login              %s\n  password           %s\n  webhook token      %s\n",
			first.User, first.Password, first.IngestToken)
	}
	fmt.Fprintln(c.Out)
}

func (c *cmdline) importInto(ctx context.Context, a *app.App, cluster string, paths []string) error {
	bar := c.progress(paths)
	n, err := a.Import(ctx, cluster, paths, bar.add)
	bar.done()
	if err != nil {
		return err
	}
	settled, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := a.Settle(settled); err != nil && ctx.Err() != nil {
		return nil // ended by the person
	}
	fmt.Fprintf(c.Out, "%d events read from %d files\n", n, len(paths))
	return nil
}

func (c *cmdline) importCmd() *cobra.Command {
	var data, cluster string
	cmd := &cobra.Command{
		Use:   "import FILE...",
		Short: "Read finished log files into a data folder that no server uses",
		Long: `Reads audit logs of one event a line, plain, gzip or zstd; - is standard input. Lines that are no events are set aside in rejects/ and
counted. Events that are there already are dropped, so a file may be read twice. While a server runs, use its files: or --import.`,
		Example: "  whodunit import /var/log/kubernetes/audit*.log.gz\n  zcat old.gz | whodunit import -",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			bar := c.progress(args)
			r, err := app.ImportInto(cmd.Context(), app.ImportOptions{DataDir: c.dataDir(data), Cluster: cluster, Paths: args, Stdin: c.In,
				Progress: bar.add, Log: slog.New(slog.NewTextHandler(c.Err, &slog.HandlerOptions{Level: slog.LevelWarn}))})
			bar.done()
			if err != nil {
				return err
			}
			fmt.Fprintf(c.Out, "%d events read, %d of them new, %d lines set aside\n", r.Read, r.New, r.Rejected)
			return nil
		},
	}
	cmd.Flags().StringVar(&data, "data", "", "the data folder ($WHODUNIT_DATA)")
	cmd.Flags().StringVar(&cluster, "cluster", "default", "the cluster that the events are from")
	return cmd
}

func (c *cmdline) tokenCmd() *cobra.Command {
	var data, name string
	var scopes []string
	var ttl string
	cmd := &cobra.Command{
		Use:   "token",
		Short: "Make an API token in a data folder that no server uses",
		Long: `Prints a new token, once. A running server makes tokens at POST /api/v1/tokens. Scopes: read; operate, to silence alerts and send test
alerts; ingest; admin, which is all of them.`,
		Example: `  whodunit token --name grafana --scope read
  whodunit token --name apiserver-prod --scope ingest --expires 365d`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			a, unlock, err := c.users(data)
			if err != nil {
				return err
			}
			defer unlock()
			var list []auth.Scope
			for _, s := range scopes {
				list = append(list, auth.Scope(s))
			}
			d, err := config.ParseDuration(ttl)
			if err != nil || d < 0 {
				return fmt.Errorf("cannot read --expires: %q is no duration such as 12h or 90d", ttl)
			}
			var expires time.Time
			if d > 0 {
				expires = c.Now().Add(d.Std())
			}
			_, secret, err := a.CreateToken(name, list, expires)
			if err != nil {
				return err
			}
			fmt.Fprintln(c.Out, secret)
			return nil
		},
	}
	cmd.Flags().StringVar(&data, "data", "", "the data folder ($WHODUNIT_DATA)")
	cmd.Flags().StringVar(&name, "name", "cli", "what the token is for")
	cmd.Flags().StringSliceVar(&scopes, "scope", []string{"read"}, "what it may do: read, operate, ingest, admin")
	cmd.Flags().StringVar(&ttl, "expires", "0", "how long it is good for, such as 12h or 90d; 0: until it is deleted")
	return cmd
}
