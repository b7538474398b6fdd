package segment

import (
	"encoding/binary"

	"github.com/parquet-go/parquet-go/deprecated"
	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"

	"whodunit/internal/audit"
)

// Column is a column of the file. Its number is its place in the file and never changes.
type Column uint8

// The columns, in the order of the file.
const (
	Seq Column = iota
	Ingested
	Source
	Identity
	Flags
	Cluster
	Time
	Received
	StageTime
	Level
	Stage
	Verb
	AuditID
	RequestURI
	UserAgent
	Username
	UserUID
	UserGroups
	ImpersonatedUsername
	ImpersonatedGroups
	SourceIPs
	APIGroup
	APIVersion
	Resource
	Subresource
	Namespace
	Name
	Code
	StatusReason
	Decision
	Reason
	Rule
	Severity
	Size
	Raw
	numColumns
)

// Irregular is a bit of the Flags column, beside those of audit.Flags: the columns of this row do not say exactly what its
// JSON says at their paths (an empty string, a list in place of a string, a dotted member name), so ask the raw event.
const Irregular = 1 << 16

// EmptyReason is another bit: the Reason column is empty because the annotation is there and empty, as it is wherever the
// authorizer had nothing to say, and not because it is missing.
const EmptyReason = 1 << 17

type kind uint8

const (
	kindInt   kind = iota // INT64, delta
	kindTime              // INT64 microseconds UTC, optional, delta; 0 is null
	kindCode              // INT32, dictionary
	kindText              // BYTE_ARRAY, dictionary where that is smaller, else plain
	kindList              // LIST of BYTE_ARRAY, dictionary
	kindFixed             // FIXED_LEN_BYTE_ARRAY(16), plain
	kindRaw               // BYTE_ARRAY without logical type (it may hold invalid UTF-8), plain, many pages
)

// columnSpec says what a column is and how to take it from a record.
type columnSpec struct {
	name  string
	path  string // in the event's JSON, "" where the column is no such path
	kind  kind
	bloom bool // has a Parquet bloom filter
	twice bool // its pages are written twice: it cannot be had from raw
	num   func(*row) int64
	text  func(*row) string
	list  func(*row) []string
}

// row is one record with what is derived from it.
type row struct {
	*audit.Record
	rule, severity string
	irregular      bool
	emptyReason    bool
}

func schema() [numColumns]columnSpec {
	return [numColumns]columnSpec{
		Seq:      {name: "seq", kind: kindInt, twice: true, num: func(r *row) int64 { return int64(r.Seq) }},
		Ingested: {name: "ingested", kind: kindTime, twice: true, num: func(r *row) int64 { return r.IngestedMicros }},
		Source:   {name: "source", kind: kindText, twice: true, text: func(r *row) string { return r.Source }},
		Identity: {name: "identity", kind: kindFixed, bloom: true, text: func(r *row) string { return string(r.Identity[:]) }},
		Flags:    {name: "flags", kind: kindCode, twice: true, text: func(r *row) string { return code32(flags(r)) }},
		Cluster:  {name: "cluster", path: "cluster", kind: kindText, twice: true, text: func(r *row) string { return r.Event.Cluster }},

		Time:      {name: "time", kind: kindTime, num: func(r *row) int64 { return r.Event.Micros() }},
		Received:  {name: "received", kind: kindTime, num: func(r *row) int64 { return r.Event.ReceivedMicros }},
		StageTime: {name: "stage_time", kind: kindTime, num: func(r *row) int64 { return r.Event.StageMicros }},

		Level:      {name: "level", path: "level", kind: kindText, text: func(r *row) string { return string(r.Event.Level) }},
		Stage:      {name: "stage", path: "stage", kind: kindText, text: func(r *row) string { return string(r.Event.Stage) }},
		Verb:       {name: "verb", path: "verb", kind: kindText, text: func(r *row) string { return r.Event.Verb }},
		AuditID:    {name: "audit_id", path: "auditID", kind: kindText, bloom: true, text: func(r *row) string { return r.Event.AuditID }},
		RequestURI: {name: "request_uri", path: "requestURI", kind: kindText, text: func(r *row) string { return r.Event.RequestURI }},
		UserAgent:  {name: "user_agent", path: "userAgent", kind: kindText, text: func(r *row) string { return r.Event.UserAgent }},

		Username:   {name: "username", path: "user.username", kind: kindText, bloom: true, text: func(r *row) string { return r.Event.User.Username }},
		UserUID:    {name: "user_uid", path: "user.uid", kind: kindText, text: func(r *row) string { return r.Event.User.UID }},
		UserGroups: {name: "user_groups", path: "user.groups", kind: kindList, list: func(r *row) []string { return r.Event.User.Groups }},
		ImpersonatedUsername: {name: "impersonated_username", path: "impersonatedUser.username", kind: kindText,
			text: func(r *row) string { return r.Event.Impersonated.Username }},
		ImpersonatedGroups: {name: "impersonated_groups", path: "impersonatedUser.groups", kind: kindList,
			list: func(r *row) []string { return r.Event.Impersonated.Groups }},
		SourceIPs: {name: "source_ips", path: "sourceIPs", kind: kindList, list: func(r *row) []string { return r.Event.SourceIPs }},

		APIGroup:    {name: "api_group", path: "objectRef.apiGroup", kind: kindText, text: func(r *row) string { return r.Event.ObjectRef.APIGroup }},
		APIVersion:  {name: "api_version", path: "objectRef.apiVersion", kind: kindText, text: func(r *row) string { return r.Event.ObjectRef.APIVersion }},
		Resource:    {name: "resource", path: "objectRef.resource", kind: kindText, text: func(r *row) string { return r.Event.ObjectRef.Resource }},
		Subresource: {name: "subresource", path: "objectRef.subresource", kind: kindText, text: func(r *row) string { return r.Event.ObjectRef.Subresource }},
		Namespace:   {name: "namespace", path: "objectRef.namespace", kind: kindText, text: func(r *row) string { return r.Event.ObjectRef.Namespace }},
		Name:        {name: "name", path: "objectRef.name", kind: kindText, bloom: true, text: func(r *row) string { return r.Event.ObjectRef.Name }},

		Code:         {name: "code", path: "responseStatus.code", kind: kindCode, text: func(r *row) string { return code32(r.Event.Response.Code) }},
		StatusReason: {name: "status_reason", path: "responseStatus.reason", kind: kindText, text: func(r *row) string { return r.Event.Response.Reason }},
		Decision:     {name: "decision", path: "annotations." + audit.AnnotationDecision, kind: kindText, text: func(r *row) string { return r.Event.Decision }},
		Reason:       {name: "reason", path: "annotations." + audit.AnnotationReason, kind: kindText, text: func(r *row) string { return r.Event.Reason }},
		Rule:         {name: "rule", path: "rule", kind: kindText, text: func(r *row) string { return r.rule }},
		Severity:     {name: "severity", path: "severity", kind: kindText, text: func(r *row) string { return r.severity }},

		Size: {name: "size", kind: kindInt, num: func(r *row) int64 { return int64(len(r.Event.Raw)) }},
		Raw:  {name: "raw", kind: kindRaw},
	}
}

