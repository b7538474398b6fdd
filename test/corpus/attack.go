package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"whodunit/test/e2e/cluster"
)

// step is one command of an attack.
type step struct {
	rows  []int // of the catalogue
	who   string
	args  []string // of kubectl
	curl  *request // a request of curl, in place of args
	stdin string
	want  outcome
	limit time.Duration // a command that does not end by itself is killed after it
	times int           // run so often; "%d" in curl's path and token becomes the run's number
}

// outcome is how a command is to end.
type outcome int

const (
	works  outcome = iota
	denied         // the API server says no
	either         // the fake kubelet may not play along; the request counts
)

func (s step) denied() step                { s.want = denied; return s }
func (s step) either() step                { s.want = either; return s }
func (s step) in(text string) step         { s.stdin = text; return s }
func (s step) within(d time.Duration) step { s.limit = d; return s }
func (s step) repeat(n int) step           { s.times = n; return s }
func (s step) more(args ...string) step    { s.args = append(s.args, args...); return s }
func rows(n ...int) []int                  { return n }

// kubectl makes a step of a command line; its words are split at spaces.
func kubectl(rows []int, who, line string) step {
	return step{rows: rows, who: who, args: strings.Fields(line)}
}

// curl makes a step of a request: METHOD PATH.
func curl(rows []int, who, from, agent, line string, want int) step {
	method, path, _ := strings.Cut(line, " ")
	return step{rows: rows, who: who, curl: &request{method: method, path: path, agent: agent, from: from, want: want}}
}

// attack plays the attacks on a cluster in which a little else goes on.
func attack(ctx context.Context, p *player, _ time.Duration) error {
	if err := p.setUp(ctx, "victims"); err != nil {
		return err
	}
	if err := p.kubectl(ctx, cluster.Admin, many(), "create -f -"); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(p.dir, "tool"), []byte("#!/bin/sh\n"), 0o600); err != nil { // for kubectl cp
		return err
	}
	tokens := map[string]string{}
	for _, app := range []string{"shop/deployer", "azure-arc/kube-aad-proxy", "shop/tools"} {
		ns, name, _ := strings.Cut(app, "/")
		d, err := p.login(ctx, ns, name)
		if err != nil {
			return err
		}
		if err := p.kubeconfig(ctx, d); err != nil {
			return err
		}
		tokens[d.user()] = d.token
	}
	f, err := p.facts(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, s := range attacks(f) {
		if s.curl != nil && s.curl.token == "" {
			s.curl.token = tokens[s.who]
			if s.curl.token == "" {
				s.curl.token = p.c.Token(s.who)
			}
		}
		if err := p.strike(ctx, s); err != nil {
			errs = append(errs, err) // the others are worth knowing too
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return wait(ctx, 5*time.Second) // what controllers make of it
}

// many is what there must be many of: secrets to read and config maps to delete.
func many() string {
	var b strings.Builder
	for i := range 20 {
		fmt.Fprintf(&b, "{apiVersion: v1, kind: Secret, metadata: {name: key-%d, namespace: shop}, stringData: {key: example-not-a-key}}\n---\n", i)
	}
	for i := range 60 {
		fmt.Fprintf(&b, "{apiVersion: v1, kind: ConfigMap, metadata: {name: settings-%d, namespace: team-a}, data: {limit: \"%d\"}}\n---\n", i, i)
	}
	return b.String()
}

func (p *player) facts(ctx context.Context) (facts, error) {
	csr, err := signingRequest("intruder", "platform")
	if err != nil {
		return facts{}, err
	}
	r := p.c.Kubectl(ctx, cluster.Admin, "get", "node", "node-2", "-o", "jsonpath={.metadata.uid}")
	return facts{csr: csr, nodeUID: r.Stdout}, r.Err
}

func (p *player) strike(ctx context.Context, s step) error {
	for i := range max(s.times, 1) {
		var ids []string
		var command string
		var err error
		start := time.Now()
		if s.curl != nil {
			ids, command, err = p.send(ctx, s, i)
		} else {
			ids, command, err = p.run(ctx, s)
		}
		if err != nil {
			return fmt.Errorf("rows %v: %w", s.rows, err)
		}
		p.done = append(p.done, did{s.rows, s.who, command, ids, start, time.Now()})
	}
	return nil
}

// did is a command that was run.
type did struct {
	rows       []int
	user       string
	command    string
	ids        []string
	start, end time.Time
}

// commands are the lines of attack.commands.jsonl: one for each row of the catalogue and command. kubectl's trace does not name the requests
// of exec, attach and port-forward: they are those of its user while it ran, since nothing else of the user's did.
func (p *player) commands(events []cluster.Logged) ([]byte, error) {
	var out bytes.Buffer
	for _, d := range p.done {
		for _, e := range events {
			var t struct{ RequestReceivedTimestamp time.Time }
			if s := e.ObjectRef.Subresource; e.User.Username != d.user || s != "exec" && s != "attach" && s != "portforward" {
				continue
			}
			if err := json.Unmarshal(e.Raw, &t); err != nil {
				return nil, err
			}
			if at := t.RequestReceivedTimestamp; !at.Before(d.start) && !at.After(d.end) && !slices.Contains(d.ids, e.AuditID) {
				d.ids = append(d.ids, e.AuditID)
			}
		}
		if len(d.ids) == 0 {
			return nil, fmt.Errorf("%s as %s made no request", d.command, d.user)
		}
		for _, row := range d.rows {
			if err := json.NewEncoder(&out).Encode(struct {
				Row     int      `json:"row"`
				User    string   `json:"user"`
				Command string   `json:"command"`
				IDs     []string `json:"audit_ids"`
			}{row, d.user, d.command, d.ids}); err != nil {
				return nil, err
			}
		}
	}
	return out.Bytes(), nil
}

func (p *player) run(ctx context.Context, s step) (ids []string, command string, err error) {
	if s.limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, s.limit)
		defer cancel()
	}
	r := p.c.KubectlWith(ctx, cluster.KubectlOptions{User: s.who, Stdin: s.stdin}, s.args...)
	for _, q := range r.Requests {
		if q.Audited() {
			ids = append(ids, q.AuditID)
		}
	}
	no := strings.Contains(strings.ToLower(r.Stderr), "forbidden")
	switch {
	case s.want == works && r.Err != nil:
		return nil, "", r.Err
	case s.want == denied && (r.Err == nil || !no):
		return nil, "", fmt.Errorf("%s as %s was to be refused: %w %s", r.Command, s.who, r.Err, r.Stderr)
	}
	return ids, r.Command, nil
}

func (p *player) send(ctx context.Context, s step, i int) (ids []string, command string, err error) {
	r := *s.curl
	if s.times > 0 {
		r.path, r.token = strings.ReplaceAll(r.path, "%d", fmt.Sprint(i)), strings.ReplaceAll(r.token, "%d", fmt.Sprint(i))
	}
	r.body = s.stdin
	id, _, err := p.curl(ctx, r)
	if err != nil {
		return nil, "", err
	}
	command = "curl"
	if r.agent != "" {
		command += " -A '" + r.agent + "'"
	}
	if r.method != http.MethodGet {
		command += " -X " + r.method
	}
	return []string{id}, command + " " + r.path, nil
}
