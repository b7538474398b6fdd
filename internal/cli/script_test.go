package cli

import (
	"bytes"
	"compress/gzip"
	"crypto/tls"
	"crypto/x509"
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
	"syscall"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"whodunit": func() { os.Exit(Main("test")) }})
}

// patience bounds every wait for something to happen.
const patience = 30 * time.Second

// TestScripts runs testdata/script: what a person does, and what the program answers. Besides testscript's own commands they have
//
//	exits N CMD...          CMD ends with exit code N
//	until REGEXP CMD...     CMD is run again until its output matches
//	await FILE REGEXP       waits until the file's content matches
//	capture VAR FILE REGEXP puts what the group matches into $VAR
//	pack IN OUT             compresses by OUT's ending, .gz or .zst
//	damage GLOB OFFSET      changes a byte of the only file that matches; a negative offset counts from the end
//	post URL CA TOKEN FILE  sends a file's events as an API server's webhook does; all three may hold $VARs
//	poke OUT REGEXP URL CA TOKEN FILE
//	                        posts again and again, ${N} in FILE counting up, until the file OUT matches
//	expand FILE...          replaces ${VAR}s in files
//	now VAR                 puts the time into $VAR, as events have it
//	signal NAME PIDFILE     sends TERM, INT, HUP or KILL to a process
//	lines FILE N            the file has N lines; stdout is a file, too
//
// $PORT1 to $PORT4 are free ports.
func TestScripts(t *testing.T) {
	sample, err := os.ReadFile(filepath.FromSlash("../audit/testdata/events.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script", RequireExplicitExec: true, RequireUniqueNames: true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("XDG_DATA_HOME", filepath.Join(e.WorkDir, "home"))
			e.Setenv("WHODUNIT_SERVER", "")
			for i := 1; i <= 4; i++ {
				port, err := freePort()
				if err != nil {
					return err
				}
				e.Setenv("PORT"+strconv.Itoa(i), port)
			}
			return os.WriteFile(filepath.Join(e.WorkDir, "events.jsonl"), sample, 0o600)
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"exits": exits, "until": until, "await": await, "capture": capture, "pack": pack, "damage": damage, "post": post, "lines": countLines,
			"expand": expand, "poke": poke, "signal": sendSignal, "now": now,
		},
	})
}

func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	return port, err
}

func want(ts *testscript.TestScript, neg bool, args []string, n int, usage string) {
	if neg || len(args) < n {
		ts.Fatalf("usage: %s", usage)
	}
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	want(ts, neg, args, 2, "exits N CMD...")
	code := 0
	err := ts.Exec(args[1], args[2:]...)
	var ended *exec.ExitError
	switch {
	case errors.As(err, &ended):
		code = ended.ExitCode()
	case err != nil:
		ts.Fatalf("%v", err)
	}
	if strconv.Itoa(code) != args[0] {
		ts.Fatalf("exit code %d, want %s", code, args[0])
	}
}

// poll calls f until it is true.
func poll(ts *testscript.TestScript, what string, f func() bool) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !f(); <-tick.C {
		if time.Now().After(deadline) {
			ts.Fatalf("waited in vain for %s", what)
		}
	}
}

func until(ts *testscript.TestScript, neg bool, args []string) {
	want(ts, neg, args, 2, "until REGEXP CMD...")
	re := regexp.MustCompile("(?m)" + args[0])
	poll(ts, args[0], func() bool {
		_ = ts.Exec(args[1], args[2:]...) // it may find nothing yet
		return re.MatchString(ts.ReadFile("stdout"))
	})
}

func await(ts *testscript.TestScript, neg bool, args []string) {
	want(ts, neg, args, 2, "await FILE REGEXP")
	re := regexp.MustCompile("(?m)" + args[1])
	poll(ts, args[1]+" in "+args[0], func() bool {
		b, _ := os.ReadFile(ts.MkAbs(args[0])) // it may not be there yet
		return re.Match(b)
	})
}

func capture(ts *testscript.TestScript, neg bool, args []string) {
	want(ts, neg, args, 3, "capture VAR FILE REGEXP")
	m := regexp.MustCompile("(?m)" + args[2]).FindStringSubmatch(ts.ReadFile(args[1]))
	if len(m) < 2 {
		ts.Fatalf("%s does not match %s", args[1], args[2])
	}
	ts.Setenv(args[0], m[1])
}

