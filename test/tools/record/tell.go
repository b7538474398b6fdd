package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"whodunit/test/e2e/cluster"
)

// step is one thing that somebody does.
type step struct {
	who     string
	args    []string // of kubectl
	stdin   string
	editor  string // KUBE_EDITOR
	refused bool   // it must fail: the API server says no
	curl    *curl  // a request without kubectl, in place of args
}

// curl is a plain request, as a script in a pod makes it. Without a token it is anonymous.
type curl struct {
	path, agent, token string
	want               int // HTTP status
}

// act is a run of steps with a quiet time after it.
type act struct {
	title string
	steps []step
}

// kubectl makes a step of a command line. Words are split at spaces; what holds spaces goes into more.
func kubectl(who, line string, more ...string) step {
	return step{who: who, args: append(strings.Fields(line), more...)}
}

func refused(s step) step { s.refused = true; return s }

func stdin(s step, text string) step { s.stdin = text; return s }

// teller plays acts on a cluster.
type teller struct {
	c     *cluster.Cluster
	pause time.Duration
	say   io.Writer
	log   bytes.Buffer // one JSON object a command
	n     int
}

func (t *teller) tell(ctx context.Context) error {
	for who, addr := range addresses() {
		if err := t.c.From(ctx, who, addr); err != nil {
			return err
		}
	}
	for _, a := range story() {
		fmt.Fprintf(t.say, "record: %s\n", a.title)
		for _, s := range a.steps {
			if err := t.play(ctx, s); err != nil {
				return fmt.Errorf("%s: %w", a.title, err)
			}
			if err := wait(ctx, t.pause/20); err != nil { // people do not type at once
				return err
			}
		}
		if err := wait(ctx, t.pause); err != nil {
			return err
		}
	}
	return nil
}

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

func (t *teller) play(ctx context.Context, s step) error {
	if s.curl != nil {
		return t.request(ctx, s)
	}
	who := s.who
	if ns, name, ok := serviceAccount(who); ok {
		var err error
		if who, err = t.c.LoginServiceAccount(ctx, ns, name); err != nil {
			return err
		}
	}
	var env []string
	if s.editor != "" {
		env = append(env, "KUBE_EDITOR="+s.editor)
	}
	r := t.c.KubectlWith(ctx, cluster.KubectlOptions{User: who, Stdin: s.stdin, Env: env}, s.args...)
	if err := t.keep(s, r); err != nil {
		return err
	}
	if refused := strings.Contains(r.Stderr, "Forbidden") || strings.Contains(r.Stderr, "forbidden"); s.refused && (r.Err == nil || !refused) {
		return fmt.Errorf("%s as %s was to be refused: %w: %s", r.Command, who, errors.Join(r.Err), r.Stderr)
	}
	if s.refused {
		return nil
	}
	return r.Err
}

// keep writes one line about a command for those who want to compare.
func (t *teller) keep(s step, r cluster.Result) error {
	t.n++
	ids := []string{}
	for _, req := range r.Requests {
		if req.Audited() {
			ids = append(ids, req.AuditID)
		}
	}
	return json.NewEncoder(&t.log).Encode(map[string]any{"id": t.n, "user": s.who, "command": r.Command, "ok": r.Err == nil,
		"start": r.Start.UTC(), "end": r.End.UTC(), "auditIDs": ids})
}

func serviceAccount(user string) (namespace, name string, ok bool) {
	rest, ok := strings.CutPrefix(user, "system:serviceaccount:")
	if !ok {
		return "", "", false
	}
	return strings.Cut(rest, ":")
}

// request sends what curl would, from the address of who.
func (t *teller) request(ctx context.Context, s step) error {
	token := s.curl.token
	if ns, name, ok := serviceAccount(s.who); ok && token == "" {
		r := t.c.Kubectl(ctx, cluster.Admin, "create", "token", name, "-n", ns) // as the kubelet does for a pod
		if r.Err != nil {
			return r.Err
		}
		token = strings.TrimSpace(r.Stdout)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(t.c.CA())
	dialer := &net.Dialer{}
	if addr := podAddress(s.who); addr != "" {
		dialer.LocalAddr = &net.TCPAddr{IP: net.ParseIP(addr)}
	}
	client := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
		DialContext: dialer.DialContext, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool}}}
	defer client.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, t.c.URL+s.curl.path, http.NoBody)
	if err != nil {
		return err
	}
	req.Header.Set("User-Agent", s.curl.agent)
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	start := time.Now()
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != s.curl.want {
		return fmt.Errorf("GET %s as %s is answered %s, want %d", s.curl.path, s.who, resp.Status, s.curl.want)
	}
	return t.keep(s, cluster.Result{Command: "curl " + s.curl.path, Start: start, End: time.Now(),
		Requests: []cluster.Request{{Method: http.MethodGet, URL: s.curl.path, AuditID: resp.Header.Get("Audit-Id")}}})
}
