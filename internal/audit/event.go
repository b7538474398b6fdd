// Package audit holds one Kubernetes audit event over its raw bytes, its identity, and batches of them.
//
// The field names and meanings are those of audit.k8s.io/v1 Event
// (https://kubernetes.io/docs/reference/config-api/apiserver-audit.v1/). The older v1beta1 and v1alpha1 forms are read
// as well: they differ in `timestamp` (where requestReceivedTimestamp is missing) and, in v1alpha1, in an objectRef whose
// apiVersion carries the group.
package audit

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Stage is the point in a request's life at which the API server made the event.
type Stage string

// The stages, in the order in which a request passes them. Panic replaces ResponseComplete.
const (
	StageRequestReceived  Stage = "RequestReceived"
	StageResponseStarted  Stage = "ResponseStarted"
	StageResponseComplete Stage = "ResponseComplete"
	StagePanic            Stage = "Panic"
)

// Level says how much of a request the audit policy let into the event.
type Level string

// The levels, from least to most.
const (
	LevelNone            Level = "None"
	LevelMetadata        Level = "Metadata"
	LevelRequest         Level = "Request"
	LevelRequestResponse Level = "RequestResponse"
)

var levelRank = map[Level]int{LevelNone: 1, LevelMetadata: 2, LevelRequest: 3, LevelRequestResponse: 4}

// Covers reports whether an event of level l carries at least what one of level need carries. Unknown levels cover nothing.
func (l Level) Covers(need Level) bool { return levelRank[l] > 0 && levelRank[l] >= levelRank[need] }

// Annotation keys that the API server's authorizer writes (k8s.io/apiserver/pkg/endpoints/filters/authorization.go).
const (
	AnnotationDecision = "authorization.k8s.io/decision"
	AnnotationReason   = "authorization.k8s.io/reason"
)

// KindFinding marks the documents that whodunit itself writes in the shape of an event; see package finding.
const KindFinding = "Finding"

// User is who made a request, or whom the request impersonated.
type User struct {
	Username, UID string
	Groups        []string
	Extra         []byte // raw JSON object, nil where missing
}

// ObjectRef is the object that a request was about.
type ObjectRef struct {
	Resource, Namespace, Name, UID string
	APIGroup, APIVersion           string
	ResourceVersion, Subresource   string
}

// Status is the outcome of a request.
type Status struct {
	Code                    int // HTTP status; 0 while there is none
	Status, Reason, Message string
}

// Flags are facts about an event that are ours, not the API server's. They are kept beside the raw bytes.
type Flags uint8

// FlagIDReused marks an event whose cluster, auditID and stage came before with other content. Clients may choose their
// auditID, so this is a trace of somebody hiding, or of two API servers that share a cluster name.
const FlagIDReused Flags = 1 << 0

// FlagGeneric marks a JSON object that is no audit event: a log line of another system, under rules of another log source. Only Raw
// and Cluster are set.
const FlagGeneric Flags = 1 << 1

// Generic makes an event of any JSON object, for rules about other logs. It takes ownership of raw. Every error is permanent.
func Generic(cluster string, raw []byte) (Event, error) {
	raw = bytes.TrimSpace(raw)
	if err := Valid(raw); err != nil {
		return Event{}, fmt.Errorf("cannot parse event: %w", err)
	}
	if raw[0] != '{' {
		return Event{}, fmt.Errorf("%w: a JSON object is wanted", ErrNotAudit)
	}
	return Event{Cluster: cluster, Raw: raw, Flags: FlagGeneric}, nil
}

