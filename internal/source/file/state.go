package file

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"whodunit/internal/atomicfile"
)

// markBytes is how much is compared at either end of what was read of a file.
const markBytes = 1024

// keepUnseen is how long a place is remembered after its file was last seen, so that the file is known when it comes
// back under another name or compressed.
const keepUnseen = 7 * 24 * time.Hour

// maxPlaces bounds the places that are remembered.
const maxPlaces = 10_000

// fileID is what the file system calls a file. It is used again after a file is deleted, and may change for the same
// file when a machine starts anew; so it is a hint, and the marks decide.
type fileID struct{ Device, Inode uint64 }

// mark is a fingerprint of N bytes.
type mark struct {
	N   int    `json:"n"`
	Sum string `json:"sum,omitempty"`
}

func markOf(b []byte) mark {
	h := sha256.Sum256(b)
	return mark{len(b), hex.EncodeToString(h[:16])}
}

// place is how far some content was read and made durable. Content is known by what was read of it: its first and its
// last up to 1,024 bytes. So a file is recognised after renaming, copying and compression, and another file under the
// same name or inode is not mistaken for it.
type place struct {
	Path   string `json:"path"` // where it was last; for people
	Device uint64 `json:"device"`
	Inode  uint64 `json:"inode"`
	Offset int64  `json:"offset"` // of the plain content, decompressed
	Head   mark   `json:"head"`   // of content[0:N]
	Tail   mark   `json:"tail"`   // of content[Offset-N:Offset]; N is 0 in compressed files
	Done   bool   `json:"done,omitempty"`
	Size   int64  `json:"size,omitempty"`  // with Done: of the compressed file
	MTime  int64  `json:"mtime,omitempty"` // with Done: in nanoseconds
	Seen   int64  `json:"seen"`            // in seconds since 1970
}

// state is the checkpoint. docs/reference/checkpoint.md specifies it.
type state struct {
	Version int      `json:"version"`
	Places  []*place `json:"places"`
}

var errDamaged = errors.New("damaged checkpoint")

func statePath(dir, name string) string {
	return filepath.Join(dir, "file-"+url.PathEscape(name)+".json")
}

// loadState gives an empty state where there is none yet (fresh) or it is damaged (errDamaged).
func loadState(path string) (st *state, fresh bool, err error) {
	empty := &state{Version: 1}
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return empty, true, nil
	}
	if err != nil {
		return empty, false, fmt.Errorf("cannot read the checkpoint: %w", err)
	}
	st = &state{}
	if err := json.Unmarshal(b, st); err != nil {
		return empty, false, fmt.Errorf("%w: %s: %w", errDamaged, path, err)
	}
	if st.Version != 1 {
		return empty, false, fmt.Errorf("cannot use the checkpoint %s: version %d, only 1 is known", path, st.Version)
	}
	for _, p := range st.Places {
		if p == nil || p.Offset < 0 || p.Head.N < 0 || p.Head.N > markBytes || p.Tail.N < 0 || p.Tail.N > markBytes || int64(p.Tail.N) > p.Offset {
			return empty, false, fmt.Errorf("%w: %s: impossible numbers", errDamaged, path)
		}
	}
	return st, false, nil
}

// write replaces the file at path, all or nothing.
func (st *state) write(path string) error {
	b, err := json.Marshal(st)
	if err != nil {
		return fmt.Errorf("cannot encode the checkpoint: %w", err)
	}
	if err := atomicfile.Write(path, 0o600, b); err != nil {
		return fmt.Errorf("cannot write the checkpoint: %w", err)
	}
	return nil
}

// prune forgets what was not seen for long.
func (st *state) prune(now time.Time, used map[*place]bool) {
	limit := now.Add(-keepUnseen).Unix()
	kept := st.Places[:0]
	spare := len(st.Places) - maxPlaces // the oldest stand first
	for _, p := range st.Places {
		if p.Seen == 0 {
			p.Seen = now.Unix()
		}
		old := p.Seen < limit || spare > 0
		if old && !used[p] {
			spare--
			continue
		}
		kept = append(kept, p)
	}
	clear(st.Places[len(kept):])
	st.Places = kept
}

func (st *state) add(p *place) *place {
	st.Places = append(st.Places, p)
	return p
}
