package auth

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"
)

// maxSessions bounds the memory of sessions; beyond it the oldest ends.
const maxSessions = 10_000

type session struct {
	who     Principal
	expires time.Time
}

// Login checks a user's password and sets the session's cookie on w. The errors are ErrUnauthenticated,
// *RateLimitedError, ErrCrossOrigin, or ctx's.
func (a *Auth) Login(w http.ResponseWriter, r *http.Request, name, password string) (Principal, error) {
	if err := a.ownPage(r); err != nil { // a foreign page must not log a person in as somebody else either
		return Principal{}, err
	}
	who, err := a.verify(r.Context(), peer(r), name, password)
	if err != nil {
		return Principal{}, err
	}
	id, err := a.newSession(who)
	if err != nil {
		return Principal{}, err
	}
	http.SetCookie(w, a.cookie(id, int(a.o.SessionTTL/time.Second)))
	a.metrics.logins.Inc()
	a.o.Logger.InfoContext(r.Context(), "login", "user", who.Name, "address", peer(r))
	return who, nil
}

// Logout ends the request's session, if any, and takes the cookie back.
func (a *Auth) Logout(w http.ResponseWriter, r *http.Request) error {
	if err := a.origins.check(r); err != nil {
		return err
	}
	if c, err := r.Cookie(a.cookieName()); err == nil {
		a.mu.Lock()
		delete(a.sessions, sha256.Sum256([]byte(c.Value)))
		a.mu.Unlock()
	}
	http.SetCookie(w, a.cookie("", -1))
	return nil
}

func (a *Auth) newSession(who Principal) (string, error) {
	b, err := a.random(32)
	if err != nil {
		return "", err
	}
	id, now := base64.RawURLEncoding.EncodeToString(b), a.o.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.sweep(now)
	a.sessions[sha256.Sum256([]byte(id))] = session{who: who, expires: now.Add(a.o.SessionTTL)}
	a.metrics.sessions.Set(float64(len(a.sessions)))
	return id, nil
}

// sweep drops what has expired, and the session that ends first where there are too many.
func (a *Auth) sweep(now time.Time) {
	var first [32]byte
	var at time.Time
	for k, s := range a.sessions {
		if !now.Before(s.expires) {
			delete(a.sessions, k)
		} else if at.IsZero() || s.expires.Before(at) {
			first, at = k, s.expires
		}
	}
	if len(a.sessions) >= maxSessions {
		delete(a.sessions, first)
	}
}

func (a *Auth) endSessions(name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for k, s := range a.sessions {
		if s.who.Name == name {
			delete(a.sessions, k)
		}
	}
	a.metrics.sessions.Set(float64(len(a.sessions)))
}

// The __Host- prefix makes browsers refuse the cookie unless it is Secure, without Domain, and for the whole host.
func (a *Auth) cookieName() string {
	if a.o.Secure {
		return "__Host-whodunit"
	}
	return "whodunit"
}

func (a *Auth) cookie(value string, maxAge int) *http.Cookie {
	return &http.Cookie{
		Name: a.cookieName(), Value: value, Path: "/", MaxAge: maxAge, HttpOnly: true, Secure: a.o.Secure,
		SameSite: http.SameSiteStrictMode,
	}
}

// Authenticate says who sent the request: the holder of the bearer token, of the basic authentication's password (a user's, or a
// token with any user name), or of the session's cookie. A request that changes something and comes with what a browser sends by itself
// must come from our own page. The errors are ErrUnauthenticated, ErrCrossOrigin, *RateLimitedError, or the request's context's.
func (a *Auth) Authenticate(r *http.Request) (Principal, error) {
	if h := r.Header.Get("Authorization"); h != "" {
		return a.authorization(r, h)
	}
	c, err := r.Cookie(a.cookieName())
	if err != nil {
		return Principal{}, ErrUnauthenticated
	}
	a.mu.Lock()
	s, ok := a.sessions[sha256.Sum256([]byte(c.Value))]
	a.mu.Unlock()
	if !ok || !a.o.Now().Before(s.expires) {
		a.metrics.failures.WithLabelValues("session").Inc()
		return Principal{}, ErrUnauthenticated
	}
	if err := a.ownPage(r); err != nil {
		return Principal{}, err
	}
	return s.who, nil
}

