package falco

import (
	"bufio"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"whodunit/internal/audit"
	"whodunit/internal/match"
	"whodunit/internal/rule"
)

// shared is a file of the data that is not part of the repository.
func shared(t testing.TB, name ...string) string {
	t.Helper()
	dir := os.Getenv("WHODUNIT_SHARED")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "..", "shared")
	}
	p := filepath.Join(append([]string{dir, "data"}, name...)...)
	if _, err := os.Stat(p); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skipf("SKIPPED: %v", err)
	}
	return p
}

// loadFiles loads the published rule files, each over those before it.
func loadFiles(t testing.TB, compat string, names ...string) []*rule.Rule {
	t.Helper()
	f, err := New(Options{Compat: compat})
	if err != nil {
		t.Fatal(err)
	}
	var layers []rule.Layer
	for _, n := range names {
		l, err := rule.OpenLayer(shared(t, "falco", n))
		if err != nil {
			t.Fatal(err)
		}
		layers = append(layers, l)
	}
	loaded := rule.Load(layers, f)
	for _, p := range loaded.Problems {
		t.Error(p)
	}
	return loaded.Rules
}

// recorded hands f the events of a recorded log.
func recorded(t testing.TB, name string, f func(line []byte, ev *audit.Event)) {
	t.Helper()
	file, err := os.Open(shared(t, "audit", name))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	z, err := zstd.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	r := bufio.NewReaderSize(z, 1<<20)
	for {
		line, err := r.ReadBytes('\n')
		if err == io.EOF {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if ev, err := audit.Parse("test", line); err == nil {
			f(line, &ev)
		}
	}
}

type object = map[string]any

// at follows members of decoded JSON; nil where there is nothing.
func at(v any, keys ...string) any {
	for _, k := range keys {
		m, _ := v.(object)
		v = m[k]
	}
	return v
}

func str(v any) string { s, _ := v.(string); return s }

func elements(v any) []any { l, _ := v.([]any); return l }

// naive are some of the published rules written down by hand over decoded JSON, for events of stage ResponseComplete.
var naive = map[string]func(e object) bool{
	"Create Privileged Pod": func(e object) bool {
		found := false
		for _, list := range containerLists {
			for _, c := range elements(at(e, "requestObject", "spec", list)) {
				found = found || at(c, "securityContext", "privileged") == true
			}
		}
		return found && isPod(e)
	},
	"Create HostNetwork Pod": func(e object) bool { return isPod(e) && at(e, "requestObject", "spec", "hostNetwork") == true },
	"Create Sensitive Mount Pod": func(e object) bool {
		paths := " /proc /var/run/docker.sock / /etc /root /var/run/crio/crio.sock /run/containerd/containerd.sock /home/admin /var/lib/kubelet /var/lib/kubelet/pki /etc/kubernetes /etc/kubernetes/manifests "
		for _, v := range elements(at(e, "requestObject", "spec", "volumes")) {
			if p := str(at(v, "hostPath", "path")); p != "" && strings.Contains(paths, " "+p+" ") {
				return isPod(e)
			}
		}
		return false
	},
	"Create NodePort Service": func(e object) bool {
		return created(e, "services") && at(e, "requestObject", "spec", "type") == "NodePort"
	},
	"Create/Modify Configmap With Private Credentials": func(e object) bool {
		verb := str(at(e, "verb"))
		if str(at(e, "objectRef", "resource")) != "configmaps" || verb != "create" && verb != "update" && verb != "patch" {
			return false
		}
		data, ok := at(e, "requestObject", "data").(object)
		if !ok {
			return false
		}
		b, _ := json.Marshal(data)
		for _, w := range []string{"aws_access_key_id", "aws-access-key-id", "aws_s3_access_key_id", "aws-s3-access-key-id", "password", "passphrase"} {
			if strings.Contains(string(b), w) {
				return true
			}
		}
		return false
	},
	"ClusterRole With Wildcard Created": func(e object) bool { return isRole(e) && (ruleHas(e, "resources", "*") || ruleHas(e, "verbs", "*")) },
	"ClusterRole With Write Privileges Created": func(e object) bool {
		return isRole(e) && ruleHas(e, "verbs", "create", "update", "patch", "delete", "deletecollection")
	},
	"ClusterRole With Pod Exec Created": func(e object) bool { return isRole(e) && ruleHas(e, "resources", "pods/exec") },
	"Attach to cluster-admin Role": func(e object) bool {
		return created(e, "clusterrolebindings") && at(e, "requestObject", "roleRef", "name") == "cluster-admin"
	},
	"K8s Secret Get Successfully": func(e object) bool {
		return str(at(e, "objectRef", "resource")) == "secrets" && at(e, "verb") == "get" && successful(e)
	},
	"K8s Secret Get Unsuccessfully Tried": func(e object) bool {
		return str(at(e, "objectRef", "resource")) == "secrets" && at(e, "verb") == "get" && !successful(e)
	},
	"K8s Namespace Created": func(e object) bool { return created(e, "namespaces") && successful(e) },
	"K8s Secret Created": func(e object) bool {
		ns, ok := at(e, "objectRef", "namespace").(string)
		return created(e, "secrets") && ok && ns != "kube-system" && !strings.HasPrefix(str(at(e, "user", "username")), "system:") && successful(e)
	},
	"Anonymous Request Allowed": func(e object) bool {
		uri := str(at(e, "requestURI"))
		path, _, _ := strings.Cut(uri, "?")
		return at(e, "user", "username") == "system:anonymous" && at(e, "annotations", audit.AnnotationDecision) == "allow" &&
			path != "/healthz" && path != "/livez" && path != "/readyz"
	},
	"Ingress Object without TLS Certificate Created": func(e object) bool {
		return created(e, "ingresses") && successful(e) && at(e, "requestObject", "spec", "tls") == nil
	},
}

func created(e object, resource string) bool {
	return at(e, "verb") == "create" && at(e, "objectRef", "resource") == resource
}

func isPod(e object) bool {
	sub := str(at(e, "objectRef", "subresource"))
	return created(e, "pods") && sub == ""
}

func isRole(e object) bool { return created(e, "roles") || created(e, "clusterroles") }

func successful(e object) bool {
	code, _ := at(e, "responseStatus", "code").(float64)
	return code >= 200 && code < 300
}

func ruleHas(e object, key string, words ...string) bool {
	for _, r := range elements(at(e, "requestObject", "rules")) {
		for _, v := range elements(at(r, key)) {
			if slices.Contains(words, str(v)) {
				return true
			}
		}
	}
	return false
}

// TestRecorded runs the published rules over the recorded logs, and holds some against code of their own.
func TestRecorded(t *testing.T) {
	rules := loadFiles(t, "", "k8s_audit_rules.yaml", "k8s_audit_rules_gke.yaml")
	if len(rules) != 48 {
		t.Errorf("%d rules", len(rules))
	}
	counts, events := map[string]int{}, 0
	for _, log := range []string{"apiserver-1.36.log.zst", "edge-1.36.log.zst"} {
		recorded(t, log, func(line []byte, ev *audit.Event) {
			events++
			var e object
			decoded := false
			for _, r := range rules {
				got := r.Off == "" && match.Eval(r.Expr, ev)
				if got {
					counts[r.Title]++
					if m := r.Message.Render(ev); m == "" {
						t.Error("no message")
					}
				}
				check := naive[r.Title]
				if check == nil {
					continue
				}
				if !decoded {
					decoded = true
					if err := json.Unmarshal(line, &e); err != nil {
						t.Fatal(err)
					}
				}
				if want := at(e, "stage") == "ResponseComplete" && check(e); got != want {
					t.Fatalf("%s: %t, want %t: %.2000s", r.Title, got, want, line)
				}
			}
		})
	}
	for name := range naive {
		if counts[name] == 0 && name != "Create Privileged Pod" && name != "Create Sensitive Mount Pod" {
			t.Logf("%s never matched", name)
		}
	}
	t.Logf("%d events: %v", events, counts)
}
