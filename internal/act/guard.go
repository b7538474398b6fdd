package act

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"whodunit/internal/audit"
	"whodunit/internal/finding"
)

// guard decides whether an action may be attempted, and completes the job. A verdict says no; any other error that it is not known yet.
func (a *Actor) guard(ctx context.Context, j *job, ev []finding.Evidence) error {
	if err := a.guardSource(j); err != nil {
		return err
	}
	t, err := targetOf(j.Kind, j.ev)
	if err == nil {
		err = a.guardPlace(j.action, t)
	}
	if err != nil {
		return err
	}
	if d := age(j.f, a.o.Now()); d > a.o.MaxAge || d < -a.o.MaxAge {
		return &verdict{expired, fmt.Sprintf("the event is of %s, and only what is not older than %s sets off actions", j.f.Event.Time().Format(time.RFC3339), a.o.MaxAge)}
	}
	if err := guardRequest(j); err != nil {
		return err
	}
	j.e.Target = clean(t.String(), maxMessage/2)
	if err := a.guardRate(j); err != nil { // before anything is looked up: many findings that nothing is done about hold up those that matter
		return err
	}
	if len(ev) > 0 {
		whole, err := a.o.Event(ctx, ev[len(ev)-1])
		if err != nil {
			return fmt.Errorf("cannot read the event: %w", err)
		}
		if whole != nil && whole.Cluster == j.f.Cluster && whole.AuditID == j.f.Event.AuditID && whole.Stage == j.f.Event.Stage {
			j.ev = whole
		}
	}
	if err := guardRequest(j); err != nil { // it shows more now
		return err
	}
	if j.t, err = targetOf(j.Kind, j.ev); err != nil {
		return err
	}
	if err := a.guardPlace(j.action, j.t); err != nil {
		return err
	}
	if err := j.t.complete(j.action); err != nil {
		return err
	}
	j.e.Target = clean(j.t.String(), maxMessage/2)
	return a.guardCooldown(j)
}

// guardSource: findings of a cluster that we have no client for, and those about ourselves, set off nothing.
func (a *Actor) guardSource(j *job) error {
	if a.known.Load().has(j.f.Cluster, j.f.Event.User.Username) {
		return deny("the request was made by our own account %s", j.f.Event.User.Username)
	}
	if j.Kind == Webhook {
		return nil
	}
	if j.c = a.clusters[j.f.Cluster]; j.c == nil {
		return deny("no client is configured for cluster %s", j.f.Cluster)
	}
	return nil
}

// guardPlace says where nothing is ever done, where not by this action, and where nothing allows it.
func (a *Actor) guardPlace(act *action, t target) error {
	ns := t.namespace
	switch {
	case ns == "" && !act.ClusterScoped:
		return deny("it has no namespace, and the action is not allowed for the whole cluster")
	case ns == "":
		return nil
	case !dnsLabel.MatchString(ns):
		return deny("%.60q is no name of a namespace", ns)
	case slices.Contains(denied[:], ns):
		return deny("nothing is ever done in namespace %s", ns)
	case ns == a.o.OwnNamespace || a.ownNamespace(ns):
		return deny("namespace %s is our own", ns)
	case matches(act.Deny, ns):
		return deny("namespace %s is denied for the action", ns)
	case !matches(act.Namespaces, ns):
		return deny("namespace %s is not allowed for the action", ns)
	}
	return nil
}

func (a *Actor) ownNamespace(ns string) bool {
	for _, list := range a.known.Load().byCluster {
		for _, user := range list {
			if own, _, ok := serviceAccount(user); ok && own == ns {
				return true
			}
		}
	}
	return false
}

// guardRequest: who may not touch an object may not have us do it, and what changed nothing sets off nothing.
func guardRequest(j *job) error {
	switch j.Kind {
	case Webhook, Event, RevokeToken: // they tell, or are about the one who asked
		return nil
	}
	if c := j.ev.Response.Code; c < 100 || c >= 400 {
		return deny("the request was answered with %d: a request that was refused sets off nothing on its object", c)
	}
	if DryRun(j.ev) {
		return deny("the request was a dry run, which changed nothing")
	}
	return nil
}

// DryRun reports whether the request asked to change nothing: what its answer shows is then nobody's state.
func DryRun(ev *audit.Event) bool {
	_, query, _ := strings.Cut(ev.RequestURI, "?")
	values, _ := url.ParseQuery(query) // what can be read of it, as the API server does
	if values.Has("dryRun") {
		return true
	}
	o := body(ev.RequestObject)
	return o != nil && (o.Kind == "DeleteOptions" && len(o.DryRun) > 0 || o.Kind == "Eviction" && len(o.DeleteOptions.DryRun) > 0)
}

// guardRate bounds how often. Attempts before a restart count.
func (a *Actor) guardRate(j *job) error {
	if len(a.log.attempts(j.Name, a.o.Now().Add(-j.Rate.Per))) >= j.Rate.N {
		return &verdict{rateLimited, fmt.Sprintf("%d attempts within %s are allowed", j.Rate.N, j.Rate.Per)}
	}
	return nil
}

// guardCooldown bounds how soon again on the same target.
func (a *Actor) guardCooldown(j *job) error {
	for _, e := range a.log.attempts(j.Name, a.o.Now().Add(-j.Cooldown)) {
		if e.Target == j.e.Target {
			return &verdict{cooldown, fmt.Sprintf("there was an attempt at %s, and for %s there is no other", time.UnixMicro(e.Micros).UTC().Format(time.RFC3339), j.Cooldown)}
		}
	}
	return nil
}
