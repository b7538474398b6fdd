package scan

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"whodunit/internal/detect"
)

func aks(category, event string) string {
	text, err := json.Marshal(event)
	if err != nil {
		panic(err)
	}
	return `{"category":"` + category + `","resourceId":"/x/MANAGEDCLUSTERS/PROD","properties":{"log":` + string(text) + `}}`
}

// TestForms: events are found in files of every layout, and said to stand where they do.
func TestForms(t *testing.T) {
	r := "id: deletion\ncondition: verb == 'delete'\nper_event: true\nmessage: '{user.username} {cluster}'\n"
	var indented bytes.Buffer
	for i := range 3 {
		if err := json.Indent(&indented, []byte(event(i, "delete")), "", "  "); err != nil {
			t.Fatal(err)
		}
		indented.WriteByte('\n')
	}
	fluent := func(n int) string {
		return strings.Replace(event(n, "delete"), `"verb"`, `"@timestamp":"x","requestObject":"none","verb"`, 1)
	}
	tests := map[string]struct {
		text, want string
		skipped    map[string]int64
	}{
		"one after the other": {text: event(1, "delete") + event(2, "get") + " " + event(3, "delete"), want: "f:1 deletion u1 -\nf:1 deletion u3 -\n"},
		"indented":            {text: indented.String(), want: "f:1 deletion u0 -\nf:13 deletion u1 -\nf:25 deletion u2 -\n"},
		"indented array":      {text: "\ufeff[\n  " + event(1, "delete") + ",\n  {\"a\":1}\n]\n[]\n" + event(2, "delete"), want: "f:2 deletion u1 -\nf:3 bad \"{\\\"a\\\":1}\" not_audit\nf:6 deletion u2 -\n"},
		"array that breaks":   {text: "[\n" + event(1, "delete") + ",\n" + event(2, "delete")[:50], want: "f:2 deletion u1 -\nf:3 bad \"{\\\"kind\\\":\\\"Event\\\",\\\"api\" syntax\n"},
		"azure lines": {text: aks("kube-audit", event(1, "delete")) + "\n" + aks("guard", "x") + "\n" + event(2, "delete") + "\n" + aks("kube-audit", event(3, "delete")[:70]),
			want: "f:1 deletion u1 PROD\nf:3 deletion u2 -\nf:4 bad \"{\\\"kind\\\":\\\"Event\\\",\\\"api\" truncated\n", skipped: map[string]int64{"category": 1}},
		"azure records, indented":    {text: "{\n\"records\": [\n" + aks("kube-audit", event(1, "delete")) + "\n]}\n", want: "f:1 deletion u1 PROD\n"},
		"fluentd":                    {text: fluent(1) + "\n" + fluent(2) + "\n", want: "f:1 deletion u1 -\nf:2 deletion u2 -\n"},
		"a torn line at the front":   {text: event(1, "delete")[:80] + "\n" + event(2, "delete"), want: "f:1 bad \"{\\\"kind\\\":\\\"Event\\\",\\\"api\" syntax\nf:2 deletion u2 -\n"},
		"the rest of a torn line":    {text: event(1, "delete")[75:] + "\n" + event(2, "delete"), want: "f:1 bad \":\\\"id-1\\\",\\\"stage\\\":\\\"Res\" syntax\nf:2 deletion u2 -\n"},
		"envelopes among plain ones": {text: event(1, "get") + "\n" + aks("kube-audit", event(2, "delete")), want: "f:2 deletion u2 PROD\n"},
		"node names":                 {text: "master-0 " + event(1, "delete") + "\nmaster-1 " + event(2, "delete"), want: "f:1 deletion u1 -\nf:2 deletion u2 -\n"},
		"text logs":                  {text: "2026 hello\n[2027] you\n", want: "f:1 bad \"2026 hello\" syntax\nf:2 bad \"2027\" not_audit\nf:2 bad \"you\" syntax\n"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, stats, err := run(t, Options{Program: program(t, false, r)}, bytesInput("f", []byte(tt.text)))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
			if tt.skipped == nil {
				tt.skipped = map[string]int64{}
			}
			if diff := cmp.Diff(tt.skipped, stats.Skipped); diff != "" {
				t.Error(diff)
			}
			if stats.Bytes != int64(len(tt.text)) {
				t.Errorf("%d bytes of %d", stats.Bytes, len(tt.text))
			}
		})
	}
}

