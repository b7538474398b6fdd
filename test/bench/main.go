// Command bench measures the figures of docs/performance.md on the real program and writes them: it starts `whodunit serve`, sends
// a million real events by webhook as kube-apiserver does, and asks. Every figure comes from this one run.
//
//	go run ./test/bench -bin bin/whodunit -o docs/performance.md
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"time"

	"whodunit/test/bench/section"
)

type options struct {
	bin, out, corpus, dir string
	events, rate          int
	seconds               int
}

func main() {
	var o options
	flag.StringVar(&o.bin, "bin", "bin/whodunit", "the program")
	flag.StringVar(&o.out, "o", "", "write the result here; it is always printed")
	flag.StringVar(&o.corpus, "corpus", corpusPath(), "recorded events to repeat")
	flag.StringVar(&o.dir, "dir", "", "work here instead of in a temporary folder")
	flag.IntVar(&o.events, "events", 1_000_000, "how many events")
	flag.IntVar(&o.rate, "rate", 1000, "single events a second for the latency of acknowledgements")
	flag.IntVar(&o.seconds, "seconds", 20, "how long that is measured")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func corpusPath() string {
	root := os.Getenv("WHODUNIT_SHARED")
	if root == "" {
		root = "../shared"
	}
	return filepath.Join(root, "data", "audit", "apiserver-1.36.log.zst")
}

func run(ctx context.Context, o options) error {
	dir := o.dir
	if dir == "" {
		var err error
		if dir, err = os.MkdirTemp("", "whodunit-bench-"); err != nil {
			return err
		}
		defer os.RemoveAll(dir) //nolint:errcheck // a temporary folder left behind harms nobody
	}
	c, err := loadCorpus(o.corpus)
	if err != nil {
		return err
	}
	r := &report{start: time.Now(), corpus: filepath.Base(o.corpus), mean: c.mean()}
	for _, detect := range []bool{false, true} {
		data := filepath.Join(dir, fmt.Sprintf("data-%v", detect))
		in, err := ingest(ctx, o, c, data, detect)
		if err != nil {
			return err
		}
		if detect {
			r.detected = in
			continue
		}
		r.ingested = in
		if r.asked, err = ask(ctx, data, c); err != nil {
			return err
		}
	}
	if r.pinned, err = pinned(ctx, o, c, dir); err != nil {
		return err
	}
	if r.sizes, err = sizes(ctx, o, dir); err != nil {
		return err
	}
	if r.acked, err = acknowledge(ctx, o, c, filepath.Join(dir, "data-ack")); err != nil {
		return err
	}
	text := r.markdown()
	fmt.Print(text)
	if o.out == "" {
		return nil
	}
	return section.Replace(o.out, "bench", text)
}
