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

// Members is the members of a mapping by name, aliases followed. Other names and repeated ones are problems, whose File is for the
// caller to set. members is nil where n is no mapping.
func Members(n *yaml.Node, what string, names ...string) (members map[string]*yaml.Node, problems []*Problem) {
	n = Resolve(n)
	fail := func(n *yaml.Node, near, format string, a ...any) {
		problems = append(problems, &Problem{Line: n.Line, Column: n.Column, Text: fmt.Sprintf(format, a...), Nearest: near})
	}
	if n.Kind != yaml.MappingNode {
		fail(n, "", "%s: a mapping is expected", what)
		return nil, problems
	}
	members = make(map[string]*yaml.Node, len(names))
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], Resolve(n.Content[i+1])
		switch {
		case !slices.Contains(names, k.Value):
			fail(k, Nearest(k.Value, names), "unknown field %.60q in %s; one of %s is expected", k.Value, what, strings.Join(names, ", "))
		case members[k.Value] != nil:
			fail(k, "", "field %q stands twice in %s", k.Value, what)
		default:
			members[k.Value] = v
		}
	}
	return members, problems
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
