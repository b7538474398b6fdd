package explain

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"whodunit/internal/audit"
	"whodunit/internal/match"
	"whodunit/internal/store"
)

// Verb is what somebody did to an object, in the words of a question.
type Verb string

// The verbs of questions.
const (
	Deleted Verb = "deleted"
	Created Verb = "created"
	Changed Verb = "changed"
	Scaled  Verb = "scaled"
	Execd   Verb = "exec'd"
	Read    Verb = "read"
)

// ParseVerb reads a verb or one of its other names.
func ParseVerb(s string) (Verb, error) {
	switch strings.ToLower(s) {
	case "deleted", "delete", "removed", "evicted", "killed":
		return Deleted, nil
	case "created", "create", "made":
		return Created, nil
	case "changed", "change", "edited", "edit", "updated", "modified", "patched":
		return Changed, nil
	case "scaled", "scale":
		return Scaled, nil
	case "exec'd", "execd", "exec", "execed", "attached":
		return Execd, nil
	case "read", "got", "get", "saw", "listed":
		return Read, nil
	}
	return "", fmt.Errorf("cannot read verb %q: expected deleted, created, changed, scaled, exec'd or read", s)
}

// Question asks who did something to an object.
type Question struct {
	Verb   Verb
	Object Object
	Status bool // for Changed: show writes of the status too, which controllers do all the time
}

func equal(path string, values ...string) *match.Pred {
	return &match.Pred{Path: path, Op: match.Equal, Values: values}
}

// notFinding keeps whodunit's own findings out: they have the fields of the event that they are about.
func notFinding() match.Expr { return match.Not{X: equal("kind", audit.KindFinding)} }

// Expr selects the events that may be about the question. It lets more through than Judge accepts, never less.
func (q Question) Expr() match.Expr {
	o := q.Object
	resource, name := equal("objectRef.resource", o.Resources...), equal("objectRef.name", o.Name)
	noName := match.Not{X: &match.Pred{Path: "objectRef.name", Op: match.Glob, Values: []string{"?*"}}}
	and := match.And{}
	switch q.Verb {
	case Deleted:
		or := match.Or{
			match.And{equal("verb", "delete"), resource, name},
			match.And{equal("verb", "deletecollection"), resource},
		}
		if o.is("pods") {
			or = append(or, match.And{equal("verb", "create"), resource, name, equal("objectRef.subresource", "eviction")})
		}
		if o.Namespace != "" {
			or = append(or, match.And{equal("verb", "delete"), equal("objectRef.resource", "namespaces"), equal("objectRef.name", o.Namespace)})
		}
		and = match.And{or}
	case Created:
		and = match.And{resource, equal("verb", "create", "patch", "update"), match.Or{name, noName}}
	case Changed, Scaled:
		and = match.And{resource, equal("verb", "patch", "update"), name}
	case Execd:
		and = match.And{equal("objectRef.resource", "pods"), equal("objectRef.subresource", "exec", "attach"), equal("verb", "get", "create")}
		if o.is("pods") {
			and = append(and, name)
		} else {
			and = append(and, &match.Pred{Path: "objectRef.name", Op: match.Prefix, Values: []string{o.Name + "-"}})
		}
	case Read:
		and = match.And{resource, match.Or{
			match.And{equal("verb", "get"), name},
			match.And{equal("verb", "list", "watch"), match.Or{name, noName}},
		}}
	}
	if o.Namespace != "" {
		inside := equal("objectRef.namespace", o.Namespace)
		wide := match.Not{X: &match.Pred{Path: "objectRef.namespace", Op: match.Glob, Values: []string{"?*"}}}
		and = append(and, match.Or{inside, wide})
	}
	return append(and, notFinding())
}

func (o Object) is(resource string) bool { return contains(o.Resources, resource) }

// errEnough ends a search whose limit is reached.
var errEnough = errors.New("enough")

// maxActs bounds the memory of one answer.
const maxActs = 100_000

