package auth

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"slices"
	"time"
)

// tokenPrefix lets secret scanners and people recognise a token.
const tokenPrefix = "wdt_"

// Token is what is known about an API token; the secret itself is not kept.
type Token struct {
	ID      string    `json:"id"`
	Name    string    `json:"name"`
	Scopes  []Scope   `json:"scopes"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires,omitzero"` // zero: never
}

// CreateToken makes a token and gives its secret, which cannot be had again. A zero expires means never.
func (a *Auth) CreateToken(name string, scopes []Scope, expires time.Time) (Token, string, error) {
	if err := validName(name); err != nil {
		return Token{}, "", err
	}
	if err := validScopes(scopes); err != nil {
		return Token{}, "", err
	}
	now := a.o.Now().UTC().Truncate(time.Second)
	if !expires.IsZero() && !expires.After(now) {
		return Token{}, "", fmt.Errorf("%w: the token would have expired already", ErrInvalid)
	}
	b, err := a.random(32 + 8)
	if err != nil {
		return Token{}, "", err
	}
	secret := tokenPrefix + base64.RawURLEncoding.EncodeToString(b[:32])
	sum := sha256.Sum256([]byte(secret))
	t := token{
		Token: Token{ID: hex.EncodeToString(b[32:]), Name: name, Scopes: slices.Clone(scopes), Created: now, Expires: expires.UTC()},
		Hash:  hex.EncodeToString(sum[:]),
	}
	err = a.change(func(f *file) error {
		if len(f.Tokens) >= maxTokens {
			return fmt.Errorf("%w: there are %d tokens already: delete some", ErrInvalid, maxTokens)
		}
		if slices.ContainsFunc(f.Tokens, func(o token) bool { return o.Name == name }) {
			return fmt.Errorf("%w: there is a token named %s already", ErrInvalid, name)
		}
		f.Tokens = append(f.Tokens, t)
		return nil
	})
	return t.Token, secret, err
}

// maxTokens keeps the file, and the comparison with every token, small.
const maxTokens = 1000

// Tokens lists the tokens, oldest first.
func (a *Auth) Tokens() []Token {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := make([]Token, 0, len(a.f.Tokens))
	for _, t := range a.f.Tokens {
		out = append(out, t.Token)
	}
	return out
}

// DeleteToken revokes a token at once.
func (a *Auth) DeleteToken(id string) error {
	return a.change(func(f *file) error {
		i := slices.IndexFunc(f.Tokens, func(t token) bool { return t.ID == id })
		if i < 0 {
			return fmt.Errorf("token %.40q: %w", id, ErrNotFound)
		}
		f.Tokens = slices.Delete(f.Tokens, i, i+1)
		return nil
	})
}

// CheckToken says who holds the token. Its time does not depend on which token it is.
func (a *Auth) CheckToken(secret string) (Principal, error) {
	sum := sha256.Sum256([]byte(secret))
	want := []byte(hex.EncodeToString(sum[:]))
	a.mu.Lock()
	defer a.mu.Unlock()
	var found *token
	for i := range a.f.Tokens {
		if subtle.ConstantTimeCompare([]byte(a.f.Tokens[i].Hash), want) == 1 {
			found = &a.f.Tokens[i]
		}
	}
	switch {
	case found == nil:
		a.metrics.failures.WithLabelValues("token").Inc()
		return Principal{}, ErrUnauthenticated
	case !found.Expires.IsZero() && !a.o.Now().Before(found.Expires):
		a.metrics.failures.WithLabelValues("token_expired").Inc()
		return Principal{}, ErrUnauthenticated
	}
	return Principal{Name: "token:" + found.Name, Kind: "token", Scopes: found.Scopes}, nil
}
