package audit

// MaxBatchBytes bounds the raw bytes of one batch. A batch of a single event may be larger, up to MaxEventBytes.
const MaxBatchBytes = 8 << 20

// MaxEventBytes bounds one event. kube-apiserver accepts objects of 3 MB, but events of 24 MB (a list's response) have been
// recorded; longer lines are set aside and counted.
const MaxEventBytes = 50 << 20

// Origin says where a batch came from, for evidence and for people. It is kept with the batch in the journal.
type Origin struct {
	Source   string // the source's name in the configuration, e.g. "webhook"
	Position string // where in it, in the source's own words, e.g. "/var/log/audit.log:1043-88211" or a peer's address
}

// Batch is a group of events that become durable together. Its receiver owns it and everything it points to.
type Batch struct {
	Origin Origin
	Events []Event
}

// Bytes is the sum of the raw sizes.
func (b *Batch) Bytes() int {
	n := 0
	for i := range b.Events {
		n += len(b.Events[i].Raw)
	}
	return n
}

// Split cuts b into batches of at most MaxBatchBytes, or of one event where that alone is larger. Order stays.
func (b Batch) Split() []Batch {
	var out []Batch
	start, size := 0, 0
	for i := range b.Events {
		n := len(b.Events[i].Raw)
		if i > start && size+n > MaxBatchBytes {
			out = append(out, Batch{Origin: b.Origin, Events: b.Events[start:i]})
			start, size = i, 0
		}
		size += n
	}
	if start < len(b.Events) {
		out = append(out, Batch{Origin: b.Origin, Events: b.Events[start:]})
	}
	return out
}
