package manager

import (
	"bytes"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// Handler answers Alertmanager's API under /api/v2/. Who may call it is for its caller to check.
func (m *Manager) Handler() http.Handler { return m.handler }

// paths are Alertmanager's, beside those of single silences.
var paths = [...]string{"/api/v2/alerts", "/api/v2/alerts/groups", "/api/v2/receivers", "/api/v2/silences", statusPath}

const statusPath = "/api/v2/status"

// guard bounds requests, and hides secrets in the configuration that the API shows. What is at no path of Alertmanager's does not come
// to it: it would have a metric for each.
func (m *Manager) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := strings.TrimSuffix(r.URL.Path, "/")
		r.Body = http.MaxBytesReader(w, r.Body, maxRequest)
		switch {
		case !slices.Contains(paths[:], path) && !strings.HasPrefix(path, "/api/v2/silence/"):
			answer(w, http.StatusNotFound, "there is nothing at this path")
			return
		case !light(r.URL.RawQuery):
			answer(w, http.StatusBadRequest, "filter and receiver are too large")
			return
		case path == "/api/v2/alerts" && r.Method == http.MethodPost:
			m.posted.serve(w, r, next, m.alerts.Get)
			return
		case path == "/api/v2/silences" && r.Method == http.MethodPost:
			m.weigher.serve(w, r, next)
			return
		case path != statusPath:
			next.ServeHTTP(w, r)
			return
		}
		kept := &keeper{header: w.Header(), status: http.StatusOK}
		next.ServeHTTP(kept, r)
		body := hideInStatus(kept.body.Bytes(), kept.status)
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		w.WriteHeader(kept.status)
		_, _ = w.Write(body) // the client is gone
	})
}

// keeper keeps an answer.
type keeper struct {
	header http.Header
	status int
	body   bytes.Buffer
}

// Header implements http.ResponseWriter.
func (k *keeper) Header() http.Header { return k.header }

// WriteHeader implements http.ResponseWriter.
func (k *keeper) WriteHeader(status int) { k.status = status }

// Write implements http.ResponseWriter.
func (k *keeper) Write(b []byte) (int, error) { return k.body.Write(b) }

func hideInStatus(body []byte, status int) []byte {
	if status != http.StatusOK || len(body) == 0 {
		return body
	}
	var all map[string]json.RawMessage
	var conf struct {
		Original string `json:"original"`
	}
	if json.Unmarshal(body, &all) != nil || json.Unmarshal(all["config"], &conf) != nil {
		return []byte("{}")
	}
	conf.Original = hideInConfig(conf.Original)
	hidden, err := json.Marshal(conf)
	if err != nil {
		return []byte("{}")
	}
	all["config"] = hidden
	out, err := json.Marshal(all)
	if err != nil {
		return []byte("{}")
	}
	return append(out, '\n')
}
