package audit_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
	"pgregory.net/rapid"

	"whodunit/internal/audit"
)

func sample(t testing.TB) [][]byte {
	t.Helper()
	b, err := os.ReadFile("testdata/events.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Split(bytes.TrimSpace(b), []byte("\n"))
}

// shared opens a recorded file of ../shared/data/audit line by line.
func shared(t *testing.T, name string, f func(line []byte)) {
	t.Helper()
	root := os.Getenv("WHODUNIT_SHARED")
	if root == "" {
		root = "../../../shared"
	}
	file, err := os.Open(root + "/data/audit/" + name)
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skipf("SKIPPED: no recorded events: %v", err)
	}
	defer file.Close()
	z, err := zstd.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	s := bufio.NewScanner(z)
	s.Buffer(nil, audit.MaxEventBytes)
	for s.Scan() {
		f(slices.Clone(s.Bytes()))
	}
	if s.Err() != nil {
		t.Fatal(s.Err())
	}
}

// compare holds an event against what Kubernetes' own types read from the same bytes.
func compare(t *testing.T, raw []byte) {
	t.Helper()
	got, err := audit.Parse("c", raw)
	if err != nil {
		t.Fatalf("%v: %.200s", err, raw)
	}
	var want auditv1.Event
	if err := json.Unmarshal(raw, &want); err != nil {
		t.Fatal(err)
	}
	check := func(what string, got, want any) {
		t.Helper()
		if d := cmp.Diff(want, got); d != "" {
			t.Fatalf("%s of %.300s:\n%s", what, raw, d)
		}
	}
	check("auditID", got.AuditID, string(want.AuditID))
	check("level", string(got.Level), string(want.Level))
	check("stage", string(got.Stage), string(want.Stage))
	check("uri", got.RequestURI, want.RequestURI)
	check("verb", got.Verb, want.Verb)
	check("agent", got.UserAgent, want.UserAgent)
	check("user", got.User.Username+"|"+got.User.UID, want.User.Username+"|"+want.User.UID)
	check("groups", got.User.Groups, want.User.Groups)
	check("ips", got.SourceIPs, want.SourceIPs)
	if w := want.ImpersonatedUser; w != nil {
		check("impersonated", got.Impersonated.Username, w.Username)
		check("impersonated groups", got.Impersonated.Groups, w.Groups)
	}
	if w := want.ObjectRef; w != nil {
		check("ref", got.ObjectRef, audit.ObjectRef{Resource: w.Resource, Namespace: w.Namespace, Name: w.Name, UID: string(w.UID),
			APIGroup: w.APIGroup, APIVersion: w.APIVersion, ResourceVersion: w.ResourceVersion, Subresource: w.Subresource})
	}
	if w := want.ResponseStatus; w != nil {
		check("status", got.Response, audit.Status{Code: int(w.Code), Status: w.Status, Reason: string(w.Reason), Message: w.Message})
	}
	check("received", got.ReceivedMicros, want.RequestReceivedTimestamp.UnixMicro())
	check("time", got.Time(), want.StageTimestamp.UTC())
	check("decision", got.Decision, want.Annotations[audit.AnnotationDecision])
	check("reason", got.Annotation(audit.AnnotationReason), want.Annotations[audit.AnnotationReason])
	if w := want.RequestObject; w != nil && !bytes.Equal(got.RequestObject, w.Raw) && string(w.Raw) != "null" {
		t.Fatalf("requestObject of %.300s", raw)
	}
	if w := want.ResponseObject; w != nil && !bytes.Equal(got.ResponseObject, w.Raw) && string(w.Raw) != "null" {
		t.Fatalf("responseObject of %.300s", raw)
	}
}

func TestParseAgreesWithKubernetes(t *testing.T) {
	for _, raw := range sample(t) {
		compare(t, raw)
	}
}

func TestParseAgreesWithKubernetesOnRecordings(t *testing.T) {
	for _, name := range []string{"apiserver-1.36.log.zst", "edge-1.36.log.zst"} {
		n := 0
		shared(t, name, func(line []byte) {
			if name == "apiserver-1.36.log.zst" || len(line) < 1<<20 || n < 20 {
				compare(t, line)
			}
			n++
		})
		if n == 0 {
			t.Fatalf("%s has no events", name)
		}
	}
}

