package remote

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/alertmanager/api/v2/models"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"whodunit/internal/alert"
	"whodunit/internal/alert/post"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server is an Alertmanager whose answers tests choose.
type server struct {
	*httptest.Server
	mu     sync.Mutex
	answer func(w http.ResponseWriter, r *http.Request, users []string) // nil, or it writes nothing: 200
	got    [][]string                                                   // users in the alerts of each request that was taken
	bodies []int
}

func (s *server) set(answer func(w http.ResponseWriter, r *http.Request, users []string)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = answer
}

func (s *server) taken() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, g := range s.got {
		n += len(g)
	}
	return n
}

// recorder notes whether a status was written.
type recorder struct {
	http.ResponseWriter
	code int
}

func (r *recorder) WriteHeader(code int) {
	r.code = code
	r.ResponseWriter.WriteHeader(code)
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	var alerts models.PostableAlerts
	if err := json.Unmarshal(body, &alerts); err != nil || r.URL.Path != "/prefix/api/v2/alerts" || r.Method != http.MethodPost {
		http.Error(w, "not found", http.StatusNotFound)
		return
	}
	users := make([]string, len(alerts))
	for i, a := range alerts {
		if err := a.Validate(nil); err != nil {
			http.Error(w, err.Error(), http.StatusUnprocessableEntity)
			return
		}
		users[i] = a.Labels["user"]
	}
	s.mu.Lock()
	answer := s.answer
	s.mu.Unlock()
	rec := &recorder{w, 200}
	if answer != nil {
		answer(rec, r, users)
	}
	if rec.code == 200 {
		s.mu.Lock()
		s.got, s.bodies = append(s.got, users), append(s.bodies, len(body))
		s.mu.Unlock()
	}
}

