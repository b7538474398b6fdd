package act

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"whodunit/internal/audit"
)

// clockSlack is by how much the time of an object's making may differ from that of its event: both are of one API server, and the
// former has whole seconds.
const clockSlack = 2 * time.Second

// made reports whether the event made the object: apply makes objects with a patch.
func made(ev *audit.Event) bool { return ev.Verb == "create" || ev.Response.Code == http.StatusCreated }

// binding looks the binding up and keeps off those that a cluster rests on.
func (j *job) binding(ctx context.Context) (*object, error) {
	clusterWide := j.t.resource == "clusterrolebindings"
	if strings.HasPrefix(j.t.name, "system:") || clusterWide && j.t.name == "cluster-admin" {
		return nil, deny("%s belongs to Kubernetes", j.t)
	}
	o, err := j.live(ctx)
	switch {
	case err != nil:
		return nil, err
	case o.Metadata.Labels["kubernetes.io/bootstrapping"] != "":
		return nil, deny("%s belongs to Kubernetes: the API server maintains it", j.t)
	case len(o.Subjects) > 0 && !slices.ContainsFunc(o.Subjects, func(s subject) bool { return !j.isUs(s) }):
		return nil, deny("%s is what allows us to act", j.t)
	}
	return o, nil
}

func (j *job) isUs(s subject) bool {
	if s.Kind == "ServiceAccount" {
		return j.own == "system:serviceaccount:"+s.Namespace+":"+s.Name
	}
	return s.Kind == "User" && s.Name == j.own
}

// sameMade is same for an event that made the object: where it does not tell the uid, the times must agree.
func (j *job) sameMade(o *object) error {
	if j.t.uid != "" {
		return nil // live has compared it
	}
	at, err := time.Parse(time.RFC3339, o.Metadata.CreationTimestamp)
	if err != nil {
		return fmt.Errorf("cannot read when %s was made: %w", j.t, err)
	}
	if at.Before(time.UnixMicro(j.ev.ReceivedMicros).Add(-clockSlack)) || j.ev.ReceivedMicros == 0 {
		return deny("%s was not made by the event: it is older", j.t)
	}
	return nil
}

func (j *job) deleteBinding(ctx context.Context) error {
	if !made(j.ev) {
		return cannot("the event did not make the binding")
	}
	o, err := j.binding(ctx)
	if err == nil {
		err = j.sameMade(o)
	}
	if err != nil {
		return err
	}
	return j.remove(ctx, j.t.path(), map[string]string{"uid": o.Metadata.UID})
}

// revertBinding takes a binding back to what it was before the event, unless it changed again since.
func (j *job) revertBinding(ctx context.Context) (string, error) {
	after := body(j.ev.ResponseObject)
	if after == nil || after.Metadata.ResourceVersion == "" || after.Metadata.UID == "" {
		return "", cannot("the event has no response body, so it is not known what the binding became: the audit policy wants level RequestResponse")
	}
	if made(j.ev) {
		if _, err := j.binding(ctx); err != nil {
			return "", err
		}
		return "it was deleted", j.remove(ctx, j.t.path(), map[string]string{"uid": after.Metadata.UID, "resourceVersion": after.Metadata.ResourceVersion})
	}
	if j.ev.Verb != "update" && j.ev.Verb != "patch" {
		return "", cannot("%s cannot be reverted", clean(j.ev.Verb, 40))
	}
	before, err := j.earlier(ctx, after)
	if err != nil {
		return "", err
	}
	if _, err := j.binding(ctx); err != nil {
		return "", err
	}
	// What the change took away stays away: to give it back would give access, under our name.
	subjects := []subject{} // null would leave the field to its default, which is the same, but say less
	for _, s := range after.Subjects {
		if slices.Contains(before.Subjects, s) {
			subjects = append(subjects, s)
		}
	}
	return "the subjects that it added are gone again", j.patch(ctx, j.t.path(), after.Metadata.UID, map[string]any{
		"metadata": map[string]any{"resourceVersion": after.Metadata.ResourceVersion}, "subjects": subjects})
}

// earlier is the recorded state from before the event.
func (j *job) earlier(ctx context.Context, after *object) (*object, error) {
	ev, err := j.before(ctx, j.ev)
	if err != nil {
		return nil, fmt.Errorf("cannot read the earlier event: %w", err)
	}
	if ev == nil || DryRun(ev) {
		return nil, cannot("no earlier state of the binding is recorded")
	}
	before := body(ev.ResponseObject)
	if before == nil || before.Metadata.UID != after.Metadata.UID || before.Metadata.Name != after.Metadata.Name || ev.Micros() > j.ev.Micros() {
		return nil, cannot("no earlier state of the same binding is recorded")
	}
	if sent := body(j.ev.RequestObject); j.ev.Verb == "update" && sent != nil && sent.Metadata.ResourceVersion != "" && sent.Metadata.ResourceVersion != before.Metadata.ResourceVersion {
		return nil, cannot("the earlier state that is recorded is not the last one before the event")
	}
	added := slices.ContainsFunc(after.Subjects, func(s subject) bool { return !slices.Contains(before.Subjects, s) })
	if !added {
		return nil, deny("the change added no subject: to revert it would only give access")
	}
	return before, nil
}
