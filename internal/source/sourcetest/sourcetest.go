// Package sourcetest holds every source to the contract in package source: order, acknowledgement after emit alone, at
// least once across failures and restarts, bad input kept aside, and a clean and quick end.
package sourcetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"whodunit/internal/audit"
	"whodunit/internal/source"
)

// Fixture is one input over the whole of a test, with all that the source under test keeps about it between runs.
type Fixture interface {
	// New makes the source as a new process would. The one before it has ended.
	New(t testing.TB, reject source.Reject) source.Source
	// Write hands lines in at the far end, in order, and does not wait for the source. A peer that must repeat until it
	// gets an acknowledgement does so by itself, also while no source runs.
	Write(t testing.TB, lines ...string)
}

// patience bounds every wait for the source: generous, as machines that run tests are busy.
const patience = 60 * time.Second

// maxShutdown bounds the time from the end of the context to the return of Run.
const maxShutdown = 5 * time.Second

// Run runs the suite. open makes an input with nothing in it; what it needs it ends with t.Cleanup.
func Run(t *testing.T, open func(t testing.TB) Fixture) {
	tests := []struct {
		name string
		run  func(t *testing.T, h *harness)
	}{
		{"Order", testOrder},
		{"FailingEmit", testFailingEmit},
		{"AcknowledgedAfterEmitAlone", testAcknowledged},
		{"Restart", testRestart},
		{"SlowEmit", testSlowEmit},
		{"BadInput", testBadInput},
		{"LargeEvent", testLargeEvent},
		{"ShutdownWhileEmitHangs", testShutdown},
		{"IdleShutdown", testIdle},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			before := goleak.IgnoreCurrent()
			t.Cleanup(func() { // runs after the fixture's own
				if err := goleak.Find(before); err != nil {
					t.Error(err)
				}
			})
			h := &harness{t: t, fixture: open(t), changed: make(chan struct{}, 1)}
			tt.run(t, h)
		})
	}
}

// Event is a line with one small audit event.
func Event(id string) string { return EventOf(id, 0) }

// EventOf is a line with one audit event that has about size bytes more.
func EventOf(id string, size int) string {
	return fmt.Sprintf(`{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Request","auditID":%q,"stage":"ResponseComplete",`+
		`"requestURI":"/api/v1/namespaces/shop/pods","verb":"list","user":{"username":"alice","groups":["dev"]},"requestObject":{"pad":"%s"},`+
		`"stageTimestamp":"2026-11-21T13:24:46.329286Z","annotations":{"id":%q}}`, id, strings.Repeat("x", size), id)
}

type harness struct {
	t       *testing.T
	fixture Fixture
	written []string // IDs in order
	stop    func()   // ends the running source

	mu       sync.Mutex
	hook     func(ctx context.Context, call int) error // what emit does; nil: succeed
	calls    int
	got      []string // IDs in the order of acknowledgement
	rejected []source.Rejected
	changed  chan struct{}
}

func (h *harness) emit(ctx context.Context, b audit.Batch) error {
	h.mu.Lock()
	h.calls++
	call, hook := h.calls, h.hook
	h.mu.Unlock()
	h.signal()
	if hook != nil {
		if err := hook(ctx, call); err != nil {
			clear(b.Events) // they are ours: the source must not need them again
			h.signal()
			return err
		}
	}
	h.mu.Lock()
	if len(b.Events) == 0 {
		h.t.Error("an empty batch")
	}
	if n := b.Bytes(); n > audit.MaxBatchBytes && len(b.Events) > 1 {
		h.t.Errorf("a batch of %d bytes", n)
	}
	if b.Origin.Source == "" || b.Origin.Position == "" {
		h.t.Errorf("origin %+v is not complete", b.Origin)
	}
	for i := range b.Events {
		h.got = append(h.got, strings.Clone(b.Events[i].AuditID))
	}
	h.mu.Unlock()
	h.signal()
	return nil
}

func (h *harness) reject(r source.Rejected) {
	h.mu.Lock()
	h.rejected = append(h.rejected, r)
	h.mu.Unlock()
	h.signal()
}

func (h *harness) signal() {
	select {
	case h.changed <- struct{}{}:
	default:
	}
}

// start runs a new source. Its end is awaited by h.stop, and by the end of the test.
func (h *harness) start(hook func(ctx context.Context, call int) error) {
	h.t.Helper()
	h.mu.Lock()
	h.hook = hook
	h.mu.Unlock()
	s := h.fixture.New(h.t, h.reject)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, h.emit) }()
	var once sync.Once
	h.stop = func() {
		once.Do(func() {
			cancel()
			at := time.Now()
			select {
			case err := <-done:
				if err != nil {
					h.t.Errorf("Run: %v, want nil after its context's end", err)
				}
			case <-time.After(patience):
				h.t.Fatal("Run does not end")
			}
			if took := time.Since(at); took > maxShutdown {
				h.t.Errorf("Run took %v to end", took)
			}
		})
	}
	h.t.Cleanup(h.stop)
}

