package envelope

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"whodunit/internal/audit"
)

// listGroup is the API group of audit events, in every version of them.
const listGroup = "audit.k8s.io/"

var (
	errCut   = errors.New("cannot parse audit events: the JSON ends early or is damaged")
	errEmpty = fmt.Errorf("%w: the body is empty", audit.ErrNotAudit)
)

// EventList decodes what the API server's webhook backend sends, an EventList of audit.k8s.io/v1, v1beta1 or v1alpha1
// (staging/src/k8s.io/apiserver/pkg/apis/audit), whose items carry no kind and apiVersion. It takes as well what people
// and forwarders make of it: a single Event, an array of events, and any of these one after the other (NDJSON). It is a
// Decode. Of a list that breaks off, the events before the break are kept.
func EventList(cluster string, body []byte) (Result, error) {
	var r Result
	body = bytes.TrimPrefix(body, []byte("\xef\xbb\xbf"))
	i := space(body, 0)
	if i == len(body) {
		return r, errEmpty
	}
	switch body[i] {
	case '[':
		return r.array(cluster, body, i)
	case '{':
	default:
		if err := audit.Valid(body); err == nil {
			err = fmt.Errorf("%w: the body is JSON, but no object and no array", audit.ErrNotAudit)
			return r, r.bad(body, err)
		} else if bytes.IndexByte(body, '{') < 0 {
			err = fmt.Errorf("cannot parse audit events: %w", err)
			return r, r.bad(body, err)
		}
		return r.several(cluster, body[i:])
	}
	h := readHead(cluster, body, i)
	if h.list() {
		r.list(cluster, body, h)
		if h.end < 0 || space(body, h.end) == len(body) {
			return r, errIfAllBad(&r)
		}
		return r.several(cluster, body[h.end:])
	}
	if h.end >= 0 && space(body, h.end) == len(body) {
		r.add(cluster, body[i:h.end:h.end])
		return r, errIfAllBad(&r)
	}
	return r.several(cluster, body[i:])
}

// head is what the members of one top-level object say about it. Its values are slices of the body.
type head struct {
	kind, version string
	hasItems      bool
	found         Result // of the items
	rest          []byte // of items, what could not be cut
	end           int    // index behind the object; -1 where it is damaged
}

func (h *head) list() bool {
	return h.kind == "EventList" || h.hasItems && (h.kind == "" || strings.HasSuffix(h.kind, "List"))
}

// readHead walks over the object that begins at b[i]. Items of a repeated `items` are all taken: nothing may hide there.
func readHead(cluster string, b []byte, i int) head {
	h := head{end: -1}
	i = space(b, i+1)
	if i < len(b) && b[i] == '}' {
		h.end = i + 1
		return h
	}
	for {
		i = space(b, i)
		if i >= len(b) || b[i] != '"' {
			return h
		}
		nameEnd := stringEnd(b, i)
		if nameEnd < 0 {
			return h
		}
		name := b[i+1 : nameEnd-1]
		i = space(b, nameEnd)
		if i >= len(b) || b[i] != ':' {
			return h
		}
		if i = h.member(cluster, b, space(b, i+1), name); i < 0 {
			return h
		}
		i = space(b, i)
		if i >= len(b) || b[i] != ',' && b[i] != '}' {
			return h
		}
		i++
		if b[i-1] == '}' {
			h.end = i
			return h
		}
	}
}

// member takes the value that begins at b[i] and gives the index behind it, -1 where it is damaged.
func (h *head) member(cluster string, b []byte, i int, name []byte) int {
	if string(name) == "items" {
		h.hasItems = true
		if i < len(b) && b[i] == '[' {
			end, rest := h.found.items(cluster, b, i)
			if end < 0 {
				h.rest = rest
			}
			return end
		}
	}
	end := valueEnd(b, i)
	if end < 0 {
		return -1
	}
	switch string(name) {
	case "kind":
		h.kind, _ = audit.Text(b[i:end])
	case "apiVersion":
		h.version, _ = audit.Text(b[i:end])
	}
	return end
}

