package journal

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
)

const crashDir = "WHODUNIT_TEST_CRASH_DIR"

// TestCrashChild is not a test but the process that the crash test kills: it appends from several goroutines, some events
// twice, seals and merges all the time, and prints each auditID once it is acknowledged.
func TestCrashChild(t *testing.T) {
	dir := os.Getenv(crashDir)
	if dir == "" {
		t.Skip("only as a child of TestKill9")
	}
	j, err := Open(dir, Options{MinFree: 1, SegmentBytes: 8 << 10, WALFileBytes: 4 << 10, MergeBytes: 1 << 20})
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	next, err := strconv.Atoi(os.Getenv("WHODUNIT_TEST_CRASH_NEXT"))
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	for w := range 4 {
		go func() {
			for i := 0; ; i++ {
				id := next + 4*i + w
				if err := j.Append(context.Background(), batch(id, max(id-4, next))); err != nil {
					fmt.Println("error", err)
					os.Exit(1)
				}
				mu.Lock()
				fmt.Println("ack", id)
				mu.Unlock()
			}
		}()
	}
	select {}
}

// Killed with -9 at any moment, again and again: every acknowledged event is there, and none is twice.
func TestKill9(t *testing.T) {
	cycles := 25
	if s := os.Getenv("WHODUNIT_SOAK_CYCLES"); s != "" {
		var err error
		if cycles, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	var acked []string
	next := 1
	for range cycles {
		ids := crash(t, dir, next)
		acked = append(acked, ids...)
		for _, id := range ids {
			n, err := strconv.Atoi(strings.TrimPrefix(id, "id-"))
			if err != nil {
				t.Fatal(err)
			}
			next = max(next, n+100)
		}
	}
	j := open(t, dir, Options{})
	got := contents(t, j)
	slices.Sort(got)
	if len(slices.Compact(slices.Clone(got))) != len(got) {
		t.Error("an event is there twice")
	}
	for _, id := range acked {
		if _, ok := slices.BinarySearch(got, id); !ok {
			t.Errorf("%s was acknowledged and is lost", id)
		}
	}
	if in := j.Info(); in.Lost != 0 {
		t.Errorf("%d events are said to be lost", in.Lost)
	}
	if len(acked) < cycles {
		t.Errorf("only %d events in %d cycles: the test tests nothing", len(acked), cycles)
	}
	t.Logf("%d cycles, %d events acknowledged, %d kept, %d segments", cycles, len(acked), len(got), j.Info().Segments)
}

// crash runs the child for a moment, kills it, and returns what it acknowledged.
func crash(t *testing.T, dir string, next int) []string {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestCrashChild$")
	cmd.Env = append(os.Environ(), crashDir+"="+dir, fmt.Sprint("WHODUNIT_TEST_CRASH_NEXT=", next))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var ids []string
	stop := 1 + rand.IntN(120) // acknowledgements before the kill
	s := bufio.NewScanner(out)
	for s.Scan() {
		if e, bad := strings.CutPrefix(s.Text(), "error "); bad {
			t.Error(e)
		}
		if id, ok := strings.CutPrefix(s.Text(), "ack "); ok {
			ids = append(ids, "id-"+id)
		}
		if len(ids) == stop {
			if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}
	}
	_ = cmd.Wait() // killed
	return ids
}

// A real full disk: the journal refuses, loses nothing that it acknowledged, and goes on when there is room.
func TestRealFullDisk(t *testing.T) {
	if os.Geteuid() != 0 || runtime.GOOS != "linux" {
		t.Skip("SKIPPED: mounting a small file system needs root on Linux")
	}
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=1m", "none", dir).CombinedOutput(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("cannot mount: %v %s", err, out)
		}
		t.Skipf("SKIPPED: cannot mount a small file system: %v %s", err, out)
	}
	defer func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("%v %s", err, out)
		}
	}()
	filler := filepath.Join(dir, "filler")
	if err := os.WriteFile(filler, make([]byte, 800<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	j, err := Open(filepath.Join(dir, "j"), Options{MinFree: 1})
	if err != nil {
		t.Fatal(err)
	}
	var acked []int
	full := 0
	for id := 0; full < 20; id++ {
		err := j.Append(context.Background(), batch(id))
		switch {
		case err == nil:
			acked = append(acked, id)
		case errors.Is(err, ErrFull):
			if j.Info().Full == "" {
				t.Fatal("nothing says that the disk is full")
			}
			if full++; full == 1 {
				if err := j.Append(context.Background(), batch(id)); err == nil {
					acked = append(acked, id)
				}
			}
		default:
			t.Fatal(err)
		}
		if id > 100_000 {
			t.Fatal("the disk does not get full")
		}
	}
	want(t, contents(t, j), acked...)
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, j, batch(1<<20))
	want(t, contents(t, j), append(acked, 1<<20)...)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	j, err = Open(filepath.Join(dir, "j"), Options{MinFree: 1})
	if err != nil {
		t.Fatal(err)
	}
	want(t, contents(t, j), append(acked, 1<<20)...)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
}

// Every byte of a journal with segments and a WAL is flipped, a sample of places at a time: opening never fails, what is
// lost is counted, and the rest is there. The WAL and segment packages walk every offset of their files.
func TestFlippedBytesAnywhere(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, Options{})
	for i := range 6 {
		mustAppend(t, j, batch(2*i, 2*i+1))
		if i == 1 || i == 3 {
			if err := j.Seal(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	var files []string
	for _, pattern := range []string{"wal/*.wal", "segments/*.parquet"} {
		m, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil || len(m) == 0 {
			t.Fatal(pattern, m, err)
		}
		files = append(files, m...)
	}
	for _, path := range files {
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for off := rand.IntN(20); off < len(whole); off += max(1, len(whole)/25) {
			flipOne(t, dir, path, whole, off)
		}
	}
}

func flipOne(t *testing.T, dir, path string, whole []byte, off int) {
	t.Helper()
	copyDir := t.TempDir()
	if err := os.CopyFS(copyDir, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	rel, err := filepath.Rel(dir, path)
	if err != nil {
		t.Fatal(err)
	}
	b := slices.Clone(whole)
	b[off] ^= byte(1 + rand.IntN(255))
	if err := os.WriteFile(filepath.Join(copyDir, rel), b, 0o600); err != nil {
		t.Fatal(err)
	}
	j, err := Open(copyDir, Options{MinFree: 1})
	if err != nil {
		t.Fatalf("%s, offset %d: %v", rel, off, err)
	}
	defer j.Close()
	mustAppend(t, j, batch(12))
	got := contents(t, j)
	if len(got) < 9 || len(got) > 13 {
		t.Fatalf("%s, offset %d: %v", rel, off, got)
	}
	report, err := Check(context.Background(), copyDir, func(string, int64) {})
	if err != nil {
		t.Fatal(err)
	}
	if lost := 13 - len(got); lost > 0 && j.Info().Lost == 0 && report.OK() {
		t.Fatalf("%s, offset %d: %d events are lost and nothing says so", rel, off, lost)
	}
}
