package webhook

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math/big"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"whodunit/internal/audit"
	"whodunit/internal/source"
	"whodunit/internal/source/sourcetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func list(items ...string) string {
	return `{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":[` + strings.Join(items, ",") + `]}`
}

// peer posts what is written, one list after the other, and each until it is acknowledged, as the API server does.
type peer struct {
	mu   sync.Mutex
	url  string
	work chan string
}

func openPeer(t testing.TB) sourcetest.Fixture {
	p := &peer{work: make(chan string, 1000)}
	ctx, cancel := context.WithCancel(context.Background())
	transport := &http.Transport{}
	client := &http.Client{Transport: transport}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for body := range p.work {
			for ctx.Err() == nil && !p.post(ctx, client, body) {
				select {
				case <-time.After(5 * time.Millisecond):
				case <-ctx.Done():
				}
			}
		}
	}()
	t.Cleanup(func() {
		cancel()
		close(p.work)
		<-done
		transport.CloseIdleConnections()
	})
	return p
}

func (p *peer) post(ctx context.Context, client *http.Client, body string) bool {
	p.mu.Lock()
	url := p.url
	p.mu.Unlock()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		return false
	}
	r.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(r)
	if err != nil {
		return false
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

func (p *peer) New(t testing.TB, reject source.Reject) source.Source {
	l := listen(t)
	s, err := New(Config{Name: "hook", Listener: l, Authenticate: Anybody, Reject: reject, Drain: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	p.mu.Lock()
	p.url = "http://" + l.Addr().String() + "/clusters/c1"
	p.mu.Unlock()
	return s
}

func (p *peer) Write(_ testing.TB, lines ...string) {
	for len(lines) > 0 {
		n := min(25, len(lines))
		p.work <- list(lines[:n]...)
		lines = lines[n:]
	}
}

func TestConformance(t *testing.T) { sourcetest.Run(t, openPeer) }

func listen(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// run starts s; the test's end stops it.
func run(t testing.TB, s *Source, emit source.Emit) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, emit) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(stop)
	for range time.Tick(time.Millisecond) { // Run has begun once requests are admitted
		if _, ok := s.begin(); ok {
			s.busy.Done()
			break
		}
	}
	return stop
}

// store is an emit that remembers.
type store struct {
	mu      sync.Mutex
	batches []audit.Batch
	fail    func(ctx context.Context) error
}

func (s *store) emit(ctx context.Context, b audit.Batch) error {
	if s.fail != nil {
		if err := s.fail(ctx); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.batches = append(s.batches, b)
	return nil
}

func (s *store) events() (out []audit.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range s.batches {
		out = append(out, b.Events...)
	}
	return out
}

// pki is a CA with a server's and a client's certificate.
type pki struct {
	pool           *x509.CertPool
	server, client tls.Certificate
}

func newPKI(t testing.TB) pki {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	tmpl := func(cn string, serial int64) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: cn}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
			KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		}
	}
	caTmpl := tmpl("ca", 1)
	caTmpl.IsCA, caTmpl.BasicConstraintsValid, caTmpl.KeyUsage = true, true, x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, caTmpl, caTmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	issue := func(c *x509.Certificate) tls.Certificate {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		der, err := x509.CreateCertificate(rand.Reader, c, ca, &k.PublicKey, key)
		if err != nil {
			t.Fatal(err)
		}
		return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: k}
	}
	p := pki{pool: x509.NewCertPool()}
	p.pool.AddCert(ca)
	srv := tmpl("receiver", 2)
	srv.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	p.server, p.client = issue(srv), issue(tmpl("kube-apiserver", 3))
	return p
}
