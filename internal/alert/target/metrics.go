package target

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	posts   *prometheus.CounterVec // type, result: ok, error, rejected, gave_up
	skipped *prometheus.CounterVec // reason: silenced, old, too_many, endpoint, gone
	active  prometheus.Gauge
	unsaved prometheus.Counter
	damaged prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		posts: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "whodunit_targets_posts_total",
			Help: "Posts to targets that alert files name: taken (ok), to be tried again (error), refused for good (rejected), not tried any longer (gave_up)."}, []string{"type", "result"}),
		skipped: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "whodunit_targets_skipped_total",
			Help: "Alerts that a target was not told of: silenced, too old, too many at a time, an endpoint that is no address, a rule or target that is gone."}, []string{"reason"}),
		active:  prometheus.NewGauge(prometheus.GaugeOpts{Name: "whodunit_targets_active", Help: "Alerts that targets are being told of, one for each target."}),
		unsaved: prometheus.NewCounter(prometheus.CounterOpts{Name: "whodunit_targets_save_errors_total", Help: "Writes of the targets' schedule that failed."}),
		damaged: prometheus.NewCounter(prometheus.CounterOpts{Name: "whodunit_targets_state_damaged_total", Help: "Schedules of the targets that could not be used at the start, and were set aside."}),
	}
	if reg != nil {
		reg.MustRegister(m.posts, m.skipped, m.active, m.unsaved, m.damaged)
	}
	return m
}

func (m *metrics) skip(reason string) { m.skipped.WithLabelValues(reason).Inc() }
