package segmentstore

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"whodunit/internal/store"
)

// Metrics of a Store. Make them once for each registry.
type Metrics struct {
	seconds    *prometheus.HistogramVec
	rows       prometheus.Counter
	damaged    *prometheus.CounterVec
	pagesRead  prometheus.Counter
	pagesFound prometheus.Counter
}

// NewMetrics registers the metrics; reg may be nil.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "whodunit_store_query_seconds", Help: "Time that questions to the journal took, by kind.",
			Buckets: []float64{.001, .003, .01, .03, .1, .3, 1, 3, 10, 30, 100}}, []string{"kind"}),
		rows: prometheus.NewCounter(prometheus.CounterOpts{Name: "whodunit_store_rows_total", Help: "Events that questions looked at in any form."}),
		damaged: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "whodunit_store_skipped_events_total",
			Help: "Events, or blocks of the head, that an answer lacks because they could not be read, once for each question."}, []string{"reason"}),
		pagesRead:  prometheus.NewCounter(prometheus.CounterOpts{Name: "whodunit_store_raw_pages_read_total", Help: "Pages of raw events read from segments."}),
		pagesFound: prometheus.NewCounter(prometheus.CounterOpts{Name: "whodunit_store_raw_pages_cached_total", Help: "Pages of raw events found in the cache."}),
	}
	if reg != nil {
		reg.MustRegister(m.seconds, m.rows, m.damaged, m.pagesRead, m.pagesFound)
	}
	return m
}

// count takes a question that began at begin.
func (m *Metrics) count(kind string, begin, end time.Time, st store.Stats) {
	m.seconds.WithLabelValues(kind).Observe(end.Sub(begin).Seconds())
	m.rows.Add(float64(st.Rows))
	if st.Damaged > 0 {
		m.damaged.WithLabelValues("damaged").Add(float64(st.Damaged))
	}
	if st.Unreadable > 0 {
		m.damaged.WithLabelValues("unreadable").Add(float64(st.Unreadable))
	}
}
