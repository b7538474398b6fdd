package falco

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"whodunit/internal/audit"
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

// Alert is the JSON that Falco would send for an event that satisfies r, a rule of this format: Falcosidekick and whatever else listens
// for Falco takes it. The same rule and event give the same bytes, the uuid included. Times are UTC. The error is permanent: r is of
// another format, or is switched off.
func Alert(r *rule.Rule, ev *audit.Event, hostname string) ([]byte, error) {
	out, ok := r.Message.(*output)
	if !ok {
		return nil, fmt.Errorf("cannot make a falco alert of rule %s: its format is %s", r.ID, r.Format)
	}
	t := ev.Time()
	a := alert{Hostname: hostname, Output: t.Format("15:04:05.000000000") + ": " + r.Priority + " " + out.Render(ev), Priority: r.Priority, Rule: r.Title,
		Source: Source, Tags: append([]string{}, r.Tags...), Time: t.Format("2006-01-02T15:04:05.000000000Z"), UUID: uuid(r, ev),
		Fields: map[string]any{"evt.time": t.UnixMicro() * int64(time.Microsecond)}}
	slices.Sort(a.Tags)
	for _, p := range out.parts {
		if p.field != nil {
			a.Fields[p.field.name] = p.field.value(ev)
		}
	}
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(a); err != nil {
		return nil, fmt.Errorf("cannot encode falco alert of rule %s: %w", r.ID, err)
	}
	return []byte(strings.TrimSuffix(b.String(), "\n")), nil
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
func uuid(r *rule.Rule, ev *audit.Event) string {
	h := sha256.Sum256([]byte(r.Title + "\x00" + ev.Identity().String()))
	h[6], h[8] = h[6]&0x0f|0x80, h[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", h[:4], h[4:6], h[6:8], h[8:10], h[10:16])
}
