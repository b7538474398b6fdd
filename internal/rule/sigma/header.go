package sigma

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"whodunit/internal/audit"
	"whodunit/internal/finding"
	"whodunit/internal/match"
	"whodunit/internal/rule"
)

var severities = map[string]finding.Severity{
	"informational": finding.Info, "low": finding.Low, "medium": finding.Medium, "high": finding.High, "critical": finding.Critical,
}

var levels = []string{"informational", "low", "medium", "high", "critical"}

// logsource says what logs a rule is for.
type logsource struct{ category, product, service string }

func (l *loader) logsource(n *yaml.Node) logsource {
	var s logsource
	if n == nil {
		return s
	}
	for k, v := range pairs(n) {
		t := l.c.intern(strings.ToLower(resolve(v).Value))
		switch k.Value {
		case "category":
			s.category = t
		case "product":
			s.product = t
		case "service":
			s.service = t
		}
	}
	return s
}

func (s logsource) String() string {
	var parts []string
	for _, p := range []string{s.product, s.category, s.service} {
		if p != "" {
			parts = append(parts, p)
		}
	}
	if len(parts) == 0 {
		return "(empty)"
	}
	return strings.Join(parts, "/")
}

// audit reports whether the log source is a Kubernetes API server's audit log.
func (s logsource) audit() bool {
	return s.product == "kubernetes" && (s.service == "" || s.service == "audit" || s.service == "application") &&
		(s.category == "" || s.category == "audit" || s.category == "application")
}

// has reports whether rules of the log source o are among those of s: all that s says, o says, too.
func (s logsource) has(o logsource) bool {
	return (s.category == "" || s.category == o.category) && (s.product == "" || s.product == o.product) && (s.service == "" || s.service == o.service)
}

// header reads what all documents have. The rule is never nil, so that a problem can name it.
func (l *loader) header(place rule.Place, doc *yaml.Node) (*rule.Rule, error) {
	r := &rule.Rule{Format: "sigma", Layer: place.Layer, File: place.File, Line: doc.Line, Column: doc.Column, Severity: finding.Medium, PerEvent: l.c.o.Generic}
	var name string
	var first error
	for k, v := range pairs(doc) {
		var err error
		v = resolve(v)
		switch k.Value {
		case "title":
			r.Title, err = text(v)
		case "id":
			r.ID, err = text(v)
		case "name":
			name, err = text(v)
		case "description":
			r.Description = strings.TrimSpace(v.Value)
		case "level":
			r.Priority = l.c.intern(v.Value)
			var ok bool
			if r.Severity, ok = severities[strings.ToLower(v.Value)]; !ok {
				err = at(v, &nearError{fmt.Sprintf("level is one of %s, not %.40q", strings.Join(levels, ", "), v.Value), rule.Nearest(v.Value, levels)})
			}
		case "tags":
			r.Tags = l.list(v)
		case "references":
			r.References = l.list(v)
		case "falsepositives":
			r.FalsePositives = l.list(v)
		}
		if first == nil {
			first = err
		}
	}
	err := first
	if r.ID = strings.TrimSpace(r.ID); r.ID == "" {
		if r.ID = slug(name); r.ID == "" {
			r.ID = slug(r.Title)
		}
	}
	switch {
	case err != nil:
	case len(r.ID) > 256:
		r.ID, err = r.ID[:256], errors.New("the id is longer than 256 bytes")
	case r.ID == "":
		err = errors.New("a title is missing, or an id")
	case r.Title == "":
		r.Title = name
		if name == "" {
			r.Title = r.ID
		}
	}
	return r, err
}

func text(n *yaml.Node) (string, error) {
	if n.Kind != yaml.ScalarNode || n.Tag == tagNull {
		return "", at(n, errors.New("a text is expected here"))
	}
	return n.Value, nil
}

// list is a list of texts; one text is a list of one.
func (l *loader) list(n *yaml.Node) []string {
	if n.Kind == yaml.ScalarNode {
		if n.Tag == tagNull || n.Value == "" {
			return nil
		}
		return []string{l.c.intern(n.Value)}
	}
	var out []string
	if n.Kind == yaml.SequenceNode {
		out = make([]string, 0, len(n.Content))
		for _, el := range n.Content {
			if el = resolve(el); el.Kind == yaml.ScalarNode && el.Value != "" {
				out = append(out, l.c.intern(el.Value))
			}
		}
	}
	return out
}

// slug makes an id of a title.
func slug(s string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(s) {
		switch {
		case r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '.' || r == '_':
			b.WriteRune(r)
		case b.Len() > 0 && !strings.HasSuffix(b.String(), "-"):
			b.WriteByte('-')
		}
		if b.Len() >= 128 {
			break
		}
	}
	return strings.Trim(b.String(), "-")
}

// version is the major version of the specification that the document is for; 2 where it says nothing (Sigma Enhancement Proposal 213).
func version(doc *yaml.Node) int {
	n := field(doc, "sigma-version")
	if n == nil {
		return 2
	}
	major, _, _ := strings.Cut(strings.TrimPrefix(n.Value, "v"), ".")
	v, err := strconv.Atoi(major)
	if err != nil {
		return 2
	}
	return v
}

// plain compiles a rule with a detection.
func (l *loader) plain(d *draft, doc *yaml.Node) error {
	det, source := field(doc, "detection"), field(doc, "logsource")
	switch {
	case det == nil:
		return errors.New("a detection is missing")
	case source == nil && !l.c.o.Generic:
		return errors.New("a logsource is missing")
	case source != nil && source.Kind != yaml.MappingNode:
		return at(source, errors.New("logsource is a map of category, product and service"))
	}
	r := d.rule
	if !l.c.o.Generic && !d.logsource.audit() {
		r.Off = l.c.intern("logsource " + d.logsource.String() + " is not kubernetes audit")
		r.Level = audit.LevelMetadata
		return nil
	}
	kubernetes := d.logsource.product == "kubernetes" || !l.c.o.Generic
	l.c.start(kubernetes, version(doc))
	x, err := l.c.detection(det)
	if err != nil {
		return err
	}
	if kubernetes && l.c.o.WebsocketVerbs && !l.c.o.Generic {
		x = websocket(x)
	}
	r.Expr, r.Level = x, l.c.level
	var fields []string
	if n := field(doc, "fields"); n != nil {
		fields = l.list(n)
	}
	if len(fields) > 0 || l.c.o.Generic {
		r.Message = l.message(r.Title, fields)
	}
	return nil
}

// streaming are the subresources that kubectl opens with GET since it speaks WebSocket.
var streaming = []string{"exec", "attach", "portforward"}

// websocket lets get on a streaming subresource stand for create, in a rule that asks for one of them.
func websocket(x match.Expr) match.Expr {
	asks := false
	match.Walk(x, func(x match.Expr) {
		p, ok := x.(*match.Pred)
		if !ok || p.Field != nil || p.Op == match.Exists || p.Op == match.Present {
			return
		}
		for _, s := range streaming {
			asks = asks || p.Path == "objectRef.subresource" && p.Accepts(s) || p.Path == "requestURI" && p.Op == match.Contains && inAny(p.Values, "/"+s)
		}
	})
	if !asks {
		return x
	}
	get := match.And{&match.Pred{Path: "verb", Op: match.Equal, Values: []string{"get"}}, &match.Pred{Path: "objectRef.subresource", Op: match.Equal, Values: streaming}}
	return replace(x, func(p *match.Pred) match.Expr {
		if p.Path == "verb" && p.Op != match.Exists && p.Op != match.Present && p.Accepts("create") && !p.Accepts("get") {
			return match.Or{p, get}
		}
		return p
	})
}

func inAny(list []string, part string) bool {
	for _, s := range list {
		if strings.Contains(strings.ToLower(s), part) {
			return true
		}
	}
	return false
}

// replace is x with f's answer for each predicate.
func replace(x match.Expr, f func(*match.Pred) match.Expr) match.Expr {
	switch x := x.(type) {
	case match.And:
		out := make(match.And, len(x))
		for i, p := range x {
			out[i] = replace(p, f)
		}
		return out
	case match.Or:
		out := make(match.Or, len(x))
		for i, p := range x {
			out[i] = replace(p, f)
		}
		return out
	case match.Not:
		return match.Not{X: replace(x.X, f)}
	case *match.Pred:
		return f(x)
	}
	return x
}
