package sigma_test

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"slices"
	"strings"

	"pgregory.net/rapid"
)

var (
	genFields = []string{"Image", "CommandLine", "User", "EventID", "a.b", "a.b.c", "x", "Provider_Name"}
	genWords  = []string{`\`, `\\`, `\*`, `\?`, `*`, `?`, `cmd.exe`, `C:`, ` `, ` -enc`, `/c`, `–x`, `a`, `A`, `b`, `é`, `É`, `-`, `/`, `.`, `%`, `"`,
		`'`, `4624`, `true`, `_`, `\a`, `K`, `ſ`, "\n", `+`, `(`}
	genNames = []string{"selection_a", "selection_b", "filter_main_null", "filter_x", "_hidden", "keywords"}
	genMods  = []string{"", "", "", "", "", "contains", "contains", "contains", "startswith", "startswith", "endswith", "endswith", "endswith",
		"contains|all", "contains|all", "all", "cased", "contains|cased", "neq", "contains|neq", "windash", "windash|contains", "windash|contains|all", "contains|windash",
		"startswith|windash", "endswith|cased|neq", "base64", "base64|contains", "base64offset|contains", "base64offset|contains", "wide|base64offset|contains", "utf16le|base64offset|contains",
		"utf16be|base64offset|contains", "utf16|base64offset|contains", "wide|contains", "utf16be|base64|contains", "re", "re", "re|i", "re|m", "re|s", "re|i|s", "re|neq", "re|all", "cidr", "cidr",
		"cidr|neq", "lt", "lte", "gt", "gte", "gte|neq", "minute", "hour|gte", "day|lt", "week", "month", "year|gt", "exists", "exists", "fieldref", "fieldref|neq",
		"fieldref|contains", "fieldref|startswith", "fieldref|endswith", "fieldref|cased"}
)

// forAudit are the fields of audit events.
var forAudit = []string{"verb", "user.username", "user.groups", "user.extra.a.b", "objectRef.resource", "objectRef.subresource", "objectRef.name",
	"objectRef.namespace", "apiGroup", "objectRef.apiGroup", "responseStatus.code", "responseStatus.reason", "sourceIPs", "userAgent", "requestURI",
	"annotations.authorization.k8s.io/decision", "annotations.authorization.k8s.io/reason", "annotations.x.y", "annotations", "requestObject",
	"requestObject.spec.containers.image", "requestObject.spec.containers.securityContext.privileged", "requestObject.metadata.labels.a.b/c", "hostPath",
	"hostPath.path", "capabilities.add", "capabilities", "requestReceivedTimestamp", "stage", "level", "x", "a.b", "responseObject.kind", "auditID"}

func genText(t *rapid.T) string {
	return strings.Join(rapid.SliceOfN(rapid.SampledFrom(genWords), 0, 4).Draw(t, "words"), "")
}

func genValue(t *rapid.T, fields, mods []string, field bool) any {
	has := func(m ...string) bool {
		return slices.ContainsFunc(mods, func(x string) bool { return slices.Contains(m, x) })
	}
	pick := func(s ...any) any { return rapid.SampledFrom(s).Draw(t, "value") }
	switch {
	case has("re"):
		return pick(`\.exe$`, `^C:\\`, `a.b`, `(?:cmd|A)\.exe`, `[a-b]{1,2}`, `\\`, `^a$`, `4\d+`, `é`, ``, `.*`, `^$`, `\s-enc`, `k`)
	case has("cidr"):
		return pick("10.0.0.0/8", "192.168.1.0/24", "fd00::/8", "10.1.2.3/32", "::ffff:10.0.0.0/104", "::1/128")
	case has("minute", "hour", "day", "week", "month", "year"):
		return pick(0, 1, 3, 30, 52, 2024)
	case has("lt", "lte", "gt", "gte"):
		return pick(0, 1, 403, -5, 4624, 10.5)
	case has("exists"):
		return pick(true, false)
	case has("fieldref"):
		return rapid.SampledFrom(fields).Draw(t, "other")
	case has("base64", "base64offset"):
		return strings.NewReplacer("*", "", "?", "").Replace(genText(t)) + "x"
	}
	if len(mods) == 0 && rapid.IntRange(0, 5).Draw(t, "special") == 0 {
		if field {
			return pick(nil, nil, "", "*", "?*", "**", 4624, 0, true, false)
		}
		return pick(4624, "a b", " -enc ", true)
	}
	s := genText(t)
	if strings.Trim(s, "*") == "" && !field {
		return "a"
	}
	return s
}

