package falco

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"whodunit/internal/audit"
)

// ask asks one field of an event.
func ask(t testing.TB, compat, field string, ev *audit.Event) []string {
	t.Helper()
	term, err := parseTerm(field, testLists{})
	if err != nil {
		t.Fatalf("%s: %v", field, err)
	}
	o, err := newLoader(reader{upstream: compat == Upstream}).compiler.operand(term)
	if err != nil {
		t.Fatalf("%s: %v", field, err)
	}
	out := o.collect(ev)
	if len(out) > 1 && !o.list {
		t.Errorf("%s is no list and has values %q", field, out)
	}
	return out
}

const podEvent = `"verb":"create","requestURI":"/api/v1/namespaces/x/pods?fieldManager=k%20c&x=%zz","user":{"username":"u","groups":["g1","g2"]},"impersonatedUser":{"username":"i"},` +
	`"objectRef":{"resource":"pods","namespace":"n","name":"p","subresource":""},"responseStatus":{"code":201,"reason":"Why"},"userAgent":"agent","sourceIPs":["1.1.1.1","2.2.2.2"],` +
	`"annotations":{"authorization.k8s.io/decision":"allow","authorization.k8s.io/reason":"because","authentication.openshift.io/decision":"od","authentication.openshift.io/username":"ou",` +
	`"validation.policy.admission.k8s.io/validation_failure":"vf","pod-security.kubernetes.io/audit-violations":"av","cluster_name":"cn"},` +
	`"responseObject":{"metadata":{"name":"rn"}},"requestObject":{"spec":{"hostIPC":true,"hostNetwork":false,"hostPID":true,"runAsUser":77,` +
	`"securityContext":{"runAsUser":1,"runAsGroup":2,"fsGroup":3,"supplementalGroups":[4,5]},` +
	`"containers":[{"name":"a","image":"localhost:5000/r/a:1.0@sha256:ff","command":["sh","-c"],"args":["x","y"],"ports":[{"hostPort":1,"containerPort":2},{"containerPort":3},{"name":"none"}],` +
	`"runAsUser":88,"securityContext":{"privileged":true,"allowPrivilegeEscalation":false,"readOnlyRootFilesystem":true,"runAsUser":10,"runAsGroup":11,"procMount":"Default","capabilities":{"add":["SYS_ADMIN","NET_RAW"]}}},` +
	`{"name":"b","image":"b"},{"name":"c","image":"reg/c@sha256:00","securityContext":{"privileged":null,"capabilities":{"add":["CHOWN"]}}}],` +
	`"initContainers":[{"name":"i","image":"i:1","command":["ic"],"args":["ia"],"ports":[{"hostPort":9}],"securityContext":{"privileged":true,"allowPrivilegeEscalation":true,"readOnlyRootFilesystem":false,` +
	`"runAsUser":20,"runAsGroup":21,"procMount":"Unmasked","capabilities":{"add":["I"]}}}],` +
	`"ephemeralContainers":[{"name":"e","image":"e","command":["ec"],"args":["ea"],"securityContext":{"privileged":false,"allowPrivilegeEscalation":false,"readOnlyRootFilesystem":false,` +
	`"runAsUser":30,"runAsGroup":31,"procMount":"E","capabilities":{"add":["E1","E2"]}}}],` +
	`"volumes":[{"name":"v0","emptyDir":{}},{"name":"v1","hostPath":{"path":"/proc/1","type":""}},{"name":"v2","hostPath":{"path":"/etc"}},{"name":"v3","flexVolume":{"driver":"fd"}}]}}`

const bindingEvent = `"verb":"create","objectRef":{"resource":"clusterrolebindings","name":"b"},"requestObject":{"roleRef":{"name":"cluster-admin"},"subjects":[{"kind":"User","name":"su"},` +
	`{"kind":"Group","name":"sg"},{"kind":"ServiceAccount","name":"sa","namespace":"ns"},{"kind":"ServiceAccount","name":"lost"},{"kind":"User"},{"name":"x"}]}`

const roleEvent = `"objectRef":{"resource":"roles"},"requestObject":{"rules":[{"apiGroups":["","apps"],"verbs":["get"],"resources":["pods"]},{"nonResourceURLs":["/x"],"verbs":["*","list"]},{"verbs":"odd"}]}`