func (h *harness) write(n int) {
	h.t.Helper()
	var lines []string
	for range n {
		id := fmt.Sprintf("event-%05d", len(h.written))
		h.written = append(h.written, id)
		lines = append(lines, EventOf(id, len(h.written)*37%400))
	}
	h.fixture.Write(h.t, lines...)
}

// wait returns when ok holds; it is asked under the lock.
func (h *harness) wait(what string, ok func() bool) {
	h.t.Helper()
	deadline := time.After(patience)
	for {
		h.mu.Lock()
		done := ok()
		h.mu.Unlock()
		if done {
			return
		}
		select {
		case <-h.changed:
		case <-deadline:
			h.mu.Lock()
			defer h.mu.Unlock() //nolint:gocritic // Fatalf ends the test, and the loop
			h.t.Fatalf("waited in vain for %s: %d written, %d acknowledged, %d rejected, %d calls of emit",
				what, len(h.written), len(h.got), len(h.rejected), h.calls)
		}
	}
}

// firsts are the acknowledged IDs without repetitions.
func (h *harness) firsts() []string {
	seen := map[string]bool{}
	var out []string
	for _, id := range h.got {
		if !seen[id] {
			seen[id] = true
			out = append(out, id)
		}
	}
	return out
}

// waitAll waits until all that was written is acknowledged, and checks the order.
func (h *harness) waitAll() {
	h.t.Helper()
	h.wait("all events", func() bool { return len(h.firsts()) >= len(h.written) })
	h.mu.Lock()
	defer h.mu.Unlock()
	for i, id := range h.firsts() {
		if id != h.written[i] {
			h.t.Fatalf("event %d is %s, want %s", i, id, h.written[i])
		}
	}
}

var errEmit = errors.New("emit fails in this test")

func testOrder(_ *testing.T, h *harness) {
	h.write(100)
	h.start(nil)
	h.write(200)
	h.waitAll()
	h.write(1)
	h.waitAll()
}

func testFailingEmit(_ *testing.T, h *harness) {
	h.write(50)
	h.start(func(_ context.Context, call int) error {
		switch call {
		case 1, 4:
			return fmt.Errorf("cannot append: %w", source.ErrPressure)
		case 2, 3:
			return errEmit
		}
		return nil
	})
	h.waitAll()
	h.write(50)
	h.waitAll()
}

func testAcknowledged(_ *testing.T, h *harness) {
	h.write(50)
	h.start(func(context.Context, int) error { return errEmit })
	h.wait("two tries", func() bool { return h.calls >= 2 })
	h.stop()
	h.start(nil)
	h.waitAll()
}

func testRestart(_ *testing.T, h *harness) {
	for range 4 {
		h.write(30)
		h.start(nil)
		h.write(20)
		h.waitAll()
		h.stop()
		h.write(10)
	}
	h.start(nil)
	h.waitAll()
}

func testSlowEmit(t *testing.T, h *harness) {
	gate := make(chan struct{})
	h.start(func(ctx context.Context, call int) error {
		if call > 1 {
			return nil
		}
		select {
		case <-gate:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	h.write(20)
	h.wait("the first call", func() bool { return h.calls > 0 })
	h.write(20)
	h.mu.Lock()
	if len(h.got) > 0 {
		t.Errorf("%d acknowledged before emit returned", len(h.got))
	}
	h.mu.Unlock()
	close(gate)
	h.waitAll()
}

func testBadInput(t *testing.T, h *harness) {
	h.start(nil)
	bad := []string{`{"kind":"Pod"}`, `nonsense`, `{"auditID":tru}`, `17`}
	h.written = []string{"a", "b", "c"}
	h.fixture.Write(t, Event("a"), bad[0], bad[1], Event("b"), bad[2], bad[3], Event("c"))
	h.waitAll()
	h.wait("the rejects", func() bool { return len(h.rejected) >= len(bad) })
	h.mu.Lock()
	defer h.mu.Unlock()
	seen := map[string]source.Rejected{}
	for _, r := range h.rejected {
		seen[string(r.Bytes)] = r
	}
	for _, b := range bad {
		r, ok := seen[b]
		if !ok || r.Err == nil || r.Reason == "" || r.Origin.Source == "" || r.Origin.Position == "" || r.Size != int64(len(b)) {
			t.Errorf("reject of %s: %+v", b, r)
		}
	}
}

func testLargeEvent(t *testing.T, h *harness) {
	h.start(nil)
	h.written = []string{"small", "large", "after"}
	h.fixture.Write(t, Event("small"), EventOf("large", 24<<20), Event("after"))
	h.waitAll()
}

func testShutdown(t *testing.T, h *harness) {
	h.start(func(ctx context.Context, _ int) error { <-ctx.Done(); return ctx.Err() })
	h.write(10)
	h.wait("a call of emit", func() bool { return h.calls > 0 })
	h.stop()
	h.mu.Lock()
	if len(h.got) > 0 {
		t.Errorf("%d acknowledged", len(h.got))
	}
	h.mu.Unlock()
	h.start(nil)
	h.waitAll()
}

func testIdle(_ *testing.T, h *harness) {
	h.start(nil)
	h.stop()
}
