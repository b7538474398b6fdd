package detect

import (
	"crypto/sha256"
	"encoding/binary"

	"whodunit/internal/audit"
)

// seenPerGeneration bounds the memory of findings: twice so many keys of 16 bytes, some 10 MB.
const seenPerGeneration = 100_000

// seen remembers which rule has found which request, so that one request gives one finding a rule though it has several
// events: exec over WebSocket has a ResponseStarted and, perhaps hours later, a ResponseComplete. Two generations: when the
// younger is full the older is forgotten, and then a long request may give a second finding, never none.
type seen struct {
	young, old map[[16]byte]struct{}
	limit      int
}

func newSeen(limit int) *seen {
	return &seen{young: map[[16]byte]struct{}{}, limit: limit}
}

// add reports whether k is new.
func (s *seen) add(k [16]byte) bool {
	if _, ok := s.young[k]; ok {
		return false
	}
	_, known := s.old[k]
	if len(s.young) >= s.limit {
		s.old, s.young = s.young, map[[16]byte]struct{}{}
	}
	s.young[k] = struct{}{}
	return !known
}

// requestKey tells requests apart. The audit id alone would not do, because clients choose it and could hide one request
// behind another: the time at which the API server received it, to the microsecond, and what was asked for are part of it.
func requestKey(id string, ev *audit.Event) [16]byte { return ruleKey(id, requestHash(ev)) }

// requestHash is what requestKey is made of but for the rule.
func requestHash(ev *audit.Event) [sha256.Size]byte {
	b := make([]byte, 0, 1024) // enough for nearly all, on the stack
	for _, s := range [...]string{ev.Cluster, ev.AuditID, ev.Verb, ev.RequestURI, ev.User.Username, ev.Impersonated.Username, ev.UserAgent} {
		b = append(binary.AppendUvarint(b, uint64(len(s))), s...)
	}
	return sha256.Sum256(binary.LittleEndian.AppendUint64(b, uint64(ev.ReceivedMicros)))
}

func ruleKey(id string, request [sha256.Size]byte) (k [16]byte) {
	h := sha256.Sum256(append(append(make([]byte, 0, 256), request[:]...), id...))
	copy(k[:], h[:])
	return k
}
