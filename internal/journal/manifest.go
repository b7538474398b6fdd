package journal

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"

	"whodunit/internal/atomicfile"
	"whodunit/internal/journal/segment"
)

const (
	manifestName    = "MANIFEST"
	manifestVersion = 1
)

// manifest names the segments that make up the sealed part of the journal, oldest first. It is one line of JSON and one with
// its CRC-32C; docs/reference/journal.md specifies it.
type manifest struct {
	Version  int            `json:"version"`
	Sealed   uint64         `json:"sealed"` // every record up to this sequence number is in a segment, deleted by retention, or lost
	Segments []segmentEntry `json:"segments"`
}

type segmentEntry struct {
	File string       `json:"file"`
	Meta segment.Meta `json:"meta"`
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func (m manifest) save(dir string) error {
	m.Version = manifestVersion
	b, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("cannot write manifest: %w", err)
	}
	b = fmt.Appendf(append(b, '\n'), "crc32c:%08x\n", crc32.Checksum(b, castagnoli))
	if err := atomicfile.Write(filepath.Join(dir, manifestName), 0o600, b); err != nil {
		return fmt.Errorf("cannot write manifest: %w", err)
	}
	return nil
}

// errManifest says that there are segments, but no manifest to be trusted.
var errManifest = errors.New("manifest is damaged or missing")

// loadManifest reads the manifest; a folder with neither a manifest nor segments has an empty journal.
func loadManifest(dir string) (manifest, error) {
	b, err := os.ReadFile(filepath.Join(dir, manifestName))
	if errors.Is(err, fs.ErrNotExist) {
		if left, _ := filepath.Glob(filepath.Join(dir, "segments", "*.parquet")); len(left) > 0 { // the pattern is good
			return manifest{}, errManifest
		}
		return manifest{Version: manifestVersion}, nil
	}
	if err != nil {
		return manifest{}, fmt.Errorf("cannot read manifest: %w", err)
	}
	line, sum, _ := bytes.Cut(b, []byte("\n"))
	if string(bytes.TrimSpace(sum)) != fmt.Sprintf("crc32c:%08x", crc32.Checksum(line, castagnoli)) {
		return manifest{}, errManifest
	}
	var m manifest
	if err := json.Unmarshal(line, &m); err != nil {
		return manifest{}, fmt.Errorf("%w: %w", errManifest, err)
	}
	if m.Version != manifestVersion {
		return manifest{}, fmt.Errorf("cannot read journal: its manifest has version %d, this program reads %d", m.Version, manifestVersion)
	}
	return m, nil
}
