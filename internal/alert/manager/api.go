package manager

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
)

// Handler answers Alertmanager's API under /api/v2/. Who may call it is for its caller to check.
func (m *Manager) Handler() http.Handler { return m.handler }

// guard bounds requests, and hides secrets in the configuration that the API shows.
func (m *Manager) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, maxRequest)
		if r.Method == http.MethodPost && !strings.HasPrefix(r.URL.Path, "/api/v2/silence") {
			m.posted.serve(w, r, next, m.alerts.Get)
			return
		}
		for _, known := range []string{"/api/v2/alerts", "/api/v2/silence", "/api/v2/receivers"} { // the rest is the status
			if strings.HasPrefix(r.URL.Path, known) {
				next.ServeHTTP(w, r)
				return
			}
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
