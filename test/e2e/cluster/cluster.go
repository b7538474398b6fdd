// Package cluster runs a real Kubernetes control plane for tests: etcd, kube-apiserver and kube-controller-manager, on demand
// kube-scheduler and a fake kubelet, on free loopback ports and below one temporary directory. The programs are those of
// test/cluster, one binary that test/cluster/build.sh makes.
//
// Nothing outlives the process that started it: each program watches a pipe whose other end closes with the starter.
package cluster

import (
	"cmp"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

//go:embed audit-policy.yaml
var auditPolicy []byte

// advertised is what the API server tells others to be its address. It is of a range for documentation: nothing is sent there.
const advertised = "192.0.2.10"

// Limits on how long each part may take to become ready. They are wide because a test machine may be busy; on an idle one
// the whole cluster is ready after 5 to 8 s.
const (
	etcdLimit        = 60 * time.Second
	apiServerLimit   = 3 * time.Minute
	controllersLimit = 2 * time.Minute
	nodesLimit       = time.Minute
)

// Config says what to start. The zero value starts the control plane without nodes and without a webhook.
type Config struct {
	Binary    string            // the testcluster program; "" for where build.sh puts it
	Dir       string            // an existing directory for everything; "" makes a temporary one that Stop removes
	Users     []User            // beside DefaultUsers
	Nodes     []string          // names of nodes to fake; any at all starts the scheduler and the fake kubelet
	Kubelets  string            // the address of this machine where their kubelets listen; "" for 127.0.0.1, to which nodes/proxy is refused
	LoadUsers int               // users load-001 and on, for Load
	Policy    []byte            // audit policy; nil for this package's own, which is close to what careful clusters run
	RBAC      []byte            // what the users may do, as manifests; nil for this package's own
	From      map[string]string // from which addresses of this machine users' calls come; others: 127.0.0.1. See Cluster.From
	Log       AuditLog
	Webhook   *Webhook // nil: the log alone
	Flags     []string // more flags for kube-apiserver, last, so that they win
	Bare      bool     // no controller manager: quicker, but no default service accounts, and edit and view grant nothing
}

// AuditLog sets the API server's log backend.
type AuditLog struct {
	MaxSizeMB  int // rotate at this size; 0: never
	MaxBackups int // keep so many rotated files; 0: all
}

// WebhookMode is what --audit-webhook-mode takes.
type WebhookMode string

// The modes. In BlockingStrict a call fails if its RequestReceived event cannot be sent.
const (
	Batch          WebhookMode = "batch"
	Blocking       WebhookMode = "blocking"
	BlockingStrict WebhookMode = "blocking-strict"
)

// Webhook sets the API server's webhook backend. Zero values leave the API server's own defaults.
type Webhook struct {
	URL       string
	CA        []byte // PEM, trusted for URL; nil: the cluster's own authority
	Token     string // bearer token
	Mode      WebhookMode
	BatchSize int           // events in a batch at most
	BatchWait time.Duration // how long a batch may wait to fill
	Buffer    int           // events that may wait
	Backoff   time.Duration // before the second try
}

// Cluster is a running control plane. Its methods are safe for concurrent use.
type Cluster struct {
	Dir       string // everything is below it
	URL       string // of the API server
	AuditPath string // the audit log; rotated files are beside it as audit-TIME.log

	cfg    Config
	ownDir bool
	ca     *authority
	tokens map[string]string // by user
	etcd   *process
	api    *process
	others []*process // clients of the API server, in order of their start
	ports  []*Port    // the API server's

	mu     sync.Mutex // guards others and relays while the cluster runs
	relays []*relay
}

// Start starts a cluster and returns once it is ready: the API server answers /readyz, default service accounts exist and
// nodes are registered. Where it fails, nothing is left running, and the error says where the logs are.
func Start(ctx context.Context, cfg Config) (*Cluster, error) {
	c := &Cluster{cfg: cfg, Dir: cfg.Dir}
	if c.cfg.Binary == "" {
		path, err := Binary()
		if err != nil {
			return nil, err
		}
		c.cfg.Binary = path
	}
	if c.Dir == "" {
		dir, err := os.MkdirTemp("", "testcluster-")
		if err != nil {
			return nil, fmt.Errorf("cannot make directory: %w", err)
		}
		c.Dir, c.ownDir = dir, true
	}
	c.AuditPath = filepath.Join(c.Dir, "audit", "audit.log")
	if err := c.start(ctx); err != nil {
		err = fmt.Errorf("cannot start cluster (logs in %s): %w\n%s", c.path("log"), err, c.Tails(15))
		c.ownDir = false // keep the logs
		return nil, errors.Join(err, c.Stop())
	}
	return c, nil
}

func (c *Cluster) start(ctx context.Context) error {
	for _, dir := range []string{"log", "pki", "kubeconfig", "audit", "home", "bin"} {
		if err := os.MkdirAll(c.path(dir), 0o700); err != nil {
			return err
		}
	}
	// argv[0] is what client-go takes the user agent from, and users see it in kubectl's messages.
	if err := os.Symlink(c.cfg.Binary, c.path("bin", "kubectl")); err != nil {
		return err
	}
	if err := c.writePKI(); err != nil {
		return err
	}
	if err := c.startEtcd(ctx); err != nil {
		return err
	}
	if err := c.startAPIServer(ctx); err != nil {
		return err
	}
	if !c.cfg.Bare {
		if err := c.startControllers(ctx); err != nil {
			return err
		}
	}
	if err := c.grant(ctx); err != nil {
		return err
	}
	if len(c.cfg.Nodes) > 0 {
		return c.startNodes(ctx)
	}
	return nil
}

func (c *Cluster) path(elem ...string) string {
	return filepath.Join(append([]string{c.Dir}, elem...)...)
}

func (c *Cluster) startEtcd(ctx context.Context) error {
	addressFile := c.path("etcd.address")
	var err error
	c.etcd, err = c.spawn("etcd", "etcd", "--data-dir", c.path("etcd"), "--address-file", addressFile)
	if err != nil {
		return err
	}
	return c.etcd.until(ctx, etcdLimit, func(context.Context) error {
		_, err := os.Stat(addressFile)
		return err
	})
}

func (c *Cluster) startAPIServer(ctx context.Context) error {
	etcdURL, err := os.ReadFile(c.path("etcd.address"))
	if err != nil {
		return err
	}
	port, err := HoldPort()
	if err != nil {
		return err
	}
	c.ports = append(c.ports, port)
	c.URL = "https://" + port.Address()
	if err := c.writeUsers(); err != nil {
		return err
	}
	for user, addr := range c.cfg.From {
		if err := c.From(ctx, user, addr); err != nil {
			return err
		}
	}
	flags, err := c.auditFlags()
	if err != nil {
		return err
	}
	args := append([]string{
		"kube-apiserver", "--etcd-servers=" + strings.TrimSpace(string(etcdURL)),
		"--bind-address=127.0.0.1", fmt.Sprintf("--secure-port=%d", port.Number()), "--advertise-address=" + advertised,
		"--tls-cert-file=" + c.path("pki", "server.crt"), "--tls-private-key-file=" + c.path("pki", "server.key"),
		"--client-ca-file=" + c.path("pki", "ca.crt"), "--token-auth-file=" + c.path("tokens.csv"), "--authorization-mode=Node,RBAC",
		"--kubelet-certificate-authority=" + c.path("pki", "ca.crt"), "--kubelet-preferred-address-types=InternalIP",
		"--kubelet-client-certificate=" + c.path("pki", "client.crt"), "--kubelet-client-key=" + c.path("pki", "client.key"),
		"--service-account-issuer=https://kubernetes.default.svc", "--service-account-key-file=" + c.path("pki", "sa.pub"),
		"--service-account-signing-key-file=" + c.path("pki", "sa.key"), "--service-cluster-ip-range=10.96.0.0/16",
	}, append(flags, c.cfg.Flags...)...)
	if c.api, err = c.spawn("kube-apiserver", args...); err != nil {
		return err
	}
	client, err := c.httpClient()
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	return c.api.until(ctx, apiServerLimit, func(ctx context.Context) error { return ready(ctx, client, c.URL+"/readyz", c.tokens[Admin]) })
}

func (c *Cluster) auditFlags() ([]string, error) {
	policy := c.cfg.Policy
	if policy == nil {
		policy = auditPolicy
	}
	if err := os.WriteFile(c.path("audit-policy.yaml"), policy, 0o600); err != nil {
		return nil, err
	}
	flags := []string{"--audit-policy-file=" + c.path("audit-policy.yaml"), "--audit-log-path=" + c.AuditPath,
		fmt.Sprintf("--audit-log-maxsize=%d", c.cfg.Log.MaxSizeMB), fmt.Sprintf("--audit-log-maxbackup=%d", c.cfg.Log.MaxBackups)}
	w := c.cfg.Webhook
	if w == nil {
		return flags, nil
	}
	ca := c.path("pki", "ca.crt")
	if w.CA != nil {
		ca = c.path("pki", "webhook-ca.crt")
		if err := os.WriteFile(ca, w.CA, 0o600); err != nil {
			return nil, err
		}
	}
	file := c.path("webhook.kubeconfig")
	if err := writeKubeconfig(file, w.URL, ca, w.Token); err != nil {
		return nil, err
	}
	flags = append(flags, "--audit-webhook-config-file="+file)
	if w.Mode != "" {
		flags = append(flags, "--audit-webhook-mode="+string(w.Mode))
	}
	if w.BatchSize > 0 {
		flags = append(flags, fmt.Sprintf("--audit-webhook-batch-max-size=%d", w.BatchSize))
	}
	if w.BatchWait > 0 {
		flags = append(flags, "--audit-webhook-batch-max-wait="+w.BatchWait.String())
	}
	if w.Buffer > 0 {
		flags = append(flags, fmt.Sprintf("--audit-webhook-batch-buffer-size=%d", w.Buffer))
	}
	if w.Backoff > 0 {
		flags = append(flags, "--audit-webhook-initial-backoff="+w.Backoff.String())
	}
	return flags, nil
}

func (c *Cluster) startControllers(ctx context.Context) error {
	kubeconfig := c.Kubeconfig("system:kube-controller-manager")
	p, err := c.spawn("kube-controller-manager", "kube-controller-manager", "--kubeconfig="+kubeconfig,
		"--authentication-kubeconfig="+kubeconfig, "--authorization-kubeconfig="+kubeconfig, "--bind-address=127.0.0.1", "--secure-port=0",
		"--use-service-account-credentials=true", "--service-account-private-key-file="+c.path("pki", "sa.key"),
		"--root-ca-file="+c.path("pki", "ca.crt"), "--cluster-signing-cert-file="+c.path("pki", "ca.crt"),
		"--cluster-signing-key-file="+c.path("pki", "ca.key"), "--leader-elect=false")
	if err != nil {
		return err
	}
	c.others = append(c.others, p)
	// Without --secure-port it has no health check of its own: it works when its work is done. Waiting by watch keeps the audit
	// log free of our questions.
	return p.until(ctx, controllersLimit, func(ctx context.Context) error {
		if r := c.Kubectl(ctx, Admin, "wait", "--for=create", "--timeout=60s", "serviceaccount/default", "-n", "default"); r.Err != nil {
			return r.Err
		}
		return c.Kubectl(ctx, Admin, "wait", "--for=jsonpath={.rules[0].verbs}", "--timeout=60s", "clusterrole/edit").Err
	})
}

func (c *Cluster) startNodes(ctx context.Context) error {
	kubeconfig := c.Kubeconfig("system:kube-scheduler")
	p, err := c.spawn("kube-scheduler", "kube-scheduler", "--kubeconfig="+kubeconfig, "--authentication-kubeconfig="+kubeconfig,
		"--authorization-kubeconfig="+kubeconfig, "--bind-address=127.0.0.1", "--secure-port=0", "--leader-elect=false")
	if err != nil {
		return err
	}
	c.others = append(c.others, p)
	return c.AddNodes(ctx, c.cfg.Nodes...)
}

// AddNodes starts the fake kubelets of nodes, whose users system:node:NAME have kubeconfigs, and waits until they are ready.
func (c *Cluster) AddNodes(ctx context.Context, names ...string) error {
	args := []string{"fakekubelet", "--address", cmp.Or(c.cfg.Kubelets, "127.0.0.1"), "--cert", c.path("pki", "kubelet.crt"), "--key", c.path("pki", "kubelet.key")}
	for _, n := range names {
		args = append(args, "--node", n+"="+c.Kubeconfig("system:node:"+n))
	}
	p, err := c.spawn("fakekubelet", args...)
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.others = append(c.others, p)
	c.mu.Unlock()
	return p.until(ctx, nodesLimit, func(ctx context.Context) error {
		return c.Kubectl(ctx, Admin, append([]string{"wait", "--for=condition=Ready", "--timeout=5s", "node"}, names...)...).Err
	})
}

// Stop ends the clients of the API server, then the API server, which flushes its audit backends, then etcd. It removes the
// directory if Start made it. It may be called again.
func (c *Cluster) Stop() error {
	var errs []error
	for _, p := range c.others {
		p.terminate() // all at once: they do not depend on each other
	}
	for _, p := range append(c.others, c.api, c.etcd) {
		if p != nil {
			errs = append(errs, p.stop())
		}
	}
	for _, r := range c.relays {
		r.close()
	}
	for _, p := range c.ports {
		errs = append(errs, p.Release())
	}
	c.others, c.api, c.etcd, c.ports, c.relays = nil, nil, nil, nil, nil
	if c.ownDir {
		errs = append(errs, os.RemoveAll(c.Dir))
	}
	return errors.Join(errs...)
}

// StopAPIServer ends the API server alone and waits until it has flushed what its audit backends hold. Stop is all that may
// follow.
func (c *Cluster) StopAPIServer() error {
	for _, p := range c.others {
		p.terminate()
	}
	var errs []error
	for _, p := range append(c.others, c.api) {
		errs = append(errs, p.stop())
	}
	c.others, c.api = nil, nil
	return errors.Join(errs...)
}

// Keep makes Stop leave the directory in place.
func (c *Cluster) Keep() { c.ownDir = false }