func pack(ts *testscript.TestScript, neg bool, args []string) {
	want(ts, neg, args, 2, "pack IN OUT")
	var b bytes.Buffer
	var w io.WriteCloser = gzip.NewWriter(&b)
	if strings.HasSuffix(args[1], ".zst") {
		var err error
		w, err = zstd.NewWriter(&b)
		ts.Check(err)
	}
	_, err := io.WriteString(w, ts.ReadFile(args[0]))
	ts.Check(errors.Join(err, w.Close()))
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), b.Bytes(), 0o600))
}

func damage(ts *testscript.TestScript, neg bool, args []string) {
	want(ts, neg, args, 2, "damage GLOB OFFSET")
	files, err := filepath.Glob(ts.MkAbs(args[0]))
	ts.Check(err)
	if len(files) != 1 {
		ts.Fatalf("%s matches %d files", args[0], len(files))
	}
	b, err := os.ReadFile(files[0])
	ts.Check(err)
	at, err := strconv.Atoi(args[1])
	ts.Check(err)
	if at < 0 {
		at += len(b)
	}
	b[at] ^= 0x55
	ts.Check(os.WriteFile(files[0], b, 0o600))
}

func post(ts *testscript.TestScript, neg bool, args []string) {
	want(ts, neg, args, 4, "post URL CA TOKEN FILE")
	send(ts, args[0], ts.ReadFile(args[1]), args[2], ts.ReadFile(args[3]))
}

// poke is for what takes an unknown time to begin listening.
func poke(ts *testscript.TestScript, neg bool, args []string) {
	want(ts, neg, args, 6, "poke OUT REGEXP URL CA TOKEN FILE")
	re := regexp.MustCompile("(?m)" + args[1])
	ca, events, n := ts.ReadFile(args[3]), ts.ReadFile(args[5]), 0
	poll(ts, args[1]+" in "+args[0], func() bool {
		n++
		send(ts, args[2], ca, args[4], strings.ReplaceAll(events, "${N}", strconv.Itoa(n)))
		b, _ := os.ReadFile(ts.MkAbs(args[0])) // it may not be there yet
		return re.Match(b)
	})
}

// send posts events, one a line, as an EventList.
func send(ts *testscript.TestScript, url, ca, token, events string) {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(ca))
	client := &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: pool}}}
	items := strings.ReplaceAll(strings.TrimSpace(events), "\n", ",")
	body := `{"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":[` + items + `]}`
	req, err := http.NewRequest(http.MethodPost, url, strings.NewReader(body))
	ts.Check(err)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := client.Do(req)
	ts.Check(err)
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		ts.Fatalf("%s", resp.Status)
	}
}

func countLines(ts *testscript.TestScript, neg bool, args []string) {
	want(ts, neg, args, 2, "lines FILE N")
	if n := strings.Count(ts.ReadFile(args[0]), "\n"); fmt.Sprint(n) != args[1] {
		ts.Fatalf("%s has %d lines, want %s", args[0], n, args[1])
	}
}

func expand(ts *testscript.TestScript, neg bool, args []string) {
	want(ts, neg, args, 1, "expand FILE...")
	for _, name := range args {
		ts.Check(os.WriteFile(ts.MkAbs(name), []byte(os.Expand(ts.ReadFile(name), ts.Getenv)), 0o600))
	}
}

func now(ts *testscript.TestScript, neg bool, args []string) {
	want(ts, neg, args, 1, "now VAR")
	ts.Setenv(args[0], time.Now().UTC().Format("2006-01-02T15:04:05.000000Z"))
}

func sendSignal(ts *testscript.TestScript, neg bool, args []string) {
	want(ts, neg, args, 2, "signal NAME PIDFILE")
	sig, ok := map[string]syscall.Signal{"TERM": syscall.SIGTERM, "INT": syscall.SIGINT, "HUP": syscall.SIGHUP, "KILL": syscall.SIGKILL}[args[0]]
	if !ok {
		ts.Fatalf("unknown signal %s", args[0])
	}
	pid, err := strconv.Atoi(strings.TrimSpace(ts.ReadFile(args[1])))
	ts.Check(err)
	ts.Check(syscall.Kill(pid, sig))
}
