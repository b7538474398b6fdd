// Package remote is a store.Searcher over whodunit's HTTP API, and a way to call the rest of that API: what the command line uses with
// --server.
package remote

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"whodunit/internal/audit"
	"whodunit/internal/auth/certs"
	"whodunit/internal/store"
	"whodunit/internal/store/wire"
)

// Options of New: URL, and either Token or User and Password.
type Options struct {
	URL            string // https://host:port; http:// is taken for loopback addresses alone
	Token          string
	User, Password string
	CAFile         string // trusted authorities in PEM, in place of the system's; e.g. data_dir/tls/ca.crt
	UserAgent      string // default whodunit
	// OnDropped is told during Tail that the server left out so many events because this client was too slow. May be nil.
	OnDropped func(n int64)
}

// Client asks one server about its events, or about its findings. It is safe for concurrent use.
type Client struct {
	*conn
	set string
}

type conn struct {
	o    Options
	base *url.URL
	http *http.Client

	mu     sync.Mutex
	cookie *http.Cookie // of the session, when a user's password is used
}

// New makes the client. It does not connect yet.
func New(o Options) (*Client, error) {
	base, err := url.Parse(o.URL)
	if err != nil || base.Host == "" || (base.Scheme != "https" && base.Scheme != "http") || base.User != nil {
		return nil, errors.New("cannot use the server's address: https://host:port is wanted, without a password in it")
	}
	if base.Scheme == "http" && !loopback(base.Hostname()) {
		return nil, fmt.Errorf("cannot use http:// for %s: the token would cross the network readable; use https://", base.Host)
	}
	if o.UserAgent == "" {
		o.UserAgent = "whodunit"
	}
	t := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.CAFile != "" {
		if t.RootCAs, err = certs.Pool(o.CAFile); err != nil {
			return nil, err
		}
	}
	transport := &http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSClientConfig: t, TLSHandshakeTimeout: 10 * time.Second, ForceAttemptHTTP2: true,
		DialContext: (&net.Dialer{Timeout: 10 * time.Second}).DialContext, IdleConnTimeout: 30 * time.Second,
	}
	base.Path = strings.TrimSuffix(base.Path, "/")
	return &Client{set: "events", conn: &conn{o: o, base: base, http: &http.Client{
		Transport: transport,
		// A redirect would carry the token to another place.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}}, nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// Findings is the same server's findings. It shares c's connections.
func (c *Client) Findings() *Client { return &Client{conn: c.conn, set: "findings"} }

// Close drops idle connections and forgets the session.
func (c *Client) Close() {
	c.http.CloseIdleConnections()
	c.mu.Lock()
	c.cookie = nil
	c.mu.Unlock()
}

// latest is the end of the year 9999, beyond which no event's time can lie.
const latest = 253402300799999999

// values writes a query; none is true where no event can match.
func values(q store.Query) (v url.Values, none bool, err error) {
	v = url.Values{}
	expr, err := wire.EncodeExpr(q.Expr)
	if err != nil {
		return nil, false, err
	}
	if expr != "" {
		v.Set("expr", expr)
	}
	if q.From > 0 {
		v.Set("from", wire.Time(q.From))
	}
	if q.To > 0 && q.To <= latest {
		v.Set("to", wire.Time(q.To))
	}
	return v, q.From > latest || q.To < 0 || q.From != 0 && q.To != 0 && q.From >= q.To, nil
}

// send asks for path with v.
func (c *conn) send(ctx context.Context, path string, v url.Values, accept string) (*http.Response, error) {
	u := c.base.JoinPath("/api/v1/", path)
	u.RawQuery = v.Encode()
	return c.do(ctx, http.MethodGet, u, nil, accept)
}

// do sends body as JSON, if there is one, and, with a password, logs in first or again. The answer's status is 200.
func (c *conn) do(ctx context.Context, method string, u *url.URL, body []byte, accept string) (*http.Response, error) {
	for attempt := 0; ; attempt++ {
		cookie, err := c.session(ctx)
		if err != nil {
			return nil, err
		}
		req, err := c.request(ctx, method, u, body)
		if err != nil {
			return nil, err
		}
		req.Header.Set("Accept", accept)
		if cookie != nil {
			req.AddCookie(cookie)
		}
		resp, err := c.http.Do(req)
		if err != nil {
			return nil, c.explain(ctx, err)
		}
		if resp.StatusCode == http.StatusOK {
			return resp, nil
		}
		if resp.StatusCode == http.StatusUnauthorized && cookie != nil && attempt == 0 {
			_ = resp.Body.Close()
			c.mu.Lock()
			if c.cookie == cookie {
				c.cookie = nil // expired, or the server was restarted
			}
			c.mu.Unlock()
			continue
		}
		return nil, c.problem(resp)
	}
}

func (c *conn) request(ctx context.Context, method string, u *url.URL, body []byte) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, method, u.String(), bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("cannot ask the server: %w", err)
	}
	req.Header.Set("User-Agent", c.o.UserAgent)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.o.Token != "" {
		req.Header.Set("Authorization", "Bearer "+c.o.Token)
	}
	return req, nil
}

// session logs in where a password is to be used and no session is open.
func (c *conn) session(ctx context.Context) (*http.Cookie, error) {
	if c.o.Token != "" || c.o.User == "" {
		return nil, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cookie != nil {
		return c.cookie, nil
	}
	body, err := json.Marshal(map[string]string{"user": c.o.User, "password": c.o.Password})
	if err != nil {
		return nil, err
	}
	req, err := c.request(ctx, http.MethodPost, c.base.JoinPath("/api/v1/login"), body)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.explain(ctx, err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, c.problem(resp)
	}
	defer resp.Body.Close()
	for _, k := range resp.Cookies() {
		if strings.HasSuffix(k.Name, "whodunit") {
			c.cookie = &http.Cookie{Name: k.Name, Value: k.Value}
			return c.cookie, nil
		}
	}
	return nil, fmt.Errorf("cannot log in at %s: it is no whodunit server", c.base.Host)
}

// explain says what became of a request. A deadline has the words of its cause.
func (c *conn) explain(ctx context.Context, err error) error {
	switch ended := ctx.Err(); {
	case errors.Is(ended, context.DeadlineExceeded):
		return fmt.Errorf("cannot ask the server %s: %w", c.base.Host, context.Cause(ctx))
	case ended != nil:
		return ended
	}
	var unknown *tls.CertificateVerificationError
	if errors.As(err, &unknown) {
		return fmt.Errorf("cannot trust the server %s: %w; give the authority that signed its certificate (--ca-file, its data_dir/tls/ca.crt)", c.base.Host, unknown.Err)
	}
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err // without the URL, which holds the whole query
	}
	return fmt.Errorf("cannot ask the server %s: %w", c.base.Host, err)
}

// Refused is an answer that is neither success nor a wire.Problem: Alertmanager's API, under /api/v2/, has words of its own, or none.
type Refused struct {
	Status int    // of HTTP
	Said   string // hostile text; never empty
}

// Error is what the server said.
func (r *Refused) Error() string { return r.Said }

// problem reads what the server says and closes the answer. Our own API says it in a problem, Alertmanager's in a string or as a message.
func (c *conn) problem(resp *http.Response) error {
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	var p wire.Problem
	var object struct{ Message string }
	var text string
	switch {
	case err != nil:
	case json.Unmarshal(b, &p) == nil && p.Title != "":
		return fmt.Errorf("the server %s refuses: %w", c.base.Host, &p)
	case json.Unmarshal(b, &object) == nil && object.Message != "":
		return fmt.Errorf("the server %s refuses: %w", c.base.Host, &Refused{resp.StatusCode, object.Message})
	case json.Unmarshal(b, &text) == nil && strings.TrimSpace(text) != "":
		return fmt.Errorf("the server %s refuses: %w", c.base.Host, &Refused{resp.StatusCode, strings.TrimSpace(text)})
	}
	return fmt.Errorf("cannot ask the server %s: %w", c.base.Host, &Refused{resp.StatusCode, "it answers " + resp.Status + " and is perhaps no whodunit server"})
}

// maxAnswer bounds the answer to a Call.
const maxAnswer = 64 << 20

// Call asks any part of the API for an answer of JSON of at most 64 MiB. path is the whole one, such as /api/v2/silences, escaped. in is
// sent as JSON unless it is nil; the answer is read into out unless that is nil. A refusal wraps a *wire.Problem, or a *Refused.
func (c *Client) Call(ctx context.Context, method, path string, in, out any) error {
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return fmt.Errorf("cannot ask the server: %w", err)
		}
	}
	resp, err := c.do(ctx, method, c.base.JoinPath(path), body, "application/json")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if out == nil {
		return nil
	}
	return c.read(ctx, resp, out)
}

