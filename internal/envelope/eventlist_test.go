package envelope

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"pgregory.net/rapid"

	"whodunit/internal/audit"
)

func item(id string) string {
	return fmt.Sprintf(`{"level":"Metadata","auditID":%q,"stage":"ResponseComplete","verb":"get","user":{"username":"alice"}}`, id)
}

func ids(r Result) []string {
	var out []string
	for i := range r.Events {
		out = append(out, r.Events[i].AuditID)
	}
	return out
}

func TestEventList(t *testing.T) {
	deep := `{"level":"Request","auditID":"deep","stage":"Panic","requestObject":` + strings.Repeat(`{"a":`, 30000) + "1" + strings.Repeat("}", 30001)
	list := func(version string, items ...string) string {
		return `{"kind":"EventList","apiVersion":"audit.k8s.io/` + version + `","metadata":{},"items":[` + strings.Join(items, ",") + `]}`
	}
	tests := map[string]struct {
		body    string
		want    []string
		rejects []string // reasons
		err     string   // part of it
	}{
		"v1":                      {body: list("v1", item("a"), item("b")) + "\n", want: []string{"a", "b"}},
		"v1beta1":                 {body: list("v1beta1", item("a")), want: []string{"a"}},
		"v1alpha1":                {body: list("v1alpha1", item("a")), want: []string{"a"}},
		"empty list":              {body: list("v1")},
		"null items":              {body: `{"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":null}`},
		"spaced, items first":     {body: " {\n \"items\" : [ " + item("a") + " , " + item("b") + " ] ,\n \"kind\" : \"EventList\" } ", want: []string{"a", "b"}},
		"no kind":                 {body: `{"items":[` + item("a") + `]}`, want: []string{"a"}},
		"items twice":             {body: `{"kind":"EventList","items":[` + item("a") + `],"items":[` + item("b") + `]}`, want: []string{"a", "b"}},
		"byte order mark":         {body: "\xef\xbb\xbf" + list("v1", item("a")), want: []string{"a"}},
		"bad item":                {body: list("v1", item("a"), `{"x":1}`, `7`, `{"auditID":tru}`, item("b")), want: []string{"a", "b"}, rejects: []string{"not_audit", "not_audit", "syntax"}},
		"too deep costs itself":   {body: list("v1", item("a"), deep, item("b")), want: []string{"a", "b"}, rejects: []string{"syntax"}},
		"forged finding":          {body: list("v1", item("a"), `{"kind":"Finding","auditID":"x","stage":"Panic"}`), want: []string{"a"}, rejects: []string{"not_audit"}},
		"breaks off":              {body: list("v1", item("a"), item("b"))[:200], want: []string{"a"}, rejects: []string{"syntax"}},
		"breaks off behind":       {body: strings.TrimSuffix(list("v1", item("a")), "}"), want: []string{"a"}, rejects: []string{"syntax"}},
		"all items bad":           {body: list("v1", `{}`, `1`), rejects: []string{"not_audit", "not_audit"}, err: "no auditID"},
		"single":                  {body: item("a"), want: []string{"a"}},
		"array":                   {body: "[" + item("a") + ",\n{}," + item("b") + "]", want: []string{"a", "b"}, rejects: []string{"not_audit"}},
		"array breaks off":        {body: "[" + item("a") + ",{", want: []string{"a"}, rejects: []string{"syntax"}},
		"empty array":             {body: "[]"},
		"lines":                   {body: item("a") + "\n" + item("b") + "\r\n\n" + item("c"), want: []string{"a", "b", "c"}},
		"bad line":                {body: item("a") + "\n{\"x\":\n" + item("b") + "\nhello\n" + item("c"), want: []string{"a", "b", "c"}, rejects: []string{"syntax", "syntax"}},
		"first line bad":          {body: "{\"x\":\"\n" + item("b"), want: []string{"b"}, rejects: []string{"syntax"}},
		"prefix line":             {body: "starting\n" + item("b"), want: []string{"b"}, rejects: []string{"syntax"}},
		"concatenated":            {body: item("a") + item("b"), want: []string{"a", "b"}},
		"lists one after another": {body: list("v1", item("a")) + "\n" + list("v1", item("b")) + list("v1"), want: []string{"a", "b"}},
		"indented":                {body: strings.ReplaceAll(item("a"), ",", ",\n  ") + "\n" + item("b"), want: []string{"a", "b"}},
		"empty":                   {body: " \n", err: "the body is empty"},
		"core events":             {body: `{"kind":"EventList","apiVersion":"v1","items":[{}]}`, rejects: []string{"not_audit"}, err: `apiVersion "v1"`},
		"pod list":                {body: `{"kind":"PodList","apiVersion":"v1","items":[{}]}`, rejects: []string{"not_audit"}, err: `kind "PodList"`},
		"status":                  {body: `{"kind":"Status","apiVersion":"v1"}`, rejects: []string{"not_audit"}, err: `kind is "Status"`},
		"number":                  {body: `17`, rejects: []string{"not_audit"}, err: "no object and no array"},
		"text":                    {body: `hello`, rejects: []string{"syntax"}, err: "invalid JSON at byte 0"},
		"cut list head":           {body: `{"kind":"EventList",`, rejects: []string{"syntax"}, err: ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r, err := EventList("c1", []byte(tt.body))
			if diff := cmp.Diff(tt.want, ids(r)); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
			var reasons []string
			for _, x := range r.Rejects {
				reasons = append(reasons, Reason(x.Err))
				if len(x.Raw) == 0 {
					t.Errorf("empty reject: %v", x.Err)
				}
			}
			if diff := cmp.Diff(tt.rejects, reasons); diff != "" {
				t.Errorf("rejects (-want +got):\n%s", diff)
			}
			if tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
				t.Errorf("error %v, want one with %q", err, tt.err)
			}
			if tt.err == "" && len(tt.want) > 0 && err != nil {
				t.Errorf("error %v beside events", err)
			}
			for i := range r.Events {
				if r.Events[i].Cluster != "c1" || r.Events[i].User.Username != "alice" {
					t.Errorf("event %d: %+v", i, r.Events[i])
				}
			}
		})
	}
}

