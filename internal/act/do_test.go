package act

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"whodunit/internal/audit"
)

const (
	teamA    = "/api/v1/namespaces/team-a/"
	webPatch = "PATCH " + teamA + "pods/web"
	crbPath  = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/"
	rbPath   = "/apis/rbac.authorization.k8s.io/v1/namespaces/team-a/rolebindings/"
	noUID    = `{"metadata":{"uid":"` + podUID + `"`
)

func TestMark(t *testing.T) {
	a := Action{Kind: Label, Name: "mark", Live: true, Labels: map[string]string{"team.example/by": "{user}", "rule": "{rule}"}}
	b := newBench(t, a)
	b.outcome(event(t, m{"user": m{"username": "--system:x/ü y..--"}}), done, "")
	b.wants(webPatch + ` {"metadata":{"labels":{"rule":"r-1","team.example/by":"system-x---y"},"uid":"` + podUID + `"}}`)

	a = Action{Kind: Annotate, Name: "mark", Live: true, Annotations: map[string]string{"note": "by {user} {finding}"}, Resources: []string{"deployments.apps"}}
	b = newBench(t, a)
	ev := event(t, m{"user": m{"username": "x\n\x1b"}, "verb": "patch", "objectRef": m{"resource": "deployments", "apiGroup": "apps", "apiVersion": "v1", "namespace": "team-a", "name": "web"}})
	b.api.objects["/apis/apps/v1/namespaces/team-a/deployments/web"] = pod("web", podUID, "2026-03-01T11:00:00Z", "")
	b.outcome(ev, done, "deployments.apps/web in team-a")
	b.wants("PATCH /apis/apps/v1/namespaces/team-a/deployments/web " + `{"metadata":{"annotations":{"note":"by x   ` + b.found("r-1", ev).ID + `"},"uid":"` + podUID + `"}}`)
}

// Values of labels are those that Kubernetes takes, whatever stands in an event.
func TestLabelValue(t *testing.T) {
	valid := regexp.MustCompile(`^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$`)
	rapid.Check(t, func(t *rapid.T) {
		if v := labelValue(rapid.String().Draw(t, "text")); len(v) > 63 || !valid.MatchString(v) {
			t.Errorf("%q", v)
		}
	})
}

func TestGlob(t *testing.T) {
	part := rapid.StringMatching(`[ab*]{0,6}`)
	rapid.Check(t, func(t *rapid.T) {
		p, s := part.Draw(t, "pattern"), rapid.StringMatching(`[ab]{0,8}`).Draw(t, "text")
		oracle := regexp.MustCompile("^" + strings.ReplaceAll(p, "*", ".*") + "$")
		if got := glob(p, s); got != oracle.MatchString(s) {
			t.Errorf("glob(%q, %q) = %t", p, s, got)
		}
	})
}

// A dry run asks the API server for one, for every change of every kind.
func TestDryRun(t *testing.T) {
	for _, kind := range kinds {
		t.Run(string(kind), func(t *testing.T) {
			b, ev := prepared(t, Action{Name: "x", Kind: kind})
			b.outcome(ev, dryRun, "")
			changes := b.api.changes()
			for _, c := range changes {
				inBody := strings.Contains(c, `"dryRun":["All"]`)
				if !strings.Contains(c, "?dryRun=All ") || !inBody && (strings.HasPrefix(c, "DELETE") || strings.Contains(c, "/eviction")) {
					t.Errorf("no dry run: %s", c)
				}
			}
			if want := kind != Webhook; (len(changes) > 0) != want {
				t.Errorf("changes: %v", changes)
			}
		})
	}
}

