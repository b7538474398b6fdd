// Package alerttest holds everything that hands findings and alerts on over HTTP to the contract in package alert: what an answer means,
// what happens when there is none, that no error shows a secret, and that hostile text makes no broken request.
package alerttest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"whodunit/internal/alert"
	"whodunit/internal/alert/post"
)

// Hidden is a part of every secret that the suite hands in; no error may show it. A secret of the implementation's own should hold it too.
const Hidden = "h1dden"

// Hostile is text as clients may put it into an event.
const Hostile = "\x00\x1b[31m \"quoted\" \\ \r\n\t<&>{{.}} \u2028\u202e \xff\xfe é</script>"

// Options adapt the suite. The zero value is for what wants an empty answer, and takes any 2xx as a success.
type Options struct {
	Answer func(body []byte) string // the body of the answer to a request that is taken; nil: none
	// BodyCounts: an answer without the body is not a success, so 204 is none.
	BodyCounts bool
	// Body checks a request's body; nil: it is one JSON value, or one a line.
	Body func(t testing.TB, body []byte)
}

// Notifier runs the suite for an alert.Notifier that also has a method Close.
func Notifier(t *testing.T, o Options, create func(post.Config) (alert.Notifier, error)) {
	o.run(t, func(c post.Config) (client, error) {
		n, err := create(c)
		if err != nil {
			return client{}, err
		}
		closer, ok := n.(interface{ Close() })
		if !ok {
			t.Fatal("no method Close")
		}
		return client{closer.Close, func(ctx context.Context, text string) error { return n.Notify(ctx, []alert.Finding{Finding(t, text)}) }}, nil
	})
}

// Receiver runs the suite for an alert.Receiver, which is called by several goroutines.
func Receiver(t *testing.T, o Options, create func(post.Config) (alert.Receiver, error)) {
	t.Run("concurrent", func(t *testing.T) {
		s := o.serve(t, false, nil)
		r, err := create(s.config())
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				for range 5 {
					if err := r.Notify(t.Context(), Group(strings.Repeat("x", i))); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		if len(s.bodies) != 40 {
			t.Errorf("%d requests", len(s.bodies))
		}
	})
	o.run(t, func(c post.Config) (client, error) {
		r, err := create(c)
		if err != nil {
			return client{}, err
		}
		return client{r.Close, func(ctx context.Context, text string) error { return r.Notify(ctx, Group(text)) }}, nil
	})
}

// client is a Notifier or a Receiver.
type client struct {
	close func()
	send  func(ctx context.Context, text string) error
}

type maker func(post.Config) (client, error)

// start makes a client for s.
func start(t *testing.T, c post.Config, create maker) client {
	t.Helper()
	cl, err := create(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.close)
	return cl
}

// hides holds an error to what may be shown, and to be an error.
func hides(t *testing.T, err error) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	if strings.Contains(err.Error(), Hidden) {
		t.Errorf("the error shows a secret: %v", err)
	}
}

// retryable holds an error to be one that is tried again.
func retryable(t *testing.T, err error) {
	t.Helper()
	hides(t, err)
	if errors.Is(err, alert.ErrRejected) {
		t.Errorf("it is rejected for good: %v", err)
	}
}

func (o Options) run(t *testing.T, create maker) {
	t.Run("delivers", func(t *testing.T) { o.delivers(t, create) })
	t.Run("hostile text", func(t *testing.T) { o.hostile(t, create) })
	t.Run("answers", func(t *testing.T) { o.answers(t, create) })
	t.Run("redirect", func(t *testing.T) { o.redirect(t, create) })
	t.Run("hangs", func(t *testing.T) { o.hangs(t, create) })
	t.Run("breaks off", func(t *testing.T) { o.breaksOff(t, create) })
	t.Run("certificate", func(t *testing.T) { o.certificate(t, create) })
	t.Run("refused", func(t *testing.T) { o.refused(t, create) })
	t.Run("credentials", func(t *testing.T) { o.credentials(t, create) })
	t.Run("close", func(t *testing.T) { o.close(t, create) })
	t.Run("configuration", func(t *testing.T) { o.configuration(t, create) })
}

