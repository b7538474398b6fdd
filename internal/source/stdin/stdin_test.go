package stdin

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"whodunit/internal/audit"
	"whodunit/internal/source"
	"whodunit/internal/source/lines"
	"whodunit/internal/source/sourcetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// replay is the input of a person who runs the same command again: each reader begins at the beginning.
type replay struct {
	mu   sync.Mutex
	more *sync.Cond
	all  []byte
}

func (p *replay) Write(_ testing.TB, lines ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range lines {
		p.all = append(p.all, l+"\n"...)
	}
	p.more.Broadcast()
}

func (p *replay) New(t testing.TB, reject source.Reject) source.Source {
	s, err := New(Config{
		Name: "stdin", Reader: &replayReader{p: p}, Reject: reject, Linger: 1e6, Backoff: lines.Backoff{Min: 1e6, Max: 1e7},
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

type replayReader struct {
	p      *replay
	at     int
	closed bool
}

func (r *replayReader) Read(b []byte) (int, error) {
	r.p.mu.Lock()
	defer r.p.mu.Unlock()
	for r.at == len(r.p.all) && !r.closed {
		r.p.more.Wait()
	}
	if r.closed {
		return 0, os.ErrClosed
	}
	n := copy(b, r.p.all[r.at:])
	r.at += n
	return n, nil
}

func (r *replayReader) Close() error {
	r.p.mu.Lock()
	defer r.p.mu.Unlock()
	r.closed = true
	r.p.more.Broadcast()
	return nil
}

func TestConformance(t *testing.T) {
	sourcetest.Run(t, func(testing.TB) sourcetest.Fixture {
		p := &replay{}
		p.more = sync.NewCond(&p.mu)
		return p
	})
}

// run reads all of r.
func run(t *testing.T, r io.Reader) (ids []string, kept []source.Rejected, err error) {
	t.Helper()
	s, err := New(Config{Name: "in", Cluster: "c", Reader: io.NopCloser(r), Reject: func(x source.Rejected) { kept = append(kept, x) }})
	if err != nil {
		t.Fatal(err)
	}
	err = s.Run(context.Background(), func(_ context.Context, b audit.Batch) error {
		for i := range b.Events {
			if b.Events[i].Cluster != "c" {
				t.Errorf("cluster %q", b.Events[i].Cluster)
			}
			ids = append(ids, strings.Clone(b.Events[i].AuditID))
		}
		return nil
	})
	return ids, kept, err
}

func TestEnds(t *testing.T) {
	text := sourcetest.Event("a") + "\r\n\n" + sourcetest.Event("b") + "\nbad\n" + sourcetest.Event("c") // no newline
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	_, _ = w.Write([]byte(text))
	_ = w.Close()
	for name, in := range map[string]string{"plain": text, "gzip": z.String()} {
		ids, kept, err := run(t, strings.NewReader(in))
		if err != nil || strings.Join(ids, "") != "abc" || len(kept) != 1 || string(kept[0].Bytes) != "bad" {
			t.Errorf("%s: %v %v %v", name, ids, kept, err)
		}
	}
	if ids, kept, err := run(t, strings.NewReader("")); err != nil || len(ids)+len(kept) != 0 {
		t.Error(ids, kept, err)
	}
	boom := errors.New("boom")
	ids, kept, err := run(t, io.MultiReader(strings.NewReader(sourcetest.Event("a")+"\n{\"half"), iotest.ErrReader(boom)))
	if !errors.Is(err, boom) || len(ids) != 1 || len(kept) != 1 {
		t.Error(ids, kept, err)
	}
	if _, _, err := run(t, strings.NewReader(z.String()[:z.Len()/2])); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error(err)
	}
}

// The lines that a real API server wrote, of up to 24 MB.
func TestRecorded(t *testing.T) {
	dir := os.Getenv("WHODUNIT_SHARED")
	if dir == "" {
		dir = "../../../../shared"
	}
	f, err := os.Open(filepath.Join(dir, "data", "audit", "edge-1.36.log.zst"))
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skipf("SKIPPED: %v", err)
	}
	defer f.Close()
	ids, kept, err := run(t, f)
	if err != nil || len(ids) != 460 || len(kept) != 0 {
		t.Errorf("%d events, %d rejects, %v", len(ids), len(kept), err)
	}
}

// What clouds wrap round events comes off; what else is in their envelopes is counted, and what was cut is refused.
func TestEnvelopes(t *testing.T) {
	in := `{"records":[{"category":"kube-audit","resourceId":"/x/BLUE","properties":{"log":"{\"auditID\":\"a\",\"stage\":\"Panic\"}\n"}},` +
		`{"category":"guard","properties":{"log":"x"}},{"category":"kube-audit","properties":{"log":"{\"auditID\":"}}]}` + "\n" +
		`node-1 {"auditID":"b","stage":"Panic"}` + "\n"
	reg := prometheus.NewRegistry()
	var refused, got []string
	s, err := New(Config{Name: "stdin", Reader: io.NopCloser(strings.NewReader(in)), Metrics: NewMetrics(reg),
		Reject: func(r source.Rejected) { refused = append(refused, r.Reason) }})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Run(t.Context(), func(_ context.Context, b audit.Batch) error {
		for i := range b.Events {
			got = append(got, b.Events[i].Cluster+"/"+b.Events[i].AuditID)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if strings.Join(got, " ") != "BLUE/a /b" || strings.Join(refused, " ") != "truncated" {
		t.Errorf("%v, refused %v", got, refused)
	}
	if n := sourcetest.Metric(t, reg, "whodunit_stdin_skipped_total", "reason", "category"); n != 1 {
		t.Errorf("%v passed over", n)
	}
}
