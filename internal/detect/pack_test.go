package detect

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"whodunit/internal/audit"
	"whodunit/internal/match"
)

type doc struct {
	Rule, Message, AuditID, Stage, Verb string
	User                                struct{ Username string }
	ResponseStatus                      struct{ Code int }
}

func docs(t testing.TB, evs []audit.Event) []doc {
	out := make([]doc, len(evs))
	for i := range evs {
		if err := json.Unmarshal(evs[i].Raw, &out[i]); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// TestPackOnRecordedCluster holds the shipped rules to a recorded cluster: every finding is of somebody's doing, and every
// command that a rule is about has its finding.
func TestPackOnRecordedCluster(t *testing.T) {
	evs, err := Backtest(pack(t), records(t, "apiserver-1.36.log.zst", 0))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]int{}
	found := map[string][]string{} // auditID to rules
	for _, d := range docs(t, evs) {
		got[d.Rule]++
		found[d.AuditID] = append(found[d.AuditID], d.Rule)
		if strings.HasPrefix(d.User.Username, "system:") && d.User.Username != "system:anonymous" && d.User.Username != "system:serviceaccount:ci:deployer" {
			t.Errorf("%s is set off by the cluster itself: %s", d.Rule, d.Message)
		}
	}
	want := map[string]int{
		// critical
		"binding-anonymous": 6, "cluster-admin-binding": 13,
		// high
		"admission-webhook-url": 6, "anonymous-allowed": 6, "builtin-role-changed": 6, "dangerous-capabilities": 6, "default-account-admin": 6,
		"exec-host-breakout": 6, "exec-sensitive-files": 12, "impersonation-privileged": 12, "privileged-pod": 12, "role-escalation-verbs": 1,
		"secrets-list-all": 6, "sensitive-hostpath": 12, "suspicious-image": 6,
		// medium
		"certificate-approval": 6, "discovery-sweep": 1, "ephemeral-container": 6, "events-deleted": 4, "host-pid": 6, "namespaces-deleted": 1,
		"node-proxy": 6, "pod-exec": 42, "pod-in-kube-system": 6, "role-nodes-proxy": 1, "role-pod-exec": 1, "secrets-list-system": 12,
		"token-request-system": 6, "unauthenticated-burst": 1, "wildcard-role": 6,
		// low
		"admission-webhook": 12, "anonymous-scan": 1, "binding-changed": 90, "certificate-request": 12, "create-refused": 24, "daemonset-created": 6,
		"deletion-of-system-parts": 12, "forbidden-repeatedly": 4, "host-network": 12, "hostpath": 12, "ingress-without-tls": 25, "kubectl-cp": 6,
		"mass-deletion-slow": 3, "network-capabilities": 6, "port-forward": 6, "rbac-then-workload": 3, "scanner-agent": 1, "secret-read": 54,
		"secrets-denied-repeatedly": 3, "service-exposed": 18, "token-request": 30, "unauthenticated-repeatedly": 1,
		// info
		"binding-service-account": 13, "configmap-password": 66, "deletion": 234, "discovery-several": 3, "job-changed": 24, "permission-check": 60,
		"request-refused": 246, "role-write-verbs": 10, "secret-changed": 36, "service-account-created": 7, "workload-patched": 65,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
	checked := 0
	for _, c := range commands(t) {
		var rules []string
		for _, id := range c.AuditIDs {
			rules = append(rules, found[id]...)
		}
		slices.Sort(rules)
		rules = slices.DeleteFunc(slices.Compact(rules), func(id string) bool { return slices.Contains(recorded, id) })
		if !slices.Equal(rules, expected(c)) {
			t.Errorf("%s %q: rules %v, want %v", c.User, c.Command, rules, expected(c))
		}
		if rules != nil {
			checked++
		}
	}
	if checked < 80 {
		t.Errorf("only %d commands with findings", checked)
	}
}

// recorded are rules that say what happened, most of them of severity info: by many commands, and by requests that kubectl makes on the way. And
// correlations, whose finding belongs to the command that happens to be the last.
var recorded = []string{"certificate-request", "configmap-password", "create-refused", "deletion", "deletion-of-system-parts", "ingress-without-tls", "permission-check", "request-refused",
	"secret-changed", "service-account-created",
	"anonymous-scan", "discovery-several", "discovery-sweep", "forbidden-repeatedly", "mass-deletion-slow", "namespaces-deleted", "rbac-then-workload", "scanner-agent",
	"secrets-denied-repeatedly", "unauthenticated-burst", "unauthenticated-repeatedly"}

// expected are the rules that a command of the recording must set off, sorted; those of recorded left out.
func expected(c command) []string {
	words := strings.Fields(c.Command)
	has := func(s string) bool { return strings.Contains(c.Command, s) }
	switch {
	case has("--as=admin") && has("secret"):
		return []string{"impersonation-privileged", "secret-read", "secrets-list-system"}
	case has("--as=system:node:node-1"): // which is refused, as a node
		return []string{"impersonation-privileged"}
	case words[1] == "cp": // fails: the recording's kubelet has no tar
		return []string{"kubectl-cp", "pod-exec"}
	case words[1] == "port-forward": // ends by a signal
		return []string{"port-forward"}
	case has("/nodes/node-1/proxy/pods") && c.User == "carol@example.test": // allowed; the kubelet answers 400
		return []string{"node-proxy"}
	case c.RC != 0:
		return nil
	case words[1] == "exec" && (has("serviceaccount/token") || has("/etc/shadow")):
		return []string{"exec-sensitive-files", "pod-exec"}
	case words[1] == "exec" && has("chroot"):
		return []string{"exec-host-breakout", "pod-exec"}
	case words[1] == "exec":
		return []string{"pod-exec"}
	case words[1] == "debug":
		return []string{"ephemeral-container"}
	case words[1] == "certificate" && words[2] == "approve":
		return []string{"certificate-approval"}
	case has("rollout undo deployment"), has("set env deployment"):
		return []string{"workload-patched"}
	case words[1] == "get" && strings.HasPrefix(words[2], "secret") && slices.Contains(words, "-A"):
		return []string{"secret-read", "secrets-list-all"}
	case words[1] == "get" && strings.HasPrefix(words[2], "secret") && has("-n kube-system"):
		return []string{"secret-read", "secrets-list-system"}
	case has("create service nodeport"), has("create service loadbalancer"):
		return []string{"service-exposed"}
	case words[1] == "get" && strings.HasPrefix(words[2], "secret"):
		return []string{"secret-read"}
	}
	return nil
}

// TestPrefilterNeverRejects runs every condition without its prefilter on every recorded event.
func TestPrefilterNeverRejects(t *testing.T) {
	set := pack(t)
	for _, name := range []string{"apiserver-1.36.log.zst", "edge-1.36.log.zst"} {
		recs := records(t, name, 0)
		for _, r := range set.Rules() {
			if r.Expr == nil || r.Condition == nil {
				continue
			}
			for i := range recs {
				ev := &recs[i].Event
				if match.Eval(r.Expr, ev) {
					continue
				}
				if ok, _ := r.Condition.Match(ev); ok {
					t.Fatalf("%s: prefilter %s rejects %s", r.ID, r.Expr, ev.Raw[:min(len(ev.Raw), 2000)])
				}
			}
		}
	}
}

func BenchmarkPack(b *testing.B) {
	set := pack(b)
	recs := records(b, "apiserver-1.36.log.zst", 0)
	bytes := 0
	for i := range recs {
		bytes += len(recs[i].Event.Raw)
	}
	b.SetBytes(int64(bytes))
	for b.Loop() {
		if _, err := Backtest(set, recs); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(len(recs)*b.N)/b.Elapsed().Seconds(), "events/s")
	b.ReportMetric(float64(len(set.Rules())), "rules")
}

func BenchmarkParseAndPack(b *testing.B) {
	set := pack(b)
	recs := records(b, "apiserver-1.36.log.zst", 0)
	b.ResetTimer()
	for b.Loop() {
		for i := range recs {
			ev, err := audit.Parse("test", recs[i].Event.Raw)
			if err != nil {
				b.Fatal(err)
			}
			recs[i].Event = ev
		}
		if _, err := Backtest(set, recs); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(len(recs)*b.N)/b.Elapsed().Seconds(), "events/s")
}
