package native

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"whodunit/internal/audit"
	"whodunit/internal/match"
	"whodunit/internal/rule"
)

func format(t testing.TB) *Format {
	t.Helper()
	f, err := New()
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func event(t testing.TB, raw string) audit.Event {
	t.Helper()
	if !strings.Contains(raw, `"auditID"`) {
		raw = strings.Replace(raw, "{", `{"auditID":"a","stage":"ResponseComplete",`, 1)
		raw = strings.Replace(raw, ",}", "}", 1)
	}
	ev, err := audit.Parse("c1", []byte(raw))
	if err != nil {
		t.Fatalf("%s: %v", raw, err)
	}
	return ev
}

const bare = `{}`
const secretGet = `{"verb":"get","user":{"username":"system:serviceaccount:dev:app","groups":["system:serviceaccounts","x"]},` +
	`"objectRef":{"resource":"secrets","namespace":"dev","name":"db","apiVersion":"v1"},"responseStatus":{"code":200},` +
	`"sourceIPs":["1.2.3.4","10.0.0.7"],"requestURI":"/api/v1/namespaces/dev/secrets/db?command=ls&command=%2Fapp&x=%zz",` +
	`"annotations":{"authorization.k8s.io/decision":"allow","k":"v"},"requestReceivedTimestamp":"2026-11-21T13:25:50.255614Z"}`
const podCreate = `{"verb":"create","objectRef":{"resource":"pods","namespace":"dev","name":"p"},"responseStatus":{"code":201},"requestObject":` +
	`{"spec":{"hostNetwork":true,"replicas":3,"ratio":0.5,"containers":[{"name":"a"},{"name":"b","securityContext":{"privileged":true}}],"volumes":[{"hostPath":{"path":"/etc/"}}]}}}`
const jsonPatch = `{"verb":"patch","objectRef":{"resource":"deployments","name":"d"},"requestObject":[` +
	`{"op":"test","path":"/metadata/name","value":"d"},{"op":"replace","path":"/spec/replicas","value":2},` +
	`{"op":"add","path":"/spec/template/spec/containers/1","value":{"name":"x","securityContext":{"privileged":true}}},` +
	`{"op":"add","path":"/spec/template/spec/containers/0/image","value":"evil"},{"op":"add","path":"/metadata/annotations/a~1b","value":"c"},` +
	`{"op":"remove","path":"/spec/paused"}]}`

func TestConditions(t *testing.T) {
	env := format(t).env
	tests := []struct {
		cond, event string
		want        bool
		err         error
	}{
		{`verb == "get" && objectRef.resource == "secrets"`, secretGet, true, nil},
		{`verb == "get"`, bare, false, nil},
		{`verb != "get"`, bare, true, nil},
		{`objectRef.namespace == ""`, bare, true, nil},
		{`!objectRef.name.startsWith("x")`, bare, true, nil},
		{`has(user.username)`, bare, false, nil},
		{`has(user.username) && has(objectRef.name)`, secretGet, true, nil},
		{`"x" in user.groups`, secretGet, true, nil},
		{`user.groups.exists(g, g.startsWith("system:"))`, secretGet, true, nil},
		{`user.groups == []`, bare, true, nil},
		{`responseStatus.code in [200, 201]`, secretGet, true, nil},
		{`responseStatus.code < 400`, bare, true, nil},
		{`annotations["k"] == "v" && decision == "allow"`, secretGet, true, nil},
		{`annotations["none"] == "v"`, secretGet, false, rule.ErrMissing},
		{`annotations["none"] != "v"`, secretGet, false, rule.ErrMissing},
		{`"none" in annotations`, bare, false, nil},
		{`annotations[?"none"].orValue("d") == "d"`, bare, true, nil},
		{`requestObject.spec.hostNetwork`, podCreate, true, nil},
		{`requestObject.spec.hostPID`, podCreate, false, rule.ErrMissing},
		{`!has(requestObject.spec.hostPID)`, podCreate, true, nil},
		{`requestObject.spec.hostPID`, bare, false, rule.ErrMissing},
		{`requestObject == null && responseObject == null`, bare, true, nil},
		{`requestObject.?spec.?hostPID.orValue(false) == false`, bare, true, nil},
		{`requestObject.spec.replicas == 3 && requestObject.spec.replicas > 2.5 && requestObject.spec.ratio < 1`, podCreate, true, nil},
		{`requestObject.spec.containers.exists(c, c.securityContext.privileged == true)`, podCreate, true, nil},
		{`requestObject.spec.containers.all(c, c.securityContext.privileged == true)`, podCreate, false, rule.ErrMissing},
		{`requestObject.spec.containers.exists(c, c.name == 3)`, podCreate, false, nil},
		{`requestObject.spec.hostNetwork > 3`, podCreate, false, rule.ErrEval},
		{`requestObject.spec.size() == 5`, podCreate, true, nil},
		{`requestObject.spec == requestObject.spec`, podCreate, true, nil},
		{`containers(requestObject).exists(c, c.securityContext.privileged == true)`, podCreate, true, nil},
		{`containers(requestObject).size() == 2 && containers(requestObject)[0].image == "evil"`, jsonPatch, true, nil},
		{`containers(requestObject)[1].securityContext.privileged`, jsonPatch, true, nil},
		{`requestObject.spec.replicas == 2 && !has(requestObject.spec.paused) && requestObject.metadata.annotations["a/b"] == "c"`, jsonPatch, true, nil},
		{`has(requestObject.metadata.name)`, jsonPatch, false, nil},
		{`podSpecs(requestObject).exists(s, s.volumes.exists(v, cleanPath(v.hostPath.path) == "/etc"))`, podCreate, true, nil},
		{`podSpecs(requestObject) == []`, bare, true, nil},
		{`uriParam("command") == ["ls", "/app"] && uriParam(requestURI, "x") == ["%zz"]`, secretGet, true, nil},
		{`uriParam("command").join(" ") == "ls /app"`, secretGet, true, nil},
		{`glob(user.username, "system:serviceaccount:*:app")`, secretGet, true, nil},
		{`glob(user.username, ["x", "*:app"])`, secretGet, true, nil},
		{`glob(user.username, ["x", "*:ap"])`, secretGet, false, nil},
		{`isServiceAccount(user.username) && serviceAccountNamespace(user.username) == "dev" && serviceAccountName(user.username) == "app"`, secretGet, true, nil},
		{`isServiceAccount("system:serviceaccount:")`, bare, false, nil},
		{`inCIDR(peer, "10.0.0.0/8") && !inCIDR(sourceIPs[0], ["10.0.0.0/8", "fd00::/8"])`, secretGet, true, nil},
		{`inCIDR("junk", "10.0.0.0/8")`, bare, false, nil},
		{`inCIDR("::ffff:10.1.1.1", "10.0.0.0/8")`, bare, true, nil},
		{`inCIDR("10.1.1.1", "10.0.0.0/9" + "9")`, bare, false, rule.ErrEval},
		{`user == user && has([user][0].username)`, secretGet, true, nil},
		{`[user][0].username == "system:serviceaccount:dev:app"`, secretGet, true, nil},
		{`requestReceivedTimestamp.getHours() == 13`, secretGet, true, nil},
		{`cluster == "c1" && stage == "ResponseComplete" && auditID == "a" && !idReused`, bare, true, nil},
		{`verb.matches("^(get|list)$")`, secretGet, true, nil},
		{`sets.intersects(user.groups, ["x"])`, secretGet, true, nil},
		{`lists.range(9999).all(i, !glob(requestURI + requestURI + requestURI + requestURI + requestURI, ["*a*b", "*c*d", "*e*f", "*g", "*h", "*i", "*j"]))`, secretGet, false, rule.ErrCost},
		{`lists.range(10000).all(i, lists.range(10000).all(j, i + j >= 0))`, bare, false, rule.ErrCost},
	}
	for _, tt := range tests {
		t.Run(tt.cond, func(t *testing.T) {
			c, pre, errs := compileBoth(env, tt.cond, nil)
			if len(errs) > 0 {
				t.Fatal(errs)
			}
			ev := event(t, tt.event)
			got, err := c.Match(&ev)
			if got != tt.want || !errors.Is(err, tt.err) {
				t.Errorf("got %t, %v; want %t, %v", got, err, tt.want, tt.err)
			}
			if got && pre != nil && !match.Eval(pre, &ev) {
				t.Errorf("prefilter %s rejects what the condition matches", pre)
			}
		})
	}
}

func TestPrefilter(t *testing.T) {
	env := format(t).env
	p := newParams(map[string]string{"params.u": "*x*"})
	tests := []struct{ cond, want string }{
		{`verb == "get" && requestObject.x == 1`, `(verb == "get" and <native-body:is _==_(requestObject."x",int 1,)> exists)`},
		{`verb == "get" && requestObject.x.exists(a, a.b in ["c"] && a.d.exists(e, e.startsWith("f")) || "g" in a.h)`, `(verb == "get" and ((<native-body:text requestObject."x" @0."b"> == "c" and ` +
			`<native-body:text requestObject."x" @0."d" @1> startsWith "f") or <native-body:text requestObject."x" @0."h" @1> == "g"))`},
		{`verb == "get" && cel.bind(c, execCommand().lowerAscii(), ["a", "b"].exists(p, c.matches(p)))`, `(verb == "get" and <native-body:text  lowerAscii(execCommand(requestURI,),)> matches "a"|"b")`},
		{`requestObject.x.exists(a, requestObject.y.exists(b, a == b))`, ``},
		{`verb in ["get","list"] && objectRef.resource == "secrets"`, `(objectRef.resource == "secrets" and verb == "get"|"list")`},
		{`verb == "a" || requestObject.x == 1`, `(verb == "a" or <native-body:is _==_(requestObject."x",int 1,)> exists)`},
		{`verb == "a" || (user.username.startsWith("b") && requestObject.x == 1)`, `(verb == "a" or (user.username startsWith "b" and <native-body:is _==_(requestObject."x",int 1,)> exists))`},
		{`!(user.username.contains("x") || "g" in user.groups)`, `not (user.username contains "x" or user.groups == "g")`},
		{`!(verb == "a" && requestObject.x == 1)`, `<native-body:is !_(_&&_(_==_(verb,"a",),_==_(requestObject."x",int 1,),),)> exists`},
		{`objectRef.namespace == ""`, `not objectRef.namespace glob "?*"`},
		{`objectRef.subresource in ["", "x"]`, `(objectRef.subresource == "x" or not objectRef.subresource glob "?*")`},
		{`verb != "get"`, `not verb == "get"`},
		{`glob(impersonatedUser.username, params.u)`, `impersonatedUser.username glob "*x*"`},
		{`glob(verb, "*")`, `(verb glob "*" or not verb glob "?*")`},
		{`responseStatus.code < 300 && 200 <= responseStatus.code`, `(responseStatus.code >= "200" and not responseStatus.code >= "300")`},
		{`responseStatus.code == 0`, `not (responseStatus.code > "0" or responseStatus.code < "0")`},
		{`has(user.username)`, `user.username glob "?*"`},
		{`verb.matches("x")`, `verb matches "x"`},
		{`!verb.matches("x*")`, `not (verb matches "x*" or not verb glob "?*")`},
		{`decision == "allow" || idReused`, `(annotations.authorization.k8s.io/decision == "allow" or func "native:idReused")`},
		{`annotations["k"] == "" && "k" in annotations`, `(annotations.k == "" and annotations.k present)`},
		{`annotations["k"] != "v"`, ``},
		{`!(annotations["k"] == "v")`, ``},
		{`user.groups.exists(g, g.startsWith("a") || g in ["b"])`, `(user.groups startsWith "a" or user.groups == "b")`},
		{`user.groups.exists(g, g.startsWith("a") && g != "ab")`, ``},
		{`user.groups.all(g, g == "a")`, ``},
		{`execCommand().contains("curl")`, `<native:execCommand()> contains "curl"`},
		{`serviceAccountNamespace(user.username) in ["a"]`, `(user.username startsWith "system:serviceaccount:a:" or user.username == "system:serviceaccount:a")`},
		{`uriParam("dryRun") == [] && verb == "create"`, `(verb == "create" and not <native:uriParam("dryRun")> exists)`},
		{`requestURI.split("?")[0].lowerAscii().matches("^/api")`, `<native:requestURI.split("?")[0].lowerAscii()> matches "^/api"`},
		{`inCIDR(peer, "10.0.0.0/8")`, `peer cidr "10.0.0.0/8"`},
		{`objectRef.apiVersion == "v1"`, ``},
		{`["a"].exists(v, v == verb)`, ``},
		{`"get" == verb`, `verb == "get"`},
		{`"get".startsWith(verb)`, ``},
	}
	for _, tt := range tests {
		params := p
		if !strings.Contains(tt.cond, "params") {
			params = nil
		}
		_, pre, errs := compileBoth(env, tt.cond, params)
		if len(errs) > 0 {
			t.Fatal(tt.cond, errs)
		}
		got := ""
		if pre != nil {
			got = pre.String()
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s: %s", tt.cond, diff)
		}
	}
}

func newParams(m map[string]string) map[string]ref.Val {
	out := map[string]ref.Val{}
	for k, v := range m {
		out[k] = types.String(v)
	}
	return out
}

// compileBoth gives the condition as CEL, also where the expression says all.
func compileBoth(env *environment, text string, params map[string]ref.Val) (*condition, match.Expr, []compileError) {
	consts := constants{params: params}
	c, errs := env.compile(text, consts)
	return &condition{env: env, text: text, consts: consts}, c.expr, errs
}
