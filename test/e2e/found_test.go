package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"whodunit/test/e2e/cluster"
)

// logged is the audit log so far.
func (d *detection) logged() []cluster.Logged {
	d.t.Helper()
	logged, err := d.c.AuditLog()
	if err != nil {
		d.t.Fatal(err)
	}
	return logged
}

// key is what tells findings apart: the rule, the request, and what is said about it.
func (f finding) key() string { return f.Rule + " " + f.AuditID + " " + f.Message }

// scan runs the rules over the log.
func (d *detection) scan(logged []cluster.Logged) []finding {
	d.t.Helper()
	file := filepath.Join(d.t.TempDir(), "audit.log")
	var b bytes.Buffer
	for _, l := range logged {
		b.Write(append(l.Raw, '\n'))
	}
	if err := os.WriteFile(file, b.Bytes(), 0o600); err != nil {
		d.t.Fatal(err)
	}
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(d.t.Context(), d.w.binary, "scan", "--cluster", clusterName, "--rules", d.rules, "--fail-on", "none", "-o", "json", file)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		d.t.Fatalf("whodunit scan: %v: %s", err, &stderr)
	}
	d.t.Logf("scan: %s", stderr.Bytes()[bytes.LastIndexByte(bytes.TrimSpace(stderr.Bytes()), '\n')+1:])
	var found []finding
	for line := range bytes.Lines(stdout.Bytes()) {
		var doc struct {
			finding
			User   string `json:"user"`
			RuleID string `json:"rule_id"`
		}
		if err := json.Unmarshal(line, &doc); err != nil {
			d.t.Fatal(err)
		}
		f := finding{Rule: doc.RuleID, Severity: doc.Severity, Message: doc.Message}
		f.AuditID, f.User.Username = doc.AuditID, doc.User
		if f.Rule != "e2e-live" { // the one rule that was not the same all the time
			found = append(found, f)
		}
	}
	return found
}

// expected: the story's findings are there, in number.
func (d *detection) expected(found []finding) {
	got := map[string]int{}
	for _, f := range found {
		got[f.Rule+" "+f.Severity+" "+f.User.Username]++
		got[f.Rule]++
	}
	for what, n := range map[string]int{
		"falco.e2e-terminal high " + cluster.Bob:                 1,
		"falco.e2e-workload-changed low " + cluster.Carol:        1,
		"e2e-sigma-refused low " + cluster.Mallory:               6,
		"e2e-sigma-refused":                                      6, // the filter takes Eve's away
		"e2e-sigma-refused-often high " + cluster.Mallory:        1,
		"e2e-sigma-refused-often":                                1,
		"e2e-sigma-secrets medium " + cluster.Dave:               2,
		"e2e-sigma-secrets":                                      2,
		"parseable.e2e-secrets-listed medium " + cluster.Dave:    2,
		"parseable.e2e-secret-read-twice medium " + cluster.Dave: 1,
		"parseable.e2e-secret-read-twice":                        1,
		"label.e2e-all-secrets high " + cluster.Dave:             1,
		"label.e2e-all-secrets":                                  1,
		"label.e2e-secrets medium " + cluster.Dave:               1,
		"label.e2e-secrets":                                      1,
		"e2e-exec high " + cluster.Bob:                           1,
		"e2e-denied medium " + cluster.Mallory:                   1,
		"e2e-denied medium " + cluster.Eve:                       1,
		"e2e-denied":                                             2,
		"e2e-bound-then-changed high " + cluster.Carol:           1,
		"e2e-bound-then-changed":                                 1,
		"pod-exec medium " + cluster.Bob:                         1,
		"port-forward high " + cluster.Bob:                       1, // the shipped severity is low
		"port-forward":                                           1,
		"rbac-then-workload low " + cluster.Carol:                1,
		"secrets-list-all high " + cluster.Dave:                  1,
		"untrusted-image medium " + cluster.Bob:                  1,
		"untrusted-image":                                        1,
	} {
		if got[what] != n {
			d.t.Errorf("%d findings of %s, not %d", got[what], what, n)
		}
	}
}

func covers(found, wanted []finding) error {
	have := map[string]bool{}
	for _, f := range found {
		have[f.key()] = true
	}
	missing := slices.DeleteFunc(slices.Clone(wanted), func(f finding) bool { return have[f.key()] })
	if len(missing) == 0 {
		return nil
	}
	var names []string
	for _, f := range missing {
		names = append(names, f.key())
	}
	return fmt.Errorf("%d of %d are missing:\n%s", len(missing), len(wanted), strings.Join(names, "\n"))
}

// once: no request has two findings of a rule.
func once(t *testing.T, found []finding) {
	t.Helper()
	times := map[string][]string{}
	for _, f := range found {
		k := f.Rule + " " + f.AuditID
		times[k] = append(times[k], f.Message)
	}
	for k, messages := range times {
		if len(messages) > 1 {
			t.Errorf("%s was found %d times: %q", k, len(messages), messages)
		}
	}
}

// noMore: of the requests that were scanned the server has found nothing that the scan has not.
func noMore(t *testing.T, found, scanned []finding, logged []cluster.Logged) {
	t.Helper()
	in := map[string]bool{}
	for _, l := range logged {
		in[l.AuditID] = true
	}
	more := slices.DeleteFunc(slices.Clone(found), func(f finding) bool { return !in[f.AuditID] || f.Rule == "e2e-live" })
	if err := covers(scanned, more); err != nil {
		t.Errorf("of what the server found, a scan has not: %v", err)
	}
}

// overAPI: the API has the same findings as the command line.
func (d *detection) overAPI(found []finding) {
	d.t.Helper()
	text, err := d.w.get(d.t.Context(), "/api/v1/findings?raw=1&limit=0")
	if err != nil {
		d.t.Fatal(err)
	}
	have := map[string]bool{}
	for line := range strings.Lines(text) {
		var f finding
		if err := json.Unmarshal([]byte(line), &f); err != nil {
			d.t.Fatal(err)
		}
		have[f.ID] = true
	}
	for _, f := range found {
		if !have[f.ID] {
			d.t.Errorf("the API lacks %s", f.key())
		}
	}
}

// told: the receiver was told of all findings of severity high and above, and of no other.
func (d *detection) told(found []finding) {
	d.t.Helper()
	eventually(d.t, soonLimit, "every alert has come", func(context.Context) error {
		got := d.in.ids()
		for _, f := range found {
			if high := f.Severity == "high" || f.Severity == "critical"; high && got[f.ID] == "" {
				return fmt.Errorf("none of %s", f.key())
			}
		}
		return nil
	})
	for id, severity := range d.in.ids() {
		if severity != "high" && severity != "critical" {
			d.t.Errorf("alert %s is of severity %s", id, severity)
		}
	}
}

// inbox is a receiver of alerts.
type inbox struct {
	*httptest.Server
	mu  sync.Mutex
	got map[string]string // severity by id
}

func newInbox(t *testing.T) *inbox {
	i := &inbox{got: map[string]string{}}
	i.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var body struct {
			Findings []finding `json:"findings"`
		}
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			t.Logf("a request to the receiver was cut: %v", err) // by a crash
			return
		}
		i.mu.Lock()
		defer i.mu.Unlock()
		for _, f := range body.Findings {
			i.got[f.ID] = f.Severity
		}
	}))
	t.Cleanup(i.Close)
	return i
}

func (i *inbox) ids() map[string]string {
	i.mu.Lock()
	defer i.mu.Unlock()
	out := map[string]string{}
	for id, s := range i.got {
		out[id] = s
	}
	return out
}
