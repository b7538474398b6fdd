package explain

import (
	"encoding/json"
	"errors"
	"net/url"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"pgregory.net/rapid"

	"whodunit/internal/audit"
)

const kubectlAgent = "kubectl/v1.36.3 (linux/amd64) kubernetes/abcdef0"

// reference reads group/resource/subresource ns name, "-" for what is missing.
func reference(s string) audit.ObjectRef {
	f := strings.Fields(strings.ReplaceAll(s, "-/", "/") + " - - -")
	for i := range f {
		if f[i] == "-" {
			f[i] = ""
		}
	}
	p := append(strings.Split(f[0], "/"), "", "")
	return audit.ObjectRef{APIGroup: p[0], Resource: p[1], Subresource: p[2], Namespace: f[1], Name: f[2]}
}

func TestKubectl(t *testing.T) {
	for _, tt := range []struct{ verb, ref, query, body, want string }{
		{"list", "/pods shop", "limit=500", "", "get pods -n shop"},
		{"list", "/secrets", "limit=500", "", "get secrets -A"},
		{"list", "/nodes", "limit=500", "", "get nodes"},
		{"list", "/pods shop", "limit=2&labelSelector=app%3Dshop,tier!%3Dx&fieldSelector=status.phase%3DRunning", "", "get pods -n shop -l 'app=shop,tier!=x' --field-selector=status.phase=Running --chunk-size=2"},
		{"watch", "/pods shop", "resourceVersion=1&watch=true", "", "get pods -n shop -w"},
		{"watch", "/pods shop web", "fieldSelector=metadata.name%3Dweb&watch=true", "", "get pod web -n shop -w"},
		{"watch", "apps/deployments shop web", "allowWatchBookmarks=true&fieldSelector=metadata.name%3Dweb&watch=true", "", "rollout status deployment web -n shop"},
		{"get", "/secrets team-a db", "", "", "get secret db -n team-a"},
		{"get", "/namespaces a a", "", "", "get namespace a"},
		{"list", "extensions/daemonsets a", "", "", "get daemonsets -n a"},
		{"get", "example.test/databases a b", "", "", "get databases.example.test b -n a"},
		{"get", "apps/deployments/scale a b", "", "", "get deployment b -n a --subresource=scale"},
		{"list", "/events shop", "limit=500&fieldSelector=involvedObject.name%3Dp,involvedObject.namespace%3Dshop,involvedObject.uid%3D1", "", "describe pod p -n shop"},
		{"list", "/events", "limit=500&fieldSelector=involvedObject.namespace%3D,involvedObject.kind%3DNode,involvedObject.uid%3Dn,involvedObject.name%3Dn", "", "describe node n"},
		{"list", "/events shop", "fieldSelector=involvedObject.name%3Dp", "", "get events -n shop --field-selector=involvedObject.name=p"},
		{"get", "/pods/log shop web", "container=c&follow=true&previous=true&timestamps=true&tailLines=5&sinceSeconds=60", "", "logs web -n shop -c c -f -p --timestamps --tail=5 --since=60s"},
		{"get", "/pods/exec shop web-1", "command=sh&command=-c&command=id%3B+env&container=app&stdin=true&stdout=true&tty=true", "", "exec -it web-1 -n shop -c app -- sh -c 'id; env'"},
		{"create", "/pods/exec shop -x", "command=ls&command=", "", "exec pod/-x -n shop -- ls ''"},
		{"get", "/pods/exec shop web", "command=tar&command=cf&command=-&command=/etc/hostname&container=c", "", "cp shop/web:/etc/hostname . -c c"},
		{"get", "/pods/exec shop web", "command=tar&command=-xmf&command=-&command=-C&command=/tmp&container=c&stdin=true", "", "cp . shop/web:/tmp -c c"},
		{"get", "/pods/exec shop web", "command=sh&command=-c&command=tar+cf+-+'/x'+%7C+tail+-c%2B1", "", "cp shop/web:/x . --retries=1"},
		{"create", "/pods/attach shop web", "container=c&stdin=true", "", "attach -i web -n shop -c c"},
		{"get", "/pods/portforward shop web", "ports=8080&ports=9090", "", "port-forward web 8080 9090 -n shop"},
		{"create", "/pods/eviction shop web", "", "", "drain '<node>'"},
		{"patch", "/nodes - n1", "", `{"spec":{"unschedulable":true}}`, "cordon n1"},
		{"patch", "/nodes - n1", "", `{"spec":{"unschedulable":null}}`, "uncordon n1"},
		{"patch", "/nodes - n1", "", "", "patch node n1"},
		{"patch", "/nodes - n1", "fieldManager=kubectl-taint", `{"spec":{"taints":[{"key":"a","value":"b","effect":"NoSchedule"},{"key":"c","effect":"NoExecute"}]}}`, "taint nodes n1 a=b:NoSchedule c:NoExecute"},
		{"patch", "apps/deployments/scale a b", "", `{"spec":{"replicas":4}}`, "scale deployment b -n a --replicas=4"},
		{"update", "apps/deployments/scale a b", "", "", "scale deployment b -n a"},
		{"patch", "apps/deployments/scale a b", "fieldManager=kubectl-patch", `{"spec":{"replicas":4}}`, `patch deployment b -n a -p '{"spec":{"replicas":4}}' --subresource=scale`},
		{"patch", "apps/deployments a b", "", `[{"op":"replace","path":"/spec/template","value":{}}]`, "rollout undo deployment b -n a"},
		{"patch", "apps/deployments a b", "fieldManager=kubectl-rollout", `{"spec":{"template":{"metadata":{"annotations":{"kubectl.kubernetes.io/restartedAt":"x"}}}}}`, "rollout restart deployment b -n a"},
		{"patch", "apps/deployments a b", "fieldManager=kubectl-rollout", `{"spec":{"paused":true}}`, "rollout pause deployment b -n a"},
		{"patch", "apps/deployments a b", "fieldManager=kubectl-rollout", `{"spec":{"paused":null}}`, "rollout resume deployment b -n a"},
		{"patch", "/pods/ephemeralcontainers a b", "", `{"spec":{"ephemeralContainers":[{"name":"old"},{"name":"dbg","image":"busybox","targetContainerName":"web","stdin":true,"tty":true}]}}`, "debug -it b -n a --image=busybox --target=web -c dbg"},
		{"create", "/pods default node-debugger-node-1-x2x4z", "", `{"spec":{"containers":[{"name":"debugger","image":"busybox"}]}}`, "debug node/node-1 -n default --image=busybox -c debugger"},
		{"create", "/pods a copy", "", "", "debug '<pod>' -n a --copy-to=copy"},
		{"update", "certificates.k8s.io/certificatesigningrequests/approval - c", "", `{"status":{"conditions":[{"type":"Approved"}]}}`, "certificate approve c"},
		{"update", "certificates.k8s.io/certificatesigningrequests/approval - c", "", `{"status":{"conditions":[{"type":"Denied"}]}}`, "certificate deny c"},
		{"create", "/serviceaccounts/token a sa", "", `{"spec":{"expirationSeconds":600,"audiences":["x","y"]}}`, "create token sa -n a --audience=x,y --duration=600s"},
		{"create", "authorization.k8s.io/selfsubjectaccessreviews", "", `{"spec":{"resourceAttributes":{"verb":"get","resource":"deployments","group":"apps","name":"x","namespace":"a"}}}`, "auth can-i get deployments.apps/x -n a"},
		{"create", "authorization.k8s.io/selfsubjectaccessreviews", "", `{"spec":{"nonResourceAttributes":{"verb":"get","path":"/logs"}}}`, "auth can-i get /logs"},
		{"create", "authorization.k8s.io/selfsubjectaccessreviews", "", "", "auth can-i"},
		{"create", "authorization.k8s.io/selfsubjectrulesreviews", "", `{"spec":{"namespace":"a"}}`, "auth can-i --list -n a"},
		{"create", "authentication.k8s.io/selfsubjectreviews", "", "", "auth whoami"},
		{"list", "metrics.k8s.io/pods", "", "", "top pods -A"},
		{"get", "metrics.k8s.io/nodes - n1", "", "", "top node n1"},
		{"list", "/services kube-system", "labelSelector=kubernetes.io%2Fcluster-service%3Dtrue", "", "cluster-info"},
		{"delete", "apps/deployments team-a web", "", `{"propagationPolicy":"Background"}`, "delete deployment web -n team-a"},
		{"delete", "/pods a b", "", `{"gracePeriodSeconds":0,"propagationPolicy":"Orphan"}`, "delete pod b -n a --cascade=orphan --force --grace-period=0"},
		{"delete", "/pods a b", "gracePeriodSeconds=1&dryRun=All", "", "delete pod b -n a --now --dry-run=server"},
		{"deletecollection", "/pods a", "", "", "delete pods -n a --all"},
		{"deletecollection", "/pods a", "labelSelector=x", "", "delete pods -n a -l x"},
		{"create", "/pods a p", "fieldManager=kubectl-create", "", "create -f - -n a"},
		{"create", "/namespaces team-a team-a", "fieldManager=kubectl-create", "", "create namespace team-a"},
		{"create", "/secrets a s", "fieldManager=kubectl-create", "", "create secret generic s -n a"},
		{"create", "/services a s", "fieldManager=kubectl-create", `{"spec":{"type":"NodePort"}}`, "create service nodeport s -n a"},
		{"create", "apps/deployments a d", "fieldManager=kubectl-create", `{"spec":{"template":{"spec":{"containers":[{"image":"nginx"}]}}}}`, "create deployment d -n a --image=nginx"},
		{"create", "rbac.authorization.k8s.io/clusterrolebindings - x", "fieldManager=kubectl-create", `{"roleRef":{"kind":"ClusterRole","name":"cluster-admin"},"subjects":[{"kind":"User","name":"eve"},{"kind":"ServiceAccount","namespace":"a","name":"b"}]}`, "create clusterrolebinding x --clusterrole=cluster-admin --user=eve --serviceaccount=a:b"},
		{"create", "rbac.authorization.k8s.io/roles a x", "", "", "auth reconcile -f - -n a"},
		{"create", "/pods a p", "fieldManager=kubectl-run", `{"spec":{"containers":[{"image":"busybox"}]}}`, "run p -n a --image=busybox"},
		{"create", "/services a api", "fieldManager=kubectl-expose", `{"spec":{"ports":[{"port":80}]}}`, "expose deployment api -n a --port=80"},
		{"create", "autoscaling/horizontalpodautoscalers a api", "fieldManager=kubectl-autoscale", `{"spec":{"minReplicas":1,"maxReplicas":5,"scaleTargetRef":{"kind":"StatefulSet","name":"db"}}}`, "autoscale statefulset db -n a --min=1 --max=5"},
		{"create", "apps/deployments a d", "fieldManager=kubectl-client-side-apply&fieldValidation=Strict", "", "apply -f - -n a"},
		{"patch", "apps/deployments a d", "dryRun=All&fieldManager=kubectl-client-side-apply&fieldValidation=Strict", "", "apply -f - -n a --dry-run=server"},
		{"patch", "apps/deployments a d", "dryRun=All&fieldManager=kubectl-client-side-apply", "", "diff -f - -n a"},
		{"patch", "apps/deployments a d", "fieldManager=kubectl&force=true", "", "apply --server-side -f - -n a --force-conflicts"},
		{"patch", "apps/deployments a d", "fieldManager=mine&force=false", "", "apply --server-side -f - -n a"},
		{"patch", "/secrets a set", "fieldManager=kubectl-applyset-x", "", "apply --prune -f - -n a --applyset=secret/set"},
		{"patch", "apps/deployments a d", "fieldManager=kubectl-last-applied", "", "apply set-last-applied -f - -n a"},
		{"update", "/configmaps a c", "fieldManager=kubectl-replace", "", "replace -f - -n a"},
		{"create", "/configmaps a c", "fieldManager=kubectl-replace", "", "replace --force -f - -n a"},
		{"patch", "/configmaps a c", "fieldManager=kubectl-edit", "", "edit configmap c -n a"},
		{"patch", "/secrets a c", "fieldManager=kubectl-patch", `{"data":{}}`, "patch secret c -n a"},
		{"patch", "/pods a p", "fieldManager=kubectl-patch", `[]`, "patch pod p -n a --type=json -p '[]'"},
		{"patch", "/pods a p", "fieldManager=kubectl-label", `{"metadata":{"labels":{"owner":"alice","old":null}}}`, "label pod p owner=alice old- -n a"},
		{"patch", "/pods a p", "fieldManager=kubectl-annotate", `{"metadata":{"annotations":{"change-cause":"release 1"}}}`, "annotate pod p 'change-cause=release 1' -n a"},
		{"patch", "apps/deployments a d", "fieldManager=kubectl-set", `{"spec":{"template":{"spec":{"containers":[{"name":"web","image":"nginx:2"}]}}}}`, "set image deployment d web=nginx:2 -n a"},
		{"patch", "apps/deployments a d", "fieldManager=kubectl-set", `{"spec":{"template":{"spec":{"containers":[{"name":"web","env":[{"name":"K","value":"secret"}]}]}}}}`, "set env deployment d -n a"},
		{"patch", "apps/deployments a d", "fieldManager=kubectl-set", `{"spec":{"template":{"spec":{"containers":[{"name":"web","resources":{}}]}}}}`, "set resources deployment d -n a"},
		{"patch", "apps/deployments a d", "fieldManager=kubectl-set", `{"spec":{"template":{"spec":{"serviceAccountName":"sa"}}}}`, "set serviceaccount deployment d sa -n a"},
		{"patch", "/services a s", "fieldManager=kubectl-set", `{"spec":{"selector":{"a":"b"}}}`, "set selector service s -n a"},
		{"patch", "rbac.authorization.k8s.io/rolebindings a s", "fieldManager=kubectl-set", `{"subjects":[]}`, "set subject rolebinding s -n a"},
		{"get", "/nodes/proxy - n1", "command=id", "", "get --raw '/x?command=id'"},
		{"create", "/services/proxy a s", "", "", "create --raw '/x?' -f -"},
		{"patch", "/services/proxy a s", "", "", ""},
		{"get", "", "", "", "get --raw '/x?'"},
		{"head", "", "", "", ""},
		{"odd", "/pods a p", "", "", ""},
		// Hostile names.
		{"get", "/secrets a $(rm${IFS}-rf${IFS}/)", "", "", "get secret '$(rm${IFS}-rf${IFS}/)' -n a"},
		{"delete", "/pods a --all", "", "", "delete -n a -- pod --all"},
		{"get", "/pods a =x'\u202e\u0007\\", "", "", `get pod '=x'\''\u202e\a'\\'' -n a`},
	} {
		ev := audit.Event{Verb: tt.verb, UserAgent: kubectlAgent, RequestURI: "/x?" + tt.query, ObjectRef: reference(tt.ref)}
		if tt.ref == "" {
			ev.ObjectRef = audit.ObjectRef{}
		}
		if tt.body != "" {
			ev.RequestObject = []byte(tt.body)
		}
		want := tt.want
		if want != "" {
			want = "kubectl " + want
		}
		got, typed := Kubectl(&ev)
		if got != want || !typed {
			t.Errorf("%s %s ?%s %s:\n got %s\nwant %s (%v)", tt.verb, tt.ref, tt.query, tt.body, got, want, typed)
		}
		if w, err := shellSplit(got); err != nil || got != "" && w[0] != "kubectl" {
			t.Errorf("%s: %v", got, err)
		}
	}
}