// read reads a whole answer.
func (c *conn) read(ctx context.Context, resp *http.Response, into any) error {
	err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(into)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return c.explain(ctx, err)
	}
	return fmt.Errorf("cannot read the answer of %s: %w", c.base.Host, err)
}

// Search is that of store.Searcher.
func (c *Client) Search(ctx context.Context, q store.Query, yield func(*audit.Record) error) (st store.Stats, err error) {
	v, none, err := values(q)
	if err != nil || none {
		return st, err
	}
	if q.Limit > 0 {
		v.Set("limit", strconv.Itoa(q.Limit))
	}
	if q.Before != (store.Position{}) {
		v.Set("cursor", wire.EncodeCursor(q.Before))
	}
	done := false
	handed := int64(0)
	err = c.lines(ctx, c.set, v, func(r *audit.Record) error { handed++; return yield(r) }, func(ctl wire.Control) error {
		if ctl.Stats != nil {
			st, done = *ctl.Stats, true
		}
		return nil
	})
	if err != nil {
		st.Matched = handed
		return st, err
	}
	if !done {
		return st, fmt.Errorf("cannot read the answer of %s: %w", c.base.Host, io.ErrUnexpectedEOF)
	}
	return st, nil
}

// Tail hands new matching records to yield as they arrive at the server, until ctx is done (whose error it returns), yield fails,
// or the connection ends. Only q.Expr is used.
func (c *Client) Tail(ctx context.Context, q store.Query, yield func(*audit.Record) error) error {
	v, _, err := values(store.Query{Expr: q.Expr})
	if err != nil {
		return err
	}
	err = c.lines(ctx, c.set+"/tail", v, yield, func(ctl wire.Control) error {
		if ctl.Dropped > 0 && c.o.OnDropped != nil {
			c.o.OnDropped(ctl.Dropped)
		}
		return nil
	})
	if err == nil {
		err = fmt.Errorf("the server %s ended the live tail: %w", c.base.Host, io.ErrUnexpectedEOF)
	}
	return err
}

