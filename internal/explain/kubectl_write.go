package explain

import (
	"strings"

	"whodunit/internal/audit"
)

// applied is the commands that say themselves by their field manager what they are, whatever the verb.
func (r *request) applied() line {
	switch r.manager {
	case "kubectl-client-side-apply":
		if r.q.Get("fieldValidation") == "" && r.dryRun() { // apply asks for validation, diff does not
			return words("diff", "-f", "-")
		}
		return words("apply", "-f", "-")
	case "kubectl":
		if r.Verb == "patch" {
			return r.serverSide()
		}
	case "kubectl-last-applied":
		return words("apply", "set-last-applied", "-f", "-")
	}
	if strings.HasPrefix(r.manager, "kubectl-applyset") { // the request is about the set's own object
		return words("apply", "--prune", "-f", "-").flag("--applyset", r.kindName(false)+"/"+r.ref.Name)
	}
	if r.unnamed && r.ref.APIGroup == "rbac.authorization.k8s.io" && r.Verb != "patch" {
		return words("auth", "reconcile", "-f", "-")
	}
	return line{}
}

func (r *request) serverSide() line {
	l := words("apply", "--server-side", "-f", "-")
	if r.q.Get("force") == "true" {
		l = l.with("--force-conflicts")
	}
	return l
}

func (r *request) create() line {
	if l := r.applied(); l.words != nil {
		return l
	}
	name := r.ref.Name
	if name == "" {
		name = r.text("metadata", "name")
	}
	switch r.manager {
	case "kubectl-run":
		return words("run").on(name).flag("--image", text(first(member(r.RequestObject, "spec", "containers")), "image"))
	case "kubectl-replace":
		return words("replace", "--force", "-f", "-")
	case "kubectl-expose": // the service has the name of what it exposes unless told otherwise
		return words("expose", "deployment").on(name).flag("--port", text(first(member(r.RequestObject, "spec", "ports")), "port"))
	case "kubectl-autoscale":
		kind, target := strings.ToLower(r.text("spec", "scaleTargetRef", "kind")), r.text("spec", "scaleTargetRef", "name")
		if kind == "" || target == "" {
			kind, target = "deployment", name
		}
		return words("autoscale").on(kind, target).flag("--min", r.text("spec", "minReplicas")).flag("--max", r.text("spec", "maxReplicas"))
	}
	if r.unnamed && r.ref.Resource == "pods" && r.ref.APIGroup == "" {
		return r.debugPod(name)
	}
	if _, ok := r.kind(); ok && name != "" {
		if l := r.generated(name); l.words != nil {
			return l
		}
	}
	return words("create", "-f", "-")
}

// debugPod is what kubectl makes pods for without a field manager: for a node, or as a copy.
func (r *request) debugPod(name string) line {
	if node, ok := strings.CutPrefix(name, "node-debugger-"); ok {
		if i := strings.LastIndexByte(node, '-'); i > 0 { // five random characters
			node = node[:i]
		}
		return r.debug(first(member(r.RequestObject, "spec", "containers"))).on("node/" + node)
	}
	return words("debug").on("<pod>").flag("--copy-to", name)
}

// generated is `kubectl create KIND NAME`, for the kinds that it has.
func (r *request) generated(name string) line {
	kind := r.kindName(false)
	switch r.ref.Resource {
	case "namespaces", "serviceaccounts", "configmaps", "roles", "clusterroles", "ingresses", "poddisruptionbudgets", "priorityclasses":
		return words("create", kind).on(name)
	case "resourcequotas":
		return words("create", "quota").on(name)
	case "deployments":
		return words("create", kind).on(name).flag("--image", r.image("spec", "template"))
	case "jobs":
		return words("create", kind).on(name).flag("--image", r.image("spec", "template"))
	case "cronjobs":
		return words("create", kind).on(name).flag("--image", r.image("spec", "jobTemplate", "spec", "template")).flag("--schedule", r.text("spec", "schedule"))
	case "secrets":
		return words("create", kind, secretType(r.text("type"))).on(name)
	case "services":
		return words("create", kind, serviceType(r.text("spec", "type"))).on(name)
	case "rolebindings", "clusterrolebindings":
		return r.binding(words("create", kind).on(name))
	}
	return line{}
}

func secretType(t string) string {
	switch t {
	case "kubernetes.io/dockerconfigjson", "kubernetes.io/dockercfg":
		return "docker-registry"
	case "kubernetes.io/tls":
		return "tls"
	}
	return "generic"
}

func serviceType(t string) string {
	switch t {
	case "NodePort", "LoadBalancer", "ExternalName":
		return strings.ToLower(t)
	}
	return "clusterip"
}

