package rule

import (
	"slices"
	"strconv"

	"whodunit/internal/audit"
	"whodunit/internal/match"
)

// compile turns e into a function with the meaning of match.Eval. What it adds is speed: it asks the parsed header, where
// match.Values reads the raw bytes for every list, and for an absent text to tell "missing" from "empty".
func compile(e match.Expr) func(*audit.Event) bool {
	switch e := e.(type) {
	case match.And:
		parts := compileAll(e)
		return func(ev *audit.Event) bool {
			for _, p := range parts {
				if !p(ev) {
					return false
				}
			}
			return true
		}
	case match.Or:
		parts := compileAll(e)
		return func(ev *audit.Event) bool {
			for _, p := range parts {
				if p(ev) {
					return true
				}
			}
			return false
		}
	case match.Not:
		x := compile(e.X)
		return func(ev *audit.Event) bool { return !x(ev) }
	case *match.Pred:
		return compilePred(e)
	}
	return func(ev *audit.Event) bool { return match.Eval(e, ev) }
}

func compileAll(es []match.Expr) []func(*audit.Event) bool {
	out := make([]func(*audit.Event) bool, len(es))
	for i, e := range es {
		out[i] = compile(e)
	}
	return out
}

func compilePred(p *match.Pred) func(*audit.Event) bool {
	if list := headerTexts(p.Path); list != nil && p.Op != match.Exists {
		return func(ev *audit.Event) bool { return slices.ContainsFunc(list(ev), p.Accepts) }
	}
	get := HeaderText(p.Path)
	if get == nil || p.Op == match.Exists {
		return func(ev *audit.Event) bool { return match.Eval(p, ev) }
	}
	accepts := p.Accepts
	if p.Op == match.Equal && !p.Fold {
		if len(p.Values) == 1 {
			one := p.Values[0]
			accepts = func(v string) bool { return v == one }
		} else {
			accepts = func(v string) bool { return slices.Contains(p.Values, v) }
		}
	}
	empty := p.Accepts("")
	return func(ev *audit.Event) bool {
		if v := get(ev); v != "" {
			return accepts(v)
		}
		return empty && match.Eval(p, ev)
	}
}

// headerTexts gives the reader of a list of texts that audit.Parse has read already, nil for other paths. It differs from
// match.Values only where the API server never does: in a list inside the list, and a text in place of the list.
func headerTexts(path string) func(*audit.Event) []string {
	switch path {
	case "user.groups":
		return func(e *audit.Event) []string { return e.User.Groups }
	case "impersonatedUser.groups":
		return func(e *audit.Event) []string { return e.Impersonated.Groups }
	case "sourceIPs":
		return func(e *audit.Event) []string { return e.SourceIPs }
	}
	return nil
}

// HeaderText gives the reader of a text path that audit.Parse has read already, nil for other paths. The reader returns ""
// where the field is missing or empty.
func HeaderText(path string) func(*audit.Event) string {
	switch path {
	case "cluster":
		return func(e *audit.Event) string { return e.Cluster }
	case "peer":
		return (*audit.Event).Peer
	case "auditID":
		return func(e *audit.Event) string { return e.AuditID }
	case "stage":
		return func(e *audit.Event) string { return string(e.Stage) }
	case "level":
		return func(e *audit.Event) string { return string(e.Level) }
	case "verb":
		return func(e *audit.Event) string { return e.Verb }
	case "requestURI":
		return func(e *audit.Event) string { return e.RequestURI }
	case "userAgent":
		return func(e *audit.Event) string { return e.UserAgent }
	case "user.username":
		return func(e *audit.Event) string { return e.User.Username }
	case "impersonatedUser.username":
		return func(e *audit.Event) string { return e.Impersonated.Username }
	case "responseStatus.code":
		return func(e *audit.Event) string {
			if e.Response.Code == 0 {
				return ""
			}
			return strconv.Itoa(e.Response.Code)
		}
	}
	return refText(path)
}

func refText(path string) func(*audit.Event) string {
	switch path {
	case "objectRef.resource":
		return func(e *audit.Event) string { return e.ObjectRef.Resource }
	case "objectRef.subresource":
		return func(e *audit.Event) string { return e.ObjectRef.Subresource }
	case "objectRef.namespace":
		return func(e *audit.Event) string { return e.ObjectRef.Namespace }
	case "objectRef.name":
		return func(e *audit.Event) string { return e.ObjectRef.Name }
	case "objectRef.apiGroup":
		return func(e *audit.Event) string { return e.ObjectRef.APIGroup }
	}
	return nil
}
