package rules_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"whodunit/internal/audit"
	"whodunit/internal/detect"
	"whodunit/internal/rule"
	"whodunit/internal/rule/native"
	"whodunit/rules"
)

// load gives all rules, those that are off for want of a list and the silent ones of correlations among them, and the set in force.
func load(t testing.TB) ([]*rule.Rule, *rule.Set) {
	t.Helper()
	f, err := native.New()
	if err != nil {
		t.Fatal(err)
	}
	loaded := rule.Load([]rule.Layer{{Name: "rules", FS: rules.FS}}, f)
	set, problems := loaded.Set()
	problems = append(problems, loaded.Problems...)
	for _, p := range problems {
		t.Error(p)
	}
	if t.Failed() {
		t.FailNow()
	}
	return loaded.Rules, set
}

// TestPack runs every rule's own tests and holds the pack to its own standard.
func TestPack(t *testing.T) {
	all, _ := load(t)
	for _, p := range detect.RunTests(all, detect.ProgramOptions{}) {
		t.Error(p)
	}
	for _, r := range all {
		if r.Silent {
			continue // a part of a correlation
		}
		t.Run(r.ID, func(t *testing.T) {
			if r.File != "rules/"+r.ID+".yaml" {
				t.Errorf("rule %s stands in %s", r.ID, r.File)
			}
			var yes, no int
			for _, c := range r.Tests {
				if c.Match {
					yes++
				} else {
					no++
				}
			}
			if yes < 2 || no < 2 {
				t.Errorf("%d tests that match and %d that do not; want two of each", yes, no)
			}
			if r.Title == r.ID || r.Description == "" || len(r.Tags) == 0 || len(r.References) == 0 || len(r.FalsePositives) == 0 || len(r.GroupBy) == 0 {
				t.Error("title, description, tags, references, false_positives and group_by are wanted")
			}
			for _, tag := range r.Tags {
				if !tagPattern.MatchString(tag) {
					t.Errorf("tag %q", tag)
				}
			}
			if r.Expr == nil && r.Correlation == nil && r.Off == "" && r.ID != "audit-id-reuse" {
				t.Error("no prefilter: the condition would run on every event")
			}
		})
	}
}

// tagPattern is a row of the catalogue of detections, a tactic or technique of MITRE ATT&CK, or a technique of Microsoft's threat matrix
// for Kubernetes.
var tagPattern = regexp.MustCompile(`^(catalogue\.([1-9]|[1-7][0-9]|80)|attack\.(reconnaissance|resource-development|initial-access|execution|persistence|` +
	`privilege-escalation|defense-evasion|credential-access|discovery|lateral-movement|collection|command-and-control|exfiltration|impact)|` +
	`attack\.t[0-9]{4}(\.[0-9]{3})?|ms-ta90[0-4][0-9])$`)

// TestCatalogue wants a rule for every detection that anybody publishes, by its row in the catalogue.
func TestCatalogue(t *testing.T) {
	const rows = 80 // that are written
	all, _ := load(t)
	by := map[string][]string{}
	for _, r := range all {
		for _, tag := range r.Tags {
			by[tag] = append(by[tag], r.ID)
		}
	}
	for n := 1; n <= rows; n++ {
		if tag := fmt.Sprintf("catalogue.%d", n); by[tag] == nil {
			t.Errorf("no rule has the tag %s", tag)
		}
	}
}

// TestLargestObjects hides the one bad part behind as many harmless ones as etcd takes in an object (1.5 MiB): no rule may
// give up before it gets there.
func TestLargestObjects(t *testing.T) {
	_, set := load(t)
	for id, c := range map[string]struct{ ref, body, harmless, bad string }{
		"privileged-pod":         {`"resource":"pods"`, `{"spec":{"containers":[%s]}}`, `{"name":"c%d"}`, `{"securityContext":{"privileged":true}}`},
		"sensitive-hostpath":     {`"resource":"pods"`, `{"spec":{"volumes":[%s]}}`, `{"name":"v%d","hostPath":{"path":"/mnt"}}`, `{"hostPath":{"path":"/etc"}}`},
		"hostpath":               {`"resource":"pods"`, `{"spec":{"volumes":[%s]}}`, `{"name":"v%d","emptyDir":{}}`, `{"hostPath":{"path":"/mnt"}}`},
		"suspicious-image":       {`"resource":"pods"`, `{"spec":{"containers":[%s]}}`, `{"image":"registry.example.test/app:%d"}`, `{"image":"xmrig"}`},
		"dangerous-capabilities": {`"resource":"pods"`, `{"spec":{"containers":[%s]}}`, `{"securityContext":{"capabilities":{"add":["X%d"]}}}`, `{"securityContext":{"capabilities":{"add":["ALL"]}}}`},
		"binding-anonymous":      {`"resource":"rolebindings","apiGroup":"rbac.authorization.k8s.io"`, `{"subjects":[%s]}`, `{"kind":"User","name":"u%d"}`, `{"name":"system:anonymous"}`},
		"configmap-credentials":  {`"resource":"configmaps"`, `{"data":{%s}}`, `"k%d":"some value"`, `"z":"AKIAIOSFODNN7EXAMPLE"`},
		"role-escalation-verbs":  {`"resource":"roles","apiGroup":"rbac.authorization.k8s.io"`, `{"rules":[%s]}`, `{"verbs":["get"],"resources":["r%d"]}`, `{"verbs":["bind"]}`},
		"role-pod-exec":          {`"resource":"roles","apiGroup":"rbac.authorization.k8s.io"`, `{"rules":[%s]}`, `{"apiGroups":[""],"verbs":["get"],"resources":["r%d"]}`, `{"apiGroups":[""],"verbs":["get"],"resources":["pods/exec"]}`},
		"wildcard-role":          {`"resource":"roles","apiGroup":"rbac.authorization.k8s.io"`, `{"rules":[%s]}`, `{"verbs":["get"],"resources":["r%d"]}`, `{"verbs":["*"]}`},
	} {
		var parts strings.Builder
		for i := 0; parts.Len() < 3<<19; i++ {
			fmt.Fprintf(&parts, c.harmless+",", i)
		}
		raw := fmt.Sprintf(`{"auditID":"a","stage":"ResponseComplete","verb":"create","user":{"username":"u"},"objectRef":{%s},"responseStatus":{"code":201},"requestObject":`+c.body+"}", c.ref, parts.String()+c.bad)
		ev, err := audit.Parse("c", []byte(raw))
		if err != nil {
			t.Fatal(err)
		}
		if ok, err := set.Get(id).Match(&ev); !ok {
			t.Errorf("%s misses it: %v", id, err)
		}
	}
}
