package cluster

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"time"
)

// certLife is long enough for the longest soak and bounds how long a leaked key of a test is of use.
const certLife = 7 * 24 * time.Hour

// authority signs the certificates of one cluster.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
	pem  []byte
}

func newAuthority() (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	tmpl := template("testcluster-ca")
	tmpl.IsCA, tmpl.BasicConstraintsValid = true, true
	tmpl.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &authority{cert: cert, key: key, pem: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}, nil
}

func template(name string) *x509.Certificate {
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: name, Organization: []string{"testcluster"}},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(certLife), KeyUsage: x509.KeyUsageDigitalSignature,
	}
}

// issue makes a certificate for 127.0.0.1 and more addresses that serves as server and client, both in PEM.
func (a *authority) issue(name string, more ...net.IP) (cert, key []byte, err error) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	tmpl := template(name)
	tmpl.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	tmpl.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1), net.ParseIP(advertised), net.IPv4(10, 96, 0, 1)}
	tmpl.IPAddresses = append(tmpl.IPAddresses, more...)
	tmpl.DNSNames = []string{"localhost", "kubernetes", "kubernetes.default.svc"}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, k.Public(), a.key)
	if err != nil {
		return nil, nil, err
	}
	key, err = keyPEM(k)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), key, err
}

// IssueClient makes a client certificate of the cluster's authority, as installers make that of the first administrator.
func (c *Cluster) IssueClient(user string, groups ...string) (Credentials, error) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Credentials{}, err
	}
	tmpl := template(user)
	tmpl.Subject.Organization = groups
	tmpl.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, c.ca.cert, k.Public(), c.ca.key)
	if err != nil {
		return Credentials{}, err
	}
	key, err := keyPEM(k)
	return Credentials{Cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), Key: key}, err
}

func keyPEM(k crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// writePKI makes the authority and, below pki/, what the programs read: server, client and kubelet certificates and the
// keys of service-account tokens.
func (c *Cluster) writePKI() error {
	ca, err := newAuthority()
	if err != nil {
		return fmt.Errorf("cannot make certificate authority: %w", err)
	}
	c.ca = ca
	caKey, err := keyPEM(ca.key)
	if err != nil {
		return err
	}
	files := map[string][]byte{"ca.crt": ca.pem, "ca.key": caKey}
	var more []net.IP
	if ip := net.ParseIP(c.cfg.Kubelets); ip != nil {
		more = append(more, ip)
	}
	for _, name := range []string{"server", "client", "kubelet"} {
		if files[name+".crt"], files[name+".key"], err = ca.issue(name, more...); err != nil {
			return fmt.Errorf("cannot make %s certificate: %w", name, err)
		}
	}
	sa, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(sa.Public())
	if err != nil {
		return err
	}
	files["sa.pub"] = pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})
	if files["sa.key"], err = keyPEM(sa); err != nil {
		return err
	}
	for name, data := range files {
		if err := os.WriteFile(c.path("pki", name), data, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// CA is the certificate, in PEM, of the authority that signed the API server's.
func (c *Cluster) CA() []byte { return c.ca.pem }

// NewServerTLS makes an authority of its own and a server's configuration for 127.0.0.1 with a certificate of it. A test's
// receiver uses it before the cluster that sends to it exists; ca goes into Webhook.CA.
func NewServerTLS() (cfg *tls.Config, ca []byte, err error) {
	a, err := newAuthority()
	if err != nil {
		return nil, nil, err
	}
	certPEM, key, err := a.issue("receiver")
	if err != nil {
		return nil, nil, err
	}
	cert, err := tls.X509KeyPair(certPEM, key)
	if err != nil {
		return nil, nil, err
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert}}, a.pem, nil
}

func (c *Cluster) httpClient() (*http.Client, error) {
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(c.ca.pem) {
		return nil, errors.New("cannot use the cluster's own certificate")
	}
	return &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool}}}, nil
}
