package sigma_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"
	"unicode/utf8"

	"pgregory.net/rapid"

	"whodunit/internal/audit"
	"whodunit/internal/match"
	"whodunit/internal/rule"
	"whodunit/internal/rule/sigma"
)

// bench is rules with an oracle for each, in one engine.
type bench struct {
	generic bool
	oracles []*oracle
	rules   []*rule.Rule
	matcher *match.Matcher
}

// newBench loads the documents. An error is that one of the oracle and the package refuses what the other takes; both do where nil is
// returned.
func newBench(generic bool, docs []string) (*bench, error) {
	b := &bench{generic: generic}
	var exprs []match.Expr
	for _, y := range docs {
		o, wrong := newOracle(y)
		out := rule.Parse("r.yml", []byte(y), sigma.New(sigma.Options{Generic: generic}))
		refused := len(out.Problems) > 0 || len(out.Rules) != 1 || out.Rules[0].Off != ""
		if refused != (wrong != nil) {
			return nil, fmt.Errorf("the oracle says %v, the package %v: %s", wrong, out.Problems, y)
		}
		if refused {
			return nil, nil
		}
		b.oracles, b.rules = append(b.oracles, o), append(b.rules, out.Rules[0])
		exprs = append(exprs, out.Rules[0].Whole())
	}
	engine, err := match.NewEngine(exprs, match.EngineOptions{Generic: generic})
	if err != nil {
		return nil, err
	}
	b.matcher = engine.Matcher()
	return b, nil
}

// judge is what all say of raw; an error is that they do not say the same.
func (b *bench) judge(raw []byte) (oracle []bool, err error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var event any
	if err := dec.Decode(&event); err != nil {
		return nil, err
	}
	parse := audit.Parse
	if b.generic {
		parse = audit.Generic
	} else {
		event = auditEvent(event.(map[string]any))
	}
	ev, err := parse("c", raw)
	if err != nil {
		return nil, err
	}
	engine, err := b.matcher.MatchRaw("c", raw, nil)
	if err != nil {
		return nil, err
	}
	for i, o := range b.oracles {
		want, err := o.match(event)
		if err != nil {
			return nil, err
		}
		got, err := b.rules[i].Match(&ev)
		if err != nil {
			return nil, err
		}
		if fast := slices.Contains(engine, i); got != want || fast != want {
			return nil, fmt.Errorf("rule %d: oracle %t, interpreter %t, engine %t", i, want, got, fast)
		}
		oracle = append(oracle, want)
	}
	return oracle, nil
}

var oracleStats = flag.Bool("oracle-stats", false, "print how many rules of the oracle's test match")

func TestOracle(t *testing.T) {
	t.Run("generic", func(t *testing.T) {
		checkOracle(t, true, genFields, genRule, genEvent)
	})
	t.Run("audit", func(t *testing.T) {
		checkOracle(t, false, forAudit, genRule, genAudit)
	})
	t.Run("generic arrays", func(t *testing.T) {
		checkOracle(t, true, nil, genArrays, genArrayEvent)
	})
	t.Run("audit arrays", func(t *testing.T) {
		checkOracle(t, false, nil, genArrays, genArrayEvent)
	})
}

func checkOracle(t *testing.T, generic bool, fields []string, rules func(*rapid.T, []string) map[string]any,
	gen func(*rapid.T, map[string]any) map[string]any) {
	checks, hits, refused := 0, 0, 0
	rapid.Check(t, func(t *rapid.T) {
		var detections []map[string]any
		var docs []string
		for i := range rapid.SampledFrom([]int{1, 1, 3, 6}).Draw(t, "rules") {
			d := rules(t, fields)
			version := 2
			if fields == nil {
				version = 3
			}
			doc, err := json.Marshal(map[string]any{"title": fmt.Sprint("r", i), "sigma-version": version, "logsource": map[string]any{"product": "kubernetes", "service": "audit"}, "detection": d})
			if err != nil {
				t.Fatal(err)
			}
			detections, docs = append(detections, d), append(docs, string(doc))
		}
		b, err := newBench(generic, docs)
		if err != nil {
			t.Fatal(err)
		}
		if b == nil {
			refused++
			return
		}
		for range 2 {
			for _, d := range detections {
				raw := spell(t, nil, gen(t, d))
				for range 2 { // the second time from what the engine remembers
					verdicts, err := b.judge(raw)
					if err != nil {
						t.Fatalf("%v\n%s\n%s", err, strings.Join(docs, "\n"), raw)
					}
					for _, v := range verdicts {
						checks++
						if v {
							hits++
						}
					}
				}
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

// spell writes v as JSON, with the freedoms that writers of JSON have.
func spell(t *rapid.T, b []byte, v any) []byte {
	space := func() { b = append(b, rapid.SampledFrom([]string{"", "", "", "", " ", "\n\t"}).Draw(t, "space")...) }
	switch v := v.(type) {
	case map[string]any:
		b = append(b, '{')
		for i, k := range slices.Sorted(mapKeys(v)) {
			if i > 0 {
				b = append(b, ',')
			}
			space()
			b = spellText(t, b, k, false)
			space()
			b = append(b, ':')
			space()
			if k == "kind" || k == "apiVersion" || k == "stage" || k == "level" {
				b = spellText(t, b, text(v[k]), false) // without which it is no audit event
			} else {
				b = spell(t, b, v[k])
			}
			space()
		}
		return append(b, '}')
	case []string:
		list := make([]any, len(v))
		for i, s := range v {
			list[i] = s
		}
		return spell(t, b, list)
	case []any:
		b = append(b, '[')
		for i, e := range v {
			if i > 0 {
				b = append(b, ',')
			}
			space()
			b = spell(t, b, e)
			space()
		}
		return append(b, ']')
	case string:
		return spellText(t, b, v, true)
	case nil:
		return append(b, "null"...)
	}
	return append(b, text(v)...)
}

func spellText(t *rapid.T, b []byte, s string, broken bool) []byte {
	style := rapid.IntRange(0, 9).Draw(t, "style")
	b = append(b, '"')
	for i, r := range s {
		switch {
		case style == 0 || style == 1 && i == 0 || style == 2 && r > 0x7f || r < ' ':
			for _, u := range utf16.Encode([]rune{r}) {
				b = fmt.Appendf(b, "\\u%04x", u)
			}
		case r == '"' || r == '\\' || r == '/' && style == 3:
			b = append(b, '\\')
			b = utf8.AppendRune(b, r)
		default:
			b = utf8.AppendRune(b, r)
		}
	}
	if broken && style == 4 && rapid.IntRange(0, 9).Draw(t, "broken") == 0 {
		b = append(b, `\ud800`...)
	}
	return append(b, '"')
}
