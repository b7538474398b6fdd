package envelope

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"

	"whodunit/internal/audit"
)

var errNoEvent = fmt.Errorf("%w: no event in it", audit.ErrNotAudit)

// logEntry makes an event of a Google Cloud log entry of the service k8s.io: the audit logs `activity` and `data_access` of GKE
// (cloud.google.com/logging/docs/reference/v2/rest/v2/LogEntry, cloud.google.com/logging/docs/reference/audit/auditlog/rest/Shared.Types/AuditLog).
// GKE keeps no query string, no groups and no objects of its own status, so an event made of it lacks them. What the event has is said in
// docs/reference/envelopes.md.
func (d *decoder) logEntry(cluster string, raw []byte, f fields) {
	if err := audit.Valid(raw); err != nil {
		_ = d.bad(raw, err)
		return
	}
	p := members(f["protoPayload"])
	if p.text("serviceName") != "k8s.io" {
		d.skip(SkipService, 1)
		return
	}
	top := members(raw)
	labels := members(members(top["resource"])["labels"])
	cluster = named(cluster, labels.text("cluster_name"))
	e, err := parse(cluster, gkeEvent(top, p))
	if err != nil {
		_ = d.bad(raw, err)
		return
	}
	d.take(e)
}

// members is all of a well-formed object.
func members(raw []byte) fields {
	f := fields{}
	for name, v := range audit.Members(raw) {
		f[name] = v
	}
	return f
}

// gkeCall is what a method name and a resource name say.
type gkeCall struct {
	verb                                              string
	group, version, resource, namespace, name, subres string
}

// streams reports whether a request keeps its connection, as kubectl exec does.
func (c *gkeCall) streams() bool {
	return c.resource == "pods" && (c.subres == "exec" || c.subres == "attach" || c.subres == "portforward")
}

// readCall takes apart "io.k8s.core.v1.pods.exec.create" and "core/v1/namespaces/NS/pods/NAME/exec".
func readCall(method, resource string) gkeCall {
	c := gkeCall{verb: method[strings.LastIndexByte(method, '.')+1:]}
	m := strings.Split(method, ".")
	parts := strings.Split(strings.Trim(resource, "/"), "/")
	if len(m) <= 3 || len(parts) < 3 { // io.k8s.get: a path that is no resource, such as healthz
		return c
	}
	c.group, c.version = parts[0], parts[1]
	if c.group == "core" {
		c.group = ""
	}
	parts = parts[2:]
	// namespaces/NS/status and namespaces/NS/finalize are subresources of the namespace itself, as in k8s.io/apiserver's RequestInfo.
	if parts[0] == "namespaces" && len(parts) > 1 {
		c.namespace = parts[1]
		if len(parts) > 2 && (len(parts) > 3 || parts[2] != "status" && parts[2] != "finalize") {
			parts = parts[2:]
		}
	}
	c.resource = parts[0]
	if len(parts) > 1 {
		c.name = parts[1]
	}
	if len(parts) > 2 {
		c.subres = parts[2]
	}
	return c
}

// grpcToHTTP is the HTTP status of a gRPC code (google/rpc/code.proto) as API servers answer.
var grpcToHTTP = map[int]int{1: 499, 2: 500, 3: 400, 4: 504, 5: 404, 6: 409, 7: 403, 8: 429, 9: 400, 10: 409, 11: 400, 12: 501, 13: 500, 14: 503, 15: 500, 16: 401}

// gkeStatus is the outcome of a call: its code, and the rest of a Status, as JSON members.
func gkeStatus(c *gkeCall, p fields) (code int, rest []byte) {
	st := members(p["status"])
	grpc, _ := strconv.Atoi(string(st["code"]))
	switch {
	case c.streams() && (grpc == 0 || grpc == 2):
		return 101, nil
	case grpc == 0 && c.verb == "create":
		code = 201
	case grpc == 0:
		code = 200
	default:
		if code = grpcToHTTP[grpc]; code == 0 {
			code = 500
		}
		rest = append(rest, `"status":"Failure",`...)
	}
	if r := members(p["response"]); r.text("@type") == "core.k8s.io/v1.Status" && r.text("status") != "" && r.text("status") != "Success" {
		rest = nil
		for _, name := range []string{"status", "message", "reason"} {
			if r.is(name, '"') {
				rest = append(append(append(append(rest, '"'), name...), `":`...), r[name]...)
				rest = append(rest, ',')
			}
		}
		if n, err := strconv.Atoi(string(r["code"])); err == nil && n >= 100 && n < 600 {
			code = n
		}
		return code, rest
	}
	if st.is("message", '"') && grpc != 0 {
		rest = append(append(append(rest, `"message":`...), st["message"]...), ',')
	}
	return code, rest
}

// gkeStage is where in the request the entry was written. A streaming call is logged when it begins and, where it says so, when it ends.
func gkeStage(c *gkeCall, code int, top fields) audit.Stage {
	op := members(top["operation"])
	if c.streams() && code == 101 && (string(op["last"]) != "true" || string(op["first"]) == "true") {
		return audit.StageResponseStarted
	}
	return audit.StageResponseComplete
}

// writer writes a JSON object member by member.
type writer struct{ b []byte }

