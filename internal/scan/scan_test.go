package scan

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"go.uber.org/goleak"

	"whodunit/internal/audit"
	"whodunit/internal/detect"
	"whodunit/internal/rule"
	"whodunit/internal/rule/native"
	"whodunit/rules"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func program(t testing.TB, generic bool, texts ...string) *detect.Program {
	t.Helper()
	f, err := native.New()
	if err != nil {
		t.Fatal(err)
	}
	layer := rule.Layer{Name: "rules", FS: rules.FS}
	loaded := rule.Load([]rule.Layer{layer}, f)
	if len(texts) > 0 {
		loaded = rule.Parse("r.yaml", []byte(strings.Join(texts, "\n---\n")), f)
	}
	set, problems := loaded.Set()
	if problems = append(problems, loaded.Problems...); len(problems) > 0 {
		t.Fatal(problems[0])
	}
	p, problems := detect.Compile(set, detect.ProgramOptions{Generic: generic})
	if len(problems) > 0 {
		t.Fatal(problems[0])
	}
	return p
}

func bytesInput(name string, b []byte) Input {
	return Input{Name: name, Open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil }}
}

// run gives one line a finding and a bad line.
func run(t testing.TB, o Options, inputs ...Input) (string, Stats, error) {
	t.Helper()
	var b strings.Builder
	o.Result = func(r *detect.Result, at Place) error {
		fmt.Fprintf(&b, "%s %s %s\n", at, r.Rule.ID, r.Message)
		return nil
	}
	o.Bad = func(at Place, line []byte, err error) { fmt.Fprintf(&b, "%s bad %.20q %s\n", at, line, reason(err)) }
	stats, err := Run(context.Background(), inputs, o)
	return b.String(), stats, err
}

func event(n int, verb string) string {
	return fmt.Sprintf(`{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","auditID":"id-%d","stage":"ResponseComplete","verb":%q,"user":{"username":"u%d"},"stageTimestamp":"2026-01-01T00:00:%02d.000000Z"}`, n, verb, n, n%60)
}

const deletion = "id: deletion\ncondition: verb == 'delete'\nmessage: '{user.username}'\n"

func TestLines(t *testing.T) {
	long := event(9, strings.Repeat("x", 3000))
	list := `{"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":[` + event(5, "get") + "," + event(6, "delete") + `]}`
	text := strings.Join([]string{event(1, "delete"), event(2, "get"), "", "  ", "garbage", `{"a":1}`, event(3, "delete")[:60], list, long, "\ufeff" + event(7, "delete") + "\r", "\x00", event(8, "delete")}, "\n")
	want := `a.log:1 deletion u1
a.log:5 bad "garbage" syntax
a.log:6 bad "{\"a\":1}" not_audit
a.log:7 bad "{\"kind\":\"Event\",\"api" syntax
a.log:8 deletion u6
a.log:9 bad "{\"kind\":\"Event\",\"api" too_large
a.log:10 deletion u7
a.log:11 bad "\x00" syntax
a.log:12 deletion u8
`
	for _, workers := range []int{1, 3} {
		got, stats, err := run(t, Options{Program: program(t, false, deletion), Workers: workers, MaxLine: 2000}, bytesInput("a.log", []byte(text)))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		wantStats := Stats{Bytes: int64(len(text)), Lines: 10, Events: 6, Findings: 4, Bad: map[string]int64{"syntax": 3, "not_audit": 1, "too_large": 1}, Skipped: map[string]int64{}, Rules: map[string]*ErroredRules{}}
		if diff := cmp.Diff(wantStats, stats); diff != "" {
			t.Error(diff)
		}
	}
}

