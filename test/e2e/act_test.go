package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/client-go/tools/clientcmd"

	"whodunit/internal/act"
	"whodunit/internal/alert"
	"whodunit/internal/audit"
	"whodunit/internal/detect"
	docs "whodunit/internal/finding"
	"whodunit/internal/rule"
	"whodunit/internal/rule/native"
	"whodunit/test/e2e/cluster"
)

// Actions of every kind on a real API server, under the very roles that are printed for them.
func TestAct(t *testing.T) {
	s := &acting{t: t, c: cluster.For(t, cluster.Config{Nodes: []string{"node-1", "node-2", "node-3"}}), events: map[string][]*audit.Event{}}
	s.kubectl(cluster.Admin, "create", "namespace", "whodunit")
	s.hook = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.hooked = append(s.hooked, string(b))
	}))
	t.Cleanup(s.hook.Close)
	s.actions = s.configured()
	s.grant(s.roles(s.actions))
	account, err := s.c.LoginServiceAccount(t.Context(), "whodunit", "act")
	if err != nil {
		t.Fatal(err)
	}
	s.account = account
	s.story()
	t.Run("roles", func(t *testing.T) { s.t = t; s.leastPrivilege() })
	t.Run("live", func(t *testing.T) { s.t = t; s.live() })
	t.Run("guards", func(t *testing.T) { s.t = t; s.guards() })
	t.Run("crash", func(t *testing.T) { s.t = t; s.crash() })
	t.Run("loop", func(t *testing.T) { s.t = t; s.loop() })
}

// acting is a cluster, the account that acts on it, and what happened there that actions are about.
type acting struct {
	t       *testing.T
	c       *cluster.Cluster
	account string
	actions []act.Action
	events  map[string][]*audit.Event // by action
	hook    *httptest.Server
	mu      sync.Mutex
	hooked  []string
}

func (s *acting) configured() []act.Action {
	in := []string{"team-a"}
	hook := act.Action{Name: "webhook", Kind: act.Webhook, Namespaces: in}
	hook.Webhook.URL = s.hook.URL
	all := []act.Action{
		{Name: "label", Kind: act.Label, Namespaces: in, Labels: map[string]string{"whodunit.dev/found": "{rule}"}},
		{Name: "annotate", Kind: act.Annotate, Namespaces: in, Annotations: map[string]string{"whodunit.dev/by": "{user}"}, Resources: []string{"deployments.apps"}},
		{Name: "delete-pod", Kind: act.DeletePod, Namespaces: in},
		{Name: "evict", Kind: act.Evict, Namespaces: in},
		{Name: "scale", Kind: act.ScaleToZero, Namespaces: in},
		{Name: "cordon", Kind: act.Cordon, Namespaces: in, ClusterScoped: true},
		{Name: "unbind", Kind: act.DeleteBinding, Namespaces: in, ClusterScoped: true},
		{Name: "revert", Kind: act.RevertBinding, Namespaces: in, ClusterScoped: true, BindRoles: []string{"ClusterRole/view"}},
		{Name: "revoke", Kind: act.RevokeToken, Namespaces: in},
		{Name: "quarantine", Kind: act.Quarantine, Namespaces: in},
		{Name: "event", Kind: act.Event, Namespaces: in, ClusterScoped: true},
		hook,
	}
	for i := range all {
		all[i].Rules = []string{"e2e-" + all[i].Name}
		all[i].Rate, all[i].Timeout = act.Rate{N: 100, Per: time.Hour}, time.Minute
	}
	return all
}

func (s *acting) kubectl(user string, args ...string) string {
	s.t.Helper()
	r := s.c.Kubectl(s.t.Context(), user, args...)
	if r.Err != nil {
		s.t.Fatal(r.Err)
	}
	return r.Stdout
}

