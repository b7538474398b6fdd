// Package post is the HTTP client of everything that hands findings and alerts on: one place for time limits, TLS, credentials that
// are read again when they change, what an answer means, and for errors that show no secret.
package post

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"whodunit/internal/alert"
)

const (
	defaultTimeout = 10 * time.Second
	maxAnswer      = 8 << 20
)

// Config says where and how to send. Only URL is wanted. Files are read again for each request, so that rotated credentials are
// used; a certificate is read again for each connection.
type Config struct {
	URL                string            // http or https; it may hold a secret, so errors show its host alone
	Timeout            time.Duration     // of one request, connecting included; 0: 10 s
	Headers            map[string]string // added to each request; their values are secrets
	TokenFile, Token   string            // the file wins
	Scheme             string            // that the token is sent under; "": Bearer
	Username           string            // basic authentication
	PasswordFile       string
	Password           string // used where PasswordFile is ""
	CAFile             string // PEM; replaces the system's authorities
	CertFile, KeyFile  string // PEM; client certificate
	ServerName         string
	InsecureSkipVerify bool
	Now                func() time.Time // for Retry-After as a date; nil: time.Now
}

// Client sends requests to one server. It is safe for concurrent use.
type Client struct {
	c         Config
	url       *url.URL
	transport *http.Transport
}

// New checks the configuration. Close frees its connections.
func New(c Config) (*Client, error) {
	u, err := url.Parse(c.URL)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return nil, errors.New("url: http:// or https:// and a host are expected") // never the URL: it may hold a secret
	}
	t, err := c.tls()
	if err != nil {
		return nil, err
	}
	if c.Timeout == 0 {
		c.Timeout = defaultTimeout
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Scheme == "" {
		c.Scheme = "Bearer"
	}
	// A bare transport follows no redirect, which would hand token and findings to whomever the answer names, and puts no URL into errors.
	return &Client{c: c, url: u, transport: &http.Transport{Proxy: proxy, TLSClientConfig: t, ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 2,
		TLSHandshakeTimeout: c.Timeout, IdleConnTimeout: 90 * time.Second, MaxResponseHeaderBytes: 64 << 10}}, nil
}

// proxy is the environment's. Its own error would show the address, which may hold a password.
func proxy(r *http.Request) (*url.URL, error) {
	u, err := http.ProxyFromEnvironment(r)
	if err != nil {
		return nil, errors.New("the environment's proxy: a URL is expected")
	}
	return u, nil
}

func (c *Config) tls() (*tls.Config, error) {
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
		certFile, keyFile := c.CertFile, c.KeyFile
		load := func() (*tls.Certificate, error) {
			cert, err := tls.LoadX509KeyPair(certFile, keyFile)
			return &cert, err
		}
		if _, err := load(); err != nil {
			return nil, fmt.Errorf("cannot read client certificate: %w", err)
		}
		t.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return load() }
	}
	return t, nil
}

// Host is the server's name and port, for people.
func (c *Client) Host() string { return c.url.Host }

// Close frees idle connections.
func (c *Client) Close() { c.transport.CloseIdleConnections() }

// Request is one request. Path, if any, is joined to the URL's own.
type Request struct {
	Method string // "": POST
	Path   string
	Type   string // Content-Type; "": application/json
	Header http.Header
	Body   []byte
}

// Do sends r once and gives the answer's body, of at most 8 MiB, when the status is 2xx. Any other is an error: alert.ErrRejected
// where the content is refused for good (400, 413, 422), otherwise one to try again, not before alert.Pause where the answer says
// so. No error shows the URL, a header or the answer's body.
func (c *Client) Do(ctx context.Context, r Request) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, c.c.Timeout)
	defer cancel()
	req, err := c.request(ctx, r)
	if err != nil {
		return nil, err
	}
	resp, err := c.transport.RoundTrip(req)
	if err != nil {
		return nil, c.failed(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer)) // read to its end, so that the connection is used again
	if code := resp.StatusCode; code >= 200 && code < 300 {
		if err != nil {
			return nil, c.failed(err)
		}
		return body, nil
	}
	return nil, c.refused(resp)
}

func (c *Client) failed(err error) error {
	return fmt.Errorf("cannot post to %s: %w", c.url.Host, err)
}

func (c *Client) request(ctx context.Context, r Request) (*http.Request, error) {
	if r.Method == "" {
		r.Method = http.MethodPost
	}
	u := c.url
	if r.Path != "" {
		u = u.JoinPath(r.Path)
	}
	req, err := http.NewRequestWithContext(ctx, r.Method, u.String(), bytes.NewReader(r.Body))
	if err != nil {
		return nil, fmt.Errorf("cannot make request for %s", c.url.Host)
	}
	if r.Type == "" {
		r.Type = "application/json"
	}
	req.Header.Set("Content-Type", r.Type)
	req.Header.Set("User-Agent", "whodunit")
	for k, v := range c.c.Headers {
		req.Header.Set(k, v)
	}
	for k, v := range r.Header {
		req.Header[k] = v
	}
	token, err := Secret(c.c.Token, c.c.TokenFile)
	if err != nil {
		return nil, fmt.Errorf("cannot read token: %w", err)
	}
	password, err := Secret(c.c.Password, c.c.PasswordFile)
	switch {
	case err != nil:
		return nil, fmt.Errorf("cannot read password: %w", err)
	case token != "":
		req.Header.Set("Authorization", c.c.Scheme+" "+token)
	case c.c.Username != "":
		req.SetBasicAuth(c.c.Username, password)
	case u.User != nil && req.Header.Get("Authorization") == "":
		password, _ := u.User.Password()
		req.SetBasicAuth(u.User.Username(), password)
	}
	return req, nil
}

// Secret is the content of file without the white space around it, or value where file is "".
func Secret(value, file string) (string, error) {
	if file == "" {
		return value, nil
	}
	b, err := os.ReadFile(file)
	return strings.TrimSpace(string(b)), err
}

func (c *Client) refused(resp *http.Response) error {
	err := fmt.Errorf("%s answers %d", c.url.Host, resp.StatusCode)
	switch resp.StatusCode {
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity:
		return fmt.Errorf("%w: %w", alert.ErrRejected, err)
	}
	return alert.RetryAfter(err, c.pause(resp.Header.Get("Retry-After")))
}

// pause reads Retry-After: seconds or a date (RFC 9110, 10.2.3).
func (c *Client) pause(v string) time.Duration {
	if s, err := strconv.Atoi(v); err == nil {
		return time.Duration(min(s, 86400)) * time.Second
	}
	if t, err := http.ParseTime(v); err == nil {
		return t.Sub(c.c.Now())
	}
	return 0
}