func start(t *testing.T) *server {
	t.Helper()
	s := &server{}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func client(t *testing.T, now func() time.Time, servers ...*server) *Remote {
	t.Helper()
	o := Options{Now: now}
	for _, s := range servers {
		o.Instances = append(o.Instances, post.Config{URL: s.URL + "/prefix/?token=hidden", Timeout: 5 * time.Second})
	}
	r, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

func alerts(users ...string) []alert.Alert {
	out := make([]alert.Alert, len(users))
	for i, u := range users {
		now := time.Date(2026, 11, 21, 13, 0, 0, 0, time.UTC)
		out[i] = alert.Alert{Labels: map[string]string{"alertname": "T", "user": u}, Annotations: map[string]string{"summary": "s"}, StartsAt: now, EndsAt: now.Add(time.Minute),
			Link: "https://whodunit.example.com/?q=rule%3Ax"}
	}
	return out
}

func answer(code int, header ...string) func(http.ResponseWriter, *http.Request, []string) {
	return func(w http.ResponseWriter, _ *http.Request, _ []string) {
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(code)
	}
}

func sent(r *Remote, in int, result string) float64 {
	return testutil.ToFloat64(r.instances[in].alerts.WithLabelValues(r.instances[in].client.Host(), result))
}

func TestEveryInstanceGetsEveryAlert(t *testing.T) {
	t.Parallel()
	a, b := start(t), start(t)
	r := client(t, nil, a, b)
	var users []string
	for i := range 150 {
		users = append(users, fmt.Sprint("u", i))
	}
	if err := r.Put(t.Context(), alerts(users...)); err != nil {
		t.Fatal(err)
	}
	r.requests.Wait()
	for _, s := range []*server{a, b} {
		if s.taken() != 150 || len(s.got) != 3 || len(s.got[0]) != maxAlerts {
			t.Errorf("%d alerts in %d requests", s.taken(), len(s.got))
		}
	}
	for _, st := range r.Status() {
		if st.Taken.IsZero() || st.LastError != "" {
			t.Errorf("status: %+v", st)
		}
	}
}

func TestLargeAlertsGoInSmallerRequests(t *testing.T) {
	t.Parallel()
	a := start(t)
	r := client(t, nil, a)
	long := strings.Repeat("x", 100<<10)
	var users []string
	for i := range 30 {
		users = append(users, fmt.Sprint(i, long))
	}
	if err := r.Put(t.Context(), alerts(users...)); err != nil {
		t.Fatal(err)
	}
	for _, n := range a.bodies {
		if n > maxBytes {
			t.Errorf("a body of %d bytes", n)
		}
	}
	if a.taken() != 30 {
		t.Errorf("%d taken", a.taken())
	}
}

func TestOneIsDownAndComesBack(t *testing.T) {
	t.Parallel()
	a, b := start(t), start(t)
	r := client(t, nil, a, b)
	b.set(answer(500))
	if err := r.Put(t.Context(), alerts("u")); err != nil {
		t.Fatal(err)
	}
	r.requests.Wait()
	if st := r.Status()[1]; !strings.HasSuffix(st.LastError, "answers 500") || strings.Contains(st.LastError, "hidden") || !st.Taken.IsZero() {
		t.Errorf("status: %+v", st)
	}
	b.set(nil)
	if err := r.Put(t.Context(), alerts("u")); err != nil {
		t.Fatal(err)
	}
	r.requests.Wait()
	if a.taken() != 2 || b.taken() != 1 || sent(r, 1, "failed") != 1 || sent(r, 1, "taken") != 1 {
		t.Errorf("taken %d and %d", a.taken(), b.taken())
	}
}

func TestNoneTakes(t *testing.T) {
	t.Parallel()
	a, b := start(t), start(t)
	r := client(t, nil, a, b)
	a.set(answer(503))
	b.Server.Close()
	err := r.Put(t.Context(), alerts("u"))
	if err == nil || errors.Is(err, alert.ErrRejected) || !strings.Contains(err.Error(), "answers 503") || strings.Contains(err.Error(), "hidden") {
		t.Errorf("error: %v", err)
	}
	a.set(answer(400))
	if err := r.Put(t.Context(), alerts("u")); err == nil || errors.Is(err, alert.ErrRejected) {
		t.Errorf("one refuses, one is down: %v", err)
	}
}

func TestOneThatHangsHoldsNoOther(t *testing.T) {
	t.Parallel()
	a, b := start(t), start(t)
	r := client(t, nil, a, b)
	r.linger = time.Millisecond
	free, reached := make(chan struct{}), make(chan struct{}, 10)
	b.set(func(http.ResponseWriter, *http.Request, []string) {
		reached <- struct{}{}
		<-free
	})
	if err := r.Put(t.Context(), alerts("first")); err != nil {
		t.Fatal(err)
	}
	<-reached
	for range 5 {
		if err := r.Put(t.Context(), alerts("more")); err != nil {
			t.Fatal(err)
		}
	}
	if a.taken() != 6 || sent(r, 1, "skipped") != 5 {
		t.Errorf("taken %d, skipped %v", a.taken(), sent(r, 1, "skipped"))
	}
	close(free)
	r.requests.Wait()
	r.linger = time.Minute
	if err := r.Put(t.Context(), alerts("again")); err != nil || b.taken() != 2 {
		t.Errorf("%v, taken %d", err, b.taken())
	}
}

func TestPutAndCloseEndWhatHangs(t *testing.T) {
	t.Parallel()
	s := start(t)
	free := make(chan struct{})
	defer close(free)
	reached := make(chan struct{})
	s.set(func(http.ResponseWriter, *http.Request, []string) {
		close(reached)
		<-free
	})
	r, err := New(Options{Instances: []post.Config{{URL: s.URL + "/prefix", Timeout: time.Hour}}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-reached
		cancel()
	}()
	if err := r.Put(ctx, alerts("u")); !errors.Is(err, context.Canceled) {
		t.Errorf("error: %v", err)
	}
	r.Close()
}

func TestRetryAfterIsKept(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 21, 13, 0, 0, 0, time.UTC)
	s := start(t)
	r := client(t, func() time.Time { return now }, s)
	s.set(answer(429, "Retry-After", "30"))
	if err := r.Put(t.Context(), alerts("u")); alert.Pause(err) != 30*time.Second {
		t.Errorf("error: %v, pause %s", err, alert.Pause(err))
	}
	s.set(nil)
	now = now.Add(20 * time.Second)
	if err := r.Put(t.Context(), alerts("u")); alert.Pause(err) != 10*time.Second || s.taken() != 0 {
		t.Errorf("error: %v, pause %s", err, alert.Pause(err))
	}
	now = now.Add(10 * time.Second)
	if err := r.Put(t.Context(), alerts("u")); err != nil || s.taken() != 1 {
		t.Errorf("error: %v", err)
	}
}

func TestARefusedAlertCostsNoOther(t *testing.T) {
	t.Parallel()
	s := start(t)
	r := client(t, nil, s)
	s.set(func(w http.ResponseWriter, _ *http.Request, users []string) {
		for _, u := range users {
			if u == "bad" {
				w.WriteHeader(http.StatusBadRequest)
			}
		}
	})
	if err := r.Put(t.Context(), alerts("a", "bad", "b")); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([][]string{{"a"}, {"b"}}, s.got); d != "" || sent(r, 0, "rejected") != 1 || sent(r, 0, "taken") != 2 {
		t.Errorf("taken (-want +got):\n%s", d)
	}
	if err := r.Put(t.Context(), alerts("bad")); !errors.Is(err, alert.ErrRejected) {
		t.Errorf("error: %v", err)
	}
}

func TestOtherCertificate(t *testing.T) {
	t.Parallel()
	s := &server{}
	s.Server = httptest.NewTLSServer(s)
	s.Config.ErrorLog = nil
	t.Cleanup(s.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		config post.Config
		want   string // in the error
	}{
		"unknown authority": {post.Config{}, "certificate"},
		"other name":        {post.Config{CAFile: ca, ServerName: "other.test"}, "other.test"},
		"right":             {post.Config{CAFile: ca}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			c := tc.config
			c.URL = s.URL + "/prefix?token=hidden"
			r, err := New(Options{Instances: []post.Config{c}})
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			err = r.Put(t.Context(), alerts("u"))
			if tc.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "hidden") {
				t.Errorf("error: %v", err)
			}
			if st := r.Status()[0]; !strings.Contains(st.LastError, tc.want) {
				t.Errorf("status: %+v", st)
			}
		})
	}
}

func TestNewChecks(t *testing.T) {
	t.Parallel()
	if _, err := New(Options{}); err == nil {
		t.Error("no instance: no error")
	}
	if _, err := New(Options{Instances: []post.Config{{URL: "ftp://user:hidden@host"}}}); err == nil || strings.Contains(err.Error(), "hidden") {
		t.Errorf("bad URL: %v", err)
	}
}