// TestLongArray: an array on one line, longer than a line may be, is read element by element.
func TestLongArray(t *testing.T) {
	var b strings.Builder
	b.WriteByte('[')
	want := ""
	for i := range 20_000 {
		if i > 0 {
			b.WriteByte(',')
		}
		verb := "get"
		if i%5000 == 4999 {
			verb = "delete"
			want += fmt.Sprintf("a:1 deletion u%d\n", i)
		}
		b.WriteString(event(i, verb))
	}
	b.WriteString("]\n")
	for _, workers := range []int{1, 4} {
		got, stats, err := run(t, Options{Program: program(t, false, deletion), MaxLine: 1 << 20, Workers: workers}, bytesInput("a", []byte(b.String())))
		if diff := cmp.Diff(want, got); diff != "" || err != nil || stats.Events != 20_000 {
			t.Errorf("%v %d %s", err, stats.Events, diff)
		}
	}
	big := "[" + event(1, "delete") + "," + event(2, strings.Repeat("x", 3<<20)) + "," + event(3, "delete") + "]"
	got, stats, err := run(t, Options{Program: program(t, false, deletion), MaxLine: 1 << 20}, bytesInput("a", []byte(big)))
	if err != nil || stats.Events < 1 || stats.Bad["too_large"] != 1 || !strings.HasPrefix(got, "a:1 deletion u1\n") {
		t.Errorf("%v %+v %s", err, stats, got)
	}
}

// TestLongValue: where a value stands is not counted twice when more must be read to find its end.
func TestLongValue(t *testing.T) {
	long := strings.Replace(event(2, "delete"), `"verb"`, `"requestURI":"`+strings.Repeat("x", 3<<20)+`","verb"`, 1)
	text := "[\n\n" + long + ",\n" + event(3, "delete") + "]"
	got, _, err := run(t, Options{Program: program(t, false, deletion)}, bytesInput("a", []byte(text)))
	if want := "a:3 deletion u2\na:4 deletion u3\n"; got != want || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

// TestGarbage: of very many bad lines each is counted, and few are kept.
func TestGarbage(t *testing.T) {
	text := strings.Repeat("x\n", 100_000)
	shown := 0
	stats, err := Run(t.Context(), []Input{bytesInput("g", []byte(text))}, Options{Program: program(t, false, deletion),
		Result: func(*detect.Result, Place) error { return nil }, Bad: func(Place, []byte, error) { shown++ }})
	if err != nil || stats.Bad["syntax"] != 100_000 || shown != showBad {
		t.Errorf("%v %v, %d shown", err, stats.Bad, shown)
	}
}

// FuzzRun: whatever the bytes, a run ends, counts each of them, and does not depend on the number of workers.
func FuzzRun(f *testing.F) {
	f.Add([]byte(event(1, "delete") + "\n" + event(2, "get")))
	f.Add([]byte("[\n" + event(1, "delete") + ",{}]"))
	f.Add([]byte("{\n \"records\": [" + aks("kube-audit", event(1, "delete")) + "]\n}"))
	f.Add([]byte("\x1f\x8b\x08\x00"))
	p := program(f, false, deletion)
	f.Fuzz(func(t *testing.T, b []byte) {
		one, stats, err := run(t, Options{Program: p, Workers: 1, MaxLine: 300}, bytesInput("f", b))
		if err != nil {
			return // compressed, and broken
		}
		three, _, _ := run(t, Options{Program: p, Workers: 3, MaxLine: 300}, bytesInput("f", b))
		if one != three {
			t.Fatalf("%q and %q", one, three)
		}
		if len(b) > 0 && b[0] != 0x1f && b[0] != 0x28 && stats.Bytes > int64(len(b)) {
			t.Fatalf("%d bytes of %d", stats.Bytes, len(b))
		}
	})
}
