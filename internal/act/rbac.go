package act

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
)

// rbacName is the name of the roles and bindings that RBAC makes.
const rbacName = "whodunit-act"

// grant is one rule of a role.
type grant struct {
	group            string
	resources, verbs []string
	names            []string // none: all
	why              string
}

const rbacGroup = "rbac.authorization.k8s.io"

// clusterResources are resources without a namespace that label and annotate may be for. (A Role reaches its own namespace's object.)
var clusterResources = []string{"nodes", "persistentvolumes", "clusterroles." + rbacGroup, "clusterrolebindings." + rbacGroup}

// grants are what an action needs: in each of its namespaces, for the whole cluster, and in the namespace default.
func grants(a *action) (spaced, cluster, events []grant) {
	pods := func(why string, verbs ...string) grant { return grant{"", []string{"pods"}, verbs, nil, why} }
	switch a.Kind {
	case Label, Annotate:
		for _, r := range a.Resources {
			name, group, _ := strings.Cut(r, ".")
			g := grant{group, []string{name}, []string{"get", "patch"}, nil, "to look at the object and change its metadata"}
			if slices.Contains(clusterResources, r) {
				cluster = append(cluster, g)
			} else {
				spaced = append(spaced, g)
			}
		}
	case DeletePod:
		spaced = []grant{pods("to look at the pod and delete it", "get", "delete")}
	case Evict:
		spaced = []grant{pods("to look at the pod", "get"), {"", []string{"pods/eviction"}, []string{"create"}, nil, "to evict it"}}
	case ScaleToZero:
		spaced = []grant{pods("to see what controls the pod", "get"),
			{"apps", []string{"deployments", "replicasets", "statefulsets"}, []string{"get"}, nil, "to see what controls that"},
			{"apps", []string{"deployments/scale", "replicasets/scale", "statefulsets/scale"}, []string{"patch"}, nil, "to scale it"}}
	case Cordon:
		spaced = []grant{pods("to see which node the pod is on", "get")}
		cluster = []grant{{"", []string{"nodes"}, []string{"get", "list", "patch"}, nil, "to see that enough nodes are left, and cordon one"}}
	case DeleteBinding:
		spaced, cluster = bindings("to look at the binding and delete it", "get", "delete")
	case RevertBinding:
		spaced, cluster = bindings("to look at the binding and delete a new one", "get", "delete")
		if len(a.BindRoles) > 0 {
			s, c := bindings("to put subjects back", "patch")
			bind := bindRoles(a.BindRoles)
			spaced, cluster = slices.Concat(spaced, s, bind), slices.Concat(cluster, c, bind)
		}
	case RevokeToken:
		spaced = []grant{pods("to delete the pod that the token is bound to", "delete"),
			{"", []string{"secrets"}, []string{"delete"}, nil, "to delete the secret that the token is in; not to read it"}}
	case Quarantine:
		spaced = []grant{pods("to look at the pod and label it", "get", "patch"),
			{"networking.k8s.io", []string{"networkpolicies"}, []string{"create", "list"}, nil, "to make the policy, and see which others select the pod"}}
	case Event:
		g := grant{"", []string{"events"}, []string{"create"}, nil, "to make the Event"}
		spaced, events = []grant{g}, []grant{g}
	case Webhook:
	}
	return spaced, cluster, events
}

func bindings(why string, verbs ...string) (spaced, cluster []grant) {
	return []grant{{rbacGroup, []string{"rolebindings"}, verbs, nil, why}}, []grant{{rbacGroup, []string{"clusterrolebindings"}, verbs, nil, why}}
}

// bindRoles lets us write bindings of some roles: without it the API server takes no change of a binding from who has not all that
// its role allows.
func bindRoles(roles []string) []grant {
	const why = "the API server wants this of who changes the binding of a role"
	var out []grant
	for _, kind := range []string{"ClusterRole", "Role"} {
		var names []string
		for _, r := range roles {
			if k, name, _ := strings.Cut(r, "/"); k == kind {
				names = append(names, name)
			}
		}
		if len(names) > 0 {
			out = append(out, grant{rbacGroup, []string{strings.ToLower(kind) + "s"}, []string{"bind"}, names, why})
		}
	}
	return out
}

