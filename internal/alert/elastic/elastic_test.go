package elastic

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"whodunit/internal/alert"
	"whodunit/internal/alert/alerttest"
	"whodunit/internal/alert/post"
	"whodunit/internal/audit"
	"whodunit/internal/finding"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// taken answers a bulk request as Elasticsearch does when it takes all.
func taken(body []byte) string {
	items := make([]string, bytes.Count(body, []byte("\n"))/2)
	for i := range items {
		items[i] = `{"create":{"_index":"x","_id":"y","_version":1,"result":"created","status":201}}`
	}
	return `{"took":3,"errors":false,"items":[` + strings.Join(items, ",") + `]}`
}

func TestContract(t *testing.T) {
	for _, form := range []Form{K8sCop, Whole} {
		t.Run(string(form), func(t *testing.T) {
			alerttest.Notifier(t, alerttest.Options{Answer: taken, BodyCounts: true}, func(c post.Config) (alert.Notifier, error) {
				return New(Config{Post: c, Prefix: "alerts", Form: form})
			})
		})
	}
}

// fake is the part of Elasticsearch that takes bulk requests.
type fake struct {
	t        *testing.T
	docs     map[string]json.RawMessage // by index/id
	requests [][]string                 // ids
	sizes    []int
	auth     string
	answer   func(id string) string // a result; "": as usual
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(r.Body)
	if err != nil || r.Method != http.MethodPost || r.URL.Path != "/es/_bulk" || r.Header.Get("Content-Type") != "application/x-ndjson" || !bytes.HasSuffix(b, []byte("\n")) {
		f.t.Errorf("%s %s %s: %v", r.Method, r.URL.Path, r.Header.Get("Content-Type"), err)
	}
	f.auth = r.Header.Get("Authorization")
	f.sizes = append(f.sizes, len(b))
	var ids, items []string
	lines := bytes.Split(bytes.TrimSuffix(b, []byte("\n")), []byte("\n"))
	for i := 0; i+1 < len(lines); i += 2 {
		var action struct {
			Create struct {
				Index string `json:"_index"`
				ID    string `json:"_id"`
			}
		}
		if err := json.Unmarshal(lines[i], &action); err != nil {
			f.t.Errorf("%s: %v", lines[i], err)
		}
		key := action.Create.Index + "/" + action.Create.ID
		ids = append(ids, action.Create.ID)
		result := ""
		if f.answer != nil {
			result = f.answer(action.Create.ID)
		}
		if result == "" {
			if _, ok := f.docs[key]; ok {
				result = `"status":409,"error":{"type":"version_conflict_engine_exception","reason":"exists"}`
			} else {
				f.docs[key], result = lines[i+1], `"status":201`
			}
		}
		items = append(items, `{"create":{`+result+`}}`)
	}
	f.requests = append(f.requests, ids)
	fmt.Fprintf(w, `{"errors":true,"items":[%s]}`, strings.Join(items, ","))
}

func serve(t *testing.T, c Config) (*fake, *Notifier) {
	t.Helper()
	f := &fake{t: t, docs: map[string]json.RawMessage{}}
	srv := httptest.NewServer(f)
	t.Cleanup(srv.Close)
	c.Post.URL, c.Prefix = srv.URL+"/es/", "alerts"
	n, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	return f, n
}

// made is a finding about an event with these members.
func made(t *testing.T, id, event string) alert.Finding {
	t.Helper()
	ev, err := audit.Parse("prod", []byte(`{"auditID":"`+id+`","stage":"ResponseComplete","user":{"username":"alice"},"stageTimestamp":"2026-11-21T23:59:59.999999Z",`+event+`}`))
	if err != nil {
		t.Fatal(err)
	}
	doc, err := finding.Finding{Rule: "label.tamper", Title: "Tamper", Severity: finding.Medium, Format: "label", Message: "Pod created by alice",
		Events: []finding.Evidence{{Identity: id}}}.Event(&ev)
	if err != nil {
		t.Fatal(err)
	}
	f := alert.Read(&audit.Record{Event: doc})
	f.ID = id
	return f
}

