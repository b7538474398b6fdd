// Package rule is what every rule format compiles to, how rules are loaded, and the immutable set that detection runs.
// Formats (native, falco, sigma and others) are front ends in sub-packages; each makes Rules whose Condition it owns.
package rule

import (
	"errors"
	"fmt"
	"slices"

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
	ID             string // unique in a Set; lower case letters, digits, dots and dashes
	Title          string // one line for people
	Description    string
	Severity       finding.Severity
	Tags           []string      // techniques: "attack.t1552.007", "ms-ta9025"
	Level          audit.Level   // the lowest audit level whose events can satisfy it; for coverage, never a filter
	Stages         []audit.Stage // the stages it looks at; never empty
	GroupBy        []string      // paths whose values make one alert of several findings
	References     []string
	FalsePositives []string

	Format       string // the front end that made it: "native"
	File         string // where it stands, as given to Load
	Line, Column int
	Disabled     bool // it holds its id, so that it can switch a shipped rule off, and never matches

	Condition Condition
	// Prefilter is implied by Condition: where it is false, Condition is never true. nil: nothing is known.
	Prefilter match.Expr
	Message   *Message
	Tests     []Test

	quick func(*audit.Event) bool // Prefilter compiled; see Compile
}

// DefaultStages are the stages of a rule that names none: all that a request can end in, and ResponseStarted, which only
// long-running requests (watch, exec, attach, port-forward, log -f) and refused logins (401) have. Such a request may stay
// open for hours, and a 401 has no later stage, so waiting for ResponseComplete would find the one late and the other never.
// That a request passes two of these stages does not make two findings: see package detect.
func DefaultStages() []audit.Stage {
	return []audit.Stage{audit.StageResponseStarted, audit.StageResponseComplete, audit.StagePanic}
}

// Compile makes r ready for Match. Load calls it; whoever builds a Rule by hand must, too.
func (r *Rule) Compile() *Rule {
	if r.Prefilter != nil {
		r.quick = compile(r.Prefilter)
	}
	return r
}

// Match reports whether ev satisfies the rule: its stage, then the prefilter, then the condition.
func (r *Rule) Match(ev *audit.Event) (bool, error) {
	if !r.Passes(ev) {
		return false, nil
	}
	return r.Condition.Match(ev)
}

// Passes reports whether stage and prefilter let ev through to the condition.
func (r *Rule) Passes(ev *audit.Event) bool {
	return (r.quick == nil || r.quick(ev)) && slices.Contains(r.Stages, ev.Stage)
}

// Finding is what r says about rec. The caller has matched it.
func (r *Rule) Finding(rec *audit.Record) finding.Finding {
	ev := &rec.Event
	return finding.Finding{
		Rule: r.ID, Title: r.Title, Severity: r.Severity, Tags: r.Tags, Message: r.Message.Render(ev),
		Events: []finding.Evidence{{Cluster: ev.Cluster, AuditID: ev.AuditID, Stage: ev.Stage, Identity: rec.Identity.String()}},
	}
}

// Where is the place of r in its file, for people.
func (r *Rule) Where() string { return fmt.Sprintf("%s:%d:%d", r.File, r.Line, r.Column) }
