package native

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"whodunit/internal/rule"
)

// field is one key that a mapping may have and what takes its value.
type field struct {
	name string
	set  func(n *yaml.Node)
}

func resolve(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

// fields reads a mapping strictly: unknown and repeated keys are problems, and so is a value of the wrong kind.
func (l *loader) fields(n *yaml.Node, what string, known []field) {
	n = resolve(n)
	if n.Kind != yaml.MappingNode {
		l.fail(n, "%s: a mapping is expected, not %s", what, kind(n))
		return
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := resolve(n.Content[i]), resolve(n.Content[i+1])
		at := slices.IndexFunc(known, func(f field) bool { return f.name == k.Value })
		switch {
		case k.Kind != yaml.ScalarNode || at < 0:
			names := make([]string, len(known))
			for j, f := range known {
				names[j] = f.name
			}
			l.failNear(k, rule.Nearest(k.Value, names), "unknown field %.60q in %s; one of %s is expected", k.Value, what, strings.Join(names, ", "))
		case seen[k.Value]:
			l.fail(k, "field %q stands twice in %s", k.Value, what)
		default:
			seen[k.Value] = true
			known[at].set(v)
		}
	}
}

func kind(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	}
	return "the scalar " + strconv.Quote(n.Value)
}

func (l *loader) text(n *yaml.Node) (string, bool) {
	n = resolve(n)
	if n.Kind != yaml.ScalarNode || n.Tag == "!!null" {
		l.fail(n, "a text is expected, not %s", kind(n))
		return "", false
	}
	return n.Value, true
}

func (l *loader) boolean(n *yaml.Node) bool {
	n = resolve(n)
	if n.Kind != yaml.ScalarNode || n.Tag != "!!bool" {
		l.fail(n, "true or false is expected, not %s", kind(n))
		return true
	}
	return strings.EqualFold(n.Value, "true")
}

func (l *loader) list(n *yaml.Node) []*yaml.Node {
	n = resolve(n)
	if n.Kind != yaml.SequenceNode {
		l.fail(n, "a list is expected, not %s", kind(n))
		return nil
	}
	return n.Content
}

func (l *loader) texts(n *yaml.Node) []string {
	var out []string
	for _, c := range l.list(n) {
		if s, ok := l.text(c); ok {
			out = append(out, s)
		}
	}
	return out
}

// oneOfWords reads one of the known words, in any case. It gives "" and a problem for others.
func oneOfWords[T ~string](l *loader, n *yaml.Node, known []T) T {
	s, ok := l.text(n)
	if !ok {
		return ""
	}
	words := make([]string, len(known))
	for i, k := range known {
		if strings.EqualFold(string(k), s) {
			return k
		}
		words[i] = string(k)
	}
	l.failNear(resolve(n), rule.Nearest(s, words), "%.60q: one of %s is expected", s, strings.Join(words, ", "))
	return ""
}

// readParams reads constants: texts, numbers, booleans, and lists of texts. Their names have the prefix "params.".
func (l *loader) readParams(n *yaml.Node) map[string]ref.Val {
	n = resolve(n)
	if n.Kind != yaml.MappingNode {
		l.fail(n, "params: a mapping is expected, not %s", kind(n))
		return nil
	}
	params := map[string]ref.Val{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := resolve(n.Content[i]), resolve(n.Content[i+1])
		name := paramPrefix + k.Value
		switch {
		case !isIdentifier(k.Value):
			l.fail(k, "params: the name %.60q: letters, digits and _ are expected", k.Value)
		case params[name] != nil:
			l.fail(k, "params: %q stands twice", k.Value)
		default:
			if p := l.param(v); p != nil {
				params[name] = p
			}
		}
	}
	return params
}

func isIdentifier(s string) bool {
	for i, c := range s {
		if c != '_' && (c|0x20 < 'a' || c|0x20 > 'z') && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != "" && s != "in" && s != "true" && s != "false" && s != "null"
}

func (l *loader) param(v *yaml.Node) ref.Val {
	if v.Kind == yaml.SequenceNode {
		return texts(l.texts(v))
	}
	switch v.Tag {
	case "!!str":
		return types.String(v.Value)
	case "!!bool":
		return types.Bool(strings.EqualFold(v.Value, "true"))
	case "!!int":
		if i, err := strconv.ParseInt(v.Value, 0, 64); err == nil {
			return types.Int(i)
		}
	case "!!float":
		if f, err := strconv.ParseFloat(v.Value, 64); err == nil {
			return types.Double(f)
		}
	}
	l.fail(v, "params: a text, a number, true, false or a list of texts is expected, not %s", kind(v))
	return nil
}

// plain turns YAML into what encoding/json writes. Numbers keep their text; times stay texts.
func plain(n *yaml.Node) (any, error) {
	n = resolve(n)
	switch n.Kind {
	case yaml.MappingNode:
		m := make(map[string]any, len(n.Content)/2)
		for i := 0; i+1 < len(n.Content); i += 2 {
			k := resolve(n.Content[i])
			if _, twice := m[k.Value]; k.Kind != yaml.ScalarNode || twice || k.Tag == "!!merge" {
				return nil, fmt.Errorf("line %d: key %.60q is repeated or no plain text", k.Line, k.Value)
			}
			v, err := plain(n.Content[i+1])
			if err != nil {
				return nil, err
			}
			m[k.Value] = v
		}
		return m, nil
	case yaml.SequenceNode:
		l := make([]any, len(n.Content))
		for i, c := range n.Content {
			v, err := plain(c)
			if err != nil {
				return nil, err
			}
			l[i] = v
		}
		return l, nil
	}
	switch n.Tag {
	case "!!null":
		return nil, nil
	case "!!bool":
		return strings.EqualFold(n.Value, "true"), nil
	case "!!int", "!!float":
		if num := json.Number(n.Value); json.Valid([]byte(num)) {
			return num, nil
		}
	}
	return n.Value, nil
}
