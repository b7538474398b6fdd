package explain

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"whodunit/internal/audit"
)

var update = flag.Bool("update", false, "write the golden files anew")

// made is a small event: verb, resource[.group], namespace, name, subresource, code and further members.
func made(id, verb, resource, ns, name, sub string, code int, more string) string {
	resource, group, _ := strings.Cut(resource, ".")
	ref, _ := json.Marshal(map[string]string{"resource": resource, "apiGroup": group, "namespace": ns, "name": name, "subresource": sub})
	if more != "" {
		more = "," + more
	}
	return fmt.Sprintf(`{"auditID":%q,"stage":"ResponseComplete","level":"Metadata","verb":%q,"requestURI":"/x","user":{"username":"alice","groups":["dev"]},
"sourceIPs":["192.0.2.7"],"userAgent":"kubectl/v1.36.3 (linux/amd64) kubernetes/0000000","objectRef":%s,"responseStatus":{"code":%d},
"requestReceivedTimestamp":"2026-11-21T10:00:00.000000Z","stageTimestamp":"2026-11-21T10:00:00.5Z"%s}`, id, verb, ref, code, more)
}

const granted = `"annotations":{"authorization.k8s.io/decision":"allow","authorization.k8s.io/reason":"RBAC: allowed by RoleBinding \"edit/shop\" of ClusterRole \"edit\" to Group \"dev\""}`

