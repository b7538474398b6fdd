package envelope

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"whodunit/internal/audit"
)

// entry is a log entry of GKE's audit log.
func entry(method, resource, payload, more string) string {
	return `{"insertId":"id","protoPayload":{"@type":"type.googleapis.com/google.cloud.audit.AuditLog","serviceName":"k8s.io","methodName":"` + method + `","resourceName":"` + resource + `"` +
		payload + `},"resource":{"type":"k8s_cluster","labels":{"cluster_name":"blue"}},"timestamp":"2026-11-21T10:00:01.5Z","receiveTimestamp":"2026-11-21T10:00:09Z"` + more + `}`
}

func TestLogEntry(t *testing.T) {
	const who = `,"authenticationInfo":{"principalEmail":"a@example.test","authoritySelector":"system:admin","serviceAccountDelegationInfo":[{"firstPartyPrincipal":{"principalEmail":"b@example.test"}}]},` +
		`"requestMetadata":{"callerIp":"192.0.2.7","callerSuppliedUserAgent":"kubectl/v1.33 (\"x\")"},"authorizationInfo":[{"granted":true,"permission":"io.k8s.core.v1.pods.create"}],` +
		`"request":{"@type":"core.k8s.io/v1.Pod","kind":"Pod","spec":{"@type":"kept"}},"response":{"@type":"core.k8s.io/v1.Pod","kind":"Pod"}`
	r, err := Any("", []byte(entry("io.k8s.core.v1.pods.create", "core/v1/namespaces/n/pods/p", who, `,"labels":{"authorization.k8s.io/decision":"allow","authorization.k8s.io/reason":"\"r\"","n":7}`)))
	if err != nil {
		t.Fatal(err)
	}
	want := `{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"RequestResponse","auditID":"id","stage":"ResponseComplete","requestURI":"/core/v1/namespaces/n/pods/p","verb":"create",` +
		`"user":{"username":"a@example.test","extra":{"serviceAccountDelegationInfo":["b@example.test"]}},"impersonatedUser":{"username":"system:admin"},"sourceIPs":["192.0.2.7"],` +
		`"userAgent":"kubectl/v1.33 (\"x\")","objectRef":{"resource":"pods","namespace":"n","name":"p","apiVersion":"v1"},"responseStatus":{"metadata":{},"code":201},` +
		`"requestObject":{"kind":"Pod","spec":{"@type":"kept"}},"responseObject":{"kind":"Pod"},"requestReceivedTimestamp":"2026-11-21T10:00:01.5Z","stageTimestamp":"2026-11-21T10:00:01.5Z",` +
		`"annotations":{"authorization.k8s.io/decision":"allow","authorization.k8s.io/reason":"\"r\""}}`
	if diff := cmp.Diff(want, string(r.Events[0].Raw)); diff != "" || r.Events[0].Cluster != "blue" {
		t.Errorf("%s %s", r.Events[0].Cluster, diff)
	}
}

