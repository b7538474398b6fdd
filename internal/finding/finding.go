// Package finding is what a rule says about events: a document in the shape of an audit event, so that the journal keeps
// it and every search works on it (`rule:secret-read and user:alice`), whose kind is Finding.
package finding

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"whodunit/internal/audit"
)

// APIVersion of the document. docs/reference/finding.md specifies it.
const APIVersion = "whodunit/v1"

// Severity orders findings. The words are those of native rules.
type Severity string

// The severities, from least to most.
const (
	Info     Severity = "info"
	Low      Severity = "low"
	Medium   Severity = "medium"
	High     Severity = "high"
	Critical Severity = "critical"
)

var severities = [...]Severity{Info, Low, Medium, High, Critical}

// SeverityWords are all severities, from least to most. The caller owns the slice.
func SeverityWords() []string {
	words := make([]string, len(severities))
	for i, s := range severities {
		words[i] = string(s)
	}
	return words
}

// Rank orders severities: from 1 for the least, 0 for what is none.
func (s Severity) Rank() int { return slices.Index(severities[:], s) + 1 }

// Evidence names one event that a finding rests on.
type Evidence struct {
	Cluster  string      `json:"cluster"`
	AuditID  string      `json:"auditID"`
	Stage    audit.Stage `json:"stage"`
	Identity string      `json:"identity"` // audit.Identity in hexadecimal
}

// Finding is one rule's word on one event, or on several of which Event is the last. It holds no time of its own: the same
// events and rules give the same finding, byte for byte, so that a replay after a crash is dropped as a duplicate.
type Finding struct {
	Rule     string   // the rule's id
	Title    string   // the rule's name for people
	Severity Severity //
	Priority string   // the severity in the rule's own words, "" where it has none
	Format   string   // of the rule: "native", "falco", "sigma", "parseable", "label"
	Tags     []string
	Message  string // says who, what, where; hostile text like every field of an event
	Events   []Evidence
	// Group has a value for each path that the rule groups by, "" where the event has none; nil where the rule does not say.
	Group map[string]string
	// State is "" but where a rule's own format says that what it found is over: Resolved.
	State string
}

// Resolved is the State of a finding that says that the rule's earlier one is over: of Parseable's column rules alone.
const Resolved = "resolved"

// doc is the document on disk and on the wire: the rule's part, then the fields of the event it is about.
type doc struct {
	Kind       string      `json:"kind"`
	APIVersion string      `json:"apiVersion"`
	ID         string      `json:"id"`
	Rule       string      `json:"rule"`
	Title      string      `json:"title,omitempty"`
	Severity   Severity    `json:"severity"`
	Priority   string      `json:"priority,omitempty"`
	Format     string      `json:"format,omitempty"`
	Tags       []string    `json:"tags,omitempty"`
	Message    string      `json:"message"`
	State      string      `json:"state,omitempty"`
	Group      labels      `json:"group,omitempty"`
	Events     []Evidence  `json:"events"`
	Level      audit.Level `json:"level,omitempty"`
	AuditID    string      `json:"auditID"`
	Stage      audit.Stage `json:"stage"`
	RequestURI string      `json:"requestURI,omitempty"`
	Verb       string      `json:"verb"`
	User       user        `json:"user"`
	Imp        *user       `json:"impersonatedUser,omitempty"`
	SourceIPs  []string    `json:"sourceIPs,omitempty"`
	UserAgent  string      `json:"userAgent,omitempty"`
	Ref        *ref        `json:"objectRef,omitempty"`
	Status     *status     `json:"responseStatus,omitempty"`
	Received   string      `json:"requestReceivedTimestamp,omitempty"`
	StageTime  string      `json:"stageTimestamp,omitempty"`
}

type labels map[string]string

type user struct {
	Username string   `json:"username,omitempty"`
	UID      string   `json:"uid,omitempty"`
	Groups   []string `json:"groups,omitempty"`
}

type ref struct {
	Resource    string `json:"resource,omitempty"`
	Namespace   string `json:"namespace,omitempty"`
	Name        string `json:"name,omitempty"`
	APIGroup    string `json:"apiGroup,omitempty"`
	APIVersion  string `json:"apiVersion,omitempty"`
	Subresource string `json:"subresource,omitempty"`
}

type status struct {
	Code    int    `json:"code,omitempty"`
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message,omitempty"`
}

// Event makes the document of f about ev. ev is copied; the result shares no memory with it.
func (f Finding) Event(ev *audit.Event) (audit.Event, error) {
	d := doc{
		Kind: audit.KindFinding, APIVersion: APIVersion, Rule: f.Rule, Title: f.Title, Severity: f.Severity, Priority: f.Priority, Format: f.Format, Tags: f.Tags,
		Message: f.Message, State: f.State, Group: f.Group, Events: f.Events, Level: ev.Level, AuditID: ev.AuditID, Stage: ev.Stage, RequestURI: ev.RequestURI,
		Verb: ev.Verb, User: user{ev.User.Username, ev.User.UID, ev.User.Groups}, SourceIPs: ev.SourceIPs, UserAgent: ev.UserAgent,
		Received: stamp(ev.ReceivedMicros), StageTime: stamp(ev.StageMicros),
	}
	if i := ev.Impersonated; i.Username != "" || i.UID != "" || len(i.Groups) > 0 {
		d.Imp = &user{i.Username, i.UID, i.Groups}
	}
	if o := ev.ObjectRef; o.Resource != "" || o.Name != "" || o.Namespace != "" {
		d.Ref = &ref{o.Resource, o.Namespace, o.Name, o.APIGroup, o.APIVersion, o.Subresource}
	}
	if s := ev.Response; s.Code != 0 || s.Reason != "" {
		d.Status = &status{s.Code, s.Reason, s.Message}
	}
	h := sha256.New()
	for _, e := range f.Events {
		fmt.Fprintf(h, "%s\x00", e.Identity)
	}
	fmt.Fprintf(h, "%s\x00%s\x00%s", f.Rule, ev.Cluster, ev.AuditID)
	if f.State != "" {
		fmt.Fprintf(h, "\x00%s", f.State)
	}
	d.ID = hex.EncodeToString(h.Sum(nil)[:16])
	raw, err := json.Marshal(d)
	if err != nil {
		return audit.Event{}, fmt.Errorf("cannot encode finding of rule %s: %w", f.Rule, err)
	}
	return audit.Parse(ev.Cluster, raw)
}

// stamp writes a time as the API server does: RFC 3339 with microseconds.
func stamp(micros int64) string {
	if micros == 0 {
		return ""
	}
	return time.UnixMicro(micros).UTC().Format("2006-01-02T15:04:05.000000Z")
}
