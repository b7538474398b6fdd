package webhook

import (
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"net/http"
	"strings"
)

// AnyOf takes a request that one of the authenticators takes. The first to do so names the sender.
func AnyOf(all ...Authenticator) Authenticator {
	return func(r *http.Request) (string, bool) {
		for _, a := range all {
			if who, ok := a(r); ok {
				return who, true
			}
		}
		return "", false
	}
}

// Anybody takes every request. It is for receivers that only the API server can reach.
func Anybody(*http.Request) (string, bool) { return "", true }

// ClientCert takes requests with a client certificate that the TLS layer has verified (tls.Config with ClientCAs and
// VerifyClientCertIfGiven or stricter) and that allow accepts. The name is the certificate's common name.
func ClientCert(allow func(*x509.Certificate) bool) Authenticator {
	return func(r *http.Request) (string, bool) {
		if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 {
			return "", false
		}
		leaf := r.TLS.VerifiedChains[0][0]
		return leaf.Subject.CommonName, allow(leaf)
	}
}

// Bearer takes requests with a bearer token. tokens gives the names by token at that moment, so that tokens can be
// changed while it runs: the API server reads its token file again after about 55 s, so let both be valid for longer.
func Bearer(tokens func() map[string]string) Authenticator {
	return func(r *http.Request) (string, bool) {
		scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		if !strings.EqualFold(scheme, "Bearer") || token == "" {
			return "", false
		}
		name, found := "", false
		for t, n := range tokens() {
			if same(t, token) {
				name, found = n, true
			}
		}
		return name, found
	}
}

// Basic takes requests with a user name and the password that passwords has for it at that moment.
func Basic(passwords func() map[string]string) Authenticator {
	return func(r *http.Request) (string, bool) {
		name, password, ok := r.BasicAuth()
		if !ok {
			return "", false
		}
		want, known := passwords()[name]
		// compared also where the name is unknown: the time taken says nothing
		return name, same(want, password) && known && want != ""
	}
}

// same compares in a time that depends on neither content nor length.
func same(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}
