package sigma

import (
	"strings"

	"whodunit/internal/audit"
	"whodunit/internal/match"
)

// target is what a field's name stands for: a path of the event, or a computed field.
type target struct {
	name  string
	path  string
	field *match.Field // in place of path
	has   *match.Field // whether it is there, where field's values do not tell
	there *match.Field // whether it is there, be it null; nil: has says it
	// raw gives the JSON values, arrays as one; for what looks into them.
	raw func(ev *audit.Event, yield func([]byte) bool)
}

// pred is a predicate on t.
func (t *target) pred(op match.Op, fold bool, values ...string) *match.Pred {
	p := &match.Pred{Path: t.path, Field: t.field, Op: op, Values: values, Fold: fold}
	if t.has != nil && (op == match.Exists || op == match.Present) {
		p.Field = t.has
	}
	if t.there != nil && op == match.Present {
		p.Field = t.there
	}
	return p
}

// id names what t stands for: equal ids, equal values.
func (t *target) id() string {
	if t.field != nil {
		return t.field.Name
	}
	return t.path
}

// values ranges over the texts of t.
func (t *target) values(ev *audit.Event, yield func(string) bool) {
	if t.field != nil {
		t.field.Values(ev, yield)
		return
	}
	match.Values(ev, t.path)(yield)
}

// aliases are names in SigmaHQ's Kubernetes rules that audit events have elsewhere.
var aliases = map[string]string{"apiGroup": "objectRef.apiGroup"}

// anywhere are the names that SigmaHQ's Kubernetes rules use for a member of the request's body, however deep it stands.
var anywhere = map[string]bool{"hostPath": true, "capabilities": true}

// anyValue is every scalar of the event: what keywords are looked for in.
var anyValue = &target{name: "any value", field: &match.Field{Name: "any value", Values: func(ev *audit.Event, yield func(string) bool) {
	everyText(ev.Raw, yield)
}}}

// lookup finds what a field's name stands for. scope says where; targets are made once a name.
func (c *compiler) lookup(name string) *target {
	key := c.scope.key() + name
	if t := c.targets[key]; t != nil {
		return t
	}
	t := c.newTarget(c.intern(name))
	c.targets[c.intern(key)] = t
	return t
}

func (c *compiler) newTarget(name string) *target {
	if c.scope.element {
		path := name
		if path == "." {
			path = ""
		}
		return rawTarget(c.scope.key()+name, func(ev *audit.Event, yield func([]byte) bool) { reach(ev.Raw, path, false, yield) })
	}
	path := name
	if p, ok := c.o.Fields[name]; ok {
		path = p
	} else if c.scope.kubernetes {
		if p, ok := aliases[name]; ok {
			path = p
		}
		first, rest, _ := strings.Cut(name, ".")
		if anywhere[first] {
			return bodyTarget(name, first, rest)
		}
	}
	if c.o.Generic {
		t := c.views.target(path)
		t.name = name
		return t
	}
	return &target{name: name, path: path, raw: func(ev *audit.Event, yield func([]byte) bool) { reach(ev.Raw, path, false, yield) }}
}

// rawTarget makes a target of raw values.
func rawTarget(name string, raw func(ev *audit.Event, yield func([]byte) bool)) *target {
	return &target{
		name: name, raw: raw,
		field: &match.Field{Name: name, Values: func(ev *audit.Event, yield func(string) bool) {
			raw(ev, func(v []byte) bool { return texts(v, yield) })
		}},
		has: &match.Field{
			Name: "has " + name,
			Values: func(ev *audit.Event, yield func(string) bool) {
				raw(ev, func(v []byte) bool { return isNull(v) || yield("true") })
			},
			Null: func(ev *audit.Event) bool {
				found := false
				raw(ev, func([]byte) bool { found = true; return false })
				return found
			},
		},
	}
}

// anyDepthPrefix begins the names of computed fields that look for a name at any depth.
const anyDepthPrefix = "requestObject.**."

// These begin the names of computed fields that say whether the one of the rest of the name is there.
const (
	hasPrefix   = "has "
	therePrefix = "present " // be it null
)

// Field gives the computed field of that name, `requestObject.**.hostPath`, and nil for other names. `has ` before it makes the field that
// has a value if that is there and not null, `present ` the one that has a value if it is there. Safe for concurrent use.
func Field(name string) *match.Field {
	pick := func(t *target) *match.Field { return t.field }
	if s, ok := strings.CutPrefix(name, hasPrefix); ok {
		name, pick = s, func(t *target) *match.Field { return t.has }
	} else if s, ok := strings.CutPrefix(name, therePrefix); ok {
		name, pick = s, func(t *target) *match.Field { return t.there }
	}
	path, ok := strings.CutPrefix(name, anyDepthPrefix)
	first, rest, _ := strings.Cut(path, ".")
	if !ok || first == "" {
		return nil
	}
	return pick(bodyTarget(path, first, rest))
}

// bodyTarget is a name at any depth of the request's body, and a path from there. Its values are all that stands in it. A JSON Patch is
// an array, which makes no difference.
func bodyTarget(name, first, rest string) *target {
	raw := func(ev *audit.Event, yield func([]byte) bool) {
		body := ev.RequestObject
		if body == nil {
			reach(ev.Raw, "requestObject", false, func(v []byte) bool { body = v; return true })
		}
		anyDepth(body, first, func(v []byte) bool { return reach(v, rest, false, yield) })
	}
	full := anyDepthPrefix + name
	return &target{
		name: name, raw: raw,
		field: &match.Field{Name: full, Values: func(ev *audit.Event, yield func(string) bool) {
			more := true
			raw(ev, func(v []byte) bool {
				everyText(v, func(t string) bool { more = yield(t); return more })
				return more
			})
		}},
		has: &match.Field{Name: hasPrefix + full, Values: func(ev *audit.Event, yield func(string) bool) {
			raw(ev, func(v []byte) bool { return v[0] == 'n' || yield("true") })
		}},
		there: &match.Field{Name: therePrefix + full, Values: func(ev *audit.Event, yield func(string) bool) {
			raw(ev, func([]byte) bool { return yield("true") })
		}},
	}
}

// level is the lowest audit level whose events have the field.
func (t *target) level() audit.Level {
	name := t.id()
	switch {
	case strings.HasPrefix(name, "responseObject"):
		return audit.LevelRequestResponse
	case strings.HasPrefix(name, "requestObject"):
		return audit.LevelRequest
	}
	return audit.LevelMetadata
}