func TestWhoLines(t *testing.T) {
	cases := []struct {
		name   string
		verb   Verb
		ns     string
		object string
		events []string
	}{
		{"delete", Deleted, "shop", "deploy/web", []string{
			made("1", "delete", "deployments.apps", "shop", "web", "", 200, granted),
			made("other-name", "delete", "deployments.apps", "shop", "web2", "", 200, ""),
			made("other-ns", "delete", "deployments.apps", "b", "web", "", 200, ""),
			made("other-group", "delete", "deployments.example.org", "shop", "web", "", 200, ""),
			made("2", "delete", "deployments.apps", "shop", "web", "", 403, `"responseStatus":{"code":403,"reason":"Forbidden","message":"no \u001b[2J way"}`),
			made("3", "delete", "deployments.apps", "shop", "web", "", 409, `"responseStatus":{"code":409,"reason":"Conflict"},"impersonatedUser":{"username":"system:serviceaccount:ci:x"}`),
			made("4", "delete", "deployments.apps", "shop", "web", "", 200, `"requestURI":"/x?dryRun=All"`),
			made("5", "delete", "deployments.apps", "shop", "web", "", 200, `"requestObject":{"kind":"DeleteOptions","dryRun":["All"]}`),
			made("ns", "delete", "namespaces", "shop", "shop", "", 200, ""),
			made("ns-no", "delete", "namespaces", "shop", "shop", "", 403, ""),
		}},
		{"delete-collection", Deleted, "shop", "secret/db", []string{
			made("seen", "deletecollection", "secrets", "shop", "", "", 200, `"responseObject":{"items":[{"metadata":{"name":"a","namespace":"shop"}},{"metadata":{"name":"db","namespace":"shop"}}]}`),
			made("without", "deletecollection", "secrets", "shop", "", "", 200, `"responseObject":{"items":[{"metadata":{"name":"a","namespace":"shop"}}]}`),
			made("empty", "deletecollection", "secrets", "shop", "", "", 200, `"responseObject":{"items":[]}`),
			made("bodiless", "deletecollection", "secrets", "shop", "", "", 200, `"requestURI":"/x?labelSelector=a%3Db"`),
			made("field", "deletecollection", "secrets", "shop", "", "", 200, `"requestURI":"/x?fieldSelector=metadata.name%3Dother"`),
			made("not-field", "deletecollection", "secrets", "shop", "", "", 200, `"requestURI":"/x?fieldSelector=metadata.name!%3Dother"`),
			made("early", "deletecollection", "secrets", "shop", "", "", 0, `"stage":"RequestReceived"`),
		}},
		{"evict", Deleted, "", "pod/web-0", []string{
			made("1", "create", "pods", "shop", "web-0", "eviction", 201, ""),
			made("2", "create", "pods", "shop", "web-0", "eviction", 429, ""),
			made("3", "create", "pods", "shop", "web-0", "eviction", 201, `"requestObject":{"kind":"Eviction","deleteOptions":{"dryRun":["All"]}}`),
		}},
		{"create", Created, "shop", "pod/web-x2vhz", []string{
			made("named", "create", "pods", "shop", "web-x2vhz", "", 201, ""),
			made("generated", "create", "pods", "shop", "", "", 201, `"responseObject":{"metadata":{"name":"web-x2vhz"}}`),
			made("other", "create", "pods", "shop", "", "", 201, `"responseObject":{"metadata":{"name":"web-aaaaa"}}`),
			made("nameless", "create", "pods", "shop", "", "", 201, ""),
			made("other-prefix", "create", "pods", "shop", "", "", 201, `"requestObject":{"metadata":{"generateName":"api-"}}`),
			made("applied", "patch", "pods", "shop", "web-x2vhz", "", 201, ""),
			made("configured", "patch", "pods", "shop", "web-x2vhz", "", 200, ""),
			made("denied", "create", "pods", "shop", "", "", 403, `"requestObject":{"metadata":{"name":"web-x2vhz"}}`),
		}},
		{"change", Changed, "shop", "deployments.v1.apps/web", []string{
			made("1", "patch", "deployments.apps", "shop", "web", "", 200, ""),
			made("status", "update", "deployments.apps", "shop", "web", "status", 200, ""),
			made("2", "patch", "deployments.apps", "shop", "web", "scale", 200, `"requestObject":{"spec":{"replicas":0}}`),
			made("created", "patch", "deployments.apps", "shop", "web", "", 0, `"stage":"RequestReceived","stageTimestamp":"2026-11-21T10:00:00Z"`),
			made("created", "patch", "deployments.apps", "shop", "web", "", 201, ""),
			made("3", "update", "deployments.apps", "shop", "web", "", 0, `"stage":"Panic"`),
		}},
		{"scale", Scaled, "shop", "deploy/web", []string{
			made("1", "update", "deployments.apps", "shop", "web", "scale", 200, `"requestObject":{"spec":{"replicas":5}}`),
			made("2", "patch", "deployments.apps", "shop", "web", "", 200, `"requestObject":[{"op":"replace","path":"/spec/replicas","value":7}]`),
			made("3", "update", "deployments.apps", "shop", "web", "", 200, `"requestObject":{"spec":{"replicas":3}}`),
			made("4", "patch", "deployments.apps", "shop", "web", "scale", 200, ""),
			made("image", "patch", "deployments.apps", "shop", "web", "", 200, `"requestObject":{"spec":{"paused":true}}`),
		}},
		{"exec", Execd, "shop", "sts/db", []string{
			made("1", "get", "pods", "shop", "db-0", "exec", 101, `"requestURI":"/x?command=sh&command=-c&command=rm+-rf+%27%2F%27%1b[0m&container=c"`),
			made("2", "create", "pods", "shop", "db-1", "attach", 101, ""),
			made("no", "get", "pods", "shop", "db-web-0", "exec", 101, ""),
		}},
		{"read", Read, "shop", "secret/db", []string{
			made("1", "get", "secrets", "shop", "db", "", 200, ""),
			made("2", "list", "secrets", "shop", "", "", 200, ""),
			made("3", "list", "secrets", "", "", "", 200, `"requestURI":"/x?limit=500"`),
			made("4", "list", "secrets", "", "", "", 200, `"responseObject":{"items":[{"metadata":{"name":"db","namespace":"shop"}}]}`),
			made("other-ns", "list", "secrets", "", "", "", 200, `"responseObject":{"items":[{"metadata":{"name":"db","namespace":"b"}}]}`),
			made("5", "watch", "secrets", "shop", "db", "", 200, `"requestURI":"/x?fieldSelector=metadata.name%3Ddb&watch=1"`),
			made("6", "list", "secrets", "shop", "", "", 403, ""),
			made("no", "list", "secrets", "shop", "x", "", 200, ""),
		}},
		{"hostile", Deleted, "shop", "pod/p", []string{
			made("evil\u202e id", "delete", "pods", "shop", "p", "", 200, `"user":{"username":"bob deleted x: ok\n\u001b]0;t\u0007"},"sourceIPs":["1.1.1.1","::1","192.0.2.9"],"userAgent":"\u001b[31mred"`),
			made("nobody", "delete", "pods", "shop", "p", "", 401, `"user":{}`),
		}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			m := events(t, c.events...)
			var b bytes.Buffer
			o, err := ParseObject(c.ns, c.object)
			if err != nil {
				t.Fatal(err)
			}
			if err := Write(&b, Question{Verb: c.verb, Object: o}, ask(t, m, c.verb, c.ns, c.object), false); err != nil {
				t.Fatal(err)
			}
			golden(t, c.name+".txt", b.Bytes())
		})
	}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(got)); d != "" {
		t.Error(d)
	}
}

