package api

import (
	"bytes"
	"cmp"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"whodunit/internal/audit"
	"whodunit/internal/auth"
	"whodunit/internal/match"
	"whodunit/internal/query"
	"whodunit/internal/store"
)

// memory is a store in memory, and a tail of what add brings.
type memory struct {
	mu      sync.Mutex
	recs    []audit.Record
	fail    error // of every search, after the first record
	added   chan audit.Record
	blocked chan struct{} // closed when a search may go on
}

func (m *memory) add(t testing.TB, cluster, raw string) audit.Record {
	t.Helper()
	e, err := audit.Parse(cluster, []byte(raw))
	if err != nil {
		t.Fatal(err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	r := audit.Record{Seq: uint64(len(m.recs) + 1), IngestedMicros: e.Micros(), Source: "webhook", Identity: e.Identity(), Event: e}
	m.recs = append(m.recs, r)
	return r
}

func (m *memory) matching(q store.Query) []audit.Record {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []audit.Record
	for _, r := range m.recs {
		t := r.Event.Micros()
		if (q.From == 0 || t >= q.From) && (q.To == 0 || t < q.To) && match.Eval(q.Expr, &r.Event) {
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(a, b audit.Record) int {
		return cmp.Or(-cmp.Compare(a.Event.Micros(), b.Event.Micros()), -cmp.Compare(a.Seq, b.Seq))
	})
	return out
}

func (m *memory) Search(ctx context.Context, q store.Query, yield func(*audit.Record) error) (st store.Stats, err error) {
	for _, r := range m.matching(q) {
		if m.blocked != nil {
			select {
			case <-m.blocked:
			case <-ctx.Done():
			}
		}
		if err := ctx.Err(); err != nil {
			return st, err
		}
		if p := q.Before; p != (store.Position{}) && (r.Event.Micros() > p.Micros || r.Event.Micros() == p.Micros && r.Seq >= p.Seq) {
			continue
		}
		if q.Limit > 0 && st.Matched == int64(q.Limit) {
			break
		}
		if err := yield(&r); err != nil {
			return st, err
		}
		st.Matched++
		if m.fail != nil {
			return st, m.fail
		}
	}
	return st, m.fail
}

func (m *memory) Top(_ context.Context, q store.Query, fields []string, n int) ([]store.Bucket, store.Stats, error) {
	counts := map[string]int64{}
	for _, r := range m.matching(q) {
		vals := make([]string, len(fields))
		for i, f := range fields {
			for v := range match.Values(&r.Event, f) {
				vals[i] = v
			}
		}
		counts[strings.Join(vals, "\t")]++
	}
	var out []store.Bucket
	for v, c := range counts {
		out = append(out, store.Bucket{Value: v, Count: c})
	}
	slices.SortFunc(out, func(a, b store.Bucket) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Value, b.Value))
	})
	if n > 0 && len(out) > n {
		out = out[:n]
	}
	return out, store.Stats{Matched: int64(len(m.matching(q)))}, nil
}

func (m *memory) Histogram(_ context.Context, q store.Query, width int64) ([]store.Bucket, store.Stats, error) {
	var out []store.Bucket
	recs := m.matching(q)
	for _, r := range slices.Backward(recs) {
		v := strconv.FormatInt(r.Event.Micros()/width*width, 10)
		if len(out) == 0 || out[len(out)-1].Value != v {
			out = append(out, store.Bucket{Value: v})
		}
		out[len(out)-1].Count++
	}
	return out, store.Stats{Matched: int64(len(recs))}, nil
}

func (m *memory) Tail(ctx context.Context, q store.Query, yield func(*audit.Record) error) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case r, ok := <-m.added:
			if !ok {
				return nil
			}
			if match.Eval(q.Expr, &r.Event) {
				if err := yield(&r); err != nil {
					return err
				}
			}
		}
	}
}

type fixture struct {
	*httptest.Server
	api        *API
	mem        *memory
	auth       *auth.Auth
	read, root string // tokens
	log        *syncBuffer
	reg        *prometheus.Registry
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}
func (b *syncBuffer) String() string { b.mu.Lock(); defer b.mu.Unlock(); return b.b.String() }

const password = "correct-horse-battery"

func start(t *testing.T, change func(*Options)) *fixture {
	t.Helper()
	f := &fixture{mem: &memory{added: make(chan audit.Record)}, log: &syncBuffer{}, reg: prometheus.NewRegistry()}
	var err error
	if f.auth, err = auth.New(auth.Options{Dir: t.TempDir(), PasswordCost: 64}); err != nil {
		t.Fatal(err)
	}
	if err := f.auth.SetPassword("alice", password, []auth.Scope{auth.ScopeRead}); err != nil {
		t.Fatal(err)
	}
	token := func(s auth.Scope) string {
		_, secret, err := f.auth.CreateToken(string(s), []auth.Scope{s}, time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		return secret
	}
	f.read, f.root = token(auth.ScopeRead), token(auth.ScopeAdmin)
	o := Options{
		Events: Set{f.mem, f.mem}, Findings: Set{Search: f.mem}, Language: Language{query.Parse, query.ParseTime, query.Path}, Auth: f.auth,
		Logger: slog.New(slog.NewTextHandler(f.log, nil)), Registerer: f.reg, Version: "v1.2.3", MetricsAuth: true,
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "metrics") }),
	}
	if change != nil {
		change(&o)
	}
	if f.api, err = New(o); err != nil {
		t.Fatal(err)
	}
	f.Server = httptest.NewUnstartedServer(f.api)
	f.Server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)
	f.Server.Start()
	t.Cleanup(func() {
		f.api.Close()
		f.Server.CloseClientConnections()
		f.Server.Close()
	})
	return f
}

func (f *fixture) do(t *testing.T, method, path, token, body string, h ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequest(method, f.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i < len(h); i += 2 {
		req.Header.Set(h[i], h[i+1])
	}
	resp, err := f.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		b = append(b, "\nCUT"...)
	}
	return resp, string(b)
}
