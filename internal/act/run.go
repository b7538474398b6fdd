package act

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"whodunit/internal/alert"
	"whodunit/internal/audit"
	"whodunit/internal/finding"
	"whodunit/internal/rule"
)

// RulePrefix is how the rules of outcomes begin. Findings of such rules set off nothing.
const RulePrefix = "whodunit-action-"

const maxMessage = 1 << 10

// verdict is an error that says how an attempt ends.
type verdict struct {
	outcome outcome
	text    string
}

func (v *verdict) Error() string { return v.text }

func deny(format string, a ...any) error { return &verdict{refused, fmt.Sprintf(format, a...)} }

func cannot(format string, a ...any) error { return &verdict{unsupported, fmt.Sprintf(format, a...)} }

// job is one action that one finding asks for.
type job struct {
	*action
	f      *alert.Finding
	ev     *audit.Event // the whole event, or what the finding has of it
	e      *entry
	c      *client // nil for a webhook
	t      target
	before func(ctx context.Context, ev *audit.Event) (*audit.Event, error)
	own    string // our user name
}

// Notify does what the findings ask for, in order. Its errors say that nothing was attempted for the first finding that is not through
// yet, or that an outcome could not be kept or handed on; then call it again with the same findings.
func (a *Actor) Notify(ctx context.Context, findings []alert.Finding) error {
	for i := range findings {
		if err := a.finding(ctx, &findings[i]); err != nil {
			return err
		}
	}
	return nil
}

func (a *Actor) finding(ctx context.Context, f *alert.Finding) error {
	if strings.HasPrefix(f.Rule, RulePrefix) || f.State == finding.Resolved || f.Event == nil {
		return nil
	}
	ev, key := evidence(f)
	wanted := a.wanted(f)
	for _, act := range wanted {
		if a.log.get(key, act.Name) == nil {
			if err := a.first(ctx, f, act, ev, key); err != nil {
				return fmt.Errorf("cannot do action %s for finding %s: %w", act.Name, f.ID, err)
			}
		}
	}
	// What a crash or an error cut short is brought to its end, whatever the configuration asks for now.
	for _, e := range slices.Clone(a.log.byEvent[key]) {
		if e.Finding != f.ID {
			continue // the same event found by another rule, which asks for what was done already
		}
		if err := a.settle(ctx, f, ev, e); err != nil {
			return fmt.Errorf("cannot report action %s for finding %s: %w", e.Action, f.ID, err)
		}
	}
	return nil
}

// evidence is the event that f is about, and the name that the log has for it.
func evidence(f *alert.Finding) ([]finding.Evidence, string) {
	for _, e := range slices.Backward(f.Events) {
		if e.AuditID == f.Event.AuditID && e.Stage == f.Event.Stage && e.Identity != "" {
			return []finding.Evidence{e}, e.Cluster + "/" + e.Identity
		}
	}
	return f.Events, "finding/" + f.ID
}

// wanted are the actions that f asks for, in the order of the configuration.
func (a *Actor) wanted(f *alert.Finding) []*action {
	named := a.o.Named(f.Rule)
	var out []*action
	for _, act := range a.actions {
		if (slices.Contains(named, act.Name) || matches(act.Rules, f.Rule)) && (act.MinSeverity == "" || f.Severity.Rank() >= act.MinSeverity.Rank()) {
			out = append(out, act)
		}
	}
	for _, n := range named {
		if a.action(n) != nil {
			continue
		}
		a.metrics.unknown.Inc()
		if key := f.Rule + "\x00" + n; !a.unknown[key] && len(a.unknown) < 1000 {
			a.unknown[key] = true
			a.o.Logger.Warn("a rule names an action that is not configured", "rule", f.Rule, "action", n)
		}
	}
	return out
}

