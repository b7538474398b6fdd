package webhook

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics of all webhook sources.
type Metrics struct {
	requests *prometheus.CounterVec
	events   prometheus.Counter
	bytes    prometheus.Counter
	seconds  prometheus.Histogram
	inFlight prometheus.Gauge
}

// NewMetrics registers the metrics with reg, which may be nil.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "whodunit_webhook_requests_total", Help: "Requests to the webhook source, by the status code and the reason of the answer.",
		}, []string{"code", "reason"}),
		events: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "whodunit_webhook_events_total", Help: "Events that came by webhook and were made durable.",
		}),
		bytes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "whodunit_webhook_body_bytes_total", Help: "Bytes of bodies read by the webhook source, decompressed.",
		}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "whodunit_webhook_answer_seconds", Help: "Time from a request's begin to its answer.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 25, 30},
		}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "whodunit_webhook_in_flight_bytes", Help: "Memory taken by bodies that are not answered yet.",
		}),
	}
	if reg != nil {
		reg.MustRegister(m.requests, m.events, m.bytes, m.seconds, m.inFlight)
	}
	return m
}

func (m *Metrics) answered(a answer) {
	m.requests.WithLabelValues(strconv.Itoa(a.code), a.reason).Inc()
}
