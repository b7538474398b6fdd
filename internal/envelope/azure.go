package envelope

import (
	"fmt"
	"strings"
)

// azure opens a record of AKS's diagnostic logs, as Event Hubs and storage accounts have them, or a row of AzureDiagnostics
// (learn.microsoft.com/azure/azure-monitor/platform/resource-logs-schema). The event is a string, or an object where a pipeline has parsed
// it. The cluster is the last element of the resource's id, in capitals as Azure writes it.
func (d *decoder) azure(cluster string, raw []byte, f fields) {
	if c := f.text("category", "Category"); c != "" && !strings.HasPrefix(strings.ToLower(c), "kube-audit") {
		d.skip(SkipCategory, 1)
		return
	}
	id := strings.TrimRight(f.text("resourceId", "ResourceId", "_ResourceId"), "/")
	cluster = named(cluster, id[strings.LastIndexByte(id, '/')+1:])
	p, log := f["properties"], f["log_s"]
	if len(p) > 0 && p[0] == '"' { // some exports write all of it as text
		p = bytesOf(f.text("properties"))
	}
	if inner, ok := read(p); ok && inner["log"] != nil {
		log = inner["log"]
	}
	switch {
	case len(log) > 0 && log[0] == '"':
		d.text(cluster, log)
	case len(log) > 0 && log[0] == '{':
		d.add(cluster, log)
	default:
		_ = d.bad(raw, fmt.Errorf("%w: a record without properties.log", errNoEvent))
	}
}