// prepared is a bench and an event on which an action of any kind works.
func prepared(t *testing.T, a Action) (*bench, *audit.Event) {
	t.Helper()
	a.ClusterScoped = a.Kind == Cordon
	a.Labels, a.Annotations = map[string]string{"a": "b"}, map[string]string{"a": "b"}
	a.Webhook.URL = "http://127.0.0.1:1/"
	b := newBench(t, a)
	b.api.objects[teamA+"pods/web"] = `{"metadata":{"name":"web","uid":"` + podUID + `","creationTimestamp":"2026-03-01T11:00:00Z","labels":{"app":"web"},
		"ownerReferences":[{"apiVersion":"apps/v1","kind":"StatefulSet","name":"db","uid":"s","controller":true}]},"spec":{"nodeName":"n1"}}`
	b.api.objects["/apis/apps/v1/namespaces/team-a/statefulsets/db"] = pod("db", "s", "2026-03-01T11:00:00Z", "")
	b.api.objects["/api/v1/nodes"] = nodes("n1", "n2")
	b.api.objects["/apis/networking.k8s.io/v1/namespaces/team-a/networkpolicies"] = `{"items":[]}`
	b.api.objects[rbPath+"web"] = pod("web", podUID, "2026-03-01T11:59:00Z", "")
	change := m{}
	switch a.Kind {
	case DeleteBinding, RevertBinding:
		change = madeBinding("rolebindings", "team-a", "web")
	case RevokeToken:
		change = m{"user": m{"username": "system:serviceaccount:team-a:robot", "extra": m{extraPodName: []string{"web"}, extraPodUID: []string{podUID}}}}
	}
	return b, event(t, change)
}

func nodes(names ...string) string {
	var items []string
	for _, n := range names {
		items = append(items, fmt.Sprintf(`{"metadata":{"name":%q,"uid":"uid-%[1]s"},"status":{"conditions":[{"type":"Ready","status":"True"}]}}`, n))
	}
	return `{"metadata":{},"items":[` + strings.Join(items, ",") + `]}`
}

func madeBinding(resource, ns, name string) m {
	return m{"verb": "create", "responseStatus": m{"code": 201}, "responseObject": m{"kind": "RoleBinding", "metadata": m{"name": name, "uid": podUID, "resourceVersion": "7"}},
		"objectRef": m{"resource": resource, "namespace": ns, "name": name, "apiGroup": "rbac.authorization.k8s.io", "apiVersion": "v1"}}
}

func TestEvict(t *testing.T) {
	b, ev := prepared(t, Action{Name: "x", Kind: Evict, Live: true})
	b.api.fail["POST "+teamA+"pods/web/eviction"] = 429
	b.outcome(ev, failed, "no, because")
	b.wants("POST " + teamA + `pods/web/eviction {"apiVersion":"policy/v1","deleteOptions":{"preconditions":{"uid":"` + podUID + `"}},"kind":"Eviction","metadata":{"name":"web","namespace":"team-a"}}`)
}

func TestScale(t *testing.T) {
	const apps = "/apis/apps/v1/namespaces/team-a/"
	owned := func(kind, name, uid string) string {
		return fmt.Sprintf(`,"ownerReferences":[{"apiVersion":"v1","kind":"ConfigMap","name":"x"},{"apiVersion":"apps/v1","kind":%q,"name":%q,"uid":%q,"controller":true}]`, kind, name, uid)
	}
	for _, tt := range []struct {
		name, owner string
		how         outcome
		text        string
		want        []string
	}{
		{"deployment", owned("ReplicaSet", "rs", "r"), done, "deployments.apps/web in team-a", []string{"PATCH " + apps + `deployments/web/scale {"metadata":{"uid":"d"},"spec":{"replicas":0}}`}},
		{"alone", "", unsupported, "nothing controls", nil},
		{"daemon set", owned("DaemonSet", "ds", "x"), unsupported, "cannot be scaled", nil},
		{"hostile name", owned("ReplicaSet", "../../x", "r"), unsupported, "cannot be scaled", nil},
		{"false owner", owned("ReplicaSet", "rs", "guessed"), refused, "another object", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b, ev := prepared(t, Action{Name: "x", Kind: ScaleToZero, Live: true})
			b.api.objects[teamA+"pods/web"] = pod("web", podUID, "2026-03-01T11:00:00Z", tt.owner)
			b.api.objects[apps+"replicasets/rs"] = pod("rs", "r", "2026-03-01T11:00:00Z", owned("Deployment", "web", "d"))
			b.api.objects[apps+"deployments/web"] = pod("web", "d", "2026-03-01T11:00:00Z", "")
			b.outcome(ev, tt.how, tt.text)
			b.wants(tt.want...)
		})
	}
}