func TestDocuments(t *testing.T) {
	exec := `"verb":"create","requestURI":"/api/v1/namespaces/shop/pods/db-0/exec?command=sh&command=-c&command=rm+-rf+%2F%3B+echo+%22x%22&container=c&stdin=true&tty=true",` +
		`"objectRef":{"resource":"pods","namespace":"shop","name":"db-0","subresource":"exec"},"responseStatus":{"code":101}`
	for _, tt := range []struct {
		name, event string
		form        Form
		want        string
	}{
		{"exec", exec, "", `{"a_type":"Tamper","timestamp":"2026-11-21T23:59:59.999999Z","description":"Pod created by alice","index":"a1","user":"alice","namespace":"shop","pod":"db-0",` +
			`"kubectl":"kubectl exec -it db-0 -n shop -c c -- sh -c 'rm -rf /; echo \"x\"'","response":101,"container":"c","command":"sh -c rm -rf /; echo \"x\"",` +
			`"severity":"medium","rule":"label.tamper","cluster":"prod"}`},
		{"no object", `"verb":"get","requestURI":"/version"`, K8sCop, `{"a_type":"Tamper","timestamp":"2026-11-21T23:59:59.999999Z","description":"Pod created by alice","index":"a1","user":"alice",` +
			`"kubectl":"kubectl get --raw /version","severity":"medium","rule":"label.tamper","cluster":"prod"}`},
		{"whole", `"verb":"get"`, Whole, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f, n := serve(t, Config{Form: tt.form})
			x := made(t, "a1", tt.event)
			for range 2 { // the second time it is there
				if err := n.Notify(t.Context(), []alert.Finding{x}); err != nil {
					t.Fatal(err)
				}
			}
			if tt.want == "" {
				tt.want = `{"@timestamp":"2026-11-21T23:59:59.999999Z","cluster":"prod",` + string(x.Doc[1:])
			}
			if diff := cmp.Diff(map[string]json.RawMessage{"alerts-2026.11.21/a1": json.RawMessage(tt.want)}, f.docs); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestTypeWithoutTitle(t *testing.T) {
	x := made(t, "a", `"verb":"get"`)
	x.Title = ""
	if d := newDocument(&x); d.Type != "label.tamper" {
		t.Errorf("%+v", d)
	}
}

// What is taken or refused is not sent again; what there is no room for is, alone.
func TestPartIsTaken(t *testing.T) {
	f, n := serve(t, Config{})
	var fs []alert.Finding
	for _, id := range []string{"ok", "busy", "bad", "shards", "denied", "there"} {
		fs = append(fs, made(t, id, `"verb":"get"`))
	}
	f.docs["alerts-2026.11.21/there"] = nil
	full := true
	f.answer = func(id string) string {
		switch {
		case id == "bad":
			return `"status":400,"error":{"type":"mapper_parsing_exception","reason":"h1dden"}`
		case !full:
			return ""
		}
		return map[string]string{"busy": `"status":429,"error":{"type":"es_rejected_execution_exception","reason":"h1dden"}`,
			"shards": `"status":400,"error":{"type":"validation_exception","reason":"h1dden"}`,
			"denied": `"status":403,"error":{"type":"<h1dden>","reason":"h1dden"}`}[id]
	}
	err := n.Notify(t.Context(), fs)
	if err == nil || errors.Is(err, alert.ErrRejected) || strings.Contains(err.Error(), "h1dden") || !strings.Contains(err.Error(), "3 of 6 documents: the last with 403 (no reason)") {
		t.Fatal(err)
	}
	full = false
	err = n.Notify(t.Context(), fs)
	if !errors.Is(err, alert.ErrRejected) || !strings.Contains(err.Error(), "400 (mapper_parsing_exception)") || strings.Contains(err.Error(), "h1dden") {
		t.Fatal(err)
	}
	for i := range fs { // as a pump does then
		if err := n.Notify(t.Context(), fs[i:i+1]); errors.Is(err, alert.ErrRejected) != (fs[i].ID == "bad") || err != nil && fs[i].ID != "bad" {
			t.Errorf("%s: %v", fs[i].ID, err)
		}
	}
	if diff := cmp.Diff([][]string{{"ok", "busy", "bad", "shards", "denied", "there"}, {"busy", "shards", "denied"}}, f.requests); diff != "" {
		t.Error(diff)
	}
	if err := n.Notify(t.Context(), []alert.Finding{made(t, "next", `"verb":"get"`)}); err != nil || len(f.docs) != 6 {
		t.Errorf("%v, %d documents", err, len(f.docs))
	}
}

func TestRequestsAreBounded(t *testing.T) {
	f, n := serve(t, Config{Form: Whole})
	var fs []alert.Finding
	for i := range 7 {
		fs = append(fs, made(t, fmt.Sprint("a", i), `"userAgent":"`+strings.Repeat("x", 2<<20)+`"`))
	}
	fs = append(fs, made(t, "large", `"userAgent":"`+strings.Repeat("x", 6<<20)+`"`))
	if err := n.Notify(t.Context(), fs); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([][]string{{"a0", "a1"}, {"a2", "a3"}, {"a4", "a5"}, {"a6"}, {"large"}}, f.requests); diff != "" {
		t.Error(diff)
	}
	for _, size := range f.sizes[:4] {
		if size > maxBody {
			t.Errorf("a request of %d bytes", size)
		}
	}
}

func TestOddAnswers(t *testing.T) {
	for _, answer := range []string{"", "{}", "[]", "<html>", `{"items":[]}`, `{"items":[{"create":{"status":201}},{"create":{"status":201}}]}`, `{"items":[{"index":{"status":201}}]}`, `{"items":[7]}`} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, answer) }))
		n, err := New(Config{Post: post.Config{URL: srv.URL}, Prefix: "a"})
		if err != nil {
			t.Fatal(err)
		}
		if err := n.Notify(t.Context(), []alert.Finding{made(t, "x", `"verb":"get"`)}); err == nil || errors.Is(err, alert.ErrRejected) {
			t.Errorf("%s: %v", answer, err)
		}
		n.Close()
		srv.Close()
	}
}

func TestConfig(t *testing.T) {
	for _, c := range []Config{{}, {Prefix: "Alerts"}, {Prefix: "_x"}, {Prefix: ".x"}, {Prefix: "a b"}, {Prefix: "a\n"}, {Prefix: "a*"}, {Prefix: strings.Repeat("a", 201)}, {Prefix: "a", Form: "other"}} {
		c.Post.URL = "http://x"
		if _, err := New(c); err == nil {
			t.Errorf("%+v is taken", c)
		}
	}
	f, n := serve(t, Config{Post: post.Config{Token: "k", Scheme: "ApiKey"}})
	if err := n.Notify(t.Context(), []alert.Finding{made(t, "x", `"verb":"get"`)}); err != nil || f.auth != "ApiKey k" {
		t.Errorf("%v, %q", err, f.auth)
	}
}

func TestIndexIsOfTheDayInUTC(t *testing.T) {
	f, n := serve(t, Config{})
	x := made(t, "x", `"verb":"get"`)
	x.Time = time.Date(2026, 11, 22, 0, 30, 0, 0, time.FixedZone("", 3600))
	if err := n.Notify(t.Context(), []alert.Finding{x}); err != nil || f.docs["alerts-2026.11.21/x"] == nil {
		t.Errorf("%v, %v", err, f.docs)
	}
}