// TestBorders puts lines across chunks, and one line over several.
func TestBorders(t *testing.T) {
	var b bytes.Buffer
	want := ""
	for i := range 3000 {
		verb := "get"
		if i%500 == 0 {
			verb = "delete"
			want += fmt.Sprintf("x:%d deletion u%d\n", i+1, i)
		}
		pad := 1000
		if i == 1700 {
			pad = 3 * chunkBytes
		}
		b.WriteString(event(i, verb) + strings.Repeat(" ", pad) + "\n")
	}
	got, stats, err := run(t, Options{Program: program(t, false, deletion)}, bytesInput("x", b.Bytes()))
	if diff := cmp.Diff(want, got); diff != "" || err != nil || stats.Events != 3000 || stats.Bytes != int64(b.Len()) {
		t.Errorf("%v %+v %s", err, stats, diff)
	}
	got, stats, err = run(t, Options{Program: program(t, false, deletion), MaxLine: 2 * chunkBytes}, bytesInput("x", b.Bytes()))
	if err != nil || stats.Events != 2999 || stats.Bad["too_large"] != 1 || !strings.Contains(got, "x:1701 bad") || !strings.Contains(got, "x:2001 deletion") || stats.Bytes != int64(b.Len()) {
		t.Errorf("%v %+v %s", err, stats, got)
	}
}