// Acts asks the store and tells the acts, oldest first: the newest limit of them, or all (up to 100,000) where limit is 0.
// base gives the times and further conditions, such as a cluster; its Before and Limit are not used. cut says that there were
// more.
func (q Question) Acts(ctx context.Context, s store.Searcher, base store.Query, limit int) (acts []*Act, cut bool, st store.Stats, err error) {
	if limit <= 0 || limit > maxActs {
		limit = maxActs
	}
	base.Before, base.Limit = store.Position{}, 0
	if base.Expr == nil {
		base.Expr = q.Expr()
	} else {
		base.Expr = match.And{q.Expr(), base.Expr}
	}
	var c collector
	st, err = s.Search(ctx, base, func(r *audit.Record) error {
		if a := q.Judge(&r.Event); a != nil {
			c.add(&r.Event, a)
		}
		if len(c.acts) > limit {
			return errEnough
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		err, cut = nil, true
		c.acts = c.acts[:limit]
	}
	if err != nil {
		return nil, false, st, fmt.Errorf("cannot tell who %s %s: %w", q.Verb, q.Object, err)
	}
	c.acts = slices.DeleteFunc(c.acts, func(a *Act) bool { return a.dismissed })
	slices.Reverse(c.acts) // the store hands out the newest first
	slices.SortStableFunc(c.acts, func(a, b *Act) int { return a.Time.Compare(b.Time) })
	return c.acts, cut, st, nil
}

// Judge tells what one event says about the question, nil for nothing. Where a request's later stages know better (whether
// a list holds the object, which name a new object got), its early ones say nothing.
func (q Question) Judge(ev *audit.Event) *Act {
	o, ref := q.Object, ev.ObjectRef
	if ev.Kind == audit.KindFinding {
		return nil
	}
	if q.Verb == Deleted && ref.Resource == "namespaces" && !o.is("namespaces") {
		return q.namespaceGone(ev)
	}
	if q.Verb == Execd && !o.is("pods") {
		return q.execd(ev)
	}
	if !o.is(ref.Resource) || len(o.Groups) > 0 && !contains(o.Groups, ref.APIGroup) {
		return nil
	}
	if o.Namespace != "" && ref.Namespace != "" && ref.Namespace != o.Namespace {
		return nil
	}
	switch q.Verb {
	case Deleted:
		return q.deleted(ev)
	case Created:
		return q.created(ev)
	case Changed:
		return q.changed(ev)
	case Scaled:
		return q.scaled(ev)
	case Execd:
		return q.execd(ev)
	case Read:
		return q.read(ev)
	}
	return nil
}

func did(ev *audit.Event, what string) *Act {
	a := newAct(ev)
	a.Did = what
	return a
}

func (q Question) deleted(ev *audit.Event) *Act {
	ref := ev.ObjectRef
	switch {
	case ev.Verb == "delete" && ref.Subresource == "" && ref.Name == q.Object.Name:
		return did(ev, "deleted")
	case ev.Verb == "create" && ref.Subresource == "eviction" && ref.Name == q.Object.Name:
		return did(ev, "evicted")
	case ev.Verb != "deletecollection" || ref.Subresource != "":
		return nil
	}
	c := q.coverage(ev)
	if c == covers0 {
		return nil
	}
	a := did(ev, "deleted a collection of")
	a.Possible, a.Note = c != coversSeen, "with "+q.Object.Name+" in it"
	if a.Possible {
		a.Note = "possibly with " + q.Object.Name + " in it"
	}
	return a
}

// namespaceGone tells of a deletion of the namespace that the object is in.
func (q Question) namespaceGone(ev *audit.Event) *Act {
	ref := ev.ObjectRef
	if q.Object.Namespace == "" || ev.Verb != "delete" || ref.Subresource != "" || ref.Name != q.Object.Namespace || ev.Response.Code >= 400 {
		return nil
	}
	a := did(ev, "deleted the whole namespace")
	a.Possible, a.Note = true, "possibly with "+q.Object.Resources[0]+"/"+q.Object.Name+" in it"
	return a
}

func (q Question) created(ev *audit.Event) *Act {
	ref := ev.ObjectRef
	if ref.Subresource != "" {
		return nil
	}
	if ev.Verb == "patch" || ev.Verb == "update" {
		if ev.Response.Code != 201 || ref.Name != q.Object.Name {
			return nil
		}
		return did(ev, "created")
	}
	if ev.Verb != "create" {
		return nil
	}
	name := ref.Name
	if name == "" {
		if name = text(ev.ResponseObject, "metadata", "name"); name == "" || ev.Response.Code >= 400 {
			name = text(ev.RequestObject, "metadata", "name")
		}
	}
	if name == q.Object.Name && name != "" {
		a := did(ev, "created")
		if ref.Name == "" {
			a.Object += "/" + strings.Clone(name)
		}
		return a
	}
	generated := text(ev.RequestObject, "metadata", "generateName")
	if name == "" && ev.Response.Code == 201 && looksGenerated(q.Object.Name, generated) {
		a := did(ev, "created")
		a.Possible, a.Note = true, "possibly "+q.Object.Name+": the generated name was not recorded"
		return a
	}
	return nil
}

// looksGenerated reports whether the API server may have made the name: it puts five of its own letters behind what the client
// asked for (k8s.io/apiserver/pkg/storage/names; the letters are those of k8s.io/apimachinery/pkg/util/rand).
func looksGenerated(name, prefix string) bool {
	const letters = "bcdfghjklmnpqrstvwxz2456789"
	return len(name) > 5 && strings.HasPrefix(name, prefix) && strings.Trim(name[len(name)-5:], letters) == ""
}

func (q Question) changed(ev *audit.Event) *Act {
	ref := ev.ObjectRef
	if ev.Verb != "patch" && ev.Verb != "update" || ref.Name != q.Object.Name || ref.Subresource == "status" && !q.Status {
		return nil
	}
	a := did(ev, "changed")
	a.dismissed = ev.Response.Code == 201 && ref.Subresource == "" // it was created
	switch n, ok := replicas(ev); {
	case ref.Subresource == "scale":
		a.Did = "scaled"
		if ok {
			a.Replicas = &n
		}
	case ref.Subresource == "ephemeralcontainers":
		a.Did = "put a debug container into"
	}
	return a
}

func (q Question) scaled(ev *audit.Event) *Act {
	ref := ev.ObjectRef
	n, ok := replicas(ev)
	if ev.Verb != "patch" && ev.Verb != "update" || ref.Name != q.Object.Name || ref.Subresource != "scale" && (ref.Subresource != "" || !ok) {
		return nil
	}
	a := did(ev, "scaled")
	if ok {
		a.Replicas = &n
	}
	if ref.Subresource == "" && (ev.Verb == "update" || ev.Response.Code == 201) {
		a.Possible, a.Note = true, "possibly no change: the whole object was written"
	}
	return a
}

// replicas is the number that the request's body asks for: an object, a merge patch, or a JSON patch.
func replicas(ev *audit.Event) (int, bool) {
	body := ev.RequestObject
	v := member(body, "spec", "replicas")
	for op := range audit.Elements(body) {
		switch text(op, "path") {
		case "/spec/replicas":
			v = member(op, "value")
		case "/spec":
			v = member(op, "value", "replicas")
		}
	}
	t, ok := audit.Text(v)
	if !ok {
		return 0, false
	}
	var n int
	if _, err := fmt.Sscanf(t, "%d", &n); err != nil {
		return 0, false
	}
	return n, true
}

func (q Question) execd(ev *audit.Event) *Act {
	ref, o := ev.ObjectRef, q.Object
	if ref.Resource != "pods" || ref.Subresource != "exec" && ref.Subresource != "attach" || ev.Verb != "get" && ev.Verb != "create" ||
		o.Namespace != "" && ref.Namespace != o.Namespace {
		return nil
	}
	if o.is("pods") && ref.Name != o.Name || !o.is("pods") && !podOf(o, ref.Name) {
		return nil
	}
	a := did(ev, "exec'd into")
	if ref.Subresource == "attach" {
		a.Did = "attached to"
	}
	for _, word := range parameters(ev)["command"] {
		a.Command = append(a.Command, strings.Clone(word))
	}
	if !o.is("pods") {
		a.Possible, a.Note = true, "possibly a pod of "+o.Resources[0]+"/"+o.Name+", by its name"
	}
	return a
}

// podOf reports whether a pod's name is one that the workload's controller gives.
func podOf(o Object, pod string) bool {
	rest, ok := strings.CutPrefix(pod, o.Name+"-")
	if !ok {
		return false
	}
	parts := strings.Split(rest, "-")
	for _, p := range parts {
		if p == "" {
			return false
		}
	}
	last := parts[len(parts)-1]
	switch o.Resources[0] {
	case "deployments", "cronjobs":
		return len(parts) == 2 && len(last) == 5
	case "statefulsets":
		return len(parts) == 1 && strings.Trim(last, "0123456789") == ""
	case "replicasets", "daemonsets", "jobs", "replicationcontrollers":
		return len(parts) == 1 && len(last) == 5
	}
	return false
}