func (s *acting) apply(manifest string) {
	s.t.Helper()
	if r := s.c.KubectlWith(s.t.Context(), cluster.KubectlOptions{User: cluster.Admin, Stdin: manifest}, "apply", "-f", "-"); r.Err != nil {
		s.t.Fatal(r.Err)
	}
}

// logged is the audit log so far.
func (s *acting) logged() []audit.Event {
	s.t.Helper()
	lines, err := s.c.AuditLog()
	if err != nil {
		s.t.Fatal(err)
	}
	out := make([]audit.Event, 0, len(lines))
	for _, l := range lines {
		ev, err := audit.Parse(clusterName, l.Raw)
		if err != nil {
			s.t.Fatal(err)
		}
		out = append(out, ev)
	}
	return out
}

// event waits for the last event of an answered request by a user about an object.
func (s *acting) event(user, verb, resource, name string) *audit.Event {
	s.t.Helper()
	var found *audit.Event
	eventually(s.t, soonLimit, fmt.Sprintf("%s has done %s %s %s", user, verb, resource, name), func(context.Context) error {
		for _, ev := range s.logged() {
			r := ev.ObjectRef
			what := strings.TrimSuffix(r.Resource+"/"+r.Subresource, "/")
			if ev.Stage != audit.StageRequestReceived && ev.User.Username == user && ev.Verb == verb && what == resource && (r.Name == name || r.Name == "" && strings.Contains(string(ev.ResponseObject), `"name":"`+name)) {
				found = &ev
			}
		}
		if found == nil {
			return errors.New("it is not in the log")
		}
		return nil
	})
	return found
}

// before is the last recorded state of an event's object.
func (s *acting) before(_ context.Context, ev *audit.Event) (*audit.Event, error) {
	var found *audit.Event
	a := ev.ObjectRef
	for _, e := range s.logged() {
		b := e.ObjectRef
		if e.Micros() < ev.Micros() && a.Resource == b.Resource && a.Namespace == b.Namespace && a.Name == b.Name && len(e.ResponseObject) > 0 && e.Response.Code < 300 {
			found = &e
		}
	}
	return found, nil
}

// actor is one with a log of its own.
func (s *acting) actor(dir string, actions ...act.Action) (a *act.Actor, outcomes *[]alert.Finding) {
	s.t.Helper()
	outcomes = &[]alert.Finding{}
	o := s.options(dir, actions...)
	o.Emit = func(_ context.Context, b audit.Batch) error {
		for _, ev := range b.Events {
			*outcomes = append(*outcomes, alert.Read(&audit.Record{Event: ev}))
		}
		return nil
	}
	a, err := act.New(o)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(a.Close)
	return a, outcomes
}

func (s *acting) options(dir string, actions ...act.Action) act.Options {
	return act.Options{Actions: actions, Dir: dir, Version: "e2e", OwnNamespace: "whodunit", Clusters: []act.Cluster{{Name: clusterName, Kubeconfig: s.c.Kubeconfig(s.account)}},
		Event: func(_ context.Context, e docs.Evidence) (*audit.Event, error) {
			for _, ev := range s.logged() {
				if ev.Identity().String() == e.Identity {
					return &ev, nil
				}
			}
			return nil, nil
		}, Before: s.before}
}

// found is what a rule says about an event.
func (s *acting) found(ruleID string, ev *audit.Event) alert.Finding {
	s.t.Helper()
	doc, err := docs.Finding{Rule: ruleID, Severity: docs.High, Message: "found", Events: []docs.Evidence{{Cluster: ev.Cluster, AuditID: ev.AuditID, Stage: ev.Stage,
		Identity: ev.Identity().String()}}}.Event(ev)
	if err != nil {
		s.t.Fatal(err)
	}
	return alert.Read(&audit.Record{Event: doc})
}

