package act

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"whodunit/internal/atomicfile"
	"whodunit/internal/audit"
)

// An Audit-ID of ours is ownPrefix, nonceBytes random bytes and macBytes of a MAC, in hexadecimal: 63 bytes. The API server takes any,
// and shows at most 64 of them.
const (
	ownPrefix  = "wd-act-"
	nonceBytes = 12
	macBytes   = 16
	ownLength  = len(ownPrefix) + 2*(nonceBytes+macBytes)
	keyBytes   = 32
)

// auditHeader is how clients choose an event's auditID.
const auditHeader = "Audit-ID"

// Own reports whether ev is of a request that this Actor made, now or before a restart. Nobody else can make such an event: the MAC in
// its auditID covers cluster, method and URI, the user must be ours, and we do not impersonate. (Who stole our credentials could
// repeat a request of ours under its auditID, but make no other one.) It costs next to nothing for events of others.
func (a *Actor) Own(ev *audit.Event) bool {
	if len(ev.AuditID) != ownLength || !strings.HasPrefix(ev.AuditID, ownPrefix) || ev.Impersonated.Username != "" || ev.Impersonated.UID != "" ||
		len(ev.Impersonated.Groups) > 0 {
		return false
	}
	b, err := hex.DecodeString(ev.AuditID[len(ownPrefix):])
	if err != nil {
		return false
	}
	want := mac(a.key, b[:nonceBytes], ev.Cluster, method(ev.Verb), ev.RequestURI)
	return hmac.Equal(want, b[nonceBytes:]) && a.known.Load().has(ev.Cluster, ev.User.Username)
}

// method is the HTTP method that a verb of the API comes from.
func method(verb string) string {
	switch verb {
	case "get", "list", "watch":
		return http.MethodGet
	case "create":
		return http.MethodPost
	case "update":
		return http.MethodPut
	case "patch":
		return http.MethodPatch
	case "delete", "deletecollection":
		return http.MethodDelete
	}
	return ""
}

func mac(key, nonce []byte, cluster, method, uri string) []byte {
	m := hmac.New(sha256.New, key)
	m.Write(nonce)
	for _, s := range [...]string{cluster, method, uri} {
		_, _ = io.WriteString(m, s)
		m.Write([]byte{0})
	}
	return m.Sum(nil)[:macBytes]
}

// marker marks requests as ours.
type marker struct {
	key     []byte
	cluster string
	base    string // the path under which a proxy offers the API, which the API server does not see
	next    http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (m *marker) RoundTrip(req *http.Request) (*http.Response, error) {
	nonce := make([]byte, nonceBytes)
	_, _ = rand.Read(nonce) // never fails
	uri := strings.TrimPrefix(req.URL.RequestURI(), m.base)
	req = req.Clone(req.Context())
	req.Header.Set(auditHeader, ownPrefix+hex.EncodeToString(nonce)+hex.EncodeToString(mac(m.key, nonce, m.cluster, req.Method, uri)))
	return m.next.RoundTrip(req)
}

// WrappedRoundTripper is how idle connections are found.
func (m *marker) WrappedRoundTripper() http.RoundTripper { return m.next }

// readKey reads the key of a folder, and makes it at first use.
func readKey(dir string) ([]byte, error) {
	path := filepath.Join(dir, "key")
	key, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		key = make([]byte, keyBytes)
		_, _ = rand.Read(key) // never fails
		err = atomicfile.Write(path, 0o600, key)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot have the key of our requests: %w", err)
	}
	if len(key) != keyBytes {
		return nil, fmt.Errorf("cannot use %s: %d bytes are expected, it has %d", path, keyBytes, len(key))
	}
	return key, nil
}

// accounts are the user names that we had, the last one last, by cluster. They are on disk, so that requests from before a restart are
// known for our own before the API server was asked again.
type accounts struct{ byCluster map[string][]string }

// maxAccounts bounds the names of a cluster; the oldest go first.
const maxAccounts = 8

func (k *accounts) has(cluster, user string) bool {
	return user != "" && slices.Contains(k.byCluster[cluster], user)
}

func accountsPath(dir string) string { return filepath.Join(dir, "accounts.json") }

func readAccounts(dir string) (*accounts, error) {
	k := &accounts{}
	b, err := os.ReadFile(accountsPath(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return k, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &k.byCluster)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read our accounts' names: %w", err)
	}
	return k, nil
}

// learn keeps a name of ours. Notify's goroutine alone calls it.
func (a *Actor) learn(cluster, user string) error {
	old := a.known.Load()
	if list := old.byCluster[cluster]; len(list) > 0 && list[len(list)-1] == user {
		return nil
	}
	now := map[string][]string{}
	for c, list := range old.byCluster {
		now[c] = list
	}
	list := append(slices.DeleteFunc(slices.Clone(now[cluster]), func(s string) bool { return s == user }), user)
	now[cluster] = list[max(0, len(list)-maxAccounts):]
	b, err := json.Marshal(now)
	if err == nil {
		err = atomicfile.Write(accountsPath(a.o.Dir), 0o600, b)
	}
	if err != nil {
		return fmt.Errorf("cannot keep our account's name: %w", err)
	}
	a.known.Store(&accounts{now})
	return nil
}
