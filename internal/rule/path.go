package rule

import (
	"slices"
	"strings"
)

// EventRoots are the top-level members of an audit event, and our own names beside them (cluster, peer): whatever a rule of
// audit events names begins with one. The caller owns the slice.
func EventRoots() []string {
	return []string{
		"kind", "apiVersion", "metadata", "level", "auditID", "stage", "requestURI", "verb", "user", "impersonatedUser", "sourceIPs", "userAgent", "objectRef",
		"responseStatus", "requestObject", "responseObject", "requestReceivedTimestamp", "stageTimestamp", "timestamp", "annotations", "cluster", "peer",
	}
}

// KnownPath reports whether an audit event can have what path, whose parts sep parts, names; near is the nearest root, "" if none is near.
func KnownPath(path, sep string) (near string, ok bool) {
	root, _, _ := strings.Cut(path, sep)
	roots := EventRoots()
	if slices.Contains(roots, root) {
		return "", true
	}
	return Nearest(root, roots), false
}
