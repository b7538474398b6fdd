package file

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"whodunit/internal/audit"
	"whodunit/internal/store"
	"whodunit/internal/store/storetest"
)

// write makes one log file; name says how it is compressed.
func write(t *testing.T, name string, plain []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	var b bytes.Buffer
	var w io.WriteCloser
	switch filepath.Ext(name) {
	case ".gz":
		w = gzip.NewWriter(&b)
	case ".zst":
		z, err := zstd.NewWriter(&b)
		if err != nil {
			t.Fatal(err)
		}
		w = z
	default:
		b.Write(plain)
	}
	if w != nil {
		if _, err := w.Write(plain); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func log(records []audit.Record) []byte {
	var b bytes.Buffer
	for i := range records {
		b.Write(records[i].Event.Raw)
		b.WriteByte('\n')
	}
	return b.Bytes()
}

// TestConformance spreads the records over one file of each kind.
func TestConformance(t *testing.T) {
	storetest.Test(t, func(t *testing.T, records []audit.Record) store.Searcher {
		third := len(records) / 3
		return New(Options{Cluster: storetest.Cluster, Paths: []string{write(t, "a.log", log(records[:third])),
			write(t, "b.log.gz", log(records[third:2*third])), write(t, "c.log.zst", log(records[2*third:]))}})
	})
}

// TestBadLines: what is no event is told with its place and passed over; a file cut short in mid-stream is an error.
func TestBadLines(t *testing.T) {
	records := storetest.Records(t, 2, 4)
	var b bytes.Buffer
	b.WriteString("no event\n\n  \n")
	b.Write(log(records))
	b.WriteString(`{"auditID":"half`)
	path := write(t, "audit.log", b.Bytes())
	var bad []string
	s := New(Options{Cluster: "c", Paths: []string{path}, Bad: func(p string, line int64, err error) {
		if p != path || err == nil {
			t.Errorf("%s:%d: %v", p, line, err)
		}
		bad = append(bad, fmt.Sprint(line))
	}})
	n := 0
	st, err := s.Search(t.Context(), store.Query{}, func(*audit.Record) error { n++; return nil })
	if err != nil || n != 4 || st.Matched != 4 {
		t.Errorf("%d events, %+v, %v", n, st, err)
	}
	if d := cmp.Diff([]string{"1", "8"}, bad); d != "" {
		t.Error(d)
	}
	whole, err := os.ReadFile(write(t, "whole.gz", log(records)))
	if err != nil {
		t.Fatal(err)
	}
	cut := filepath.Join(t.TempDir(), "cut.log.gz")
	if err := os.WriteFile(cut, whole[:len(whole)-20], 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = New(Options{Paths: []string{cut}}).Search(t.Context(), store.Query{}, func(*audit.Record) error { return nil })
	if !errors.Is(err, io.ErrUnexpectedEOF) || !strings.Contains(err.Error(), cut) {
		t.Errorf("a file cut short: %v", err)
	}
}
