package falco

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"whodunit/internal/audit"
	"whodunit/internal/rule"
)

// outputRule is a rule with that output.
func outputRule(t testing.TB, output string) (*rule.Rule, []string) {
	t.Helper()
	rules, problems := load(t, map[string]string{"a.yaml": fmt.Sprintf("- {rule: An Output, desc: d, condition: ka.verb=a, output: %q, priority: INFO, source: k8s_audit, tags: [z, k8s]}\n", output)})
	return rules["An Output"], problems
}

func TestOutput(t *testing.T) {
	ev := event(t, podEvent)
	for template, want := range map[string]string{
		"plain":                    "plain",
		"*user=%ka.user.name ":     "user=u",
		"(%ka.user.name/%ka.verb)": "(u/create)",
		"%ka.user.name":            "u",
		"%ka.user.groups.":         "(g1,g2).",
		"%ka.req.role.rules":       "<NA>",
		"a %ka.req.pod.fs_group%ka.req.binding.role b":                     "a 3<NA> b",
		"%ka.req.pod.containers.name[1]":                                   "(b)",
		"%ka.target.namespaces":                                            "ns",
		"%ka.uri.param[x] %jevt.value[/requestObject/spec/volumes/0/name]": "<NA> v0",
		"%jevt.value[/requestObject/spec/volumes/3]":                       `{"name":"v3","flexVolume":{"driver":"fd"}}`,
		"%5ka.user.name|%2ka.verb|":                                        "u    |cr|",
		"%toupper(ka.verb) %len(ka.user.groups) %evt.time %evt.source":     "CREATE 2 13:24:59.897748000 k8s_audit",
		"%evt.time.iso8601 %evt.rawtime %jevt.rawtime":                     "2026-11-21T13:24:59.897748000+0000 1795267499897748000 1795267499897748000",
		"%ka.req.pod.containers.image.repository[0]x":                      "(localhost:5000/r/a)x",
	} {
		r, problems := outputRule(t, template)
		if r == nil {
			t.Errorf("%s: %v", template, problems)
		} else if got := r.Message.Render(ev); got != want {
			t.Errorf("%s: %q, want %q", template, got, want)
		}
	}
	for template, want := range map[string]string{
		"100%": "a field is expected", "% x": "a field is expected", "%ka.nope": "unknown field", "%proc.name": "unknown field", "%ka.uri.param": "needs an argument",
		"%jevt.value[/x": "] is expected", "%tolower(x)": "a field is expected", "%ka.verb[1]": "takes no argument", "%5": "a field is expected",
	} {
		if r, problems := outputRule(t, template); r != nil || len(problems) != 1 || !strings.Contains(problems[0], want) {
			t.Errorf("%s: %v", template, problems)
		}
	}
}

func TestLongOutput(t *testing.T) {
	long := strings.Repeat("é", 20000)
	ev := event(t, `"verb":"`+long+`","user":{"groups":["`+strings.Repeat(`a","`, 5000)+`b"]}`)
	r, problems := outputRule(t, strings.Repeat("%ka.verb", 100)+" %ka.user.groups")
	if r == nil {
		t.Fatal(problems)
	}
	if got := r.Message.Render(ev); len(got) > maxMessageBytes || len(got) < maxMessageBytes-8 || !utf8.ValidString(got) {
		t.Errorf("%d bytes, valid %t", len(got), utf8.ValidString(got))
	}
	r, _ = outputRule(t, "%ka.user.groups")
	if got := r.Message.Render(ev); len(got) > maxListBytes || !strings.HasPrefix(got, "(a,a,") {
		t.Errorf("%d bytes: %.20s", len(got), got)
	}
}

// sidekick is what Falcosidekick takes (falcosecurity/falcosidekick, types.FalcoPayload).
type sidekick struct {
	UUID, Output, Rule, Time, Source, Hostname string
	Priority                                   string
	OutputFields                               map[string]any `json:"output_fields"`
	Tags                                       []string
}

func TestAlert(t *testing.T) {
	ev := event(t, podEvent)
	r, problems := outputRule(t, "x %ka.user.name %ka.user.groups %ka.req.binding.role %len(ka.user.groups) %ka.req.pod.host_ipc %ka.uri.param[<k>]")
	if r == nil {
		t.Fatal(problems)
	}
	got, err := Alert(r, ev, "node-1")
	if err != nil {
		t.Fatal(err)
	}
	again, _ := Alert(r, ev, "node-1")
	var s sidekick
	if err := json.Unmarshal(got, &s); err != nil {
		t.Fatal(err)
	}
	if len(s.UUID) != 36 || string(again) != string(got) {
		t.Errorf("%s\n%s", got, again)
	}
	want := `{"hostname":"node-1","output":"13:24:59.897748000: Informational x u (g1,g2) <NA> 2 true <NA>","output_fields":{"evt.time":1795267499897748000,"ka.req.binding.role":null,` +
		`"ka.req.pod.host_ipc":"true","ka.uri.param[<k>]":null,"ka.user.groups":["g1","g2"],"ka.user.name":"u","len(ka.user.groups)":2},"priority":"Informational","rule":"An Output",` +
		`"source":"k8s_audit","tags":["k8s","z"],"time":"2026-11-21T13:24:59.897748000Z","uuid":"` + s.UUID + `"}`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Error(diff)
	}
	other := event(t, ordinary)
	b, err := Alert(r, other, "")
	if err != nil || strings.Contains(string(b), s.UUID) {
		t.Errorf("two events have one uuid: %v", err)
	}
	if _, err := Alert(&rule.Rule{ID: "x", Format: "sigma"}, ev, ""); err == nil {
		t.Error("a rule of another format is taken")
	}
}

// TestAlerts makes an alert for every match of the published rules in a recorded log.
func TestAlerts(t *testing.T) {
	rules := loadFiles(t, Corrected, "k8s_audit_rules.yaml")
	n := 0
	recorded(t, "edge-1.36.log.zst", func(_ []byte, ev *audit.Event) {
		for _, r := range rules {
			if ok, err := r.Match(ev); err != nil || !ok {
				continue
			}
			b, err := Alert(r, ev, "h")
			var s sidekick
			if err == nil {
				err = json.Unmarshal(b, &s)
			}
			if err != nil || s.Rule != r.Title || !strings.HasSuffix(s.Output, r.Message.Render(ev)) {
				t.Fatalf("%v: %s", err, b)
			}
			n++
		}
	})
	if n == 0 {
		t.Error("nothing matched")
	}
}