func TestTooLargeItem(t *testing.T) {
	big := `{"auditID":"big","stage":"Panic","x":"` + strings.Repeat("x", audit.MaxEventBytes) + `"}`
	r, err := EventList("", []byte(`{"kind":"EventList","items":[`+big+","+item("a")+"]}"))
	if err != nil || len(r.Events) != 1 || len(r.Rejects) != 1 || !errors.Is(r.Rejects[0].Err, ErrTooLarge) {
		t.Fatalf("%d events, %d rejects, %v", len(r.Events), len(r.Rejects), err)
	}
	if r, err := Line("", []byte(big)); Reason(err) != ReasonTooLarge || len(r.Events) != 0 {
		t.Fatalf("line: %v", err)
	}
}

func TestGarbageIsBounded(t *testing.T) {
	r, err := EventList("", []byte("["+strings.Repeat("1,", 5000)+item("a")+"]"))
	if err != nil || len(r.Rejects) != maxRejects || r.Omitted != 4000 || len(r.Events) != 1 {
		t.Errorf("%d rejects, %d omitted, %d events, %v", len(r.Rejects), r.Omitted, len(r.Events), err)
	}
}

// A body of nothing but garbage is given up, and tiny events do not fill the memory.
func TestGarbageTakesNoTime(t *testing.T) {
	for name, body := range map[string]string{
		"array": "[" + strings.Repeat("1,", 20<<20) + item("a") + "]", "values": strings.Repeat("{}", 20<<20), "lines": strings.Repeat("{}\n", 10<<20),
		"list": `{"items":[` + strings.Repeat("7,", 10<<20) + "]}", "tiny": "[" + strings.Repeat(`{"auditID":"a","stage":"P"},`, 1<<20) + "{}]",
	} {
		for form, decode := range map[string]Decode{"any": Any, "list": EventList} {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			r, _ := decode("", []byte(body))
			runtime.ReadMemStats(&after)
			if len(r.Rejects) != maxRejects || r.Omitted > 2*maxOmitted || len(r.Events) > maxEvents {
				t.Errorf("%s, %s: %d events, %d rejects, %d omitted", name, form, len(r.Events), len(r.Rejects), r.Omitted)
			}
			if got := int64(after.TotalAlloc-before.TotalAlloc) - int64(len(body)); got > 1<<30 {
				t.Errorf("%s, %s: %d bytes allocated", name, form, got)
			}
		}
	}
}

