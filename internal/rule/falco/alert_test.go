package falco

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"whodunit/internal/audit"
	"whodunit/internal/finding"
	"whodunit/internal/rule"
)

// document is what the detector makes of a rule that matches ev.
func document(t *testing.T, r *rule.Rule, ev *audit.Event) *audit.Event {
	t.Helper()
	doc, err := r.Finding(ev, ev.Identity()).Event(ev)
	if err != nil {
		t.Fatal(err)
	}
	return &doc
}

func decode(t *testing.T, b []byte, err error) (s sidekick) {
	t.Helper()
	if err == nil {
		err = json.Unmarshal(b, &s)
	}
	if err != nil {
		t.Fatalf("%v: %s", err, b)
	}
	return s
}

// TestFindingAlertIsTheEventsAlert for every match of the published rules in a recorded log.
func TestFindingAlertIsTheEventsAlert(t *testing.T) {
	rules := loadFiles(t, Corrected, "k8s_audit_rules.yaml")
	n := 0
	recorded(t, "edge-1.36.log.zst", func(_ []byte, ev *audit.Event) {
		for _, r := range rules {
			if ok, err := r.Match(ev); err != nil || !ok {
				continue
			}
			b, err := Alert(r, ev, "h")
			want := decode(t, b, err)
			b, err = FindingAlert(document(t, r, ev), "h")
			got := decode(t, b, err)
			for k, v := range want.OutputFields { // those of the body and of annotations are in no finding
				s, text := v.(string)
				if have, ok := got.OutputFields[k]; ok && text && have != s {
					t.Errorf("field %s: %q, want %q", k, have, s)
				}
			}
			want.OutputFields, got.OutputFields = nil, nil
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatal(diff)
			}
			n++
		}
	})
	if n == 0 {
		t.Error("nothing matched")
	}
}

func TestFindingAlert(t *testing.T) {
	ev := event(t, podEvent)
	priorities := map[string]string{}
	for _, f := range []finding.Finding{
		{Format: "native", Severity: finding.Critical}, {Format: "sigma", Severity: finding.High, Priority: "high"}, {Format: "label", Severity: finding.Medium},
		{Format: "native", Severity: finding.Low}, {Format: "parseable", Severity: finding.Info}, {Format: "falco", Severity: finding.Critical, Priority: "Emergency"},
		{Format: "native", Severity: finding.Low, Priority: "emergency"},
	} {
		f.Rule, f.Message, f.Events = "id", "m\x00\xff", []finding.Evidence{rule.Evidence(ev, ev.Identity()), rule.Evidence(ev, audit.Identity{})}
		doc, err := f.Event(ev)
		if err != nil {
			t.Fatal(err)
		}
		b, err := FindingAlert(&doc, "")
		s := decode(t, b, err)
		priorities[f.Format+" "+string(f.Severity)+" "+f.Priority] = s.Priority
		if s.Rule != "id" || s.Time == "" || len(s.OutputFields) == 0 || !strings.HasSuffix(s.Output, s.Priority+" m\x00\ufffd") {
			t.Errorf("%s", b)
		}
		if names := slices.Sorted(maps.Keys(s.OutputFields)); !slices.Contains(names, "ka.user.name") {
			t.Errorf("fields %q", names)
		}
		for k, v := range s.OutputFields {
			if _, text := v.(string); !text && k != "evt.time" || v == "" {
				t.Errorf("field %s: %v", k, v)
			}
		}
	}
	want := map[string]string{"native critical ": "Critical", "sigma high high": "Error", "label medium ": "Warning", "native low ": "Notice", "parseable info ": "Informational",
		"falco critical Emergency": "Emergency", "native low emergency": "Notice"}
	if diff := cmp.Diff(want, priorities); diff != "" {
		t.Error(diff)
	}
	if _, err := FindingAlert(ev, ""); err == nil {
		t.Error("an event that is no finding is taken")
	}
}
