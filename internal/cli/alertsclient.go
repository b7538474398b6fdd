package cli

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"whodunit/internal/auth/certs"
	"whodunit/internal/config"
	"whodunit/internal/store/remote"
	"whodunit/internal/store/wire"
)

// alertsTimeout bounds one request; a test alert waits for every receiver.
const alertsTimeout = 90 * time.Second

// maxAlertsAnswer bounds what is read of one answer.
const maxAlertsAnswer = 64 << 20

// alertsClient asks a server about alerts: its own API under /api/v1/, and Alertmanager's under /api/v2/.
type alertsClient struct {
	o    remote.Options
	base *url.URL
	http *http.Client
}

// alertsServer is --server, $WHODUNIT_SERVER, or the server of this machine, if there is one with its default address.
func (c *cmdline) alertsServer(t *target) (*alertsClient, error) {
	if t.server == "" {
		t.server = c.Getenv("WHODUNIT_SERVER")
	}
	if t.server == "" {
		if _, err := os.Stat(c.ownAuthority(t)); err != nil {
			return nil, errors.New("alerts are asked of a server: name it with --server or $WHODUNIT_SERVER")
		}
		t.server = "https://" + config.Default().Server.Listen
	}
	o, err := c.serverOptions(t)
	if err != nil {
		return nil, err
	}
	checked, err := remote.New(o) // what an address may be is said there
	if err != nil {
		return nil, err
	}
	checked.Close()
	base, err := url.Parse(o.URL)
	if err != nil {
		return nil, errors.New("cannot use the server's address: https://host:port is wanted")
	}
	trust := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.CAFile != "" {
		if trust.RootCAs, err = certs.Pool(o.CAFile); err != nil {
			return nil, err
		}
	}
	return &alertsClient{o: o, base: base, http: &http.Client{
		Timeout:   alertsTimeout,
		Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: trust, TLSHandshakeTimeout: 10 * time.Second, ForceAttemptHTTP2: true, DisableKeepAlives: true},
		// A redirect would carry the token to another place.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// answerError is a refusal, with its status.
type answerError struct {
	status int
	err    error
}

func (e *answerError) Error() string { return e.err.Error() }
func (e *answerError) Unwrap() error { return e.err }

// call sends in as JSON, if it is not nil, and reads the answer into out, if it is not nil.
func (s *alertsClient) call(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("cannot ask the server: %w", err)
		}
		body = bytes.NewReader(b)
	}
	u := s.base.JoinPath(path)
	req, err := http.NewRequestWithContext(ctx, method, u.String(), body)
	if err != nil {
		return fmt.Errorf("cannot ask the server: %w", err)
	}
	req.Header.Set("User-Agent", s.o.UserAgent)
	req.Header.Set("Accept", "application/json")
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	switch {
	case s.o.Token != "":
		req.Header.Set("Authorization", "Bearer "+s.o.Token)
	case s.o.User != "":
		req.SetBasicAuth(s.o.User, s.o.Password)
	}
	resp, err := s.http.Do(req)
	if err != nil {
		return s.explain(ctx, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAlertsAnswer))
	switch {
	case err != nil:
		return s.explain(ctx, err)
	case resp.StatusCode != http.StatusOK:
		return &answerError{resp.StatusCode, loginHint(s.refusal(resp, b))}
	case out == nil:
		return nil
	}
	if err := json.Unmarshal(b, out); err != nil {
		return fmt.Errorf("cannot read the answer of %s: %w", s.base.Host, err)
	}
	return nil
}

// refusal words an answer that is no success: ours is a problem, Alertmanager's a text or an object with a message.
func (s *alertsClient) refusal(resp *http.Response, body []byte) error {
	var p wire.Problem
	var said struct{ Message string }
	var text string
	switch {
	case json.Unmarshal(body, &p) == nil && p.Title != "":
		return fmt.Errorf("the server %s refuses: %w", s.base.Host, &p)
	case json.Unmarshal(body, &said) == nil && said.Message != "":
		return fmt.Errorf("the server %s refuses: %s", s.base.Host, said.Message)
	case json.Unmarshal(body, &text) == nil && strings.TrimSpace(text) != "":
		return fmt.Errorf("the server %s refuses: %s", s.base.Host, strings.TrimSpace(text))
	}
	return fmt.Errorf("cannot ask the server %s: it answers %s and is perhaps no whodunit server, or one without alerts", s.base.Host, resp.Status)
}

func (s *alertsClient) explain(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var unknown *tls.CertificateVerificationError
	if errors.As(err, &unknown) {
		return fmt.Errorf("cannot trust the server %s: %w; give the authority that signed its certificate (--ca-file, its data_dir/tls/ca.crt)", s.base.Host, unknown.Err)
	}
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	return fmt.Errorf("cannot ask the server %s: %w", s.base.Host, err)
}

// isProblem reports whether the refusal is our server's own word, not Alertmanager's.
func isProblem(err error) bool {
	var p *wire.Problem
	return errors.As(err, &p)
}