// try has an action done about an event by an Actor that knows nothing yet, and gives what came of it.
func (s *acting) try(a act.Action, ev *audit.Event) string {
	s.t.Helper()
	actor, out := s.actor(s.t.TempDir(), a)
	defer actor.Close()
	if err := actor.Notify(s.t.Context(), []alert.Finding{s.found("e2e-"+a.Name, ev)}); err != nil {
		s.t.Fatal(err)
	}
	if len(*out) != 1 {
		s.t.Fatalf("%d outcomes of action %s", len(*out), a.Name)
	}
	return (*out)[0].Message
}

// live does everything, and looks with kubectl whether it is done.
func (s *acting) live() {
	s.becomes(s.actions[0], "all roles", func(m []string) bool { return strings.Contains(m[0], ": dry run") })
	s.becomes(s.actions[10], "all roles", func(m []string) bool { return strings.Contains(m[1], ": dry run") })
	node := s.kubectl(cluster.Admin, "get", "pod", "cordon", "-n", "team-a", "-o", "jsonpath={.spec.nodeName}")
	for _, a := range s.actions {
		a.Live = true
		for _, ev := range s.events[a.Name] {
			if m := s.try(a, ev); !strings.Contains(m, ": done") {
				s.t.Errorf("%s", m)
			}
		}
	}
	for what, want := range map[string]string{
		"pod label -o jsonpath={.metadata.labels.whodunit\\.dev/found}":                                         "e2e-label",
		"deployment web -o jsonpath={.metadata.annotations.whodunit\\.dev/by}":                                  cluster.Alice,
		"deployment web -o jsonpath={.spec.replicas}":                                                           "0",
		"node " + node + " -o jsonpath={.spec.unschedulable}":                                                   "true",
		"rolebinding changed -o jsonpath={.subjects[*].name}":                                                   cluster.Bob,
		"clusterrolebinding changed -o jsonpath={.subjects[*].name}":                                            cluster.Bob,
		"rolebinding made unbind --ignore-not-found -o name":                                                    "",
		"clusterrolebinding made unbind --ignore-not-found -o name":                                             "",
		"secret robot-token --ignore-not-found -o name":                                                         "",
		"networkpolicy -o jsonpath={.items[*].spec.podSelector.matchExpressions}":                               `[{"key":"whodunit.dev/quarantine","operator":"Exists"}]`,
		"pod -l whodunit.dev/quarantine -o jsonpath={.items[*].metadata.name}":                                  "quarantine",
		"events --field-selector=reason=WhodunitFinding -o jsonpath={.items[*].involvedObject.name}":            "event",
		"events -n default --field-selector=reason=WhodunitFinding -o jsonpath={.items[*].involvedObject.name}": "unbind",
	} {
		if got := s.kubectl(cluster.Admin, append([]string{"get", "-n", "team-a"}, strings.Fields(what)...)...); got != want {
			s.t.Errorf("%s is %q, wanted %q", what, got, want)
		}
	}
	for _, pod := range []string{"delete-pod", "evict", "revoke"} {
		if got := s.kubectl(cluster.Admin, "get", "pod", pod, "-n", "team-a", "--ignore-not-found", "-o", "jsonpath={.metadata.name}{.metadata.deletionTimestamp}"); got == pod {
			s.t.Errorf("pod %s lives", pod)
		}
	}
	if len(s.hooked) != 1 || !strings.Contains(s.hooked[0], `"rule":"e2e-webhook"`) {
		s.t.Errorf("the webhook got %q", s.hooked)
	}
}