// Event is one audit event. Raw is exactly what arrived (after redaction) and is never changed; the strings may share
// its memory, so keeping one keeps the whole event alive: clone what outlives it (strings.Clone). An Event is safe for
// concurrent reading.
type Event struct {
	Cluster string // which cluster it is from; set by the source, part of the identity
	Raw     []byte // one JSON object, no newline after it
	Flags   Flags

	Kind, APIVersion              string // empty in items of a webhook's EventList
	Level                         Level
	AuditID                       string // chosen by the client if it wants to: never an identity by itself
	Stage                         Stage
	RequestURI, Verb, UserAgent   string
	User, Impersonated            User
	SourceIPs                     []string // claimed by the client but for the last
	ObjectRef                     ObjectRef
	Response                      Status
	ReceivedMicros, StageMicros   int64  // microseconds since 1970 UTC; 0 where missing
	RequestObject, ResponseObject []byte // raw, nil where missing
	Annotations                   []byte // raw JSON object, nil where missing
	Decision, Reason              string // the two annotations of the authorizer

	ownKind, ownVersion span // where kind and apiVersion stand in Raw: not part of the identity
	spaced              bool // Raw has white space outside strings
}

type span struct{ start, end int }

// ErrNotAudit is wrapped by Parse for well-formed JSON that is no audit event. It is permanent: the same bytes fail again.
var ErrNotAudit = errors.New("not a Kubernetes audit event")

// Parse reads one event in one pass. It takes ownership of raw, which must not be changed afterwards. White space around
// the object is dropped. Every error is permanent.
func Parse(cluster string, raw []byte) (Event, error) {
	e, n, err := ParsePrefix(cluster, raw)
	if n == 0 {
		return Event{}, err
	}
	s := scanner{b: raw, i: n}
	if s.ws(); s.i != len(raw) {
		return Event{}, fmt.Errorf("cannot parse audit event: %w", s.fail(errSyntax))
	}
	return e, err
}

// ParsePrefix is Parse for an event that other text may follow. n is where in raw the event's object ends, 0 where it does not.
func ParsePrefix(cluster string, raw []byte) (e Event, n int, err error) {
	s := scanner{b: raw}
	s.ws()
	start := s.i
	if start >= len(raw) || raw[start] != '{' {
		if err := Valid(raw); err != nil {
			return Event{}, 0, fmt.Errorf("cannot parse audit event: %w", err)
		}
		return Event{}, 0, fmt.Errorf("%w: a JSON object is wanted", ErrNotAudit)
	}
	e = Event{Cluster: cluster}
	s = scanner{b: raw[start:]}
	var legacy int64
	if err := s.members(func(m member) error { e.set(m, &legacy); return nil }); err != nil {
		return Event{}, 0, fmt.Errorf("cannot parse audit event: %w", err)
	}
	e.Raw, e.spaced = s.b[:s.i:s.i], s.space
	if e.ReceivedMicros == 0 {
		e.ReceivedMicros = legacy
	}
	return e, start + s.i, e.check()
}

func (e *Event) check() error {
	switch {
	case e.Kind != "" && e.Kind != "Event" && e.Kind != KindFinding:
		return fmt.Errorf("%w: kind is %.60q", ErrNotAudit, e.Kind)
	case e.APIVersion != "" && e.Kind != KindFinding && !strings.HasPrefix(e.APIVersion, "audit.k8s.io/"):
		return fmt.Errorf("%w: apiVersion is %.60q", ErrNotAudit, e.APIVersion)
	case e.AuditID == "":
		return fmt.Errorf("%w: no auditID", ErrNotAudit)
	case e.Stage == "":
		return fmt.Errorf("%w: no stage", ErrNotAudit)
	}
	return nil
}

// set takes one top-level member. The last of duplicates wins, as in every Kubernetes decoder.
func (e *Event) set(m member, legacy *int64) {
	name := text(m.name, m.escaped)
	switch name {
	case "kind":
		e.ownKind = span{m.start, m.end}
	case "apiVersion":
		e.ownVersion = span{m.start, m.end}
	}
	e.take(name, m.value, legacy)
}