// binding adds whom a binding gives which role.
func (r *request) binding(l line) line {
	flag := "--role"
	if r.text("roleRef", "kind") == "ClusterRole" {
		flag = "--clusterrole"
	}
	l = l.flag(flag, r.text("roleRef", "name"))
	for el := range audit.Elements(member(r.RequestObject, "subjects")) {
		switch name := text(el, "name"); text(el, "kind") {
		case "User":
			l = l.flag("--user", name)
		case "Group":
			l = l.flag("--group", name)
		case "ServiceAccount":
			l = l.flag("--serviceaccount", text(el, "namespace")+":"+name)
		}
	}
	return l
}

// image is that of the first container of a pod's template in the request's body.
func (r *request) image(path ...string) string {
	return text(first(member(member(r.RequestObject, path...), "spec", "containers")), "image")
}

func first(array []byte) []byte {
	for el := range audit.Elements(array) {
		return el
	}
	return nil
}

func (r *request) update() line {
	if l := r.applied(); l.words != nil {
		return l
	}
	return words("replace", "-f", "-")
}

func (r *request) patch() line {
	if l := r.applied(); l.words != nil {
		return l
	}
	object := r.object()
	switch r.manager {
	case "kubectl-edit":
		return words("edit").on(object...)
	case "kubectl-label":
		return words("label").on(object...).on(changes(member(r.RequestObject, "metadata", "labels"))...)
	case "kubectl-annotate":
		return words("annotate").on(object...).on(changes(member(r.RequestObject, "metadata", "annotations"))...)
	case "kubectl-taint":
		return words("taint").on("nodes", r.ref.Name).on(r.taints()...)
	case "kubectl-rollout":
		return words("rollout", r.rollout()).on(object...)
	case "kubectl-set":
		return r.set(object)
	}
	switch unschedulable := string(member(r.RequestObject, "spec", "unschedulable")); {
	case r.manager != "":
	case r.ref.Resource == "nodes" && unschedulable == "true":
		return words("cordon").on(r.ref.Name)
	case r.ref.Resource == "nodes" && unschedulable != "":
		return words("uncordon").on(r.ref.Name)
	case r.unnamed && r.rollsOut() && r.ref.Subresource == "":
		return words("rollout", "undo").on(object...)
	}
	if r.q.Has("force") { // none but server-side apply may say so
		return r.serverSide()
	}
	l := words("patch").on(object...)
	if body := r.RequestObject; len(body) > 0 && len(body) <= commandWord/2 && r.ref.Resource != "secrets" {
		if body[0] == '[' {
			l = l.with("--type=json")
		}
		l = l.flag("-p", string(body))
	}
	return l
}

func (r *request) rollout() string {
	switch string(member(r.RequestObject, "spec", "paused")) {
	case "true":
		return "pause"
	case "null", "false":
		return "resume"
	}
	return "restart"
}

// changes is a merge patch of labels or annotations as kubectl takes it: key=value, key- for what is taken away.
func changes(v []byte) (out []string) {
	for k, value := range audit.Members(v) {
		if t, ok := audit.Text(value); ok {
			out = append(out, k+"="+t)
		} else {
			out = append(out, k+"-")
		}
		if len(out) == 8 {
			break
		}
	}
	return out
}

// taints is the taints that a node shall have, which the one that was asked for is among.
func (r *request) taints() (out []string) {
	for el := range audit.Elements(member(r.RequestObject, "spec", "taints")) {
		t := text(el, "key")
		if v := text(el, "value"); v != "" {
			t += "=" + v
		}
		if out = append(out, t+":"+text(el, "effect")); len(out) == 8 {
			break
		}
	}
	return out
}

// set is told from the part of the object that it changes. Values of variables may be secrets and are not shown.
func (r *request) set(object []string) line {
	if member(r.RequestObject, "subjects") != nil {
		return words("set", "subject").on(object...)
	}
	if member(r.RequestObject, "spec", "selector") != nil {
		return words("set", "selector").on(object...)
	}
	pod := member(r.RequestObject, "spec", "template", "spec")
	if r.ref.Resource == "cronjobs" {
		pod = member(r.RequestObject, "spec", "jobTemplate", "spec", "template", "spec")
	}
	if name := text(pod, "serviceAccountName"); name != "" {
		return words("set", "serviceaccount").on(object...).on(name)
	}
	what, images := "", []string(nil)
	for _, containers := range [...]string{"containers", "initContainers"} {
		for el := range audit.Elements(member(pod, containers)) {
			switch image := text(el, "image"); {
			case member(el, "env") != nil || member(el, "envFrom") != nil:
				what = "env"
			case member(el, "resources") != nil:
				what = "resources"
			case image != "" && len(images) < 8:
				what, images = "image", append(images, text(el, "name")+"="+image)
			}
		}
	}
	if what == "" {
		what = "image"
	}
	return words("set", what).on(object...).on(images...)
}
