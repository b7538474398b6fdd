package alert

import "github.com/prometheus/client_golang/prometheus"

// Metrics of delivery, by receiver.
type Metrics struct {
	Sent    *prometheus.CounterVec // receiver
	Skipped *prometheus.CounterVec // receiver, reason: severity, no_finding, query, silenced, old
	Dropped *prometheus.CounterVec // receiver, reason: rejected
	Retries *prometheus.CounterVec // receiver, step: notify, save
	Cursor  *prometheus.GaugeVec   // receiver: next sequence number of the findings' journal
}

// NewMetrics makes and registers the metrics; a nil registerer leaves them unregistered.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	vec := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "whodunit_notify_" + name, Help: help}, labels)
	}
	m := &Metrics{
		Sent:    vec("findings_total", "Findings that a receiver has taken.", "receiver"),
		Skipped: vec("skipped_total", "Records that were not meant for a receiver.", "receiver", "reason"),
		Dropped: vec("dropped_total", "Findings that a receiver refused for good; they stay in the journal.", "receiver", "reason"),
		Retries: vec("retries_total", "Tries again after a delivery or the cursor failed.", "receiver", "step"),
		Cursor: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "whodunit_notify_cursor",
			Help: "Next sequence number of the findings' journal that a receiver gets."}, []string{"receiver"}),
	}
	if reg != nil {
		reg.MustRegister(m.Sent, m.Skipped, m.Dropped, m.Retries, m.Cursor)
	}
	return m
}
