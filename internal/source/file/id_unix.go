//go:build unix

package file

import (
	"io/fs"
	"syscall"
)

// idOf is the file's device and inode.
func idOf(fi fs.FileInfo) fileID {
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return fileID{}
	}
	return fileID{uint64(st.Dev), uint64(st.Ino)} //nolint:unconvert // the types differ by system
}