func genItem(t *rapid.T, fields []string) (string, any) {
	field := rapid.SampledFrom(fields).Draw(t, "field")
	mod := rapid.SampledFrom(genMods).Draw(t, "modifiers")
	var mods []string
	if mod != "" {
		mods = strings.Split(mod, "|")
	}
	key := strings.Join(append([]string{field}, mods...), "|")
	n := rapid.SampledFrom([]int{1, 1, 1, 2, 3}).Draw(t, "values")
	if slices.Contains(mods, "all") {
		n = max(n, 2)
	}
	if slices.Contains(mods, "exists") || n == 1 {
		return key, genValue(t, fields, mods, true)
	}
	var list []any
	for range n {
		list = append(list, genValue(t, fields, mods, true))
	}
	return key, list
}

func genMap(t *rapid.T, fields []string) map[string]any {
	m := map[string]any{}
	for range rapid.IntRange(1, 3).Draw(t, "items") {
		k, v := genItem(t, fields)
		m[k] = v
	}
	return m
}

func genSearch(t *rapid.T, fields []string) any {
	switch rapid.IntRange(0, 9).Draw(t, "search") {
	case 0: // keywords
		var list []any
		for range rapid.IntRange(1, 3).Draw(t, "keywords") {
			list = append(list, genValue(t, fields, nil, false))
		}
		return list
	case 1:
		mod := rapid.SampledFrom([]string{"|all", "|contains|all", "|re|all", "|windash|all", "|cased|all"}).Draw(t, "keyword modifiers")
		mods := strings.Split(mod, "|")[1:]
		return map[string]any{mod: []any{genValue(t, fields, mods, false), genValue(t, fields, mods, false)}}
	case 2, 3: // a list of maps, or of maps and keywords
		var list []any
		for range rapid.IntRange(1, 3).Draw(t, "maps") {
			list = append(list, genMap(t, fields))
		}
		if rapid.IntRange(0, 4).Draw(t, "mixed") == 0 {
			list = append(list, genValue(t, fields, nil, false))
		}
		return list
	}
	return genMap(t, fields)
}

func genCondition(t *rapid.T, names []string, depth int) string {
	n := rapid.IntRange(0, 9).Draw(t, "condition")
	if depth == 0 {
		n %= 5
	}
	sub := func() string { return genCondition(t, names, depth-1) }
	switch n {
	case 0, 1:
		return rapid.SampledFrom(names).Draw(t, "name")
	case 2:
		return rapid.SampledFrom([]string{"1 of", "all of", "any of"}).Draw(t, "quantifier") + " " + rapid.SampledFrom([]string{"them", "s*", "selection_*", "*"}).Draw(t, "pattern")
	case 3:
		return rapid.SampledFrom([]string{"not 1 of s*", "not all of them", "1 of *_a", "all of *e*c*"}).Draw(t, "pattern")
	case 4:
		return "not " + rapid.SampledFrom(names).Draw(t, "name")
	case 5:
		return "(" + sub() + ")"
	case 6, 7:
		return sub() + " and " + sub()
	case 8:
		return "not (" + sub() + ")"
	}
	return sub() + " or " + sub()
}

