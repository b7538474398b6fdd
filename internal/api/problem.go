package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"

	"whodunit/internal/auth"
	"whodunit/internal/store/wire"
)

// problem is an error with what to do next.
type problem struct {
	status       int
	detail, hint string
	column       int
	retryAfter   int // seconds
	cause        error
}

func (p *problem) Error() string { return p.detail }
func (p *problem) Unwrap() error { return p.cause }

func bad(detail, hint string) *problem {
	return &problem{status: http.StatusBadRequest, detail: detail, hint: hint}
}

// asProblem finds the answer that an error deserves.
func asProblem(err error) *problem {
	var p *problem
	var limited *auth.RateLimitedError
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &p):
		return p
	case errors.As(err, &limited):
		return &problem{status: http.StatusTooManyRequests, detail: limited.Error(), hint: "wait, or use an API token",
			retryAfter: int(math.Ceil(limited.RetryAfter.Seconds()))}
	case errors.Is(err, auth.ErrCrossOrigin):
		return &problem{status: http.StatusForbidden, detail: "the request came from a page of another site", hint: "use whodunit's own page, or an API token"}
	case errors.Is(err, auth.ErrForbidden):
		return &problem{status: http.StatusForbidden, detail: err.Error(), hint: "ask an administrator for a token with that scope"}
	case errors.Is(err, auth.ErrUnauthenticated):
		return &problem{status: http.StatusUnauthorized, detail: "the request carries no valid credentials",
			hint: "log in at /api/v1/login, or send the header Authorization: Bearer TOKEN"}
	case errors.Is(err, ErrUnknownRule):
		return &problem{status: http.StatusNotFound, detail: err.Error(), hint: "GET /api/v1/rules lists them"}
	case errors.Is(err, auth.ErrNotFound):
		return &problem{status: http.StatusNotFound, detail: err.Error(), hint: "list what there is with GET"}
	case errors.Is(err, auth.ErrInvalid):
		return bad(err.Error(), "correct the request")
	case errors.As(err, &large):
		return &problem{status: http.StatusRequestEntityTooLarge, detail: "the request's body is too large", hint: fmt.Sprintf("send at most %d KiB", large.Limit>>10)}
	case errors.Is(err, context.DeadlineExceeded):
		return &problem{status: http.StatusGatewayTimeout, detail: "the search took too long", hint: "narrow the time range, or stream with Accept: " + wire.NDJSON}
	case errors.Is(err, context.Canceled):
		return &problem{status: 499, detail: "the client went away"}
	}
	return &problem{status: http.StatusInternalServerError, detail: err.Error(), hint: "the server's log may say more", cause: err}
}

func (p *problem) wire(instance string) *wire.Problem {
	title := http.StatusText(p.status)
	if title == "" {
		title = "Client Closed Request"
	}
	return &wire.Problem{Type: "about:blank", Title: title, Status: p.status, Detail: p.detail, Instance: instance, Hint: p.hint, Column: p.column}
}

func (a *API) write(c *call, p *problem) {
	h := c.w.Header()
	h.Set("Content-Type", wire.ProblemJSON)
	if strings.HasPrefix(c.r.URL.Path, "/api/v2/") {
		h.Set("Content-Type", "application/json") // amtool and its like say nothing of an answer of another type
	}
	h.Set("Cache-Control", "no-store")
	if p.retryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(p.retryAfter))
	}
	if p.status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", `Bearer realm="whodunit"`)
	}
	c.w.WriteHeader(p.status)
	b, err := json.Marshal(p.wire(c.r.URL.Path))
	if err == nil {
		_, err = c.w.Write(append(b, '\n'))
	}
	if err != nil {
		a.log.Debug("cannot send a problem", "error", err)
	}
}

// reply sends v as JSON.
func (c *call) reply(status int, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	c.w.Header().Set("Content-Type", "application/json")
	c.w.WriteHeader(status)
	_, _ = c.w.Write(append(b, '\n')) // the client has gone: nobody to tell
	return nil
}
