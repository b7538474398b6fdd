package explain

import (
	"strconv"
	"strings"

	"whodunit/internal/audit"
)

// line tells the command from what the request was for.
func (r *request) line() line {
	switch {
	case r.ref.Resource == "" && r.typed && r.Verb == "get" && r.RequestURI == "/version?timeout=32s":
		return words("version").alone()
	case r.ref.Resource == "" || r.ref.Subresource == "proxy":
		return r.raw()
	}
	if l := r.special(); l.words != nil {
		return l
	}
	if r.ref.Subresource != "" {
		return r.subresource()
	}
	switch r.Verb {
	case "get":
		return words("get").on(r.object()...)
	case "list":
		return r.selected(words("get").on(r.kindName(true)))
	case "watch":
		return r.watch()
	case "create":
		return r.create()
	case "update":
		return r.update()
	case "patch":
		return r.patch()
	case "delete":
		return r.deleted(words("delete").on(r.object()...))
	case "deletecollection":
		l := r.selected(words("delete").on(r.kindName(true)))
		if l.flags == nil {
			l = l.with("--all")
		}
		return r.deleted(l)
	}
	return line{}
}

// raw is the request as it was, for what kubectl has no other word for.
func (r *request) raw() line {
	if !strings.HasPrefix(r.RequestURI, "/") {
		return line{}
	}
	file := []string{"--raw", r.RequestURI, "-f", "-"}
	switch r.Verb {
	case "get", "list", "watch":
		return words("get").with("--raw", r.RequestURI).alone()
	case "create", "post":
		return words("create").with(file...).alone()
	case "update", "put":
		return words("replace").with(file...).alone()
	case "delete", "deletecollection":
		return words("delete").with("--raw", r.RequestURI).alone()
	}
	return line{}
}

// special is the commands with resources of their own.
func (r *request) special() line {
	read := r.Verb == "get" || r.Verb == "list"
	switch r.ref.Resource + "." + r.ref.APIGroup {
	case "selfsubjectaccessreviews.authorization.k8s.io":
		return r.canI()
	case "selfsubjectrulesreviews.authorization.k8s.io":
		return words("auth", "can-i", "--list").flag("-n", r.text("spec", "namespace")).alone()
	case "selfsubjectreviews.authentication.k8s.io":
		return words("auth", "whoami").alone()
	case "pods.metrics.k8s.io", "nodes.metrics.k8s.io":
		if read {
			return r.selected(words("top").on(r.object()...))
		}
	case "services.":
		if r.Verb == "list" && r.ref.Namespace == "kube-system" && r.q.Get("labelSelector") == "kubernetes.io/cluster-service=true" {
			return words("cluster-info").alone()
		}
	case "events.":
		if r.Verb == "list" && r.typed {
			return r.describe()
		}
	}
	return line{}
}

// describe is told by the events that it lists, of one object by its uid.
func (r *request) describe() line {
	of := map[string]string{}
	for _, term := range strings.Split(r.q.Get("fieldSelector"), ",") {
		field, value, _ := strings.Cut(term, "=")
		of[strings.TrimPrefix(field, "involvedObject.")] = value
	}
	if of["name"] == "" || of["uid"] == "" {
		return line{}
	}
	kind := strings.ToLower(of["kind"])
	if kind == "" { // as it is of pods
		kind = "pod"
	}
	return words("describe").on(kind, of["name"]).flag("-n", of["namespace"]).alone()
}

func (r *request) canI() line {
	l := words("auth", "can-i").alone()
	if path := r.text("spec", "nonResourceAttributes", "path"); path != "" {
		return l.on(r.text("spec", "nonResourceAttributes", "verb"), path)
	}
	of := func(name string) string { return r.text("spec", "resourceAttributes", name) }
	verb, resource := of("verb"), of("resource")
	if verb == "" || resource == "" {
		return l
	}
	if g := of("group"); g != "" {
		resource += "." + g
	}
	if n := of("name"); n != "" {
		resource += "/" + n
	}
	return l.on(verb, resource).flag("--subresource", of("subresource")).flag("-n", of("namespace"))
}

// selected adds the selectors of a collection, and the page's size where it is not kubectl's own.
func (r *request) selected(l line) line {
	l = l.flag("-l", r.q.Get("labelSelector")).flag("--field-selector", r.q.Get("fieldSelector"))
	if limit := r.q.Get("limit"); limit != "500" && limit != "0" && r.Verb == "list" {
		l = l.flag("--chunk-size", limit)
	}
	return l
}

func (r *request) watch() line {
	if r.ref.Name == "" || r.q.Get("fieldSelector") != "metadata.name="+r.ref.Name {
		return r.selected(words("get").on(r.kindName(true)).with("-w"))
	}
	if r.typed && r.q.Get("allowWatchBookmarks") == "true" && r.rollsOut() { // get -w asks for none
		return words("rollout", "status").on(r.object()...)
	}
	return words("get").on(r.object()...).with("-w")
}

func (r *request) rollsOut() bool {
	return r.ref.APIGroup == "apps" && contains([]string{"deployments", "daemonsets", "statefulsets"}, r.ref.Resource)
}

// deleted adds what the deletion's options say.
func (r *request) deleted(l line) line {
	option := func(name string) string {
		if v := r.q.Get(name); v != "" {
			return v
		}
		return r.text(name)
	}
	switch option("propagationPolicy") {
	case "Orphan":
		l = l.with("--cascade=orphan")
	case "Foreground":
		l = l.with("--cascade=foreground")
	}
	switch seconds := option("gracePeriodSeconds"); seconds {
	case "0":
		l = l.with("--force", "--grace-period=0")
	case "1":
		l = l.with("--now")
	default:
		l = l.flag("--grace-period", seconds)
	}
	return l
}

