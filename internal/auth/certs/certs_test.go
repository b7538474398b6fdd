package certs

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

type clock struct{ t time.Time }

func (c *clock) now() time.Time          { return c.t }
func (c *clock) advance(d time.Duration) { c.t = c.t.Add(d) }

func mustNew(t *testing.T, o Options) *Source {
	t.Helper()
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestGeneratedServes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tls")
	s := mustNew(t, Options{Dir: dir, Hosts: []string{"audit.example.com", "192.0.2.7", "0.0.0.0", ""}})
	l, err := tls.Listen("tcp", "127.0.0.1:0", s.Config(nil))
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hi") })}
	done := make(chan error)
	go func() { done <- srv.Serve(l) }()
	defer func() { srv.Close(); <-done }()
	pool, err := Pool(filepath.Join(dir, "ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	defer client.CloseIdleConnections()
	for _, host := range []string{"localhost", "127.0.0.1"} {
		resp, err := client.Get("https://" + net.JoinHostPort(host, port))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	leaf := s.Certificate().Leaf
	for _, name := range []string{"audit.example.com", "192.0.2.7", "::1"} {
		if err := leaf.VerifyHostname(name); err != nil {
			t.Error(err)
		}
	}
	for _, f := range []string{"ca.key", "server.key"} {
		if info, err := os.Stat(filepath.Join(dir, f)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", f, info.Mode(), err)
		}
	}
}

func TestGeneratedStaysAndRenews(t *testing.T) {
	c := &clock{time.Now()}
	dir := t.TempDir()
	reg := prometheus.NewRegistry()
	s := mustNew(t, Options{Dir: dir, Now: c.now, Registerer: reg})
	first := s.Certificate().Leaf
	if again := mustNew(t, Options{Dir: dir, Now: c.now, Registerer: reg}).Certificate().Leaf; !again.Equal(first) {
		t.Error("a restart made another certificate")
	}
	c.advance(serverLife - serverLeft + day)
	second := s.Certificate().Leaf
	if second.Equal(first) || second.NotAfter.Before(c.now().Add(serverLife-2*day)) {
		t.Errorf("not renewed: %v", second.NotAfter)
	}
	pool, _ := Pool(filepath.Join(dir, "ca.crt"))
	if _, err := second.Verify(x509.VerifyOptions{Roots: pool, DNSName: "localhost", CurrentTime: c.now()}); err != nil {
		t.Error(err)
	}
	if n := testutil.ToFloat64(s.metrics.reloads.WithLabelValues("server", "ok")); n != 1 {
		t.Errorf("%v reloads counted", n)
	}
	c.advance(caLife - caLeft)
	third := s.Certificate().Leaf
	if third.CheckSignatureFrom(mustCA(t, dir)) != nil || second.CheckSignatureFrom(mustCA(t, dir)) == nil {
		t.Error("the authority was not renewed with the certificate")
	}
	if other := mustNew(t, Options{Dir: dir, Now: c.now, Hosts: []string{"new.example.com"}}).Certificate().Leaf; other.VerifyHostname("new.example.com") != nil {
		t.Error("a new host is not in the certificate")
	}
}

func mustCA(t *testing.T, dir string) *x509.Certificate {
	t.Helper()
	p, err := readPair(filepath.Join(dir, "ca.crt"), filepath.Join(dir, "ca.key"))
	if err != nil || p == nil {
		t.Fatal(err)
	}
	return p.cert
}

func TestFilesAreReadAgain(t *testing.T) {
	a, b := t.TempDir(), t.TempDir()
	mustNew(t, Options{Dir: a})
	mustNew(t, Options{Dir: b})
	c := &clock{time.Now()}
	s := mustNew(t, Options{CertFile: filepath.Join(a, "server.crt"), KeyFile: filepath.Join(a, "server.key"), Now: c.now})
	first := s.Certificate().Leaf

	// Half of the replacement: the certificate does not fit the key yet.
	copyFile(t, filepath.Join(b, "server.crt"), filepath.Join(a, "server.crt"))
	c.advance(checkEvery)
	if !s.Certificate().Leaf.Equal(first) {
		t.Error("a certificate without its key is used")
	}
	if n := testutil.ToFloat64(s.metrics.reloads.WithLabelValues("server", "error")); n != 1 {
		t.Errorf("%v errors counted", n)
	}
	copyFile(t, filepath.Join(b, "server.key"), filepath.Join(a, "server.key"))
	c.advance(checkEvery)
	if s.Certificate().Leaf.Equal(first) {
		t.Error("the new files are not used")
	}
	if err := os.Remove(filepath.Join(a, "server.key")); err != nil {
		t.Fatal(err)
	}
	c.advance(checkEvery)
	if s.Certificate() == nil {
		t.Error("no certificate once the files are gone")
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestBadFiles(t *testing.T) {
	dir := t.TempDir()
	if _, err := New(Options{CertFile: filepath.Join(dir, "no.crt"), KeyFile: filepath.Join(dir, "no.key")}); err == nil {
		t.Error("missing files are taken")
	}
	if err := os.WriteFile(filepath.Join(dir, "ca.crt"), []byte("junk"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := New(Options{Dir: dir}); err == nil {
		t.Error("a damaged authority was replaced silently")
	}
	if _, err := Pool(filepath.Join(dir, "ca.crt")); err == nil {
		t.Error("junk is trusted")
	}
}
