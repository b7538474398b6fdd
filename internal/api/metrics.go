package api

import "github.com/prometheus/client_golang/prometheus"

// Metrics of the API.
type Metrics struct {
	requests, panics, refused, dropped *prometheus.CounterVec
	seconds                            *prometheus.HistogramVec
	inFlight, tailing                  prometheus.Gauge
}

// NewMetrics makes the metrics and registers them with reg unless it is nil.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	m := &Metrics{
		requests: counter("whodunit_http_requests_total", "Requests answered, by route and status code (499: the client went away).", "route", "code"),
		panics:   counter("whodunit_http_panics_total", "Requests in which the server panicked. Any is a bug.", "route"),
		refused:  counter("whodunit_http_refused_total", "Requests refused because too many were running, by reason (busy, tails).", "reason"),
		dropped:  counter("whodunit_tail_dropped_total", "Events left out of live tails, by reason (slow_client).", "reason"),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "whodunit_http_request_seconds", Help: "How long requests took, streams until their end.",
			Buckets: []float64{.001, .005, .025, .1, .5, 1, 2.5, 10, 30, 60},
		}, []string{"route"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{Name: "whodunit_http_requests_in_flight", Help: "Requests being answered."}),
		tailing:  prometheus.NewGauge(prometheus.GaugeOpts{Name: "whodunit_tail_clients", Help: "Open live tails."}),
	}
	m.refused.WithLabelValues("busy")
	m.refused.WithLabelValues("tails")
	m.dropped.WithLabelValues("slow_client")
	if reg != nil {
		reg.MustRegister(m.requests, m.panics, m.refused, m.dropped, m.seconds, m.inFlight, m.tailing)
	}
	return m
}