func TestCordon(t *testing.T) {
	const cordon = `PATCH /api/v1/nodes/n1 {"metadata":{"uid":"uid-n1"},"spec":{"unschedulable":true}}`
	for _, tt := range []struct {
		name, nodes string
		how         outcome
		text        string
		want        []string
	}{
		{"two", nodes("n1", "n2"), done, "nodes/n1", []string{cordon}},
		{"last", nodes("n1"), refused, "only 0 of 1", nil},
		{"last schedulable", strings.Replace(nodes("n1", "n2"), `"uid-n2"}`, `"uid-n2"},"spec":{"unschedulable":true}`, 1), refused, "only 0 of 2", nil},
		{"others not ready", strings.ReplaceAll(nodes("n1", "n2"), `"True"`, `"Unknown"`), refused, "only 0 of 2", nil},
		{"others tainted", strings.ReplaceAll(nodes("n1", "n2"), `"status":`, `"spec":{"taints":[{"effect":"NoSchedule"}]},"status":`), refused, "only 0 of 2", nil},
		{"done before", strings.ReplaceAll(nodes("n1", "n2"), `"status":`, `"spec":{"unschedulable":true},"status":`), done, "cordoned before", nil},
		{"no such", nodes("n2", "n3"), unsupported, "no node n1", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b, ev := prepared(t, Action{Name: "x", Kind: Cordon, Live: true})
			b.api.objects["/api/v1/nodes"] = tt.nodes
			b.outcome(ev, tt.how, tt.text)
			b.wants(tt.want...)
		})
	}
}

// Clusters with more nodes than a page are counted to the end.
func TestNodePages(t *testing.T) {
	b, ev := prepared(t, Action{Name: "x", Kind: Cordon, Live: true})
	b.api.objects["/api/v1/nodes"] = strings.Replace(nodes("n1"), `"metadata":{}`, `"metadata":{"continue":"more"}`, 1)
	b.api.hook = func(r *http.Request) {
		if r.URL.Query().Get("continue") == "more" {
			b.api.objects["/api/v1/nodes"] = nodes("n2")
		}
	}
	b.outcome(ev, done, "nodes/n1")
	if n := len(b.api.changes()); n != 1 {
		t.Errorf("%d changes", n)
	}
}

