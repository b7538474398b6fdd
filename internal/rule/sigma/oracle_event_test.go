package sigma_test

import (
	"cmp"
	"maps"
	"regexp"
	"slices"
	"strings"
)

func isContainer(v any) bool {
	switch v.(type) {
	case map[string]any, []any:
		return true
	}
	return false
}

// anyLeaf tries every element of lists; with deep, everything in an event. An element of XML with attributes is its text.
func anyLeaf(v any, deep bool, f func(any) bool) bool {
	switch v := v.(type) {
	case []any:
		return slices.ContainsFunc(v, func(e any) bool { return anyLeaf(e, deep, f) })
	case several:
		return slices.ContainsFunc(v, func(e any) bool { return anyLeaf(e, deep, f) })
	case inside:
		return slices.ContainsFunc(v, func(e any) bool { return anyLeaf(e, true, f) })
	case map[string]any:
		if deep {
			return slices.ContainsFunc(slices.Collect(maps.Values(v)), func(e any) bool { return anyLeaf(e, deep, f) })
		}
		if t, ok := element(v); ok {
			return anyLeaf(t, deep, f)
		}
		return f(v)
	}
	return f(v)
}

// allNull is true of null, of an element whose text is null, and of what a path through lists gives if it is all null.
func allNull(v any) bool {
	if s, ok := v.(inside); ok {
		v = several(s)
	}
	if s, ok := v.(several); ok {
		return !slices.ContainsFunc(s, func(e any) bool { return !allNull(e) })
	}
	if m, ok := v.(map[string]any); ok {
		if t, ok := element(m); ok {
			return t == nil
		}
	}
	return v == nil
}

// element is the text of an element of XML: what has a #text, or attributes and nothing else.
func element(m map[string]any) (any, bool) {
	t, ok := m["#text"]
	_, attributes := m["#attributes"]
	return t, ok || attributes && len(m) == 1
}

// several is what a path gives that goes through a list.
type several []any

// at follows a dotted path: the longest literal name wins; a list is every element of it.
func at(v any, path string, fold bool) (any, bool) {
	if path == "" {
		return v, true
	}
	switch v := v.(type) {
	case []any:
		var out several
		for _, e := range v {
			if got, ok := at(e, path, fold); ok {
				out = append(out, got)
			}
		}
		return out, len(out) > 0
	case map[string]any:
		best := ""
		for k := range v {
			if len(k) > len(path) || len(k) < len(best) || k == "" {
				continue
			}
			head := path[:len(k)]
			if (head == k || fold && strings.EqualFold(head, k)) && (len(k) == len(path) || path[len(k)] == '.') {
				best = k
			}
		}
		if best == "" {
			return nil, false
		}
		return at(v[best], strings.TrimPrefix(path[len(best):], "."), fold)
	}
	return nil, false
}

// lookup is the order of places of docs/reference/rules-sigma.md, first with case, then without.
func lookup(event any, field string) (any, bool) {
	if m, ok := event.(interface{ lookup(string) (any, bool) }); ok {
		return m.lookup(field)
	}
	for _, fold := range []bool{false, true} {
		for _, place := range []string{"", "Event.EventData", "Event.System", "Event.UserData", "EventData", "System", "winlog.event_data",
			"winlog", "data"} {
			node, ok := at(event, place, fold && false)
			if !ok {
				continue
			}
			if place == "Event.UserData" {
				m, _ := node.(map[string]any)
				for _, k := range slices.Sorted(maps.Keys(m)) {
					if got, ok := at(m[k], field, fold); ok {
						return got, true
					}
				}
				continue
			}
			if got, ok := at(node, field, fold); ok {
				return got, true
			}
			if got, ok := named(node, field, fold); ok && strings.HasSuffix(place, "EventData") {
				return got, true
			}
		}
		for _, place := range []string{"Event.System", "System"} {
			element, attribute, ok := strings.Cut(field, "_")
			node, _ := at(event, place, false)
			if ok {
				if got, ok := at(node, element+".#attributes."+attribute, fold); ok {
					return got, true
				}
			}
		}
	}
	return nil, false
}

// named finds an element <Data Name="field"> in a list of them.
func named(node any, field string, fold bool) (any, bool) {
	list, _ := at(node, "Data", false)
	elements, _ := list.([]any)
	for _, e := range elements {
		name, ok := at(e, "#attributes.Name", false)
		if s, _ := name.(string); ok && (s == field || fold && strings.EqualFold(s, field)) {
			return e.(map[string]any)["#text"], true
		}
	}
	return nil, false
}

// auditEvent has its fields at their paths, but for the names that the published rules for Kubernetes have for some.
type auditEvent map[string]any

// inside are values of which all that stands in them counts.
type inside []any

func (m auditEvent) lookup(field string) (any, bool) {
	head, rest, _ := strings.Cut(field, ".")
	switch head {
	case "apiGroup":
		return at(map[string]any(m), "objectRef.apiGroup", false)
	case "hostPath", "capabilities":
		var out inside
		for _, v := range anywhere(m["requestObject"], head) {
			if got, ok := at(v, rest, false); ok {
				out = append(out, got)
			}
		}
		return out, len(out) > 0
	}
	return at(map[string]any(m), field, false)
}

func anywhere(v any, name string) (out []any) {
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			out = append(out, anywhere(e, name)...)
		}
	case map[string]any:
		for k, e := range v {
			if k == name {
				out = append(out, e)
			} else {
				out = append(out, anywhere(e, name)...)
			}
		}
	}
	return out
}

// member is an element of an array, which a block of sigma-version 3 is asked of; `.` is the element itself.
type member struct{ value any }

func (m member) lookup(field string) (any, bool) {
	return at(m.value, strings.TrimPrefix(field, "."), false)
}

var selectorRE = regexp.MustCompile(`^([^\[\]]*)\[([a-z_]+|-?\d+)\]\.?(.*)$`)

// array is an item whose field has brackets (Sigma Enhancement Proposal 212): nodes are where the path before them led to.
func array(nodes []any, quant, rest string, mods []string, v any) (bool, error) {
	var members []any
	for _, n := range nodes {
		if list, ok := n.([]any); ok {
			members = append(members, list...)
		} else if n != nil {
			members = append(members, n)
		}
	}
	body := func(m any) (bool, error) {
		block, ok := v.(map[string]any)
		if !ok || rest != "" {
			return item(strings.Join(append([]string{cmp.Or(rest, ".")}, mods...), "|"), v, member{m})
		}
		if _, ok := block["condition"]; ok {
			block = maps.Clone(block)
			o := &oracle{conditions: []string{block["condition"].(string)}, detections: block}
			delete(block, "condition")
			return o.match(member{m})
		}
		return search(block, member{m})
	}
	hits := 0
	for _, m := range members {
		t, err := body(m)
		if err != nil {
			return false, err
		}
		if t {
			hits++
		}
	}
	switch quant {
	case "any":
		return hits > 0, nil
	case "none":
		return hits == 0, nil
	case "all":
		return hits > 0 && hits == len(members), nil
	}
	return hits == len(members), nil
}

// alternatives are the places that a path led to.
func alternatives(v any, found bool) []any {
	if s, ok := v.(several); ok {
		var out []any
		for _, e := range s {
			out = append(out, alternatives(e, true)...)
		}
		return out
	}
	if !found {
		return nil
	}
	return []any{v}
}

func pickIndex(nodes []any, k int) (out []any) {
	for _, n := range nodes {
		list, _ := n.([]any)
		at := k
		if at < 0 {
			at += len(list)
		}
		if at >= 0 && at < len(list) {
			out = append(out, list[at])
		}
	}
	return out
}
