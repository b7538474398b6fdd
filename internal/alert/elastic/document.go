package elastic

import (
	"cmp"
	"encoding/json"
	"net/url"
	"strings"
	"time"

	"whodunit/internal/alert"
	"whodunit/internal/audit"
	"whodunit/internal/explain"
	"whodunit/internal/finding"
)

// document is an alert in K8sCop's form, and behind it what K8sCop has not.
type document struct {
	Type        string `json:"a_type"`
	Timestamp   string `json:"timestamp"`
	Description string `json:"description"`
	Index       string `json:"index"` // leads to the event
	User        string `json:"user"`
	Namespace   string `json:"namespace,omitempty"`
	Pod         string `json:"pod,omitempty"`
	Kubectl     string `json:"kubectl,omitempty"`
	Response    int    `json:"response,omitempty"`
	Container   string `json:"container,omitempty"`
	Command     string `json:"command,omitempty"`

	Severity finding.Severity `json:"severity"`
	Rule     string           `json:"rule"`
	Cluster  string           `json:"cluster"`
}

// newDocument: the type is the label, of a rule of another kind its title.
func newDocument(f *alert.Finding) document {
	ev := f.Event
	d := document{Type: cmp.Or(f.Title, f.Rule), Timestamp: stamp(f.Time), Description: f.Message, Index: f.AuditID, User: f.User, Namespace: ev.ObjectRef.Namespace,
		Kubectl: kubectl(ev), Response: ev.Response.Code, Severity: f.Severity, Rule: f.Rule, Cluster: f.Cluster}
	if ev.ObjectRef.Resource == "pods" {
		d.Pod = ev.ObjectRef.Name
		q := parameters(ev)
		d.Container, d.Command = q.Get("container"), strings.Join(q["command"], " ")
	}
	return d
}

// whole is the finding with its time in front.
func whole(f *alert.Finding) json.RawMessage {
	return append([]byte(`{"@timestamp":"`+stamp(f.Time)+`",`), f.Document()[1:]...)
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000000Z") }

// parameters is the query of the request's URI. What cannot be decoded is left out.
func parameters(ev *audit.Event) url.Values {
	_, query, _ := strings.Cut(ev.RequestURI, "?")
	v, _ := url.ParseQuery(query)
	return v
}

// kubectl is the request as a person would have typed it, "" where kubectl has no word for it.
func kubectl(ev *audit.Event) string {
	words, tail := request(ev)
	if words == nil {
		return ""
	}
	ref := &ev.ObjectRef
	switch {
	case ref.Namespace != "" && ref.Resource != "namespaces": // the API server puts a namespace into itself
		words = append(words, "--namespace", ref.Namespace)
	case ref.Name == "" && (ev.Verb == "list" || ev.Verb == "watch") && namespaced(ref):
		words = append(words, "--all-namespaces")
	}
	if as := ev.Impersonated.Username; as != "" {
		words = append(words, "--as", as)
	}
	return explain.Command(append(append([]string{"kubectl"}, words...), tail...))
}

// namespaced reports whether objects of this kind may be in namespaces.
func namespaced(ref *audit.ObjectRef) bool {
	kind := ref.Resource
	if ref.APIGroup != "" {
		kind += "." + ref.APIGroup
	}
	o, err := explain.ParseObject("", kind, "x")
	return err == nil && !o.Cluster
}

// request is the command's words but for where; tail stands behind that.
func request(ev *audit.Event) (words, tail []string) {
	ref, q := &ev.ObjectRef, parameters(ev)
	switch {
	case ref.Resource == "" && ev.Verb == "get":
		return []string{"get", "--raw", ev.RequestURI}, nil
	case ref.Resource == "":
		return nil, nil
	case ref.Subresource == "" || ref.Subresource == "status" || ref.Subresource == "scale":
		return plain(ev, q), nil
	}
	container := func() (out []string) {
		if c := q.Get("container"); c != "" {
			out = []string{"--container", c}
		}
		return out
	}
	switch ref.Resource + "/" + ref.Subresource {
	case "pods/exec":
		tail = container()
		for _, flag := range [...]string{"stdin", "tty"} {
			if q.Get(flag) == "true" {
				tail = append(tail, "--"+flag)
			}
		}
		return []string{"exec", ref.Name}, append(append(tail, "--"), q["command"]...)
	case "pods/attach":
		return []string{"attach", ref.Name}, container()
	case "pods/log":
		return []string{"logs", ref.Name}, container()
	case "pods/portforward":
		return []string{"port-forward", ref.Name}, nil
	case "pods/ephemeralcontainers":
		return []string{"debug", ref.Name}, nil
	case "serviceaccounts/token":
		return []string{"create", "token", ref.Name}, nil
	}
	return nil, nil
}

// plain is a request for objects themselves.
func plain(ev *audit.Event, q url.Values) []string {
	ref := &ev.ObjectRef
	object := []string{kind(ref)}
	if ref.Name != "" {
		object = append(object, ref.Name)
	}
	if ref.Subresource != "" {
		object = append(object, "--subresource", ref.Subresource)
	}
	var selected []string
	for _, s := range [...]struct{ parameter, flag string }{{"labelSelector", "--selector"}, {"fieldSelector", "--field-selector"}} {
		if v := q.Get(s.parameter); v != "" {
			selected = append(selected, s.flag, v)
		}
	}
	command := func(verb string, more ...string) []string { return append(append([]string{verb}, object...), more...) }
	switch ev.Verb {
	case "get":
		if ref.Resource == "pods" && ref.Subresource == "" {
			return command("describe") // as K8sCop has it
		}
		return command("get")
	case "list":
		return command("get", selected...)
	case "watch":
		return command("get", append(selected, "--watch")...)
	case "create":
		return []string{"create", "-f", "-"}
	case "update":
		return []string{"replace", "-f", "-"}
	case "patch":
		return command("patch")
	case "delete":
		return command("delete")
	case "deletecollection":
		if selected == nil {
			selected = []string{"--all"}
		}
		return command("delete", selected...)
	}
	return nil
}

// kind is the resource as people name it; of a group that is not Kubernetes' own, or whose names others have too, with the group.
func kind(ref *audit.ObjectRef) string {
	switch ref.APIGroup {
	case "", "apps", "batch", "extensions", "policy", "autoscaling", "networking.k8s.io", "rbac.authorization.k8s.io", "storage.k8s.io":
		return ref.Resource
	}
	return ref.Resource + "." + ref.APIGroup
}
