package alert

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"whodunit/internal/audit"
	"whodunit/internal/finding"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type reader struct {
	recs []audit.Record
	size int
}

func (r *reader) Next(context.Context) ([]audit.Record, error) {
	if len(r.recs) == 0 {
		return nil, io.EOF
	}
	n := min(r.size, len(r.recs))
	out := r.recs[:n]
	r.recs = r.recs[n:]
	return out, nil
}

func findings(t testing.TB, severities ...finding.Severity) []audit.Record {
	t.Helper()
	var out []audit.Record
	for i, s := range severities {
		ev, err := audit.Parse("prod", fmt.Appendf(nil, `{"auditID":"a%d","stage":"ResponseComplete","verb":"get","user":{"username":"u"},"stageTimestamp":"2026-11-21T13:25:50.255614Z"}`, i))
		if err != nil {
			t.Fatal(err)
		}
		doc, err := finding.Finding{Rule: "r", Title: "T", Severity: s, Message: fmt.Sprintf("m%d \x1b[31m\n", i),
			Events: []finding.Evidence{{Identity: ev.Identity().String()}}}.Event(&ev)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, audit.Record{Seq: uint64(i + 1), Event: doc})
	}
	return out
}

// fake is a notifier that answers as told and remembers.
type fake struct {
	answers []error
	got     [][]string
}

func (f *fake) Notify(_ context.Context, fs []Finding) error {
	var ids []string
	for _, x := range fs {
		ids = append(ids, x.AuditID)
	}
	f.got = append(f.got, ids)
	if len(f.answers) == 0 {
		return nil
	}
	err := f.answers[0]
	f.answers = f.answers[1:]
	return err
}

func TestPump(t *testing.T) {
	down, bad := errors.New("down"), fmt.Errorf("%w: 400", ErrRejected)
	all := []finding.Severity{finding.Info, finding.Critical, finding.High, finding.Low}
	tests := []struct {
		name    string
		size    int
		min     finding.Severity
		answers []error
		got     [][]string
		saves   []uint64
		pauses  []time.Duration
		metrics map[string]float64
	}{
		{"batches as they come", 2, "", nil, [][]string{{"a0", "a1"}, {"a2", "a3"}}, []uint64{3, 5}, nil, map[string]float64{"sent": 4}},
		{"severity", 4, finding.High, nil, [][]string{{"a1", "a2"}}, []uint64{5}, nil, map[string]float64{"sent": 2, "severity": 2}},
		{"nothing to send moves the cursor", 1, finding.Critical, nil, [][]string{{"a1"}}, []uint64{2, 3, 4, 5}, nil, map[string]float64{"sent": 1, "severity": 3}},
		{"down", 4, "", []error{down, down, &retryAfter{down, 7 * time.Second}, &retryAfter{down, time.Hour}}, slices.Repeat([][]string{{"a0", "a1", "a2", "a3"}}, 5), []uint64{5},
			[]time.Duration{500 * time.Millisecond, time.Second, 7 * time.Second, 10 * time.Minute}, map[string]float64{"sent": 4, "retries": 4}},
		{"one is rejected", 4, finding.Low, []error{bad, nil, bad}, [][]string{{"a1", "a2", "a3"}, {"a1"}, {"a2"}, {"a3"}}, []uint64{5}, nil,
			map[string]float64{"sent": 2, "rejected": 1, "severity": 1}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := &fake{answers: tt.answers}
			m := NewMetrics(prometheus.NewRegistry())
			var saves []uint64
			var pauses []time.Duration
			p, err := New(Options{Name: "n", Reader: &reader{findings(t, all...), tt.size}, Notifier: f, MinSeverity: tt.min, Metrics: m,
				Save:   func(_ context.Context, n uint64) error { saves = append(saves, n); return nil },
				Wait:   func(_ context.Context, d time.Duration) error { pauses = append(pauses, d); return nil },
				Jitter: func() float64 { return 0 }})
			if err != nil {
				t.Fatal(err)
			}
			if err := p.Run(t.Context()); err != nil {
				t.Fatal(err)
			}
			got := map[string]float64{"sent": testutil.ToFloat64(m.Sent.WithLabelValues("n")), "retries": testutil.ToFloat64(m.Retries.WithLabelValues("n", "notify")),
				"rejected": testutil.ToFloat64(m.Dropped.WithLabelValues("n", "rejected")), "severity": testutil.ToFloat64(m.Skipped.WithLabelValues("n", "severity"))}
			for k, v := range got {
				if v == 0 {
					delete(got, k)
				}
			}
			for _, diff := range []string{cmp.Diff(tt.got, f.got), cmp.Diff(tt.saves, saves), cmp.Diff(tt.pauses, pauses), cmp.Diff(tt.metrics, got)} {
				if diff != "" {
					t.Error(diff)
				}
			}
		})
	}
}

