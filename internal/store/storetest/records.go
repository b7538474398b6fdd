package storetest

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"whodunit/internal/audit"
)

// Cluster is the cluster of all records that the suite makes.
const Cluster = "prod"

var (
	verbs      = []string{"get", "list", "create", "delete", "patch", ""}
	users      = []string{"alice", "Bob", "system:serviceaccount:kube-system:gc", "mallory\u001b[31m", "<script>alert(1)</script>", "Straße", "ΣΊΣΥΦΟΣ", "", "\u212Aelvin"}
	resources  = []string{"secrets", "pods", "deployments", "configmaps", ".."}
	namespaces = []string{"shop", "kube-system", "", "a\tb"}
	names      = []string{"db-password", "checkout-7d9f", "web", "", "x\"y\\z", "日本"}
	agents     = []string{"kubectl/v1.36.3 (linux/amd64) kubernetes/abcdef0", "curl/8.5", "", "=HYPERLINK(\"x\")"}
	images     = []string{"nginx:1.27", "registry.example/team/app@sha256:0badcafe", "busybox"}
	reasons    = []string{"", "RBAC: allowed by ClusterRoleBinding \"cluster-admin\"", "no RBAC policy matched"}
	groups     = []string{"system:authenticated", "system:masters", "devs"}
)

// start is the time of the first event: 2026-01-02 03:04:05 UTC in microseconds.
const start = 1767323045000000

// Records makes n records, the same for the same seed. Sequence numbers run from 1. Among them are events that come twice, events of the
// same time, some without a time, and hostile and odd forms of every kind that audit.Parse lets in.
func Records(tb testing.TB, seed uint64, n int) []audit.Record {
	tb.Helper()
	r := rand.New(rand.NewPCG(seed, 1))
	var out []audit.Record
	for len(out) < n {
		var raw []byte
		switch {
		case len(out) > 10 && r.IntN(12) == 0:
			raw = out[r.IntN(len(out))].Event.Raw
		case r.IntN(8) == 0:
			raw = []byte(odd(r, len(out)))
		default:
			raw = event(r, len(out))
		}
		ev, err := audit.Parse(Cluster, raw)
		if err != nil {
			tb.Fatalf("%s: %v", raw, err)
		}
		seq := uint64(len(out) + 1)
		out = append(out, audit.Record{Seq: seq, IngestedMicros: start + int64(seq)*1000, Source: "test", Identity: ev.Identity(), Event: ev})
	}
	return out
}

func one(r *rand.Rand, of []string) string { return of[r.IntN(len(of))] }

func stamp(r *rand.Rand, i int) string {
	at := int64(start) + int64(i/3)*1_000_000 - int64(r.IntN(20))*500_000 // out of order, and often the same
	return time.UnixMicro(at).UTC().Format("2006-01-02T15:04:05.000000Z")
}

func event(r *rand.Rand, i int) []byte {
	m := map[string]any{"kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "RequestResponse", "stage": "ResponseComplete",
		"auditID": fmt.Sprintf("%08x-0000-4000-8000-%012x", i, r.Uint32()), "verb": one(r, verbs), "requestURI": fmt.Sprintf("/api/v1/x/%d?watch=%d", i%50, r.IntN(2)),
		"sourceIPs": []string{"10.0.0.1", fmt.Sprintf("192.0.2.%d", r.IntN(4))}[r.IntN(2):]}
	user := map[string]any{"groups": groups[:1+r.IntN(3)]}
	if u := one(r, users); u != "" {
		user["username"] = u
	}
	m["user"] = user
	if a := one(r, agents); a != "" {
		m["userAgent"] = a
	}
	if r.IntN(5) > 0 {
		ref := map[string]any{"resource": one(r, resources), "apiVersion": "v1"}
		for k, v := range map[string]string{"namespace": one(r, namespaces), "name": one(r, names), "subresource": one(r, []string{"", "", "exec", "status"})} {
			if v != "" {
				ref[k] = v
			}
		}
		m["objectRef"] = ref
	}
	if r.IntN(6) > 0 {
		m["responseStatus"] = map[string]any{"code": []int{200, 201, 403, 404, 500}[r.IntN(5)], "metadata": map[string]any{}}
	}
	if r.IntN(10) > 0 {
		m["stageTimestamp"] = stamp(r, i)
	}
	if r.IntN(3) == 0 {
		m["requestReceivedTimestamp"] = stamp(r, i)
	}
	if r.IntN(4) == 0 {
		m["impersonatedUser"] = map[string]any{"username": one(r, users[:3]), "groups": groups[1:2]}
	}
	m["annotations"] = map[string]string{audit.AnnotationDecision: one(r, []string{"allow", "forbid"}), audit.AnnotationReason: one(r, reasons)}
	if r.IntN(2) == 0 {
		m["requestObject"] = map[string]any{"spec": map[string]any{"replicas": r.IntN(5), "hostNetwork": r.IntN(2) == 0,
			"containers": []any{map[string]any{"image": one(r, images)}, map[string]any{"image": one(r, images)}}},
			"metadata": map[string]any{"labels": map[string]any{"app.kubernetes.io/name": one(r, names[:3])}}}
	}
	raw, err := json.Marshal(m)
	if err != nil {
		panic(err) // nothing in m can fail
	}
	return raw
}

// odd makes events whose members are not what the API server writes.
func odd(r *rand.Rand, i int) string {
	head := fmt.Sprintf(`{"auditID":"odd-%d","stage":"Panic","stageTimestamp":%q`, i, stamp(r, i))
	tails := []string{
		`,"user":{}`, `,"user":null,"verb":null`, `,"verb":""`, `,"verb":["get","delete"]`, `,"verb":5`, `,"verb":{"a":1}`, `,"user.username":"alice"`,
		`,"user":[{"username":"alice"},{"username":"Bob"}]`, `,"user":{"username":["alice"],"groups":[]}`, `,"user":{"groups":[["devs"],null,"system:masters"]}`,
		`,"user":{"groups":"devs"}`, `,"sourceIPs":[]`, `,"sourceIPs":[""]`, `,"sourceIPs":["10.0.0.1",null]`, `,"objectRef":{"resource":"","namespace":""}`,
		`,"objectRef":{"resource":"pods","resource":"secrets"}`, `,"objectRef.resource":"secrets"`, `,"objectRef":{"apiVersion":"apps/v1","resource":"deployments"}`,
		`,"responseStatus":{"code":0}`, `,"responseStatus":{"code":"200"}`, `,"responseStatus":{"code":2e2}`, `,"responseStatus":{"code":99999999999}`,
		`,"annotations":{"authorization":{"k8s":{"io/decision":"allow"}}}`, `,"annotations":{"authorization.k8s.io/reason":""}`,
		`,"annotations":{"authorization.k8s.io":{"x":1},"authorization.k8s.io/decision":"forbid"}`, `,"annotations":null`, `,"rule":"secret-read","severity":"high"`,
		`,"rule":"","severity":null`, `,"requestObject":[{"op":"add","path":"/spec/replicas","value":3}]`, `,"requestObject":"just secret text"`, `,"note":"\u0073ecret \u212aELVIN \uD83D\uDE00x \ud800y"`,
		`,"note":"caf\u00e9 ſecret naïve","verb":"get"`, `,"verb":"\u0067et","requestURI":"\/api"`, ` , "verb" : "get" `, `,"kind":"Event","kind":"Event"`, `,"userAgent":"` + strings.Repeat("a", 500) + `"`,
	}
	return head + tails[r.IntN(len(tails))] + "}"
}
