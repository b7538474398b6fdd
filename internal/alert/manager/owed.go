package manager

import (
	amalert "github.com/prometheus/alertmanager/alert"
	"github.com/prometheus/common/model"
)

// maxOwed bounds the alerts that are remembered as not told.
const maxOwed = 10_000

// owe notes that an integration is about to be told of alerts that go on, and is not yet.
func (b *book) owe(k receiverKey, alerts []*amalert.Alert) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.all[k] == nil {
		return // a configuration that was replaced
	}
	for _, a := range alerts {
		if a.Resolved() {
			continue
		}
		fp := a.Fingerprint()
		if b.owed[fp] == nil {
			if len(b.owed) >= maxOwed {
				return
			}
			b.owed[fp] = map[receiverKey]bool{}
		}
		b.owed[fp][k] = true
	}
}

// settle notes that an integration was told of alerts, or refuses them for good.
func (b *book) settle(k receiverKey, alerts []*amalert.Alert) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, a := range alerts {
		fp := a.Fingerprint()
		if delete(b.owed[fp], k); len(b.owed[fp]) == 0 {
			delete(b.owed, fp)
		}
	}
}

// forget drops what is owed to integrations that are gone. b.mu is held.
func (b *book) forget() {
	for fp, to := range b.owed {
		for k := range to {
			if b.all[k] == nil {
				delete(to, k)
			}
		}
		if len(to) == 0 {
			delete(b.owed, fp)
		}
	}
}

// Owed reports whether a receiver that the alert with these labels is routed to was not told of it yet, because the attempts so far failed in a
// way that is worth another, or the first one is under way. An alert that ends meanwhile would never be told.
func (m *Manager) Owed(labels map[string]string) bool {
	set := make(model.LabelSet, len(labels))
	for k, v := range labels {
		set[model.LabelName(k)] = model.LabelValue(v)
	}
	m.book.mu.Lock()
	defer m.book.mu.Unlock()
	return len(m.book.owed[set.Fingerprint()]) > 0
}