func TestPumpStopsWhileReceiverIsDown(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	saved := false
	p, err := New(Options{Name: "n", Reader: &reader{findings(t, finding.High), 1}, Notifier: &fake{answers: slices.Repeat([]error{errors.New("down")}, 1000)},
		Save: func(context.Context, uint64) error { saved = true; return nil },
		Wait: func(ctx context.Context, _ time.Duration) error { stop(); return ctx.Err() }})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Run(ctx); err != nil || saved {
		t.Errorf("error %v, cursor saved %t: what was not delivered must come again", err, saved)
	}
}

func TestPumpCutsLargeBatches(t *testing.T) {
	f := &fake{}
	p, err := New(Options{Name: "n", Reader: &reader{findings(t, slices.Repeat([]finding.Severity{finding.Low}, 250)...), 250}, Notifier: f})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(f.got) != 3 || len(f.got[0]) != 100 || len(f.got[2]) != 50 {
		t.Errorf("%d calls", len(f.got))
	}
}

func read(t testing.TB, recs []audit.Record) []Finding {
	p, err := New(Options{Name: "n", Reader: &reader{}, Notifier: &fake{}})
	if err != nil {
		t.Fatal(err)
	}
	var out []Finding
	for i := range recs {
		f, ok := p.read(&recs[i])
		if !ok {
			t.Fatal("not a finding")
		}
		out = append(out, f)
	}
	return out
}

func TestLog(t *testing.T) {
	var b bytes.Buffer
	l := NewLog(slog.New(slog.NewTextHandler(&b, nil)))
	if err := l.Notify(t.Context(), read(t, findings(t, finding.High, finding.Low))); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(b.String()), "\n")
	if len(lines) != 2 || strings.ContainsRune(b.String(), 0x1b) {
		t.Fatalf("one escaped line a finding is wanted:\n%q", b.String())
	}
	if !strings.Contains(lines[0], "level=WARN") || !strings.Contains(lines[1], "level=INFO") || !strings.Contains(lines[0], "rule=r severity=high cluster=prod user=u audit_id=a0") {
		t.Error(b.String())
	}
}

type answer struct {
	code  int
	after string
}

