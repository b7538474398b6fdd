package envelope

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"unsafe"

	"whodunit/internal/audit"
)

// Any decodes every form in which audit events are known to travel, and finds out by itself which one it is: what EventList takes, the
// records of Azure's diagnostic logs, CloudWatch Logs in all its wrappings, Google Cloud's log entries, search hits and documents of
// Elasticsearch and OpenSearch in five layouts, the lines of container runtimes and of `oc adm node-logs`, JSON inside strings, and gzip.
// docs/reference/envelopes.md lists them. It is a Decode. A plain event costs what it costs Line.
//
// Who may write into a stream can write events into it: give Any nothing but streams of audit events.
func Any(cluster string, body []byte) (Result, error) {
	d := decoder{any: true}
	if len(body) <= audit.MaxEventBytes && bare(body) {
		if e, err := parse(cluster, body); err == nil {
			d.take(e)
			return d.Result, nil
		}
	}
	if packed(body) {
		d.unpack(cluster, body)
		return d.Result, d.errIfAllBad()
	}
	err := d.body(cluster, body)
	return d.Result, err
}

// Plain reports whether a line is a single event without a trace of a shipper. In a log that begins so, Any would give the lines as they
// are.
func Plain(line []byte) bool {
	e, err := parse("x", line)
	return err == nil && !touched(e.Raw)
}

// fields are the members of an object that envelopes are known by.
type fields map[string][]byte

// knownFields are the names that open looks at.
var knownFields = map[string]bool{
	"records": true, "Records": true, "properties": true, "category": true, "Category": true, "resourceId": true, "ResourceId": true, "_ResourceId": true, "log_s": true, "AuditId": true, // Azure
	"awslogs": true, "logEvents": true, "messageType": true, "logGroup": true, "logStream": true, "events": true, "kinesis": true, "data": true, "logStreamName": true, "Data": true, "Sns": true, "Message": true, "body": true, // AWS
	"protoPayload": true, "logName": true, "resource": true, "insertId": true, "receivedMessages": true, "entries": true, "textPayload": true, "jsonPayload": true, // Google
	"hits": true, "_source": true, "responses": true, "docs": true, "kubernetes": true, "kubernetes.audit": true, "orchestrator": true, "@timestamp": true, "event": true, "user": true, "source": true, "user_agent": true, // Elasticsearch
	"message": true, "log": true, "log_processed": true, "payload": true, "original": true, "cluster": true, "cluster_name": true,
}

// text is a member's text, "" where it is no string. It may share the member's memory.
func (f fields) text(names ...string) string {
	for _, n := range names {
		if v := f[n]; len(v) > 0 && v[0] == '"' {
			t, _ := audit.Text(v)
			return t
		}
	}
	return ""
}

// is reports whether a member is there and begins as c does: '{', '[' or '"'.
func (f fields) is(name string, c byte) bool { return len(f[name]) > 0 && f[name][0] == c }

// read takes the known members out of an object. Of duplicates the last counts, as in every decoder. false: it is damaged; then the last
// may be a list or an object that breaks off.
func read(raw []byte) (fields, bool) {
	if len(raw) == 0 || raw[0] != '{' {
		return nil, false
	}
	f := fields{}
	end := cutObject(raw, 0, func(name []byte, at int) int {
		end := valueEnd(raw, at)
		if bytes.IndexByte(name, '\\') >= 0 {
			t, _ := audit.Text([]byte(`"` + string(name) + `"`))
			name = []byte(t)
		}
		switch {
		case !knownFields[string(name)]:
		case end >= 0:
			f[string(name)] = raw[at:end:end]
		case at < len(raw) && (raw[at] == '[' || raw[at] == '{' && string(name) == "hits"):
			f[string(name)] = raw[at:]
		}
		return end
	})
	return f, end >= 0
}

// open takes the events out of an object that is none itself. false: it has no form that is known.
func (d *decoder) open(cluster string, raw []byte) bool {
	f, ok := read(raw)
	if !ok && !f.listed() {
		return false
	}
	if d.depth >= maxNest {
		_ = d.bad(raw, fmt.Errorf("%w: nested deeper than %d", ErrEnvelope, maxNest))
		return true
	}
	d.depth++
	defer func() { d.depth-- }()
	if f.list(d, cluster) || d.cloudWatch(cluster, f) {
		return true
	}
	switch {
	case f.is("protoPayload", '{'):
		d.logEntry(cluster, raw, f)
	case f["logName"] != nil && f["insertId"] != nil:
		if !f.is("jsonPayload", '{') && !f.is("textPayload", '"') || !d.inner(cluster, raw, f) {
			d.skip(SkipService, 1)
		}
	case f["properties"] != nil && (f.text("category", "Category") != "" || f.text("resourceId", "ResourceId") != ""), f["log_s"] != nil:
		d.azure(cluster, raw, f)
	case f["AuditId"] != nil:
		d.columns(cluster, raw, f)
	case f.is("_source", '{'):
		d.document(cluster, f["_source"])
	case f.is("hits", '{'):
		return d.open(cluster, f["hits"])
	case d.elastic(cluster, f):
	case f.is("data", '"'):
		d.base64(cluster, raw, f["data"])
	case f.is("Data", '"'):
		d.base64(cluster, raw, f["Data"])
	default:
		return d.inner(cluster, raw, f)
	}
	return true
}