func TestCompressed(t *testing.T) {
	text := []byte(event(1, "delete") + "\n")
	var gz, zs bytes.Buffer
	for range 2 {
		w := gzip.NewWriter(&gz)
		z, _ := zstd.NewWriter(&zs)
		for _, w := range []io.WriteCloser{w, z} {
			if _, err := w.Write(text); err != nil {
				t.Fatal(err)
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	p := program(t, false, "id: deletion\ncondition: verb == 'delete'\nper_event: true\nmessage: '{user.username}'\n")
	got, _, err := run(t, Options{Program: p}, bytesInput("a.gz", gz.Bytes()), bytesInput("b.zst", zs.Bytes()), bytesInput("c", text))
	if want := "a.gz:1 deletion u1\na.gz:2 deletion u1\nb.zst:1 deletion u1\nb.zst:2 deletion u1\nc:1 deletion u1\n"; got != want || err != nil {
		t.Errorf("%v\n%s", err, got)
	}
	for name, b := range map[string][]byte{"gzip": gz.Bytes(), "zstd": zs.Bytes()} {
		if _, _, err := run(t, Options{Program: p}, bytesInput(name, b[:len(b)-6])); err == nil || !strings.Contains(err.Error(), "cannot read "+name) {
			t.Errorf("%s that breaks off: %v", name, err)
		}
	}
}

func TestDocuments(t *testing.T) {
	indented := "{\n  \"kind\": \"EventList\",\n  \"items\": [\n" + event(1, "delete") + ",\n" + event(2, "get") + "\n]}\n"
	array := "[\n" + event(1, "delete") + ",\n" + event(2, "get") + "\n]\n"
	for name, text := range map[string]string{"d:1": indented, "d:2": array} {
		got, stats, err := run(t, Options{Program: program(t, false, deletion)}, bytesInput("d", []byte(text)))
		if got != name+" deletion u1\n" || err != nil || stats.Events != 2 {
			t.Errorf("%s: %v %+v %q", name, err, stats, got)
		}
	}
}

func TestGeneric(t *testing.T) {
	r := "id: image\ncondition: values('Image').exists(v, v.endsWith('cmd.exe'))\nmessage: '{cluster}'\n"
	text := `{"Image":"C:\\cmd.exe"}` + "\n" + `[{"Image":"x"},{"Image":"cmd.exe"}]` + "\n" + `{"Image":` + "\n" + "7\n"
	got, stats, err := run(t, Options{Program: program(t, true, r), Generic: true}, bytesInput("g", []byte(text)))
	want := "g:1 image -\ng:2 image -\ng:3 bad \"{\\\"Image\\\":\" syntax\ng:4 bad \"7\" not_audit\n"
	if got != want || err != nil || stats.Events != 3 {
		t.Errorf("%v %+v\n%s", err, stats, got)
	}
}

// TestStops ends a run from its consumer, and by its context, in the middle.
func TestStops(t *testing.T) {
	text := []byte(strings.Repeat(event(1, "delete")+"\n", 50_000))
	p := program(t, false, deletion+"per_event: true\n")
	stop := errors.New("enough")
	n := 0
	_, err := Run(context.Background(), []Input{bytesInput("a", text)}, Options{Program: p, Result: func(*detect.Result, Place) error {
		if n++; n == 3 {
			return stop
		}
		return nil
	}})
	if !errors.Is(err, stop) || n != 3 {
		t.Error(n, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	_, err = Run(ctx, []Input{bytesInput("a", text)}, Options{Program: p, Result: func(*detect.Result, Place) error { cancel(); return nil }})
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	_, err = Run(context.Background(), []Input{{Name: "no", Open: func() (io.ReadCloser, error) { return nil, os.ErrNotExist }}}, Options{Program: p, Result: func(*detect.Result, Place) error { return nil }})
	if !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

func corpus(t testing.TB, name string) []byte {
	t.Helper()
	root := os.Getenv("WHODUNIT_SHARED")
	if root == "" {
		root = filepath.Join("..", "..", "..", "shared")
	}
	b, err := os.ReadFile(filepath.Join(root, "data", "audit", name))
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip("SKIPPED: no recorded events:", err)
	}
	d, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if b, err = d.DecodeAll(b, nil); err != nil {
		t.Fatal(err)
	}
	return b
}

// TestAsBacktest: the shipped pack finds the same in a file, whatever the number of workers, as the detector does in a journal.
func TestAsBacktest(t *testing.T) {
	raw := corpus(t, "apiserver-1.36.log.zst")
	p := program(t, false)
	var recs []audit.Record
	for line := range bytes.Lines(raw) {
		ev, err := audit.Parse("c", bytes.TrimSpace(line))
		if err != nil {
			t.Fatal(err)
		}
		recs = append(recs, audit.Record{Seq: uint64(len(recs) + 1), Identity: ev.Identity(), Event: ev})
	}
	evs, err := detect.Backtest(p.Set(), recs)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]int{}
	for i := range evs {
		want[string(evs[i].Raw)]++
	}
	first := ""
	for _, workers := range []int{1, 4} {
		got := map[string]int{}
		order := ""
		_, err := Run(context.Background(), []Input{bytesInput("a", raw)}, Options{Program: p, Cluster: "c", Workers: workers, Result: func(r *detect.Result, at Place) error {
			ev, err := r.Finding().Event(r.Event)
			if err != nil {
				return err
			}
			got[string(ev.Raw)]++
			order += fmt.Sprint(at, r.Rule.ID, "\n")
			return nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("workers %d (-journal +file):\n%.3000s", workers, diff)
		}
		if first == "" {
			first = order
		}
		if order != first {
			t.Error("the order of findings depends on the number of workers")
		}
	}
}

func BenchmarkScan(b *testing.B) {
	raw := corpus(b, "apiserver-1.36.log.zst")
	p := program(b, false)
	b.SetBytes(int64(len(raw)))
	for b.Loop() {
		if _, err := Run(context.Background(), []Input{bytesInput("a", raw)}, Options{Program: p, Workers: 1, Result: func(*detect.Result, Place) error { return nil }}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkThousand is a thousand rules, none of which is true of an event: what remains is reading, cutting and matching.
func BenchmarkThousand(b *testing.B) {
	raw := corpus(b, "apiserver-1.36.log.zst")
	events := bytes.Count(raw, []byte{'\n'})
	var texts []string
	for i := range 1000 {
		texts = append(texts, fmt.Sprintf("id: r%d\ncondition: verb == 'delete' && objectRef.resource == 'things%d' && user.username.startsWith('user-%d')", i, i%100, i))
	}
	p := program(b, false, texts...)
	b.SetBytes(int64(len(raw)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Run(context.Background(), []Input{bytesInput("a", raw)}, Options{Program: p, Workers: 1, Result: func(*detect.Result, Place) error { return nil }}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(events), "events/op")
}

// TestForgotten: what correlations had no memory for is not passed over in silence.
func TestForgotten(t *testing.T) {
	r := "id: many\ncondition: verb == 'delete'\ngroup_by: [user.username]\ncount: {over: 1h, at_least: 2}\n"
	text := ""
	for i := range 500 {
		text += event(i, "delete") + "\n"
	}
	for memory, lost := range map[int]bool{0: false, 64 << 10: true} {
		_, stats, err := run(t, Options{Program: program(t, false, r), memory: memory}, bytesInput("f", []byte(text)))
		if err != nil || (stats.Forgotten["hurried"] > 0) != lost || (len(stats.Forgotten) > 0) != lost {
			t.Errorf("%d bytes: %v %v", memory, stats.Forgotten, err)
		}
	}
}