// authorization is Authenticate for the header. No answer of ours asks for basic authentication, so no browser asks a person for it;
// it is there for programs that know nothing else, such as amtool.
func (a *Auth) authorization(r *http.Request, h string) (Principal, error) {
	scheme, secret, _ := strings.Cut(h, " ")
	if strings.EqualFold(scheme, "Bearer") && secret != "" {
		return a.CheckToken(strings.TrimSpace(secret))
	}
	name, password, ok := r.BasicAuth()
	if !ok {
		a.metrics.failures.WithLabelValues("scheme").Inc()
		return Principal{}, ErrUnauthenticated
	}
	if err := a.ownPage(r); err != nil {
		return Principal{}, err
	}
	if strings.HasPrefix(password, tokenPrefix) {
		return a.CheckToken(password)
	}
	who, err := a.verify(r.Context(), peer(r), name, password)
	if err != nil {
		return Principal{}, err
	}
	who.Kind = "basic"
	return who, nil
}

// ownPage refuses what another site made a browser send, and counts it.
func (a *Auth) ownPage(r *http.Request) error {
	err := a.origins.check(r)
	if err != nil {
		a.metrics.failures.WithLabelValues("cross_origin").Inc()
	}
	return err
}

// Authorize is Authenticate for a scope; it adds ErrForbidden.
func (a *Auth) Authorize(r *http.Request, scope Scope) (Principal, error) {
	who, err := a.Authenticate(r)
	if err == nil && !who.Can(scope) {
		a.metrics.failures.WithLabelValues("scope").Inc()
		err = fmt.Errorf("%w: the scope %s is wanted", ErrForbidden, scope)
	}
	return who, err
}

// Ingest takes requests with a token of the scope ingest and names its holder. The token comes as a bearer token, or as the
// password of basic authentication with any user name, for senders that know nothing else. Sessions and people's passwords are no
// use here: what sends events is a machine, and checking a password takes 20 MB and a core for a while, each time.
func (a *Auth) Ingest(r *http.Request) (who string, ok bool) {
	secret := ""
	if _, password, basic := r.BasicAuth(); basic {
		secret = password
	} else if scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " "); strings.EqualFold(scheme, "Bearer") {
		secret = strings.TrimSpace(token)
	}
	if secret == "" {
		return "", false
	}
	p, err := a.CheckToken(secret)
	if err != nil {
		return "", false
	}
	if !p.Can(ScopeIngest) {
		a.metrics.failures.WithLabelValues("scope").Inc()
		return "", false
	}
	return p.Name, true
}

type principalKey struct{}

// WithPrincipal keeps who is asking in the context.
func WithPrincipal(ctx context.Context, p Principal) context.Context {
	return context.WithValue(ctx, principalKey{}, p)
}

// PrincipalOf is who WithPrincipal kept; the zero Principal if nobody.
func PrincipalOf(ctx context.Context) Principal {
	p, _ := ctx.Value(principalKey{}).(Principal)
	return p
}

// peer is the address of the connection. X-Forwarded-For is not asked: anybody can write it.
func peer(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

// origins refuses state-changing requests that a browser says come from another origin (Sec-Fetch-Site, else Origin against
// Host). Clients that are no browsers send neither header and pass.
type origins struct{ csrf *http.CrossOriginProtection }

func newOrigins() *origins { return &origins{csrf: http.NewCrossOriginProtection()} }

func (o *origins) check(r *http.Request) error {
	if err := o.csrf.Check(r); err != nil {
		return ErrCrossOrigin
	}
	return nil
}