const serviceEvent = `"requestObject":{"spec":{"type":"NodePort","ports":[{"port":80, "nodePort":30080},{"port":443}]}}`

const configEvent = `"objectRef":{"resource":"configmaps","name":"cm"},"requestObject":{"metadata":{"name":"password"},"data":{"k" : "v w"}}`

type fieldTest struct {
	event, field string
	want         []string
	upstream     []string // nil: the same
}

var fieldTests = []fieldTest{
	{podEvent, "ka.auditid", []string{"a1"}, nil},
	{podEvent, "ka.stage", []string{"ResponseComplete"}, nil},
	{podEvent, "ka.auth.decision", []string{"allow"}, nil},
	{podEvent, "ka.auth.reason", []string{"because"}, nil},
	{podEvent, "ka.auth.openshift.decision", []string{"od"}, nil},
	{podEvent, "ka.auth.openshift.username", []string{"ou"}, nil},
	{podEvent, "ka.validations.admission.policy.failure", []string{"vf"}, nil},
	{podEvent, "ka.security.pod.violations", []string{"av"}, nil},
	{podEvent, "ka.cluster.name", []string{"cn"}, nil},
	{podEvent, "ka.user.name", []string{"u"}, nil},
	{podEvent, "ka.user.groups", []string{"g1", "g2"}, nil},
	{podEvent, "ka.impuser.name", []string{"i"}, nil},
	{podEvent, "ka.verb", []string{"create"}, nil},
	{podEvent, "ka.uri", []string{"/api/v1/namespaces/x/pods?fieldManager=k%20c&x=%zz"}, nil},
	{podEvent, "ka.uri.param[fieldManager]", nil, nil}, // the whole query is refused
	{ordinary, "ka.uri.param[a]", []string{"1"}, nil},
	{podEvent, "ka.target.name", []string{"p"}, nil},
	{podEvent, "ka.target.namespace", []string{"n"}, nil},
	{podEvent, "ka.target.resource", []string{"pods"}, nil},
	{podEvent, "ka.target.subresource", []string{""}, nil},
	{podEvent, "ka.target.pod.name", []string{"rn"}, nil},
	{bindingEvent, "ka.target.subresource", nil, nil},
	{bindingEvent, "ka.target.pod.name", nil, nil},
	{bindingEvent, "ka.req.binding.subjects", []string{`{"kind":"User","name":"su"}`, `{"kind":"Group","name":"sg"}`, `{"kind":"ServiceAccount","name":"sa","namespace":"ns"}`,
		`{"kind":"ServiceAccount","name":"lost"}`, `{"kind":"User"}`, `{"name":"x"}`}, nil},
	{bindingEvent, "ka.req.binding.subjects.user_names", []string{"su"}, nil},
	{bindingEvent, "ka.req.binding.subjects.serviceaccount_names", []string{"sa", "lost"}, nil},
	{bindingEvent, "ka.req.binding.subjects.serviceaccount_ns_names", []string{"ns:sa"}, nil},
	{bindingEvent, "ka.req.binding.subjects.group_names", []string{"sg"}, nil},
	{podEvent, "ka.req.binding.subjects.group_names", nil, nil},
	{bindingEvent, "ka.req.binding.role", []string{"cluster-admin"}, nil},
	{podEvent, "ka.req.binding.subject.has_name[x]", []string{"true"}, nil},
	{configEvent, "ka.req.configmap.name", []string{"cm"}, nil},
	{configEvent, "ka.req.configmap.obj", []string{`{"k":"v w"}`}, nil},
	{podEvent, "ka.req.pod.containers.args", []string{"x y"}, nil},
	{podEvent, "ka.req.pod.containers.command", []string{"sh -c"}, nil},
	{podEvent, "ka.req.pod.containers.command[1]", nil, nil},
	{podEvent, "ka.req.pod.containers.name", []string{"a", "b", "c"}, nil},
	{podEvent, "ka.req.pod.containers.name[2]", []string{"c"}, nil},
	{podEvent, "ka.req.pod.containers.name[3]", nil, nil},
	{podEvent, "ka.req.pod.containers.image", []string{"localhost:5000/r/a:1.0@sha256:ff", "b", "reg/c@sha256:00"}, nil},
	{podEvent, "ka.req.container.image", []string{"localhost:5000/r/a:1.0@sha256:ff"}, nil},
	{podEvent, "ka.req.pod.containers.image.repository", []string{"localhost:5000/r/a", "b", "reg/c"}, []string{"localhost", "b", "reg/c"}},
	{podEvent, "ka.req.pod.containers.image.repository[0]", []string{"localhost:5000/r/a"}, []string{"localhost"}},
	{podEvent, "ka.req.container.image.repository", []string{"localhost:5000/r/a"}, []string{"localhost"}},
	{podEvent, "ka.req.pod.host_ipc", []string{"true"}, nil},
	{podEvent, "ka.req.pod.host_network", []string{"false"}, nil},
	{podEvent, "ka.req.container.host_network", []string{"false"}, nil},
	{podEvent, "ka.req.pod.host_pid", []string{"true"}, nil},
	{podEvent, "ka.req.pod.containers.host_port", []string{"1", "3"}, nil},
	{podEvent, "ka.req.pod.containers.privileged", []string{"true", "null"}, nil},
	{podEvent, "ka.req.pod.containers.privileged[1]", nil, nil},
	{podEvent, "ka.req.container.privileged", []string{"true"}, nil},
	{podEvent, "ka.req.pod.containers.allow_privilege_escalation", []string{"false"}, nil},
	{podEvent, "ka.req.pod.containers.read_only_fs", []string{"true"}, nil},
	{podEvent, "ka.req.pod.run_as_user", []string{"1"}, nil},
	{podEvent, "ka.req.pod.containers.run_as_user", []string{"10"}, nil},
	{podEvent, "ka.req.pod.containers.eff_run_as_user", []string{"10", "1", "1"}, []string{"88", "77", "77"}},
	{podEvent, "ka.req.pod.containers.eff_run_as_user[1]", []string{"1"}, []string{}},
	{podEvent, "ka.req.pod.run_as_group", []string{"2"}, nil},
	{podEvent, "ka.req.pod.containers.run_as_group", []string{"11"}, nil},
	{podEvent, "ka.req.pod.containers.eff_run_as_group", []string{"11", "2", "2"}, []string{"0", "0", "0"}},
	{podEvent, "ka.req.pod.containers.proc_mount", []string{"Default"}, nil},
	{roleEvent, "ka.req.role.rules", []string{`{"apiGroups":["","apps"],"verbs":["get"],"resources":["pods"]}`, `{"nonResourceURLs":["/x"],"verbs":["*","list"]}`, `{"verbs":"odd"}`}, nil},
	{roleEvent, "ka.req.role.rules.apiGroups", []string{"", "apps"}, nil},
	{roleEvent, "ka.req.role.rules.nonResourceURLs", []string{"/x"}, nil},
	{roleEvent, "ka.req.role.rules.verbs", []string{"get", "*", "list"}, nil},
	{roleEvent, "ka.req.role.rules.verbs[1]", []string{"*", "list"}, nil},
	{roleEvent, "ka.req.role.rules.resources", []string{"pods"}, nil},
	{podEvent, "ka.req.pod.fs_group", []string{"3"}, nil},
	{podEvent, "ka.req.pod.supplemental_groups", []string{"4", "5"}, nil},
	{podEvent, "ka.req.pod.containers.add_capabilities", []string{"SYS_ADMIN", "NET_RAW", "CHOWN"}, []string{`["SYS_ADMIN","NET_RAW"]`, `["CHOWN"]`}},
	{podEvent, "ka.req.pod.containers.add_capabilities[2]", []string{"CHOWN"}, []string{`["CHOWN"]`}},
	{serviceEvent, "ka.req.service.type", []string{"NodePort"}, nil},
	{serviceEvent, "ka.req.service.ports", []string{`{"port":80,"nodePort":30080}`, `{"port":443}`}, []string{`[{"port":80,"nodePort":30080},{"port":443}]`}},
	{serviceEvent, "ka.req.service.ports[1]", []string{`{"port":443}`}, []string{`[{"port":80,"nodePort":30080},{"port":443}]`}},
	{podEvent, "ka.req.pod.volumes.hostpath", []string{"/proc/1", "/etc"}, nil},
	{podEvent, "ka.req.pod.volumes.hostpath[2]", []string{"/etc"}, nil},
	{podEvent, "ka.req.volume.hostpath[/proc*]", []string{"true"}, []string{}},
	{podEvent, "ka.req.volume.hostpath[/proc]", []string{"false"}, []string{}},
	{podEvent, "ka.req.volume.hostpath[/etc]", []string{"true"}, []string{}},
	{serviceEvent, "ka.req.volume.hostpath[/etc]", nil, nil},
	{podEvent, "ka.req.pod.volumes.flexvolume_driver", []string{"fd"}, nil},
	{podEvent, "ka.req.pod.volumes.volume_type", []string{"emptyDir", "hostPath", "hostPath", "flexVolume"}, nil},
	{podEvent, "ka.req.pod.volumes.volume_type[1]", []string{"hostPath"}, nil},
	{podEvent, "ka.resp.name", []string{"rn"}, nil},
	{podEvent, "ka.response.code", []string{"201"}, nil},
	{podEvent, "ka.response.reason", []string{"Why"}, nil},
	{podEvent, "ka.useragent", []string{"agent"}, nil},
	{podEvent, "ka.sourceips", []string{"1.1.1.1", "2.2.2.2"}, []string{}},
	{podEvent, "ka.sourceips[1]", []string{"2.2.2.2"}, []string{}},
}

