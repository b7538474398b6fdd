package falco

import (
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"whodunit/internal/audit"
	"whodunit/internal/finding"
	"whodunit/internal/rule"
)

// alert is what Falco sends, member for member in its order (falcosecurity/falco, userspace/engine/formats.cpp).
type alert struct {
	Hostname string         `json:"hostname"`
	Output   string         `json:"output"`
	Fields   map[string]any `json:"output_fields"`
	Priority string         `json:"priority"`
	Rule     string         `json:"rule"`
	Source   string         `json:"source"`
	Tags     []string       `json:"tags"`
	Time     string         `json:"time"`
	UUID     string         `json:"uuid"`
}

// encode writes a in one line.
func (a *alert) encode() ([]byte, error) {
	slices.Sort(a.Tags)
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(a); err != nil {
		return nil, fmt.Errorf("cannot encode falco alert of rule %s: %w", a.Rule, err)
	}
	return []byte(strings.TrimSuffix(b.String(), "\n")), nil
}

// newAlert has all but the fields of the output.
func newAlert(hostname, rule, priority, message, id string, tags []string, t time.Time) *alert {
	return &alert{Hostname: hostname, Output: t.Format("15:04:05.000000000") + ": " + priority + " " + message, Priority: priority, Rule: rule,
		Source: Source, Tags: append([]string{}, tags...), Time: t.Format("2006-01-02T15:04:05.000000000Z"), UUID: uuid(rule, id),
		Fields: map[string]any{"evt.time": t.UnixMicro() * int64(time.Microsecond)}}
}

// Alert is the JSON that Falco would send for an event that satisfies r, a rule of this format: Falcosidekick and whatever else listens
// for Falco takes it. The same rule and event give the same bytes, the uuid included. Times are UTC. The error is permanent: r is of
// another format, or is switched off.
func Alert(r *rule.Rule, ev *audit.Event, hostname string) ([]byte, error) {
	out, ok := r.Message.(*output)
	if !ok {
		return nil, fmt.Errorf("cannot make a falco alert of rule %s: its format is %s", r.ID, r.Format)
	}
	a := newAlert(hostname, r.Title, r.Priority, out.Render(ev), ev.Identity().String(), r.Tags, ev.Time())
	for _, p := range out.parts {
		if p.field != nil {
			a.Fields[p.field.name] = p.field.value(ev)
		}
	}
	return a.encode()
}

// value is an operand's values for an alert: nil where there are none, a number, a text, or a list of texts.
func (o *operand) value(ev *audit.Event) any {
	v := o.collect(ev)
	for i := range v {
		v[i] = rule.Shorten(v[i], maxFieldBytes)
	}
	switch {
	case len(v) == 0:
		return nil
	case o.list:
		return v
	case o.number:
		return json.Number(v[0])
	}
	return v[0]
}

// uuid names the alert: a UUID (RFC 9562, version 8) made of the rule and the event's identity.
func uuid(rule, id string) string {
	h := sha256.Sum256([]byte(rule + "\x00" + id))
	h[6], h[8] = h[6]&0x0f|0x80, h[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", h[:4], h[4:6], h[6:8], h[8:10], h[10:16])
}

// FindingAlert is the alert for a finding of a rule of any format: ev is the finding's document. Its output, priority, time and uuid are
// those of Alert for the same Falco rule and event; a rule of another format gets the priority of its severity. The output's fields
// are what the document has of the event, each a text but for evt.time. The error is permanent.
func FindingAlert(ev *audit.Event, hostname string) ([]byte, error) {
	var d finding.Finding
	if err := json.Unmarshal(ev.Raw, &d); err != nil || ev.Kind != audit.KindFinding {
		return nil, fmt.Errorf("cannot make a falco alert of %s: it is no finding", ev.AuditID)
	}
	id := ""
	for i := range d.Events {
		id += d.Events[i].Identity
	}
	a := newAlert(hostname, cmp.Or(d.Title, d.Rule), priority(&d), d.Message, id+d.State, d.Tags, ev.Time())
	code := ""
	if ev.Response.Code != 0 {
		code = strconv.Itoa(ev.Response.Code)
	}
	for name, v := range map[string]string{
		"ka.auditid": ev.AuditID, "ka.stage": string(ev.Stage), "ka.verb": ev.Verb, "ka.uri": ev.RequestURI, "ka.useragent": ev.UserAgent,
		"ka.user.name": ev.User.Username, "ka.user.groups": strings.Join(ev.User.Groups, ","), "ka.impuser.name": ev.Impersonated.Username,
		"ka.sourceips": strings.Join(ev.SourceIPs, ","), "ka.response.code": code, "ka.response.reason": ev.Response.Reason,
		"ka.target.resource": ev.ObjectRef.Resource, "ka.target.subresource": ev.ObjectRef.Subresource,
		"ka.target.namespace": ev.ObjectRef.Namespace, "ka.target.name": ev.ObjectRef.Name,
		"ka.cluster.name": ev.Cluster, "jevt.time": ev.Time().Format("15:04:05.000000000"),
	} {
		if v != "" {
			a.Fields[name] = rule.Shorten(v, maxFieldBytes)
		}
	}
	return a.encode()
}

// priority is the finding's in Falco's words.
func priority(f *finding.Finding) string {
	if i, ok := parsePriority(f.Priority); ok && f.Format == "falco" {
		return priorities[i].word
	}
	switch f.Severity {
	case finding.Critical:
		return "Critical"
	case finding.High:
		return "Error"
	case finding.Medium:
		return "Warning"
	case finding.Low:
		return "Notice"
	default:
		return "Informational"
	}
}