// maxLine bounds one line: an event twice, once in base64, and what is around it.
const maxLine = audit.MaxEventBytes*5/2 + 64<<10

// lines reads a stream to its end.
func (c *conn) lines(ctx context.Context, path string, v url.Values, yield func(*audit.Record) error, control func(wire.Control) error) error {
	resp, err := c.send(ctx, path, v, wire.NDJSON)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	r := bufio.NewReaderSize(resp.Body, 256<<10)
	for {
		line, err := readLine(r)
		if err != nil && !errors.Is(err, io.EOF) {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return fmt.Errorf("cannot read the answer of %s: %w", c.base.Host, err)
		}
		if len(line) > 0 {
			if err := c.line(line, yield, control); err != nil {
				return err
			}
		}
		if err != nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

func (c *conn) line(line []byte, yield func(*audit.Record) error, control func(wire.Control) error) error {
	if wire.IsItem(line) {
		r, err := wire.ParseItem(line)
		if err != nil {
			return fmt.Errorf("cannot read the answer of %s: %w", c.base.Host, err)
		}
		return yield(&r)
	}
	var ctl wire.Control
	if err := json.Unmarshal(line, &ctl); err != nil {
		return fmt.Errorf("cannot read the answer of %s: %w", c.base.Host, err)
	}
	if ctl.Error != nil {
		return fmt.Errorf("the server %s failed: %w", c.base.Host, ctl.Error)
	}
	return control(ctl)
}

// readLine gives a line without its end; io.EOF comes with the last, which may be empty.
func readLine(r *bufio.Reader) ([]byte, error) {
	var long []byte
	for {
		part, err := r.ReadSlice('\n')
		if long == nil && err == nil {
			return part[:len(part)-1], nil
		}
		long = append(long, part...)
		if len(long) > maxLine {
			return nil, fmt.Errorf("a line is longer than %d bytes", maxLine)
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return bytes.TrimSuffix(long, []byte{'\n'}), err
		}
	}
}

// ask reads a whole JSON answer.
func (c *Client) ask(ctx context.Context, what string, v url.Values, into any) error {
	resp, err := c.send(ctx, c.set+"/"+what, v, "application/json")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return c.read(ctx, resp, into)
}

// Top is that of store.Searcher.
func (c *Client) Top(ctx context.Context, q store.Query, fields []string, n int) ([]store.Bucket, store.Stats, error) {
	v, none, err := values(q)
	if err != nil || none {
		return nil, store.Stats{}, err
	}
	v["field"] = fields
	v.Set("n", strconv.Itoa(n))
	var out wire.Buckets
	err = c.ask(ctx, "top", v, &out)
	return out.Buckets, out.Stats, err
}

// Histogram is that of store.Searcher.
func (c *Client) Histogram(ctx context.Context, q store.Query, width int64) ([]store.Bucket, store.Stats, error) {
	v, none, err := values(q)
	if err != nil || none {
		return nil, store.Stats{}, err
	}
	v.Set("interval", strconv.FormatInt(width, 10)+"us")
	var out wire.Buckets
	err = c.ask(ctx, "histogram", v, &out)
	return out.Buckets, out.Stats, err
}

var _ store.Searcher = (*Client)(nil)
