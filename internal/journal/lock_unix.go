//go:build unix

package journal

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// folderLock is a folder taken by this process.
type folderLock struct{ file, folder *os.File }

// Close gives the folder back.
func (l *folderLock) Close() error { return errors.Join(l.file.Close(), l.folder.Close()) }

// lockDir takes the folder for this process; the kernel gives it back when the process ends, however it ends. The folder itself is
// locked too, as somebody may remove the file; some network file systems lock no folders.
func lockDir(dir string) (_ *folderLock, err error) {
	path := filepath.Join(dir, "LOCK")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot lock journal: %w", err)
	}
	d, err := os.Open(dir)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot lock journal: %w", err), f.Close())
	}
	l := &folderLock{f, d}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.Close())
		}
	}()
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		if err := unix.Flock(int(d.Fd()), unix.LOCK_EX|unix.LOCK_NB); errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("cannot open journal %s: %w by a process whose LOCK file was removed", dir, ErrLocked)
		}
	}
	if errors.Is(err, unix.EWOULDBLOCK) {
		holder, _ := io.ReadAll(io.LimitReader(f, 32))
		return nil, fmt.Errorf("cannot open journal %s: %w by process %s: stop that one, or give this one another data_dir",
			dir, ErrLocked, strings.TrimSpace(string(holder)))
	}
	if err != nil {
		return nil, fmt.Errorf("cannot lock journal %s: %w", dir, err)
	}
	if err := f.Truncate(0); err == nil {
		_, _ = fmt.Fprintf(f, "%d\n", os.Getpid()) // for people only
	}
	return l, nil
}

// freeBytes is what an ordinary user may still write to the folder's file system.
func freeBytes(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("cannot ask for free space of %s: %w", dir, err)
	}
	return int64(st.Bavail) * int64(st.Bsize), nil //nolint:unconvert // the types differ by system
}

// outside reports whether err says nothing about the file itself: another user's, or too many files are open.
func outside(err error) bool {
	return errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) || errors.Is(err, unix.ENOMEM)
}

// fullDisk reports whether err means that there is no room.
func fullDisk(err error) bool {
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT)
}