// guards: what the API server would let us do, and we do not; and what it does not let us do for good reason.
func (s *acting) guards() {
	named := func(name string) act.Action {
		a := s.actions[slices.IndexFunc(s.actions, func(a act.Action) bool { return a.Name == name })]
		a.Live = true
		return a
	}
	wants := func(a act.Action, ev *audit.Event, text string) {
		s.t.Helper()
		if m := s.try(a, ev); !strings.Contains(m, text) {
			s.t.Errorf("%q wanted: %s", text, m)
		}
	}
	run := func(ns string, more ...string) *audit.Event {
		s.t.Helper()
		s.kubectl(cluster.Admin, append([]string{"run", "guarded", "--image=registry.example.test/x:1", "-n", ns}, more...)...)
		return s.event(cluster.Admin, "create", "pods", "guarded")
	}
	kill := named("delete-pod")
	kill.Namespaces = []string{"*"}
	for _, ns := range []string{"kube-system", "whodunit"} {
		ev := run(ns)
		wants(kill, ev, ": denied: ")
		if got := s.kubectl(cluster.Admin, "get", "pod", "guarded", "-n", ns, "-o", "jsonpath={.metadata.deletionTimestamp}"); got != "" {
			s.t.Errorf("the pod in %s is deleted", ns)
		}
	}
	// A namesake made since is another pod.
	old := run("team-a", "--labels=app=guarded")
	s.kubectl(cluster.Admin, "delete", "pod", "guarded", "-n", "team-a", "--now")
	wants(kill, old, "not found")
	again := run("team-a", "--labels=app=guarded")
	wants(kill, old, "it was replaced since")
	// Who may not delete a pod may not have us do it.
	s.c.Kubectl(s.t.Context(), cluster.Eve, "delete", "pod", "guarded", "-n", "team-a")
	wants(kill, s.event(cluster.Eve, "delete", "pods", "guarded"), "answered with 403")
	// A disruption budget is heeded, with one attempt.
	s.kubectl(cluster.Admin, "create", "poddisruptionbudget", "keep", "--selector=app=guarded", "--min-available=1", "-n", "team-a")
	s.kubectl(cluster.Admin, "wait", "--for=jsonpath={.status.observedGeneration}=1", "--timeout=60s", "poddisruptionbudget/keep", "-n", "team-a")
	wants(named("evict"), again, ": failed: Cannot evict pod")
	// A later change of a binding is not overwritten.
	s.kubectl(cluster.Admin, "create", "rolebinding", "later", "--clusterrole=view", "--user="+cluster.Bob, "-n", "team-a")
	s.kubectl(cluster.Admin, "patch", "rolebinding", "later", "-n", "team-a", `--patch={"subjects":[{"kind":"User","apiGroup":"rbac.authorization.k8s.io","name":"`+cluster.Mallory+`"}]}`)
	ev := s.event(cluster.Admin, "patch", "rolebindings", "later")
	s.kubectl(cluster.Admin, "label", "rolebinding", "later", "seen=yes", "-n", "team-a")
	wants(named("revert"), ev, ": failed: ")
	if got := s.kubectl(cluster.Admin, "get", "rolebinding", "later", "-n", "team-a", "-o", "jsonpath={.subjects[*].name}"); got != cluster.Mallory {
		s.t.Errorf("a changed binding was reverted: %s", got)
	}
	// Nor one whose role is not listed, which the API server refuses.
	s.kubectl(cluster.Admin, "create", "rolebinding", "strong", "--clusterrole=edit", "--user="+cluster.Bob, "-n", "team-a")
	s.kubectl(cluster.Admin, "patch", "rolebinding", "strong", "-n", "team-a", `--patch={"subjects":[{"kind":"User","apiGroup":"rbac.authorization.k8s.io","name":"`+cluster.Mallory+`"}]}`)
	wants(named("revert"), s.event(cluster.Admin, "patch", "rolebindings", "strong"), "forbidden")
	// Of three nodes one is cordoned; with two of them another one may not be.
	s.kubectl(cluster.Admin, "cordon", "node-1", "node-2", "node-3")
	s.kubectl(cluster.Admin, "uncordon", "node-1")
	wants(named("cordon"), s.event(cluster.Admin, "patch", "nodes", "node-1"), "only 0 of 3 nodes would be schedulable")
	s.kubectl(cluster.Admin, "uncordon", "node-2", "node-3")
}

