package incident

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	active                                               prometheus.Gauge
	started, resolved, findings, overflow, retries, held prometheus.Counter
	skipped, dropped, state                              *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "whodunit_alerts_" + name, Help: help})
	}
	reasons := func(name, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "whodunit_alerts_" + name, Help: help}, []string{"reason"})
	}
	m := &metrics{
		active:   prometheus.NewGauge(prometheus.GaugeOpts{Name: "whodunit_alerts_active", Help: "Open alerts."}),
		started:  counter("started_total", "Alerts that began."),
		resolved: counter("resolved_total", "Alerts that ended."),
		findings: counter("findings_total", "Findings read to make alerts."),
		overflow: counter("overflow_total", "Findings counted to their rule's overflow alert, because too many alerts are open."),
		held:     counter("held_total", "Alerts whose end was put off because a receiver was not told of them yet."),
		retries:  counter("put_retries_total", "Tries again after alerts could not be handed over."),
		skipped:  reasons("skipped_total", "Findings that make no alert: old, replayed, no_alert (nothing to resolve) or full."),
		dropped:  reasons("dropped_total", "Alerts that were refused for good: rejected."),
		state:    reasons("state_errors_total", "Failures of the alerts' state: damaged, foreign, write or cursor."),
	}
	if reg != nil {
		reg.MustRegister(m.active, m.started, m.resolved, m.findings, m.overflow, m.held, m.retries, m.skipped, m.dropped, m.state)
	}
	return m
}
