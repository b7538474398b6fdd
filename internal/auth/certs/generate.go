package certs

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"
)

const (
	day        = 24 * time.Hour
	caLife     = 3650 * day
	caLeft     = 400 * day // the authority outlives any certificate it makes
	serverLife = 397 * day
	serverLeft = 30 * day
)

type pair struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// renew makes the authority and the server's certificate where they are missing, about to expire, or for other names.
func (s *Source) renew() error {
	if err := os.MkdirAll(s.o.Dir, 0o700); err != nil {
		return fmt.Errorf("cannot make the directory of certificates: %w", err)
	}
	now := s.o.Now()
	ca, err := readPair(filepath.Join(s.o.Dir, "ca.crt"), filepath.Join(s.o.Dir, "ca.key"))
	if err != nil {
		return err
	}
	if ca == nil || now.Add(caLeft).After(ca.cert.NotAfter) {
		if ca, err = s.makeCA(now); err != nil {
			return err
		}
		s.o.Logger.Warn("made a new certificate authority: clients have to trust it", "file", filepath.Join(s.o.Dir, "ca.crt"))
	}
	names, ips := s.names()
	server, err := readPair(s.o.CertFile, s.o.KeyFile)
	if err != nil {
		s.o.Logger.Warn("cannot use the generated certificate: making another", "error", err)
	}
	if server != nil && now.Add(serverLeft).Before(server.cert.NotAfter) && server.cert.CheckSignatureFrom(ca.cert) == nil &&
		sameNames(server.cert, names, ips) {
		return nil
	}
	return s.makeServer(ca, now, names, ips)
}

func (s *Source) makeCA(now time.Time) (*pair, error) {
	t := &x509.Certificate{
		Subject: pkix.Name{CommonName: "whodunit generated CA " + now.UTC().Format("2006-01-02")}, NotBefore: now.Add(-time.Hour),
		NotAfter: now.Add(caLife), IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	return s.make(t, nil, filepath.Join(s.o.Dir, "ca.crt"), filepath.Join(s.o.Dir, "ca.key"))
}

func (s *Source) makeServer(ca *pair, now time.Time, names []string, ips []net.IP) error {
	t := &x509.Certificate{
		Subject: pkix.Name{CommonName: "whodunit"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(serverLife - time.Hour),
		DNSNames: names, IPAddresses: ips, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	_, err := s.make(t, ca, s.o.CertFile, s.o.KeyFile)
	if err == nil {
		s.o.Logger.Info("made a server certificate", "file", s.o.CertFile, "names", names, "expires", t.NotAfter)
	}
	return err
}

// make signs t by ca, or by itself, and writes both files, the key first: a certificate without its key is never found.
func (s *Source) make(t *x509.Certificate, ca *pair, certFile, keyFile string) (*pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("cannot make a key: %w", err)
	}
	if t.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120)); err != nil {
		return nil, fmt.Errorf("cannot make a serial number: %w", err)
	}
	t.SerialNumber.Add(t.SerialNumber, big.NewInt(1))
	parent, signer := t, key
	if ca != nil {
		parent, signer = ca.cert, ca.key
	}
	der, err := x509.CreateCertificate(rand.Reader, t, parent, &key.PublicKey, signer)
	if err != nil {
		return nil, fmt.Errorf("cannot make a certificate: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("cannot make a certificate: %w", err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("cannot encode a key: %w", err)
	}
	if err := write(keyFile, 0o600, "PRIVATE KEY", pkcs8); err != nil {
		return nil, err
	}
	return &pair{cert, key}, write(certFile, 0o644, "CERTIFICATE", der)
}

// names are what the generated certificate is for.
func (s *Source) names() (names []string, ips []net.IP) {
	names, ips = []string{"localhost"}, []net.IP{net.IPv4(127, 0, 0, 1).To4(), net.IPv6loopback}
	hosts := slices.Clone(s.o.Hosts)
	if h, err := os.Hostname(); err == nil && h != "" {
		hosts = append(hosts, h)
	}
	for _, h := range hosts {
		ip := net.ParseIP(h)
		switch {
		case ip == nil && h != "" && !slices.Contains(names, h):
			names = append(names, h)
		case ip != nil && !ip.IsUnspecified() && !slices.ContainsFunc(ips, ip.Equal):
			ips = append(ips, ip)
		}
	}
	return names, ips
}

func sameNames(c *x509.Certificate, names []string, ips []net.IP) bool {
	return slices.Equal(c.DNSNames, names) && slices.EqualFunc(c.IPAddresses, ips, net.IP.Equal)
}

// readPair is nil without an error where one of the files is missing.
func readPair(certFile, keyFile string) (*pair, error) {
	certDER, err := readPEM(certFile)
	if err != nil || certDER == nil {
		return nil, err
	}
	keyDER, err := readPEM(keyFile)
	if err != nil || keyDER == nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(certDER)
	if err != nil {
		return nil, fmt.Errorf("cannot read certificate %s: %w", certFile, err)
	}
	key, err := x509.ParsePKCS8PrivateKey(keyDER)
	if err != nil {
		return nil, fmt.Errorf("cannot read key %s: %w", keyFile, err)
	}
	ec, ok := key.(*ecdsa.PrivateKey)
	if pub, isEC := cert.PublicKey.(*ecdsa.PublicKey); !ok || !isEC || !ec.PublicKey.Equal(pub) {
		if filepath.Base(certFile) == "ca.crt" {
			// A crash between the two writes: nobody trusts the half that is new.
			return nil, nil
		}
		return nil, fmt.Errorf("cannot use certificate %s: %s is not its key", certFile, keyFile)
	}
	return &pair{cert, ec}, nil
}

func readPEM(file string) ([]byte, error) {
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read generated certificate: %w", err)
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, fmt.Errorf("cannot read generated certificate: %s is not PEM: remove it to have another made", file)
	}
	return block.Bytes, nil
}

// write replaces the file. Two listeners may renew at once, so each has a temporary file of its own, which package atomicfile has not.
func write(file string, mode os.FileMode, kind string, der []byte) (err error) {
	tmp, err := os.CreateTemp(filepath.Dir(file), ".tls-*")
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", file, err)
	}
	var b bytes.Buffer
	err = pem.Encode(&b, &pem.Block{Type: kind, Bytes: der})
	if err == nil {
		_, err = tmp.Write(b.Bytes())
	}
	if err = errors.Join(err, tmp.Chmod(mode), tmp.Sync(), tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), file)
	}
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", file, errors.Join(err, os.Remove(tmp.Name())))
	}
	return nil
}
