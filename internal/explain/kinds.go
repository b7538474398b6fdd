package explain

import (
	"fmt"
	"strings"
)

// kind is one row of `kubectl api-resources`.
type kind struct {
	plural, singular string
	short            string   // short names, separated by commas
	groups           []string // the API groups that serve it; "" is the core group
	cluster          bool     // not namespaced
}

// kinds is what Kubernetes 1.36 serves, those of the older groups that audit logs may still hold among them.
func kinds() []kind {
	core, apps, rbac := []string{""}, []string{"apps", "extensions"}, []string{"rbac.authorization.k8s.io"}
	admission, authz := []string{"admissionregistration.k8s.io"}, []string{"authorization.k8s.io"}
	net, storage, res := []string{"networking.k8s.io", "extensions"}, []string{"storage.k8s.io"}, []string{"resource.k8s.io"}
	flow, certs, sched := []string{"flowcontrol.apiserver.k8s.io"}, []string{"certificates.k8s.io"}, []string{"scheduling.k8s.io"}
	return []kind{
		{"bindings", "binding", "", core, false},
		{"componentstatuses", "componentstatus", "cs", core, true},
		{"configmaps", "configmap", "cm", core, false},
		{"endpoints", "endpoints", "ep", core, false},
		{"events", "event", "ev", []string{"", "events.k8s.io"}, false},
		{"limitranges", "limitrange", "limits", core, false},
		{"namespaces", "namespace", "ns", core, true},
		{"nodes", "node", "no", []string{"", "metrics.k8s.io"}, true},
		{"persistentvolumeclaims", "persistentvolumeclaim", "pvc", core, false},
		{"persistentvolumes", "persistentvolume", "pv", core, true},
		{"pods", "pod", "po", []string{"", "metrics.k8s.io"}, false},
		{"podtemplates", "podtemplate", "", core, false},
		{"replicationcontrollers", "replicationcontroller", "rc", core, false},
		{"resourcequotas", "resourcequota", "quota", core, false},
		{"secrets", "secret", "", core, false},
		{"serviceaccounts", "serviceaccount", "sa", core, false},
		{"services", "service", "svc", core, false},
		{"mutatingadmissionpolicies", "mutatingadmissionpolicy", "", admission, true},
		{"mutatingadmissionpolicybindings", "mutatingadmissionpolicybinding", "", admission, true},
		{"mutatingwebhookconfigurations", "mutatingwebhookconfiguration", "", admission, true},
		{"validatingadmissionpolicies", "validatingadmissionpolicy", "", admission, true},
		{"validatingadmissionpolicybindings", "validatingadmissionpolicybinding", "", admission, true},
		{"validatingwebhookconfigurations", "validatingwebhookconfiguration", "", admission, true},
		{"customresourcedefinitions", "customresourcedefinition", "crd,crds", []string{"apiextensions.k8s.io"}, true},
		{"apiservices", "apiservice", "", []string{"apiregistration.k8s.io"}, true},
		{"controllerrevisions", "controllerrevision", "", apps, false},
		{"daemonsets", "daemonset", "ds", apps, false},
		{"deployments", "deployment", "deploy", apps, false},
		{"replicasets", "replicaset", "rs", apps, false},
		{"statefulsets", "statefulset", "sts", apps, false},
		{"selfsubjectreviews", "selfsubjectreview", "", []string{"authentication.k8s.io"}, true},
		{"tokenreviews", "tokenreview", "", []string{"authentication.k8s.io"}, true},
		{"localsubjectaccessreviews", "localsubjectaccessreview", "", authz, false},
		{"selfsubjectaccessreviews", "selfsubjectaccessreview", "", authz, true},
		{"selfsubjectrulesreviews", "selfsubjectrulesreview", "", authz, true},
		{"subjectaccessreviews", "subjectaccessreview", "", authz, true},
		{"horizontalpodautoscalers", "horizontalpodautoscaler", "hpa", []string{"autoscaling"}, false},
		{"cronjobs", "cronjob", "cj", []string{"batch"}, false},
		{"jobs", "job", "", []string{"batch"}, false},
		{"certificatesigningrequests", "certificatesigningrequest", "csr", certs, true},
		{"clustertrustbundles", "clustertrustbundle", "", certs, true},
		{"podcertificaterequests", "podcertificaterequest", "", certs, false},
		{"leases", "lease", "", []string{"coordination.k8s.io"}, false},
		{"leasecandidates", "leasecandidate", "", []string{"coordination.k8s.io"}, false},
		{"endpointslices", "endpointslice", "", []string{"discovery.k8s.io"}, false},
		{"flowschemas", "flowschema", "", flow, true},
		{"prioritylevelconfigurations", "prioritylevelconfiguration", "", flow, true},
		{"ingressclasses", "ingressclass", "", net, true},
		{"ingresses", "ingress", "ing", net, false},
		{"ipaddresses", "ipaddress", "ip", net, true},
		{"networkpolicies", "networkpolicy", "netpol", net, false},
		{"servicecidrs", "servicecidr", "", net, true},
		{"runtimeclasses", "runtimeclass", "", []string{"node.k8s.io"}, true},
		{"poddisruptionbudgets", "poddisruptionbudget", "pdb", []string{"policy"}, false},
		{"podsecuritypolicies", "podsecuritypolicy", "psp", []string{"policy", "extensions"}, true},
		{"clusterrolebindings", "clusterrolebinding", "", rbac, true},
		{"clusterroles", "clusterrole", "", rbac, true},
		{"rolebindings", "rolebinding", "", rbac, false},
		{"roles", "role", "", rbac, false},
		{"deviceclasses", "deviceclass", "", res, true},
		{"devicetaintrules", "devicetaintrule", "", res, true},
		{"resourceclaims", "resourceclaim", "", res, false},
		{"resourceclaimtemplates", "resourceclaimtemplate", "", res, false},
		{"resourceslices", "resourceslice", "", res, true},
		{"priorityclasses", "priorityclass", "pc", sched, true},
		{"podgroups", "podgroup", "", sched, false},
		{"workloads", "workload", "", sched, false},
		{"csidrivers", "csidriver", "", storage, true},
		{"csinodes", "csinode", "", storage, true},
		{"csistoragecapacities", "csistoragecapacity", "", storage, false},
		{"storageclasses", "storageclass", "sc", storage, true},
		{"volumeattachments", "volumeattachment", "", storage, true},
		{"volumeattributesclasses", "volumeattributesclass", "vac", storage, true},
		{"storageversions", "storageversion", "", []string{"internal.apiserver.k8s.io"}, true},
		{"storageversionmigrations", "storageversionmigration", "", []string{"storagemigration.k8s.io"}, true},
	}
}