func TestStagesMakeOneAct(t *testing.T) {
	stage := func(id, stage string, code int, more string) string {
		s := made(id, "get", "pods", "shop", "p", "exec", code, more)
		return strings.Replace(s, `"ResponseComplete"`, `"`+stage+`"`, 1)
	}
	m := events(t,
		stage("1", "RequestReceived", 0, ""), stage("1", "ResponseStarted", 101, ""), stage("1", "ResponseComplete", 101, ""),
		stage("1", "ResponseComplete", 101, `"userAgent":"again"`), // the same id chosen again is another request
		stage("1", "ResponseComplete", 101, `"user":{"username":"bob"}`),
		stage("2", "RequestReceived", 0, ""))
	acts := ask(t, m, Execd, "shop", "pod/p")
	if len(acts) != 4 {
		t.Errorf("%d acts:\n%s", len(acts), lines(acts))
	}
	unknown := 0
	for _, a := range acts {
		if a.Outcome == Unknown {
			unknown++
		}
	}
	if unknown != 1 {
		t.Errorf("%d acts without an answer, want that of id 2 alone", unknown)
	}
}

func TestParseObject(t *testing.T) {
	for _, c := range []struct {
		args []string
		want Object
		bad  bool
	}{
		{[]string{"deploy/web"}, Object{[]string{"deployments"}, []string{"apps", "extensions"}, "ns", "web", false}, false},
		{[]string{"Secret", "x"}, Object{[]string{"secrets"}, []string{""}, "ns", "x", false}, false},
		{[]string{"node", "n"}, Object{[]string{"nodes"}, []string{"", "metrics.k8s.io"}, "", "n", true}, false},
		{[]string{"databases.example.org/o"}, Object{[]string{"databases", "databaseses"}, []string{"example.org"}, "ns", "o", false}, false},
		{[]string{"policy/o"}, Object{[]string{"policy", "policies", "policys"}, nil, "ns", "o", false}, false},
		{[]string{"services.serving.knative.dev/o"}, Object{[]string{"services", "serviceses"}, []string{"serving.knative.dev"}, "ns", "o", false}, false},
		{[]string{"web"}, Object{}, true}, {[]string{"/web"}, Object{}, true}, {[]string{"pod/"}, Object{}, true}, {nil, Object{}, true},
		{[]string{"a/b/c"}, Object{}, true}, {[]string{"a", "b", "c"}, Object{}, true},
	} {
		got, err := ParseObject("ns", c.args...)
		if (err != nil) != c.bad {
			t.Errorf("%v: %v", c.args, err)
			continue
		}
		if d := cmp.Diff(c.want, got); d != "" && !c.bad {
			t.Errorf("%v: %s", c.args, d)
		}
	}
}

func TestParseGrant(t *testing.T) {
	for reason, want := range map[string]Grant{
		`RBAC: allowed by ClusterRoleBinding "x" of ClusterRole "y" to Group "z"`:              {"ClusterRoleBinding", "x", "", "ClusterRole", "y", "Group", "z"},
		`RBAC: allowed by RoleBinding "a/ns" of Role "r" to ServiceAccount "sa/ns"`:            {"RoleBinding", "a", "ns", "Role", "r", "ServiceAccount", "sa/ns"},
		`RBAC: allowed by ClusterRoleBinding "q\"o\n" of ClusterRole "system:x" to User "a b"`: {"ClusterRoleBinding", "q\"o\n", "", "ClusterRole", "system:x", "User", "a b"},
		``: {}, `RBAC: allowed by X`: {}, `RBAC: allowed by X "a" of Y "b" to Z "c" and more`: {}, `no relationship found`: {}, `RBAC: allowed by X 'a' of Y "b" to Z "c"`: {},
	} {
		got, ok := ParseGrant(reason)
		if ok != (want.Kind != "") || ok && got != want {
			t.Errorf("%s: %+v %v", reason, got, ok)
		}
	}
}

func FuzzJudge(f *testing.F) {
	f.Add([]byte(made("1", "deletecollection", "secrets", "shop", "", "", 200, `"responseObject":{"items":[{"metadata":{"name":"x"}}]}`)))
	f.Add([]byte(made("1", "patch", "pods", "shop", "x", "", 200, `"requestObject":[{"op":"replace","path":"/spec","value":{"replicas":7}}]`)))
	f.Add([]byte(made("1", "get", "pods", "shop", "x-0", "exec", 101, granted)))
	f.Fuzz(func(t *testing.T, raw []byte) {
		ev, err := audit.Parse("c", raw)
		if err != nil {
			return
		}
		for _, v := range []Verb{Deleted, Created, Changed, Scaled, Execd, Read} {
			for _, kind := range []string{"pods", "secrets", "statefulsets", "x"} {
				o, _ := ParseObject("shop", kind, "x")
				a := Question{Verb: v, Object: o}.Judge(&ev)
				if a == nil {
					continue
				}
				if line := a.Line(); strings.ContainsAny(line, "\x1b\n\r\x00\u202e") {
					t.Errorf("%q", line)
				}
				if _, err := json.Marshal(a); err != nil {
					t.Error(err)
				}
			}
		}
	})
}
