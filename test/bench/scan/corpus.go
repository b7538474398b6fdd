package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"

	"github.com/klauspost/compress/zstd"
)

// expand writes the recorded corpus, unpacked, as often as it takes to reach size bytes. hostile gives every event a user, agent, URI and namespace of
// its own, so that nothing that was learnt of one helps with the next.
func expand(from, to string, size int64, hostile bool) (int64, error) {
	f, err := os.Open(from)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	z, err := zstd.NewReader(f)
	if err != nil {
		return 0, err
	}
	defer z.Close()
	raw, err := io.ReadAll(z)
	if err != nil {
		return 0, err
	}
	out, err := os.Create(to)
	if err != nil {
		return 0, err
	}
	w := bufio.NewWriterSize(out, 1<<20)
	r := rand.New(rand.NewPCG(3, 4))
	var written int64
	for written < size {
		for line := range bytes.Lines(raw) {
			if hostile {
				line = vary(line, r)
			}
			n, err := w.Write(line)
			if err != nil {
				return 0, errors.Join(err, out.Close())
			}
			written += int64(n)
		}
	}
	return written, errors.Join(w.Flush(), out.Close())
}

// vary puts random text in place of the values that rules look at most.
func vary(line []byte, r *rand.Rand) []byte {
	for _, key := range []string{`"username":"`, `"userAgent":"`, `"requestURI":"`, `"namespace":"`} {
		i := bytes.Index(line, []byte(key))
		if i < 0 {
			continue
		}
		i += len(key)
		end := bytes.IndexByte(line[i:], '"')
		if end < 0 {
			continue
		}
		value := fmt.Sprintf("%x-%s-%x", r.Uint64(), line[i:i+min(end, 24)], r.Uint64())
		line = bytes.Join([][]byte{line[:i], []byte(value), line[i+end:]}, nil)
	}
	return line
}
