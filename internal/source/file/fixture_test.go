package file

import (
	"bytes"
	"compress/gzip"
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"whodunit/internal/audit"
	"whodunit/internal/source"
	"whodunit/internal/source/lines"
	"whodunit/internal/source/sourcetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is a folder of logs and the source that follows it.
type rig struct {
	t     testing.TB
	dir   string
	state string
	reg   *prometheus.Registry
	cfg   Config

	mu       sync.Mutex
	got      []string // IDs in the order of delivery
	seen     map[string]bool
	rejected []source.Rejected
	fail     error
	changed  chan struct{}
	stop     func()
	fatalf   func(format string, args ...any)
	patience time.Duration
}

func newRig(t testing.TB) *rig {
	r := &rig{t: t, dir: t.TempDir(), state: t.TempDir(), seen: map[string]bool{}, changed: make(chan struct{}, 1), stop: func() {}, fatalf: t.Fatalf, patience: 30 * time.Second}
	r.cfg = Config{
		Name: "log", Cluster: "c", Globs: []string{filepath.Join(r.dir, "audit*")}, StateDir: r.state,
		Poll: 10 * time.Millisecond, Linger: time.Millisecond, Grace: 50 * time.Millisecond, CheckpointEvery: -1,
		Backoff: lines.Backoff{Min: time.Millisecond, Max: 5 * time.Millisecond}, Reject: r.reject,
	}
	return r
}

func (r *rig) path(name string) string { return filepath.Join(r.dir, name) }

func (r *rig) reject(x source.Rejected) {
	r.mu.Lock()
	r.rejected = append(r.rejected, x)
	r.mu.Unlock()
	r.signal()
}

func (r *rig) emit(_ context.Context, b audit.Batch) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	defer r.signal()
	if r.fail != nil {
		return r.fail
	}
	for i := range b.Events {
		id := strings.Clone(b.Events[i].AuditID)
		r.got = append(r.got, id)
		r.seen[id] = true
	}
	return nil
}

func (r *rig) signal() {
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

func (r *rig) start() {
	r.t.Helper()
	r.reg = prometheus.NewRegistry()
	r.cfg.Metrics = NewMetrics(r.reg)
	s, err := New(r.cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, r.emit) }()
	var once sync.Once
	r.stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				r.t.Error(err)
			}
		})
	}
	r.t.Cleanup(r.stop)
}

func (r *rig) write(name, text string) {
	r.t.Helper()
	f, err := os.OpenFile(r.path(name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = f.WriteString(text)
	}
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) rename(from, to string) {
	r.t.Helper()
	if err := os.Rename(r.path(from), r.path(to)); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) copy(from, to string) {
	r.t.Helper()
	b, err := os.ReadFile(r.path(from))
	if err == nil {
		err = os.WriteFile(r.path(to), b, 0o600)
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) truncate(name string) {
	r.t.Helper()
	if err := os.Truncate(r.path(name), 0); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) remove(name string) {
	r.t.Helper()
	if err := os.Remove(r.path(name)); err != nil {
		r.t.Fatal(err)
	}
}

func gz(t testing.TB, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// gzip does what logrotate does: the compressed file beside, then the plain one removed.
func (r *rig) gzip(name string) {
	r.t.Helper()
	b, err := os.ReadFile(r.path(name))
	if err == nil {
		err = os.WriteFile(r.path(name+".gz"), gz(r.t, b), 0o600)
	}
	if err != nil {
		r.t.Fatal(err)
	}
	r.remove(name)
}

// wait returns when ok holds; it is asked under the lock.
func (r *rig) wait(what string, ok func() bool) {
	r.t.Helper()
	deadline := time.Now().Add(r.patience)
	for {
		r.mu.Lock()
		done := ok()
		r.mu.Unlock()
		if done {
			return
		}
		if time.Now().After(deadline) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.fatalf("waited in vain for %s; %d delivered: %.500q, %d rejected", what, len(r.got), r.got, len(r.rejected))
		}
		select {
		case <-r.changed:
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func (r *rig) waitFor(ids ...string) {
	r.t.Helper()
	r.wait(strings.Join(ids, " "), func() bool {
		for _, id := range ids {
			if !r.seen[id] {
				return false
			}
		}
		return true
	})
}

// exactly checks that what was delivered so far is that, in order and once.
func (r *rig) exactly(ids ...string) {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if strings.Join(r.got, " ") != strings.Join(ids, " ") {
		r.t.Errorf("delivered %q, want %q", r.got, ids)
	}
}

func ev(id string) string { return sourcetest.Event(id) + "\n" }

// follow is the fixture of the conformance suite.
type follow struct{ *rig }

func (f follow) New(t testing.TB, reject source.Reject) source.Source {
	cfg := f.cfg
	cfg.Reject = reject
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (f follow) Write(_ testing.TB, lines ...string) {
	f.write("audit.log", strings.Join(lines, "\n")+"\n")
}

func TestConformance(t *testing.T) {
	sourcetest.Run(t, func(t testing.TB) sourcetest.Fixture { return follow{newRig(t)} })
}
