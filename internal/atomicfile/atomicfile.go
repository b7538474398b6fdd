// Package atomicfile replaces files so that after a crash the old or the new one is there, whole.
package atomicfile

import (
	"errors"
	"os"
	"path/filepath"
)

// Write replaces the file at path by one that holds b; see WriteFunc.
func Write(path string, mode os.FileMode, b []byte) error {
	return WriteFunc(path, mode, func(f *os.File) error {
		_, err := f.Write(b)
		return err
	})
}

// WriteFunc replaces the file at path by one that write fills; its mode is as given, whatever the umask. When it returns nil the new
// file is on disk under its name. On an error the old one is as it was, unless it was the folder that could not be synced. It goes by
// way of path.tmp, so the caller sees to it that one at a time writes path; what a crash left there is overwritten. write does not
// close the file. Errors name the file that failed.
func WriteFunc(path string, mode os.FileMode, write func(*os.File) error) error {
	tmp := path + ".tmp"
	f, err := os.OpenFile(tmp, os.O_RDWR|os.O_CREATE|os.O_TRUNC, mode.Perm())
	if err != nil {
		return err
	}
	err = f.Chmod(mode) // before there is anything to read in it
	if err == nil {
		err = write(f)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	return SyncDir(filepath.Dir(path))
}

// SyncDir makes the names in a folder durable: those that were made, renamed, or removed.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
