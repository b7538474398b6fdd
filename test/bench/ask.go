package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"whodunit/internal/audit"
	"whodunit/internal/journal"
	"whodunit/internal/match"
	"whodunit/internal/store"
	segmentstore "whodunit/internal/store/segment"
)

// asking is how long questions take on the whole journal.
type asking struct {
	events, raw, disk int64
	segments          int
	answers           []answer
}

type answer struct {
	what         string
	median, most time.Duration
	matched      int64
}

// ask asks each question several times, of a journal opened anew.
func ask(ctx context.Context, data string, c *corpus) (asking, error) {
	o := journal.DefaultOptions()
	o.MinFree = 1
	j, err := journal.Open(filepath.Join(data, "events"), o)
	if err != nil {
		return asking{}, err
	}
	defer j.Close() //nolint:errcheck // what it held is measured and thrown away
	if err := j.Seal(ctx); err != nil {
		return asking{}, err
	}
	in := j.Info()
	a := asking{events: in.Events, raw: in.RawBytes, segments: in.Segments}
	for _, p := range []string{"events/segments"} {
		size, err := folderSize(filepath.Join(data, p))
		if err != nil {
			return a, err
		}
		a.disk += size
	}
	s := segmentstore.New(j, segmentstore.Options{Distinct: true})
	n := 0
	equal := func(path, v string) match.Expr { return &match.Pred{Path: path, Op: match.Equal, Values: []string{v}} }
	search := func(e func() match.Expr, limit int) func() (int64, error) {
		return func() (int64, error) {
			st, err := s.Search(ctx, store.Query{Expr: e(), Limit: limit}, func(*audit.Record) error { return nil })
			return st.Matched, err
		}
	}
	for _, q := range []struct {
		what string
		f    func() (int64, error)
	}{
		{"one auditID", search(func() match.Expr {
			n += 7919
			return equal("auditID", auditID(n*31%int(in.Events)))
		}, 0)},
		{"the ten users with most events", func() (int64, error) {
			top, _, err := s.Top(ctx, store.Query{}, []string{"user.username"}, 10)
			return int64(len(top)), err
		}},
		{"the newest 100 deletions of secrets", search(func() match.Expr {
			return match.And{equal("verb", "delete"), equal("objectRef.resource", "secrets")}
		}, 100)},
		{"the newest 100 events with `hostPath` anywhere", search(func() match.Expr { return &match.Text{Word: "hostpath"} }, 100)},
		{"how many events a minute", func() (int64, error) {
			rows, _, err := s.Histogram(ctx, store.Query{}, time.Minute.Microseconds())
			return int64(len(rows)), err
		}},
	} {
		got := answer{what: q.what}
		var took []time.Duration
		for range 21 {
			begin := time.Now()
			if got.matched, err = q.f(); err != nil {
				return a, fmt.Errorf("%s: %w", q.what, err)
			}
			took = append(took, time.Since(begin))
		}
		slices.Sort(took)
		got.median, got.most = took[len(took)/2], took[len(took)-1]
		if got.matched == 0 {
			return a, fmt.Errorf("%s: nothing found", q.what)
		}
		a.answers = append(a.answers, got)
	}
	return a, nil
}

// size is what a recording takes without repetition, which would compress better than real events do.
type size struct {
	name      string
	raw, disk int64
	events    int64
}

// pinned imports a file of o.events repeated events with the process pinned to one core, and gives events a second. It needs taskset;
// without it, it gives 0.
func pinned(ctx context.Context, o options, c *corpus, dir string) (float64, error) {
	taskset, err := exec.LookPath("taskset")
	if err != nil {
		return 0, nil // the row says that it was not measured
	}
	n := min(o.events, 200_000)
	path := filepath.Join(dir, "pinned.log")
	if err := c.file(path, n); err != nil {
		return 0, err
	}
	defer os.Remove(path) //nolint:errcheck // in a temporary folder
	begin := time.Now()
	cmd := exec.CommandContext(ctx, taskset, "-c", "0", o.bin, "import", "--data", filepath.Join(dir, "data-pinned"), path)
	if b, err := cmd.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("cannot import: %w: %s", err, b)
	}
	return float64(n) / time.Since(begin).Seconds(), nil
}

