package sigma_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"whodunit/internal/audit"
	"whodunit/internal/match"
	"whodunit/internal/rule"
	"whodunit/internal/rule/sigma"
)

// verdicts are what the oracle, the interpreter and the engine say; refused means that the package does not load the rule.
type verdicts struct {
	oracle, rule, engine bool
	refused, wrong       error
}

func judge(t interface{ Fatal(...any) }, generic bool, y string, raw []byte) (v verdicts) {
	o, err := newOracle(y)
	v.wrong = err
	out := rule.Parse("r.yml", []byte(y), sigma.New(sigma.Options{Generic: generic}))
	if len(out.Problems) > 0 {
		v.refused = out.Problems[0]
	}
	if len(out.Rules) != 1 || out.Rules[0].Off != "" || v.wrong != nil {
		if v.refused == nil && (len(out.Rules) != 1 || out.Rules[0].Off != "") {
			v.refused = fmt.Errorf("%d rules", len(out.Rules))
		}
		return v
	}
	dec := json.NewDecoder(strings.NewReader(string(raw)))
	dec.UseNumber()
	var event any
	if err := dec.Decode(&event); err != nil {
		t.Fatal(err)
	}
	r := out.Rules[0]
	parse := audit.Parse
	if generic {
		parse = audit.Generic
	} else {
		event = auditEvent(event.(map[string]any))
	}
	ev, err := parse("c", raw)
	if err != nil {
		t.Fatal(err, string(raw))
	}
	if v.oracle, err = o.match(event); err != nil {
		t.Fatal(err)
	}
	if v.rule, err = r.Match(&ev); err != nil {
		t.Fatal(err)
	}
	engine, err := match.NewEngine([]match.Expr{r.Whole()}, match.EngineOptions{Generic: generic})
	if err != nil {
		t.Fatal(err)
	}
	m := engine.Matcher()
	for range 2 { // the second time from what it remembers
		hits, err := m.MatchRaw("c", raw, nil)
		if err != nil {
			t.Fatal(err)
		}
		v.engine = len(hits) == 1
		if v.engine != v.rule {
			break
		}
	}
	return v
}

var oracleStats = flag.Bool("oracle-stats", false, "print how many rules of the oracle's test match")

func TestOracle(t *testing.T) {
	t.Run("generic", func(t *testing.T) {
		checkOracle(t, true, genFields, genEvent)
	})
	t.Run("audit", func(t *testing.T) {
		checkOracle(t, false, forAudit, genAudit)
	})
}

func checkOracle(t *testing.T, generic bool, fields []string, gen func(*rapid.T, map[string]any) map[string]any) {
	checks, hits, refused := 0, 0, 0
	rapid.Check(t, func(t *rapid.T) {
		d := genRule(t, fields)
		b, err := json.Marshal(map[string]any{"title": "t", "logsource": map[string]any{"product": "kubernetes", "service": "audit"}, "detection": d})
		if err != nil {
			t.Fatal(err)
		}
		for range 4 {
			raw, err := json.Marshal(gen(t, d))
			if err != nil {
				t.Fatal(err)
			}
			v := judge(t, generic, string(b), raw)
			checks++
			if (v.wrong != nil) != (v.refused != nil) {
				t.Fatalf("refused: %v, wrong: %v\n%s", v.refused, v.wrong, b)
			}
			if v.refused != nil {
				refused++
				return
			}
			if v.oracle {
				hits++
			}
			if v.oracle != v.rule || v.oracle != v.engine {
				t.Fatalf("oracle %t, rule %t, engine %t\n%s\n%s", v.oracle, v.rule, v.engine, b, raw)
			}
		}
	})
	if *oracleStats {
		t.Logf("%d checks, %d matches, %d rules refused", checks, hits, refused)
	}
}

// genAudit is an audit event; what has a type there has that type.
func genAudit(t *rapid.T, d map[string]any) map[string]any {
	flat := genFlat(t, d, forAudit)
	ev := map[string]any{"kind": "Event", "apiVersion": "audit.k8s.io/v1", "auditID": "1-2", "stage": "ResponseComplete", "level": "RequestResponse"}
	for _, name := range slices.Sorted(mapKeys(flat)) {
		v := flat[name]
		if m, ok := v.(map[string]any); ok && m["#attributes"] != nil {
			v = m["#text"] // only events of Windows have such
		}
		m, key := ev, name
		head, rest, _ := strings.Cut(name, ".")
		if rest != "" && head != "a" && head != "hostPath" && head != "capabilities" {
			var ok bool
			if m, ok = ev[head].(map[string]any); !ok {
				m = map[string]any{}
				ev[head] = m
			}
			key = rest
		}
		switch {
		case name == "stage" || name == "level" || name == "auditID" || name == "apiGroup":
		case name == "responseStatus.code":
			m[key] = rapid.SampledFrom([]int{200, 201, 403, 404, 1}).Draw(t, "code")
		case name == "user.groups" || name == "sourceIPs":
			list, ok := v.([]any)
			if !ok {
				list = []any{v}
			}
			out := []string{}
			for _, x := range list {
				out = append(out, text(x))
			}
			m[key] = out
		case head == "requestObject" || head == "responseObject" || head == "hostPath" || head == "capabilities" || head == "a" || head == "x" || name == "annotations":
			if head == "hostPath" || head == "capabilities" {
				if m, _ = ev["requestObject"].(map[string]any); m == nil {
					m = map[string]any{}
					ev["requestObject"] = m
				}
				key = rapid.SampledFrom([]string{"", "spec.", "spec.volumes."}).Draw(t, "depth") + name
			}
			put(t, m, key, v)
		default: // texts of the header
			if v == nil || isContainer(v) {
				v = ""
			}
			m[key] = text(v)
		}
	}
	return ev
}
