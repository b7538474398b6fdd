package falcosidekick

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"whodunit/internal/alert"
	"whodunit/internal/alert/alerttest"
	"whodunit/internal/alert/post"
	"whodunit/internal/rule/falco"
)

var update = flag.Bool("update", false, "write the golden file anew")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func encode(f alert.Finding) ([]byte, error) { return falco.FindingAlert(f.Event, "node-1") }

// payload is what Falcosidekick reads of a request (github.com/falcosecurity/falcosidekick, types/types.go, FalcoPayload), and Falco's
// documentation of its JSON output names (falco.org/docs/concepts/outputs/formatting).
type payload struct {
	UUID         string         `json:"uuid"`
	Output       string         `json:"output"`
	Priority     string         `json:"priority"`
	Rule         string         `json:"rule"`
	Time         time.Time      `json:"time"`
	OutputFields map[string]any `json:"output_fields"`
	Source       string         `json:"source"`
	Tags         []string       `json:"tags"`
	Hostname     string         `json:"hostname"`
}

// words are the priorities that it knows (types/priority.go).
var words = []string{"Emergency", "Alert", "Critical", "Error", "Warning", "Notice", "Informational", "Debug"}

// check is what it asks of a request before it takes it (handlers.go, newFalcoPayload; types.go, FalcoPayload.Check).
func check(t testing.TB, body []byte) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	var p payload
	if err := d.Decode(&p); err != nil || d.More() || !utf8.Valid(body) {
		t.Fatalf("%v: %.500q", err, body)
	}
	if !slices.Contains(words, p.Priority) || p.Rule == "" || p.Time.IsZero() || len(p.OutputFields) == 0 || p.Source != "k8s_audit" {
		t.Errorf("%+v", p)
	}
	for k, v := range p.OutputFields {
		switch v.(type) {
		case string, json.Number, bool:
		default: // what it hands on as a label or an attribute is one value
			t.Errorf("field %s is a %T", k, v)
		}
	}
}

func TestContract(t *testing.T) {
	alerttest.Notifier(t, alerttest.Options{Body: check}, func(c post.Config) (alert.Notifier, error) {
		return New(Config{Post: c, Encode: encode})
	})
}

func TestGolden(t *testing.T) {
	got, err := encode(alerttest.Finding(t, "db-0"))
	if err != nil {
		t.Fatal(err)
	}
	check(t, got)
	var b bytes.Buffer
	if err := json.Indent(&b, got, "", "  "); err != nil {
		t.Fatal(err)
	}
	b.WriteByte('\n')
	const file = "testdata/payload.json"
	if *update {
		if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), b.String()); diff != "" {
		t.Error(diff)
	}
}

// What was taken, or refused, is not sent again when the rest is.
func TestPartOfABatch(t *testing.T) {
	answers := map[string][]int{"b": {500, 500, 200}, "c": {400}}
	var got []string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		var p payload
		_ = json.Unmarshal(b, &p)
		text := strings.TrimPrefix(p.Rule, "T ")
		got = append(got, text)
		if a := answers[text]; len(a) > 0 {
			answers[text] = a[1:]
			w.WriteHeader(a[0])
		}
	}))
	defer srv.Close()
	n, err := New(Config{Post: post.Config{URL: srv.URL}, Encode: encode})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	var fs []alert.Finding
	for _, text := range []string{"a", "b", "c", "d"} {
		fs = append(fs, alerttest.Finding(t, text))
	}
	for range 2 {
		if err := n.Notify(t.Context(), fs); err == nil || errors.Is(err, alert.ErrRejected) {
			t.Fatal(err)
		}
	}
	if err := n.Notify(t.Context(), fs); !errors.Is(err, alert.ErrRejected) {
		t.Fatal(err)
	}
	for i := range fs { // as a pump does then
		if err := n.Notify(t.Context(), fs[i:i+1]); errors.Is(err, alert.ErrRejected) != (i == 2) || err != nil && i != 2 {
			t.Errorf("%d: %v", i, err)
		}
	}
	for range 2 { // what comes again later is sent again
		if err := n.Notify(t.Context(), []alert.Finding{alerttest.Finding(t, "e")}); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff([]string{"a", "b", "b", "b", "c", "d", "e", "e"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestEncoderFails(t *testing.T) {
	if _, err := New(Config{Post: post.Config{URL: "http://x"}}); err == nil {
		t.Error("no encoder is wanted")
	}
	n, err := New(Config{Post: post.Config{URL: "http://127.0.0.1:1"}, Encode: func(alert.Finding) ([]byte, error) { return nil, errors.New("no") }})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	if err := n.Notify(t.Context(), []alert.Finding{alerttest.Finding(t, "x")}); !errors.Is(err, alert.ErrRejected) {
		t.Error(err)
	}
}
