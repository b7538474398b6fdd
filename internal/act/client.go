package act

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/types"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// client makes requests to one API server, each once: client-go's own retries are off, because an attempt is one attempt.
type client struct {
	cluster string
	rest    *rest.RESTClient
	http    *http.Client
	user    string // ours, "" until whoami
}

func newClient(c Cluster, key []byte, version string) (*client, error) {
	cfg, err := c.config()
	if err != nil {
		return nil, err
	}
	if cfg.Impersonate.UserName != "" || cfg.Impersonate.UID != "" || len(cfg.Impersonate.Groups) > 0 {
		return nil, errors.New("the configuration impersonates: our requests need an account of their own")
	}
	u, _, err := rest.DefaultServerUrlFor(cfg)
	if err != nil {
		return nil, fmt.Errorf("cannot read the API server's address: %w", err)
	}
	// The transport gets paths with a proxy's prefix, the API server sees and records them without.
	base := strings.TrimRight((&url.URL{Path: u.Path}).EscapedPath(), "/")
	cfg.UserAgent = "whodunit-act/" + version
	cfg.QPS = -1 // the actions have rates
	cfg.APIPath, cfg.GroupVersion = "/", &schema.GroupVersion{}
	cfg.ContentType, cfg.AcceptContentTypes = runtime.ContentTypeJSON, runtime.ContentTypeJSON
	cfg.WarningHandlerWithContext = rest.NoWarnings{}
	scheme := runtime.NewScheme() // of nothing but Status, the API server's word on why not
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"})
	cfg.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	cfg.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return &marker{key: key, cluster: c.Name, base: base, next: next}
	})
	out := &client{cluster: c.Name}
	if out.http, err = rest.HTTPClientFor(cfg); err != nil {
		return nil, fmt.Errorf("cannot make client: %w", err)
	}
	// A redirect would take a request with consequences to where we were not told to go.
	out.http.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	if out.rest, err = rest.RESTClientForConfigAndClient(cfg, out.http); err != nil {
		return nil, fmt.Errorf("cannot make client: %w", err)
	}
	return out, nil
}

// config is a copy that may be changed.
func (c *Cluster) config() (*rest.Config, error) {
	switch {
	case c.Config != nil:
		return rest.CopyConfig(c.Config), nil
	case c.Kubeconfig == "":
		cfg, err := rest.InClusterConfig()
		if err != nil {
			return nil, fmt.Errorf("cannot use the pod's service account: %w", err)
		}
		return cfg, nil
	}
	cfg, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(&clientcmd.ClientConfigLoadingRules{ExplicitPath: c.Kubeconfig},
		&clientcmd.ConfigOverrides{CurrentContext: c.Context}).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("cannot read kubeconfig: %w", err)
	}
	return cfg, nil
}

func (c *client) close() { utilnet.CloseIdleConnectionsFor(c.http.Transport) }

// whoami asks who we are, once.
func (c *client) whoami(ctx context.Context) (string, error) {
	if c.user != "" {
		return c.user, nil
	}
	var out struct {
		Status struct {
			UserInfo struct{ Username string }
		}
	}
	body := map[string]any{"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
	if err := c.send(ctx, http.MethodPost, "/apis/authentication.k8s.io/v1/selfsubjectreviews", false, body, &out); err != nil {
		return "", err
	}
	if out.Status.UserInfo.Username == "" {
		return "", errors.New("the API server does not say who we are")
	}
	c.user = out.Status.UserInfo.Username
	return c.user, nil
}

// get reads what is at path into out.
func (c *client) get(ctx context.Context, path string, query url.Values, out any) error {
	r := c.rest.Get().AbsPath(path).MaxRetries(0)
	for k, vs := range query {
		for _, v := range vs {
			r.Param(k, v)
		}
	}
	return answer(r.Do(ctx), out)
}

// send makes a request that changes something, but where dryRun is true. out may be nil.
func (c *client) send(ctx context.Context, method, path string, dryRun bool, body, out any) error {
	b, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("cannot encode request: %w", err)
	}
	r := c.rest.Verb(method)
	if method == http.MethodPatch {
		r = c.rest.Patch(types.MergePatchType)
	}
	r = r.AbsPath(path).MaxRetries(0).Body(b)
	if method != http.MethodPatch {
		r.SetHeader("Content-Type", runtime.ContentTypeJSON)
	}
	if dryRun {
		r.Param("dryRun", "All")
	}
	return answer(r.Do(ctx), out)
}

func answer(res rest.Result, out any) error {
	if err := res.Error(); err != nil || out == nil {
		return err
	}
	b, err := res.Raw()
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, out); err != nil {
		return fmt.Errorf("cannot read the API server's answer: %w", err)
	}
	return nil
}
