package cluster

import (
	"context"
	"crypto/rand"
	_ "embed"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"os"
	"strings"
)

//go:embed rbac.yaml
var rbac []byte

// Names of the users that every cluster has, beside those of its components.
const (
	Admin   = "admin"                // may do everything
	Alice   = "alice@example.test"   // of the developers and of their leads: may edit team-a and shop, and impersonate
	Bob     = "bob@example.test"     // a developer: may edit team-a and shop
	Carol   = "carol@example.test"   // an SRE: admin of every namespace
	Dave    = "dave@example.test"    // of the security team: may read everything, secrets too
	Eve     = "eve@example.test"     // an outside contractor: may read team-a
	Mallory = "mallory@example.test" // may do nothing
	CIBot   = "ci-bot"               // rolls out: may edit the workloads of team-a and shop
)

// User is one entry of the API server's token file. Its token is random.
type User struct {
	Name   string
	Groups []string
}

// DefaultUsers are the users that every cluster has. What they may do is in rbac.yaml, by group.
func DefaultUsers() []User {
	return []User{
		{Admin, []string{"system:masters"}},
		{Alice, []string{"developers", "leads"}},
		{Bob, []string{"developers"}},
		{Carol, []string{"sre"}},
		{Dave, []string{"security"}},
		{Eve, []string{"contractors"}},
		{Mallory, nil},
		{CIBot, []string{"ci"}},
		{"system:kube-controller-manager", nil},
		{"system:kube-scheduler", nil},
	}
}

func (c *Cluster) users() []User {
	users := append(DefaultUsers(), c.cfg.Users...)
	for _, n := range c.cfg.Nodes {
		users = append(users, User{"system:node:" + n, []string{"system:nodes"}})
	}
	for i := range c.cfg.LoadUsers {
		groups := []string{"load-edit"}
		if i%4 == 3 {
			groups = []string{"load-view"} // whose writes are refused
		}
		users = append(users, User{fmt.Sprintf("load-%03d", i+1), groups})
	}
	return users
}

// writeUsers writes the token file and one kubeconfig for each user.
func (c *Cluster) writeUsers() error {
	c.tokens = map[string]string{}
	var b strings.Builder
	w := csv.NewWriter(&b)
	for i, u := range c.users() {
		token := rand.Text()
		c.tokens[u.Name] = token
		if err := w.Write([]string{token, u.Name, fmt.Sprintf("uid-%03d", i+1), strings.Join(u.Groups, ",")}); err != nil {
			return err
		}
		if err := writeKubeconfig(c.Kubeconfig(u.Name), c.URL, c.path("pki", "ca.crt"), token); err != nil {
			return err
		}
	}
	w.Flush()
	if err := w.Error(); err != nil {
		return err
	}
	return os.WriteFile(c.path("tokens.csv"), []byte(b.String()), 0o600)
}

// Kubeconfig is the path of a user's kubeconfig.
func (c *Cluster) Kubeconfig(user string) string {
	return c.path("kubeconfig", strings.NewReplacer(":", "_", "/", "_").Replace(user)+".kubeconfig")
}

// Token is a user's bearer token, "" for an unknown user.
func (c *Cluster) Token(user string) string { return c.tokens[user] }

// LoginServiceAccount asks the API server for a token of a service account and returns the account's user name, which
// Kubectl then takes.
func (c *Cluster) LoginServiceAccount(ctx context.Context, namespace, name string) (user string, err error) {
	r := c.Kubectl(ctx, Admin, "create", "token", name, "-n", namespace)
	if r.Err != nil {
		return "", r.Err
	}
	user = "system:serviceaccount:" + namespace + ":" + name
	return user, writeKubeconfig(c.Kubeconfig(user), c.URL, c.path("pki", "ca.crt"), strings.TrimSpace(r.Stdout))
}

// Connect writes a kubeconfig for a user with credentials of their own, whose calls come from addr (see From).
func (c *Cluster) Connect(ctx context.Context, user, addr string, cred Credentials) error {
	url, err := c.relay(ctx, addr)
	if err != nil {
		return err
	}
	return writeKubeconfigFor(c.Kubeconfig(user), url, c.path("pki", "ca.crt"), cred)
}

// Credentials are how a user proves who they are: a token, or a certificate and its key in PEM.
type Credentials struct {
	Token     string
	Cert, Key []byte
}

// writeKubeconfig writes a kubeconfig for a token.
func writeKubeconfig(file, url, caFile, token string) error {
	return writeKubeconfigFor(file, url, caFile, Credentials{Token: token})
}

// writeKubeconfigFor writes a kubeconfig as JSON, which is YAML.
func writeKubeconfigFor(file, url, caFile string, cred Credentials) error {
	named := func(kind string, v any) []any { return []any{map[string]any{"name": "test", kind: v}} }
	user := map[string]any{"token": cred.Token}
	if cred.Token == "" {
		user = map[string]any{"client-certificate-data": cred.Cert, "client-key-data": cred.Key} // bytes become base64
	}
	b, err := json.Marshal(map[string]any{
		"apiVersion": "v1", "kind": "Config", "current-context": "test",
		"clusters": named("cluster", map[string]any{"server": url, "certificate-authority": caFile}),
		"users":    named("user", user),
		"contexts": named("context", map[string]any{"cluster": "test", "user": "test"}),
	})
	if err != nil {
		return err
	}
	return os.WriteFile(file, b, 0o600)
}

// grant creates the namespaces and what the users may do.
func (c *Cluster) grant(ctx context.Context) error {
	file := c.path("rbac.yaml")
	manifests := c.cfg.RBAC
	if manifests == nil {
		manifests = rbac
	}
	if err := os.WriteFile(file, manifests, 0o600); err != nil {
		return err
	}
	return c.Kubectl(ctx, Admin, "create", "-f", file).Err
}
