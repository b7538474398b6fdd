package file

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"pgregory.net/rapid"

	"whodunit/internal/audit"
	"whodunit/internal/source/sourcetest"
)

func TestRename(t *testing.T) {
	r := newRig(t)
	r.write("audit.log", ev("a")+ev("b"))
	r.start()
	r.waitFor("a", "b")
	r.write("audit.log", ev("c"))
	r.rename("audit.log", "audit-2026.log")
	r.write("audit.log", ev("d"))
	r.waitFor("c", "d")
	r.write("audit-2026.log", ev("late"))
	r.waitFor("late")
	r.stop()
	if len(r.got) != 5 {
		t.Errorf("%q", r.got)
	}
}

// Rotated out of the pattern, and deleted: what was written before is read from the open file.
func TestGone(t *testing.T) {
	for _, how := range []string{"renamed", "deleted"} {
		r := newRig(t)
		r.write("audit.log", ev("a"))
		r.start()
		r.waitFor("a")
		r.write("audit.log", ev("b")+sourcetest.Event("c")) // no newline: taken, as nothing can follow
		if how == "renamed" {
			r.rename("audit.log", "old")
		} else {
			r.remove("audit.log")
		}
		r.write("audit.log", ev("d"))
		r.waitFor("b", "c", "d")
		r.stop()
	}
}

func TestTruncate(t *testing.T) {
	r := newRig(t)
	r.write("audit.log", ev("a")+ev("b"))
	r.start()
	r.waitFor("a", "b")
	r.copy("audit.log", "audit.log.1")
	r.truncate("audit.log")
	r.write("audit.log", ev("c"))
	r.waitFor("c")
	// grown past the place at once: noticed by the bytes before it
	r.truncate("audit.log")
	r.write("audit.log", ev("d")+ev("e")+ev("f"))
	r.waitFor("d", "e", "f")
	r.stop()
	r.exactly("a", "b", "c", "d", "e", "f")
	r.start()
	r.write("audit.log", ev("g"))
	r.waitFor("g")
	r.stop()
	r.exactly("a", "b", "c", "d", "e", "f", "g")
}

// The copy of a truncated file has lines that the file had after we read it last.
func TestCopyHasMore(t *testing.T) {
	r := newRig(t)
	r.write("audit.log", ev("a"))
	r.start()
	r.waitFor("a")
	r.stop()
	r.write("audit.log", ev("b"))
	r.copy("audit.log", "audit.log.1")
	r.truncate("audit.log")
	r.write("audit.log", ev("c"))
	r.start()
	r.waitFor("b", "c")
	r.stop()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.got) != 3 {
		t.Errorf("%q: something came twice", r.got)
	}
}

func TestCompressed(t *testing.T) {
	r := newRig(t)
	if err := os.WriteFile(r.path("audit-1.log.gz"), gz(t, []byte(ev("a")+ev("b"))), 0o600); err != nil {
		t.Fatal(err)
	}
	z, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(r.path("audit-2.log.zst"), z.EncodeAll([]byte(ev("c")+sourcetest.Event("d")), nil), 0o600); err != nil {
		t.Fatal(err)
	}
	_ = z.Close()
	var done []string
	r.cfg.Progress = func(path string, d, total int64) {
		if d == total {
			done = append(done, filepath.Base(path))
		}
	}
	r.start()
	r.waitFor("a", "b", "c", "d")
	r.write("audit.log", ev("e"))
	r.waitFor("e")
	r.stop()
	if got := strings.Join(done, " "); !strings.Contains(got, "audit-1.log.gz") || !strings.Contains(got, "audit-2.log.zst") {
		t.Errorf("progress %q", got)
	}
	// neither a restart nor compressing what was read brings anything again
	r.write("audit.log", ev("f"))
	r.rename("audit.log", "audit-3.log")
	r.gzip("audit-3.log")
	r.rename("audit-1.log.gz", "audit-0.log.gz")
	r.start()
	r.waitFor("f")
	r.write("audit.log", ev("g"))
	r.waitFor("g")
	r.stop()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.got) != 7 {
		t.Errorf("%q: something came twice", r.got)
	}
}

// A compressed file that is still being written is read when it is complete; a damaged one is given up.
func TestCompressedParts(t *testing.T) {
	r := newRig(t)
	var text strings.Builder
	for i := range 200 {
		text.WriteString(ev(fmt.Sprint("id", i)))
	}
	b := gz(t, []byte(text.String()))
	r.write("audit-1.log.gz", string(b[:len(b)/2]))
	r.start()
	r.wait("the early end", func() bool {
		return sourcetest.Metric(t, r.reg, "whodunit_file_problems_total", "reason", "incomplete") > 0
	})
	r.write("audit-1.log.gz", string(b[len(b)/2:]))
	r.waitFor("id0", "id199")
	bad := bytes.Clone(b)
	bad[len(bad)-6] ^= 1 // the checksum
	r.write("audit-2.log.gz", string(bad))
	r.wait("the damage", func() bool { return len(r.rejected) > 0 })
	r.stop()
}

func TestHalfLines(t *testing.T) {
	r := newRig(t)
	a, b := ev("a"), ev("b")
	r.write("audit.log", a[:40])
	r.start()
	r.write("audit.log", a[40:]+b[:len(b)-10])
	r.waitFor("a")
	r.stop()
	r.write("audit.log", b[len(b)-10:])
	r.start()
	r.waitFor("b")
	// complete but for its newline: taken after a while; the newline then means nothing
	r.write("audit.log", sourcetest.Event("c"))
	r.waitFor("c")
	r.write("audit.log", "\n"+ev("d"))
	r.waitFor("d")
	// half, and never to be finished
	r.write("audit.log", `{"auditID":"half`)
	r.rename("audit.log", "audit-1.log")
	r.write("audit.log", ev("e"))
	r.wait("the half line's refusal", func() bool { return len(r.rejected) == 1 })
	r.waitFor("e")
	r.stop()
	if string(r.rejected[0].Bytes) != `{"auditID":"half` || r.rejected[0].Reason != "syntax" {
		t.Errorf("%+v", r.rejected)
	}
	r.exactly("a", "b", "c", "d", "e")
}

func TestTooLong(t *testing.T) {
	r := newRig(t)
	long := `{"auditID":"` + strings.Repeat("x", audit.MaxEventBytes) + `"}`
	r.write("audit.log", ev("a")+long+"\nbad\n"+ev("b"))
	r.start()
	r.waitFor("a", "b")
	r.stop()
	if len(r.rejected) != 2 || r.rejected[0].Reason != "too_large" || r.rejected[0].Size != int64(len(long)) || len(r.rejected[0].Bytes) != 64<<10 {
		t.Errorf("%d rejects", len(r.rejected))
	}
	if want := fmt.Sprintf("%s:%d-%d", r.path("audit.log"), len(ev("a")), len(ev("a"))+len(long)); r.rejected[0].Origin.Position != want {
		t.Errorf("position %s, want %s", r.rejected[0].Origin.Position, want)
	}
}

func TestFromEnd(t *testing.T) {
	r := newRig(t)
	r.cfg.FromEnd = true
	b := ev("b")
	r.write("audit.log", ev("a")+b[:20])
	if err := os.WriteFile(r.path("audit-1.log.gz"), gz(t, []byte(ev("old"))), 0o600); err != nil {
		t.Fatal(err)
	}
	r.start()
	r.wait("the checkpoint", func() bool { _, err := os.Stat(statePath(r.state, "log")); return err == nil })
	r.stop()
	r.write("audit.log", b[20:])
	r.write("audit-new.log", ev("c"))
	r.start()
	r.waitFor("b", "c")
	r.stop()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.got) != 2 {
		t.Errorf("%q", r.got)
	}
}

func TestUnreadable(t *testing.T) {
	if os.Getuid() == 0 {
		// root reads everything: a folder's loop stands for it
		r := newRig(t)
		if err := os.Symlink(r.path("audit.log"), r.path("audit.log")); err != nil {
			t.Fatal(err)
		}
		r.start()
		r.wait("the problem", func() bool { return sourcetest.Metric(t, r.reg, "whodunit_file_problems_total", "reason", "stat") > 1 })
		r.remove("audit.log")
		r.write("audit.log", ev("a"))
		r.waitFor("a")
		r.stop()
		return
	}
	r := newRig(t)
	r.write("audit.log", ev("a"))
	if err := os.Chmod(r.path("audit.log"), 0); err != nil {
		t.Fatal(err)
	}
	r.start()
	r.wait("the problem", func() bool { return sourcetest.Metric(t, r.reg, "whodunit_file_problems_total", "reason", "open") > 1 })
	if err := os.Chmod(r.path("audit.log"), 0o600); err != nil {
		t.Fatal(err)
	}
	r.waitFor("a")
	r.stop()
}

// Another file under an old inode and name, with other content, is read from its beginning.
func TestInodeUsedAgain(t *testing.T) {
	r := newRig(t)
	r.write("audit.log", ev("a")+ev("b"))
	r.start()
	r.waitFor("a", "b")
	r.stop()
	r.truncate("audit.log") // the same inode, for sure
	r.write("audit.log", ev("c")+ev("d")+ev("e"))
	r.start()
	r.waitFor("c", "d", "e")
	r.stop()
}

func TestDamagedCheckpoint(t *testing.T) {
	r := newRig(t)
	path := statePath(r.state, "log")
	r.write("audit.log", ev("a"))
	for _, text := range []string{"", "{", "null", `{"version":1,"places":[null]}`, `{"version":1,"places":[{"offset":-1}]}`} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		st, _, err := loadState(path)
		if st == nil || err == nil || text != "null" && !errors.Is(err, errDamaged) {
			t.Errorf("%q: %v", text, err)
		}
	}
	r.start()
	r.waitFor("a")
	r.stop()
}

func TestManyFiles(t *testing.T) {
	r := newRig(t)
	var want []string
	for i := range 3 * maxOpen {
		id := fmt.Sprint("id", i)
		want = append(want, id)
		r.write(fmt.Sprintf("audit-%03d.log", i), ev(id))
		old := time.Now().Add(-time.Hour)
		if err := os.Chtimes(r.path(fmt.Sprintf("audit-%03d.log", i)), old, old); err != nil {
			t.Fatal(err)
		}
	}
	r.start()
	r.waitFor(want...)
	r.write("audit-000.log", ev("more"))
	r.waitFor("more")
	r.stop()
	if len(r.got) != len(want)+1 {
		t.Errorf("%d delivered", len(r.got))
	}
}

// Whatever is written, rotated and restarted in whatever order: every line that was finished is delivered.
func TestNothingLost(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		r := newRig(t)
		r.fatalf, r.patience = rt.Fatalf, 10*time.Second
		defer func() { r.stop() }()
		r.cfg.Grace = time.Hour // half lines of this test are finished at some time
		if rapid.Bool().Draw(rt, "polling starts late") {
			r.cfg.Poll = 50 * time.Millisecond
		}
		var want, rotated []string
		half, n, rotations, copied := "", 0, 0, false
		line := func() string {
			n++
			id := fmt.Sprintf("id%04d", n)
			want = append(want, id)
			return sourcetest.EventOf(id, rapid.SampledFrom([]int{0, 10, 900, 3000, 200_000}).Draw(rt, "size")) + "\n"
		}
		finish := func() {
			r.write("audit.log", half)
			half = ""
		}
		r.write("audit.log", "")
		running := false
		steps := map[string]func(){
			"lines": func() {
				finish()
				for range rapid.IntRange(1, 5).Draw(rt, "lines") {
					r.write("audit.log", line())
				}
			},
			"half": func() {
				finish()
				l := line()
				cut := rapid.IntRange(1, len(l)-1).Draw(rt, "cut")
				r.write("audit.log", l[:cut])
				half = l[cut:]
			},
			"rename": func() {
				finish()
				rotations++
				name := fmt.Sprintf("audit-%d.log", rotations)
				r.rename("audit.log", name)
				r.write("audit.log", "")
				rotated = append(rotated, name)
			},
			"copytruncate": func() {
				finish()
				rotations++
				name := fmt.Sprintf("audit-%d.log", rotations)
				r.copy("audit.log", name)
				r.truncate("audit.log")
				copied = true
				rotated = append(rotated, name)
			},
			"gzip": func() {
				if len(rotated) > 0 {
					r.gzip(rotated[0])
					rotated = rotated[1:]
				}
			},
			"start": func() {
				if !running {
					r.start()
					running = true
				}
			},
			"stop": func() { r.stop(); running = false },
			"kill": func() { // leaves a checkpoint that is behind
				path := statePath(r.state, "log")
				old, err := os.ReadFile(path)
				lines := rapid.IntRange(0, 2).Draw(rt, "lines before the kill")
				for range lines {
					finish()
					r.write("audit.log", line())
				}
				if running && lines > 0 && r.fail == nil {
					r.waitFor(want[len(want)-lines:]...)
				}
				r.stop()
				running = false
				if err == nil {
					err = os.WriteFile(path, old, 0o600)
				} else if err = os.Remove(path); os.IsNotExist(err) {
					err = nil
				}
				if err != nil {
					t.Fatal(err)
				}
			},
			"wait": func() {
				r.mu.Lock()
				r.fail = nil
				r.mu.Unlock()
				if running {
					finish()
					r.waitFor(want...)
				}
			},
			"fail": func() {
				r.mu.Lock()
				defer r.mu.Unlock()
				if r.fail = nil; rapid.Bool().Draw(rt, "fails") {
					r.fail = errors.New("emit fails in this test")
				}
			},
		}
		names := []string{"lines", "lines", "half", "rename", "copytruncate", "gzip", "start", "start", "stop", "kill", "wait", "fail"}
		for range rapid.IntRange(1, 25).Draw(rt, "steps") {
			steps[rapid.SampledFrom(names).Draw(rt, "step")]()
		}
		steps["start"]()
		steps["wait"]()
		r.stop()
		for _, x := range r.rejected {
			if !copied { // the pieces of a line that is truncated while it is read are refused, and the line is in the copy
				rt.Fatalf("rejected: %v", x.Err)
			}
		}
	})
}
