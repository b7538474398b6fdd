package alert

import (
	"encoding/json"
	"fmt"
	"time"

	"whodunit/internal/finding"
)

// Document is the finding as receivers get it: docs/reference/finding.md, with the member "cluster" in front. The caller owns it.
func (f *Finding) Document() json.RawMessage {
	name, err := json.Marshal(f.Cluster)
	if err != nil || len(f.Doc) < 3 {
		return append(json.RawMessage(nil), f.Doc...)
	}
	out := make([]byte, 0, len(f.Doc)+len(name)+12)
	out = append(out, `{"cluster":`...)
	out = append(append(out, name...), ',')
	return append(out, f.Doc[1:]...)
}

type groupDocument struct {
	Version  string            `json:"version"`
	Receiver string            `json:"receiver"`
	Key      string            `json:"groupKey"`
	Labels   map[string]string `json:"groupLabels"`
	Status   string            `json:"status"`
	Alerts   []alertDocument   `json:"alerts"`
}

type alertDocument struct {
	Status      string            `json:"status"`
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
	StartsAt    time.Time         `json:"startsAt"`
	EndsAt      time.Time         `json:"endsAt,omitzero"`
	Link        string            `json:"link,omitempty"`
}

// Document is the group as receivers get it at the time now, one line of JSON: {"version":"1","receiver","groupKey","groupLabels","status",
// "alerts":[{"status","labels","annotations","startsAt","endsAt","link"}]}. A status is firing or resolved; a group is resolved when all of its
// alerts are. Times are UTC. An error is permanent.
func (g *Group) Document(now time.Time) (json.RawMessage, error) {
	d := groupDocument{Version: "1", Receiver: g.Receiver, Key: g.Key, Labels: texts(g.Labels), Status: finding.Resolved, Alerts: make([]alertDocument, len(g.Alerts))}
	for i := range g.Alerts {
		a := &g.Alerts[i]
		status := finding.Resolved
		if !a.Resolved(now) {
			status, d.Status = "firing", "firing"
		}
		d.Alerts[i] = alertDocument{Status: status, Labels: texts(a.Labels), Annotations: texts(a.Annotations), StartsAt: a.StartsAt.UTC(), EndsAt: a.EndsAt.UTC(), Link: a.Link}
	}
	out, err := json.Marshal(d)
	if err != nil {
		return nil, fmt.Errorf("%w: cannot encode group of alerts: %w", ErrRejected, err)
	}
	return out, nil
}

// texts is m, and never null in JSON.
func texts(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}
