package act

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	actions *prometheus.CounterVec
	unknown prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		actions: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "whodunit_actions_total", Help: "Actions that findings asked for, by outcome."}, []string{"action", "kind", "outcome"}),
		unknown: prometheus.NewCounter(prometheus.CounterOpts{Name: "whodunit_actions_unknown_total", Help: "Actions that rules name and the configuration lacks."}),
	}
	if reg != nil {
		reg.MustRegister(m.actions, m.unknown)
	}
	return m
}
