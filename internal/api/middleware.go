package api

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"whodunit/internal/auth"
)

// call is one request on its way through.
type call struct {
	w      *response
	r      *http.Request
	who    auth.Principal
	values url.Values
	route  string
	start  time.Time
}

// response notes what was sent.
type response struct {
	http.ResponseWriter
	code int
}

func (w *response) WriteHeader(code int) {
	if w.code == 0 {
		w.code = code
	}
	w.ResponseWriter.WriteHeader(code)
}

func (w *response) Write(b []byte) (int, error) {
	if w.code == 0 {
		w.code = http.StatusOK
	}
	return w.ResponseWriter.Write(b)
}

// Unwrap is for http.ResponseController.
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// contentPolicy allows what the page is made of, from this server alone: no inline script or style, no frames.
const contentPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; connect-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

func secure(h http.Header, static bool) {
	h.Set("Content-Security-Policy", contentPolicy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
	if !static {
		h.Set("Cache-Control", "no-store")
	}
}

// handle is all that surrounds every route.
func (a *API) handle(rt route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := &call{w: &response{ResponseWriter: w}, r: r, route: rt.name, start: a.o.Now()}
		a.metrics.inFlight.Inc()
		defer a.metrics.inFlight.Dec()
		defer func() {
			a.metrics.requests.WithLabelValues(rt.name, strconv.Itoa(c.w.code)).Inc()
			a.metrics.seconds.WithLabelValues(rt.name).Observe(a.o.Now().Sub(c.start).Seconds())
		}()
		defer a.recovered(c)
		secure(w.Header(), rt.static)
		rc := http.NewResponseController(w)
		if r.Method == http.MethodGet {
			_ = rc.SetReadDeadline(time.Time{}) // all is read; at the server's ReadTimeout the request would be cancelled
		}
		_ = rc.SetWriteDeadline(time.Now().Add(a.o.QueryTimeout + a.o.WriteTimeout))
		r.Body = http.MaxBytesReader(w, r.Body, cmp.Or(rt.maxBody, 64<<10))
		if err := a.serve(c, rt); err != nil {
			a.fail(c, err)
		}
		if c.w.code == 0 {
			c.w.code = http.StatusOK
		}
	})
}

func (a *API) serve(c *call, rt route) (err error) {
	if !rt.public {
		if rt.scope == "" {
			c.who, err = a.o.Auth.Authenticate(c.r)
		} else {
			c.who, err = a.o.Auth.Authorize(c.r, rt.scope)
		}
		if err != nil {
			return err
		}
		c.r = c.r.WithContext(auth.WithPrincipal(c.r.Context(), c.who))
	}
	if !rt.anyParams {
		if err := c.query(rt.params); err != nil {
			return err
		}
	}
	return rt.do(c)
}

// query reads the query string strictly: a mistyped parameter would give a wrong answer that looks right.
func (c *call) query(known []string) error {
	values, err := url.ParseQuery(c.r.URL.RawQuery)
	if err != nil {
		return bad("the query string cannot be read", "percent-encode every parameter")
	}
	for name, v := range values {
		if !slices.Contains(known, name) {
			hint := "this path takes none"
			if len(known) > 0 {
				hint = "this path takes " + strings.Join(known, ", ")
			}
			return bad(fmt.Sprintf("unknown parameter %.40q", name), hint)
		}
		if len(v) > 1 && name != "field" {
			return bad(fmt.Sprintf("the parameter %s is given %d times", name, len(v)), "give it once")
		}
	}
	c.values = values
	return nil
}

func (a *API) recovered(c *call) {
	p := recover()
	if p == nil {
		return
	}
	if p == http.ErrAbortHandler { //nolint:errorlint // net/http compares what was thrown the same way
		if c.w.code == 0 {
			c.w.code = 499
		}
		panic(p)
	}
	a.metrics.panics.WithLabelValues(c.route).Inc()
	a.log.Error("panic in a request", "route", c.route, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
	if c.w.code != 0 {
		panic(http.ErrAbortHandler) // half an answer must not look like a whole one
	}
	a.write(c, &problem{status: http.StatusInternalServerError, detail: "the server made a mistake", hint: "its log says more"})
}

// fail answers with a problem, or cuts the connection where an answer has begun.
func (a *API) fail(c *call, err error) {
	p := asProblem(err)
	if p.status >= 500 && !errors.Is(err, context.Canceled) {
		a.log.Error("request failed", "route", c.route, "user", c.who.Name, "error", err)
	}
	if c.w.code != 0 {
		panic(http.ErrAbortHandler)
	}
	a.write(c, p)
}

func (c *call) peer() string {
	host, _, err := net.SplitHostPort(c.r.RemoteAddr)
	if err != nil {
		return c.r.RemoteAddr
	}
	return host
}

func clip(s string, n int) string {
	if len(s) > n {
		return s[:n] + "…"
	}
	return s
}