// first decides on an action that was not asked for before, and carries it out.
func (a *Actor) first(ctx context.Context, f *alert.Finding, act *action, ev []finding.Evidence, key string) error {
	j := &job{action: act, f: f, ev: f.Event, before: a.o.Before,
		e: &entry{Micros: a.o.Now().UnixMicro(), Event: key, Action: act.Name, Kind: act.Kind, Finding: f.ID, Rule: f.Rule}}
	err := a.guard(ctx, j, ev)
	var v *verdict
	switch {
	case errors.As(err, &v):
		a.finish(j.e, v.outcome, v.text)
		return a.log.save(j.e, false)
	case err != nil:
		return err
	}
	j.e.Tried = true
	if err := a.log.save(j.e, true); err != nil {
		a.log.drop(j.e)
		return err
	}
	a.finish(a.attempt(ctx, j))
	a.o.Logger.Info("action attempted", "action", act.Name, "outcome", j.e.Outcome, "target", j.e.Target, "rule", f.Rule, "finding", f.ID)
	return a.log.save(j.e, true)
}

// attempt carries an action out.
func (a *Actor) attempt(ctx context.Context, j *job) (e *entry, how outcome, text string) {
	limited, cancel := context.WithTimeout(ctx, j.Timeout)
	defer cancel()
	err := a.introduce(limited, j)
	if err == nil {
		text, err = j.do(limited)
	}
	var v *verdict
	switch {
	case errors.As(err, &v):
		return j.e, v.outcome, v.text
	case err != nil && ctx.Err() != nil:
		return j.e, interrupted, "we were stopped: it may or may not have been done"
	case err != nil:
		return j.e, failed, err.Error()
	case !j.Live:
		return j.e, dryRun, text
	}
	return j.e, done, text
}

// introduce learns who we are before the first request, so that the detector knows it for ours.
func (a *Actor) introduce(ctx context.Context, j *job) error {
	if j.c == nil {
		return nil
	}
	user, err := j.c.whoami(ctx)
	if err != nil {
		return fmt.Errorf("cannot ask the API server who we are: %w", err)
	}
	if err := a.learn(j.c.cluster, user); err != nil {
		return err
	}
	if ns, _, ok := serviceAccount(user); ok && ns == j.t.namespace {
		return deny("namespace %s is our own", ns)
	}
	j.own = user
	return nil
}

// finish writes the outcome into the entry.
func (a *Actor) finish(e *entry, how outcome, text string) {
	e.Outcome = how
	what := strings.ReplaceAll(string(e.Kind), "_", " ")
	if e.Target != "" {
		what += " " + e.Target
	}
	if text != "" {
		text = ": " + clean(text, maxMessage/2)
	}
	e.Message = clean(fmt.Sprintf("%s: %s%s (rule %s, finding %s)", what, strings.ReplaceAll(string(how), "_", " "), text, e.Rule, e.Finding), maxMessage)
	a.metrics.actions.WithLabelValues(e.Action, string(e.Kind), string(how)).Inc()
}

// settle hands an outcome on; again if the same finding came again.
func (a *Actor) settle(ctx context.Context, f *alert.Finding, ev []finding.Evidence, e *entry) error {
	if e.Outcome == "" {
		a.finish(e, interrupted, "we were stopped: it may or may not have been done")
		e.unsaved = true
	}
	if e.unsaved {
		if err := a.log.save(e, e.Tried); err != nil {
			return err
		}
	}
	doc, err := finding.Finding{Rule: RulePrefix + e.Action, Title: "Action " + e.Action, Severity: severity(e, f), Tags: []string{"whodunit.action"},
		Message: e.Message, Events: ev}.Event(f.Event)
	if err != nil {
		return err
	}
	return a.o.Emit(ctx, audit.Batch{Origin: audit.Origin{Source: "act"}, Events: []audit.Event{doc}})
}

// severity of an outcome: what was not done although it was wanted weighs more.
func severity(e *entry, f *alert.Finding) finding.Severity {
	switch e.Outcome {
	case refused, rateLimited, unsupported:
		return finding.Low
	case interrupted:
		return finding.Medium
	case failed:
		if f.Severity.Rank() >= finding.High.Rank() {
			return finding.High
		}
		return finding.Medium
	}
	return finding.Info
}

// clean makes hostile text fit for a line: printable, and of at most n bytes.
func clean(s string, n int) string {
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
	return rule.Shorten(s, n)
}

// age is how old an event is.
func age(f *alert.Finding, now time.Time) time.Duration { return now.Sub(f.Event.Time()) }
