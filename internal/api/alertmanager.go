package api

import (
	"bytes"
	"cmp"
	"encoding/json"
	"io"
	"net/http"
	"path"
	"strings"
	"time"

	"whodunit/internal/auth"
)

// maxAlertsBody bounds a post of alerts: a Prometheus sends up to 64 at once, each with what its rule writes.
const maxAlertsBody = 4 << 20

// alertmanager is the routes of Alertmanager's own API, by pattern. They are not in the table: openapi.yaml leaves their description to
// Alertmanager's.
func (a *API) alertmanager() map[string]route {
	change := route{name: "alertmanager.change", scope: auth.ScopeOperate, anyParams: true, do: func(c *call) error { return a.v2(c, true) }}
	post := change
	post.maxBody, post.name, post.do = maxAlertsBody, "alertmanager.alerts", func(c *call) error { return a.v2(c, false) }
	return map[string]route{
		"GET /api/v2/":        {name: "alertmanager", scope: auth.ScopeRead, anyParams: true, do: func(c *call) error { return a.v2(c, false) }},
		"POST /api/v2/alerts": post,
		"/api/v2/":            change,
	}
}

// v2 hands a request on to Alertmanager's API, without what is not its business: credentials, and the origin, for which it would let any
// site read the answer.
func (a *API) v2(c *call, record bool) error {
	if a.o.Alerts.V2 == nil {
		return a.absent("Alertmanager of its own")
	}
	var body []byte
	if c.r.Method != http.MethodGet && c.r.Method != http.MethodHead {
		var err error
		if body, err = io.ReadAll(c.r.Body); err != nil {
			if p := asProblem(err); p.status == http.StatusRequestEntityTooLarge {
				return p
			}
			return &problem{status: http.StatusBadRequest, detail: "the body cannot be read", hint: "send it again", cause: err}
		}
	}
	r := c.r.Clone(c.r.Context())
	r.Body, r.ContentLength, r.TransferEncoding = io.NopCloser(bytes.NewReader(body)), int64(len(body)), nil
	for _, name := range []string{"Origin", "Authorization", "Cookie"} {
		r.Header.Del(name)
	}
	begin := &beginning{ResponseWriter: c.w}
	a.o.Alerts.V2.ServeHTTP(begin, r)
	if record {
		a.recordSilence(c, body, begin.kept)
	}
	return nil
}

// beginning keeps the first bytes of an answer: a silence's id is there.
type beginning struct {
	http.ResponseWriter
	kept []byte
}

func (b *beginning) Write(p []byte) (int, error) {
	b.kept = append(b.kept, p[:min(len(p), 256-len(b.kept))]...)
	return b.ResponseWriter.Write(p)
}

// recordSilence logs who asked to set or end a silence. A body that cannot be read was refused: the code says so.
func (a *API) recordSilence(c *call, body, answer []byte) {
	attrs := []any{"user", c.who.Name, "address", c.peer(), "code", cmp.Or(c.w.code, http.StatusOK)}
	switch c.r.Method {
	case http.MethodPost:
		var in struct {
			ID        string
			EndsAt    time.Time
			CreatedBy string
			Matchers  []matcher
		}
		var out struct{ SilenceID string }
		_, _ = json.Unmarshal(body, &in), json.Unmarshal(answer, &out)
		attrs = append(attrs, "action", "set", "id", clip(out.SilenceID, 64), "matchers", clip(words(in.Matchers), 1000), "until", in.EndsAt, "created_by", clip(in.CreatedBy, 200))
		if in.ID != "" && in.ID != out.SilenceID {
			attrs = append(attrs, "replaces", clip(in.ID, 64))
		}
	case http.MethodDelete:
		attrs = append(attrs, "action", "expire", "id", clip(path.Base(c.r.URL.Path), 64))
	default:
		return
	}
	a.log.Info("silence", attrs...)
}

// matcher is one of a silence's, as Alertmanager's API has it.
type matcher struct {
	Name, Value string
	IsRegex     bool
	IsEqual     *bool // nil: true
}

// words writes matchers as people do.
func words(ms []matcher) string {
	op := map[[2]bool]string{{true, false}: "=", {false, false}: "!=", {true, true}: "=~", {false, true}: "!~"}
	var parts []string
	for _, m := range ms {
		value, err := json.Marshal(m.Value)
		if err != nil {
			continue
		}
		parts = append(parts, m.Name+op[[2]bool{m.IsEqual == nil || *m.IsEqual, m.IsRegex}]+string(value))
	}
	return strings.Join(parts, ",")
}