func TestKubectlAgents(t *testing.T) {
	for _, tt := range []struct {
		agent string
		typed bool
		want  string
	}{
		{kubectlAgent, true, "kubectl rollout undo deployment d -n a"},
		{"kubectl.exe/v1.30.1 (windows/amd64) kubernetes/1", true, "kubectl rollout undo deployment d -n a"},
		{"kubectl/v1.13.0 (linux/amd64) kubernetes/1", true, "kubectl patch deployment d -n a"}, // named no field managers
		{"kubectl-neat/v0.1.0", false, "kubectl patch deployment d -n a"},
		{"helm/v3.12", false, "kubectl patch deployment d -n a"},
		{"", false, "kubectl patch deployment d -n a"},
	} {
		ev := audit.Event{Verb: "patch", UserAgent: tt.agent, ObjectRef: reference("apps/deployments a d")}
		if got, typed := Kubectl(&ev); got != tt.want || typed != tt.typed {
			t.Errorf("%s: %s, %v", tt.agent, got, typed)
		}
	}
	ev := audit.Event{Verb: "create", UserAgent: "curl/8", RequestURI: "/api/v1/namespaces/a/pods/p/eviction", ObjectRef: reference("/pods/eviction a p")}
	if got, typed := Kubectl(&ev); got != "kubectl create --raw /api/v1/namespaces/a/pods/p/eviction -f -" || typed {
		t.Errorf("%s, %v", got, typed)
	}
	ev = audit.Event{Verb: "get", UserAgent: kubectlAgent, RequestURI: "/version?timeout=32s"}
	if got, typed := Kubectl(&ev); got != "kubectl version" || !typed {
		t.Errorf("%s, %v", got, typed)
	}
}

