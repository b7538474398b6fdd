package coverage

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	auditinternal "k8s.io/apiserver/pkg/apis/audit"
	"k8s.io/apiserver/pkg/audit/policy"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"whodunit/internal/audit"
	"whodunit/internal/match"
	"whodunit/internal/rule"
)

// Policy gives what an audit policy (audit.k8s.io Policy, YAML) lets arrive of the requests that the rules are about, as the API server
// itself decides: every verb on every resource that a rule names, and on the usual ones, in an ordinary namespace, in kube-system and
// cluster-wide, by a person, a service account and a control-plane component. Names and other users of the policy's rules are not tried.
func Policy(text []byte, rules []*rule.Rule) (*Arrivals, error) {
	p, err := policy.LoadPolicyFromBytes(text)
	if err != nil {
		return nil, fmt.Errorf("cannot read audit policy: %w", err)
	}
	decide := policy.NewPolicyRuleEvaluator(p)
	a := NewArrivals()
	targets, whole := resources(rules)
	a.full = !whole
	for _, res := range targets {
		for _, verb := range []string{"get", "list", "watch", "create", "update", "patch", "delete", "deletecollection", "proxy", "impersonate"} {
			for _, ns := range []string{"default", "kube-system", ""} {
				for _, u := range users() {
					config := decide.EvaluatePolicyRule(authorizer.AttributesRecord{
						User: u, Verb: verb, Namespace: ns, APIGroup: res.group, APIVersion: "v1", Resource: res.resource, Subresource: res.sub, ResourceRequest: true,
					})
					a.config(config.Level, config.OmitStages, Shape{Verb: verb, Group: res.group, Resource: res.resource, Subresource: res.sub})
				}
			}
		}
	}
	for _, path := range []string{"/", "/api", "/apis", "/version", "/healthz", "/metrics", "/openapi/v2", "/logs"} {
		for _, verb := range []string{"get", "post", "put", "delete"} {
			for _, u := range users() {
				config := decide.EvaluatePolicyRule(authorizer.AttributesRecord{User: u, Verb: verb, Path: path})
				a.config(config.Level, config.OmitStages, Shape{Verb: verb})
			}
		}
	}
	return a, nil
}

// config adds the shapes that the policy makes of one request.
func (a *Arrivals) config(level auditinternal.Level, omit []auditinternal.Stage, s Shape) {
	if level == auditinternal.LevelNone {
		return
	}
	s.Level = audit.Level(level)
	for _, stage := range []audit.Stage{audit.StageRequestReceived, audit.StageResponseStarted, audit.StageResponseComplete, audit.StagePanic} {
		if !slices.Contains(omit, auditinternal.Stage(stage)) {
			s.Stage = stage
			a.add(s, 1)
		}
	}
}

func users() []*user.DefaultInfo {
	return []*user.DefaultInfo{
		{Name: "jane", Groups: []string{user.AllAuthenticated}},
		{Name: "system:serviceaccount:default:app", Groups: []string{"system:serviceaccounts", "system:serviceaccounts:default", user.AllAuthenticated}},
		{Name: user.Anonymous, Groups: []string{user.AllUnauthenticated}},
		{Name: user.KubeControllerManager, Groups: []string{user.AllAuthenticated}},
	}
}

type target struct{ group, resource, sub string }

// groupOf is the API group of the resources that rules name without one.
var groupOf = map[string]string{
	"deployments": "apps", "daemonsets": "apps", "statefulsets": "apps", "replicasets": "apps", "controllerrevisions": "apps", "jobs": "batch", "cronjobs": "batch",
	"roles": "rbac.authorization.k8s.io", "rolebindings": "rbac.authorization.k8s.io", "clusterroles": "rbac.authorization.k8s.io", "clusterrolebindings": "rbac.authorization.k8s.io",
	"ingresses": "networking.k8s.io", "networkpolicies": "networking.k8s.io", "certificatesigningrequests": "certificates.k8s.io", "leases": "coordination.k8s.io",
	"mutatingwebhookconfigurations": "admissionregistration.k8s.io", "validatingwebhookconfigurations": "admissionregistration.k8s.io",
	"selfsubjectaccessreviews": "authorization.k8s.io", "selfsubjectrulesreviews": "authorization.k8s.io", "subjectaccessreviews": "authorization.k8s.io",
	"tokenreviews": "authentication.k8s.io", "selfsubjectreviews": "authentication.k8s.io", "customresourcedefinitions": "apiextensions.k8s.io", "apiservices": "apiregistration.k8s.io",
	"podsecuritypolicies": "policy", "poddisruptionbudgets": "policy",
}

// subresources of the resources that have some.
var subresources = map[string][]string{
	"pods": {"exec", "attach", "portforward", "log", "proxy", "ephemeralcontainers", "eviction", "binding", "status", "resize"}, "nodes": {"proxy", "status"}, "services": {"proxy", "status"},
	"serviceaccounts": {"token"}, "certificatesigningrequests": {"approval", "status"}, "namespaces": {"finalize", "status"},
	"deployments": {"scale", "status"}, "statefulsets": {"scale", "status"}, "replicasets": {"scale", "status"}, "daemonsets": {"status"}, "jobs": {"status"}, "cronjobs": {"status"},
}

// resources are those that rules name, and the usual ones, in order. whole is false where these are not all.
func resources(rules []*rule.Rule) (out []target, whole bool) {
	names, groups, subs := usual(), map[string]bool{}, map[string]bool{}
	for _, r := range rules {
		match.Walk(r.Whole(), func(x match.Expr) {
			p, ok := x.(*match.Pred)
			if !ok || p.Op != match.Equal {
				return
			}
			for _, v := range p.Values {
				switch p.Path {
				case "objectRef.resource":
					names[strings.ToLower(v)] = true
				case "objectRef.subresource":
					subs[strings.ToLower(v)] = true
				case "objectRef.apiGroup":
					groups[v] = true
				}
			}
		})
	}
	for _, known := range subresources {
		for _, s := range known {
			delete(subs, s) // belongs to the resources above
		}
	}
	core := usual()
	out = []target{{"events.k8s.io", "events", ""}} // the same objects, in a group that policies forget
	for _, n := range slices.Sorted(maps.Keys(names)) {
		group := groupOf[n]
		for _, s := range slices.Concat([]string{""}, subresources[n], slices.Sorted(maps.Keys(subs))) {
			out = append(out, target{group, n, s})
		}
		if !core[n] {
			for _, g := range slices.Sorted(maps.Keys(groups)) {
				out = append(out, target{g, n, ""})
			}
		}
		if len(out) > maxTargets {
			return out[:maxTargets], false
		}
	}
	return out, true
}

// maxTargets bounds the work for hostile rules.
const maxTargets = 20_000

func usual() map[string]bool {
	names := map[string]bool{}
	for n := range groupOf {
		names[n] = true
	}
	for _, n := range []string{"pods", "secrets", "configmaps", "services", "serviceaccounts", "nodes", "namespaces", "events", "persistentvolumes", "persistentvolumeclaims", "endpoints"} {
		names[n] = true
	}
	return names
}
