package detect

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"whodunit/internal/rule"
	"whodunit/internal/rule/native"
	"whodunit/rules"
)

type folder struct {
	dir   string
	rules *Rules
	cur   *rule.Current
	log   bytes.Buffer
}

func newFolder(t *testing.T, shipped bool) *folder {
	dir := t.TempDir()
	layers := []rule.Layer{{Name: "rules", FS: os.DirFS(dir), Dir: dir}}
	if shipped {
		layers = append([]rule.Layer{{Name: "shipped", FS: rules.FS}}, layers...)
	}
	return newLayers(t, dir, layers)
}

func newLayers(t *testing.T, dir string, layers []rule.Layer) *folder {
	t.Helper()
	f, err := native.New()
	if err != nil {
		t.Fatal(err)
	}
	fo := &folder{dir: dir, cur: new(rule.Current)}
	fo.rules = NewRules(RulesOptions{Layers: layers, Formats: []rule.Format{f}, Current: fo.cur,
		Logger: slog.New(slog.NewTextHandler(&fo.log, &slog.HandlerOptions{Level: slog.LevelWarn}))})
	return fo
}

func (f *folder) write(t *testing.T, name, text string) {
	t.Helper()
	p := filepath.Join(f.dir, name)
	if err := os.MkdirAll(filepath.Dir(p), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (f *folder) titles() map[string]string {
	out := map[string]string{}
	for _, r := range f.cur.Load().Rules() {
		out[r.ID] = r.Title
	}
	return out
}

func text(id, title string) string {
	return fmt.Sprintf("---\nid: %s\ntitle: %s\ncondition: verb == 'get'\n", id, title)
}

func TestReloadKeepsGoodRules(t *testing.T) {
	f := newFolder(t, false)
	f.write(t, "a.yaml", text("a", "1")+text("b", "1"))
	f.write(t, "sub/c.yml", text("c", "1"))
	check := func(problems int, want map[string]string) {
		t.Helper()
		if got := f.rules.Reload(); len(got) != problems {
			t.Errorf("problems %v, want %d", got, problems)
		}
		if diff := cmp.Diff(want, f.titles()); diff != "" {
			t.Error(diff)
		}
	}
	check(0, map[string]string{"a": "1", "b": "1", "c": "1"})
	f.write(t, "a.yaml", text("a", "2")+"---\nid: b\ntitle: 2\ncondition: verbe == 'get'\n")
	check(1, map[string]string{"a": "2", "b": "1", "c": "1"})
	check(1, map[string]string{"a": "2", "b": "1", "c": "1"})
	if n := strings.Count(f.log.String(), "verbe"); n != 1 {
		t.Errorf("the problem was logged %d times, want once:\n%s", n, f.log.String())
	}
	f.write(t, "a.yaml", "id: [")
	check(1, map[string]string{"a": "2", "b": "1", "c": "1"})
	f.write(t, "a.yaml", text("a", "3"))
	check(0, map[string]string{"a": "3", "c": "1"})
	f.write(t, "d.yaml", text("c", "4")) // d.yaml comes before sub/c.yml
	check(1, map[string]string{"a": "3", "c": "4"})
	if err := os.RemoveAll(f.dir); err != nil {
		t.Fatal(err)
	}
	check(2, map[string]string{"a": "3", "c": "4"})
}

func TestFolderOverridesShippedRules(t *testing.T) {
	f := newFolder(t, true)
	f.write(t, "mine.yaml", text("secret-read", "mine")+"---\nid: pod-exec\nenabled: false\ncondition: 'false'\n")
	if p := f.rules.Reload(); len(p) > 0 {
		t.Fatal(p)
	}
	got := f.titles()
	if got["secret-read"] != "mine" || got["pod-exec"] != "" {
		t.Errorf("rules %v", got)
	}
	some := len(got)
	if err := os.Remove(filepath.Join(f.dir, "mine.yaml")); err != nil {
		t.Fatal(err)
	}
	f.rules.Reload()
	if got := f.titles(); got["secret-read"] == "mine" || got["pod-exec"] == "" || len(got) != some+1 {
		t.Errorf("rules %v", got)
	}
}

// until polls for what a real file system does in its own time.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not after 20 s", what)
		}
		<-time.After(5 * time.Millisecond)
	}
}