func TestParseOldVersions(t *testing.T) {
	e, err := audit.Parse("c", []byte(`{"kind":"Event","apiVersion":"audit.k8s.io/v1alpha1","level":"Metadata","timestamp":"2017-09-05T10:04:55Z","auditID":"a",
		"stage":"ResponseComplete","verb":"get","user":{"username":"u"},"objectRef":{"resource":"deployments","name":"d","apiVersion":"apps/v1beta1"}}`))
	if err != nil {
		t.Fatal(err)
	}
	if e.ObjectRef.APIGroup != "apps" || e.ObjectRef.APIVersion != "v1beta1" || !e.Time().Equal(time.Date(2017, 9, 5, 10, 4, 55, 0, time.UTC)) {
		t.Errorf("got %+v at %v", e.ObjectRef, e.Time())
	}
	if _, err := audit.Parse("c", []byte(`{"apiVersion":"audit.k8s.io/v1beta1","auditID":"a","stage":"Panic"}`)); err != nil {
		t.Error(err)
	}
}

func TestParseRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		in    string
		audit bool // well-formed, but no audit event
	}{
		"empty":         {"", false},
		"cut":           {`{"auditID":"a","stage":"Panic"`, false},
		"two":           {`{"auditID":"a","stage":"Panic"} {}`, false},
		"array":         {`[1]`, true},
		"text":          {`"x"`, true},
		"no id":         {`{"stage":"Panic"}`, true},
		"no stage":      {`{"auditID":"a"}`, true},
		"kind":          {`{"kind":"Pod","auditID":"a","stage":"Panic"}`, true},
		"api":           {`{"apiVersion":"v1","auditID":"a","stage":"Panic"}`, true},
		"control":       {"{\"auditID\":\"a\x01\",\"stage\":\"Panic\"}", false},
		"bad escape":    {`{"auditID":"\q","stage":"Panic"}`, false},
		"bad number":    {`{"auditID":"a","stage":"Panic","x":01}`, false},
		"bad literal":   {`{"auditID":"a","stage":"Panic","x":nul}`, false},
		"comma":         {`{"auditID":"a","stage":"Panic",}`, false},
		"deep":          {`{"auditID":"a","stage":"Panic","x":` + strings.Repeat("[", 30000) + strings.Repeat("]", 30000) + `}`, false},
		"wrong bracket": {`{"auditID":"a","stage":"Panic","x":[1}}`, false},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := audit.Parse("c", []byte(c.in))
			if err == nil || errors.Is(err, audit.ErrNotAudit) != c.audit {
				t.Errorf("got %v", err)
			}
		})
	}
}

// Whatever encoding/json takes or refuses, Valid does, but for depth.
func TestValidAgreesWithEncodingJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := []byte(rapid.StringOf(rapid.RuneFrom([]rune(`{}[]",:0123.eE+-\u00atrufalsn bé`+"\x01\n"))).Draw(t, "text"))
		if got, want := audit.Valid(b) == nil, json.Valid(b); got != want {
			t.Fatalf("Valid(%q) = %v, encoding/json says %v", b, got, want)
		}
	})
}

func FuzzParse(f *testing.F) {
	for _, raw := range sample(f)[:8] {
		f.Add(raw)
	}
	f.Add([]byte(`{"auditID":"\ud83d\ude00\ud800","stage":"Panic","user":{},"sourceIPs":[null,1,"x"],"objectRef":[],"responseStatus":{"code":1e9}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := audit.Parse("c", slices.Clone(b))
		if err != nil {
			return
		}
		if !json.Valid(e.Raw) {
			t.Fatalf("kept invalid JSON %q", e.Raw)
		}
		again, err := audit.Parse("c", e.Raw)
		if err != nil || again.Identity() != e.Identity() {
			t.Fatalf("not stable: %v", err)
		}
		var m map[string]any
		if json.Unmarshal(e.Raw, &m) == nil {
			if id, ok := m["auditID"].(string); ok && strings.ToValidUTF8(id, "\uFFFD") != strings.ToValidUTF8(e.AuditID, "\uFFFD") {
				t.Fatalf("auditID %q, encoding/json has %q", e.AuditID, id)
			}
		}
	})
}

func BenchmarkParse(b *testing.B) {
	events := sample(b)
	var size int64
	for _, e := range events {
		size += int64(len(e))
	}
	b.SetBytes(size)
	for b.Loop() {
		for _, e := range events {
			if _, err := audit.Parse("c", e); err != nil {
				b.Fatal(err)
			}
		}
	}
}

func BenchmarkIdentity(b *testing.B) {
	var events []audit.Event
	var size int64
	for _, raw := range sample(b) {
		e, err := audit.Parse("c", raw)
		if err != nil {
			b.Fatal(err)
		}
		events = append(events, e)
		size += int64(len(raw))
	}
	b.SetBytes(size)
	for b.Loop() {
		for i := range events {
			events[i].Identity()
		}
	}
}
