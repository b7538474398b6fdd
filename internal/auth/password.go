package auth

import (
	"context"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/argon2"
)

// passwordLetters has no look-alikes (0 O o 1 I l i), no vowels that make words, and 28 letters of one case, so that a
// password can be read out: 21 of them carry 100.9 bits.
const passwordLetters = "23456789bcdfghjkmnpqrstvwxyz"

// readablePassword is 21 letters in groups of seven.
func (a *Auth) readablePassword() (string, error) {
	const limit = 256 - 256%len(passwordLetters) // above it a byte would favour the first letters
	var b strings.Builder
	for n := 0; n < 21; {
		r, err := a.random(1)
		if err != nil {
			return "", err
		}
		if int(r[0]) >= limit {
			continue
		}
		if n > 0 && n%7 == 0 {
			b.WriteByte('-')
		}
		b.WriteByte(passwordLetters[int(r[0])%len(passwordLetters)])
		n++
	}
	return b.String(), nil
}

// hashPassword gives Argon2id in the PHC string format
// (https://github.com/P-H-C/phc-string-format/blob/master/phc-sf-spec.md).
func (a *Auth) hashPassword(password string) (string, error) {
	salt, err := a.random(16)
	if err != nil {
		return "", err
	}
	const passes, lanes = 2, 1
	key := argon2.IDKey([]byte(password), salt, passes, a.o.PasswordCost, lanes, 32)
	enc := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, a.o.PasswordCost, passes, lanes,
		enc.EncodeToString(salt), enc.EncodeToString(key)), nil
}

// argonHash is a parsed hash.
type argonHash struct {
	passes, memory uint32
	lanes          uint8
	salt, key      []byte
}

// parseHash reads what hashPassword writes. Costs beyond 1 GiB or 100 passes are refused: the file is damaged.
func parseHash(hash string) (h argonHash, ok bool) {
	parts := strings.Split(hash, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" {
		return h, false
	}
	var version int
	n, err := fmt.Sscanf(parts[2]+" "+parts[3], "v=%d m=%d,t=%d,p=%d", &version, &h.memory, &h.passes, &h.lanes)
	if err != nil || n != 4 || version != argon2.Version || h.memory > 1<<20 || h.passes < 1 || h.passes > 100 || h.lanes < 1 {
		return h, false
	}
	h.salt, err = base64.RawStdEncoding.DecodeString(parts[4])
	if err != nil {
		return h, false
	}
	h.key, err = base64.RawStdEncoding.DecodeString(parts[5])
	return h, err == nil && len(h.key) >= 16 && len(h.key) <= 64
}

// checkPassword takes the time of one hash whatever the outcome.
func checkPassword(hash, password string) bool {
	h, ok := parseHash(hash)
	if !ok {
		return false
	}
	got := argon2.IDKey([]byte(password), h.salt, h.passes, h.memory, h.lanes, uint32(len(h.key)))
	return subtle.ConstantTimeCompare(got, h.key) == 1
}

// SetPassword makes the user, or replaces the password and scopes of the one there, whose sessions end.
func (a *Auth) SetPassword(name, password string, scopes []Scope) error {
	if err := validName(name); err != nil {
		return err
	}
	if err := validScopes(scopes); err != nil {
		return err
	}
	if len(password) < 12 || len(password) > 1024 {
		return fmt.Errorf("%w: a password of 12 to 1024 bytes is wanted", ErrInvalid)
	}
	hash, err := a.hashPassword(password)
	if err != nil {
		return err
	}
	err = a.change(func(f *file) error {
		u := user{Name: name, Hash: hash, Scopes: slices.Clone(scopes), Created: a.o.Now().UTC().Truncate(time.Second)}
		if i := slices.IndexFunc(f.Users, func(u user) bool { return u.Name == name }); i >= 0 {
			f.Users[i] = u
		} else {
			f.Users = append(f.Users, u)
		}
		return nil
	})
	if err == nil {
		a.endSessions(name)
	}
	return err
}

// ResetPassword replaces the password of a user who is there by a new one of about 100 bits and returns it; scopes stay, sessions end.
func (a *Auth) ResetPassword(name string) (string, error) {
	a.mu.Lock()
	i := slices.IndexFunc(a.f.Users, func(u user) bool { return u.Name == name })
	var scopes []Scope
	if i >= 0 {
		scopes = slices.Clone(a.f.Users[i].Scopes)
	}
	a.mu.Unlock()
	if i < 0 {
		return "", fmt.Errorf("user %.64q: %w", name, ErrNotFound)
	}
	password, err := a.readablePassword()
	if err != nil {
		return "", err
	}
	return password, a.SetPassword(name, password, scopes)
}

// DeleteUser removes a user and ends their sessions.
func (a *Auth) DeleteUser(name string) error {
	err := a.change(func(f *file) error {
		i := slices.IndexFunc(f.Users, func(u user) bool { return u.Name == name })
		if i < 0 {
			return fmt.Errorf("user %.64q: %w", name, ErrNotFound)
		}
		f.Users = slices.Delete(f.Users, i, i+1)
		return nil
	})
	if err == nil {
		a.endSessions(name)
	}
	return err
}

// verify checks a user's password within the limits on failures. addr is the peer's IP address.
func (a *Auth) verify(ctx context.Context, addr, name, password string) (Principal, error) {
	if err := a.limited(addr, name); err != nil {
		return Principal{}, err
	}
	select {
	case a.hashing <- struct{}{}:
		defer func() { <-a.hashing }()
	case <-ctx.Done():
		return Principal{}, ctx.Err()
	}
	if err := a.limited(addr, name); err != nil { // those that had their turn meanwhile count
		return Principal{}, err
	}
	now := a.o.Now()
	a.mu.Lock()
	u := user{Hash: a.dummy}
	for _, known := range a.f.Users {
		if known.Name == name {
			u = known
		}
	}
	a.mu.Unlock()
	// Taken before the slow part: attempts that run side by side each pay.
	a.perAddr.take(addressKey(addr), now)
	a.perUser.take(name, now)
	if len(password) > 1024 || !checkPassword(u.Hash, password) || u.Name == "" {
		a.metrics.failures.WithLabelValues("password").Inc()
		a.o.Logger.WarnContext(ctx, "login failed", "user", clip(name), "address", addr)
		return Principal{}, ErrUnauthenticated
	}
	a.perAddr.give(addressKey(addr), now)
	a.perUser.give(name, now)
	return Principal{Name: u.Name, Kind: "session", Scopes: u.Scopes}, nil
}

// limited is why there is no other attempt now.
func (a *Auth) limited(addr, name string) error {
	now := a.o.Now()
	wait := max(a.perAddr.wait(addressKey(addr), now), a.perUser.wait(name, now))
	if wait <= 0 {
		return nil
	}
	a.metrics.failures.WithLabelValues("rate_limited").Inc()
	return &RateLimitedError{RetryAfter: wait}
}

func clip(s string) string {
	if len(s) > 64 {
		return s[:64] + "…"
	}
	return s
}
