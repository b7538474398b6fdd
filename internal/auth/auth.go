// Package auth says who is asking and what they may do: users with passwords, API tokens, sessions of the web page, and the
// guards around them. Everything that is kept is in one file, auth.json (mode 0600), which is replaced as a whole.
//
// Sessions are held in memory only, hashed: a restart of the process ends them, which costs people one more login and
// leaves nothing on disk to steal. Tokens are 256 random bits, so they are kept as plain SHA-256; passwords are kept as
// Argon2id.
package auth

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Scope is what a token or a user may do.
type Scope string

// The scopes. Admin includes the others.
const (
	ScopeAdmin   Scope = "admin"   // manage tokens and users
	ScopeOperate Scope = "operate" // silence alerts, post alerts and send test alerts
	ScopeRead    Scope = "read"    // search events, findings, alerts, rules, status and metrics
	ScopeIngest  Scope = "ingest"  // send events in
)

// Known reports whether s is one of the scopes.
func (s Scope) Known() bool {
	return s == ScopeAdmin || s == ScopeOperate || s == ScopeRead || s == ScopeIngest
}

// Principal is who is asking.
type Principal struct {
	Name   string  `json:"name"` // a user's name, or token:NAME
	Kind   string  `json:"kind"` // session, basic or token
	Scopes []Scope `json:"scopes"`
}

// Can reports whether p has the scope.
func (p Principal) Can(s Scope) bool {
	return slices.Contains(p.Scopes, s) || slices.Contains(p.Scopes, ScopeAdmin)
}

// Errors that callers tell apart. None says more than the peer may know.
var (
	// ErrUnauthenticated: no credentials, or wrong ones.
	ErrUnauthenticated = errors.New("not authenticated")
	// ErrForbidden: the credentials lack the scope.
	ErrForbidden = errors.New("not allowed")
	// ErrCrossOrigin: a request with a session that another site made the browser send.
	ErrCrossOrigin = errors.New("cross-origin request refused")
	// ErrNotFound: no such user or token.
	ErrNotFound = errors.New("not found")
	// ErrInvalid is wrapped by errors about a name, scope or password that cannot be taken.
	ErrInvalid = errors.New("invalid")
)

// RateLimitedError says that there were too many failed logins.
type RateLimitedError struct{ RetryAfter time.Duration }

func (e *RateLimitedError) Error() string {
	return fmt.Sprintf("too many failed logins: try again in %s", e.RetryAfter.Round(time.Second))
}

// Options of New. Dir is wanted; the rest has defaults.
type Options struct {
	Dir        string                // the data directory; auth.json is in it
	SessionTTL time.Duration         // default 12 h
	Secure     bool                  // served over TLS: cookies are marked Secure and carry the __Host- prefix
	Now        func() time.Time      // default time.Now
	Random     io.Reader             // default crypto/rand
	Logger     *slog.Logger          // default: none
	Registerer prometheus.Registerer // default: not registered
	// PasswordCost is Argon2id's memory in KiB; default 19,456 with two passes, OWASP's recommendation
	// (https://cheatsheetseries.owasp.org/cheatsheets/Password_Storage_Cheat_Sheet.html). Tests set it low.
	PasswordCost uint32
}

// Auth holds users, tokens and sessions. It is safe for concurrent use.
type Auth struct {
	o       Options
	path    string
	metrics *Metrics
	hashing chan struct{} // bounds the memory of password checks
	perAddr *limiter
	perUser *limiter
	origins *origins

	mu       sync.Mutex
	f        file
	sessions map[[32]byte]session
	dummy    string // hash checked for unknown users, so that they take as long
}

// New reads data_dir/auth.json, or begins without users where it is missing.
func New(o Options) (*Auth, error) {
	if o.SessionTTL <= 0 {
		o.SessionTTL = 12 * time.Hour
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Random == nil {
		o.Random = rand.Reader
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.PasswordCost == 0 {
		o.PasswordCost = 19456
	}
	o.Logger = o.Logger.With("component", "auth")
	a := &Auth{
		o: o, path: filepath.Join(o.Dir, "auth.json"), metrics: NewMetrics(o.Registerer), hashing: make(chan struct{}, 2),
		perAddr: newLimiter(10, 6*time.Second), perUser: newLimiter(20, 10*time.Second), origins: newOrigins(),
		sessions: map[[32]byte]session{},
	}
	var err error
	if a.f, err = readFile(a.path); err != nil {
		return nil, err
	}
	random, err := a.random(16)
	if err != nil {
		return nil, err
	}
	a.dummy, err = a.hashPassword(string(random))
	return a, err
}

// Credentials are what Bootstrap made. They are shown once and kept nowhere.
type Credentials struct {
	Created     bool // false: there were users already, and the rest is empty
	User        string
	Password    string // about 100 bits
	IngestToken string // for the API servers' webhook
}

// Bootstrap makes the first user, admin, and a token with the scope ingest, if there is no user yet.
func (a *Auth) Bootstrap() (Credentials, error) {
	a.mu.Lock()
	empty := len(a.f.Users) == 0
	a.mu.Unlock()
	if !empty {
		return Credentials{}, nil
	}
	password, err := a.readablePassword()
	if err != nil {
		return Credentials{}, err
	}
	if err := a.SetPassword("admin", password, []Scope{ScopeAdmin}); err != nil {
		return Credentials{}, err
	}
	_, secret, err := a.CreateToken("ingest", []Scope{ScopeIngest}, time.Time{})
	if err != nil {
		return Credentials{}, err
	}
	return Credentials{Created: true, User: "admin", Password: password, IngestToken: secret}, nil
}

func (a *Auth) random(n int) ([]byte, error) {
	b := make([]byte, n)
	if _, err := io.ReadFull(a.o.Random, b); err != nil {
		return nil, fmt.Errorf("cannot read random bytes: %w", err)
	}
	return b, nil
}

// validName keeps names fit for logs, URLs and terminals.
func validName(s string) error {
	if s == "" || len(s) > 64 {
		return fmt.Errorf("%w: a name of 1 to 64 characters is wanted", ErrInvalid)
	}
	for _, c := range s {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '.' || c == '_' || c == '@') {
			return fmt.Errorf("%w: a name of letters, digits and - . _ @ is wanted", ErrInvalid)
		}
	}
	return nil
}

func validScopes(scopes []Scope) error {
	if len(scopes) == 0 {
		return fmt.Errorf("%w: at least one scope of admin, operate, read and ingest is wanted", ErrInvalid)
	}
	for _, s := range scopes {
		if !s.Known() {
			return fmt.Errorf("%w: scope %.40q is none of admin, operate, read and ingest", ErrInvalid, string(s))
		}
	}
	return nil
}
