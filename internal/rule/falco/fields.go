package falco

import (
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"whodunit/internal/audit"
	"whodunit/internal/match"
)

// argForm says what stands in the brackets behind a field.
type argForm uint8

const (
	noArg    argForm = iota
	indexArg         // digits, optional
	keyArg           // any text, required
)

// arg is what stands in the brackets.
type arg struct {
	key   string
	index int // -1: none
}

type yield func(string) bool

// field is one of Falco's fields. A field gives values through path or get.
type field struct {
	list  bool
	arg   argForm
	level audit.Level
	// path is where its values stand in every event that an API server writes, as strings: the meaning of match.Values is Falco's there.
	path string
	get  func(r reader, ev *audit.Event, a arg, yield yield)
	// always: it has a value in every event, which is never 0: what rules that are to match always, or never, ask of it is decided when they
	// are loaded.
	always bool
	number bool
}

const (
	none     = audit.LevelMetadata
	request  = audit.LevelRequest
	response = audit.LevelRequestResponse
)

// unknownTime is what Falco's plugin interface calls a time that is not known.
const unknownTime = "18446744073709551615"

// fields is the table of all fields by name. It is never changed.
var fields = makeFields()

// fieldNames is the names of fields, for messages.
var fieldNames = slices.Sorted(maps.Keys(fields))

func makeFields() map[string]*field {
	t := map[string]*field{
		"ka.auditid":                              {path: "auditID"},
		"ka.stage":                                {path: "stage"},
		"ka.auth.decision":                        {path: "annotations." + audit.AnnotationDecision},
		"ka.auth.reason":                          {path: "annotations." + audit.AnnotationReason},
		"ka.auth.openshift.decision":              {path: "annotations.authentication.openshift.io/decision"},
		"ka.auth.openshift.username":              {path: "annotations.authentication.openshift.io/username"},
		"ka.validations.admission.policy.failure": {path: "annotations.validation.policy.admission.k8s.io/validation_failure"},
		"ka.security.pod.violations":              {path: "annotations.pod-security.kubernetes.io/audit-violations"},
		"ka.cluster.name":                         {path: "annotations.cluster_name"},
		"ka.user.name":                            {path: "user.username"},
		"ka.user.groups":                          {path: "user.groups", list: true},
		"ka.impuser.name":                         {path: "impersonatedUser.username"},
		"ka.verb":                                 {path: "verb"},
		"ka.uri":                                  {path: "requestURI"},
		"ka.uri.param":                            {arg: keyArg, get: uriParam},
		"ka.target.name":                          {path: "objectRef.name"},
		"ka.target.namespace":                     {path: "objectRef.namespace"},
		"ka.target.resource":                      {path: "objectRef.resource"},
		"ka.target.subresource":                   {path: "objectRef.subresource"},
		"ka.target.pod.name":                      {level: response, get: targetPod},
		"ka.req.binding.subject.has_name":         {arg: keyArg, get: constant("true")},
		"ka.req.configmap.name":                   {path: "objectRef.name"},
		"ka.resp.name":                            {level: response, get: responseName},
		"ka.response.code":                        {path: "responseStatus.code"},
		"ka.response.reason":                      {path: "responseStatus.reason"},
		"ka.useragent":                            {path: "userAgent"},
		"ka.sourceips":                            {list: true, arg: indexArg, get: sourceIPs},
		"evt.rawtime":                             {get: rawTime, always: true, number: true},
		"evt.num":                                 {get: constant("1"), always: true, number: true}, // events have no number here
		"evt.time":                                {get: clock("15:04:05.000000000")},
		"evt.time.s":                              {get: clock("15:04:05")},
		"evt.time.iso8601":                        {get: clock("2006-01-02T15:04:05.000000000+0000")},
		"evt.datetime":                            {get: clock("2006-01-02 15:04:05.000000000")},
		"evt.datetime.s":                          {get: clock("2006-01-02 15:04:05")},
		"evt.source":                              {get: constant(Source)},
		"evt.pluginname":                          {get: constant("k8saudit")},
		"evt.type":                                {get: constant("pluginevent")},
	}
	for _, p := range [...]string{"jevt", "json"} {
		t[p+".value"] = &field{arg: keyArg} // made for each pointer, see pointerField
		t[p+".obj"] = &field{get: wholeEvent}
		t[p+".rawtime"] = &field{get: rawTime, always: true}
	}
	addRequestFields(t)
	addContainerFields(t)
	for _, f := range t {
		if f.level == "" {
			f.level = none
		}
	}
	return t
}

