package audit

// Record is one event as the journal keeps it. Like Event it is safe for concurrent reading and never changed.
type Record struct {
	Seq            uint64   // place in the journal, from 1, rising by one per event
	IngestedMicros int64    // when the journal took it: microseconds since 1970 UTC
	Source         string   // Origin.Source of its batch
	Identity       Identity // of Event
	Event          Event
}
