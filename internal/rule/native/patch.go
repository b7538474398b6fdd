package native

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"whodunit/internal/audit"
)

// maxPatchOps bounds the operations of a JSON Patch that are looked at; the API server itself accepts 10,000
// (k8s.io/apiserver/pkg/endpoints/handlers/patch.go).
const maxPatchOps = 10_000

// body is a request's object as conditions see it. A JSON Patch, which is logged as an array of operations, becomes the
// partial object that its add and replace operations write, like the merge patch with the same effect: rules would be blind
// to it otherwise. List positions become lists of the written elements alone, in order.
func body(raw []byte) []byte {
	if len(raw) == 0 || raw[0] != '[' {
		return raw
	}
	if b, ok := patchObject(raw); ok {
		return b
	}
	return raw
}

// node is a part of the partial object: a written value, or the children below it.
type node struct {
	value    any // as encoding/json decodes it; only where children is nil
	children map[string]*node
}

func patchObject(raw []byte) ([]byte, bool) {
	root, n := &node{children: map[string]*node{}}, 0
	for el := range audit.Elements(raw) {
		if n++; n > maxPatchOps || el[0] != '{' {
			return nil, false
		}
		var op, path string
		var value []byte
		for k, v := range audit.Members(el) {
			switch k {
			case "op":
				op, _ = audit.Text(v)
			case "path":
				path, _ = audit.Text(v)
			case "value":
				value = v
			}
		}
		if op == "" {
			return nil, false // an array, but no JSON Patch
		}
		if op != "add" && op != "replace" || value == nil {
			continue
		}
		d := json.NewDecoder(bytes.NewReader(value))
		d.UseNumber()
		var v any
		if d.Decode(&v) != nil {
			return nil, false
		}
		if root = root.write(path, v, n); root == nil {
			return nil, false
		}
	}
	b, err := json.Marshal(root.plain())
	return b, err == nil
}

// write puts v at a JSON pointer (RFC 6901). nth tells apart the elements that are appended with "-".
func (n *node) write(pointer string, v any, nth int) *node {
	if pointer == "" {
		return fromPlain(v)
	}
	keys := strings.Split(strings.TrimPrefix(pointer, "/"), "/")
	if len(keys) > 64 { // real paths have about ten; each level is a map
		return nil
	}
	at := n
	for i, k := range keys {
		k = strings.ReplaceAll(strings.ReplaceAll(k, "~1", "/"), "~0", "~")
		if k == "-" {
			k = "-" + strconv.Itoa(nth)
		}
		if at.children == nil {
			*at = *fromPlain(at.value)
			if at.children == nil {
				at.children = map[string]*node{}
			}
		}
		if i == len(keys)-1 {
			at.children[k] = &node{value: v}
			break
		}
		next := at.children[k]
		if next == nil {
			next = &node{children: map[string]*node{}}
			at.children[k] = next
		}
		at = next
	}
	return n
}

// fromPlain makes one level of a decoded value writable.
func fromPlain(v any) *node {
	n := &node{value: v}
	switch v := v.(type) {
	case map[string]any:
		n.children = make(map[string]*node, len(v))
		for k, c := range v {
			n.children[k] = &node{value: c}
		}
	case []any:
		n.children = make(map[string]*node, len(v))
		for i, c := range v {
			n.children[strconv.Itoa(i)] = &node{value: c}
		}
	}
	return n
}

// plain turns n back into what encoding/json writes. Children whose names are all positions make a list.
func (n *node) plain() any {
	if n.children == nil {
		return n.value
	}
	positions := make([]int, 0, len(n.children))
	byPosition := make(map[int]*node, len(n.children))
	object := make(map[string]any, len(n.children))
	for k, c := range n.children {
		object[k] = c.plain()
		if i, ok := position(k); ok {
			positions = append(positions, i)
			byPosition[i] = c
		}
	}
	if len(positions) == 0 || len(byPosition) < len(object) {
		return object
	}
	slices.Sort(positions)
	list := make([]any, len(positions))
	for i, p := range positions {
		list[i] = byPosition[p].plain()
	}
	return list
}

// position reads a list position. Appended elements ("-" and a number) come after all others.
func position(k string) (int, bool) {
	if rest, ok := strings.CutPrefix(k, "-"); ok {
		i, err := strconv.ParseUint(rest, 10, 31)
		return 1<<32 + int(i), err == nil
	}
	i, err := strconv.ParseUint(k, 10, 32)
	return int(i), err == nil
}
