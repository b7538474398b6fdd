package query

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"whodunit/internal/match"
)

// Field is one short name and the full path that it stands for.
type Field struct{ Name, Path string }

// Fields is the short names, in the order in which help and completion show them. A name that is not here is a path of the
// event as it stands; so is every name in quotes.
func Fields() []Field {
	return []Field{
		{"user", "user.username"},
		{"group", "user.groups"},
		{"groups", "user.groups"},
		{"as", "impersonatedUser.username"},
		{"sa", "user.username"},
		{"verb", "verb"},
		{"resource", "objectRef.resource"},
		{"sub", "objectRef.subresource"},
		{"subresource", "objectRef.subresource"},
		{"ns", "objectRef.namespace"},
		{"namespace", "objectRef.namespace"},
		{"name", "objectRef.name"},
		{"code", "responseStatus.code"},
		{"decision", "annotations.authorization.k8s.io/decision"},
		{"reason", "annotations.authorization.k8s.io/reason"},
		{"ip", "sourceIPs"},
		{"agent", "userAgent"},
		{"uri", "requestURI"},
		{"level", "level"},
		{"stage", "stage"},
		{"cluster", "cluster"},
		{"id", "auditID"},
		{"@timestamp", "stageTimestamp"},
		{"rule", "rule"},
		{"severity", "severity"},
	}
}

// Path is the full path of a field name.
func Path(name string) string {
	for _, f := range Fields() {
		if f.Name == name {
			return f.Path
		}
	}
	return name
}

// ordered is the words of a path whose words have an order, from least to most; nil for other paths.
func ordered(path string) []string {
	switch path {
	case "level":
		return []string{"None", "Metadata", "Request", "RequestResponse"}
	case "severity":
		return []string{"info", "low", "medium", "high", "critical"}
	}
	return nil
}

// pattern is a value as typed: the literal texts between its wildcards. One text is a value without wildcards.
type pattern []string

func (p pattern) literal() (string, bool) { return p[0], len(p) == 1 }

// pred is the predicate that a value of the path makes.
func (p pattern) pred(path string) *match.Pred {
	last := len(p) - 1
	switch {
	case last == 0:
		return &match.Pred{Path: path, Op: match.Equal, Values: []string{p[0]}}
	case last == 1 && p[0] == "" && p[1] == "":
		return &match.Pred{Path: path, Op: match.Exists}
	case last == 1 && p[1] == "":
		return &match.Pred{Path: path, Op: match.Prefix, Values: []string{p[0]}}
	case last == 1 && p[0] == "":
		return &match.Pred{Path: path, Op: match.Suffix, Values: []string{p[1]}}
	case last == 2 && p[0] == "" && p[2] == "":
		return &match.Pred{Path: path, Op: match.Contains, Values: []string{p[1]}}
	}
	quoted := make([]string, len(p))
	for i, s := range p {
		quoted[i] = match.QuoteGlob(s)
	}
	return &match.Pred{Path: path, Op: match.Glob, Values: []string{strings.Join(quoted, "*")}}
}

// serviceAccount turns what is typed behind `sa:` into a user name: NAMESPACE/NAME, or NAME in any namespace.
func serviceAccount(p pattern) pattern {
	const prefix = "system:serviceaccount:"
	p = slices.Clone(p)
	for i, s := range p {
		if before, after, ok := strings.Cut(s, "/"); ok {
			p[i] = before + ":" + after
			p[0] = prefix + p[0]
			return p
		}
	}
	if len(p) == 2 && p[0] == "" && p[1] == "" {
		return pattern{prefix, ""}
	}
	p[0] = ":" + p[0]
	return append(pattern{prefix}, p...)
}

// addressPath reports whether the path holds addresses, whose values may be ranges.
func addressPath(path string) bool { return path == "sourceIPs" || path == "peer" }

// addresses is the predicate for an IPv4 range such as 10.0.0.0/12. It needs at most 128 constants: the range's whole
// octets are one text, and the octet that is cut is listed.
func addresses(path string, net netip.Prefix) *match.Pred {
	p := &match.Pred{Path: path, Op: match.Prefix}
	octets := net.Masked().Addr().As4()
	whole, rest := net.Bits()/8, net.Bits()%8
	text := ""
	for _, o := range octets[:whole] {
		text += strconv.Itoa(int(o)) + "."
	}
	switch {
	case whole == 4:
		return &match.Pred{Path: path, Op: match.Equal, Values: []string{strings.TrimSuffix(text, ".")}}
	case whole == 0 && rest == 0:
		p.Op, p.Values = match.Contains, []string{"."}
		return p
	case rest == 0:
		p.Values = []string{text}
		return p
	}
	end := "."
	if whole == 3 {
		p.Op, end = match.Equal, ""
	}
	for i := range 1 << (8 - rest) {
		p.Values = append(p.Values, text+strconv.Itoa(int(octets[whole])+i)+end)
	}
	return p
}
