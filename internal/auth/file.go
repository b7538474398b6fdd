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

	"whodunit/internal/atomicfile"
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
	err = os.MkdirAll(filepath.Dir(a.path), 0o700)
	if err == nil {
		err = atomicfile.Write(a.path, 0o600, append(b, '\n'))
	}
	if err != nil {
		return fmt.Errorf("cannot write users and tokens: %w", err)
	}
	a.f = next
	return nil
}