func TestKubectlImpersonation(t *testing.T) {
	for _, tt := range []struct{ user, groups, want string }{
		{"bob", "system:authenticated", "--as=bob"},
		{"admin", "system:masters system:authenticated", "--as=admin --as-group=system:masters"},
		{"system:serviceaccount:a:b", "system:serviceaccounts system:serviceaccounts:a system:authenticated", "--as=system:serviceaccount:a:b"},
		{"x y", "a b c", "'--as=x y' --as-group=a --as-group=b …"},
	} {
		ev := audit.Event{Verb: "get", UserAgent: kubectlAgent, RequestURI: "/x?command=id", ObjectRef: reference("/pods/exec a p"),
			Impersonated: audit.User{Username: tt.user, Groups: strings.Fields(tt.groups)}}
		if got, _ := Kubectl(&ev); got != "kubectl exec p -n a "+tt.want+" -- id" {
			t.Error(got)
		}
	}
}

// A command is never more than words for a shell, and what is cut says so.
func TestKubectlIsSafeToPaste(t *testing.T) {
	hostile := rapid.OneOf(rapid.String(), rapid.StringOf(rapid.RuneFrom([]rune("'\"\\$`;|&<>()-=~#!*? \n\r\x00\u202e\u2028…a"))),
		rapid.SampledFrom([]string{"", "-n", "--all", "a", "pods", "shop", "deployments", "apps", "exec", "log", "\xff\xfe", strings.Repeat("x", 5000), strings.Repeat("'", 300)}))
	rapid.Check(t, func(t *rapid.T) {
		pick := func(name string, of ...string) string {
			return rapid.OneOf(rapid.SampledFrom(of), hostile).Draw(t, name)
		}
		q := url.Values{}
		for range rapid.IntRange(0, 6).Draw(t, "parameters") {
			q.Add(pick("parameter", "command", "container", "fieldManager", "labelSelector", "fieldSelector", "limit", "ports", "tailLines", "force"),
				pick("value", "true", "kubectl-label", "kubectl-set", "kubectl-taint", "kubectl-create", "tar", "sh"))
		}
		text, _ := json.Marshal(hostile.Draw(t, "text"))
		s := string(text)
		ev := audit.Event{Verb: pick("verb", "get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"),
			UserAgent: pick("agent", kubectlAgent, "curl/8"), RequestURI: "/" + pick("path", "api") + "?" + q.Encode(),
			ObjectRef: audit.ObjectRef{Resource: pick("resource", "pods", "nodes", "deployments", "secrets"), APIGroup: pick("group", "", "apps"),
				Subresource: pick("subresource", "", "exec", "log", "scale", "token", "approval", "ephemeralcontainers"), Namespace: pick("ns", "", "shop"), Name: pick("name", "", "web")},
			Impersonated: audit.User{Username: pick("as", "", "bob"), Groups: []string{hostile.Draw(t, "as group")}},
			RequestObject: []byte(`{"metadata":{"name":` + s + `,"labels":{` + s + `:` + s + `}},"spec":{"taints":[{"key":` + s + `}],"serviceAccountName":` + s +
				`,"containers":[{"image":` + s + `}],"ephemeralContainers":[{"image":` + s + `}],"audiences":[` + s + `],"template":{"spec":{"serviceAccountName":` + s + `}}}}`)}
		got, _ := Kubectl(&ev)
		if got == "" {
			return
		}
		if !utf8.ValidString(got) || len(got) > commandAll || strings.ContainsFunc(got, func(c rune) bool { return !unicode.IsPrint(c) }) {
			t.Fatalf("%d bytes: %q", len(got), got)
		}
		w, err := shellSplit(got)
		if err != nil || w[0] != "kubectl" || strings.HasPrefix(w[1], "-") {
			t.Fatalf("%q: %v", got, err)
		}
		for _, word := range w {
			if len(word) > commandWord {
				t.Fatalf("%d bytes: %q", len(word), word)
			}
			if len(word) > commandWord-10 && !strings.HasSuffix(word, "…") && strings.Contains(word, "xxx") {
				t.Fatalf("cut without a sign: %q", word)
			}
		}
	})
}

// shellSplit splits a line as a POSIX shell does, and fails at what would be more than words there.
func shellSplit(s string) ([]string, error) {
	var out []string
	var w strings.Builder
	in := false // within a word
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == ' ':
			if in {
				out = append(out, w.String())
				w.Reset()
			}
			in = false
			continue
		case c == '\'':
			end := strings.IndexByte(s[i+1:], '\'')
			if end < 0 {
				return nil, errors.New("a quote stays open")
			}
			w.WriteString(s[i+1 : i+1+end])
			i += end + 1
		case c == '\\':
			if i++; i == len(s) {
				return nil, errors.New("a backslash at the end")
			}
			w.WriteByte(s[i])
		case strings.IndexByte("\t\n\r\"$`&|;<>()*?[]{}#~!^", c) >= 0 || c < ' ' || c == 0x7f || c == '=' && !in:
			return nil, errors.New("unquoted " + s[i:])
		default:
			w.WriteByte(c)
		}
		in = true
	}
	if in {
		out = append(out, w.String())
	}
	return out, nil
}