// TestFields asks every field of hand-made events, in both ways of reading where they differ.
func TestFields(t *testing.T) {
	tests := fieldTests[:len(fieldTests):len(fieldTests)]
	for list, v := range map[string][]string{"initContainers": {"i", "i:1", "i", "ic", "ia", "true", "true", "false", "20", "21", "Unmasked", "20", "21"},
		"ephemeralContainers": {"e", "e", "e", "ec", "ea", "false", "false", "false", "30", "31", "E", "30", "31"}} {
		for i, f := range []string{"name", "image", "image.repository", "command", "args", "privileged", "allow_privilege_escalation", "read_only_fs", "run_as_user", "run_as_group",
			"proc_mount", "eff_run_as_user", "eff_run_as_group"} {
			tt := tests[0]
			tt.event, tt.field, tt.want = podEvent, "ka.req.pod."+list+"."+f, []string{v[i]}
			if strings.HasPrefix(f, "eff_") {
				tt.upstream = []string{"0"}
				if f == "eff_run_as_user" {
					tt.upstream = []string{"77"}
				}
			}
			tests = append(tests, tt)
		}
	}
	tests = append(tests, tests[0], tests[0], tests[0])
	n := len(tests)
	tests[n-3].field, tests[n-3].want = "ka.req.pod.initContainers.host_port", []string{"9"}
	tests[n-2].field, tests[n-2].want, tests[n-2].upstream = "ka.req.pod.initContainers.add_capabilities", []string{"I"}, []string{`["I"]`}
	tests[n-1].field, tests[n-1].want, tests[n-1].upstream = "ka.req.pod.ephemeralContainers.add_capabilities", []string{"E1", "E2"}, []string{`["E1","E2"]`}
	seen := map[string]bool{}
	for _, tt := range tests {
		name, _, _ := strings.Cut(tt.field, "[")
		seen[name] = true
		ev := event(t, tt.event)
		if diff := cmp.Diff(tt.want, ask(t, Corrected, tt.field, ev)); diff != "" {
			t.Errorf("%s: %s", tt.field, diff)
		}
		want := tt.upstream
		if want == nil {
			want = tt.want
		}
		if diff := cmp.Diff(append([]string{}, want...), append([]string{}, ask(t, Upstream, tt.field, ev)...)); diff != "" {
			t.Errorf("%s, upstream: %s", tt.field, diff)
		}
	}
	for name := range fields {
		if strings.HasPrefix(name, "ka.") && !seen[name] {
			t.Errorf("%s is not tested", name)
		}
	}
}

