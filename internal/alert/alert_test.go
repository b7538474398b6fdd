package alert

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

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

func TestDocuments(t *testing.T) {
	rec := findings(t, finding.High)[0]
	f := Read(&rec)
	if doc := string(f.Document()); !strings.HasPrefix(doc, `{"cluster":"prod","kind":"Finding"`) || !strings.HasSuffix(doc, string(f.Doc[1:])) {
		t.Errorf("document of a finding: %s", doc)
	}
	start := time.Date(2026, 11, 21, 13, 0, 0, 0, time.UTC)
	hostile := "\x00\"\\\n\x1b[31m\xff\u2028</script>"
	g := Group{Key: "k", Receiver: "ops", Labels: map[string]string{"a": hostile}, Alerts: []Alert{
		{Labels: map[string]string{"alertname": "x"}, StartsAt: start, EndsAt: start.Add(time.Minute), Link: "https://w/x"},
		{Labels: map[string]string{"alertname": "y"}, Annotations: map[string]string{"summary": "s"}, StartsAt: start.In(time.FixedZone("", 3600)), EndsAt: start.Add(time.Hour)}}}
	got, err := g.Document(start.Add(time.Minute))
	if err != nil || !json.Valid(got) || !utf8.Valid(got) || strings.ContainsAny(string(got), "\n\x00\x1b") {
		t.Fatalf("%q, %v", got, err)
	}
	want := `"status":"firing","alerts":[` +
		`{"status":"resolved","labels":{"alertname":"x"},"annotations":{},"startsAt":"2026-11-21T13:00:00Z","endsAt":"2026-11-21T13:01:00Z","link":"https://w/x"},` +
		`{"status":"firing","labels":{"alertname":"y"},"annotations":{"summary":"s"},"startsAt":"2026-11-21T13:00:00Z","endsAt":"2026-11-21T14:00:00Z"}]}`
	if !strings.HasPrefix(string(got), `{"version":"1","receiver":"ops","groupKey":"k","groupLabels":{"a":"`) || !strings.HasSuffix(string(got), want) {
		t.Errorf("document of a group: %s", got)
	}
	if got, err = g.Document(start.Add(time.Hour)); err != nil || strings.Contains(string(got), "firing") {
		t.Errorf("all alerts are over: %s, %v", got, err)
	}
}