func TestWebhook(t *testing.T) {
	now := time.Date(2026, 11, 21, 13, 0, 0, 0, time.UTC)
	var answers []answer
	type request struct{ auth, sig, delivery, body string }
	var got []request
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		got = append(got, request{r.Header.Get("Authorization"), r.Header.Get(HeaderSignature), r.Header.Get(HeaderDelivery), string(b)})
		a := answers[0]
		answers = answers[1:]
		if a.after != "" {
			w.Header().Set("Retry-After", a.after)
		}
		if a.code == 302 {
			w.Header().Set("Location", "https://192.0.2.1/")
		}
		w.WriteHeader(a.code)
	}))
	defer srv.Close()
	dir := t.TempDir()
	ca, token := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "token")
	must(t, os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}), 0o600))
	must(t, os.WriteFile(token, []byte("first\n"), 0o600))
	w, err := NewWebhook(WebhookConfig{URL: srv.URL + "/hook?key=hidden", TokenFile: token, Secret: "s3cret", TLS: TLSConfig{CAFile: ca}, Now: func() time.Time { return now }})
	must(t, err)
	defer w.Close()
	fs := read(t, findings(t, finding.High, finding.Low))
	for _, tt := range []struct {
		answer
		rejected bool
		pause    time.Duration
		ok       bool
	}{
		{answer: answer{200, ""}, ok: true}, {answer: answer{204, ""}, ok: true},
		{answer: answer{400, ""}, rejected: true}, {answer: answer{413, ""}, rejected: true}, {answer: answer{422, ""}, rejected: true},
		{answer: answer{302, ""}}, {answer: answer{401, ""}}, {answer: answer{404, ""}}, {answer: answer{500, ""}},
		{answer: answer{429, "3"}, pause: 3 * time.Second}, {answer: answer{503, "Sat, 21 Nov 2026 13:00:09 GMT"}, pause: 9 * time.Second},
		{answer: answer{503, "soon"}}, {answer: answer{429, "-1"}}, {answer: answer{429, "999999999999"}, pause: 0},
	} {
		answers = []answer{tt.answer}
		err := w.Notify(t.Context(), fs)
		var asked *retryAfter
		var pause time.Duration
		if errors.As(err, &asked) {
			pause = asked.pause
		}
		if (err == nil) != tt.ok || errors.Is(err, ErrRejected) != tt.rejected || tt.pause > 0 && pause != tt.pause {
			t.Errorf("answer %+v: %v, pause %v", tt.answer, err, pause)
		}
		if err != nil && (strings.Contains(err.Error(), "hidden") || strings.Contains(err.Error(), "s3cret")) {
			t.Errorf("error shows a secret: %v", err)
		}
	}
	r := got[0]
	mac := hmac.New(sha256.New, []byte("s3cret"))
	mac.Write([]byte(fmt.Sprint(now.Unix()) + "." + r.body))
	if want := fmt.Sprintf("t=%d,v1=%s", now.Unix(), hex.EncodeToString(mac.Sum(nil))); r.sig != want || r.auth != "Bearer first" {
		t.Errorf("signature %q, want %q; authorization %q", r.sig, want, r.auth)
	}
	if r.delivery == "" || r.delivery != got[1].delivery {
		t.Error("the same findings must have the same delivery header")
	}
	var body struct {
		Version  string
		Findings []struct{ Cluster, Kind, Rule, Message string }
	}
	must(t, json.Unmarshal([]byte(r.body), &body))
	if len(body.Findings) != 2 || body.Version != "1" || body.Findings[0].Cluster != "prod" || body.Findings[0].Kind != "Finding" || body.Findings[1].Message != "m1 \x1b[31m\n" {
		t.Errorf("body %s", r.body)
	}
	must(t, os.WriteFile(token, []byte("second"), 0o600))
	answers, got = []answer{{200, ""}}, nil
	must(t, w.Notify(t.Context(), fs))
	if got[0].auth != "Bearer second" {
		t.Error("a rotated token is not used")
	}
}

func TestWebhookSingleAndDown(t *testing.T) {
	var bodies []string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		bodies = append(bodies, string(b))
	}))
	w, err := NewWebhook(WebhookConfig{URL: srv.URL, Single: true})
	must(t, err)
	defer w.Close()
	fs := read(t, findings(t, finding.High, finding.Low))
	must(t, w.Notify(t.Context(), fs))
	if len(bodies) != 2 || !strings.HasPrefix(bodies[0], `{"cluster":"prod","kind":"Finding"`) {
		t.Errorf("bodies %q", bodies)
	}
	srv.Close()
	if err := w.Notify(t.Context(), fs); err == nil || errors.Is(err, ErrRejected) {
		t.Errorf("a receiver that is down: %v", err)
	}
}

func TestWebhookConfig(t *testing.T) {
	for _, c := range []WebhookConfig{
		{}, {URL: "ftp://x/"}, {URL: "https://"}, {URL: "http://x/\x7f"}, {URL: "https://x", TLS: TLSConfig{CertFile: "x"}},
		{URL: "https://x", TLS: TLSConfig{CAFile: "/does/not/exist"}}, {URL: "https://x", TLS: TLSConfig{CertFile: "x", KeyFile: "y"}},
	} {
		if _, err := NewWebhook(c); err == nil {
			t.Errorf("%+v is taken", c)
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