// take takes the value of a top-level member.
func (e *Event) take(name string, value []byte, legacy *int64) {
	str := func() string { t, _ := Text(value); return t }
	switch name {
	case "kind":
		e.Kind = str()
	case "apiVersion":
		e.APIVersion = str()
	case "level":
		e.Level = Level(str())
	case "auditID":
		e.AuditID = str()
	case "stage":
		e.Stage = Stage(str())
	case "requestURI":
		e.RequestURI = str()
	case "verb":
		e.Verb = str()
	case "user":
		e.User = parseUser(value)
	case "impersonatedUser":
		e.Impersonated = parseUser(value)
	case "sourceIPs":
		e.SourceIPs = texts(value)
	case "userAgent":
		e.UserAgent = str()
	case "objectRef":
		e.ObjectRef = parseRef(value)
	case "responseStatus":
		e.Response = parseStatus(value)
	case "requestObject":
		e.RequestObject = present(value)
	case "responseObject":
		e.ResponseObject = present(value)
	case "requestReceivedTimestamp":
		e.ReceivedMicros = micros(str())
	case "stageTimestamp":
		e.StageMicros = micros(str())
	case "timestamp":
		*legacy = micros(str())
	case "annotations":
		e.Annotations = present(value)
		e.Decision, e.Reason = decision(value)
	}
}

func present(v []byte) []byte {
	if len(v) == 0 || v[0] == 'n' {
		return nil
	}
	return v
}

func texts(v []byte) []string {
	var out []string
	for el := range Elements(v) {
		if t, ok := Text(el); ok {
			out = append(out, t)
		}
	}
	return out
}

func parseUser(v []byte) (u User) {
	for k, v := range Members(v) {
		switch k {
		case "username":
			u.Username, _ = Text(v)
		case "uid":
			u.UID, _ = Text(v)
		case "groups":
			u.Groups = texts(v)
		case "extra":
			u.Extra = present(v)
		}
	}
	return u
}

func parseRef(v []byte) (r ObjectRef) {
	for k, v := range Members(v) {
		t, _ := Text(v)
		switch k {
		case "resource":
			r.Resource = t
		case "namespace":
			r.Namespace = t
		case "name":
			r.Name = t
		case "uid":
			r.UID = t
		case "apiGroup":
			r.APIGroup = t
		case "apiVersion":
			r.APIVersion = t
		case "resourceVersion":
			r.ResourceVersion = t
		case "subresource":
			r.Subresource = t
		}
	}
	if g, v, ok := strings.Cut(r.APIVersion, "/"); ok && r.APIGroup == "" { // v1alpha1
		r.APIGroup, r.APIVersion = g, v
	}
	return r
}

func parseStatus(v []byte) (st Status) {
	for k, v := range Members(v) {
		switch k {
		case "code":
			st.Code = integer(v)
		case "status":
			st.Status, _ = Text(v)
		case "reason":
			st.Reason, _ = Text(v)
		case "message":
			st.Message, _ = Text(v)
		}
	}
	return st
}

func decision(v []byte) (decision, reason string) {
	for k, v := range Members(v) {
		switch k {
		case AnnotationDecision:
			decision, _ = Text(v)
		case AnnotationReason:
			reason, _ = Text(v)
		}
	}
	return decision, reason
}

// Micros is the event's time, on which windows, searches and retention run: when its stage was reached, or when the
// request arrived where the stage's time is missing. Microseconds since 1970 UTC, 0 if it has neither.
func (e *Event) Micros() int64 {
	if e.StageMicros != 0 {
		return e.StageMicros
	}
	return e.ReceivedMicros
}

// Time is Micros as a time in UTC.
func (e *Event) Time() time.Time { return time.UnixMicro(e.Micros()).UTC() }

// Peer is the address that really talked to the API server: the last of sourceIPs. The entries before it come from
// X-Forwarded-For, which the client writes.
func (e *Event) Peer() string {
	if len(e.SourceIPs) == 0 {
		return ""
	}
	return e.SourceIPs[len(e.SourceIPs)-1]
}

// Annotation is the value of one annotation, "" where it is missing.
func (e *Event) Annotation(key string) string {
	var t string
	for k, v := range Members(e.Annotations) {
		if k == key {
			t, _ = Text(v)
		}
	}
	return t
}

// micros reads an RFC 3339 time; 0 where it is none or lies outside the years 1 to 9999.
func micros(s string) int64 {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return 0
	}
	return t.UnixMicro()
}