// subresource is the commands that go to a part of an object.
func (r *request) subresource() line {
	container := r.q.Get("container")
	switch r.ref.Resource + "/" + r.ref.Subresource {
	case "pods/exec":
		return r.exec(container)
	case "pods/attach":
		return line{words: append([]string{"attach"}, terminal(r.q.Get("stdin"), r.q.Get("tty"))...)}.on(r.pod()).flag("-c", container)
	case "pods/log":
		return r.logs(container)
	case "pods/portforward":
		return words("port-forward").on(r.pod()).on(r.q["ports"]...)
	case "pods/ephemeralcontainers":
		if r.Verb == "patch" || r.Verb == "update" {
			return r.debug(r.lastOf("spec", "ephemeralContainers")).on(r.pod())
		}
	case "pods/eviction":
		if r.typed {
			return words("drain").on("<node>").alone()
		}
	case "serviceaccounts/token":
		l := words("create", "token").on(r.ref.Name).flag("--audience", list(member(r.RequestObject, "spec", "audiences")))
		if s := r.text("spec", "expirationSeconds"); s != "" && s != "0" {
			l = l.flag("--duration", s+"s")
		}
		return l
	case "certificatesigningrequests/approval":
		verb := "approve"
		if text(r.lastOf("status", "conditions"), "type") == "Denied" {
			verb = "deny"
		}
		return words("certificate", verb).on(r.ref.Name)
	}
	return r.part()
}

// part is the subresources that kubectl's general commands have a flag for.
func (r *request) part() line {
	sub := r.ref.Subresource
	writes := r.Verb == "patch" || r.Verb == "update"
	if sub == "scale" && writes && r.manager == "" {
		l := words("scale").on(r.object()...)
		if n, ok := replicas(r.Event); ok {
			l = l.flag("--replicas", strconv.Itoa(n))
		}
		return l
	}
	if sub != "status" && sub != "scale" && sub != "resize" {
		return r.raw()
	}
	var l line
	switch r.Verb {
	case "get":
		l = words("get").on(r.object()...)
	case "patch":
		l = r.patch()
	case "update":
		l = r.update()
	default:
		return r.raw()
	}
	return l.flag("--subresource", sub)
}

// terminal is the flags of an interactive command.
func terminal(stdin, tty string) []string {
	switch in, term := stdin == "true", tty == "true"; {
	case in && term:
		return []string{"-it"}
	case in:
		return []string{"-i"}
	case term:
		return []string{"-t"}
	}
	return nil
}

func (r *request) exec(container string) line {
	command := r.q["command"]
	if r.typed {
		if l := r.copied(command); l.words != nil {
			return l.flag("-c", container).alone()
		}
	}
	l := line{words: append([]string{"exec"}, terminal(r.q.Get("stdin"), r.q.Get("tty"))...)}.on(r.pod()).flag("-c", container)
	l.tail = append([]string{}, command...)
	return l
}

// copied is the command if it is one that kubectl cp runs in pods.
func (r *request) copied(command []string) line {
	at := func(path string) string {
		return strings.TrimPrefix(r.ref.Namespace+"/", "/") + r.ref.Name + ":" + path
	}
	joined := strings.Join(command, " ")
	switch {
	case r.q.Get("tty") == "true" || len(command) < 3:
	case len(command) == 4 && strings.HasPrefix(joined, "tar cf - "):
		return words("cp").on(at(command[3]), ".")
	case command[0] == "sh" && strings.HasPrefix(command[2], "tar cf - ") && strings.Contains(command[2], " | tail -c+"):
		path, _, _ := strings.Cut(strings.TrimPrefix(command[2], "tar cf - "), " | tail -c+")
		return words("cp").on(at(strings.Trim(path, "'")), ".").with("--retries=1")
	case command[0] == "tar" && strings.Contains(joined, " -xmf -") && r.q.Get("stdin") == "true":
		_, dir, _ := strings.Cut(joined, " -C ")
		return words("cp").on(".", at(dir))
	}
	return line{}
}

func (r *request) logs(container string) line {
	l := words("logs").on(r.pod()).flag("-c", container)
	for _, f := range [...]struct{ parameter, flag string }{{"follow", "-f"}, {"previous", "-p"}, {"timestamps", "--timestamps"}} {
		if r.q.Get(f.parameter) == "true" {
			l = l.with(f.flag)
		}
	}
	l = l.flag("--tail", r.q.Get("tailLines"))
	if s := r.q.Get("sinceSeconds"); s != "" {
		l = l.flag("--since", s+"s")
	}
	return l.flag("--since-time", r.q.Get("sinceTime")).flag("--limit-bytes", r.q.Get("limitBytes"))
}

// debug is told from the container that it adds.
func (r *request) debug(container []byte) line {
	l := line{words: append([]string{"debug"}, terminal(text(container, "stdin"), text(container, "tty"))...)}
	return l.flag("--image", text(container, "image")).flag("--target", text(container, "targetContainerName")).flag("-c", text(container, "name"))
}

// text is a scalar of the request's body.
func (r *request) text(path ...string) string { return text(r.RequestObject, path...) }

// lastOf is the last element of an array in the request's body.
func (r *request) lastOf(path ...string) (last []byte) {
	for el := range audit.Elements(member(r.RequestObject, path...)) {
		last = el
	}
	return last
}

// list is a short array of texts, joined by commas.
func list(v []byte) string {
	var out []string
	for el := range audit.Elements(v) {
		t, _ := audit.Text(el)
		if out = append(out, t); len(out) == 8 {
			break
		}
	}
	return strings.Join(out, ",")
}