func TestBindings(t *testing.T) {
	const deleted = ` {"apiVersion":"v1","kind":"DeleteOptions","preconditions":{"uid":"` + podUID + `"}}`
	for _, tt := range []struct {
		name           string
		resource, bind string
		change         m
		live           string // of the binding, behind its times
		how            outcome
		text           string
		want           []string
	}{
		{name: "role binding", bind: "grant", how: done, want: []string{"DELETE " + rbPath + "grant" + deleted}},
		{name: "cluster role binding", resource: "cluster", bind: "Grant:All@x", how: done, want: []string{"DELETE " + crbPath + "Grant:All@x" + deleted}},
		{name: "of Kubernetes by name", resource: "cluster", bind: "system:node", how: refused, text: "belongs to Kubernetes"},
		{name: "cluster-admin", resource: "cluster", bind: "cluster-admin", how: refused, text: "belongs to Kubernetes"},
		{name: "of Kubernetes by label", resource: "cluster", bind: "grant", live: `,"labels":{"kubernetes.io/bootstrapping":"rbac-defaults"}`, how: refused, text: "maintains it"},
		{name: "for us", resource: "cluster", bind: "grant", live: `},"subjects":[{"kind":"ServiceAccount","namespace":"whodunit","name":"act"}],"x":{`, how: refused, text: "what allows us"},
		{name: "for us and another", bind: "grant", live: `},"subjects":[{"kind":"ServiceAccount","namespace":"whodunit","name":"act"},{"kind":"User","name":"mallory"}],"x":{`, how: done,
			want: []string{"DELETE " + rbPath + "grant" + deleted}},
		{name: "changed, not made", bind: "grant", change: m{"verb": "patch", "responseStatus": m{"code": 200}}, how: unsupported, text: "did not make"},
		{name: "read", bind: "grant", change: m{"verb": "get", "responseStatus": m{"code": 200}}, how: unsupported, text: "did not make"},
		{name: "refused", bind: "grant", change: m{"responseStatus": m{"code": 403}}, how: refused, text: "403"},
		{name: "without body, made then", bind: "young", change: m{"responseObject": nil}, how: done, want: []string{"DELETE " + rbPath + "young" + deleted}},
		{name: "without body, made long before", bind: "grant", change: m{"responseObject": nil}, how: refused, text: "it is older"},
		{name: "uid of the client", bind: "young", change: m{"responseObject": nil, "objectRef": m{"resource": "rolebindings", "namespace": "team-a", "name": "young", "uid": "mine",
			"apiGroup": "rbac.authorization.k8s.io", "apiVersion": "v1"}}, how: done, want: []string{"DELETE " + rbPath + "young" + deleted}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := Action{Name: "x", Kind: DeleteBinding, Live: true, ClusterScoped: true}
			b := newBench(t, a)
			resource, ns, path := "rolebindings", "team-a", rbPath
			if tt.resource != "" {
				resource, ns, path = "clusterrolebindings", "", crbPath
			}
			b.api.objects[path+tt.bind] = pod(tt.bind, podUID, "2026-03-01T11:00:00Z", tt.live)
			b.api.objects[path+"young"] = pod("young", podUID, "2026-03-01T11:59:00Z", "")
			change := madeBinding(resource, ns, tt.bind)
			for k, v := range tt.change {
				change[k] = v
			}
			b.outcome(event(t, change), tt.how, tt.text)
			b.wants(tt.want...)
		})
	}
}

func subjects(names ...string) []m {
	out := []m{}
	for _, n := range names {
		out = append(out, m{"kind": "User", "name": n, "apiGroup": "rbac.authorization.k8s.io"})
	}
	return out
}

