package app

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"whodunit/internal/act"
	"whodunit/internal/alert/post"
	"whodunit/internal/audit"
	"whodunit/internal/config"
	"whodunit/internal/finding"
	"whodunit/internal/match"
	"whodunit/internal/store"
	segmentstore "whodunit/internal/store/segment"
)

// ActionList is the configuration's actions as package act knows them.
func ActionList(c config.Actions) ([]act.Action, error) {
	out := make([]act.Action, len(c.List))
	for i, x := range c.List {
		out[i] = act.Action{Name: x.Name, Kind: act.Kind(x.Kind), Live: !x.DryRun, Rules: x.Rules, MinSeverity: finding.Severity(x.MinSeverity), Namespaces: x.Namespaces,
			Deny: x.DenyNamespaces, ClusterScoped: x.ClusterScoped, Rate: act.Rate{N: x.Rate, Per: x.RatePer.Std()}, Cooldown: x.Cooldown.Std(), Timeout: x.Timeout.Std(),
			Resources: x.Resources, BindRoles: x.BindRoles, SecretFile: x.HMACSecretFile}
		set := map[string]string{}
		for _, s := range x.Set {
			name, value, _ := strings.Cut(s, "=")
			set[name] = value
		}
		switch out[i].Kind {
		case act.Label:
			out[i].Labels = set
		case act.Annotate:
			out[i].Annotations = set
		case act.Webhook:
			out[i].Webhook = post.Config{URL: x.URL, TokenFile: x.TokenFile, Timeout: x.Timeout.Std()}
		}
		if err := out[i].Check(); err != nil {
			return nil, fmt.Errorf("actions.list[%d]: %w", i, err)
		}
	}
	return out, nil
}

// makeActions builds what acts on findings, if it is to.
func (a *App) makeActions() error {
	c := a.cfg.Actions
	actions, err := ActionList(c)
	if err != nil || !c.Enabled {
		return err
	}
	dir := filepath.Join(a.cfg.DataDir, "actions")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("cannot use data_dir: %w", err)
	}
	events := segmentstore.New(a.events, segmentstore.Options{CacheBytes: 4 << 20, Distinct: true})
	o := act.Options{Actions: actions, OwnNamespace: c.Namespace, Dir: dir, Version: a.o.Version, Emit: a.findings.Append,
		Event:  func(ctx context.Context, e finding.Evidence) (*audit.Event, error) { return evidence(ctx, events, e) },
		Before: func(ctx context.Context, ev *audit.Event) (*audit.Event, error) { return earlier(ctx, events, ev) },
		Named: func(id string) []string {
			if r, ok := a.rule(id); ok {
				return r.Actions
			}
			return nil
		},
		Logger: a.o.Log, Registerer: a.reg}
	for _, x := range c.Clusters {
		o.Clusters = append(o.Clusters, act.Cluster{Name: x.Name, Kubeconfig: x.Kubeconfig, Context: x.Context})
	}
	a.actor, err = act.New(o)
	return err
}

// startActions begins to read findings for actions.
func (a *App) startActions(ctx context.Context) error {
	if a.actor == nil {
		return nil
	}
	p, closeReader, err := a.pump("actions", "actions", a.actor, "", 0, nil)
	if err != nil {
		return err
	}
	a.restWG.Go(func() {
		defer closeReader()
		a.run(ctx, "actions", p.Run)
	})
	return nil
}

// own reports whether an event is of a request that an action made.
func (a *App) ownRequest(ev *audit.Event) bool { return a.actor != nil && a.actor.Own(ev) }

// errFound ends a search that has what it looks for.
var errFound = errors.New("found")

// evidence is the event that e names, nil if the journal does not have it.
func evidence(ctx context.Context, s store.Searcher, e finding.Evidence) (*audit.Event, error) {
	q := store.Query{Expr: match.And{
		&match.Pred{Path: "auditID", Op: match.Equal, Values: []string{e.AuditID}},
		&match.Pred{Path: "cluster", Op: match.Equal, Values: []string{e.Cluster}},
	}}
	return first(ctx, s, q, func(r *audit.Record) bool { return r.Identity.String() == e.Identity })
}

// earlier is the last earlier event about the object of ev that has its state in a response, nil if there is none. The answer to a dry run
// has no state in it, but what somebody would like it to be.
func earlier(ctx context.Context, s store.Searcher, ev *audit.Event) (*audit.Event, error) {
	equal := func(path, value string) match.Expr {
		if value == "" {
			return match.Not{X: &match.Pred{Path: path, Op: match.Present}}
		}
		return &match.Pred{Path: path, Op: match.Equal, Values: []string{value}}
	}
	o := ev.ObjectRef
	q := store.Query{To: ev.Micros(), Expr: match.And{
		equal("objectRef.resource", o.Resource), equal("objectRef.name", o.Name), equal("objectRef.namespace", o.Namespace), equal("objectRef.apiGroup", o.APIGroup),
		equal("objectRef.subresource", ""), equal("cluster", ev.Cluster), equal("stage", string(audit.StageResponseComplete)), equal("responseObject.metadata.name", o.Name),
		&match.Pred{Path: "responseStatus.code", Op: match.Less, Values: []string{"300"}},
		match.Not{X: &match.Pred{Path: "auditID", Op: match.Equal, Values: []string{ev.AuditID}}},
	}}
	return first(ctx, s, q, func(r *audit.Record) bool { return !act.DryRun(&r.Event) })
}

// first is the newest event that q and ok let through.
func first(ctx context.Context, s store.Searcher, q store.Query, ok func(*audit.Record) bool) (found *audit.Event, err error) {
	_, err = s.Search(ctx, q, func(r *audit.Record) error {
		if !ok(r) {
			return nil
		}
		found = &r.Event
		return errFound
	})
	if err != nil && !errors.Is(err, errFound) {
		return nil, fmt.Errorf("cannot look up event: %w", err)
	}
	return found, nil
}
