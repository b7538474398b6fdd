// Command scan measures the figures of detection in docs/performance.md on the real program, and writes them: `whodunit scan` on one core with 100 to
// 5,000 rules over the recorded corpus and over a hostile one, against jq with one filter, and how long 20,000 rules take to load. All figures are of one run.
//
//	go run ./test/bench/scan -bin bin/whodunit -o docs/performance.md
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"whodunit/rules"
	"whodunit/test/bench/section"
)

type options struct {
	bin, out, corpus, dir string
	size                  int64
	runs                  int
}

func main() {
	var o options
	root := os.Getenv("WHODUNIT_SHARED")
	if root == "" {
		root = "../shared"
	}
	flag.StringVar(&o.bin, "bin", "bin/whodunit", "the program")
	flag.StringVar(&o.out, "o", "", "write the result here; it is always printed")
	flag.StringVar(&o.corpus, "corpus", filepath.Join(root, "data", "audit", "apiserver-1.36.log.zst"), "recorded events to repeat")
	flag.StringVar(&o.dir, "dir", "", "work here instead of in a temporary folder")
	flag.Int64Var(&o.size, "size", 1<<29, "bytes of events to scan")
	flag.IntVar(&o.runs, "runs", 5, "how often each is measured; the least counts, since what disturbs only adds")
	write := flag.String("make", "", "only write the events to this file: what a child of this program does, so that its own memory, which the kernel counts to its children, stays small")
	hostile := flag.Bool("hostile", false, "with -make: of the hostile kind")
	flag.Parse()
	if *write != "" {
		if _, err := expand(o.corpus, *write, o.size, *hostile); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// cost is what one run of a command took.
type cost struct {
	cpu, wall time.Duration
	rss       int64 // bytes at the most
}

type bench struct {
	options
	all  bool // processors, not one
	text strings.Builder
}

func run(ctx context.Context, o options) error {
	if o.dir == "" {
		dir, err := os.MkdirTemp("", "whodunit-bench-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir) //nolint:errcheck // a temporary folder left behind harms nobody
		o.dir = dir
	}
	b := &bench{options: o}
	if err := b.measure(ctx); err != nil {
		return err
	}
	fmt.Print(b.text.String())
	if o.out == "" {
		return nil
	}
	return section.Replace(o.out, "scan", b.text.String())
}

func (b *bench) measure(ctx context.Context) error {
	events, hostile := filepath.Join(b.dir, "events.log"), filepath.Join(b.dir, "hostile.log")
	size, err := b.events(ctx, events)
	if err != nil {
		return err
	}
	hostileSize, err := b.events(ctx, hostile, "-hostile")
	if err != nil {
		return err
	}
	counts := []int{100, 1000, 5000, 20000}
	for _, n := range counts {
		if err := write(b.rules(n), n); err != nil {
			return err
		}
	}
	none := filepath.Join(b.dir, "none.log")
	if err := os.WriteFile(none, nil, 0o600); err != nil {
		return err
	}
	rate := func(c cost, size int64) float64 { return float64(size) / 1e9 / c.cpu.Seconds() }
	// The files are written out and read once before anything is measured.
	if err := exec.CommandContext(ctx, "sync").Run(); err != nil {
		return fmt.Errorf("cannot write the files out: %w", err)
	}
	for _, file := range []string{events, hostile} {
		if _, err := b.once(ctx, b.scanning(b.rules(100), file)...); err != nil {
			return err
		}
	}
	scan, idle := map[int]cost{}, map[int]cost{}
	for _, n := range counts[:3] {
		if scan[n], err = b.scan(ctx, b.rules(n), events); err != nil {
			return err
		}
		if idle[n], err = b.scan(ctx, b.rules(n), none); err != nil {
			return err
		}
	}
	bad, err := b.scan(ctx, b.rules(1000), hostile)
	if err != nil {
		return err
	}
	b.all = true
	load, err := b.scan(ctx, b.rules(20000), none)
	if err != nil {
		return err
	}
	b.all = false
	shipped, err := b.least(ctx, b.bin, "scan", "--fail-on", "none", "--quiet", "-o", "json", events)
	if err != nil {
		return err
	}
	pack, err := rules.FS.ReadDir(".")
	if err != nil {
		return err
	}
	jq, err := b.least(ctx, "jq", "-c", `select(.verb == "delete" and .objectRef.resource == "secrets")`, events)
	if err != nil {
		return fmt.Errorf("jq, which this compares with: %w", err)
	}
	w := &b.text
	fmt.Fprintf(w, "Measured %s on %s, one core (`taskset`, `GOMAXPROCS=1`), the least of %d runs each; processor time of the whole process, start and rules included.\n\n", time.Now().UTC().Format("2006-01-02"), section.Machine(), b.runs)
	fmt.Fprintf(w, "%d MB of %s, repeated and unpacked. Rules: 7 of 10 Sigma, 2 native, 1 Falco, generated (`test/bench/scan/rules.go`).\n\n", size/1e6, filepath.Base(b.corpus))
	fmt.Fprintln(w, "| what | figure | goal | met |\n|--|--|--|--|")
	row := func(what, figure, goal string, ok bool) {
		fmt.Fprintf(w, "| %s | %s | %s | %s |\n", what, figure, goal, section.Verdict(ok))
	}
	for _, n := range counts[:3] {
		goal, ok := "-", true
		if n == 1000 {
			goal, ok = "0.8 GB/s", rate(scan[n], size) >= 0.8
		}
		row(fmt.Sprintf("scan with %d rules", n), fmt.Sprintf("%.2f GB/s, %d MB resident", rate(scan[n], size), scan[n].rss>>20), goal, ok)
	}
	row(fmt.Sprintf("scan with the %d shipped rules, which look into many bodies", len(pack)), fmt.Sprintf("%.2f GB/s, %d MB resident", rate(shipped, size), shipped.rss>>20), "-", true)
	fast := rate(scan[1000], size) / rate(jq, size)
	row("jq with one filter, same file", fmt.Sprintf("%.3f GB/s; scan with 1000 rules is %.0f times as fast", rate(jq, size), fast), "10 times", fast >= 10)
	net := func(n int) float64 { return (scan[n].cpu - idle[n].cpu).Seconds() }
	more := net(5000) / net(100)
	row("5000 rules against 100, loading them left out", fmt.Sprintf("%.2f times (%.2f s against %.2f s)", more, net(5000), net(100)), "1.3 times", more <= 1.3)
	slow := (bad.cpu - idle[1000].cpu).Seconds() / float64(hostileSize) / (net(1000) / float64(size))
	row("hostile corpus (random user, agent, URI, namespace), 1000 rules", fmt.Sprintf("%.1f times the cost, %d MB resident", slow, bad.rss>>20), "10 times, memory flat", slow <= 10 && bad.rss < 2*scan[1000].rss)
	row("20000 rules loaded, on all cores", fmt.Sprintf("%.2f s (%.2f s of processor time), %d MB resident", load.wall.Seconds(), load.cpu.Seconds(), load.rss>>20), "2 s, 200 MB", load.wall < 2*time.Second && load.rss < 200<<20)
	return nil
}

// events writes a file of events and gives its size.
func (b *bench) events(ctx context.Context, path string, args ...string) (int64, error) {
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	cmd := exec.CommandContext(ctx, self, append([]string{"-corpus", b.corpus, "-size", fmt.Sprint(b.size), "-make", path}, args...)...)
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return 0, fmt.Errorf("cannot write events: %w", err)
	}
	st, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}

func (b *bench) rules(n int) string { return filepath.Join(b.dir, fmt.Sprintf("rules-%d", n)) }

func (b *bench) scan(ctx context.Context, rules, file string) (cost, error) {
	return b.least(ctx, b.scanning(rules, file)...)
}

func (b *bench) scanning(rules, file string) []string {
	return []string{b.bin, "scan", "--no-default-rules", "--rules", rules, "--fail-on", "none", "--quiet", "-o", "json", file}
}

// least runs a command several times and gives the run of the least processor time: what else the machine does only adds to it.
func (b *bench) least(ctx context.Context, args ...string) (cost, error) {
	var all []cost
	for range b.runs {
		c, err := b.once(ctx, args...)
		if err != nil {
			return cost{}, err
		}
		all = append(all, c)
	}
	slices.SortFunc(all, func(x, y cost) int { return int(x.cpu - y.cpu) })
	return all[0], nil
}

func (b *bench) once(ctx context.Context, args ...string) (cost, error) {
	if _, err := exec.LookPath("taskset"); err == nil && runtime.GOOS == "linux" && !b.all {
		args = append([]string{"taskset", "-c", "0"}, args...)
	}
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	if !b.all {
		cmd.Env = append(os.Environ(), "GOMAXPROCS=1")
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	start := time.Now()
	if err := cmd.Run(); err != nil {
		return cost{}, errors.Join(fmt.Errorf("%s: %w", cmd, err), errors.New(stderr.String()))
	}
	u, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		return cost{}, errors.New("this system does not say what a process used")
	}
	c := cost{cpu: cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), wall: time.Since(start), rss: u.Maxrss}
	if runtime.GOOS == "linux" {
		c.rss *= 1024
	}
	return c, nil
}