// hold makes a pod that no kubelet minds and that stays when it is deleted, has somebody delete it, and gives the event.
func (s *acting) hold(name string) *audit.Event {
	s.t.Helper()
	s.apply("apiVersion: v1\nkind: Pod\nmetadata: {name: " + name + ", namespace: team-a, finalizers: [example.test/hold]}\nspec: {nodeSelector: {on: no-node}, containers: [{name: c, image: 'registry.example.test/x:1'}]}\n")
	s.kubectl(cluster.Bob, "delete", "pod", name, "-n", "team-a", "--wait=false")
	return s.event(cluster.Bob, "delete", "pods", name)
}

// deletes are the events of requests of ours that deleted a pod.
func (s *acting) deletes(name string) (out []audit.Event) {
	for _, ev := range s.logged() {
		if ev.User.Username == s.account && ev.Verb == "delete" && ev.ObjectRef.Name == name && ev.Stage == audit.StageResponseComplete {
			out = append(out, ev)
		}
	}
	return out
}

// ofOurs are the events of our account but for some.
func (s *acting) ofOurs(but func(*audit.Event) bool) (out []audit.Event) {
	for _, ev := range s.logged() {
		if ev.User.Username == s.account && !but(&ev) {
			out = append(out, ev)
		}
	}
	return out
}

// folder copies what is on disk in the middle of a request, as a crash would leave it.
type folder struct {
	from, to string
	next     http.RoundTripper
}

func (f *folder) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := f.next.RoundTrip(r)
	if r.Method == http.MethodDelete && err == nil {
		err = os.CopyFS(f.to, os.DirFS(f.from))
	}
	return resp, err
}

// crash: what was begun is not begun again.
func (s *acting) crash() {
	f := s.found("e2e-delete-pod", s.hold("crash"))
	dir, left := s.t.TempDir(), filepath.Join(s.t.TempDir(), "left")
	cfg, err := clientcmd.BuildConfigFromFlags("", s.c.Kubeconfig(s.account))
	if err != nil {
		s.t.Fatal(err)
	}
	cfg.Wrap(func(next http.RoundTripper) http.RoundTripper { return &folder{dir, left, next} })
	kill := s.actions[2]
	kill.Live = true
	o := s.options(dir, kill)
	o.Clusters = []act.Cluster{{Name: clusterName, Config: cfg}}
	o.Emit = func(context.Context, audit.Batch) error { return errors.New("crashed") }
	crashed, err := act.New(o)
	if err != nil {
		s.t.Fatal(err)
	}
	defer crashed.Close()
	if err := crashed.Notify(s.t.Context(), []alert.Finding{f}); err == nil {
		s.t.Fatal("no crash")
	}
	for range 2 {
		again, out := s.actor(left, kill)
		if err := again.Notify(s.t.Context(), []alert.Finding{f}); err != nil {
			s.t.Fatal(err)
		}
		if len(*out) != 1 || !strings.Contains((*out)[0].Message, ": interrupted: ") {
			s.t.Errorf("got %v", *out)
		}
		again.Close()
	}
	if n := len(s.deletes("crash")); n != 1 {
		s.t.Errorf("the pod was deleted %d times", n)
	}
}

