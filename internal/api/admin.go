package api

import (
	"encoding/json"
	"mime"
	"net/http"
	"runtime"
	"strings"
	"time"

	"whodunit/internal/auth"
	"whodunit/internal/store/wire"
)

// body reads the request's JSON strictly. The content type is asked for because a form of another site cannot send it.
func (c *call) body(into any) error {
	if t, _, err := mime.ParseMediaType(c.r.Header.Get("Content-Type")); err != nil || t != "application/json" {
		return &problem{status: http.StatusUnsupportedMediaType, detail: "a JSON body is wanted", hint: "send the header Content-Type: application/json"}
	}
	dec := json.NewDecoder(c.r.Body)
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return &problem{status: http.StatusBadRequest, detail: "the body cannot be read: " + clip(err.Error(), 200), hint: "see /api/v1/openapi.json", cause: err}
	}
	return nil
}

func (a *API) login(c *call) error {
	var in struct{ User, Password string }
	if err := c.body(&in); err != nil {
		return err
	}
	who, err := a.o.Auth.Login(c.w, c.r, in.User, in.Password)
	if err != nil {
		if p := asProblem(err); p.status == http.StatusUnauthorized {
			return &problem{status: p.status, detail: "user or password is wrong", hint: "the first password of admin was printed at the first start"}
		}
		return err
	}
	return c.reply(http.StatusOK, who)
}

func (a *API) logout(c *call) error {
	if err := a.o.Auth.Logout(c.w, c.r); err != nil {
		return err
	}
	c.w.WriteHeader(http.StatusNoContent)
	return nil
}

func (a *API) whoami(c *call) error { return c.reply(http.StatusOK, c.who) }

func (a *API) tokens(c *call) error {
	return c.reply(http.StatusOK, map[string]any{"items": a.o.Auth.Tokens()})
}

func (a *API) createToken(c *call) error {
	var in struct {
		Name    string       `json:"name"`
		Scopes  []auth.Scope `json:"scopes"`
		Expires time.Time    `json:"expires"`
	}
	if err := c.body(&in); err != nil {
		return err
	}
	t, secret, err := a.o.Auth.CreateToken(in.Name, in.Scopes, in.Expires)
	if err != nil {
		return err
	}
	a.log.Info("token made", "user", c.who.Name, "address", c.peer(), "token", t.Name, "id", t.ID, "scopes", t.Scopes)
	return c.reply(http.StatusCreated, map[string]any{"token": t, "secret": secret})
}

func (a *API) deleteToken(c *call) error {
	if err := a.o.Auth.DeleteToken(c.r.PathValue("id")); err != nil {
		return err
	}
	a.log.Info("token deleted", "user", c.who.Name, "address", c.peer(), "id", c.r.PathValue("id"))
	c.w.WriteHeader(http.StatusNoContent)
	return nil
}

func (a *API) loadRules(c *call) ([]Rule, error) {
	if a.o.Rules == nil {
		return nil, nil
	}
	return a.o.Rules(c.r.Context())
}

func (a *API) rules(c *call) error {
	rules, err := a.loadRules(c)
	if err != nil {
		return err
	}
	out := make([]Rule, len(rules))
	for i, r := range rules {
		r.Source = ""
		out[i] = r
	}
	return c.reply(http.StatusOK, map[string]any{"items": out})
}

func (a *API) rule(c *call) error {
	rules, err := a.loadRules(c)
	if err != nil {
		return err
	}
	for _, r := range rules {
		if r.ID == c.r.PathValue("id") {
			return c.reply(http.StatusOK, r)
		}
	}
	return &problem{status: http.StatusNotFound, detail: "no rule has this id", hint: "GET /api/v1/rules lists them"}
}

func (a *API) status(c *call) error {
	out := map[string]any{"version": a.o.Version, "go": runtime.Version(), "started": wire.Time(a.started.UnixMicro()), "now": wire.Time(a.o.Now().UnixMicro())}
	if a.o.Status != nil {
		parts, err := a.o.Status(c.r.Context())
		if err != nil {
			return err
		}
		out["parts"] = parts
	}
	return c.reply(http.StatusOK, out)
}

func (a *API) describe(c *call) error {
	c.w.Header().Set("Content-Type", "application/json")
	_, _ = c.w.Write(a.openapi)
	return nil
}

func (a *API) healthz(c *call) error {
	c.w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = c.w.Write([]byte("ok\n"))
	return nil
}

// readyz names the parts only: why one is not ready is in the log, because strangers can ask.
func (a *API) readyz(c *call) error {
	var b strings.Builder
	code := http.StatusOK
	for _, check := range a.o.Ready {
		state := "ok"
		if err := check.Ready(c.r.Context()); err != nil {
			state, code = "not ready", http.StatusServiceUnavailable
			a.log.Warn("not ready", "part", check.Name, "error", err)
		}
		b.WriteString(check.Name + ": " + state + "\n")
	}
	if code == http.StatusOK {
		b.WriteString("ready\n")
	}
	c.w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	c.w.WriteHeader(code)
	_, _ = c.w.Write([]byte(b.String()))
	return nil
}

func (a *API) serveMetrics(c *call) error {
	if a.o.Metrics == nil {
		return &problem{status: http.StatusNotFound, detail: "this server has no metrics"}
	}
	a.o.Metrics.ServeHTTP(c.w, c.r)
	return nil
}
