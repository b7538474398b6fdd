package manager

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	attempts  *prometheus.CounterVec // receiver, kind, result: ok, retry, rejected
	failing   *prometheus.GaugeVec   // receiver, kind, index
	damaged   *prometheus.CounterVec // store: silences, nflog
	snapshots *prometheus.CounterVec // store, result: ok, error
	spared    prometheus.Counter

	// Alertmanager's process has these by itself, under these names.
	requests                          *prometheus.HistogramVec
	receivers, integrations, inhibits prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer) *metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "whodunit_notify_" + name, Help: help}, labels)
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: "alertmanager_" + name, Help: help})
	}
	m := &metrics{
		attempts: counter("attempts_total", "Attempts to notify a receiver.", "receiver", "kind", "result"),
		failing: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "whodunit_notify_failing",
			Help: "1 if the last attempt to notify a receiver failed."}, []string{"receiver", "kind", "index"}),
		damaged: counter("snapshots_damaged_total", "Snapshots that could not be read and were set aside.", "store"),
		snapshots: counter("snapshots_total", "Snapshots of silences and of the notification log that were written.", "store",
			"result"),
		spared: prometheus.NewCounter(prometheus.CounterOpts{Name: "whodunit_notify_log_lines_left_out_total",
			Help: "Warnings and errors that were not written to the log, because there were too many with the same message."}),
		requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "alertmanager_http_request_duration_seconds",
			Help: "Time to answer a request.", Buckets: prometheus.DefBuckets}, []string{"handler", "method", "code"}),
		receivers:    gauge("receivers", "Receivers that a route uses."),
		integrations: gauge("integrations", "Integrations of these receivers."),
		inhibits:     gauge("inhibition_rules", "Inhibition rules."),
	}
	reg.MustRegister(m.attempts, m.failing, m.damaged, m.snapshots, m.spared, m.requests, m.receivers, m.integrations, m.inhibits)
	return m
}
