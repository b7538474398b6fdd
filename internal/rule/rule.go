// Package rule is what every rule format compiles to, how rules are loaded, and the immutable set that detection runs.
// Formats (native, falco, sigma and others) are front ends in sub-packages; each makes Rules whose Condition it owns.
package rule

import (
	"errors"
	"fmt"
	"time"

	"whodunit/internal/audit"
	"whodunit/internal/finding"
	"whodunit/internal/match"
)

// Condition decides about one event. It is safe for concurrent use. An error says why it could not decide, and then the
// event counts as not matched: ErrMissing, ErrCost and ErrEval tell the reasons apart.
type Condition interface {
	Match(ev *audit.Event) (bool, error)
}

// The reasons for which a condition cannot decide. They are wrapped; Reason turns them into a metric label.
var (
	// ErrMissing: the event lacks a field that the condition reads without has(). Normal for events of a lower level.
	ErrMissing = errors.New("field is missing")
	// ErrCost: the condition used up its cost limit. The rule, or the event, is too large.
	ErrCost = errors.New("cost limit exceeded")
	// ErrEval: anything else: a value of another type than the condition expects, a bad regular expression.
	ErrEval = errors.New("cannot evaluate condition")
)

// Reason is the metric label of an error of Condition.Match: "missing", "cost" or "eval".
func Reason(err error) string {
	switch {
	case errors.Is(err, ErrMissing):
		return "missing"
	case errors.Is(err, ErrCost):
		return "cost"
	}
	return "eval"
}

// Rule is one detection. It is immutable once loaded and safe for concurrent use.
type Rule struct {
	ID             string // unique in a Set; for formats that have no ids, made of the name
	Title          string // one line for people; the name, in formats that have one
	Description    string
	Severity       finding.Severity
	Priority       string        // the severity in the rule's own words: "WARNING" in Falco, "high" in Sigma; "" where it has none
	Tags           []string      // techniques: "attack.t1552.007", "ms-ta9025"
	Level          audit.Level   // the lowest audit level whose events can satisfy it; for coverage, never a filter
	Stages         []audit.Stage // the stages it looks at; nil: all
	GroupBy        []string      // paths whose values make one alert of several findings
	References     []string
	Runbook        string   // a link to what to do; "" where the rule has none
	Actions        []string // names of actions of the configuration that its findings set off; never more than the configuration allows
	Targets        []Target // where its alerts go besides the configured receivers: Parseable's
	FalsePositives []string

	Format       string // the front end that made it: "native", "falco", "sigma", "parseable", "label"
	Layer        int    // the place among the layers given to Load
	File         string // where it stands: the layer's name and the path in it
	Line, Column int
	Order        int    // among the rules of its format, where the format gives the order a meaning
	Off          string // why it never matches: "enabled: false", "list tor_exits is empty". It holds its id, so that it can switch a shipped rule off. "": it is on

	PerEvent bool // every event that satisfies it is a finding; otherwise one finding a request, however many events the request has
	Silent   bool // it makes no findings of its own; correlations look at it

	// Expr and then Condition must hold. What Expr can say needs no Condition (nil), and a Condition without Expr (nil) is asked for
	// every event. Both are nil in a rule with a Correlation.
	Expr      match.Expr
	Condition Condition
	// Correlation makes findings of what other rules match. nil: the rule looks at single events.
	Correlation *Correlation

	Message Renderer // nil: the title, user, verb and URI
	Tests   []Test
}

// Target is a place that a Parseable alert names: docs/reference/rules-parseable.md. It holds secrets.
type Target struct {
	Type               string // "slack", "webhook" or "alertmanager"
	Endpoint           string // a secret; as it stands in the file, a placeholder perhaps
	Headers            map[string]string
	Username, Password string
	SkipTLSCheck       bool
	Interval           time.Duration // between repeats
	Times              int           // repeats after the first message; below 0: without end
	// Labels are what Alertmanager is told of the rule, as its file has it: rule_type, rule_config_column and so on. nil for others.
	Labels map[string]string
}

