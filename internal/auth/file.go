package auth

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// fileVersion is the format of auth.json. A newer one is refused, so that an older program does not lose what it cannot read.
const fileVersion = 1

type file struct {
	Version int     `json:"version"`
	Users   []user  `json:"users"`
	Tokens  []token `json:"tokens"`
}

type user struct {
	Name    string    `json:"name"`
	Hash    string    `json:"hash"` // Argon2id in PHC string format
	Scopes  []Scope   `json:"scopes"`
	Created time.Time `json:"created"`
}

type token struct {
	Token
	Hash string `json:"hash"` // SHA-256 of the secret, hexadecimal
}

func readFile(path string) (file, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return file{Version: fileVersion}, nil
	}
	if err != nil {
		return file{}, fmt.Errorf("cannot read users and tokens: %w", err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return file{}, fmt.Errorf("cannot read users and tokens: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		if err := os.Chmod(path, 0o600); err != nil {
			return file{}, fmt.Errorf("cannot read users and tokens: %s can be read by others: %w", path, err)
		}
	}
	var f file
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&f); err != nil {
		return file{}, fmt.Errorf("cannot read users and tokens from %s: %w; restore it from a backup, or remove it to begin with a new admin password", path, err)
	}
	if f.Version != fileVersion {
		return file{}, fmt.Errorf("cannot read users and tokens from %s: its version is %d, this program knows %d", path, f.Version, fileVersion)
	}
	return f, nil
}

// change applies f to a copy of the state, writes it, and only then takes it over.
func (a *Auth) change(f func(*file) error) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	next := file{Version: fileVersion, Users: slices.Clone(a.f.Users), Tokens: slices.Clone(a.f.Tokens)}
	if err := f(&next); err != nil {
		return err
	}
	b, err := json.MarshalIndent(next, "", "  ")
	if err != nil {
		return fmt.Errorf("cannot encode users and tokens: %w", err)
	}
	if err := writeAtomic(a.path, append(b, '\n')); err != nil {
		return fmt.Errorf("cannot write users and tokens: %w", err)
	}
	a.f = next
	return nil
}

// writeAtomic replaces path by a file of mode 0600: after a crash it is the old one or the new one.
func writeAtomic(path string, b []byte) (err error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(dir, ".auth-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(tmp.Name()))
		}
	}()
	_, err = tmp.Write(b)
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return nil // renamed already; the directory's sync is all that is missing
	}
	return errors.Join(d.Sync(), d.Close())
}
