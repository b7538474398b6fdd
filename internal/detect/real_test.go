package detect

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/klauspost/compress/zstd"

	"whodunit/internal/audit"
	"whodunit/internal/rule"
	"whodunit/internal/rule/native"
	"whodunit/rules"
)

func shared(t testing.TB, name string) string {
	t.Helper()
	dir := os.Getenv("WHODUNIT_SHARED")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared")
	}
	p := filepath.Join(dir, "data", "audit", name)
	if _, err := os.Stat(p); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skipf("SKIPPED: %v", err)
	}
	return p
}

// recording hands the events of a recorded log to yield, until it returns false.
func recording(t testing.TB, path, cluster string, yield func(audit.Event) bool) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := zstd.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	for r := bufio.NewReaderSize(z, 1<<20); ; {
		line, err := r.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		ev, err := audit.Parse(cluster, line)
		if err != nil {
			t.Fatal(err)
		}
		if !yield(ev) {
			return
		}
	}
}

// records reads at most n events of a recorded log; 0 for all.
func records(t testing.TB, name string, n int) (out []audit.Record) {
	t.Helper()
	recording(t, shared(t, name), "test", func(ev audit.Event) bool {
		out = append(out, audit.Record{Seq: uint64(len(out) + 1), Identity: ev.Identity(), Event: ev})
		return n == 0 || len(out) < n
	})
	return out
}

func pack(t testing.TB) *rule.Set {
	t.Helper()
	f, err := native.New()
	if err != nil {
		t.Fatal(err)
	}
	loaded := rule.Load([]rule.Layer{{Name: "rules", FS: rules.FS}}, f)
	set, problems := loaded.Set()
	problems = append(problems, loaded.Problems...)
	if len(problems) > 0 {
		t.Fatal(problems[0])
	}
	return set
}

type command struct {
	ID, Command, User string
	RC                int
	AuditIDs          []string
}

func commands(t testing.TB) []command {
	f, err := os.Open(shared(t, "kubectl-commands.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var out []command
	d := json.NewDecoder(f)
	for {
		var c command
		if err := d.Decode(&c); err == io.EOF {
			return out
		} else if err != nil {
			t.Fatal(err)
		}
		out = append(out, c)
	}
}
