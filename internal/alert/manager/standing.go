package manager

import (
	"context"
	"slices"

	"github.com/prometheus/alertmanager/marker"
)

// Standing says where an alert goes, and what keeps it from being told now.
type Standing struct {
	Receivers   []string // of the routes that match, in their order
	SilencedBy  []string // ids of silences
	InhibitedBy []string // fingerprints of alerts
}

// Standing is that of an alert with these labels. It is for alerts that were put.
func (m *Manager) Standing(labels map[string]string) Standing {
	var out Standing
	set := labelSet(labels)
	m.mu.RLock()
	defer m.mu.RUnlock()
	gen := m.gen.Load()
	for _, r := range gen.routes.Match(set) {
		if !slices.Contains(out.Receivers, r.RouteOpts.Receiver) {
			out.Receivers = append(out.Receivers, r.RouteOpts.Receiver)
		}
	}
	if _, err := m.alerts.Get(set.Fingerprint()); err != nil || m.stopped {
		return out // the silencer would remember it for ever
	}
	marks := marker.NewAlertMarker()
	ctx := marker.WithContext(context.Background(), marks)
	m.silencer.Mutes(ctx, set)
	gen.inhibitor.Mutes(ctx, set)
	status := marks.Status(set.Fingerprint())
	out.SilencedBy, out.InhibitedBy = slices.Clone(status.SilencedBy), slices.Clone(status.InhibitedBy)
	return out
}
