package file

import "github.com/prometheus/client_golang/prometheus"

// Metrics of all file sources.
type Metrics struct {
	bytes    prometheus.Counter
	skipped  *prometheus.CounterVec
	rotated  *prometheus.CounterVec
	problems *prometheus.CounterVec
	fails    *prometheus.CounterVec
}

// NewMetrics registers the metrics with reg, which may be nil.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		bytes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "whodunit_file_read_bytes_total", Help: "Bytes of lines that were read from files, decompressed, and delivered.",
		}),
		skipped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "whodunit_file_skipped_total", Help: "Parts of envelopes in files that are no audit events by right, by reason.",
		}, []string{"reason"}),
		rotated: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "whodunit_file_rotations_total", Help: "Files found renamed, truncated or gone, by reason.",
		}, []string{"reason"}),
		problems: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "whodunit_file_problems_total", Help: "Failures to open, read or watch files or to write the checkpoint, by reason. All are tried again but corrupt.",
		}, []string{"reason"}),
		fails: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "whodunit_file_emit_failures_total", Help: "Batches that have to be emitted again, by reason.",
		}, []string{"reason"}),
	}
	if reg != nil {
		reg.MustRegister(m.bytes, m.skipped, m.rotated, m.problems, m.fails)
	}
	return m
}

func (m *Metrics) skip(reason string, n int) { m.skipped.WithLabelValues(reason).Add(float64(n)) }

func (m *Metrics) problem(reason string) { m.problems.WithLabelValues(reason).Inc() }
