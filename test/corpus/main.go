// Command corpus plays a story on a real cluster (test/e2e/cluster) and keeps the audit log that the API server wrote of it. record.sh runs it
// where it can have the addresses that it needs; README.md tells the stories.
package main

import (
	"bufio"
	"context"
	"embed"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"whodunit/test/e2e/cluster"
)

//go:embed benign-policy.yaml attack-policy.yaml manifests/*.yaml
var files embed.FS

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "corpus:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) (err error) {
	name := flag.String("story", "", "benign or attack")
	out := flag.String("out", "audit.log", "file to write the audit log to")
	commands := flag.String("commands", "", "file to write the attack's commands to, one JSON object a row of the catalogue and command")
	length := flag.Duration("for", 12*time.Minute, "how long the benign story is")
	flag.Parse()
	story, ok := map[string]func(context.Context, *player, time.Duration) error{"benign": benign, "attack": attack}[*name]
	if !ok {
		return fmt.Errorf("no story %q", *name)
	}
	cfg, err := config(*name)
	if err != nil {
		return err
	}
	if cfg.Binary, err = cluster.Build(ctx); err != nil {
		return err
	}
	c, err := cluster.Start(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Stop()) }()
	p := newPlayer(c, os.Stderr)
	if err := story(ctx, p, *length); err != nil {
		c.Keep()
		return fmt.Errorf("%w\nthe cluster's files are in %s", err, c.Dir)
	}
	if err := c.StopAPIServer(); err != nil {
		return err
	}
	events, err := c.AuditLog()
	if err != nil {
		return err
	}
	if *commands != "" {
		lines, err := p.commands(events)
		if err != nil {
			return err
		}
		if err := os.WriteFile(*commands, lines, 0o644); err != nil {
			return err
		}
	}
	return write(events, *out)
}

// config is the cluster of a story. Its own user, admin, is not in the log: see the policies.
func config(name string) (cluster.Config, error) {
	policy, err := files.ReadFile(name + "-policy.yaml")
	if err != nil {
		return cluster.Config{}, err
	}
	rbac, err := files.ReadFile("manifests/users.yaml")
	if err != nil {
		return cluster.Config{}, err
	}
	cfg := cluster.Config{Policy: policy, RBAC: rbac, Nodes: []string{"cp-1", "node-1", "node-2", "node-3"}, From: addresses(), Users: users(),
		Kubelets: "10.10.0.10",
		Flags:    []string{"--allow-privileged", "--enable-bootstrap-token-auth", "--enable-admission-plugins=NodeRestriction"}}
	return cfg, nil
}

func write(events []cluster.Logged, out string) error {
	f, err := os.Create(out)
	if err != nil {
		return err
	}
	defer f.Close()
	w := bufio.NewWriter(f)
	size := 0
	for _, e := range events {
		size += len(e.Raw) + 1
		w.Write(e.Raw)
		w.WriteByte('\n')
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "corpus: %d events, %d bytes\n", len(events), size)
	return f.Close()
}
