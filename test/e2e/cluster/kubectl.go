package cluster

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"strings"
	"time"
)

// Result is what one kubectl call did.
type Result struct {
	Command    string    // as a person would type it
	Stdout     string    //
	Stderr     string    // without the trace of the requests
	Requests   []Request // that got an answer, in order
	Err        error     // the exit code and Stderr, nil for success
	Start, End time.Time
}

// Request is one API call that kubectl made, as its own trace tells it.
type Request struct {
	Method, URL string // URL without scheme and host
	AuditID     string // from the response's header: the API server's own word
}

// Audited reports whether this package's audit policy keeps the request: it leaves out a few paths that say nothing.
func (r Request) Audited() bool {
	return !strings.HasPrefix(r.URL, "/openapi") && !strings.HasPrefix(r.URL, "/version") && !strings.HasPrefix(r.URL, "/readyz")
}

// kubectlLimit bounds one call, so that a watch that never ends fails its test and not the whole run.
const kubectlLimit = 2 * time.Minute

// A trace line of kubectl -v=8 is klog's header, or a header of an HTTP message, indented by tabs.
var (
	klogLine    = regexp.MustCompile(`^[IWEF]\d{4} \d\d:\d\d:\d\d\.\d+ +\d+ \S+\.go:\d+\] `)
	requestLine = regexp.MustCompile(`\] "Request" verb="([A-Z]+)" url="[a-z]+://[^/"]+([^"]*)"`)
	auditLine   = regexp.MustCompile(`^\s+Audit-Id: (\S+)$`)
)

// Kubectl runs kubectl as one of the cluster's users and waits for its end.
func (c *Cluster) Kubectl(ctx context.Context, user string, args ...string) Result {
	return c.KubectlWith(ctx, KubectlOptions{User: user}, args...)
}

// KubectlOptions are for the less common ways to call kubectl.
type KubectlOptions struct {
	User  string
	Stdin string
	Env   []string // NAME=value, e.g. KUBE_EDITOR
}

// KubectlWith is Kubectl with options.
func (c *Cluster) KubectlWith(ctx context.Context, o KubectlOptions, args ...string) Result {
	ctx, cancel := context.WithTimeout(ctx, kubectlLimit)
	defer cancel()
	r := Result{Command: "kubectl " + strings.Join(args, " "), Start: time.Now()}
	// Flags come first: behind a "--" of exec they would be the command's own.
	flags := []string{"--kubeconfig=" + c.Kubeconfig(o.User), "--v=8"}
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, c.path("bin", "kubectl"), append(flags, args...)...)
	cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr = c.path("home"), strings.NewReader(o.Stdin), &stdout, &stderr
	cmd.Env = append(c.env(), o.Env...)
	err := cmd.Run()
	r.End = time.Now()
	r.Stdout = stdout.String()
	r.Stderr, r.Requests = splitTrace(stderr.String())
	if err != nil {
		r.Err = fmt.Errorf("%s (as %s): %w: %s", r.Command, o.User, err, strings.TrimSpace(r.Stderr))
	}
	return r
}

// splitTrace parts what kubectl -v=8 says to people from its trace, and takes the requests from the latter.
func splitTrace(stderr string) (rest string, requests []Request) {
	var out strings.Builder
	var last Request
	end := "" // what the trace's last line begins with, while in one of several lines
	for line := range strings.Lines(stderr) {
		text := strings.TrimRight(line, "\n")
		if m := requestLine.FindStringSubmatch(text); m != nil {
			last = Request{Method: m[1], URL: m[2]}
		}
		if m := auditLine.FindStringSubmatch(text); end != "" && m != nil {
			last.AuditID = m[1]
			requests = append(requests, last)
		}
		switch {
		case klogLine.MatchString(text) && strings.HasSuffix(text, "=<"):
			end = " >"
		case klogLine.MatchString(text) && strings.HasSuffix(text, "[{"): // a Status as JSON
			end = "}]"
		case klogLine.MatchString(text):
			end = ""
		case end != "":
			if strings.HasPrefix(text, end) {
				end = ""
			}
		default:
			out.WriteString(line)
		}
	}
	return out.String(), requests
}

// Load is made-up load by many users, as test/cluster/loadgen.go makes it.
type Load struct {
	Duration   time.Duration
	Rate       float64 // calls a second; 0: as fast as it goes
	Namespaces int     // 0: 5
	Workers    int     // 0: 8
	NoSetup    bool    // the namespaces and bindings exist from an earlier load
}

// RunLoad makes load until it is over or ctx is done, and returns what loadgen prints. It needs Config.LoadUsers.
func (c *Cluster) RunLoad(ctx context.Context, l Load) (string, error) {
	if l.Namespaces == 0 {
		l.Namespaces = 5
	}
	if l.Workers == 0 {
		l.Workers = 8
	}
	cmd := exec.CommandContext(ctx, c.cfg.Binary, "loadgen", "--kubeconfig="+c.Kubeconfig(Admin), "--token-file="+c.path("tokens.csv"),
		"--duration="+l.Duration.String(), fmt.Sprintf("--rate=%g", l.Rate), fmt.Sprintf("--namespaces=%d", l.Namespaces),
		fmt.Sprintf("--workers=%d", l.Workers), fmt.Sprintf("--setup=%t", !l.NoSetup))
	cmd.Env, cmd.Dir = c.env(), c.path("home")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("cannot make load: %w: %s", err, out)
	}
	return string(out), nil
}
