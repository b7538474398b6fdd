package cluster

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	pollEvery = 100 * time.Millisecond
	stopLimit = 2 * time.Minute // an API server whose webhook is gone flushes for 90 s
)

// lifelineEnv and descriptor 3 are how test/cluster learns that we are gone; see its main.go.
const lifelineEnv = "TESTCLUSTER_LIFELINE=3"

// process is one running program with its log file.
type process struct {
	name     string
	cmd      *exec.Cmd
	lifeline *os.File
	done     chan struct{} // closed when it ended
	err      error         // how, set before done is closed

	terminated sync.Once
}

// spawn starts a part of the testcluster program. Its output goes to log/NAME.log.
func (c *Cluster) spawn(name string, args ...string) (*process, error) {
	log, err := os.OpenFile(c.path("log", name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot start %s: %w", name, err)
	}
	defer log.Close() // the child has its own
	watched, lifeline, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("cannot start %s: %w", name, err)
	}
	defer watched.Close()
	cmd := exec.Command(c.cfg.Binary, args...) //nolint:noctx // it is to outlive Start's context; stop ends it
	cmd.Dir, cmd.Stdout, cmd.Stderr = c.Dir, log, log
	cmd.Env = append(c.env(), lifelineEnv)
	cmd.ExtraFiles = []*os.File{watched}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a Ctrl-C is ours to hand on, in the right order
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot start %s: %w", name, err), lifeline.Close())
	}
	p := &process{name: name, cmd: cmd, lifeline: lifeline, done: make(chan struct{})}
	go func() { // ends with the process, which stop waits for
		p.err = cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// until waits for ok to return nil, asking again and again, and fails when the process ends or the limit passes.
func (p *process) until(ctx context.Context, limit time.Duration, ok func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		err := ok(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.done:
			return fmt.Errorf("%s ended early: %w", p.name, errors.Join(p.err, err))
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready after %s: %w", p.name, limit, err)
		case <-tick.C:
		}
	}
}

func (p *process) terminate() {
	p.terminated.Do(func() { _ = p.cmd.Process.Signal(syscall.SIGTERM) }) // it may have ended by itself
}

// stop asks the process to end, waits for it, and kills it where it takes too long. How it ended is of no interest.
func (p *process) stop() error {
	p.terminate()
	var err error
	select {
	case <-p.done:
	case <-time.After(stopLimit):
		err = fmt.Errorf("%s did not stop within %s and was killed", p.name, stopLimit)
		_ = p.cmd.Process.Kill()
		<-p.done
	}
	return errors.Join(err, p.lifeline.Close())
}

// env is a small, known environment: nothing of the machine's own kubectl or proxies may leak in.
func (c *Cluster) env() []string {
	return []string{"PATH=" + os.Getenv("PATH"), "HOME=" + c.path("home"), "TMPDIR=" + os.TempDir(), "LANG=C", "TZ=UTC"}
}

func ready(ctx context.Context, client *http.Client, url, token string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", url, resp.Status)
	}
	return nil
}

// Tails is the last n lines of every program's log, for a failed test's report.
func (c *Cluster) Tails(n int) string {
	files, err := filepath.Glob(c.path("log", "*.log"))
	if err != nil {
		return err.Error()
	}
	slices.Sort(files)
	var out strings.Builder
	for _, file := range files {
		lines, err := lastLines(file, n)
		fmt.Fprintf(&out, "--- %s\n%s", file, strings.Join(lines, ""))
		if err != nil {
			fmt.Fprintf(&out, "cannot read: %v\n", err)
		}
	}
	return out.String()
}

func lastLines(file string, n int) ([]string, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var lines []string
	sc := bufio.NewScanner(f)
	sc.Buffer(nil, 16<<20)
	for sc.Scan() {
		if lines = append(lines, sc.Text()+"\n"); len(lines) > n {
			lines = lines[1:]
		}
	}
	return lines, sc.Err()
}
