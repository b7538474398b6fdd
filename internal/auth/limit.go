package auth

import (
	"hash/maphash"
	"net/netip"
	"sync"
	"time"
)

// limiter holds failures down to a burst and then one each `every`. Keys are hashed with a secret seed into a fixed table: its
// memory is bounded and no flood of new keys can push a key's failures out. Two keys in one slot share it, which an
// attacker cannot aim for.
type limiter struct {
	burst float64
	every time.Duration
	seed  maphash.Seed

	mu    sync.Mutex
	slots [8192]slot
}

type slot struct {
	used float64 // failures not yet forgiven
	at   time.Time
}

func newLimiter(burst int, every time.Duration) *limiter {
	return &limiter{burst: float64(burst), every: every, seed: maphash.MakeSeed()}
}

// at gives the key's slot, brought up to now. l.mu is held.
func (l *limiter) at(key string, now time.Time) *slot {
	s := &l.slots[maphash.String(l.seed, key)%uint64(len(l.slots))]
	if d := now.Sub(s.at); d > 0 {
		s.used = max(0, s.used-float64(d)/float64(l.every))
		s.at = now
	}
	return s
}

// wait is how long the key has to wait before the next attempt; 0: not at all.
func (l *limiter) wait(key string, now time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	over := l.at(key, now).used - (l.burst - 1)
	return max(0, time.Duration(over*float64(l.every)))
}

func (l *limiter) take(key string, now time.Time) { l.add(key, now, 1) }

// give takes an attempt back that turned out right.
func (l *limiter) give(key string, now time.Time) { l.add(key, now, -1) }

func (l *limiter) add(key string, now time.Time, n float64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.at(key, now)
	s.used = max(0, s.used+n)
}

// addressKey is the address, or the /64 network of an IPv6 one, which is what one subscriber has.
func addressKey(addr string) string {
	ip, err := netip.ParseAddr(addr)
	if err != nil {
		return addr
	}
	if ip = ip.Unmap(); ip.Is6() {
		if p, err := ip.WithZone("").Prefix(64); err == nil {
			return p.String()
		}
	}
	return ip.String()
}