// TestFieldList holds the table against the list of all fields, their form and their arguments.
func TestFieldList(t *testing.T) {
	f, err := os.Open(filepath.Join(filepath.Dir(filepath.Dir(shared(t, "falco"))), "spec", "falco-fields.tsv"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	forms := map[string]argForm{"None": noArg, "Index": indexArg, "Key, Required": keyArg}
	s, n := bufio.NewScanner(f), 0
	for s.Scan() {
		c := strings.Split(s.Text(), "\t")
		if len(c) != 3 || c[0] == "field" {
			continue
		}
		n++
		got := fields[c[0]]
		if form, ok := forms[c[2]]; got == nil || got.list != (c[1] == "list") || !ok || got.arg != form {
			t.Errorf("%q: %+v", c, got)
		}
	}
	if n != 100 {
		t.Errorf("%d fields", n)
	}
}

// TestOddBodies asks every field of events whose bodies are not what they should be: nothing is found, and nothing goes wrong.
func TestOddBodies(t *testing.T) {
	deep := strings.Repeat("[", 9000) + strings.Repeat("]", 9000)
	for _, tt := range []struct {
		name, body string
		some       bool // some fields may have values
	}{
		{"a JSON patch", `[{"op":"add","path":"/spec","value":{"containers":[{"image":"x"}]},"spec":{"containers":[{"image":"x","name":"x"}],"volumes":[{"hostPath":{"path":"/"}}]},"rules":[{"verbs":["*"]}]}]`, false},
		{"null", `null`, false}, {"a text", `"spec"`, false}, {"empty", `{}`, false}, {"no objects", `{"spec":"x","rules":"x","subjects":{},"data":null}`, true},
		{"lists of the wrong things", `{"spec":{"containers":[1,null,"x",[[{}]]],"volumes":[1],"ports":5,"initContainers":{}},"rules":[1,[],{"verbs":[1,null]}],"subjects":[1]}`, true},
		{"deep", `{"spec":{"containers":` + deep + `,"volumes":` + deep + `,"ports":` + deep + `},"rules":` + deep + `,"subjects":` + deep + `,"data":` + deep + `}`, true},
	} {
		for _, compat := range []string{Corrected, Upstream} {
			ev := event(t, `"requestObject":`+tt.body+`,"responseObject":`+tt.body)
			for name, f := range fields {
				switch f.arg {
				case keyArg:
					name += "[/requestObject/spec/x]"
				case indexArg:
					for _, i := range []string{"[0]", "[7]"} {
						ask(t, compat, name+i, ev)
					}
				}
				v := ask(t, compat, name, ev)
				if len(v) > 0 && !tt.some && strings.HasPrefix(name, "ka.req.") && !strings.Contains(name, "has_name") {
					t.Errorf("%s: %s is %q", tt.name, name, v)
				}
			}
		}
	}
}

// TestDuplicates: the last of duplicate members counts, as in the API server; for the plugin the first does.
func TestDuplicates(t *testing.T) {
	ev := event(t, `"requestObject":{"spec":{"hostPID":false,"hostPID":true}}`)
	for compat, want := range map[string]string{Corrected: "true", Upstream: "false"} {
		if got := ask(t, compat, "ka.req.pod.host_pid", ev); len(got) != 1 || got[0] != want {
			t.Errorf("%s: %q, want %q", compat, got, want)
		}
	}
}

// TestIndent holds indent against encoding/json.
func TestIndent(t *testing.T) {
	for _, s := range []string{`{}`, `[]`, `[1,2,{"a":[],"b":{}}]`, ` { "a" : [ 1 , "x, \"{}[]" ] , "b" : null } `, "{" + podEvent + "}", `"x"`, `[[[1],[]]]`, `[{ }]`} {
		var want, flat bytes.Buffer
		if err := json.Indent(&want, []byte(s), "", "  "); err != nil {
			t.Fatal(err)
		}
		if got := indent([]byte(s)); got != strings.TrimSpace(want.String()) {
			t.Errorf("%s: %s", s, cmp.Diff(want.String(), got))
		}
		if err := json.Compact(&flat, []byte(s)); err != nil {
			t.Fatal(err)
		}
		if got := compact([]byte(s)); got != flat.String() {
			t.Errorf("%s: %s", s, cmp.Diff(flat.String(), got))
		}
	}
}