func (o Options) delivers(t *testing.T, create maker) {
	s := o.serve(t, true, nil)
	c := s.config()
	c.CAFile = s.certificate(t)
	cl := start(t, c, create)
	for range 2 {
		if err := cl.send(t.Context(), "plain"); err != nil {
			t.Fatal(err)
		}
	}
	if len(s.bodies) != 2 || !bytes.Contains(s.bodies[0], []byte("plain")) {
		t.Errorf("%d requests, %q", len(s.bodies), s.bodies)
	}
}

func (o Options) hostile(t *testing.T, create maker) {
	s := o.serve(t, false, nil)
	cl := start(t, s.config(), create)
	for _, text := range []string{Hostile, strings.Repeat("x", 100_000)} {
		if err := cl.send(t.Context(), text); err != nil {
			t.Fatal(err)
		}
	}
	check := o.Body
	if check == nil {
		check = Lines
	}
	for _, b := range s.bodies {
		check(t, b)
	}
}

// Lines holds a body to be valid UTF-8 and JSON, one value or one a line.
func Lines(t testing.TB, body []byte) {
	t.Helper()
	if !utf8.Valid(body) {
		t.Errorf("not UTF-8: %.500q", body)
	}
	for line := range bytes.Lines(body) {
		if !json.Valid(line) || bytes.ContainsFunc(bytes.TrimSuffix(line, []byte("\n")), func(r rune) bool { return r < ' ' }) {
			t.Errorf("not JSON: %.500q", line)
		}
	}
}

func (o Options) answers(t *testing.T, create maker) {
	now := time.Date(2026, 11, 21, 13, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		name     string
		code     int
		after    string // Retry-After
		rejected bool
		pause    time.Duration
	}{
		{"bad request", 400, "", true, 0}, {"too large", 413, "", true, 0}, {"not to be processed", 422, "", true, 0},
		{"not authorized", 401, "", false, 0}, {"forbidden", 403, "", false, 0}, {"not found", 404, "", false, 0},
		{"server error", 500, "", false, 0}, {"bad gateway", 502, "", false, 0},
		{"too many", 429, "3", false, 3 * time.Second}, {"at a date", 503, "Sat, 21 Nov 2026 13:00:09 GMT", false, 9 * time.Second},
		{"in the past", 503, "Sat, 21 Nov 2026 12:00:09 GMT", false, 0}, {"not a time", 503, "soon", false, 0}, {"negative", 429, "-1", false, 0},
		{"too long", 429, "86400", false, 10 * time.Minute}, {"no number", 429, "999999999999999999999", false, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := o.serve(t, false, func(w http.ResponseWriter, r *http.Request) {
				if tt.after != "" {
					w.Header().Set("Retry-After", tt.after)
				}
				http.Error(w, "echo "+r.URL.String()+r.Header.Get("Authorization"), tt.code)
			})
			c := s.config()
			c.Now = func() time.Time { return now }
			err := start(t, c, create).send(t.Context(), "x")
			hides(t, err)
			if errors.Is(err, alert.ErrRejected) != tt.rejected || alert.Pause(err) != tt.pause {
				t.Errorf("%v, pause %s", err, alert.Pause(err))
			}
		})
	}
	t.Run("no content", func(t *testing.T) {
		s := o.serve(t, false, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
		if err := start(t, s.config(), create).send(t.Context(), "x"); (err != nil) != o.BodyCounts || errors.Is(err, alert.ErrRejected) {
			t.Error(err)
		}
	})
}

func (o Options) redirect(t *testing.T, create maker) {
	other := o.serve(t, false, nil)
	for _, to := range []string{other.URL, "http://[" + Hidden} {
		for _, code := range []int{301, 302, 303, 307, 308} {
			s := o.serve(t, false, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Location", to)
				w.WriteHeader(code)
			})
			retryable(t, start(t, s.config(), create).send(t.Context(), "x"))
		}
	}
	if len(other.bodies) != 0 {
		t.Error("a redirect is followed")
	}
}

func (o Options) hangs(t *testing.T, create maker) {
	arrived, end := make(chan struct{}, 10), make(chan struct{})
	s := o.serve(t, false, func(_ http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		select {
		case <-end:
		case <-r.Context().Done():
		}
	})
	defer close(end)
	cl := start(t, s.config(), create)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- cl.send(ctx, "x") }()
	<-arrived
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("the end of its context: %v", err)
	}
	c := s.config()
	c.Timeout = 50 * time.Millisecond
	cl = start(t, c, create)
	go func() { done <- cl.send(t.Context(), "x") }()
	<-arrived
	retryable(t, <-done)
}