// list adds the items of the list whose text is raw.
func (r *Result) list(cluster string, raw []byte, h head) {
	if h.kind != "" && h.kind != "EventList" || h.version != "" && !strings.HasPrefix(h.version, listGroup) {
		_ = r.bad(raw, fmt.Errorf("%w: a list with kind %.60q and apiVersion %.60q; wanted is an EventList of %sv1",
			audit.ErrNotAudit, h.kind, h.version, listGroup))
		return
	}
	if len(r.Events) == 0 {
		r.Events = h.found.Events
	} else {
		r.Events = append(r.Events, h.found.Events...)
	}
	for _, x := range h.found.Rejects {
		_ = r.bad(x.Raw, x.Err)
	}
	r.Omitted += h.found.Omitted
	if h.end < 0 {
		if h.rest == nil {
			h.rest = raw
		}
		_ = r.bad(h.rest, errCut)
	}
}

// items adds the elements of the array that begins at b[i]: each is parsed where it stands, and only one that is refused is cut out
// first. The results are those of cutArray.
func (r *Result) items(cluster string, b []byte, i int) (end int, rest []byte) {
	i = space(b, i+1)
	if i < len(b) && b[i] == ']' {
		return i + 1, nil
	}
	for {
		i = space(b, i)
		if e, n, err := audit.ParsePrefix(cluster, b[i:min(len(b), i+audit.MaxEventBytes)]); err == nil && e.Kind != audit.KindFinding {
			r.Events = append(r.Events, e)
			i += n
		} else {
			end := valueEnd(b, i)
			if end < 0 {
				return -1, b[min(i, len(b)):]
			}
			r.add(cluster, b[i:end:end])
			i = end
		}
		i = space(b, i)
		if i >= len(b) || b[i] != ',' && b[i] != ']' {
			return -1, b[min(i, len(b)):]
		}
		if b[i] == ']' {
			return i + 1, nil
		}
		i++
	}
}

func (r *Result) array(cluster string, body []byte, i int) (Result, error) {
	var elements [][]byte
	end, rest := cutArray(body, i, func(e []byte) { elements = append(elements, e) })
	r.Events = slices.Grow(r.Events, len(elements))
	for _, e := range elements {
		r.add(cluster, e)
	}
	if end < 0 {
		_ = r.bad(rest, errCut)
		return *r, errIfAllBad(r)
	}
	if space(body, end) < len(body) {
		return r.several(cluster, body[end:])
	}
	return *r, errIfAllBad(r)
}

// several decodes values that stand one after the other. A value begins at the latest where a line begins with a brace:
// so a damaged line costs that line alone, and the work is linear in the body.
func (r *Result) several(cluster string, b []byte) (Result, error) {
	for len(b) > 0 {
		chunk := b
		if n := bytes.Index(b, []byte("\n{")); n >= 0 {
			chunk = b[: n+1 : n+1]
		}
		b = b[len(chunk):]
		r.chunk(cluster, chunk)
	}
	return *r, errIfAllBad(r)
}

func (r *Result) chunk(cluster string, b []byte) {
	for {
		i := space(b, 0)
		if i == len(b) {
			return
		}
		end := -1
		if b[i] == '{' {
			end = valueEnd(b, i)
		}
		if end < 0 {
			r.add(cluster, bytes.TrimSpace(b[i:])) // refused, with the place in its error
			return
		}
		raw := b[i:end:end]
		if h := readHead(cluster, raw, 0); h.list() {
			r.list(cluster, raw, h)
		} else {
			r.add(cluster, raw)
		}
		b = b[end:]
	}
}

// errIfAllBad is the first reason where all of a body was refused.
func errIfAllBad(r *Result) error {
	if len(r.Events) == 0 && len(r.Rejects) > 0 {
		return r.Rejects[0].Err
	}
	return nil
}