// sizes imports each recording into a data folder of its own.
func sizes(ctx context.Context, o options, dir string) ([]size, error) {
	var out []size
	for _, name := range []string{"apiserver-1.36.log.zst", "load-1.36.log.zst"} {
		data := filepath.Join(dir, "size-"+name)
		path := filepath.Join(filepath.Dir(o.corpus), name)
		if b, err := exec.CommandContext(ctx, o.bin, "import", "--data", data, path).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("cannot import %s: %w: %s", name, err, b)
		}
		in, err := journal.InfoReadOnly(filepath.Join(data, "events"))
		if err != nil {
			return nil, err
		}
		disk, err := folderSize(filepath.Join(data, "events", "segments"))
		if err != nil {
			return nil, err
		}
		out = append(out, size{name, in.RawBytes, disk, in.Events})
	}
	return out, nil
}

func folderSize(dir string) (int64, error) {
	var n int64
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		if st, err := e.Info(); err == nil {
			n += st.Size()
		}
	}
	return n, err
}

// acknowledging is how long single events wait for their answer, beside the disk's own time.
type acknowledging struct {
	rate, n          int
	p50, p99         time.Duration
	fsync50, fsync99 time.Duration // of the idle disk
	beside99         time.Duration // of another file on the same disk during the load
}

// acknowledge sends single events at a steady rate, as blocking mode does, and measures the disk's fsync of the same size before
// before, beside it, and after.
func acknowledge(ctx context.Context, o options, c *corpus, data string) (a acknowledging, err error) {
	s, err := start(ctx, o, data, false)
	if err != nil {
		return a, err
	}
	before, err := fsyncs(data, 1000, 0)
	if err != nil {
		return a, err
	}
	var beside []time.Duration
	var besideErr error
	var probe sync.WaitGroup
	probe.Go(func() { beside, besideErr = fsyncs(data, o.seconds*50, 20*time.Millisecond) })
	var mu sync.Mutex
	var took []time.Duration
	var failed error
	var wg sync.WaitGroup
	tick := time.NewTicker(time.Second / time.Duration(o.rate))
	slots := make(chan struct{}, 256)
	for i := range o.rate * o.seconds {
		<-tick.C
		body := c.list(nil, i, i+1)
		slots <- struct{}{}
		wg.Go(func() {
			begin := time.Now()
			code, err := s.post(ctx, body)
			d := time.Since(begin)
			<-slots
			mu.Lock()
			defer mu.Unlock()
			if took = append(took, d); err != nil || code != http.StatusOK {
				failed = errors.Join(err, fmt.Errorf("answer %d", code))
			}
		})
	}
	tick.Stop()
	wg.Wait()
	probe.Wait()
	if err := s.stop(); err != nil || failed != nil || besideErr != nil {
		return a, errors.Join(err, failed, besideErr)
	}
	after, err := fsyncs(data, 1000, 0)
	if err != nil {
		return a, err
	}
	alone := append(before, after...)
	slices.Sort(took)
	slices.Sort(alone)
	slices.Sort(beside)
	at := func(d []time.Duration, p int) time.Duration { return d[min(len(d)*p/100, len(d)-1)] }
	return acknowledging{rate: o.rate, n: len(took), p50: at(took, 50), p99: at(took, 99), fsync50: at(alone, 50), fsync99: at(alone, 99),
		beside99: at(beside, 99)}, nil
}

// fsyncs appends and syncs pieces of the size of one event's frame, with a pause between them.
func fsyncs(dir string, n int, pause time.Duration) ([]time.Duration, error) {
	f, err := os.CreateTemp(dir, "fsync-")
	if err != nil {
		return nil, err
	}
	defer os.Remove(f.Name()) //nolint:errcheck // its folder is removed
	defer f.Close()
	var took []time.Duration
	piece := make([]byte, 1500)
	for range n {
		begin := time.Now()
		if _, err := f.Write(piece); err != nil {
			return nil, err
		}
		if err := f.Sync(); err != nil {
			return nil, err
		}
		took = append(took, time.Since(begin))
		time.Sleep(pause) //nolint:forbidigo // the pace of a measurement
	}
	return took, nil
}