func (o Options) breaksOff(t *testing.T, create maker) {
	s := o.serve(t, false, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "1000")
		_, _ = io.WriteString(w, "half of")
	})
	if o.BodyCounts {
		retryable(t, start(t, s.config(), create).send(t.Context(), "x"))
	}
	s = o.serve(t, false, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	retryable(t, start(t, s.config(), create).send(t.Context(), "x"))
	s = o.serve(t, false, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Large", strings.Repeat("x", 1<<20))
		w.WriteHeader(http.StatusInternalServerError)
	})
	retryable(t, start(t, s.config(), create).send(t.Context(), "x"))
}

func (o Options) certificate(t *testing.T, create maker) {
	s := o.serve(t, true, nil)
	retryable(t, start(t, s.config(), create).send(t.Context(), "x")) // an authority that the system does not trust
	c := s.config()
	c.CAFile, c.ServerName = s.certificate(t), "other.example"
	retryable(t, start(t, c, create).send(t.Context(), "x"))
	c = s.config()
	c.URL = strings.Replace(c.URL, "https://", "http://", 1)
	hides(t, start(t, c, create).send(t.Context(), "x"))
	plain := o.serve(t, false, nil)
	c = plain.config()
	c.URL = strings.Replace(c.URL, "http://", "https://", 1)
	retryable(t, start(t, c, create).send(t.Context(), "x"))
	if len(s.bodies)+len(plain.bodies) != 0 {
		t.Error("something was sent over a connection that is not to be trusted")
	}
	c = s.config()
	c.InsecureSkipVerify = true
	if err := start(t, c, create).send(t.Context(), "x"); err != nil {
		t.Errorf("without a check of the certificate: %v", err)
	}
}

func (o Options) refused(t *testing.T, create maker) {
	s := o.serve(t, false, nil)
	s.Close()
	retryable(t, start(t, s.config(), create).send(t.Context(), "x"))
	c := s.config()
	c.URL = strings.Replace(c.URL, "127.0.0.1", "name.invalid", 1)
	retryable(t, start(t, c, create).send(t.Context(), "x"))
}

func (o Options) credentials(t *testing.T, create maker) {
	s := o.serve(t, false, nil)
	file := filepath.Join(t.TempDir(), "secret")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("first-" + Hidden + "\n")
	cl := start(t, post.Config{URL: s.URL, TokenFile: file}, create)
	send := func() error { return cl.send(t.Context(), "x") }
	if err := send(); err != nil {
		t.Fatal(err)
	}
	write("second-" + Hidden)
	if err := send(); err != nil {
		t.Fatal(err)
	}
	write("two\nlines-" + Hidden)
	retryable(t, send())
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	retryable(t, send())
	got := s.headers
	if len(got) != 2 || got[0].Get("Authorization") != "Bearer first-"+Hidden || got[1].Get("Authorization") != "Bearer second-"+Hidden {
		t.Errorf("%d requests; a token is read again for each", len(got))
	}
	write("pass\n")
	cl = start(t, post.Config{URL: s.URL, Username: "u", PasswordFile: file}, create)
	if err := send(); err != nil {
		t.Fatal(err)
	}
	if u, p, _ := (&http.Request{Header: s.headers[2]}).BasicAuth(); u != "u" || p != "pass" {
		t.Errorf("basic authentication with %q, %q", u, p)
	}
}

// close: after it no connection is open. The server waits for that.
func (o Options) close(t *testing.T, create maker) {
	s := o.serve(t, false, nil)
	cl := start(t, s.config(), create)
	if err := cl.send(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	cl.close()
	s.conns.Wait()
}

func (o Options) configuration(t *testing.T, create maker) {
	for _, url := range []string{"", "ftp://" + Hidden + "/", "https://", "http://x/" + Hidden + "\x7f", "http://" + Hidden + ":port/", "://" + Hidden} {
		_, err := create(post.Config{URL: url})
		hides(t, err)
	}
	for _, c := range []post.Config{{CertFile: "x"}, {KeyFile: "x"}, {CAFile: "/does/not/exist"}, {CertFile: "/does/not", KeyFile: "/exist"}} {
		c.URL = "https://" + Hidden + "@host/"
		_, err := create(c)
		hides(t, err)
	}
}
