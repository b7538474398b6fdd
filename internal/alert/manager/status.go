package manager

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/common/model"
)

// ReceiverStatus says how one integration of a receiver does. Receivers that no route uses have none.
type ReceiverStatus struct {
	Receiver     string
	Kind         string // slack, webhook, email and so on, or a kind of our own
	Index        int    // among those of this kind that the receiver has
	LastSuccess  time.Time
	LastFailure  time.Time
	LastError    string    // of LastFailure, without secrets; it stays after a success
	OK, Failed   uint64    // attempts since the start; what fails is mostly tried again
	FailingSince time.Time // first failure after the last success; zero: it does not fail
}

type receiverKey struct {
	receiver, kind string
	index          int
}

// book holds the status of all integrations; it outlives a configuration. It is safe for concurrent use.
type book struct {
	redact  *redactor
	metrics *metrics // nil: none
	told    func(labels map[string]string)
	mu      sync.Mutex
	all     map[receiverKey]*ReceiverStatus
	owed    map[model.Fingerprint]map[receiverKey]bool // alerts that integrations were not told of yet
}

func newBook(m *metrics, r *redactor, told func(map[string]string)) *book {
	return &book{redact: r, metrics: m, told: told, all: map[receiverKey]*ReceiverStatus{}, owed: map[model.Fingerprint]map[receiverKey]bool{}}
}

// keep makes keys the integrations that there are. Those that were there before keep their figures.
func (b *book) keep(keys []receiverKey) {
	b.mu.Lock()
	defer b.mu.Unlock()
	old := b.all
	b.all = make(map[receiverKey]*ReceiverStatus, len(keys))
	b.metrics.failing.Reset()
	for _, k := range keys {
		s := old[k]
		if s == nil {
			s = &ReceiverStatus{Receiver: k.receiver, Kind: k.kind, Index: k.index}
		}
		b.all[k] = s
		b.gauge(k, s)
	}
	b.forget()
}

func (b *book) gauge(k receiverKey, s *ReceiverStatus) {
	v := 0.0
	if !s.FailingSince.IsZero() {
		v = 1
	}
	b.metrics.failing.WithLabelValues(k.receiver, k.kind, strconv.Itoa(k.index)).Set(v)
}

// record takes the end of an attempt; err is without secrets.
func (b *book) record(k receiverKey, retry bool, err error) {
	result := "ok"
	if err != nil {
		result = "rejected"
		if retry {
			result = "retry"
		}
	}
	b.metrics.attempts.WithLabelValues(k.receiver, k.kind, result).Inc()
	now := time.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.all[k]
	if s == nil {
		return // a configuration that was replaced
	}
	if err == nil {
		s.OK++
		s.LastSuccess, s.FailingSince = now, time.Time{}
	} else {
		s.Failed++
		s.LastFailure, s.LastError = now, err.Error()
		if s.FailingSince.IsZero() {
			s.FailingSince = now
		}
	}
	b.gauge(k, s)
}

func (b *book) list() []ReceiverStatus {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := make([]ReceiverStatus, 0, len(b.all))
	for _, s := range b.all {
		out = append(out, *s)
	}
	slices.SortFunc(out, func(a, b ReceiverStatus) int {
		return cmp.Or(strings.Compare(a.Receiver, b.Receiver), strings.Compare(a.Kind, b.Kind), cmp.Compare(a.Index, b.Index))
	})
	return out
}
