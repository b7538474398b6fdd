package audit_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"whodunit/internal/audit"
)

func identity(t *testing.T, raw string) audit.Identity {
	t.Helper()
	e, err := audit.Parse("c", []byte(raw))
	if err != nil {
		t.Fatalf("%v: %s", err, raw)
	}
	return e.Identity()
}

func TestIdentityIsTheSameByWebhookAndLog(t *testing.T) {
	for _, raw := range sample(t) {
		log := string(raw)
		item := strings.Replace(log, `"kind":"Event","apiVersion":"audit.k8s.io/v1",`, "", 1)
		if item == log {
			t.Fatalf("not a log line: %.80s", log)
		}
		var indented bytes.Buffer
		if err := json.Indent(&indented, raw, "", "\t"); err != nil {
			t.Fatal(err)
		}
		want := identity(t, log)
		for _, other := range []string{item, indented.String(), " " + log + "\n"} {
			if got := identity(t, other); got != want {
				t.Fatalf("identity %v of %.80s, want %v", got, other, want)
			}
		}
	}
}

func TestIdentityPlacesOfKind(t *testing.T) {
	want := identity(t, `{"auditID":"a","stage":"Panic","verb":"get"}`)
	for _, same := range []string{
		`{"auditID":"a","kind":"Event","stage":"Panic","verb":"get"}`,
		`{"auditID":"a","stage":"Panic","verb":"get","apiVersion":"audit.k8s.io/v1"}`,
		`{"apiVersion":"audit.k8s.io/v1","auditID":"a","stage":"Panic","verb":"get","kind":"Event"}`,
		`{"auditID":"a","apiVersion":"audit.k8s.io/v1","kind":"Event","stage":"Panic","verb":"get"}`,
	} {
		if identity(t, same) != want {
			t.Errorf("another identity: %s", same)
		}
	}
	for _, other := range []string{
		`{"auditID":"a","stage":"Panic","verb":"list"}`,
		`{"auditID":"b","stage":"Panic","verb":"get"}`,
		`{"auditID":"a","stage":"ResponseComplete","verb":"get"}`,
		`{"auditID":"a","stage":"Panic","verb":"get","x":{"kind":"Event"}}`,
		`{"auditID":"a","stage":"Panic","verb":"get","x":1}`,
	} {
		if identity(t, other) == want {
			t.Errorf("the same identity: %s", other)
		}
	}
	e, err := audit.Parse("other", []byte(`{"auditID":"a","stage":"Panic","verb":"get"}`))
	if err != nil || e.Identity() == want {
		t.Errorf("clusters are not told apart: %v", err)
	}
	// The bytes on disk: a change here would make old journals forget what they have.
	if got := want.String(); got != "d8cb523adb917595560b13e0e6d30f04" {
		t.Errorf("identity is now %s", got)
	}
}

func TestSplit(t *testing.T) {
	big := strings.Repeat("x", audit.MaxBatchBytes/3)
	var b audit.Batch
	for range 7 {
		e, err := audit.Parse("c", []byte(`{"auditID":"a","stage":"Panic","x":"`+big+`"}`))
		if err != nil {
			t.Fatal(err)
		}
		b.Events = append(b.Events, e)
	}
	n := 0
	for _, part := range b.Split() {
		if part.Bytes() > audit.MaxBatchBytes || len(part.Events) == 0 {
			t.Errorf("a part of %d bytes, %d events", part.Bytes(), len(part.Events))
		}
		n += len(part.Events)
	}
	if n != 7 {
		t.Errorf("%d events come out of 7", n)
	}
	if got := (audit.Batch{}).Split(); len(got) != 0 {
		t.Errorf("nothing splits into %d batches", len(got))
	}
}
