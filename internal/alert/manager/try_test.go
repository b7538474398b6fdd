package manager

import (
	"context"
	"testing"
	"time"

	amalert "github.com/prometheus/alertmanager/alert"
	"github.com/prometheus/common/model"

	"whodunit/internal/alert"
)

func sampleAlert() *amalert.Alert {
	return &amalert.Alert{Alert: model.Alert{Labels: model.LabelSet{"alertname": "A", "user": "<x>"}, StartsAt: time.Now()}}
}

func samplesOf(a *amalert.Alert) []*amalert.Alert { return []*amalert.Alert{a} }

func TestTry(t *testing.T) {
	good, got := webhook(t)
	r := newRecorder()
	r.notify = func(_ context.Context, g alert.Group) error {
		if g.Alerts[0].Labels[SampleLabel] != SampleMark {
			t.Error(g)
		}
		return alert.ErrRejected
	}
	m := start(t, Options{ConfigFile: yml(t, routing, "REST", good, "TEAM", good), Own: func(name string) []Own {
		if name == "a" {
			return r.own("")
		}
		return nil
	}})
	ds, err := m.Try(t.Context(), map[string]string{"alertname": "X", "team": "a", "quiet": "yes"}, map[string]string{"summary": "s"})
	if err != nil || len(ds) != 4 { // two routes, each to the webhook and the recorder of a
		t.Fatal(ds, err)
	}
	for i, d := range ds {
		if d.Receiver != "a" || d.Silenced || d.Inhibited || d.Duration <= 0 || (d.Kind == "webhook") != d.OK || (d.Error == "") != d.OK ||
			(i >= 2) != (len(d.MutedBy) == 1) {
			t.Errorf("%+v", d)
		}
	}
	for range 2 {
		if g := next(t, got); g.Alerts[0].Annotations["summary"] != "["+SampleMark+"] s" || g.Alerts[0].Labels["alertname"] != "X" {
			t.Error(g)
		}
	}
	if _, err := m.Try(t.Context(), map[string]string{"bad\xff": "x"}, nil); err == nil {
		t.Error("a label that is none")
	}
	put(t, m, firing("alertname", "Source", "severity", "critical", "user", "eve"))
	next(t, got)
	ds, err = m.Try(t.Context(), map[string]string{"alertname": "X", "severity": "low", "user": "eve"}, nil)
	if err != nil || len(ds) != 1 || !ds[0].Inhibited || !ds[0].OK {
		t.Error(ds, err)
	}
}
