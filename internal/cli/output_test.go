package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"whodunit/internal/audit"
	"whodunit/internal/journal"
)

func TestTable(t *testing.T) {
	values := []string{"2026-11-21 10:00:01.000", "system:serviceaccount:kube-system:generic-garbage-collector", "delete", "pods checkout-5d8f -n shop", "200", "192.0.2.7  kubectl/v1.36.3"}
	for _, c := range []struct {
		wide int
		want string
	}{
		{0, "2026-11-21 10:00:01.000  system:serviceaccount:kube-system:generic-garbage-collector  delete    pods checkout-5d8f -n shop                200   192.0.2.7  kubectl/v1.36.3"},
		{80, "2026-11-21 10:00:01.000  system:service…  delete    pods checkout-5d8f -n…  200"},
		{140, "2026-11-21 10:00:01.000  system:serviceaccount:ku…  delete    pods checkout-5d8f -n shop                200   192.0.2.7  kubectl/v1.36.3"},
	} {
		got := newTable(eventColumns(), c.wide).row(values...)
		if c.wide == 0 {
			if d := cmp.Diff(c.want, got); d != "" {
				t.Errorf("no terminal (-want +got):\n%s", d)
			}
			continue
		}
		if n := cells(got); n > c.wide {
			t.Errorf("%d columns: %d cells: %s", c.wide, n, got)
		}
		if !strings.Contains(got, "…") || !strings.Contains(got, "200") {
			t.Errorf("%d columns: %s", c.wide, got)
		}
	}
}

// TestTableFits: whatever the values are, a row takes one line of the terminal and does nothing to it.
func TestTableFits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		wide := rapid.IntRange(80, 300).Draw(t, "wide")
		columns := eventColumns()
		if rapid.Bool().Draw(t, "findings") {
			columns = findingColumns()
		}
		values := make([]string, len(columns))
		for i := range values {
			values[i] = rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"日本語のテキスト", "\u001b[31m", "a\u0301\u0301", "\u202egnp.exe", "\xff\xfe", ""})).Draw(t, "value")
		}
		got := newTable(columns, wide).row(values...)
		if n := cells(got); n > wide {
			t.Fatalf("%d cells of %d: %q", n, wide, got)
		}
		if printable(got, false) != got {
			t.Fatalf("not safe: %q", got)
		}
	})
}

// TestRuleOf: an id of Sigma's says nothing to a person.
func TestRuleOf(t *testing.T) {
	for raw, want := range map[string]string{
		`{"rule":"pod-exec","title":"Command run","format":"native"}`:                           "pod-exec",
		`{"rule":"pod-exec","title":"Command run"}`:                                             "pod-exec",
		`{"rule":"22222222-0000-4000-8000-000000000011","title":"Many reads","format":"sigma"}`: "Many reads",
		`{"rule":"22222222-0000-4000-8000-000000000011","title":"","format":"sigma"}`:           "22222222-0000-4000-8000-000000000011",
	} {
		if got := ruleOf(&audit.Event{Raw: []byte(raw)}); got != want {
			t.Errorf("%s: %q, want %q", raw, got, want)
		}
	}
}

// TestEscaped: for a terminal, JSON means the same and holds nothing that a terminal acts on.
func TestEscaped(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.String().Draw(t, "text")
		line, err := json.Marshal(map[string]string{"k": want})
		if err != nil {
			t.Fatal(err)
		}
		line = bytes.ReplaceAll(line, []byte(`\u0085`), []byte("\u0085")) // allowed as it is
		safe := escaped(line)
		var got map[string]string
		if err := json.Unmarshal(safe, &got); err != nil || got["k"] != strings.ToValidUTF8(want, "\ufffd") {
			t.Fatalf("%s: %v", safe, err)
		}
		if printable(string(safe), false) != string(safe) && !bytes.ContainsRune(safe, '\ufffd') {
			t.Fatalf("not safe: %q", safe)
		}
	})
}

func TestOneLine(t *testing.T) {
	for in, want := range map[string]string{
		`{"a":1}`:              `{"a":1}`,
		"{\n \"a\": [1,\n 2]}": `{"a":[1,2]}`,
		"{\n broken":           "{  broken",
	} {
		if got := string(oneLine([]byte(in))); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

// TestProblems: a badly damaged journal is told in few lines.
func TestProblems(t *testing.T) {
	var b bytes.Buffer
	c := &cmdline{Streams: Streams{Out: &b}}
	r := &journal.Report{Dir: "d"}
	for i := range 300 {
		r.Problems = append(r.Problems, journal.Problem{File: "a\x1b.wal", What: fmt.Sprintf("frame %d", i), Events: 2, Fatal: i > 100})
	}
	for i := range 100 {
		r.Problems = append(r.Problems, journal.Problem{File: fmt.Sprintf("s%d", i), What: "gone", Fatal: true})
	}
	c.showJournal(r, true)
	got := b.String()
	if n := strings.Count(got, "\n"); n > 70 {
		t.Errorf("%d lines", n)
	}
	for _, want := range []string{"frame 9 (2 events)\n", `a\x1b.wal: and 290 more (580 events)`, "and problems in 51 more files: -o json shows all"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if strings.Contains(got, "\x1b") {
		t.Error("an escape reaches the terminal")
	}
}

// TestProgress: a bar is drawn on a terminal, when something takes long, and taken away again.
func TestProgress(t *testing.T) {
	var b bytes.Buffer
	now := time.Unix(0, 0)
	p := &bar{w: &b, total: 100 << 20, shown: now, now: func() time.Time { return now }, on: true}
	p.add("f", 1<<20)
	if b.Len() > 0 {
		t.Errorf("drawn at once: %q", b.String())
	}
	now = now.Add(time.Second)
	p.add("f", 49<<20)
	p.done()
	p.done()
	if want := "\r[###############...............]  50% of 100 MB\r\x1b[K"; b.String() != want {
		t.Errorf("%q, want %q", b.String(), want)
	}
	c := &cmdline{Streams: Streams{Err: &b, Now: time.Now}}
	b.Reset()
	q := c.progress([]string{"output_test.go"})
	q.shown = time.Time{}
	q.add("f", 10)
	q.done()
	if b.Len() > 0 {
		t.Errorf("drawn where there is no terminal: %q", b.String())
	}
}

// TestShowYAML: an event as YAML is the same document.
func TestShowYAML(t *testing.T) {
	raw := `{"auditID":"1","stage":"Panic","verb":"yes","num":"007","t":"12:30","nul":null,"list":["a: b","- c"],"text":"line\nline"}`
	e, err := audit.Parse("c", []byte(raw))
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	c := &cmdline{Streams: Streams{Out: &b}}
	p := c.printer("yaml", false)
	if err := p.show(&audit.Record{Event: e}); err != nil {
		t.Fatal(err)
	}
	if err := p.w.Flush(); err != nil {
		t.Fatal(err)
	}
	want := "---\nauditID: \"1\"\nstage: Panic\nverb: \"yes\"\nnum: \"007\"\nt: \"12:30\"\nnul: null\nlist:\n  - 'a: b'\n  - '- c'\ntext: |-\n  line\n  line\n"
	if d := cmp.Diff(want, b.String()); d != "" {
		t.Error(d)
	}
}