func TestRevert(t *testing.T) {
	state := func(rv string, names ...string) m {
		return m{"kind": "RoleBinding", "metadata": m{"name": "grant", "uid": podUID, "resourceVersion": rv}, "subjects": subjects(names...)}
	}
	change := func(more m) m {
		out := madeBinding("rolebindings", "team-a", "grant")
		out["verb"], out["responseStatus"], out["responseObject"] = "patch", m{"code": 200}, state("7", "alice", "mallory")
		for k, v := range more {
			out[k] = v
		}
		return out
	}
	const back = "PATCH " + rbPath + `grant {"metadata":{"resourceVersion":"7","uid":"` + podUID + `"},"subjects":[{"kind":"User","apiGroup":"rbac.authorization.k8s.io","name":"alice"}]}`
	for _, tt := range []struct {
		name   string
		change m
		before m // nil: nothing is recorded
		how    outcome
		text   string
		want   []string
	}{
		{"made", madeBinding("rolebindings", "team-a", "grant"), nil, done, "deleted", []string{"DELETE " + rbPath +
			`grant {"apiVersion":"v1","kind":"DeleteOptions","preconditions":{"resourceVersion":"7","uid":"` + podUID + `"}}`}},
		{"patched", change(nil), state("3", "alice"), done, "gone again", []string{back}},
		{"updated", change(m{"verb": "update", "requestObject": state("3")}), state("3", "alice"), done, "", []string{back}},
		{"updated after what is recorded", change(m{"verb": "update", "requestObject": state("5")}), state("3", "alice"), unsupported, "not the last one", nil},
		{"nothing recorded", change(nil), nil, unsupported, "no earlier state", nil},
		{"another one recorded", change(nil), m{"metadata": m{"name": "grant", "uid": "other"}}, unsupported, "same binding", nil},
		{"no body", change(m{"responseObject": nil}), state("3", "alice"), unsupported, "RequestResponse", nil},
		{"subjects taken away", change(nil), state("3", "alice", "mallory", "bob"), refused, "only give access", nil},
		{"deleted", change(m{"verb": "delete"}), state("3", "alice"), unsupported, "delete cannot be reverted", nil},
		{"one taken away and one added", change(nil), state("3", "alice", "bob"), done, "added", []string{back}},
		{"a dry run recorded", change(nil), m{"dry run of": state("3", "alice", "eve")}, unsupported, "no earlier state", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t, Action{Name: "x", Kind: RevertBinding, Live: true})
			b.api.objects[rbPath+"grant"] = pod("grant", podUID, "2026-03-01T11:00:00Z", "")
			if tt.before != nil {
				b.before = event(t, m{"auditID": "before", "stageTimestamp": "2026-03-01T11:00:00Z", "responseObject": tt.before})
				if o := tt.before["dry run of"]; o != nil {
					b.before = event(t, m{"auditID": "before", "requestURI": rbPath + "grant?dryRun=All", "stageTimestamp": "2026-03-01T11:00:00Z", "responseObject": o})
				}
			}
			b.outcome(event(t, tt.change), tt.how, tt.text)
			b.wants(tt.want...)
		})
	}
}

func TestRevoke(t *testing.T) {
	const robot = "system:serviceaccount:team-a:robot"
	secret := "DELETE " + teamA + `secrets/robot-token {"apiVersion":"v1","kind":"DeleteOptions"}`
	for _, tt := range []struct {
		name   string
		change m
		how    outcome
		text   string
		want   []string
	}{
		{"pod", m{"user": m{"username": robot, "extra": m{extraPodName: []string{"web"}, extraPodUID: []string{podUID}}}}, done, "a token of service account robot", []string{deleteWeb}},
		{"refused request", m{"responseStatus": m{"code": 403}, "user": m{"username": robot, "extra": m{extraPodName: []string{"web"}, extraPodUID: []string{podUID}}}}, done, "", []string{deleteWeb}},
		{"object elsewhere", m{"objectRef": ref("pods", "kube-system", "x"), "user": m{"username": robot, "extra": m{extraPodName: []string{"web"}, extraPodUID: []string{podUID}}}}, done, "", []string{deleteWeb}},
		{"made secret", m{"user": m{"username": robot}, "annotations": m{legacyManual: "robot-token"}}, done, "", []string{secret}},
		{"found secret", m{"user": m{"username": robot}, "annotations": m{legacyAuto: "robot-token"}}, done, "", []string{secret}},
		{"unbound", m{"user": m{"username": robot, "extra": m{"authentication.kubernetes.io/credential-id": []string{"JTI=x"}}}}, unsupported, "bound to no pod and no secret", nil},
		{"no uid", m{"user": m{"username": robot, "extra": m{extraPodName: []string{"web"}}}}, unsupported, "no uid", nil},
		{"hostile pod", m{"user": m{"username": robot, "extra": m{extraPodName: []string{"../x"}, extraPodUID: []string{podUID}}}}, refused, "no name", nil},
		{"a person", m{"user": m{"username": "alice"}}, unsupported, "no service account", nil},
		{"impersonated", m{"user": m{"username": "alice"}, "impersonatedUser": m{"username": robot, "extra": m{extraPodName: []string{"web"}, extraPodUID: []string{podUID}}}}, unsupported, "no service account", nil},
		{"kube-system", m{"user": m{"username": "system:serviceaccount:kube-system:robot"}}, refused, "nothing is ever done", nil},
		{"false account", m{"user": m{"username": "system:serviceaccount:team-a/../kube-system:x"}}, unsupported, "no service account", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t, Action{Name: "x", Kind: RevokeToken, Live: true})
			b.outcome(event(t, tt.change), tt.how, tt.text)
			b.wants(tt.want...)
		})
	}
}

