package parseable

import (
	"strings"

	"go.yaml.in/yaml/v3"

	"whodunit/internal/audit"
	"whodunit/internal/match"
	"whodunit/internal/rule"
)

// header is the paths of the columns that every audit event may have and that have one path alone.
var header = map[string]string{
	"auditID": "auditID", "stage": "stage", "level": "level", "verb": "verb", "requestURI": "requestURI", "userAgent": "userAgent",
	"sourceIPs": "sourceIPs", "user_username": "user.username", "user_uid": "user.uid", "user_groups": "user.groups",
	"impersonatedUser_username": "impersonatedUser.username", "impersonatedUser_groups": "impersonatedUser.groups",
	"objectRef_resource": "objectRef.resource", "objectRef_subresource": "objectRef.subresource", "objectRef_namespace": "objectRef.namespace",
	"objectRef_name": "objectRef.name", "objectRef_apiGroup": "objectRef.apiGroup", "objectRef_apiVersion": "objectRef.apiVersion", "objectRef_uid": "objectRef.uid",
	"responseStatus_code": "responseStatus.code", "responseStatus_reason": "responseStatus.reason", "responseStatus_status": "responseStatus.status",
	"responseStatus_message": "responseStatus.message", "requestReceivedTimestamp": "requestReceivedTimestamp", "stageTimestamp": "stageTimestamp",
}

// knows reports whether an event can have the column, or gives the nearest column that one can have.
func (l *reader) knows(column string) (near string, ok bool) {
	if l.o.Generic || strings.HasPrefix(column, "p_") { // p_timestamp, p_tags, p_metadata: the server's own
		return "", true
	}
	near, ok = rule.KnownPath(column, "_")
	if !ok {
		names := rule.EventRoots()
		for h := range header {
			names = append(names, h)
		}
		near = rule.Nearest(column, names)
	}
	return near, ok
}

// knownColumn reports an unknown column at its place.
func (l *reader) knownColumn(n *yaml.Node, column string) bool {
	near, ok := l.knows(column)
	if !ok {
		l.Fail(n, near, "unknown column %.60q", column)
	}
	return ok
}

// fieldPrefix begins the names of columns' computed fields.
const fieldPrefix = "column "

// Field gives the computed field of that name, `column user_extra_x`, and nil for other names. Safe for concurrent use.
func Field(name string) *match.Field {
	column, ok := strings.CutPrefix(name, fieldPrefix)
	if !ok || column == "" {
		return nil
	}
	return &match.Field{Name: name, Values: columnValues(column)}
}

// columnValues gives the values of a flattened name: the names of nested objects joined by underscores, which the names may hold
// themselves, so every way to split it is followed. Elements of lists each count.
func columnValues(column string) func(*audit.Event, func(string) bool) {
	return func(ev *audit.Event, yield func(string) bool) { flattened(ev.Raw, column, yield) }
}

func flattened(v []byte, name string, yield func(string) bool) bool {
	if len(v) == 0 {
		return true
	}
	if v[0] == '[' {
		for el := range audit.Leaves(v) {
			if !flattened(el, name, yield) {
				return false
			}
		}
		return true
	}
	if name == "" {
		if v[0] == '{' {
			return true
		}
		t, ok := audit.Text(v)
		return !ok || yield(t)
	}
	if v[0] != '{' {
		return true
	}
	for key, mv := range audit.Members(v) {
		rest, ok := strings.CutPrefix(name, key)
		if !ok || key == "" || rest != "" && (rest[0] != '_' || len(rest) == 1) {
			continue
		}
		if !flattened(mv, strings.TrimPrefix(rest, "_"), yield) {
			return false
		}
	}
	return true
}

// template is a message with {column} placeholders.
type template []piece

type piece struct{ text, column string }

// maxMessage bounds a message, in bytes; the values are written by clients.
const maxMessage = 4096

// Template implements rule.Templater.
func (t template) Template() string {
	var b strings.Builder
	for _, p := range t {
		b.WriteString(rule.EscapeTemplate(p.text))
		switch {
		case p.column == "":
		case header[p.column] != "":
			b.WriteString("{" + header[p.column] + "|null}")
		default:
			b.WriteString("{" + fieldPrefix + p.column + "|null}")
		}
	}
	return b.String()
}

// Render implements rule.Renderer.
func (t template) Render(ev *audit.Event) string {
	var b strings.Builder
	for _, p := range t {
		if b.Len() >= maxMessage {
			break
		}
		b.WriteString(p.text)
		if p.column == "" {
			continue
		}
		first := true
		flattened(ev.Raw, p.column, func(v string) bool {
			if !first {
				b.WriteString(", ")
			}
			first = false
			b.WriteString(v[:min(len(v), 256)])
			return b.Len() < maxMessage
		})
		if first {
			b.WriteString("null")
		}
	}
	return strings.ToValidUTF8(b.String()[:min(b.Len(), maxMessage)], "�")
}

// template reads a message; a name in braces that no event has is refused.
func (l *reader) template(n *yaml.Node, s string) rule.Renderer {
	var t template
	for {
		before, rest, ok := strings.Cut(s, "{")
		name, after, closed := strings.Cut(rest, "}")
		if !ok || !closed {
			return append(t, piece{text: s})
		}
		if name = strings.TrimSpace(name); l.knownColumn(n, name) {
			t = append(t, piece{text: before, column: name})
		}
		s = after
	}
}

// level is the lowest audit level whose events have the columns.
func level(x match.Expr) audit.Level {
	out := audit.LevelMetadata
	if x == nil {
		return out
	}
	match.Walk(x, func(x match.Expr) {
		p, ok := x.(*match.Pred)
		if !ok || p.Field == nil {
			return
		}
		switch {
		case strings.Contains(p.Field.Name, " responseObject"):
			out = audit.LevelRequestResponse
		case strings.Contains(p.Field.Name, " requestObject") && out == audit.LevelMetadata:
			out = audit.LevelRequest
		}
	})
	return out
}
