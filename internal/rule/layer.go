package rule

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"
)

// Layer is one place that rules come from.
type Layer struct {
	Name string // for messages: "shipped", or the folder's path
	FS   fs.FS
	Dir  string // the folder to watch for changes; "" for none
	File string // the only file to read, whatever it is called; "": all *.yaml, *.yml and *.json
}

// OpenLayer is the layer of a folder or a file of the operating system.
func OpenLayer(name string) (Layer, error) {
	st, err := os.Stat(name)
	if err != nil {
		return Layer{}, fmt.Errorf("cannot read rules: %w", err)
	}
	if st.IsDir() {
		return Layer{Name: name, FS: os.DirFS(name), Dir: name}, nil
	}
	dir := filepath.Dir(name)
	return Layer{Name: dir, FS: os.DirFS(dir), Dir: dir, File: filepath.Base(name)}, nil
}

// reader walks over layers and hands on the pieces of their files, in order.
type reader struct {
	put   func(at Place, p piece, json bool) bool // false: stop
	files []string
}

// layer reads one layer. Names that begin with a dot are passed over: in a mounted ConfigMap they hold a second copy of each file.
func (r *reader) layer(i int, l Layer) {
	place := func(p string) Place {
		return Place{Layer: i, File: path.Join(filepath.ToSlash(l.Name), p), FS: l.FS, Path: p}
	}
	if l.File != "" {
		r.file(place(l.File), l.FS, l.File, false)
		return
	}
	failed := func(p string, err error) error {
		if !r.put(place(p), piece{problem: "cannot read: " + err.Error()}, false) {
			return fs.SkipAll
		}
		return nil
	}
	_ = fs.WalkDir(l.FS, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return failed(p, err)
		}
		if p != "." && strings.HasPrefix(d.Name(), ".") {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if ext := path.Ext(p); d.IsDir() || ext != ".yaml" && ext != ".yml" && ext != ".json" {
			return nil
		}
		if len(r.files) >= MaxFiles {
			_ = failed(p, fmt.Errorf("more than %d rule files; the rest is not read", MaxFiles))
			return fs.SkipAll
		}
		if !r.file(place(p), l.FS, p, true) {
			return fs.SkipAll
		}
		return nil
	})
}

// file reads one file. regular refuses pipes and devices, whose like a person may name but a folder should not hold: a pipe that nobody writes
// to would keep the loader for ever.
func (r *reader) file(at Place, fsys fs.FS, p string, regular bool) bool {
	b, err := readLimited(fsys, p, regular)
	if err != nil {
		r.files = append(r.files, at.File)
		return r.put(at, piece{problem: "cannot read: " + err.Error()}, false)
	}
	if b == nil {
		return true
	}
	r.files = append(r.files, at.File)
	if json := path.Ext(p) == ".json"; json || !yamlLike(b) {
		return r.put(at, piece{text: string(b), line: 1}, true)
	}
	for i, p := range splitDocuments(string(b)) {
		if i == MaxDocuments {
			return r.put(at, piece{line: p.line, problem: fmt.Sprintf("more than %d documents; the rest is not read", MaxDocuments)}, false)
		}
		if !r.put(at, p, false) {
			return false
		}
	}
	return true
}

// yamlLike is false of a file that begins as a JSON object does: YAML forbids the tabs that JSON is often indented with.
func yamlLike(b []byte) bool {
	b = bytes.TrimLeft(bytes.TrimPrefix(b, []byte("\xef\xbb\xbf")), " \t\r\n")
	if len(b) == 0 || b[0] != '{' {
		return true
	}
	b = bytes.TrimLeft(b[1:], " \t\r\n")
	return len(b) == 0 || b[0] != '"'
}

// readLimited reads a whole file of at most MaxFileBytes; nil for a link to a folder.
func readLimited(fsys fs.FS, p string, regular bool) ([]byte, error) {
	if regular { // before it is opened, which waits for a writer
		info, err := fs.Stat(fsys, p)
		switch {
		case err != nil:
			return nil, err
		case info.IsDir():
			return nil, nil
		case !info.Mode().IsRegular():
			return nil, errors.New("not a regular file")
		}
	}
	f, err := fsys.Open(p)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.IsDir() {
		return nil, nil
	}
	b, err := io.ReadAll(io.LimitReader(f, MaxFileBytes+1))
	if err != nil {
		return nil, err
	}
	if len(b) > MaxFileBytes {
		return nil, fmt.Errorf("larger than %d bytes", MaxFileBytes)
	}
	if b == nil {
		b = []byte{}
	}
	return b, nil
}

// bytesFS is a file system of one file.
type bytesFS struct {
	name string
	b    []byte
}

// Open implements fs.FS.
func (f bytesFS) Open(name string) (fs.File, error) {
	if name != f.name {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return &bytesFile{bytes.NewReader(f.b), f}, nil
}

type bytesFile struct {
	*bytes.Reader
	of bytesFS
}

func (f *bytesFile) Stat() (fs.FileInfo, error) { return f, nil }
func (f *bytesFile) Close() error               { return nil }
func (f *bytesFile) Name() string               { return f.of.name }
func (f *bytesFile) Mode() fs.FileMode          { return 0o400 }
func (f *bytesFile) ModTime() time.Time         { return time.Time{} }
func (f *bytesFile) IsDir() bool                { return false }
func (f *bytesFile) Sys() any                   { return nil }
