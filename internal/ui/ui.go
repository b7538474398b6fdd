// Package ui is the web page, embedded: plain HTML, CSS and JavaScript modules without a build step. It asks the API of the
// same origin and shows every text of an event as text, never as markup.
package ui

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strconv"
	"strings"
)

//go:embed static
var static embed.FS

// Options of New. There are none yet.
type Options struct{}

// asset is one file, ready to be sent.
type asset struct {
	plain, zipped []byte
	kind, etag    string
}

// New makes the handler of the page's files: / and /assets/NAME. The caller sets the security headers. It is safe for
// concurrent use.
func New(Options) (http.Handler, error) {
	assets := map[string]asset{}
	err := fs.WalkDir(static, "static", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := static.ReadFile(name)
		if err != nil {
			return err
		}
		var z bytes.Buffer
		w, err := gzip.NewWriterLevel(&z, gzip.BestCompression)
		if err != nil {
			return err
		}
		if _, err := w.Write(b); err != nil {
			return err
		}
		if err := w.Close(); err != nil {
			return err
		}
		sum := sha256.Sum256(b)
		url := "/assets/" + path.Base(name)
		if path.Base(name) == "index.html" {
			url = "/"
		}
		assets[url] = asset{plain: b, zipped: z.Bytes(), kind: kind(name), etag: `"` + hex.EncodeToString(sum[:12]) + `"`}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("cannot prepare the web page: %w", err)
	}
	return handler(assets), nil
}

// kind does not ask the system's table, which may say that .js is text/plain.
func kind(name string) string {
	switch path.Ext(name) {
	case ".html":
		return "text/html; charset=utf-8"
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	case ".svg":
		return "image/svg+xml"
	}
	return mime.TypeByExtension(path.Ext(name))
}

type handler map[string]asset

func (h handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a, ok := h[r.URL.Path]
	if !ok {
		http.Error(w, "there is nothing at this path; the page is at /", http.StatusNotFound)
		return
	}
	head := w.Header()
	head.Set("Content-Type", a.kind)
	head.Set("ETag", a.etag)
	head.Set("Cache-Control", "no-cache") // asked for every time, answered 304: a new version shows at once
	head.Set("Vary", "Accept-Encoding")
	if strings.Contains(r.Header.Get("If-None-Match"), a.etag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	b := a.plain
	if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		head.Set("Content-Encoding", "gzip")
		b = a.zipped
	}
	head.Set("Content-Length", strconv.Itoa(len(b)))
	if r.Method != http.MethodHead {
		_, _ = w.Write(b) // the client has gone: nobody to tell
	}
}