// scopes collects grants by namespace, "" for the cluster.
type scopes map[string][]scoped

type scoped struct {
	grant
	actions []string
}

func (s scopes) index(space string, g grant) int {
	return slices.IndexFunc(s[space], func(o scoped) bool { return fmt.Sprint(o.grant) == fmt.Sprint(g) })
}

func (s scopes) add(space string, action string, list []grant) {
	for _, g := range list {
		i := s.index(space, g)
		if i < 0 {
			s[space] = append(s[space], scoped{grant: g})
			i = len(s[space]) - 1
		}
		if o := &s[space][i]; !slices.Contains(o.actions, action) {
			o.actions = append(o.actions, action)
		}
	}
}

// RBAC is what the account of a namespace must be allowed for the actions, and no more, as manifests: a Role for each namespace that is
// named, a ClusterRole only where a pattern or something without a namespace needs it.
func RBAC(actions []Action, namespace, account string) ([]byte, error) {
	if !dnsLabel.MatchString(namespace) || !isName(account) {
		return nil, fmt.Errorf("cannot write roles for account %q of namespace %q: these are no names", account, namespace)
	}
	all := scopes{}
	for _, configured := range actions {
		a, err := check(configured)
		if err != nil {
			return nil, fmt.Errorf("cannot write roles: action %q: %w", configured.Name, err)
		}
		if a.post != nil {
			a.post.Close()
		}
		spaced, cluster, events := grants(a)
		if slices.ContainsFunc(a.Namespaces, func(ns string) bool { return strings.Contains(ns, "*") }) {
			all.add("", a.Name, spaced)
		} else {
			for _, ns := range a.Namespaces {
				if ns != namespace && !matches(a.Deny, ns) {
					all.add(ns, a.Name, spaced)
				}
			}
		}
		if a.ClusterScoped {
			all.add("", a.Name, cluster)
			all.add(defaultNamespace, a.Name, events)
		}
	}
	for ns := range all {
		if ns != "" { // what is allowed everywhere is allowed there
			all[ns] = slices.DeleteFunc(all[ns], func(g scoped) bool { return all.index("", g.grant) >= 0 })
		}
	}
	return all.print(namespace, account), nil
}

func (s scopes) print(namespace, account string) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# The account that acts, and what it may do: what the configured actions need, and no more.\napiVersion: v1\nkind: ServiceAccount\nmetadata: {name: %q, namespace: %q}\n", account, namespace)
	var spaces []string
	for ns := range s {
		spaces = append(spaces, ns)
	}
	slices.Sort(spaces)
	for _, ns := range spaces {
		if len(s[ns]) == 0 {
			continue
		}
		kind, meta := "Role", fmt.Sprintf("{name: %s, namespace: %q}", rbacName, ns)
		if ns == "" {
			kind, meta = "ClusterRole", fmt.Sprintf("{name: %s}", rbacName)
			b.WriteString("---\n# For the whole cluster: namespaces given as a pattern, and what has no namespace.\n")
		} else {
			b.WriteString("---\n")
		}
		fmt.Fprintf(&b, "apiVersion: %s/v1\nkind: %s\nmetadata: %s\nrules:\n", rbacGroup, kind, meta)
		for _, g := range s[ns] {
			fmt.Fprintf(&b, "# %s: %s\n- {apiGroups: [%q], resources: %s, verbs: %s", strings.Join(g.actions, ", "), g.why, g.group, list(g.resources), list(g.verbs))
			if len(g.names) > 0 {
				fmt.Fprintf(&b, ", resourceNames: %s", list(g.names))
			}
			b.WriteString("}\n")
		}
		fmt.Fprintf(&b, "---\napiVersion: %s/v1\nkind: %sBinding\nmetadata: %s\nroleRef: {apiGroup: %[1]s, kind: %[2]s, name: %[4]s}\nsubjects: [{kind: ServiceAccount, name: %[5]q, namespace: %[6]q}]\n",
			rbacGroup, kind, meta, rbacName, account, namespace)
	}
	return b.Bytes()
}

func list(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = fmt.Sprintf("%q", w)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}
