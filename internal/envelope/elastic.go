package envelope

import (
	"bytes"
	"encoding/json"
	"strings"

	"whodunit/internal/audit"
)

// document decodes the _source of a hit: an event at the top, perhaps with bodies that are strings, or any of the forms that open knows.
func (d *decoder) document(cluster string, source []byte) { d.add(cluster, source) }

// elastic opens a document of Elastic Agent's or Filebeat's Kubernetes integration, which has the event under kubernetes.audit
// (elastic.co/docs/reference/integrations/kubernetes/audit-logs).
func (d *decoder) elastic(cluster string, f fields) bool {
	raw := f["kubernetes.audit"]
	if f.is("kubernetes", '{') {
		cutObject(f["kubernetes"], 0, func(name []byte, at int) int {
			end := valueEnd(f["kubernetes"], at)
			if end >= 0 && string(name) == "audit" {
				raw = f["kubernetes"][at:end:end]
			}
			return end
		})
	}
	if len(raw) == 0 || raw[0] != '{' {
		return false
	}
	if err := audit.Valid(raw); err != nil {
		_ = d.bad(raw, err)
		return true
	}
	for name, v := range audit.Members(f["orchestrator"]) {
		for in, v := range audit.Members(v) {
			if t, ok := audit.Text(v); ok && name == "cluster" && in == "name" {
				cluster = named(cluster, t)
			}
		}
	}
	e, err := parse(cluster, f.completed(restore(raw, f["@timestamp"], true)))
	if err != nil {
		_ = d.bad(raw, err)
		return true
	}
	d.take(e)
	return true
}

const gdchCluster = "_gdch_cluster" // of Google Distributed Cloud, beside the event's own fields

// odd reports whether an event is one that a shipper has changed: bodies that are strings, names of annotations without dots, or the
// cluster's name among its fields. A client can make an API server log a string as a body, too, so without an envelope that counts only
// beside a field that no API server writes.
func odd(e *audit.Event, wrapped bool) bool {
	if e.Cluster == "" && bytes.Contains(e.Raw, []byte(gdchCluster)) { // without the quote: an underscore is found much faster
		return true
	}
	text := quoted(e.RequestObject) || quoted(e.ResponseObject) || e.User.Username == ""
	return (text || undotted(e)) && (wrapped || touched(e.Raw))
}

func quoted(v []byte) bool { return len(v) > 0 && v[0] == '"' }

// undotted reports whether the names of an event's annotations may have lost their dots: the authorizer's are in nearly all.
func undotted(e *audit.Event) bool {
	return e.Decision == "" && len(e.Annotations) > 0 && (bytes.Contains(e.Annotations, []byte("_io/")) || bytes.Contains(e.Annotations, []byte(":{")))
}

// ownFields are the fields of an Event in any version of its API (staging/src/k8s.io/apiserver/pkg/apis/audit). Clients cannot add to them.
var ownFields = map[string]bool{
	"kind": true, "apiVersion": true, "metadata": true, "level": true, "timestamp": true, "auditID": true, "stage": true, "requestURI": true, "verb": true,
	"user": true, "impersonatedUser": true, "authenticationMetadata": true, "sourceIPs": true, "userAgent": true, "objectRef": true, "responseStatus": true,
	"requestObject": true, "responseObject": true, "requestReceivedTimestamp": true, "stageTimestamp": true, "annotations": true,
}

// touched reports whether an event has a field that no API server writes: a shipper has added it.
func touched(raw []byte) bool {
	return cutObject(raw, space(raw, 0), func(name []byte, at int) int {
		if !ownFields[string(name)] {
			return -1
		}
		return valueEnd(raw, at)
	}) < 0
}

// restored is the event as the API server wrote it, as far as that can be told; e where it cannot.
func restored(e audit.Event) audit.Event {
	cluster := e.Cluster
	if cluster == "" {
		for name, v := range audit.Members(e.Raw) {
			if name == gdchCluster {
				t, _ := audit.Text(v)
				cluster = named("", t)
			}
		}
	}
	out, err := parse(cluster, restore(e.Raw, nil, undotted(&e)))
	if err != nil {
		e.Cluster = cluster
		return e
	}
	return out
}

// structured are the fields of an event that are objects or arrays.
var structured = map[string]bool{
	"requestObject": true, "responseObject": true, "user": true, "impersonatedUser": true, "objectRef": true, "responseStatus": true,
	"annotations": true, "sourceIPs": true,
}

// restore writes an event anew: structured fields that are strings become what the string says ("none" nothing), and with dedot, names of
// annotations get back the dots that Elasticsearch's shippers take for a path. at is the event's time where it has none. raw is well-formed.
func restore(raw, at []byte, dedot bool) []byte {
	if !changes(raw, at, dedot) {
		return raw
	}
	out := make([]byte, 0, len(raw)+len(at)+32)
	out = append(out, '{')
	timed := len(at) == 0 || at[0] != '"'
	for name, v := range audit.Members(raw) {
		if structured[name] && v[0] == '"' {
			t, _ := audit.Text(v)
			b := bytes.TrimSpace(bytesOf(t))
			switch {
			case len(b) == 0, strings.EqualFold(t, "none"), t == "null":
				continue
			case (b[0] == '{' || b[0] == '[') && audit.Valid(b) == nil:
				v = b
			}
		}
		if dedot && name == "annotations" && v[0] == '{' {
			v = annotations(v)
		}
		timed = timed || name == "stageTimestamp" || name == "requestReceivedTimestamp" || name == "timestamp"
		out = append(appendText(out, name), ':')
		out = append(append(out, v...), ',')
	}
	if !timed {
		out = append(append(append(out, `"stageTimestamp":`...), at...), ',')
	}
	if out[len(out)-1] == ',' {
		out = out[:len(out)-1]
	}
	return append(out, '}')
}

// changes reports whether restore has something to do.
func changes(raw, at []byte, dedot bool) bool {
	if dedot || len(at) > 0 {
		return true
	}
	for name, v := range audit.Members(raw) {
		if structured[name] && v[0] == '"' {
			return true
		}
	}
	return false
}

// annotations gives names back their dots: before the slash no annotation can have an underscore (a DNS subdomain has none), so there each
// was a dot; and where each dot has become an object, the path is the name.
func annotations(v []byte) []byte {
	out := []byte{'{'}
	var walk func(prefix string, v []byte, depth int)
	walk = func(prefix string, v []byte, depth int) {
		for name, mv := range audit.Members(v) {
			if name = prefix + name; mv[0] == '{' && depth < maxNest {
				walk(name+".", mv, depth+1)
				continue
			}
			if domain, rest, ok := strings.Cut(name, "/"); ok {
				name = strings.ReplaceAll(domain, "_", ".") + "/" + rest
			}
			out = append(appendText(out, name), ':')
			out = append(append(out, mv...), ',')
		}
	}
	walk("", v, 0)
	if out[len(out)-1] == ',' {
		out = out[:len(out)-1]
	}
	return append(out, '}')
}

// appendText appends s as a JSON string.
func appendText(b []byte, s string) []byte {
	q, err := json.Marshal(s)
	if err != nil { // a string can always be written
		return append(b, `""`...)
	}
	return append(b, q...)
}
