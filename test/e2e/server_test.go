package e2e

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"whodunit/test/e2e/cluster"
)

// Limits on waiting. All are far above what an idle machine needs.
const (
	readyLimit = 60 * time.Second
	soonLimit  = 90 * time.Second
	pollEvery  = 200 * time.Millisecond
)

// clusterName is what every source of these tests calls the cluster: events of the same name from two sources are the same.
const clusterName = "e2e"

// server is a whodunit process that may be killed and started again on the same data, ports and configuration.
type server struct {
	t       *testing.T
	binary  string
	dir     string
	config  string
	api     *cluster.Port
	webhook *cluster.Port
	token   string // for the webhook
	reader  string // a token with the scope read, where a test has made one

	cmd  *exec.Cmd
	out  *os.File
	done chan error
}

// whodunit compiles the program. Go's cache makes the second time cheap.
func whodunit(t *testing.T) string {
	t.Helper()
	root, err := cluster.Root()
	if err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(t.TempDir(), "whodunit")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-o", bin, "./cmd/whodunit")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("cannot build cmd/whodunit: %v\n%s", err, out)
	}
	return bin
}

// setup are a server's settings beside the usual ones.
type setup struct {
	webhook bool
	files   []string // audit logs to follow
	rules   []string // beside the shipped ones
	alerts  string   // where findings of severity high and above are posted; "" for nowhere
	more    func(config map[string]any)
}

// newServer writes the configuration and starts the server for the first time.
func newServer(t *testing.T, s setup) *server {
	t.Helper()
	w := &server{t: t, binary: whodunit(t), dir: filepath.Join(t.TempDir(), "data")}
	w.config = filepath.Join(filepath.Dir(w.dir), "whodunit.yaml")
	for _, p := range []**cluster.Port{&w.api, &w.webhook} {
		port, err := cluster.HoldPort()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = port.Release() })
		*p = port
	}
	cfg := map[string]any{
		"data_dir": w.dir,
		"server":   map[string]any{"listen": w.api.Address(), "metrics_auth": false},
		"webhook":  map[string]any{"enabled": s.webhook, "listen": w.webhook.Address(), "cluster": "other"},
		"journal":  map[string]any{"segment_size": "1MiB", "seal_after": "5s"}, // so that sealing happens within the test
	}
	if len(s.files) > 0 {
		cfg["files"] = []any{map[string]any{"paths": s.files, "cluster": clusterName}}
	}
	if len(s.rules) > 0 {
		cfg["rules"] = map[string]any{"paths": s.rules, "lateness": "5s"} // the events of one API server come in order
	}
	if s.alerts != "" {
		cfg["alerts"] = map[string]any{"webhooks": []any{map[string]any{"url": s.alerts, "min_severity": "high"}}}
	}
	if s.more != nil {
		s.more(cfg)
	}
	b, err := yaml.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(w.config, b, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.stop)
	w.start()
	w.token = w.ingestToken()
	return w
}

// start starts the process and waits until it is ready.
func (w *server) start() {
	w.t.Helper()
	var err error
	if w.out, err = os.OpenFile(w.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err != nil {
		w.t.Fatal(err)
	}
	w.cmd = exec.Command(w.binary, "serve", "--config", w.config)
	w.cmd.Stdout, w.cmd.Stderr = w.out, w.out
	w.cmd.Env = []string{"HOME=" + filepath.Dir(w.dir), "PATH=" + os.Getenv("PATH")}
	if err := w.cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.done = make(chan error, 1)
	cmd, done := w.cmd, w.done
	go func() { done <- cmd.Wait() }() // ends with the process, which stop and kill wait for
	eventually(w.t, readyLimit, "whodunit is ready", func(ctx context.Context) error {
		select {
		case err := <-w.done:
			w.done <- err
			w.t.Fatalf("whodunit ended early: %v\n%s", err, w.tail())
		default:
		}
		_, err := w.get(ctx, "/readyz")
		return err
	})
}

func (w *server) log() string { return w.config + ".log" }

func (w *server) tail() string {
	b, err := os.ReadFile(w.log())
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-8<<10):])
}

// kill ends the process as kill -9 does: it gets no chance to write anything.
func (w *server) kill() {
	w.t.Helper()
	if err := w.cmd.Process.Kill(); err != nil {
		w.t.Fatal(err)
	}
	<-w.done
	w.done = nil
	_ = w.out.Close()
}

// stop ends the process in good order, as a service manager does.
func (w *server) stop() {
	if w.t.Failed() {
		w.t.Logf("whodunit's log ends with:\n%s", w.tail())
	}
	if w.done == nil {
		return
	}
	_ = w.cmd.Process.Signal(os.Interrupt)
	select {
	case err := <-w.done:
		if err != nil {
			w.t.Errorf("whodunit did not end well: %v\n%s", err, w.tail())
		}
	case <-time.After(readyLimit):
		_ = w.cmd.Process.Kill()
		<-w.done
		w.t.Errorf("whodunit did not end within %s", readyLimit)
	}
	w.done = nil
	_ = w.out.Close()
}

func (w *server) get(ctx context.Context, path string) (string, error) {
	ca, err := w.ca()
	if err != nil {
		return "", err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool}}}
	defer client.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+w.api.Address()+path, http.NoBody)
	if err != nil {
		return "", err
	}
	if w.reader != "" {
		req.Header.Set("Authorization", "Bearer "+w.reader)
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET %s: %s", path, resp.Status)
	}
	return string(body), err
}

// counted says whether a metric without labels has a value above zero.
func (w *server) counted(ctx context.Context, name string) error {
	text, err := w.get(ctx, "/metrics")
	if err != nil {
		return err
	}
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), name+" "); ok && value != "0" {
			return nil
		}
	}
	return fmt.Errorf("metric %s is 0 or missing", name)
}

func (w *server) ca() ([]byte, error) { return os.ReadFile(filepath.Join(w.dir, "tls", "ca.crt")) }

var tokenForm = regexp.MustCompile(`\bwdt_[A-Za-z0-9_-]{20,}`)

// ingestToken is the token that the first start prints for the API servers' webhook.
func (w *server) ingestToken() string {
	w.t.Helper()
	token := tokenForm.FindString(w.tail())
	if token == "" {
		w.t.Fatalf("the first start printed no token:\n%s", w.tail())
	}
	return token
}

// hook is the API server's side of the webhook.
func (w *server) hook(mode cluster.WebhookMode) *cluster.Webhook {
	w.t.Helper()
	ca, err := w.ca()
	if err != nil {
		w.t.Fatal(err)
	}
	return &cluster.Webhook{URL: "https://" + w.webhook.Address() + "/clusters/" + clusterName, CA: ca, Token: w.token, Mode: mode,
		BatchSize: 100, BatchWait: 500 * time.Millisecond, Backoff: time.Second}
}

// run executes a command of whodunit on the server's data folder. Exit code 1, nothing found, is no error.
func (w *server) run(ctx context.Context, args ...string) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, w.binary, append(args, "--data", w.dir)...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.Env = []string{"HOME=" + filepath.Dir(w.dir)}
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 1 {
		err = nil
	}
	if err != nil {
		err = fmt.Errorf("whodunit %s: %w: %s", strings.Join(args, " "), err, stderr.String())
	}
	return stdout.String(), err
}

// events are what a search finds, in no order.
func (w *server) events(ctx context.Context, kql string) ([]cluster.Logged, error) {
	return w.documents(ctx, "query", kql, "-o", "json")
}

// finding is a document that a rule made.
type finding struct {
	ID       string `json:"id"`
	Rule     string `json:"rule"`
	Severity string `json:"severity"`
	Message  string `json:"message"`
	State    string `json:"state"`
	cluster.Logged
}

func (w *server) documents(ctx context.Context, args ...string) ([]cluster.Logged, error) {
	out, err := w.run(ctx, args...)
	if err != nil {
		return nil, err
	}
	var found []cluster.Logged
	sc := bufio.NewScanner(strings.NewReader(out))
	sc.Buffer(nil, 64<<20)
	for sc.Scan() {
		l := cluster.Logged{Raw: bytes.Clone(sc.Bytes())}
		if err := json.Unmarshal(l.Raw, &l); err != nil {
			return nil, fmt.Errorf("cannot read whodunit's answer %.200q: %w", sc.Text(), err)
		}
		found = append(found, l)
	}
	return found, sc.Err()
}

// findings are what a search finds, but for those that say that something is over: a scan has none of them.
func (w *server) findings(ctx context.Context, kql string) ([]finding, error) {
	docs, err := w.documents(ctx, "findings", kql, "-o", "json")
	if err != nil {
		return nil, err
	}
	var found []finding
	for _, d := range docs {
		var f finding
		if err := json.Unmarshal(d.Raw, &f); err != nil {
			return nil, err
		}
		if f.State == "" {
			found = append(found, f)
		}
	}
	return found, nil
}

// eventually asks again and again until ok returns nil, and fails the test at the limit with what ok said last.
func eventually(t *testing.T, limit time.Duration, what string, ok func(ctx context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	var last error
	for {
		err := ok(ctx)
		if err == nil {
			return
		}
		if ctx.Err() == nil || last == nil {
			last = err // not the one that the deadline made
		}
		select {
		case <-ctx.Done():
			t.Fatalf("waited %s until %s: %v", limit, what, last)
		case <-tick.C:
		}
	}
}

// background runs f until the returned function is called or the test ends, and waits for it.
func background(t *testing.T, f func(ctx context.Context)) (wait func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { f(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	return wg.Wait
}