func TestQuarantine(t *testing.T) {
	const policies = "/apis/networking.k8s.io/v1/namespaces/team-a/networkpolicies"
	const ours = `{"metadata":{"name":"whodunit-quarantine"},"spec":{"podSelector":{"matchExpressions":[{"key":"whodunit.dev/quarantine","operator":"Exists"}]},"policyTypes":["Ingress","Egress"]}}`
	create := "POST " + policies + ` {"apiVersion":"networking.k8s.io/v1","kind":"NetworkPolicy","metadata":{"labels":{"app.kubernetes.io/managed-by":"whodunit"},"name":"whodunit-quarantine"},` +
		`"spec":{"podSelector":{"matchExpressions":[{"key":"whodunit.dev/quarantine","operator":"Exists"}]},"policyTypes":["Ingress","Egress"]}}`
	for _, tt := range []struct {
		name, list string
		how        outcome
		text       string
		created    bool
	}{
		{"first", "", done, "", true},
		{"second", ours, done, "", false},
		{"others", ours + `,{"metadata":{"name":"a"},"spec":{"podSelector":{}}},{"metadata":{"name":"b"},"spec":{"podSelector":{"matchLabels":{"app":"web"}}}},` +
			`{"metadata":{"name":"c"},"spec":{"podSelector":{"matchLabels":{"app":"db"}}}}`, done, "2 other network policies", false},
		{"a hollow one", strings.Replace(ours, `"policyTypes"`, `"egress":[{}],"policyTypes"`, 1), failed, "is not ours", false},
		{"one that selects others", strings.Replace(ours, "Exists", "DoesNotExist", 1), failed, "is not ours", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b, ev := prepared(t, Action{Name: "x", Kind: Quarantine, Live: true})
			b.api.objects[policies] = `{"items":[` + tt.list + `]}`
			b.outcome(ev, tt.how, tt.text)
			var want []string
			if tt.created {
				want = append(want, create)
			}
			if tt.how == done {
				want = append(want, webPatch+` {"metadata":{"labels":{"whodunit.dev/quarantine":"`+b.found("r-1", ev).ID+`"},"uid":"`+podUID+`"}}`)
			}
			b.wants(want...)
		})
	}
}

func TestEvent(t *testing.T) {
	for _, tt := range []struct {
		name   string
		ref    m
		how    outcome
		within string
	}{
		{"pod", ref("pods", "team-a", "web"), done, `"involvedObject":{"apiVersion":"v1","kind":"Pod","name":"web","namespace":"team-a"}`},
		{"node", ref("nodes", "", "n1"), done, `"metadata":{"name":"whodunit-`},
		{"unknown kind", m{"resource": "things", "apiGroup": "x.example", "apiVersion": "v1", "namespace": "team-a", "name": "a"}, unsupported, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t, Action{Name: "x", Kind: Event, Live: true, ClusterScoped: true})
			b.api.fail["POST /api/v1/namespaces/default/events"] = http.StatusConflict // it is there: somebody was told
			b.outcome(event(t, m{"objectRef": tt.ref, "responseStatus": m{"code": 403}}), tt.how, "")
			if c := strings.Join(b.api.changes(), ""); !strings.Contains(c, tt.within) {
				t.Error(c)
			}
		})
	}
}
