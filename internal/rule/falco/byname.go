package falco

import (
	"strings"

	"whodunit/internal/match"
)

// The prefixes of the names of computed fields, by how they are read.
const (
	fieldPrefix    = "falco:"
	upstreamPrefix = "falco-upstream:"
)

// Field gives the computed field of that name, as it stands in the rules of this format: `falco:ka.req.pod.containers.image`. It is nil for
// names of other fields, and for those that are paths of the event. Safe for concurrent use.
func Field(name string) *match.Field {
	text, ok := strings.CutPrefix(name, fieldPrefix)
	upstream := false
	if !ok {
		if text, upstream = strings.CutPrefix(name, upstreamPrefix); !upstream {
			return nil
		}
	}
	t, err := parseTerm(text, nil)
	if err != nil {
		return nil
	}
	o, err := newCompiler(&loader{read: reader{upstream: upstream}}).operand(t)
	if err != nil {
		return nil
	}
	return o.field
}
