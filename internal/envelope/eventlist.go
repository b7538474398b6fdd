package envelope

import (
	"bytes"
	"errors"
	"fmt"
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
	var d decoder
	err := d.body(cluster, body)
	return d.Result, err
}

// body decodes a whole text.
func (d *decoder) body(cluster string, body []byte) error {
	body = withoutMark(body)
	i := space(body, 0)
	if i == len(body) {
		return errEmpty
	}
	switch body[i] {
	case '[':
		return d.array(cluster, body, i)
	case '{':
	default:
		if d.any {
			return d.several(cluster, body[i:])
		}
		if err := audit.Valid(body); err == nil {
			return d.bad(body, fmt.Errorf("%w: the body is JSON, but no object and no array", audit.ErrNotAudit))
		} else if bytes.IndexByte(body, '{') < 0 {
			return d.bad(body, fmt.Errorf("cannot parse audit events: %w", err))
		}
		return d.several(cluster, body[i:])
	}
	h := d.readHead(cluster, body, i)
	if h.list() {
		d.list(cluster, body, h)
		if h.end < 0 || space(body, h.end) == len(body) {
			return d.errIfAllBad()
		}
		return d.several(cluster, body[h.end:])
	}
	if h.end >= 0 {
		d.add(cluster, body[i:h.end:h.end])
		return d.several(cluster, body[h.end:])
	}
	return d.several(cluster, body[i:])
}

// head is what the members of one top-level object say about it. Its values are slices of the body.
type head struct {
	kind, version string
	hasItems      bool
	found         decoder // of the items
	rest          []byte  // of items, what could not be cut
	end           int     // index behind the object; -1 where it is damaged
}

func (h *head) list() bool {
	return h.kind == "EventList" || h.hasItems && (h.kind == "" || strings.HasSuffix(h.kind, "List"))
}

// readHead walks over the object that begins at b[i]. Items of a repeated `items` are all taken: nothing may hide there.
func (d *decoder) readHead(cluster string, b []byte, i int) (h head) {
	h = head{end: -1, found: decoder{any: d.any, depth: d.depth, unpacked: d.unpacked}}
	defer func() { d.unpacked = h.found.unpacked }()
	h.end = cutObject(b, i, func(name []byte, at int) int { return h.member(cluster, b, at, name) })
	return h
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
func (d *decoder) list(cluster string, raw []byte, h head) {
	if h.kind != "" && h.kind != "EventList" || h.version != "" && !strings.HasPrefix(h.version, listGroup) {
		_ = d.bad(raw, fmt.Errorf("%w: a list with kind %.60q and apiVersion %.60q; wanted is an EventList of %sv1",
			audit.ErrNotAudit, h.kind, h.version, listGroup))
		return
	}
	d.merge(&h.found)
	if h.end < 0 {
		if h.rest == nil {
			h.rest = raw
		}
		_ = d.bad(h.rest, errCut)
	}
}

// merge adds what another decoder found.
func (d *decoder) merge(of *decoder) {
	if len(d.Events) == 0 {
		d.Events = of.Events
	} else {
		for i := range of.Events {
			d.take(of.Events[i])
		}
	}
	for _, x := range of.Rejects {
		_ = d.bad(x.Raw, x.Err)
	}
	d.Omitted += of.Omitted
	for reason, n := range of.Skipped {
		d.skip(reason, n)
	}
}

// items adds the elements of the array that begins at b[i]: each is parsed where it stands, and only one that is refused is cut out
// first. The results are those of cutArray.
func (d *decoder) items(cluster string, b []byte, i int) (end int, rest []byte) {
	i = space(b, i+1)
	if i < len(b) && b[i] == ']' {
		return i + 1, nil
	}
	for {
		if i = space(b, i); d.hopeless() {
			return -1, b[min(i, len(b)):]
		}
		if d.any && !bare(b[i:]) {
			end := valueEnd(b, i)
			if end < 0 {
				return -1, b[min(i, len(b)):]
			}
			if raw := b[i:end:end]; !d.wrapped(cluster, raw) {
				d.parsed(cluster, raw) // refused, with the reason
			}
			i = end
		} else if e, n, err := audit.ParsePrefix(cluster, b[i:min(len(b), i+audit.MaxEventBytes)]); err == nil && e.Kind != audit.KindFinding {
			d.take(e)
			i += n
		} else {
			end := valueEnd(b, i)
			if end < 0 {
				return -1, b[min(i, len(b)):]
			}
			d.parsed(cluster, b[i:end:end])
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

func (d *decoder) array(cluster string, body []byte, i int) error {
	end, rest := d.items(cluster, body, i)
	if end < 0 {
		_ = d.bad(rest, errCut)
		return d.errIfAllBad()
	}
	if space(body, end) < len(body) {
		return d.several(cluster, body[end:])
	}
	return d.errIfAllBad()
}

// several decodes values that stand one after the other. A value begins at the latest where a line begins with a brace:
// so a damaged line costs that line alone, and the work is linear in the body.
func (d *decoder) several(cluster string, b []byte) error {
	for len(b) > 0 {
		chunk := b
		if n := bytes.Index(b, []byte("\n{")); n >= 0 {
			chunk = b[: n+1 : n+1]
		}
		if b = b[len(chunk):]; d.hopeless() {
			break
		}
		d.chunk(cluster, chunk)
	}
	return d.errIfAllBad()
}

func (d *decoder) chunk(cluster string, b []byte) {
	for {
		i := space(b, 0)
		if i == len(b) || d.hopeless() {
			return
		}
		if d.any && b[i] == ',' { // lines of what was an array
			b = b[i+1:]
			continue
		}
		if d.any && b[i] != '{' && b[i] != '[' {
			line, rest, _ := bytes.Cut(b[i:], []byte{'\n'})
			d.odds(cluster, bytes.Trim(line, " \t\r"))
			b = rest
			continue
		}
		end := -1
		if b[i] == '{' || d.any {
			end = valueEnd(b, i)
		}
		if end < 0 && d.any && b[i] == '[' {
			_, rest := d.items(cluster, b, i)
			_ = d.bad(rest, errCut)
			return
		}
		if end < 0 && d.any && !bare(b[i:]) && d.open(cluster, b[i:]) {
			return
		}
		if end < 0 {
			d.refuse(cluster, bytes.TrimSpace(b[i:])) // with the place in its error
			return
		}
		raw := b[i:end:end]
		if raw[0] == '[' {
			_, _ = d.items(cluster, raw, 0)
		} else if h := d.readHead(cluster, raw, 0); h.list() {
			d.list(cluster, raw, h)
		} else {
			d.add(cluster, raw)
		}
		b = b[end:]
	}
}

// refuse is add for what cannot be an event, since it does not end.
func (d *decoder) refuse(cluster string, raw []byte) {
	if d.any && d.depth > 0 {
		_ = d.bad(raw, fmt.Errorf("%w: its JSON ends early", ErrTruncated))
		return
	}
	_, err := parse(cluster, raw)
	if err == nil {
		err = errCut
	}
	_ = d.bad(raw, err)
}
