package envelope

import (
	"bytes"
	"fmt"
	"strings"

	"whodunit/internal/audit"
)

// columnOf names an event's field by the column of the tables AKSAudit and AKSAuditAdmin
// (learn.microsoft.com/azure/azure-monitor/reference/tables/aksaudit).
var columnOf = map[string]string{
	"AuditId": "auditID", "Level": "level", "Stage": "stage", "RequestUri": "requestURI", "Verb": "verb", "User": "user", "ImpersonatedUser": "impersonatedUser",
	"SourceIps": "sourceIPs", "UserAgent": "userAgent", "ObjectRef": "objectRef", "ResponseStatus": "responseStatus", "RequestObject": "requestObject",
	"ResponseObject": "responseObject", "RequestReceivedTime": "requestReceivedTimestamp", "StageReceivedTime": "stageTimestamp", "Annotations": "annotations",
}

// columns makes an event of a row of Azure's tables for audit events, which have a column for each field. Columns of the type dynamic come
// as JSON or as text of it.
func (d *decoder) columns(cluster string, raw []byte, f fields) {
	if err := audit.Valid(raw); err != nil {
		_ = d.bad(raw, err)
		return
	}
	id := strings.TrimRight(f.text("_ResourceId", "ResourceId", "resourceId"), "/")
	w := writer{b: append(make([]byte, 0, len(raw)), '{')}
	w.text("kind", "Event")
	w.text("apiVersion", listGroup+"v1")
	for name, v := range audit.Members(raw) {
		if to := columnOf[name]; to != "" {
			w.raw(to, v)
		}
	}
	e, err := parse(named(cluster, id[strings.LastIndexByte(id, '/')+1:]), restore(append(w.b, '}'), nil, false))
	if err != nil {
		_ = d.bad(raw, fmt.Errorf("cannot read row: %w", err))
		return
	}
	d.take(e)
}

// completed is an event with what Elastic's pipelines have moved out of it: who asked for what, from where.
func (f fields) completed(raw []byte) []byte {
	have := members(raw)
	w := writer{b: []byte{'{'}}
	add := func(name string, v []byte) {
		if have[name] == nil {
			w.raw(name, v)
		}
	}
	add("verb", members(f["event"])["action"])
	if name := members(f["user"])["name"]; quoted(name) {
		add("user", bytes.Join([][]byte{[]byte(`{"username":`), name, {'}'}}, nil))
	}
	switch ip := members(f["source"])["ip"]; {
	case quoted(ip):
		add("sourceIPs", bytes.Join([][]byte{{'['}, ip, {']'}}, nil))
	case len(ip) > 0 && ip[0] == '[':
		add("sourceIPs", ip)
	}
	add("userAgent", members(f["user_agent"])["original"])
	if len(w.b) == 1 {
		return raw
	}
	out := append(make([]byte, 0, len(raw)+len(w.b)), raw[:bytes.LastIndexByte(raw, '}')]...)
	if len(have) > 0 {
		out = append(out, ',')
	}
	return append(append(out, w.b[1:]...), '}')
}