func TestWatch(t *testing.T) {
	f := newFolder(t, false)
	if p := f.rules.Reload(); len(p) > 0 {
		t.Fatal(p)
	}
	f.write(t, "early.yaml", text("early", "1")) // between the first Reload and the watch
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- f.rules.Watch(ctx) }()
	title := func(id, want string) func() bool { return func() bool { return f.titles()[id] == want } }
	until(t, "file from before the watch", title("early", "1"))

	f.write(t, "a.yaml", text("a", "1"))
	until(t, "new file", title("a", "1"))
	f.write(t, "a.yaml", text("a", "2"))
	until(t, "file written in place", title("a", "2"))

	f.write(t, ".a.yaml.tmp", text("a", "3"))
	if err := os.Rename(filepath.Join(f.dir, ".a.yaml.tmp"), filepath.Join(f.dir, "a.yaml")); err != nil {
		t.Fatal(err)
	}
	until(t, "file replaced by an atomic editor", title("a", "3"))

	f.write(t, "sub/deep/b.yaml", text("b", "1"))
	until(t, "file in a new folder", title("b", "1"))
	f.write(t, "sub/deep/b.yaml", text("b", "2"))
	until(t, "change in a new folder", title("b", "2"))
	if err := os.RemoveAll(filepath.Join(f.dir, "sub")); err != nil {
		t.Fatal(err)
	}
	until(t, "folder removed", title("b", ""))

	// What kubelet does with a ConfigMap: a hidden folder a version, ..data points at it, each file points through ..data.
	swap := func(version, title string) {
		f.write(t, "..v"+version+"/cm.yaml", text("cm", title))
		tmp, data := filepath.Join(f.dir, "..data_tmp"), filepath.Join(f.dir, "..data")
		if err := os.Symlink("..v"+version, tmp); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(tmp, data); err != nil {
			t.Fatal(err)
		}
	}
	swap("1", "1")
	if err := os.Symlink("..data/cm.yaml", filepath.Join(f.dir, "cm.yaml")); err != nil {
		t.Fatal(err)
	}
	until(t, "mounted ConfigMap", title("cm", "1"))
	swap("2", "2")
	until(t, "ConfigMap changed", title("cm", "2"))
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if f.log.Len() > 0 {
		t.Errorf("log:\n%s", f.log.String())
	}
}

// TestWatchOneFile: of a layer of one file that file and the lists' files that it names are watched, and not its folder, which may be anything.
func TestWatchOneFile(t *testing.T) {
	dir := t.TempDir()
	f := newLayers(t, dir, []rule.Layer{{Name: "rules", FS: os.DirFS(dir), Dir: dir, File: "r.yaml"}})
	rules := func(title string) string {
		return text("a", title) + "---\nlists: {l: {file: lists/l.txt}}\n---\nid: b\ntitle: b\nlists: [l]\ncondition: user.username in lists.l\n"
	}
	f.write(t, "r.yaml", rules("1"))
	if p := f.rules.Reload(); len(p) != 1 { // there is no list yet
		t.Fatal(p)
	}
	before := f.rules.scan(nil)
	f.write(t, "other.yaml", text("other", "1"))
	f.write(t, "sub/other.yaml", text("other", "2"))
	if f.rules.scan(nil) != before {
		t.Error("other files count")
	}
	f.write(t, "lists/l.txt", "eve\n")
	if f.rules.scan(nil) == before {
		t.Error("the list's file does not count")
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- f.rules.Watch(ctx) }()
	until(t, "list", func() bool { return f.titles()["b"] == "b" })
	f.write(t, "r.yaml", rules("2"))
	until(t, "rule", func() bool { return f.titles()["a"] == "2" })
	f.write(t, "lists/l.txt", "# none\n")
	until(t, "empty list", func() bool { return f.titles()["b"] == "" })
	stop()
	if err := <-done; err != nil || f.titles()["other"] != "" {
		t.Error(err, f.titles())
	}
}