func constant(s string) func(reader, *audit.Event, arg, yield) {
	return func(_ reader, _ *audit.Event, _ arg, yield yield) { yield(s) }
}

// uriParam is the first value of a query parameter. A URI or a query that net/url refuses has none.
func uriParam(r reader, ev *audit.Event, a arg, yield yield) {
	u, err := url.Parse(ev.RequestURI)
	if err != nil {
		return
	}
	q, err := url.ParseQuery(u.RawQuery)
	if err == nil && len(q[a.key]) > 0 {
		yield(q[a.key][0])
	}
}

// targetPod is the name of the pod that a request for a pod itself answered with.
func targetPod(r reader, ev *audit.Event, a arg, yield yield) {
	if ev.ObjectRef.Resource == "pods" && ev.ObjectRef.Subresource == "" {
		responseName(r, ev, a, yield)
	}
}

func responseName(r reader, ev *audit.Event, _ arg, yield yield) {
	if v := r.get(ev.ResponseObject, "metadata", "name"); v != nil {
		yield(text(v))
	}
}

// sourceIPs is the event's sourceIPs. The plugin looks for them in a role's rules, where they never are.
func sourceIPs(r reader, ev *audit.Event, a arg, yield yield) {
	for i, ip := range ev.SourceIPs {
		if !r.upstream && (a.index < 0 || a.index == i) && !yield(ip) {
			return
		}
	}
}

func wholeEvent(_ reader, ev *audit.Event, _ arg, yield yield) { yield(indent(ev.Raw)) }

// rawTime is the event's time in nanoseconds since 1970 UTC.
func rawTime(_ reader, ev *audit.Event, _ arg, yield yield) {
	if t := ev.Micros(); t != 0 {
		yield(strconv.FormatInt(t, 10) + "000")
	} else {
		yield(unknownTime)
	}
}

func clock(layout string) func(reader, *audit.Event, arg, yield) {
	return func(_ reader, ev *audit.Event, _ arg, yield yield) { yield(ev.Time().In(time.UTC).Format(layout)) }
}

// headerPointers are the JSON pointers that lead to a field's plain path.
var headerPointers = map[string]string{
	"kind": "kind", "apiVersion": "apiVersion", "level": "level", "auditID": "auditID", "stage": "stage", "requestURI": "requestURI", "verb": "verb",
	"userAgent": "userAgent", "user/username": "user.username", "user/uid": "user.uid", "impersonatedUser/username": "impersonatedUser.username",
	"objectRef/resource": "objectRef.resource", "objectRef/subresource": "objectRef.subresource", "objectRef/namespace": "objectRef.namespace",
	"objectRef/name": "objectRef.name", "objectRef/uid": "objectRef.uid", "objectRef/apiGroup": "objectRef.apiGroup",
	"responseStatus/code": "responseStatus.code", "responseStatus/reason": "responseStatus.reason", "responseStatus/status": "responseStatus.status",
	"responseStatus/message": "responseStatus.message",
}

// pointerField is jevt.value for one JSON pointer.
func pointerField(pointer string) *field {
	pointer = strings.TrimPrefix(pointer, "/")
	if p, ok := headerPointers[pointer]; ok {
		return &field{path: p, level: none}
	}
	keys := strings.Split(pointer, "/")
	for i, k := range keys {
		keys[i] = strings.ReplaceAll(strings.ReplaceAll(k, "~1", "/"), "~0", "~")
	}
	f := &field{level: none}
	if len(keys) == 2 && keys[0] == "annotations" && keys[1] != "" {
		f.path = "annotations." + keys[1]
		return f
	}
	body := func(ev *audit.Event) []byte { return ev.Raw }
	rest := keys
	switch keys[0] {
	case "requestObject":
		f.level, rest, body = request, keys[1:], func(ev *audit.Event) []byte { return ev.RequestObject }
	case "responseObject":
		f.level, rest, body = response, keys[1:], func(ev *audit.Event) []byte { return ev.ResponseObject }
	}
	f.get = func(r reader, ev *audit.Event, _ arg, yield yield) {
		if v := r.pointer(body(ev), rest); len(v) > 0 {
			yield(text(v))
		}
	}
	return f
}

// pathValues gives the values of a plain path as a field does.
func pathValues(path string, list bool) func(reader, *audit.Event, arg, yield) {
	return func(_ reader, ev *audit.Event, _ arg, yield yield) {
		for v := range match.Values(ev, path) {
			if !yield(v) || !list {
				return
			}
		}
	}
}