func (w *writer) raw(name string, v []byte) {
	if len(v) == 0 || v[0] == 'n' {
		return
	}
	if n := len(w.b); n > 0 && w.b[n-1] != '{' {
		w.b = append(w.b, ',')
	}
	w.b = append(append(append(append(w.b, '"'), name...), `":`...), v...)
}

func (w *writer) text(name, v string) {
	if v != "" {
		w.raw(name, appendText(nil, v))
	}
}

// object writes a member that is an object, if there is something in it.
func (w *writer) object(name string, f func(*writer)) {
	in := writer{b: []byte{'{'}}
	if f(&in); len(in.b) > 1 {
		w.raw(name, append(in.b, '}'))
	}
}

func gkeEvent(top, p fields) []byte {
	resource := p.text("resourceName")
	c := readCall(p.text("methodName"), resource)
	code, status := gkeStatus(&c, p)
	auth, meta := members(p["authenticationInfo"]), members(p["requestMetadata"])
	w := writer{b: make([]byte, 1, 1024+2*len(p["request"])+len(p["response"]))}
	w.b[0] = '{'
	w.text("kind", "Event")
	w.text("apiVersion", listGroup+"v1")
	level := audit.LevelMetadata
	request, response := untyped(p["request"]), untyped(p["response"])
	switch {
	case response != nil:
		level = audit.LevelRequestResponse
	case request != nil:
		level = audit.LevelRequest
	}
	w.text("level", string(level))
	w.raw("auditID", top["insertId"])
	w.text("stage", string(gkeStage(&c, code, top)))
	w.text("requestURI", "/"+strings.TrimPrefix(resource, "/"))
	w.text("verb", c.verb)
	w.object("user", func(w *writer) {
		w.text("username", auth.text("principalEmail", "principalSubject"))
		w.object("extra", func(w *writer) {
			w.raw("serviceAccountDelegationInfo", delegates(auth["serviceAccountDelegationInfo"]))
		})
	})
	if as := auth.text("authoritySelector"); as != "" {
		w.object("impersonatedUser", func(w *writer) { w.text("username", as) })
	}
	if ip := meta["callerIp"]; len(ip) > 2 && ip[0] == '"' {
		w.raw("sourceIPs", append(append([]byte{'['}, ip...), ']'))
	}
	w.raw("userAgent", meta["callerSuppliedUserAgent"])
	w.object("objectRef", func(w *writer) {
		w.text("resource", c.resource)
		w.text("namespace", c.namespace)
		w.text("name", c.name)
		w.text("apiGroup", c.group)
		w.text("apiVersion", c.version)
		w.text("subresource", c.subres)
	})
	w.raw("responseStatus", append(strconv.AppendInt(append(append([]byte(`{"metadata":{},`), status...), `"code":`...), int64(code), 10), '}'))
	w.raw("requestObject", request)
	w.raw("responseObject", response)
	w.raw("requestReceivedTimestamp", top["timestamp"])
	w.raw("stageTimestamp", top["timestamp"])
	w.object("annotations", func(w *writer) { gkeAnnotations(w, top["labels"], p["authorizationInfo"], code) })
	return append(w.b, '}')
}

// gkeAnnotations are the entry's labels. Where they lack the authorizer's decision, it is whether all that was asked for was granted; a
// granted that is missing is false, but only of a refused request is that sure.
func gkeAnnotations(w *writer, labels, infos []byte, code int) {
	decided := false
	for name, v := range audit.Members(labels) {
		if v[0] != '"' {
			continue
		}
		decided = decided || name == audit.AnnotationDecision
		if n := len(w.b); n > 1 {
			w.b = append(w.b, ',')
		}
		w.b = append(append(appendText(w.b, name), ':'), v...)
	}
	if decided {
		return
	}
	decision := ""
	for info := range audit.Elements(infos) {
		granted := string(members(info)["granted"])
		switch {
		case granted == "false", granted == "" && code == 403:
			w.text(audit.AnnotationDecision, "forbid")
			return
		case granted == "true":
			decision = "allow"
		}
	}
	w.text(audit.AnnotationDecision, decision)
}

// delegates are the accounts through which a service account was used, as the list of texts that a user's extra fields hold.
func delegates(v []byte) []byte {
	var out []byte
	for el := range audit.Elements(v) {
		m := members(el)
		who := first(m.text("principalSubject"), members(m["firstPartyPrincipal"]).text("principalEmail"))
		if who != "" {
			out = appendText(append(out, ','), who)
		}
	}
	if out == nil {
		return nil
	}
	out[0] = '['
	return append(out, ']')
}

// untyped is an object without Google's "@type"; nil where there is none.
func untyped(v []byte) []byte {
	if len(v) == 0 || v[0] != '{' || !bytes.Contains(v, []byte(`"@type"`)) {
		if len(v) == 0 || v[0] == 'n' {
			return nil
		}
		return v
	}
	w := writer{b: append(make([]byte, 0, len(v)), '{')}
	for name, mv := range audit.Members(v) {
		if name == "@type" {
			continue
		}
		if len(w.b) > 1 {
			w.b = append(w.b, ',')
		}
		w.b = append(append(appendText(w.b, name), ':'), mv...)
	}
	return append(w.b, '}')
}
