package journal

import "github.com/prometheus/client_golang/prometheus"

// Metrics are the journal's, labelled with its name.
type Metrics struct {
	appended, appendedBytes, walBytes prometheus.Counter
	duplicates, failures, damaged     *prometheus.CounterVec
	idReused                          prometheus.Counter
	syncSeconds                       prometheus.Histogram
	sealed, sealSeconds               prometheus.Counter
	merged, retired                   prometheus.Counter
	overrun, resets                   *prometheus.CounterVec
	segments, bytes, headEvents, last prometheus.Gauge
}

// NewMetrics registers the metrics of the journal of that name ("events", "findings").
func NewMetrics(reg prometheus.Registerer, name string) *Metrics {
	label := prometheus.Labels{"journal": name}
	counter := func(n, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: "whodunit_journal_" + n, Help: help, ConstLabels: label})
		reg.MustRegister(c)
		return c
	}
	vec := func(n, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "whodunit_journal_" + n, Help: help, ConstLabels: label}, labels)
		reg.MustRegister(c)
		return c
	}
	gauge := func(n, help string) prometheus.Gauge {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Name: "whodunit_journal_" + n, Help: help, ConstLabels: label})
		reg.MustRegister(g)
		return g
	}
	m := &Metrics{
		appended:      counter("appended_events_total", "Events made durable."),
		appendedBytes: counter("appended_bytes_total", "Raw bytes of the events made durable."),
		walBytes:      counter("wal_written_bytes_total", "Bytes written to the write-ahead log."),
		duplicates:    vec("duplicates_total", "Events dropped because the journal has them already.", "reason"),
		failures:      vec("append_failures_total", "Batches refused; their sources deliver them again.", "reason"),
		damaged:       vec("damaged_events_total", "Events lost to damage on disk.", "reason"),
		idReused:      counter("audit_id_reused_total", "Events whose auditID and stage came before with other content."),
		syncSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "whodunit_journal_sync_seconds", ConstLabels: label,
			Help: "Time of one group commit: write and fsync.", Buckets: prometheus.ExponentialBuckets(0.0002, 2, 14)}),
		sealed:      counter("sealed_segments_total", "Segments written."),
		sealSeconds: counter("seal_seconds_total", "Time spent writing segments."),
		merged:      counter("merged_segments_total", "Small segments replaced by merged ones."),
		retired:     counter("retired_events_total", "Events deleted by retention."),
		overrun:     vec("cursor_overrun_events_total", "Events deleted by retention or lost before the reader of this cursor had them.", "cursor"),
		resets:      vec("cursor_resets_total", "Cursors whose file was damaged: their readers began again at the oldest event.", "cursor"),
		segments:    gauge("segments", "Segments now."),
		bytes:       gauge("size_bytes", "Bytes on disk now, WAL and segments."),
		headEvents:  gauge("unsealed_events", "Events that are in the WAL only."),
		last:        gauge("last_seq", "Sequence number of the newest event."),
	}
	reg.MustRegister(m.syncSeconds)
	return m
}
