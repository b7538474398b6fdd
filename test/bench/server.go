package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// server is a running whodunit.
type server struct {
	cmd              *exec.Cmd
	api, webhook     string
	token, readToken string // for the webhook and for the API
	out              *lockedBuffer
	client           *http.Client
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}
func (l *lockedBuffer) String() string { l.mu.Lock(); defer l.mu.Unlock(); return l.b.String() }

func freePort(ctx context.Context) (int, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// start runs the program on plain HTTP on loopback, so that the figures are those of the program and not of TLS.
func start(ctx context.Context, o options, data string, detect bool) (*server, error) {
	a, err := freePort(ctx)
	if err != nil {
		return nil, err
	}
	b, err := freePort(ctx)
	if err != nil {
		return nil, err
	}
	conf := fmt.Sprintf(`data_dir: %s
server: {listen: "127.0.0.1:%d", tls: {mode: "off"}}
webhook: {listen: "127.0.0.1:%d", tls: {mode: "off"}}
journal: {min_free: 64MiB}
rules: {default_pack: %v}
alerts: {log: false}
`, data, a, b, detect)
	path := data + ".yaml"
	if err := os.WriteFile(path, []byte(conf), 0o600); err != nil {
		return nil, err
	}
	s := &server{api: fmt.Sprintf("http://127.0.0.1:%d", a), webhook: fmt.Sprintf("http://127.0.0.1:%d/clusters/bench", b), out: &lockedBuffer{}}
	s.client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	bin, err := filepath.Abs(o.bin)
	if err != nil {
		return nil, err
	}
	token, err := exec.CommandContext(ctx, bin, "token", "--data", data, "--scope", "read").Output()
	if err != nil {
		return nil, fmt.Errorf("cannot make a token: %w", err)
	}
	s.readToken = strings.TrimSpace(string(token))
	s.cmd = exec.CommandContext(ctx, bin, "serve", "--config", path)
	s.cmd.Stdout, s.cmd.Stderr = s.out, s.out
	s.cmd.Cancel = func() error { return s.cmd.Process.Signal(syscall.SIGTERM) }
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	if err := s.wait(ctx); err != nil {
		return nil, err
	}
	m := regexp.MustCompile(`webhook token\s+(\S+)`).FindStringSubmatch(s.out.String())
	if m == nil {
		return nil, fmt.Errorf("no first login in: %s", s.out)
	}
	s.token = m[1]
	return s, nil
}

// wait returns when the server is ready.
func (s *server) wait(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.api+"/readyz", nil)
	if err != nil {
		return err
	}
	for range time.Tick(50 * time.Millisecond) {
		if resp, err := s.client.Do(req); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				break
			}
		}
		if ctx.Err() != nil {
			return fmt.Errorf("the server did not start: %s", s.out)
		}
	}
	return nil
}

func (s *server) stop() error {
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	if err := s.cmd.Wait(); err != nil {
		return fmt.Errorf("%w: %s", err, s.out)
	}
	return nil
}

// cpu is the user and system time that the process has used.
func (s *server) cpu() (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	u, err1 := strconv.ParseInt(f[11], 10, 64)
	k, err2 := strconv.ParseInt(f[12], 10, 64)
	return time.Duration(u+k) * 10 * time.Millisecond, errors.Join(err1, err2) // USER_HZ is 100
}

// peakRSS is the most memory that was resident, in bytes.
func (s *server) peakRSS() (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	m := regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindSubmatch(b)
	if m == nil {
		return 0, errors.New("no VmHWM")
	}
	n, err := strconv.ParseInt(string(m[1]), 10, 64)
	return n << 10, err
}

func (s *server) post(ctx context.Context, body []byte) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.webhook, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+s.token)
	resp, err := s.client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, err
}

// status asks the server how much it has.
func (s *server) status(ctx context.Context) (events, unsealed int64, cursors map[string]int64, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.api+"/api/v1/status", nil)
	if err != nil {
		return 0, 0, nil, err
	}
	req.Header.Set("Authorization", "Bearer "+s.readToken)
	resp, err := s.client.Do(req)
	if err != nil {
		return 0, 0, nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		return 0, 0, nil, fmt.Errorf("status: %s %s: %w", resp.Status, b, err)
	}
	var doc struct{ Parts struct{ Events journalInfo } }
	if err := json.Unmarshal(b, &doc); err != nil {
		return 0, 0, nil, err
	}
	in := doc.Parts.Events
	cursors = map[string]int64{}
	for _, c := range in.Cursors {
		cursors[c.Name] = c.Lag
	}
	return in.Events, in.Unsealed, cursors, nil
}

type journalInfo struct {
	Events   int64 `json:"events"`
	Unsealed int64 `json:"unsealedEvents"`
	Cursors  []struct {
		Name string `json:"name"`
		Lag  int64  `json:"lagEvents"`
	} `json:"cursors"`
}

// ingestion is what sending events cost.
type ingestion struct {
	events          int
	wall, cpu       time.Duration
	rss             int64
	retried         int64
	perCore, perSec float64
}

// batchEvents is kube-apiserver's default --audit-webhook-batch-max-size.
const batchEvents = 400

// ingest sends all events in batches, as fast as they are taken, and waits until the journal has sealed what fills a segment.
func ingest(ctx context.Context, o options, c *corpus, data string, detect bool) (in ingestion, err error) {
	s, err := start(ctx, o, data, detect)
	if err != nil {
		return in, err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	begin := time.Now()
	cpu0, err := s.cpu()
	if err != nil {
		return in, err
	}
	var next, retried atomic.Int64
	var wg sync.WaitGroup
	errs := make(chan error, 4)
	for range 4 {
		wg.Go(func() {
			var body []byte
			for ctx.Err() == nil {
				to := int(next.Add(batchEvents))
				from := to - batchEvents
				if from >= o.events {
					return
				}
				to = min(to, o.events)
				body = c.list(body[:0], from, to)
				for {
					code, err := s.post(ctx, body)
					if err == nil && code == http.StatusOK {
						break
					}
					if err != nil || code != http.StatusTooManyRequests && code != http.StatusServiceUnavailable {
						errs <- errors.Join(err, fmt.Errorf("answer %d", code))
						return
					}
					retried.Add(1)
					time.Sleep(20 * time.Millisecond) //nolint:forbidigo // as an API server waits before it sends again
				}
			}
		})
	}
	wg.Wait()
	select {
	case err := <-errs:
		return in, err
	default:
	}
	deadline := time.Now().Add(5 * time.Minute)
	for range time.Tick(100 * time.Millisecond) {
		n, unsealed, lag, err := s.status(ctx)
		if err != nil {
			return in, err
		}
		if n == int64(o.events) && unsealed < 40_000 && (!detect || lag["detect"] == 0) {
			break
		}
		if time.Now().After(deadline) {
			return in, fmt.Errorf("after five minutes the journal has %d events, %d unsealed, lag %v", n, unsealed, lag)
		}
	}
	in = ingestion{events: o.events, wall: time.Since(begin), retried: retried.Load()}
	if in.cpu, err = s.cpu(); err != nil {
		return in, err
	}
	in.cpu -= cpu0
	if in.rss, err = s.peakRSS(); err != nil {
		return in, err
	}
	in.perSec = float64(in.events) / in.wall.Seconds()
	in.perCore = float64(in.events) / in.cpu.Seconds()
	return in, nil
}
