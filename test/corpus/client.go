package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

const (
	mergePatch     = "application/merge-patch+json"
	strategicPatch = "application/strategic-merge-patch+json"
)

// client is a program that speaks to the API server by itself: a controller, a kubelet, helm.
type client struct {
	url, token, agent string
	hc                *http.Client
}

func (p *player) newClient(addr, token, agent string) *client {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(p.c.CA())
	d := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(addr)}}
	return &client{url: p.c.URL, token: token, agent: agent, hc: &http.Client{Transport: &http.Transport{
		DialContext: d.DialContext, ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool}}}}
}

// client is that of a user with a token.
func (p *player) client(user, agent string) *client {
	return p.newClient(addresses()[user], p.c.Token(user), agent)
}

// program is what runs in a pod.
func (p *player) program(d pod, agent string) *client { return p.newClient(d.ip, d.token, agent) }

// do sends body as JSON (nil: none) and reads the answer into out (nil: no matter). "PATCH TYPE" as method sets the patch's type.
func (c *client) do(ctx context.Context, method, path string, body, out any) error {
	var r io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return err
		}
		r = bytes.NewReader(b)
	}
	method, kind, _ := strings.Cut(method, " ")
	if kind == "" {
		kind = "application/json"
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, c.url+path, r)
	if err != nil {
		return err
	}
	c.headers(req)
	if body != nil {
		req.Header.Set("Content-Type", kind)
	}
	resp, err := c.hc.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode >= http.StatusBadRequest {
		return fmt.Errorf("%w: %s %s: %s: %.300s", errStatus, method, path, resp.Status, text)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(text, out)
}

func (c *client) headers(req *http.Request) {
	req.Header.Set("User-Agent", c.agent)
	req.Header.Set("Accept", "application/json")
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
}