// loop: our own request matches the rule that set it off, and no finding comes of it. Without Own there would be one.
func (s *acting) loop() {
	s.hold("loop")
	kill := s.actions[2]
	kill.Live, kill.Rules, kill.Cooldown = true, []string{"e2e-delete-pod", act.RulePrefix + "*"}, time.Nanosecond
	earlier := len(s.ofOurs(func(*audit.Event) bool { return false }))
	actor, out := s.actor(s.t.TempDir(), kill, s.actions[0], s.actions[5])
	first := s.detect(actor.Own, "loop")
	if len(first) != 1 || first[0].User != cluster.Bob {
		s.t.Fatalf("%d findings", len(first))
	}
	if err := actor.Notify(s.t.Context(), first); err != nil {
		s.t.Fatal(err)
	}
	if len(*out) != 1 || !strings.Contains((*out)[0].Message, ": done") {
		s.t.Fatalf("got %v", *out)
	}
	var ours []audit.Event
	eventually(s.t, soonLimit, "our request is in the log", func(context.Context) error {
		if ours = s.deletes("loop"); len(ours) != 1 {
			return fmt.Errorf("%d", len(ours))
		}
		return nil
	})
	if !actor.Own(&ours[0]) || !strings.HasPrefix(ours[0].UserAgent, "whodunit-act/") {
		s.t.Errorf("our request is not known: %s", ours[0].Raw)
	}
	// Nor are our questions and dry runs taken for somebody else's.
	if err := actor.Notify(s.t.Context(), []alert.Finding{s.found("e2e-label", s.events["label"][0]), s.found("e2e-cordon", s.events["cordon"][0])}); err != nil {
		s.t.Fatal(err)
	}
	eventually(s.t, soonLimit, "all of our requests are in the log", func(context.Context) error {
		if n := len(s.ofOurs(func(ev *audit.Event) bool { return !actor.Own(ev) })); n < 7 {
			return fmt.Errorf("%d are known", n)
		}
		return nil
	})
	if n := len(s.ofOurs(actor.Own)); n != earlier {
		s.t.Errorf("%d of our requests are not known", n-earlier)
	}
	if second := s.detect(actor.Own, "loop"); len(second) != 1 {
		s.t.Errorf("%d findings: our own request is found", len(second))
	}
	without := s.detect(nil, "loop")
	if len(without) != 2 || without[1].User != s.account {
		s.t.Fatalf("%d findings without Own: the rule does not match our request, so this shows nothing", len(without))
	}
	// And even then nothing is set off, nor by the findings about the actions.
	if err := actor.Notify(s.t.Context(), append(slices.Clone(*out), without...)); err != nil {
		s.t.Fatal(err)
	}
	if last := (*out)[len(*out)-1]; !strings.Contains(last.Message, "denied: the request was made by our own account") {
		s.t.Errorf("got %s", last.Message)
	}
	if n := len(s.deletes("loop")); n != 1 {
		s.t.Errorf("the pod was deleted %d times", n)
	}
	s.kubectl(cluster.Admin, "patch", "pod/loop", "pod/crash", "-n", "team-a", `--patch={"metadata":{"finalizers":null}}`)
}

// detect runs a rule about deleted pods over the log, and gives what it finds about one pod.
func (s *acting) detect(own func(*audit.Event) bool, name string) (found []alert.Finding) {
	s.t.Helper()
	format, err := native.New()
	if err != nil {
		s.t.Fatal(err)
	}
	set, problems := rule.Parse("e2e.yaml", []byte("id: e2e-delete-pod\ntitle: Pod deleted\nseverity: high\ncondition: verb == \"delete\" && objectRef.resource == \"pods\" && objectRef.name == \""+name+
		"\"\nmessage: deleted\n"), format).Set()
	if len(problems) > 0 {
		s.t.Fatal(problems)
	}
	var rules rule.Current
	rules.Store(set)
	r := &logReader{}
	for i, ev := range s.logged() {
		r.recs = append(r.recs, audit.Record{Seq: uint64(i) + 1, IngestedMicros: ev.Micros(), Identity: ev.Identity(), Event: ev})
	}
	d, err := detect.New(detect.Options{Reader: r, Rules: &rules, Own: own, Judge: detect.JudgeOptions{Lateness: -1}, Emit: func(_ context.Context, b audit.Batch) error {
		for _, ev := range b.Events {
			found = append(found, alert.Read(&audit.Record{Event: ev}))
		}
		return nil
	}})
	if err == nil {
		err = d.Run(s.t.Context())
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return found
}

// logReader gives its records once.
type logReader struct{ recs []audit.Record }

func (r *logReader) Next(context.Context) ([]audit.Record, error) {
	recs := r.recs
	r.recs = nil
	if recs == nil {
		return nil, io.EOF
	}
	return recs, nil
}
