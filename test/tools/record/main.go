// Command record plays a small story on a real cluster (test/e2e/cluster) and keeps the audit log that the API server wrote of it:
//
//	go run ./test/tools/record -out examples/shop.log.zst -commands examples/shop.commands.jsonl
//
// It takes about five minutes: controllers and kubelets are to do their ordinary work between the acts. story.go says what
// happens; examples/README.md tells it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/klauspost/compress/zstd"

	"whodunit/test/e2e/cluster"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "record:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) (err error) {
	out := flag.String("out", "examples/shop.log.zst", "file to write the audit log to, compressed with zstd")
	commands := flag.String("commands", "", "file to write the story's commands to, one JSON object a line, with the audit ids of their requests")
	pause := flag.Duration("pause", 8*time.Second, "quiet time between the acts")
	flag.Parse()
	bin, err := cluster.Build(ctx)
	if err != nil {
		return err
	}
	c, err := cluster.Start(ctx, cluster.Config{Binary: bin, Nodes: []string{"node-1", "node-2", "node-3"}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Stop()) }()
	t := &teller{c: c, pause: *pause, say: os.Stderr}
	if err := t.tell(ctx); err != nil {
		c.Keep()
		return fmt.Errorf("%w\nthe cluster's files are in %s", err, c.Dir)
	}
	if err := c.StopAPIServer(); err != nil {
		return err
	}
	if *commands != "" {
		if err := os.WriteFile(*commands, t.log.Bytes(), 0o644); err != nil {
			return err
		}
	}
	return compress(c, *out)
}

func compress(c *cluster.Cluster, out string) error {
	events, err := c.AuditLog()
	if err != nil {
		return err
	}
	f, err := os.Create(out)
	if err != nil {
		return err
	}
	defer f.Close()
	w, err := zstd.NewWriter(f, zstd.WithEncoderLevel(zstd.SpeedBestCompression))
	if err != nil {
		return err
	}
	size := 0
	for _, e := range events {
		size += len(e.Raw) + 1
		if _, err := w.Write(append(e.Raw, '\n')); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "record: %d events, %d bytes, in %s\n", len(events), size, out)
	return f.Close()
}
