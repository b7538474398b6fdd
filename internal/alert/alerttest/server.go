package alerttest

import (
	"encoding/json"
	"encoding/pem"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"whodunit/internal/alert"
	"whodunit/internal/alert/post"
	"whodunit/internal/audit"
	"whodunit/internal/finding"
)

// Finding is one of a rule named "r" with the text in all that an event may bring.
func Finding(t testing.TB, text string) alert.Finding {
	t.Helper()
	quoted, err := json.Marshal(text)
	if err != nil {
		t.Fatal(err)
	}
	ev, err := audit.Parse("prod"+text, []byte(`{"auditID":"a-1","stage":"ResponseComplete","verb":"create","user":{"username":`+string(quoted)+`},"userAgent":`+string(quoted)+
		`,"sourceIPs":["192.0.2.7"],"requestURI":"/api/v1/namespaces/shop/pods/db-0/exec?command=sh&container=c","objectRef":{"resource":"pods","namespace":"shop","name":`+string(quoted)+
		`,"subresource":"exec","apiVersion":"v1"},"responseStatus":{"code":101},"stageTimestamp":"2026-11-21T13:25:50.255614Z"}`))
	if err != nil {
		t.Fatal(err)
	}
	doc, err := finding.Finding{Rule: "r", Title: "T " + text, Severity: finding.High, Format: "native", Tags: []string{text}, Message: "somebody " + text,
		Events: []finding.Evidence{{Cluster: ev.Cluster, AuditID: ev.AuditID, Stage: ev.Stage, Identity: ev.Identity().String()}}}.Event(&ev)
	if err != nil {
		t.Fatal(err)
	}
	return alert.Read(&audit.Record{Seq: 1, Event: doc})
}

// Group is a group of one firing and one resolved alert with the text in its labels and annotations.
func Group(text string) alert.Group {
	start := time.Date(2026, 11, 21, 13, 25, 50, 0, time.UTC)
	labels := map[string]string{"alertname": "r", "severity": "high", "user": "u" + text}
	return alert.Group{Key: "{}:{alertname=\"r\"}", Receiver: "ops", Labels: map[string]string{"alertname": "r"}, Alerts: []alert.Alert{
		{Labels: labels, Annotations: map[string]string{"summary": "somebody " + text}, StartsAt: start, EndsAt: time.Date(2126, 1, 1, 0, 0, 0, 0, time.UTC), Link: "https://whodunit.example/x"},
		{Labels: map[string]string{"alertname": "r", "user": "over"}, Annotations: map[string]string{"summary": text}, StartsAt: start, EndsAt: start.Add(time.Minute)},
	}}
}

// server answers as it is told.
type server struct {
	*httptest.Server
	mu      sync.Mutex
	bodies  [][]byte
	headers []http.Header
	conns   sync.WaitGroup // open ones
}

// serve starts a server; answer nil means: what Options say.
func (o Options) serve(t *testing.T, secure bool, answer http.HandlerFunc) *server {
	t.Helper()
	s := &server{}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Errorf("request's body: %v", err)
		}
		s.mu.Lock()
		s.bodies, s.headers = append(s.bodies, body), append(s.headers, r.Header)
		s.mu.Unlock()
		switch {
		case answer != nil:
			answer(w, r)
		case o.Answer != nil:
			_, _ = io.WriteString(w, o.Answer(body))
		}
	}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			s.conns.Add(1)
		case http.StateClosed, http.StateHijacked:
			s.conns.Done()
		}
	}
	if secure {
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(s.Close)
	return s
}

// certificate is s's own, as a file of trusted authorities.
func (s *server) certificate(t *testing.T) string {
	t.Helper()
	return Certificate(t, s.Server)
}

// Certificate writes the certificate of a server to a file of trusted authorities.
func Certificate(t testing.TB, s *httptest.Server) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// config has a secret wherever one can be.
func (s *server) config() post.Config {
	url := strings.Replace(s.URL, "://", "://user-"+Hidden+":password-"+Hidden+"@", 1) + "/path-" + Hidden + "?query=" + Hidden
	return post.Config{URL: url, Token: "token-" + Hidden, Headers: map[string]string{"X-Key": "header-" + Hidden}, Timeout: 30 * time.Second,
		Username: "name-" + Hidden, Password: "password2-" + Hidden}
}
