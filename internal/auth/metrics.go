package auth

import "github.com/prometheus/client_golang/prometheus"

// Metrics of logins and refused requests.
type Metrics struct {
	failures *prometheus.CounterVec
	logins   prometheus.Counter
	sessions prometheus.Gauge
}

// NewMetrics makes the metrics and registers them with reg unless it is nil.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "whodunit_auth_failures_total",
			Help: "Requests refused for their credentials, by reason (password, rate_limited, token, token_expired, session, scheme, scope, cross_origin).",
		}, []string{"reason"}),
		logins:   prometheus.NewCounter(prometheus.CounterOpts{Name: "whodunit_auth_logins_total", Help: "Logins with a right password."}),
		sessions: prometheus.NewGauge(prometheus.GaugeOpts{Name: "whodunit_auth_sessions", Help: "Sessions, counted when one begins or is ended."}),
	}
	for _, r := range []string{"password", "rate_limited", "token", "token_expired", "session", "scheme", "scope", "cross_origin"} {
		m.failures.WithLabelValues(r)
	}
	if reg != nil {
		reg.MustRegister(m.failures, m.logins, m.sessions)
	}
	return m
}
