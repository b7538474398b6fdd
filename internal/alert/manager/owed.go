package manager

import (
	"time"

	amalert "github.com/prometheus/alertmanager/alert"
)

const (
	// maxOwed bounds the alerts that are remembered as not told, keepOwed for how long.
	maxOwed  = 10_000
	keepOwed = 25 * time.Hour
)

// owed is what integrations were told of an alert.
type owed struct {
	to   map[receiverKey]bool // they were not told, and it is tried
	told bool                 // one was
	at   time.Time            // of the last attempt
}

// owe notes that an integration is about to be told of alerts that go on.
func (b *book) owe(k receiverKey, alerts []*amalert.Alert) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.all[k] == nil {
		return // a configuration that was replaced
	}
	now := time.Now()
	for _, a := range alerts {
		if a.Resolved() {
			continue
		}
		fp := a.Fingerprint()
		o := b.owed[fp]
		if o == nil {
			if len(b.owed) >= maxOwed && !b.makeRoom(now) {
				return
			}
			o = &owed{to: map[receiverKey]bool{}}
			b.owed[fp] = o
		}
		o.to[k], o.at = true, now
	}
}

// makeRoom forgets what is old. b.mu is held.
func (b *book) makeRoom(now time.Time) bool {
	for fp, o := range b.owed {
		if now.Sub(o.at) > keepOwed {
			delete(b.owed, fp)
		}
	}
	return len(b.owed) < maxOwed
}

// settle notes that an integration was told of alerts, or refuses them for good.
func (b *book) settle(k receiverKey, alerts []*amalert.Alert, told bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, a := range alerts {
		fp := a.Fingerprint()
		o := b.owed[fp]
		if o == nil {
			continue
		}
		o.told = o.told || told
		if delete(o.to, k); len(o.to) == 0 {
			delete(b.owed, fp)
		}
	}
}

// forget drops what is owed to integrations that are gone. b.mu is held.
func (b *book) forget() {
	for fp, o := range b.owed {
		for k := range o.to {
			if b.all[k] == nil {
				delete(o.to, k)
			}
		}
		if len(o.to) == 0 {
			delete(b.owed, fp)
		}
	}
}

// Owed reports whether nobody was told of the alert with these labels though somebody is to be: all attempts so far failed in a way that is worth
// another, or the first is under way. An alert that ends meanwhile would never be told. Where one receiver was told, others that are down hold
// up nothing.
func (m *Manager) Owed(labels map[string]string) bool {
	m.book.mu.Lock()
	defer m.book.mu.Unlock()
	o := m.book.owed[labelSet(labels).Fingerprint()]
	return o != nil && !o.told
}
