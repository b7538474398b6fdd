package rule

import (
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Resolve follows aliases.
func Resolve(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

// Member is one member of a mapping, aliases followed; nil where there is none, or n is no mapping.
func Member(n *yaml.Node, key string) *yaml.Node {
	n = Resolve(n)
	for i := 0; n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return Resolve(n.Content[i+1])
		}
	}
	return nil
}

// Reporter gathers what is wrong with one part of a document. It is for one goroutine.
type Reporter struct {
	File     string // of the problems
	Rule     string // of the problems, once it is known
	Problems []*Problem
}

// Fail adds a problem at n; near is the nearest known name, "" if none is.
func (r *Reporter) Fail(n *yaml.Node, near, format string, a ...any) {
	r.Problems = append(r.Problems, &Problem{File: r.File, Line: n.Line, Column: n.Column, Rule: r.Rule, Text: fmt.Sprintf(format, a...), Nearest: near})
}

// Members is the members of a mapping by name, aliases followed; nil where n is none. Other names and repeated ones are problems.
func (r *Reporter) Members(n *yaml.Node, what string, names ...string) map[string]*yaml.Node {
	n = Resolve(n)
	if n.Kind != yaml.MappingNode {
		r.Fail(n, "", "%s: a mapping is expected", what)
		return nil
	}
	members := make(map[string]*yaml.Node, len(names))
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], Resolve(n.Content[i+1])
		switch {
		case !slices.Contains(names, k.Value):
			r.Fail(k, Nearest(k.Value, names), "unknown field %.60q in %s; one of %s is expected", k.Value, what, strings.Join(names, ", "))
		case members[k.Value] != nil:
			r.Fail(k, "", "field %q stands twice in %s", k.Value, what)
		default:
			members[k.Value] = v
		}
	}
	return members
}

// Slug makes the part of an id of a name, which may be any text: lower case letters and digits, parted by dashes, at most 80 bytes.
// It is "rule" where the name has none.
func Slug(name string) string {
	var b strings.Builder
	dash := false
	for _, c := range strings.ToLower(name) {
		if c >= 'a' && c <= 'z' || c >= '0' && c <= '9' {
			if dash && b.Len() > 0 {
				b.WriteByte('-')
			}
			dash = false
			b.WriteRune(c)
		} else {
			dash = true
		}
		if b.Len() >= 80 {
			break
		}
	}
	if b.Len() == 0 {
		return "rule"
	}
	return b.String()
}
