package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
)

// Identity tells events apart: two are the same if and only if cluster, auditID, stage and content are. It is the same
// for an event whether it came by webhook (whose items lack kind and apiVersion) or from the log, compact or indented.
// The first 16 bytes of SHA-256 over cluster NUL auditID NUL stage NUL and, for each other member of the object but kind
// and apiVersion, a comma and the member's compact text in the order it stands. docs/reference/identity.md specifies it.
type Identity [16]byte

// String is the identity in hexadecimal.
func (id Identity) String() string { return hex.EncodeToString(id[:]) }

// Identity computes the event's identity. It reads the whole of Raw: about 2 µs for an event of 3.6 KB.
func (e *Event) Identity() Identity {
	if e.spaced {
		var b bytes.Buffer
		if json.Compact(&b, e.Raw) == nil {
			if c, err := Parse(e.Cluster, b.Bytes()); err == nil && !c.spaced {
				return c.Identity()
			}
		}
	}
	h := sha256.New()
	for _, s := range [...]string{e.Cluster, e.AuditID, string(e.Stage)} {
		h.Write([]byte(s))
		h.Write([]byte{0})
	}
	first, second := e.ownKind, e.ownVersion
	if second.start < first.start {
		first, second = second, first
	}
	at := 1 // behind the opening brace
	for _, own := range [...]span{first, second, {len(e.Raw), len(e.Raw)}} {
		if own.end == 0 {
			continue // the member is missing
		}
		if run := bytes.Trim(e.Raw[at:max(at, min(own.start, len(e.Raw)-1))], ","); len(run) > 0 {
			h.Write([]byte{','})
			h.Write(run)
		}
		at = own.end
	}
	var id Identity
	copy(id[:], h.Sum(nil))
	return id
}

// RequestKey is a hash of cluster, auditID and stage alone, for noticing an auditID that comes again with other content.
func (e *Event) RequestKey() [8]byte {
	h := sha256.New()
	for _, s := range [...]string{e.Cluster, e.AuditID, string(e.Stage)} {
		h.Write([]byte(s))
		h.Write([]byte{0})
	}
	var k [8]byte
	copy(k[:], h.Sum(nil))
	return k
}
