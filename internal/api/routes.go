package api

import (
	"net/http"
	"slices"
	"strings"

	"whodunit/internal/auth"
)

// route is one line of the API's table.
type route struct {
	method, path, name string
	scope              auth.Scope // "" with public false: anybody who is authenticated
	public             bool       // no authentication
	static             bool       // may be cached
	anyParams          bool
	params             []string // query parameters; any other is an error
	maxBody            int64    // of the request; 0: 64 KiB
	do                 func(c *call) error
}

// table is every route of the API. openapi.yaml has the same.
func (a *API) table() []route {
	const v1 = "/api/v1/"
	selection := []string{"q", "expr", "from", "to"}
	var out []route
	for _, s := range []struct {
		name string
		set  Set
	}{{"events", a.o.Events}, {"findings", a.o.Findings}} {
		if s.set.Search == nil {
			continue
		}
		get := func(path, name string, do func(*call) error, params ...string) {
			out = append(out, route{method: "GET", path: v1 + s.name + path, name: s.name + name, scope: auth.ScopeRead, params: params, do: do})
		}
		set := s.set
		get("", "", func(c *call) error { return a.search(c, set) }, append(slices.Clone(selection), "limit", "cursor", "raw")...)
		get("/{identity}", ".get", func(c *call) error { return a.get(c, set) }, "time")
		get("/tail", ".tail", func(c *call) error { return a.tail(c, set) }, "q", "expr")
		get("/top", ".top", func(c *call) error { return a.top(c, set) }, append(slices.Clone(selection), "field", "n")...)
		get("/histogram", ".histogram", func(c *call) error { return a.histogram(c, set) }, append(slices.Clone(selection), "interval")...)
		get("/count", ".count", func(c *call) error { return a.count(c, set) }, selection...)
	}
	return append(out, []route{
		{method: "GET", path: v1 + "rules", name: "rules", scope: auth.ScopeRead, do: a.rules},
		{method: "GET", path: v1 + "rules/{id}", name: "rules.get", scope: auth.ScopeRead, do: a.rule},
		{method: "GET", path: v1 + "alerts", name: "alerts", scope: auth.ScopeRead, do: a.alerts},
		{method: "POST", path: v1 + "alerts/test", name: "alerts.test", scope: auth.ScopeOperate, do: a.testAlert},
		{method: "GET", path: v1 + "receivers", name: "receivers", scope: auth.ScopeRead, do: a.receivers},
		{method: "GET", path: v1 + "status", name: "status", scope: auth.ScopeRead, do: a.status},
		{method: "POST", path: v1 + "login", name: "login", public: true, do: a.login},
		{method: "POST", path: v1 + "logout", name: "logout", public: true, do: a.logout},
		{method: "GET", path: v1 + "whoami", name: "whoami", do: a.whoami},
		{method: "GET", path: v1 + "tokens", name: "tokens", scope: auth.ScopeAdmin, do: a.tokens},
		{method: "POST", path: v1 + "tokens", name: "tokens.create", scope: auth.ScopeAdmin, do: a.createToken},
		{method: "DELETE", path: v1 + "tokens/{id}", name: "tokens.delete", scope: auth.ScopeAdmin, do: a.deleteToken},
		{method: "GET", path: v1 + "openapi.json", name: "openapi", public: true, do: a.describe},
		{method: "GET", path: "/healthz", name: "healthz", public: true, do: a.healthz},
		{method: "GET", path: "/readyz", name: "readyz", public: true, do: a.readyz},
		{method: "GET", path: "/metrics", name: "metrics", scope: auth.ScopeRead, public: !a.o.MetricsAuth, anyParams: true, do: a.serveMetrics},
	}...)
}

// unknown answers what no route does: 405 with the allowed methods where the path is known.
func (a *API) unknown(c *call) error {
	var allow []string
	for _, rt := range a.routes {
		if samePath(rt.path, c.r.URL.Path) {
			allow = append(allow, rt.method)
		}
	}
	if len(allow) > 0 {
		c.w.Header().Set("Allow", strings.Join(allow, ", "))
		return &problem{status: http.StatusMethodNotAllowed, detail: "this path does not take " + clip(c.r.Method, 20), hint: "use " + strings.Join(allow, " or ")}
	}
	return &problem{status: http.StatusNotFound, detail: "there is nothing at this path", hint: "GET /api/v1/openapi.json lists what there is"}
}

func samePath(pattern, path string) bool {
	p, q := strings.Split(pattern, "/"), strings.Split(path, "/")
	return len(p) == len(q) && !slices.ContainsFunc(slices.Collect(zip(p, q)), func(x [2]string) bool {
		return x[0] != x[1] && !strings.HasPrefix(x[0], "{")
	})
}

func zip(a, b []string) func(func([2]string) bool) {
	return func(yield func([2]string) bool) {
		for i := range a {
			if !yield([2]string{a[i], b[i]}) {
				return
			}
		}
	}
}