// A list's events are the log's: same identity, and bytes that are slices of the body.
func TestSameAsLog(t *testing.T) {
	for _, name := range []string{"apiserver-1.36.log.zst", "edge-1.36.log.zst"} {
		lines := recorded(t, name)
		body := []byte(`{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":[`)
		for i, l := range lines {
			if i > 0 {
				body = append(body, ',')
			}
			body = append(body, bytes.Replace(l, []byte(`"kind":"Event","apiVersion":"audit.k8s.io/v1",`), nil, 1)...)
		}
		body = append(body, "]}\n"...)
		r, err := EventList("c", body)
		if err != nil || len(r.Events) != len(lines) || len(r.Rejects) != 0 {
			t.Fatalf("%s: %d events of %d, %d rejects, %v", name, len(r.Events), len(lines), len(r.Rejects), err)
		}
		for i, l := range lines {
			one, err := Line("c", l)
			if err != nil || len(one.Events) != 1 {
				t.Fatalf("%s:%d: %v", name, i+1, err)
			}
			if one.Events[0].Identity() != r.Events[i].Identity() {
				t.Fatalf("%s:%d: identity differs", name, i+1)
			}
		}
	}
}

func recorded(t testing.TB, name string) [][]byte {
	t.Helper()
	dir := os.Getenv("WHODUNIT_SHARED")
	if dir == "" {
		dir = "../../../shared"
	}
	f, err := os.ReadFile(filepath.Join(dir, "data", "audit", name))
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skipf("SKIPPED: %v", err)
	}
	d, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	b, err := d.DecodeAll(f, nil)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Split(bytes.TrimSuffix(b, []byte("\n")), []byte("\n"))
}

// Whatever stands between good events, each good one is found as long as the pieces are lines or items.
func TestNothingLost(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var want []string
		var pieces []string
		n := rapid.IntRange(1, 12).Draw(t, "n")
		list := rapid.Bool().Draw(t, "list")
		for i := range n {
			if rapid.Bool().Draw(t, "good") {
				id := fmt.Sprint("id", i)
				want = append(want, id)
				pieces = append(pieces, item(id))
				continue
			}
			bad := []string{`{"a":[1,{"b":"]}"}]}`, `"str\\\""`, `12`, `[[]]`, `{"auditID":nul}`}
			if !list {
				bad = append(bad, `{"a":"`, `{"a":[[[`, `}}}`, `,`, "\x00\xff")
			}
			pieces = append(pieces, rapid.SampledFrom(bad).Draw(t, "bad"))
		}
		body := strings.Join(pieces, "\n")
		if list {
			body = `{"kind":"EventList","items":[` + strings.Join(pieces, ",") + "]}"
		} else {
			body = item("first") + "\n" + body
			want = append([]string{"first"}, want...)
		}
		r, _ := EventList("", []byte(body))
		if diff := cmp.Diff(want, ids(r)); diff != "" {
			t.Fatalf("%q (-want +got):\n%s", body, diff)
		}
	})
}

func FuzzEventList(f *testing.F) {
	f.Add([]byte(`{"kind":"EventList","items":[` + item("a") + `,{"b":[]}]}`))
	f.Add([]byte(item("a") + "\n{\n" + item("b")))
	f.Add([]byte(`[` + item("a") + `]x`))
	f.Fuzz(func(t *testing.T, b []byte) {
		in := bytes.Clone(b)
		r, err := EventList("c", b)
		if !bytes.Equal(in, b) {
			t.Fatal("the body was changed")
		}
		if err != nil && len(r.Events) > 0 {
			t.Fatalf("%d events beside error %v", len(r.Events), err)
		}
		for i := range r.Events {
			if err := audit.Valid(r.Events[i].Raw); err != nil {
				t.Fatal(err)
			}
		}
		for _, x := range r.Rejects {
			if x.Err == nil {
				t.Fatal("a reject without a reason")
			}
		}
	})
}

func BenchmarkEventList(b *testing.B) {
	lines := recorded(b, "apiserver-1.36.log.zst")[:400]
	body := []byte(`{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":[` + string(bytes.Join(lines, []byte(","))) + "]}")
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		if r, err := EventList("c", body); err != nil || len(r.Events) != 400 {
			b.Fatal(err)
		}
	}
}
