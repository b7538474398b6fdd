package native

import (
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"whodunit/internal/audit"
	"whodunit/internal/rule"
)

// messageOf reads the template, or makes that of a rule without one.
func (l *loader) messageOf(d *yaml.Node) {
	r := l.draft.rule
	var template string
	at := d
	if l.message != nil {
		template, _ = l.text(l.message)
		at = l.message
	} else {
		template = strings.NewReplacer("{", "{{", "}", "}}").Replace(r.Title) + ": {user.username|nobody} {verb} {requestURI}"
		if l.draft.corr != nil {
			template += " ({correlation.events} events in {correlation.seconds} s)"
		}
	}
	m, err := rule.ParseTemplate(template, l.placeholder)
	if err != nil {
		l.failPath(at, "message", err)
	}
	r.Message = m
}

// placeholder is what a message may name: paths, ours of below, and in a correlation its facts.
func (l *loader) placeholder(name string) (rule.Values, error) {
	for _, f := range placeholders {
		if f.name == name {
			return f.values, nil
		}
	}
	if l.draft.corr != nil && slices.Contains(rule.CorrelationPaths[:], name) {
		return nil, nil
	}
	if l.env != nil && l.env.field != nil {
		if f := l.env.field(name); f != nil { // of a rule that was converted
			return func(ev *audit.Event) iter.Seq[string] {
				return func(yield func(string) bool) { f.Values(ev, yield) }
			}, nil
		}
	}
	return nil, knownPath(name)
}

// placeholders stand for more than a path. docs/reference/rules.md describes each.
var placeholders = []struct {
	name   string
	values rule.Values
}{
	{"command", func(ev *audit.Event) iter.Seq[string] { return one(execCommand(ev.RequestURI)) }},
	{"object", func(ev *audit.Event) iter.Seq[string] { return one(objectText(&ev.ObjectRef)) }},
	{"images", func(ev *audit.Event) iter.Seq[string] {
		return func(yield func(string) bool) {
			for _, s := range images(jsonValue(body(ev.RequestObject))) {
				if !yield(s) {
					return
				}
			}
		}
	}},
}

// one is a value, none where it is empty.
func one(s string) iter.Seq[string] {
	return func(yield func(string) bool) {
		if s != "" {
			yield(s)
		}
	}
}

// objectText is what a request was about, as kubectl's users write it: "pods/exec shop/web-1", "secrets shop/", "nodes n1".
func objectText(r *audit.ObjectRef) string {
	s := r.Resource
	if r.Subresource != "" {
		s += "/" + r.Subresource
	}
	switch {
	case r.Namespace != "":
		s += " " + r.Namespace + "/" + r.Name
	case r.Name != "":
		s += " " + r.Name
	}
	return s
}

// pathError is an unknown path in a message or in group_by.
type pathError struct{ name, near string }

func (e *pathError) Error() string { return fmt.Sprintf("unknown path %q", e.name) }

func (l *loader) failPath(n *yaml.Node, what string, err error) {
	near := ""
	if p, ok := errors.AsType[*pathError](err); ok {
		near = p.near
	}
	l.failNear(n, near, "%s: %v", what, err)
}

// headerPaths are the members of an event's header that a message may name; below the other roots anything goes.
var headerPaths = []string{
	"cluster", "peer", "auditID", "stage", "level", "verb", "requestURI", "userAgent", "sourceIPs",
	"user.username", "user.uid", "user.groups", "impersonatedUser.username", "impersonatedUser.uid", "impersonatedUser.groups",
	"objectRef.resource", "objectRef.subresource", "objectRef.namespace", "objectRef.name", "objectRef.uid", "objectRef.apiGroup",
	"objectRef.apiVersion", "objectRef.resourceVersion",
	"responseStatus.code", "responseStatus.status", "responseStatus.reason", "responseStatus.message",
	"requestReceivedTimestamp", "stageTimestamp",
}

var openRoots = []string{"requestObject", "responseObject", "annotations", "user.extra", "impersonatedUser.extra", "responseStatus.details"}

// knownPath refuses paths that no event has.
func knownPath(p string) error {
	if slices.Contains(headerPaths, p) {
		return nil
	}
	for _, r := range openRoots {
		if p == r || strings.HasPrefix(p, r+".") {
			return nil
		}
	}
	return &pathError{p, rule.Nearest(p, append(headerPaths[:len(headerPaths):len(headerPaths)], openRoots...))}
}