// lists are the names of lists of envelopes.
var lists = []string{"records", "Records", "entries", "receivedMessages", "hits", "responses", "docs"}

// listed reports whether the object is known by a list, of which the beginning is of use too.
func (f fields) listed() bool {
	return f.is("hits", '{') || f.is("logEvents", '[') || f.is("events", '[') || slices.ContainsFunc(lists, func(name string) bool { return f.is(name, '[') })
}

// list opens what is a list of envelopes.
func (f fields) list(d *decoder, cluster string) bool {
	for _, name := range lists {
		if f.is(name, '[') {
			d.elements(cluster, f[name])
			return true
		}
	}
	return false
}

func (d *decoder) elements(cluster string, list []byte) {
	if end, rest := d.items(cluster, list, 0); end < 0 {
		_ = d.bad(rest, errCut)
	}
}

// inner looks for an event in the members in which shippers keep a log line: as a string, or parsed.
func (d *decoder) inner(cluster string, raw []byte, f fields) bool {
	cluster = named(cluster, f.text("cluster", "cluster_name"))
	for _, name := range []string{"log_processed", "kinesis", "Sns", "message", "Message", "log", "payload", "body", "event", "original", "jsonPayload", "textPayload"} {
		switch {
		case f.is(name, '{'):
			before := len(d.Events)
			if e, err := parse(cluster, f[name]); err == nil {
				d.take(e)
				return true
			}
			if d.open(cluster, f[name]) && (len(d.Events) > before || name != "event") {
				return true
			}
		case f.is(name, '"') && bytes.IndexByte(f[name], '{') > 0:
			d.text(cluster, f[name])
			return true
		}
	}
	return d.target(cluster, raw)
}

// target finds the event under a name that somebody chose, as Logstash's json filter and Filebeat's decode_json_fields let them.
func (d *decoder) target(cluster string, raw []byte) bool {
	found := false
	cutObject(raw, 0, func(name []byte, at int) int {
		end := valueEnd(raw, at)
		if end < 0 || found || raw[at] != '{' || !bare(raw[at:end]) {
			return end
		}
		if e, err := parse(cluster, raw[at:end:end]); err == nil {
			found = true
			d.take(e)
		}
		return end
	})
	return found
}

// cutMark is what CloudWatch Logs puts at the end of a message over 256 KiB.
const cutMark = "[Truncated...]"

// text decodes the string v as a body of its own.
func (d *decoder) text(cluster string, v []byte) {
	t, _ := audit.Text(v)
	b := bytes.TrimSpace(bytesOf(t))
	if bytes.HasSuffix(b, []byte(cutMark)) {
		_ = d.bad(b, fmt.Errorf("%w: it ends with %q", ErrTruncated, cutMark))
		return
	}
	if len(b) == 0 {
		_ = d.bad(v, errEmpty)
		return
	}
	if d.depth >= maxNest {
		_ = d.bad(b, fmt.Errorf("%w: nested deeper than %d", ErrEnvelope, maxNest))
		return
	}
	d.depth++
	_ = d.body(cluster, b) // what is wrong is with the rejected
	d.depth--
}

// odds decodes a line that begins with something else than a brace: a JSON string, or an event behind what a shipper wrote before it (the
// node's name, the container runtime's time and stream). A quote in front of the brace would make it the rest of a torn line, in which a
// client could have planted an event; so would anything behind it.
func (d *decoder) odds(cluster string, line []byte) {
	const longest = 512
	if line[0] == '"' && stringEnd(line, 0) == len(line) {
		d.text(cluster, line)
		return
	}
	i := bytes.IndexByte(line[:min(len(line), longest)], '{')
	if i > 0 && bytes.IndexByte(line[:i], '"') < 0 {
		if bytes.HasSuffix(line, []byte(cutMark)) {
			_ = d.bad(line, fmt.Errorf("%w: it ends with %q", ErrTruncated, cutMark))
			return
		}
		if valueEnd(line, i) == len(line) {
			d.add(cluster, line[i:])
			return
		}
	}
	_, err := parse(cluster, line)
	if err == nil {
		err = errCut // cannot be
	}
	_ = d.bad(line, err)
}

func first(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// named is the caller's name of the cluster, else the envelope's, if it is fit to be one: letters, digits, dots, dashes and underscores.
func named(cluster, envelope string) string {
	if cluster != "" || len(envelope) > 253 || envelope == "." || envelope == ".." {
		return cluster
	}
	for _, c := range []byte(envelope) {
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '.' || c == '_' || c == '-') {
			return ""
		}
	}
	return strings.Clone(envelope)
}

// bare reports whether an object has an event's auditID at its top: then it is an event, or should be one, and nothing is looked for in it,
// since what is below may be a client's.
func bare(raw []byte) bool {
	if len(raw) == 0 || raw[0] != '{' {
		return false
	}
	if bytes.HasPrefix(raw, []byte(`{"kind":"Event","apiVersion":"`+listGroup)) { // as the API server begins
		return true
	}
	found := false
	cutObject(raw, 0, func(name []byte, at int) int {
		if found = string(name) == "auditID"; found {
			return -1
		}
		return valueEnd(raw, at)
	})
	return found
}

// bytesOf views s as bytes, which must not be written to.
func bytesOf(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }
