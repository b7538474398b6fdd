// Package falco reads the `k8s_audit` rules of Falco: YAML lists of rules, macros and lists, with Falco's condition language over the
// fields of its k8saudit and json plugins. docs/reference/rules-falco.md specifies what is read and where a known defect is set right.
//
// The facts are those of falcosecurity/libs (filter grammar, engine 0.63), falcosecurity/falco (rule loader) and falcosecurity/plugins
// (k8saudit 0.18, json 0.7).
package falco

import (
	"fmt"

	"go.yaml.in/yaml/v3"

	"whodunit/internal/rule"
)

// Source is the event source whose rules are evaluated; rules of others are kept switched off.
const Source = "k8s_audit"

// The values of Options.Compat.
const (
	Corrected = "corrected" // known defects of the plugin are set right
	Upstream  = "upstream"  // fields give what the plugin gives, defects included
)

// Options of the front end.
type Options struct {
	Compat string // Corrected or Upstream; "": Corrected
}

// Format is the Falco front end; it implements rule.Format. Immutable, safe for concurrent use.
type Format struct{ read reader }

var (
	_ rule.Format = (*Format)(nil)
	_ rule.Loader = (*loader)(nil)
)

// New makes the front end. The error is permanent: Compat is no known word.
func New(o Options) (*Format, error) {
	switch o.Compat {
	case "", Corrected:
		return &Format{}, nil
	case Upstream:
		return &Format{reader{upstream: true}}, nil
	}
	return nil, fmt.Errorf("cannot make falco rules: compat is %.60q; %s or %s is expected", o.Compat, Corrected, Upstream)
}

// Name implements rule.Format.
func (f *Format) Name() string { return "falco" }

// itemKeys are those that say what an item of a rules file is.
var itemKeys = []string{"rule", "macro", "list", "required_engine_version", "required_plugin_versions"}

// Claims implements rule.Format: a list in which some item is a mapping that has the key of a Falco item, or such an item without its list,
// which is an error that this format explains best.
func (f *Format) Claims(doc *yaml.Node) bool {
	doc = rule.Resolve(doc)
	if doc.Kind != yaml.SequenceNode {
		return kindOf(doc) != "" && !hasKey(doc, "id")
	}
	for _, item := range doc.Content {
		if kindOf(rule.Resolve(item)) != "" {
			return true
		}
	}
	return false
}

// kindOf is the key that makes n an item, "" if it is none. Of several the first of itemKeys in Falco's order of asking counts.
func kindOf(n *yaml.Node) string {
	if n.Kind != yaml.MappingNode {
		return ""
	}
	for _, kind := range [...]string{"required_engine_version", "required_plugin_versions", "list", "macro", "rule"} {
		if hasKey(n, kind) {
			return kind
		}
	}
	return ""
}

func hasKey(n *yaml.Node, key string) bool {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return true
		}
	}
	return false
}

// Loader implements rule.Format.
func (f *Format) Loader() rule.Loader { return newLoader(f.read) }
