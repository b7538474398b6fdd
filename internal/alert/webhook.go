package alert

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

// Headers of a webhook request besides the usual ones.
const (
	// HeaderSignature is `t=<seconds since 1970>,v1=<hex>`, where hex is HMAC-SHA-256 with the shared secret over the
	// seconds as written, a dot, and the body. A receiver refuses times that are far from its own, against replays.
	HeaderSignature = "X-Whodunit-Signature"
	// HeaderDelivery is the same when the same findings are sent again: a hash over their ids.
	HeaderDelivery = "X-Whodunit-Delivery"
)

const defaultTimeout = 10 * time.Second

// WebhookConfig says where and how to POST. Only URL is wanted. Files are read again for each request, so that rotated
// credentials are used; a certificate is read again for each connection.
type WebhookConfig struct {
	URL        string
	Timeout    time.Duration // of one request, connecting included; 0: 10 s
	TokenFile  string        // bearer token
	Token      string        // used where TokenFile is ""
	SecretFile string        // shared secret for HeaderSignature
	Secret     string        // used where SecretFile is ""
	TLS        TLSConfig
	Single     bool             // one finding a request, the document itself as the body
	Now        func() time.Time // for the signature
}

// TLSConfig is the client's side of TLS. The zero value trusts the system's certificate authorities.
type TLSConfig struct {
	CAFile             string // PEM; replaces the system's authorities
	CertFile, KeyFile  string // PEM; client certificate
	ServerName         string
	InsecureSkipVerify bool
}

// Webhook POSTs findings as JSON: {"version":"1","findings":[…]}, each a document of docs/reference/finding.md with
// the member "cluster" put in front. 2xx is success. 400, 413 and 422 reject the findings for good; anything else, redirects included,
// is tried again.
type Webhook struct {
	c      WebhookConfig
	url    *url.URL
	client *http.Client
}

// NewWebhook checks the configuration. Close frees its connections.
func NewWebhook(c WebhookConfig) (*Webhook, error) {
	u, err := url.Parse(c.URL)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return nil, errors.New("cannot make webhook: url: http:// or https:// and a host are expected") // never the URL: it may hold a secret
	}
	t, err := c.TLS.config()
	if err != nil {
		return nil, fmt.Errorf("cannot make webhook: %w", err)
	}
	if c.Timeout == 0 {
		c.Timeout = defaultTimeout
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Webhook{c: c, url: u, client: &http.Client{
		Timeout: c.Timeout,
		// A redirect would hand token and findings to whomever the answer names.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: t, ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 2,
			TLSHandshakeTimeout: c.Timeout, IdleConnTimeout: 90 * time.Second, MaxResponseHeaderBytes: 64 << 10},
	}}, nil
}

func (c TLSConfig) config() (*tls.Config, error) {
	t := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: c.ServerName, InsecureSkipVerify: c.InsecureSkipVerify}
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, fmt.Errorf("cannot read certificate authorities: %w", err)
		}
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("cannot read certificate authorities: no PEM certificate in %s", c.CAFile)
		}
	}
	if (c.CertFile == "") != (c.KeyFile == "") {
		return nil, errors.New("client certificate and its key are wanted together")
	}
	if c.CertFile != "" {
		load := func() (*tls.Certificate, error) {
			cert, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
			return &cert, err
		}
		if _, err := load(); err != nil {
			return nil, fmt.Errorf("cannot read client certificate: %w", err)
		}
		t.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return load() }
	}
	return t, nil
}

// Close frees idle connections.
func (w *Webhook) Close() { w.client.CloseIdleConnections() }

// Notify implements Notifier.
func (w *Webhook) Notify(ctx context.Context, findings []Finding) error {
	if !w.c.Single {
		docs := make([]json.RawMessage, len(findings))
		for i := range findings {
			docs[i] = withCluster(&findings[i])
		}
		body, err := json.Marshal(struct {
			Version  string            `json:"version"`
			Findings []json.RawMessage `json:"findings"`
		}{"1", docs})
		if err != nil {
			return fmt.Errorf("%w: %w", ErrRejected, err)
		}
		return w.post(ctx, body, findings)
	}
	for i := range findings {
		if err := w.post(ctx, withCluster(&findings[i]), findings[i:i+1]); err != nil {
			return err // those before it are sent again; their delivery header says so
		}
	}
	return nil
}

// withCluster splices the cluster's name into the document, as its first member.
func withCluster(f *Finding) json.RawMessage {
	name, err := json.Marshal(f.Cluster)
	if err != nil || len(f.Doc) < 3 {
		return f.Doc
	}
	out := make([]byte, 0, len(f.Doc)+len(name)+12)
	out = append(out, `{"cluster":`...)
	out = append(append(out, name...), ',')
	return append(out, f.Doc[1:]...)
}

func (w *Webhook) post(ctx context.Context, body []byte, findings []Finding) error {
	req, err := w.request(ctx, body, findings)
	if err != nil {
		return err
	}
	resp, err := w.client.Do(req)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err // without the URL, which may hold a secret
		}
		return fmt.Errorf("cannot post to %s: %w", w.url.Host, err)
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10)) // so that the connection is used again
	return w.answer(resp)
}

func (w *Webhook) request(ctx context.Context, body []byte, findings []Finding) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.c.URL, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("cannot make request for %s", w.url.Host)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "whodunit")
	h := sha256.New()
	for i := range findings {
		fmt.Fprintf(h, "%s\x00", findings[i].ID)
	}
	req.Header.Set(HeaderDelivery, hex.EncodeToString(h.Sum(nil)[:16]))
	token, err := secret(w.c.Token, w.c.TokenFile)
	if err != nil {
		return nil, fmt.Errorf("cannot read bearer token: %w", err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	key, err := secret(w.c.Secret, w.c.SecretFile)
	if err != nil {
		return nil, fmt.Errorf("cannot read webhook secret: %w", err)
	}
	if key != "" {
		req.Header.Set(HeaderSignature, sign(key, w.c.Now(), body))
	}
	return req, nil
}

func secret(value, file string) (string, error) {
	if file == "" {
		return value, nil
	}
	b, err := os.ReadFile(file)
	return strings.TrimSpace(string(b)), err
}

func sign(key string, now time.Time, body []byte) string {
	t := strconv.FormatInt(now.Unix(), 10)
	m := hmac.New(sha256.New, []byte(key))
	m.Write([]byte(t + "."))
	m.Write(body)
	return "t=" + t + ",v1=" + hex.EncodeToString(m.Sum(nil))
}

func (w *Webhook) answer(resp *http.Response) error {
	switch code := resp.StatusCode; {
	case code >= 200 && code < 300:
		return nil
	case code == http.StatusBadRequest, code == http.StatusRequestEntityTooLarge, code == http.StatusUnprocessableEntity:
		return fmt.Errorf("%w: %s answers %d", ErrRejected, w.url.Host, code)
	default:
		err := fmt.Errorf("%s answers %d", w.url.Host, code)
		if d := w.pause(resp.Header.Get("Retry-After")); d > 0 {
			return &retryAfter{err, d}
		}
		return err
	}
}

// pause reads Retry-After: seconds or a date (RFC 9110, 10.2.3).
func (w *Webhook) pause(v string) time.Duration {
	if s, err := strconv.Atoi(v); err == nil {
		return time.Duration(min(s, 86400)) * time.Second
	}
	if t, err := http.ParseTime(v); err == nil {
		return t.Sub(w.c.Now())
	}
	return 0
}