// PathColumn is the column that answers a path of match.Values exactly for every row without the Irregular bit: the column's
// value where it is not empty (not 0 for Code), and a missing path where it is (but see EmptyReason).
func PathColumn(path string) (Column, bool) {
	if path == "" {
		return 0, false
	}
	for c, s := range schema() {
		if s.path == path {
			return Column(c), true
		}
	}
	return 0, false
}

// IsList reports whether the column holds lists; see Group.Lists.
func (c Column) IsList() bool { return c == UserGroups || c == ImpersonatedGroups || c == SourceIPs }

func flags(r *row) int {
	f := int(r.Event.Flags)
	if r.irregular {
		f |= Irregular
	}
	if r.emptyReason {
		f |= EmptyReason
	}
	return f
}

func code32(n int) string {
	var b [4]byte
	binary.LittleEndian.PutUint32(b[:], uint32(int32(n)))
	return string(b[:])
}

func (k kind) physical() format.Type {
	switch k {
	case kindInt, kindTime:
		return format.Int64
	case kindCode:
		return format.Int32
	case kindFixed:
		return format.FixedLenByteArray
	}
	return format.ByteArray
}

// elements is the column's part of the Parquet schema.
func (c *columnSpec) elements() []format.SchemaElement {
	repetition := format.Required
	if c.kind == kindTime {
		repetition = format.Optional
	}
	el := format.SchemaElement{Name: c.name, Type: thrift.New(c.kind.physical()), RepetitionType: thrift.New(repetition)}
	switch c.kind {
	case kindTime:
		el.ConvertedType = thrift.New(deprecated.TimestampMicros)
		el.LogicalType = format.LogicalType{Value: &format.TimestampType{IsAdjustedToUTC: true, Unit: format.TimeUnit{Value: &format.MicroSeconds{}}}}
	case kindFixed:
		el.TypeLength = thrift.New(int32(16))
	case kindText:
		text(&el)
	case kindList:
		el.Name, el.RepetitionType = "element", thrift.New(format.Required)
		text(&el)
		outer := format.SchemaElement{Name: c.name, RepetitionType: thrift.New(format.Required), NumChildren: thrift.New(int32(1)),
			ConvertedType: thrift.New(deprecated.List), LogicalType: format.LogicalType{Value: &format.ListType{}}}
		inner := format.SchemaElement{Name: "list", RepetitionType: thrift.New(format.Repeated), NumChildren: thrift.New(int32(1))}
		return []format.SchemaElement{outer, inner, el}
	}
	return []format.SchemaElement{el}
}

func text(el *format.SchemaElement) {
	el.ConvertedType = thrift.New(deprecated.UTF8)
	el.LogicalType = format.LogicalType{Value: &format.StringType{}}
}

// pathInSchema is the Parquet name of the column's leaf.
func (c *columnSpec) pathInSchema() []string {
	if c.kind == kindList {
		return []string{c.name, "list", "element"}
	}
	return []string{c.name}
}
