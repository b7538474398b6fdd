package correlate

import "github.com/prometheus/client_golang/prometheus"

// Metrics of correlations.
type Metrics struct {
	drops   *prometheus.CounterVec // reason: late, future
	evicted *prometheus.CounterVec // reason: memory, group
	hurried prometheus.Counter
	bytes   prometheus.Gauge
	waiting prometheus.Gauge
}

// NewMetrics makes and registers the metrics; a nil registerer leaves them unregistered.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: "whodunit_correlation_" + name, Help: help})
	}
	m := &Metrics{
		drops: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "whodunit_correlation_dropped_total",
			Help: "Events that came too late, or from too far in the future, to count in correlations."}, []string{"reason"}),
		evicted: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "whodunit_correlation_evicted_total",
			Help: "What correlations forgot before its time: whole groups (memory), or the oldest events of one (group)."}, []string{"reason"}),
		hurried: prometheus.NewCounter(prometheus.CounterOpts{Name: "whodunit_correlation_hurried_total",
			Help: "Events that could not wait for late ones because of memory."}),
		bytes:   gauge("bytes", "Memory of correlations, by their own reckoning."),
		waiting: gauge("waiting", "Events that wait for late ones."),
	}
	if reg != nil {
		reg.MustRegister(m.drops, m.evicted, m.hurried, m.bytes, m.waiting)
	}
	return m
}

func (m *Metrics) dropped(reason string) { m.drops.WithLabelValues(reason).Inc() }
