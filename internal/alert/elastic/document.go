package elastic

import (
	"cmp"
	"encoding/json"
	"net/url"
	"strings"
	"time"

	"whodunit/internal/alert"
	"whodunit/internal/audit"
	"whodunit/internal/explain"
	"whodunit/internal/finding"
)

// document is an alert in K8sCop's form, and behind it what K8sCop has not.
type document struct {
	Type        string `json:"a_type"`
	Timestamp   string `json:"timestamp"`
	Description string `json:"description"`
	Index       string `json:"index"` // leads to the event
	User        string `json:"user"`
	Namespace   string `json:"namespace,omitempty"`
	Pod         string `json:"pod,omitempty"`
	Kubectl     string `json:"kubectl,omitempty"` // what it would be, where another program made the request
	Response    int    `json:"response,omitempty"`
	Container   string `json:"container,omitempty"`
	Command     string `json:"command,omitempty"`

	Severity finding.Severity `json:"severity"`
	Rule     string           `json:"rule"`
	Cluster  string           `json:"cluster"`
}

// newDocument: the type is the label, of a rule of another kind its title.
func newDocument(f *alert.Finding) document {
	ev := f.Event
	command, _ := explain.Kubectl(ev)
	d := document{Type: cmp.Or(f.Title, f.Rule), Timestamp: stamp(f.Time), Description: f.Message, Index: f.AuditID, User: f.User, Namespace: ev.ObjectRef.Namespace,
		Kubectl: command, Response: ev.Response.Code, Severity: f.Severity, Rule: f.Rule, Cluster: f.Cluster}
	if ev.ObjectRef.Resource == "pods" {
		d.Pod = ev.ObjectRef.Name
		q := parameters(ev)
		d.Container, d.Command = q.Get("container"), strings.Join(q["command"], " ")
	}
	return d
}

// whole is the finding with its time in front.
func whole(f *alert.Finding) json.RawMessage {
	return append([]byte(`{"@timestamp":"`+stamp(f.Time)+`",`), f.Document()[1:]...)
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000000Z") }

// parameters is the query of the request's URI. What cannot be decoded is left out.
func parameters(ev *audit.Event) url.Values {
	_, query, _ := strings.Cut(ev.RequestURI, "?")
	v, _ := url.ParseQuery(query)
	return v
}
