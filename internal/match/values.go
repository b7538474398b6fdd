package match

import (
	"iter"
	"strconv"
	"strings"

	"whodunit/internal/audit"
)

// Values ranges over the scalar values at a dotted path of the event, in order, decoded. At each object the longest
// literal member name that the rest of the path begins with wins (so annotations.authorization.k8s.io/decision works), the
// last of duplicate names wins as in every Kubernetes decoder, and every array on the way is entered: each of its
// elements is tried. null, objects and nothing give no value.
//
// `cluster` is the event's cluster, which is not in its JSON. `peer` is the last of sourceIPs. In a generic event (audit.FlagGeneric)
// they are names like others.
func Values(e *audit.Event, path string) iter.Seq[string] {
	return func(yield func(string) bool) {
		if v, ok := header(e, path); ok {
			if v != "" {
				yield(v)
			}
			return
		}
		walk(e.Raw, path, func(v []byte) bool {
			t, ok := audit.Text(v)
			return !ok || yield(t)
		})
	}
}

// Has reports whether the path is there and not null.
func Has(e *audit.Event, path string) bool {
	if v, ok := header(e, path); ok && v != "" {
		return true
	}
	if path == "peer" && e.Flags&audit.FlagGeneric == 0 {
		return len(e.SourceIPs) > 0
	}
	found := false
	reach(e.Raw, path, func(v []byte) bool {
		found = found || v[0] != 'n'
		return !found
	})
	return found
}

// IsPresent reports whether the path is there, be it null.
func IsPresent(e *audit.Event, path string) bool {
	if v, ok := header(e, path); ok && v != "" {
		return true
	}
	if path == "peer" && e.Flags&audit.FlagGeneric == 0 {
		return len(e.SourceIPs) > 0
	}
	found := false
	reach(e.Raw, path, func([]byte) bool { found = true; return false })
	return found
}

// header answers the paths that Parse has read already. ok is false where the raw bytes must be asked: for any other
// path, and where the empty string could mean both missing and empty.
func header(e *audit.Event, path string) (v string, ok bool) {
	if e.Flags&audit.FlagGeneric != 0 {
		return "", false
	}
	switch path {
	case "cluster":
		return e.Cluster, true
	case "peer":
		return e.Peer(), true
	case "auditID":
		v = e.AuditID
	case "stage":
		v = string(e.Stage)
	case "level":
		v = string(e.Level)
	case "verb":
		v = e.Verb
	case "requestURI":
		v = e.RequestURI
	case "userAgent":
		v = e.UserAgent
	case "user.username":
		v = e.User.Username
	case "impersonatedUser.username":
		v = e.Impersonated.Username
	case "objectRef.resource":
		v = e.ObjectRef.Resource
	case "objectRef.subresource":
		v = e.ObjectRef.Subresource
	case "objectRef.namespace":
		v = e.ObjectRef.Namespace
	case "objectRef.name":
		v = e.ObjectRef.Name
	case "objectRef.apiGroup":
		v = e.ObjectRef.APIGroup
	case "annotations." + audit.AnnotationDecision:
		v = e.Decision
	case "annotations." + audit.AnnotationReason:
		v = e.Reason
	case "responseStatus.code":
		if e.Response.Code != 0 {
			v = strconv.Itoa(e.Response.Code)
		}
	}
	return v, v != ""
}

// walk calls f for each value that the path leads to, arrays entered also at its end; it stops when f returns false.
func walk(v []byte, path string, f func([]byte) bool) bool {
	return reach(v, path, func(v []byte) bool { return each(v, f) })
}

// reach calls f for each value that the path leads to, arrays entered on the way but not at its end.
func reach(v []byte, path string, f func([]byte) bool) bool {
	switch {
	case len(v) == 0:
		return true
	case path == "":
		return f(v)
	case v[0] == '[':
		return each(v, func(leaf []byte) bool { return reach(leaf, path, f) })
	case v[0] != '{':
		return true
	}
	best := -1
	var value []byte
	for name, mv := range audit.Members(v) {
		if n := len(name); n >= best && n > 0 && strings.HasPrefix(path, name) && (n == len(path) || path[n] == '.') {
			best, value = n, mv
		}
	}
	switch {
	case best < 0:
		return true
	case best == len(path):
		return reach(value, "", f)
	}
	return reach(value, path[best+1:], f)
}

// each calls f for v, or for what the arrays in it hold.
func each(v []byte, f func([]byte) bool) bool {
	for el := range audit.Leaves(v) {
		if !f(el) {
			return false
		}
	}
	return true
}
