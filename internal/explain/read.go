package explain

import (
	"strings"

	"whodunit/internal/audit"
)

// coverage says whether a request for a collection was about the object.
type coverage uint8

const (
	covers0    coverage = iota // it was not
	coversMay                  // the event cannot say: a selector or a page, and no body
	coversAll                  // everything in the namespace or cluster was asked for
	coversSeen                 // the answer's items hold the object
)

// coverage judges list, watch and deletecollection requests. The answer's items decide where they were recorded.
func (q Question) coverage(ev *audit.Event) coverage {
	ref, o := ev.ObjectRef, q.Object
	if ref.Name != "" && ref.Name != o.Name { // set from a field selector on metadata.name
		return covers0
	}
	if rank := stageRank(ev.Stage); rank < 2 || rank == 2 && ev.Verb != "watch" {
		return covers0 // the answer's items come with the last stage
	}
	p := parameters(ev)
	other, ok := fieldSelector(p.Get("fieldSelector"), o)
	if !ok {
		return covers0
	}
	if items := member(ev.ResponseObject, "items"); len(items) > 0 {
		for item := range audit.Elements(items) {
			if text(item, "metadata", "name") == o.Name && (o.Namespace == "" || o.Cluster || text(item, "metadata", "namespace") == o.Namespace) {
				return coversSeen
			}
		}
		return covers0
	}
	if other || p.Get("labelSelector") != "" || p.Get("continue") != "" || p.Get("limit") != "" && p.Get("limit") != "0" {
		return coversMay
	}
	return coversAll
}

// fieldSelector reports whether the object may pass a field selector, and whether the selector asks for more than its name and
// namespace.
func fieldSelector(selector string, o Object) (other, ok bool) {
	if selector == "" {
		return false, true
	}
	for _, term := range strings.Split(selector, ",") {
		field, value, found := strings.Cut(term, "=")
		negative := strings.HasSuffix(field, "!")
		field, value = strings.TrimSpace(strings.TrimSuffix(field, "!")), strings.TrimPrefix(value, "=")
		want := o.Name
		switch {
		case !found:
			continue
		case field == "metadata.namespace" && o.Namespace == "":
			continue
		case field == "metadata.namespace":
			want = o.Namespace
		case field != "metadata.name":
			other = true
			continue
		}
		if (value == want) == negative {
			return false, false
		}
	}
	return other, true
}

func (q Question) read(ev *audit.Event) *Act {
	ref, o := ev.ObjectRef, q.Object
	switch ev.Verb {
	case "get":
		if ref.Name != o.Name {
			return nil
		}
		switch ref.Subresource {
		case "":
			return did(ev, "read")
		case "log":
			return did(ev, "read the log of")
		case "exec", "attach", "portforward", "proxy":
			return nil
		}
		return did(ev, "read")
	case "list", "watch":
		c := q.coverage(ev)
		if c == covers0 || ref.Subresource != "" {
			return nil
		}
		a := did(ev, map[string]string{"list": "listed", "watch": "watched"}[ev.Verb])
		switch {
		case ref.Name == o.Name:
		case c == coversSeen:
			a.Note = "with " + o.Name + " among them"
		case c == coversAll && a.Outcome == OK:
			a.Note = "all of them, " + o.Name + " too if it was there"
		case c == coversAll:
			a.Note = "all of them"
		default:
			a.Possible, a.Note = true, "possibly with "+o.Name+" among them"
		}
		return a
	}
	return nil
}