// Object is the object that a question is about.
type Object struct {
	Resources []string // plural names, any of which it may be: of an unknown kind, the guesses
	Groups    []string // API groups, any of which it may be in; empty: any group
	Namespace string   // "": any, or none
	Name      string
	Cluster   bool // the kind is known to have no namespace
}

// ParseObject reads `KIND/NAME` or `KIND NAME` as kubectl does: plural, singular and short names of the built-in kinds, for
// others kind.group or the kind alone, whose plural is then guessed.
func ParseObject(namespace string, args ...string) (Object, error) {
	var word, name string
	switch len(args) {
	case 1:
		var ok bool
		if word, name, ok = strings.Cut(args[0], "/"); !ok {
			return Object{}, fmt.Errorf("cannot read object %q: expected KIND/NAME, such as deploy/checkout, or KIND NAME", args[0])
		}
	case 2:
		word, name = args[0], args[1]
	default:
		return Object{}, fmt.Errorf("cannot read object: expected KIND/NAME or KIND NAME, got %d words", len(args))
	}
	if word == "" || name == "" || strings.Contains(name, "/") {
		return Object{}, fmt.Errorf("cannot read object %q: expected KIND/NAME, such as deploy/checkout", strings.Join(args, " "))
	}
	o := Object{Namespace: namespace, Name: name}
	word, group, qualified := strings.Cut(strings.ToLower(word), ".")
	if version, rest, ok := strings.Cut(group, "."); ok && isVersion(version) { // deployments.v1.apps
		group = rest
	}
	for _, k := range kinds() {
		if k.named(word) && (!qualified || contains(k.groups, group)) {
			o.Resources, o.Groups, o.Cluster = []string{k.plural}, k.groups, k.cluster
			break
		}
	}
	if qualified {
		o.Groups = []string{group}
	}
	if o.Resources == nil {
		o.Resources = plurals(word)
	}
	if o.Cluster {
		o.Namespace = ""
	}
	return o, nil
}

func (k kind) named(word string) bool {
	return word == k.plural || word == k.singular || k.short != "" && contains(strings.Split(k.short, ","), word)
}

func isVersion(s string) bool { return len(s) > 1 && s[0] == 'v' && s[1]-'0' <= 9 }

func contains(list []string, s string) bool {
	for _, v := range list {
		if v == s {
			return true
		}
	}
	return false
}

// plurals is the resource names that a kind may have, itself among them: by Kubernetes' own guess (meta.UnsafeGuessKindToResource).
func plurals(word string) []string {
	switch {
	case strings.HasSuffix(word, "s"):
		return []string{word, word + "es"}
	case strings.HasSuffix(word, "y"):
		return []string{word, word[:len(word)-1] + "ies", word + "s"}
	}
	return []string{word, word + "s", word + "es"}
}

// String is the object as a question names it.
func (o Object) String() string {
	s := o.Resources[0]
	if len(o.Groups) > 0 && o.Groups[0] != "" {
		s += "." + o.Groups[0]
	}
	s += "/" + o.Name
	if o.Namespace != "" {
		s += " in " + o.Namespace
	}
	return s
}