// Renderer makes a finding's message of an event. Immutable, safe for concurrent use. The result is hostile text, and shares no memory with ev.
type Renderer interface {
	Render(ev *audit.Event) string
}

// DefaultStages are the stages of a rule that names none: all that a request can end in, and ResponseStarted, which only
// long-running requests (watch, exec, attach, port-forward, log -f) and refused logins (401) have. Such a request may stay
// open for hours, and a 401 has no later stage, so waiting for ResponseComplete would find the one late and the other never.
// That a request passes two of these stages does not make two findings: see package detect.
func DefaultStages() []audit.Stage {
	return []audit.Stage{audit.StageResponseStarted, audit.StageResponseComplete, audit.StagePanic}
}

// Match reports whether ev satisfies the rule, by the plain interpreter. It is always false for a correlation.
func (r *Rule) Match(ev *audit.Event) (bool, error) {
	if r.Off != "" || r.Correlation != nil || !match.Eval(r.Whole(), ev) {
		return false, nil
	}
	if r.Condition == nil {
		return true, nil
	}
	return r.Condition.Match(ev)
}

// Whole is the stages and Expr as one expression: what must hold before Condition is asked.
func (r *Rule) Whole() match.Expr {
	if len(r.Stages) == 0 {
		return r.Expr
	}
	stages := make([]string, len(r.Stages))
	for i, s := range r.Stages {
		stages[i] = string(s)
	}
	stage := &match.Pred{Path: "stage", Op: match.Equal, Values: stages}
	if r.Expr == nil {
		return stage
	}
	return match.And{stage, r.Expr}
}

// Text is the message for ev.
func (r *Rule) Text(ev *audit.Event) string {
	switch {
	case r.Message != nil:
		return r.Message.Render(ev)
	case ev.Flags&audit.FlagGeneric != 0: // it has no user and no verb
		return r.Title
	}
	return defaultMessage(r.Title).Render(ev)
}

// Finding is what r says about ev, whose identity is id. The caller has matched it.
func (r *Rule) Finding(ev *audit.Event, id audit.Identity) finding.Finding {
	return finding.Finding{
		Rule: r.ID, Title: r.Title, Severity: r.Severity, Priority: r.Priority, Format: r.Format, Tags: r.Tags, Message: r.Text(ev),
		Events: []finding.Evidence{Evidence(ev, id)}, Group: r.group(ev),
	}
}

// Bounds of a finding's group.
const (
	maxGroup      = 8   // paths
	maxGroupValue = 200 // bytes
)

// group is the values in ev of what r groups by: of a correlation that does not say, what it counts by.
func (r *Rule) group(ev *audit.Event) map[string]string {
	var out map[string]string
	add := func(name string, values func(yield func(string) bool)) {
		if out == nil {
			out = map[string]string{}
		}
		if len(out) == maxGroup {
			return
		}
		out[name] = ""
		values(func(v string) bool {
			out[name] = Shorten(v, maxGroupValue)
			return false
		})
	}
	for _, path := range r.GroupBy {
		add(path, match.Values(ev, path))
	}
	if len(r.GroupBy) > 0 || r.Correlation == nil {
		return out
	}
	for _, k := range r.Correlation.GroupBy {
		values := match.Values(ev, k.Path)
		if k.Values != nil {
			values = func(yield func(string) bool) { k.Values(ev, k.Path, yield) }
		}
		add(k.Name, values)
	}
	return out
}

// Evidence names ev in a finding.
func Evidence(ev *audit.Event, id audit.Identity) finding.Evidence {
	return finding.Evidence{Cluster: ev.Cluster, AuditID: ev.AuditID, Stage: ev.Stage, Identity: id.String()}
}

// Where is the place of r in its file, for people.
func (r *Rule) Where() string { return fmt.Sprintf("%s:%d:%d", r.File, r.Line, r.Column) }
