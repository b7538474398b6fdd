package detect

import "github.com/prometheus/client_golang/prometheus"

// Metrics of detection. Labels: rule is the rule's id, reason is missing, cost, eval, panic or encode.
type Metrics struct {
	Events      prometheus.Counter     // records read
	Own         prometheus.Counter     // of them, events of the server's own requests
	Cursor      prometheus.Gauge       // the next sequence number to read
	Evaluations *prometheus.CounterVec // rule: conditions run, after stage and prefilter
	Findings    *prometheus.CounterVec // rule, severity
	Repeated    *prometheus.CounterVec // rule: further events of a request that gave a finding already
	Seconds     *prometheus.CounterVec // rule: time spent in its condition
	Engine      prometheus.Counter     // time spent in the engine, which runs all rules as one
	Errors      *prometheus.CounterVec // rule, reason
	Retries     *prometheus.CounterVec // step: emit or save
	Rules       prometheus.Gauge       // rules in force
	Problems    prometheus.Gauge       // problems of the last load
	Reloads     *prometheus.CounterVec // result: ok, partial
}

// NewMetrics makes and registers the metrics; a nil registerer leaves them unregistered.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	vec := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "whodunit_" + name, Help: help}, labels)
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: "whodunit_" + name, Help: help})
	}
	m := &Metrics{
		Events:      prometheus.NewCounter(prometheus.CounterOpts{Name: "whodunit_detect_events_total", Help: "Events that the detector has read."}),
		Own:         prometheus.NewCounter(prometheus.CounterOpts{Name: "whodunit_detect_own_events_total", Help: "Events of requests that the server's own actions made, at which no rule looks."}),
		Cursor:      gauge("detect_cursor", "Next journal sequence number that the detector reads."),
		Evaluations: vec("rule_evaluations_total", "Conditions evaluated, after stage and prefilter.", "rule"),
		Findings:    vec("findings_total", "Findings made.", "rule", "severity"),
		Repeated:    vec("findings_repeated_total", "Further events of a request that gave a finding already.", "rule"),
		Seconds:     vec("rule_seconds_total", "Time spent in a rule's condition.", "rule"),
		Engine:      prometheus.NewCounter(prometheus.CounterOpts{Name: "whodunit_detect_engine_seconds_total", Help: "Time spent in the engine, which runs all rules as one."}),
		Errors:      vec("rule_errors_total", "Evaluations that could not decide, and count as not matched.", "rule", "reason"),
		Retries:     vec("detect_retries_total", "Tries again after findings or the cursor could not be written.", "step"),
		Rules:       gauge("rules", "Rules in force."),
		Problems:    gauge("rule_problems", "Problems in the rule files as last read."),
		Reloads:     vec("rule_reloads_total", "Times the rules were read.", "result"),
	}
	if reg != nil {
		reg.MustRegister(m.Events, m.Own, m.Cursor, m.Evaluations, m.Findings, m.Repeated, m.Seconds, m.Engine, m.Errors, m.Retries, m.Rules, m.Problems, m.Reloads)
	}
	return m
}