func TestLogEntryTable(t *testing.T) {
	ref := func(group, version, resource, ns, name, sub string) audit.ObjectRef {
		return audit.ObjectRef{APIGroup: group, APIVersion: version, Resource: resource, Namespace: ns, Name: name, Subresource: sub}
	}
	const granted, refused, silent = `,"authorizationInfo":[{"granted":true}]`, `,"authorizationInfo":[{"granted":true},{"granted":false}]`, `,"authorizationInfo":[{"permission":"x"}]`
	tests := map[string]struct {
		method, resource, payload, more string
		verb                            string
		ref                             audit.ObjectRef
		code                            int
		stage                           audit.Stage
		decision, status, reason        string
	}{
		"list in a namespace":    {method: "io.k8s.core.v1.pods.list", resource: "core/v1/namespaces/n/pods", verb: "list", ref: ref("", "v1", "pods", "n", "", ""), code: 200},
		"list everywhere":        {method: "io.k8s.core.v1.secrets.list", resource: "core/v1/secrets", verb: "list", ref: ref("", "v1", "secrets", "", "", ""), code: 200},
		"cluster role":           {method: "io.k8s.authorization.rbac.v1.clusterroles.create", resource: "rbac.authorization.k8s.io/v1/clusterroles/N", payload: granted, verb: "create", ref: ref("rbac.authorization.k8s.io", "v1", "clusterroles", "", "N", ""), code: 201, decision: "allow"},
		"namespace":              {method: "io.k8s.core.v1.namespaces.delete", resource: "core/v1/namespaces/n", verb: "delete", ref: ref("", "v1", "namespaces", "n", "n", ""), code: 200},
		"namespace status":       {method: "io.k8s.core.v1.namespaces.status.update", resource: "core/v1/namespaces/n/status", verb: "update", ref: ref("", "v1", "namespaces", "n", "n", "status"), code: 200},
		"exec":                   {method: "io.k8s.core.v1.pods.exec.create", resource: "core/v1/namespaces/n/pods/p/exec", payload: `,"status":{"code":2,"message":"unknown"}`, verb: "create", ref: ref("", "v1", "pods", "n", "p", "exec"), code: 101, stage: audit.StageResponseStarted},
		"exec without status":    {method: "io.k8s.core.v1.pods.exec.get", resource: "core/v1/namespaces/n/pods/p/exec", verb: "get", ref: ref("", "v1", "pods", "n", "p", "exec"), code: 101, stage: audit.StageResponseStarted},
		"exec ends":              {method: "io.k8s.core.v1.pods.exec.get", resource: "core/v1/namespaces/n/pods/p/exec", more: `,"operation":{"id":"o","last":true}`, verb: "get", ref: ref("", "v1", "pods", "n", "p", "exec"), code: 101},
		"exec refused":           {method: "io.k8s.core.v1.pods.exec.create", resource: "core/v1/namespaces/n/pods/p/exec", payload: `,"status":{"code":7,"message":"no"}` + silent, verb: "create", ref: ref("", "v1", "pods", "n", "p", "exec"), code: 403, decision: "forbid", status: "Failure"},
		"proxy":                  {method: "io.k8s.core.v1.nodes.proxy.get", resource: "core/v1/nodes/n1/proxy/logs/x", verb: "get", ref: ref("", "v1", "nodes", "", "n1", "proxy"), code: 200},
		"path":                   {method: "io.k8s.get", resource: "healthz", payload: `,"status":{"code":16}`, verb: "get", code: 401, status: "Failure"},
		"not found":              {method: "io.k8s.core.v1.pods.get", resource: "core/v1/namespaces/n/pods/p", payload: `,"status":{"code":5}` + granted, verb: "get", ref: ref("", "v1", "pods", "n", "p", ""), code: 404, decision: "allow", status: "Failure"},
		"unknown code":           {method: "io.k8s.core.v1.pods.get", resource: "core/v1/namespaces/n/pods/p", payload: `,"status":{"code":77}`, verb: "get", ref: ref("", "v1", "pods", "n", "p", ""), code: 500, status: "Failure"},
		"granted in part":        {method: "io.k8s.core.v1.pods.get", resource: "core/v1/namespaces/n/pods/p", payload: refused, verb: "get", ref: ref("", "v1", "pods", "n", "p", ""), code: 200, decision: "forbid"},
		"status in the response": {method: "io.k8s.core.v1.pods.create", resource: "core/v1/namespaces/n/pods/p", payload: `,"status":{"code":3,"message":"x"},"response":{"@type":"core.k8s.io/v1.Status","status":"Failure","reason":"Invalid","message":"m","code":422}`, verb: "create", ref: ref("", "v1", "pods", "n", "p", ""), code: 422, status: "Failure", reason: "Invalid"},
		"success in a status":    {method: "io.k8s.core.v1.pods.delete", resource: "core/v1/namespaces/n/pods/p", payload: `,"response":{"@type":"core.k8s.io/v1.Status","status":"Success"}`, verb: "delete", ref: ref("", "v1", "pods", "n", "p", ""), code: 200},
		"no names":               {verb: "", code: 200},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r, err := Any("", []byte(entry(tt.method, tt.resource, tt.payload, tt.more)))
			if err != nil {
				t.Fatal(err)
			}
			e := &r.Events[0]
			if tt.stage == "" {
				tt.stage = audit.StageResponseComplete
			}
			if e.Verb != tt.verb || e.Response.Code != tt.code || e.Stage != tt.stage || e.Decision != tt.decision || e.Response.Status != tt.status || e.Response.Reason != tt.reason {
				t.Errorf("%s", e.Raw)
			}
			if diff := cmp.Diff(tt.ref, e.ObjectRef); diff != "" {
				t.Error(diff)
			}
			if e.RequestURI != "/"+tt.resource || !strings.HasPrefix(e.Time().String(), "2026-11-21 10:00:01.5") {
				t.Errorf("%s", e.Raw)
			}
		})
	}
}
