package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"whodunit/test/e2e/cluster"
)

const (
	kubeletAgent = "kubelet/v1.36.3 (linux/amd64) kubernetes/0000000"
	readyWithin  = "90s"
)

// player does what the stories say.
type player struct {
	c   *cluster.Cluster
	say io.Writer
	dir string

	done []did // of the attack; one at a time

	mu  sync.Mutex
	seq int
}

func newPlayer(c *cluster.Cluster, say io.Writer) *player {
	return &player{c: c, say: say, dir: filepath.Join(c.Dir, "home")}
}

func (p *player) tell(format string, args ...any) {
	fmt.Fprintf(p.say, "corpus: "+format+"\n", args...)
}

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// manifest is a file of manifests/.
func manifest(name string) string {
	b, err := files.ReadFile("manifests/" + name + ".yaml")
	if err != nil {
		panic(err) // they are built in
	}
	return string(b)
}

// kubectl runs a command line, whose words are split at spaces, and wants it to succeed.
func (p *player) kubectl(ctx context.Context, user, stdin, line string) error {
	return p.c.KubectlWith(ctx, cluster.KubectlOptions{User: user, Stdin: stdin}, strings.Fields(line)...).Err
}

// setUp does what is no part of the story, by the recorder's own user.
func (p *player) setUp(ctx context.Context, manifests ...string) error {
	for _, m := range manifests {
		if err := p.kubectl(ctx, cluster.Admin, manifest(m), "apply -f -"); err != nil {
			return err
		}
	}
	return nil
}

// pod is a running pod and the token of its service account, with which the programs in it call.
type pod struct {
	ns, name, uid, node, ip, account, token string
}

// login waits for a pod with label app=APP and gets its token as its kubelet does.
func (p *player) login(ctx context.Context, ns, app string) (pod, error) {
	if err := p.kubectl(ctx, cluster.Admin, "", "wait --for=condition=Ready pod -l app="+app+" -n "+ns+" --timeout="+readyWithin); err != nil {
		return pod{}, err
	}
	r := p.c.Kubectl(ctx, cluster.Admin, "get", "pods", "-l", "app="+app, "-n", ns, "-o", "json")
	if r.Err != nil {
		return pod{}, r.Err
	}
	var list struct {
		Items []struct {
			Metadata struct{ Name, UID string }
			Spec     struct{ NodeName, ServiceAccountName string }
			Status   struct{ PodIP string }
		}
	}
	if err := json.Unmarshal([]byte(r.Stdout), &list); err != nil {
		return pod{}, err
	}
	for _, i := range list.Items {
		if i.Status.PodIP == "" || p.c.Token("system:node:"+i.Spec.NodeName) == "" {
			continue
		}
		d := pod{ns: ns, name: i.Metadata.Name, uid: i.Metadata.UID, node: i.Spec.NodeName, ip: i.Status.PodIP, account: i.Spec.ServiceAccountName}
		return d, p.token(ctx, &d)
	}
	return pod{}, fmt.Errorf("no pod %s in %s has an address", app, ns)
}

func (p *player) token(ctx context.Context, d *pod) error {
	kubelet := p.client("system:node:"+d.node, kubeletAgent)
	var answer struct{ Status struct{ Token string } }
	err := kubelet.do(ctx, http.MethodPost, "/api/v1/namespaces/"+d.ns+"/serviceaccounts/"+d.account+"/token", map[string]any{
		"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
		"spec": map[string]any{"expirationSeconds": 3607, "boundObjectRef": map[string]any{"apiVersion": "v1", "kind": "Pod", "name": d.name, "uid": d.uid}},
	}, &answer)
	d.token = answer.Status.Token
	return err
}

// user is how the API server names the pod's service account.
func (d pod) user() string { return "system:serviceaccount:" + d.ns + ":" + d.account }

// kubeconfig lets kubectl run in the pod: as its account, from its address.
func (p *player) kubeconfig(ctx context.Context, d pod) error {
	return p.c.Connect(ctx, d.user(), d.ip, cluster.Credentials{Token: d.token})
}

// request is what curl is to send.
type request struct {
	method, path, agent, token string
	from                       string // address
	body                       string
	want                       int // HTTP status; 0: any
}

// curl runs curl and returns the request's audit id.
func (p *player) curl(ctx context.Context, r request) (auditID, body string, err error) {
	p.mu.Lock()
	p.seq++
	head := filepath.Join(p.dir, fmt.Sprintf("curl-%d", p.seq))
	p.mu.Unlock()
	args := []string{"--silent", "--show-error", "--max-time", "20", "--cacert", filepath.Join(p.c.Dir, "pki", "ca.crt"), "--dump-header", head, "--interface", r.from}
	if r.method != "" {
		args = append(args, "-X", r.method)
	}
	if r.agent != "" {
		args = append(args, "-A", r.agent)
	}
	if r.token != "" {
		args = append(args, "-H", "Authorization: Bearer "+r.token)
	}
	if r.body != "" {
		args = append(args, "-H", "Content-Type: application/json", "--data-binary", "@-")
	}
	var stdout, stderr strings.Builder
	cmd := exec.CommandContext(ctx, "curl", append(args, p.c.URL+r.path)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(r.body), &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", "", fmt.Errorf("curl %s: %w: %s", r.path, err, stderr.String())
	}
	text, err := os.ReadFile(head)
	if err != nil {
		return "", "", err
	}
	code := 0
	for line := range strings.Lines(string(text)) {
		if _, rest, ok := strings.Cut(line, " "); ok && strings.HasPrefix(line, "HTTP/") {
			_, _ = fmt.Sscan(rest, &code)
		}
		if k, v, ok := strings.Cut(line, ":"); ok && strings.EqualFold(k, "audit-id") {
			auditID = strings.TrimSpace(v)
		}
	}
	if r.want != 0 && code != r.want {
		return auditID, "", fmt.Errorf("curl %s %s is answered %d, want %d: %.300s", r.method, r.path, code, r.want, stdout.String())
	}
	return auditID, stdout.String(), os.Remove(head)
}

var errStatus = errors.New("unexpected answer")
