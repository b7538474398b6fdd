package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"whodunit/internal/audit"
	"whodunit/internal/journal"
	"whodunit/internal/reject"
	"whodunit/internal/source"
	"whodunit/internal/source/stdin"
)

// ImportOptions are ImportInto's.
type ImportOptions struct {
	DataDir, Cluster string
	Paths            []string                       // "-" is Stdin
	Stdin            io.Reader                      //
	Progress         func(path string, bytes int64) // bytes of the file read since the last call
	Log              *slog.Logger
}

// Imported says what an import did.
type Imported struct {
	Read     int64 // events
	New      int64 // that the journal did not have
	Rejected int64 // pieces of input that were no events; they are in rejects/
}

// ImportInto reads finished log files into a data folder that no server uses. Findings are made when a server starts on it.
func ImportInto(ctx context.Context, o ImportOptions) (r Imported, err error) {
	jo := journal.DefaultOptions()
	jo.IDReuse, jo.Log = true, o.Log.With("component", "journal")
	j, err := journal.Open(filepath.Join(o.DataDir, "events"), jo)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, j.Close()) }()
	rejects, err := reject.New(filepath.Join(o.DataDir, "rejects"), reject.Options{Logger: o.Log})
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, rejects.Close()) }()
	before := j.Last()
	r.Read, err = importFiles(ctx, importing{
		// A full disk ends the import: there is nobody to make room while it waits.
		emit:   func(ctx context.Context, b audit.Batch) error { return fatal(j.Append(ctx, b)) },
		reject: func(x source.Rejected) { r.Rejected++; rejects.Reject(x) },
		o:      o,
	})
	if err == nil {
		err = j.Seal(ctx)
	}
	r.New = int64(j.Last() - before)
	return r, err
}

// importing is one import.
type importing struct {
	emit   source.Emit
	reject source.Reject
	o      ImportOptions
}

// fatalError is a failure that trying again does not mend.
type fatalError struct{ error }

func (f fatalError) Unwrap() error { return f.error }

func fatal(err error) error {
	if err != nil {
		return fatalError{err}
	}
	return nil
}

// importFiles reads the files one after the other and returns the number of events.
func importFiles(ctx context.Context, im importing) (int64, error) {
	var n int64
	for _, path := range im.o.Paths {
		if err := importFile(ctx, path, im, &n); err != nil {
			return n, fmt.Errorf("cannot import %s: %w", path, err)
		}
	}
	return n, nil
}

func importFile(ctx context.Context, path string, im importing, n *int64) error {
	in := io.NopCloser(im.o.Stdin)
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		in = &reading{f, func(b int64) { im.o.Progress(path, b) }}
	}
	s, err := stdin.New(stdin.Config{Name: "import", Cluster: im.o.Cluster, Path: path, Reader: in, Reject: im.reject, Logger: im.o.Log})
	if err != nil {
		return err
	}
	ictx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	err = s.Run(ictx, func(ctx context.Context, b audit.Batch) error {
		events := int64(len(b.Events))
		err := im.emit(ctx, b)
		var f fatalError
		if errors.As(err, &f) {
			cancel(f.error)
		}
		if err == nil {
			*n += events
		}
		return err
	})
	if cause := context.Cause(ictx); err == nil && cause != nil {
		return cause
	}
	return err
}

// reading tells how much is read.
type reading struct {
	io.ReadCloser
	add func(int64)
}

func (r *reading) Read(b []byte) (int, error) {
	n, err := r.ReadCloser.Read(b)
	if n > 0 {
		r.add(int64(n))
	}
	return n, err
}

// Import reads finished log files into the running journal: plain, gzip or zstd. What the journal has already is dropped; a full
// journal is waited for. It returns the number of events read.
func (a *App) Import(ctx context.Context, cluster string, paths []string, progress func(path string, bytes int64)) (int64, error) {
	n, err := importFiles(ctx, importing{emit: a.emit, reject: a.rejects.Reject,
		o: ImportOptions{Cluster: cluster, Paths: paths, Progress: progress, Log: a.o.Log}})
	if err != nil {
		return n, err
	}
	return n, a.events.Seal(ctx)
}

// LockData takes a data folder for a command that changes it, and fails where a server runs on it.
func LockData(dir string) (unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot use data folder: %w", err)
	}
	return journal.Lock(filepath.Join(dir, "events"))
}