func genRule(t *rapid.T, fields []string) map[string]any {
	d := map[string]any{"selection_a": genSearch(t, fields)}
	names := []string{"selection_a"}
	for _, n := range genNames[1:] {
		if rapid.IntRange(0, 3).Draw(t, n) == 0 {
			d[n] = genSearch(t, fields)
			names = append(names, n)
		}
	}
	d["condition"] = any(genCondition(t, names, 2))
	if rapid.IntRange(0, 9).Draw(t, "conditions") == 0 {
		d["condition"] = []any{d["condition"], genCondition(t, names, 1)}
	}
	return d
}

// leaves are the fields and values that a rule names.
func leaves(d any, f func(field string, mods []string, v any)) {
	switch d := d.(type) {
	case map[string]any:
		for _, k := range slices.Sorted(mapKeys(d)) {
			parts := strings.Split(k, "|")
			if list, ok := d[k].([]any); ok {
				for _, v := range list {
					f(parts[0], parts[1:], v)
				}
			} else {
				f(parts[0], parts[1:], d[k])
			}
		}
	case []any:
		for _, v := range d {
			leaves(v, f)
		}
	default:
		f("", nil, d)
	}
}

func mapKeys(m map[string]any) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// near makes a value of an event out of one of the rule.
func near(t *rapid.T, mods []string, v any) any {
	has := func(m ...string) bool {
		return slices.ContainsFunc(mods, func(x string) bool { return slices.Contains(m, x) })
	}
	pick := func(s ...any) any { return rapid.SampledFrom(s).Draw(t, "near") }
	switch {
	case has("re"):
		return pick("C:\\a\\cmd.exe", "cmd.exe", "A.EXE", "a\nb", "4624", "a", "É é", "x -enc", "K", "", "a\ncmd.exe\n", 4624)
	case has("cidr"):
		return pick("10.1.2.3", "11.0.0.1", "192.168.1.255", "fd00::1", "::ffff:10.1.2.3", "::1", "10.1.2.3.4", "", "fe80::1%eth0", 10)
	case has("minute", "hour", "day", "week", "month", "year"):
		return pick("2024-01-03T03:30:00Z", "2024-12-30T00:00:01.5+02:00", "2023-01-01T23:59:59Z", "2020-12-31 01:01:01", "x", 2024, "2024-03-30T03:01:52-11:00")
	case has("lt", "lte", "gt", "gte"):
		return pick(0, 1, 402, 403, 404, "403", "403.0", -5, 4624, 10.5, "x", "", " 403", "4e3", true, "1e1", json.Number("4.03e2"), json.Number("-0"), json.Number("1E1"))
	case has("exists"):
		return pick(nil, "", "x", 0, false)
	}
	s, ok := v.(string)
	if !ok {
		return pick(v, text(v), " "+text(v), text(v)+".0", 4624, "TRUE", nil, "")
	}
	lit := func(out []byte) []byte { return out }
	w := parse(s)
	for i, m := range mods {
		switch m {
		case "wide", "utf16le", "utf16":
			lit = utf16Bytes(binary.LittleEndian)
		case "utf16be":
			lit = utf16Bytes(binary.BigEndian)
		case "base64", "base64offset":
			b := lit(w.runs[0])
			if m == "base64offset" {
				b = slices.Concat([]byte("SWk"[:rapid.IntRange(0, 3).Draw(t, "offset")]), b, []byte("ST"[:rapid.IntRange(0, 2).Draw(t, "behind")]))
			}
			out := base64.StdEncoding.EncodeToString(b)
			_ = i
			return rapid.SampledFrom([]string{"", "powershell "}).Draw(t, "before") + out
		}
	}
	var b strings.Builder
	for i, run := range w.runs {
		b.Write(lit(run))
		if i < len(w.wild) {
			b.WriteString(rapid.SampledFrom([]string{"", "a", "z", "\\", "é", "ab"}).Draw(t, "wild"))
		}
	}
	out := strings.ToValidUTF8(b.String(), "?")
	switch rapid.IntRange(0, 11).Draw(t, "mutation") {
	case 0:
		out = strings.ToUpper(out)
	case 1:
		out = strings.ToLower(out)
	case 2:
		out = strings.ReplaceAll(out, `\`, `\\`)
	case 3:
		out = strings.ReplaceAll(out, `\`, ``)
	case 4:
		out = strings.NewReplacer("-", "/", "/", "—").Replace(out)
	case 5:
		out = strings.ReplaceAll(out, "–", "-")
	case 6:
		out = rapid.SampledFrom(genWords).Draw(t, "prefix") + out
	case 7:
		out += rapid.SampledFrom(genWords).Draw(t, "suffix")
	case 8:
		out = s
	case 9:
		out = "C:\\" + out + " z"
	case 10:
		out = strings.ReplaceAll(out, " ", "  ")
	}
	return out
}

// shape wraps a value as events do: in lists, in an element with attributes, or not at all.
func shape(t *rapid.T, v any) any {
	switch rapid.IntRange(0, 15).Draw(t, "shape") {
	case 0:
		return []any{v}
	case 1:
		return []any{"other", v}
	case 2:
		return []any{v, nil, 7}
	case 3:
		return []any{}
	case 4:
		return nil
	case 5:
		return ""
	case 6:
		return map[string]any{"#attributes": map[string]any{"Qualifiers": 1}, "#text": v}
	case 7:
		return map[string]any{"other": v}
	case 8:
		return []any{[]any{v}, "q"}
	}
	return v
}

// put stores v under a dotted name: as a literal key, along a path, or through lists of objects.
func put(t *rapid.T, m map[string]any, name string, v any) {
	if rapid.IntRange(0, 15).Draw(t, "case") == 0 {
		name = strings.ToLower(name)
	}
	head, rest, dotted := strings.Cut(name, ".")
	if !dotted || rapid.IntRange(0, 2).Draw(t, "literal") == 0 {
		m[name] = v
		return
	}
	switch old := m[head].(type) {
	case map[string]any:
		put(t, old, rest, v)
		return
	case nil:
		inner := map[string]any{}
		put(t, inner, rest, v)
		switch rapid.IntRange(0, 4).Draw(t, "list") {
		case 0:
			m[head] = []any{inner}
		case 1:
			m[head] = []any{map[string]any{"q": 1}, inner, "s", nil}
		default:
			m[head] = inner
		}
	}
}

// genFlat is a value for most of the fields that the rule names.
func genFlat(t *rapid.T, d map[string]any, fields []string) map[string]any {
	flat := map[string]any{}
	for _, name := range slices.Sorted(mapKeys(d)) {
		if name == "condition" {
			continue
		}
		leaves(d[name], func(field string, mods []string, v any) {
			if field == "" {
				field = rapid.SampledFrom(fields).Draw(t, "keyword field")
			}
			if slices.Contains(mods, "fieldref") {
				if o, ok := flat[v.(string)]; ok && !isContainer(o) && o != nil {
					v = text(o)
				}
				mods = nil
			}
			if rapid.IntRange(0, 9).Draw(t, "missing") == 0 {
				return
			}
			if _, ok := flat[field]; ok && rapid.Bool().Draw(t, "keep") {
				return
			}
			flat[field] = shape(t, near(t, mods, v))
		})
	}
	return flat
}

func genEvent(t *rapid.T, d map[string]any) map[string]any {
	flat := genFlat(t, d, genFields)
	data, system := map[string]any{}, map[string]any{}
	place := rapid.SampledFrom([]string{"", "", "", "evtx", "evtx", "list", "user", "EventData", "winlog", "winlog", "data"}).Draw(t, "place")
	var list []any
	for _, name := range slices.Sorted(mapKeys(flat)) {
		v := flat[name]
		switch {
		case name == "Provider_Name" && (place == "evtx" || place == "list"):
			system["Provider"] = map[string]any{"#attributes": map[string]any{"Name": v}}
		case name == "EventID" && place != "" && place != "winlog" && place != "data":
			system[name] = v
		case place == "list" && (v == nil || !isContainer(v)):
			e := map[string]any{"#attributes": map[string]any{"Name": name}, "#text": v}
			list = append(list, e)
		default:
			put(t, data, name, v)
		}
	}
	switch place {
	case "evtx":
		return map[string]any{"Event": map[string]any{"System": system, "EventData": data}}
	case "list":
		return map[string]any{"Event": map[string]any{"System": system, "EventData": map[string]any{"Data": list}}}
	case "user":
		return map[string]any{"Event": map[string]any{"System": system, "UserData": map[string]any{"EventXML": data}}}
	case "EventData":
		return map[string]any{"System": system, "EventData": data}
	case "winlog":
		return map[string]any{"winlog": map[string]any{"event_data": data}}
	case "data":
		return map[string]any{"data": data}
	}
	return data
}

// genArrays is a rule of sigma-version 3.
func genArrays(t *rapid.T, fields []string) map[string]any {
	s := map[string]any{}
	quant := rapid.SampledFrom([]string{"any", "all", "all_or_empty", "none"})
	path := rapid.SampledFrom([]string{"a", "a.b", "x", "requestObject.spec.containers"})
	for range rapid.IntRange(1, 2).Draw(t, "arrays") {
		p := path.Draw(t, "path")
		switch rapid.IntRange(0, 4).Draw(t, "form") {
		case 0:
			s[p+"["+quant.Draw(t, "quant")+"]"] = rapid.SampledFrom([]any{"a", 1, "*b", []any{"a", "b"}, nil}).Draw(t, "value")
		case 1:
			s[p+"["+quant.Draw(t, "quant")+"].b"] = rapid.SampledFrom([]any{"a", 1, nil}).Draw(t, "value")
		case 2:
			s[p+"["+quant.Draw(t, "quant")+"]"] = map[string]any{"b": rapid.SampledFrom([]any{"a", 1, nil}).Draw(t, "value"), "c|exists": rapid.Bool().Draw(t, "exists")}
		case 3:
			s[p+"["+quant.Draw(t, "quant")+"]"] = map[string]any{"condition": "e and not g", "e": map[string]any{"b|contains": "a"}, "g": map[string]any{"c": "a"}}
		case 4:
			s[p+rapid.SampledFrom([]string{"[0]", "[-1]", "[1].b", "[0].b[0]", "[-2][0]", "[0].b[any]"}).Draw(t, "index")] = rapid.SampledFrom([]any{"a", 1, nil}).Draw(t, "value")
		}
	}
	return map[string]any{"s": s, "condition": "s"}
}

func genTree(t *rapid.T, depth int) any {
	leaf := rapid.SampledFrom([]any{"a", "b", 1, "ab", nil, ""})
	n := rapid.IntRange(0, 5).Draw(t, "tree")
	if depth == 0 {
		n = 0
	}
	switch n {
	case 1, 2:
		list := []any{}
		for range rapid.IntRange(0, 3).Draw(t, "elements") {
			list = append(list, genTree(t, depth-1))
		}
		return list
	case 3, 4:
		m := map[string]any{}
		for _, k := range []string{"b", "c"} {
			if rapid.Bool().Draw(t, k) {
				m[k] = genTree(t, depth-1)
			}
		}
		return m
	}
	return leaf.Draw(t, "leaf")
}

func genArrayEvent(t *rapid.T, _ map[string]any) map[string]any {
	return map[string]any{"kind": "Event", "apiVersion": "audit.k8s.io/v1", "auditID": "1-2", "stage": "ResponseComplete", "level": "RequestResponse",
		"a": genTree(t, 4), "x": genTree(t, 3), "requestObject": map[string]any{"spec": map[string]any{"containers": genTree(t, 4)}}}
}
