package sourcetest

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// Metric is the sum of the series of the counter or gauge name whose labels hold all of the pairs (name, value, …); 0
// where there is none.
func Metric(t testing.TB, g prometheus.Gatherer, name string, pairs ...string) float64 {
	t.Helper()
	families, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			have := map[string]string{}
			for _, l := range m.GetLabel() {
				have[l.GetName()] = l.GetValue()
			}
			match := true
			for i := 0; i+1 < len(pairs); i += 2 {
				match = match && have[pairs[i]] == pairs[i+1]
			}
			if match {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}
