package journal

import (
	"fmt"
	"time"
)

// refusal says why nothing may be written now, "" if it may.
func (j *Journal) refusal() string {
	reason := ""
	free, err := freeBytes(j.dir)
	j.mu.Lock()
	defer j.mu.Unlock()
	switch {
	case err != nil:
		if j.fullReason == "" {
			j.o.Log.Warn("cannot watch free space", "err", err)
		}
	case free < j.o.MinFree:
		reason = fmt.Sprintf("%d MB free on its disk, journal.min_free keeps %d MB for sealing", free>>20, j.o.MinFree>>20)
	}
	if reason == "" && j.unsealed > j.o.MaxUnsealed {
		reason = "sealing is behind"
	}
	if reason == "" && j.o.MaxBytes > 0 && j.diskBytes() > j.o.MaxBytes {
		reason = "journal.max_size is reached"
	}
	if reason != "" || j.failedAt.IsZero() { // only a write shows that writing works again
		j.setFull(reason)
	}
	return reason
}

// setFull keeps why no events are taken, "" if they are, and says it when that begins and ends. j.mu is held.
func (j *Journal) setFull(reason string) {
	if reason != j.fullReason {
		switch {
		case reason == "":
			j.o.Log.Info("events are taken again")
		case j.fullReason == "": // its figures change with every look: once is enough
			j.o.Log.Error("no events are taken; sources hold and retry", "reason", reason)
		}
		if reason != "" {
			j.wake()
		}
	}
	j.fullReason = reason
}

// writeFailure counts and keeps the error of a write.
func (j *Journal) writeFailure(err error, batches int) error {
	j.writes(err.Error(), j.o.Now())
	if fullDisk(err) {
		j.m.failures.WithLabelValues("disk_full").Add(float64(batches))
		return fmt.Errorf("cannot append: %w: %w", ErrFull, err)
	}
	j.m.failures.WithLabelValues("write").Add(float64(batches))
	return fmt.Errorf("cannot append: %w", err)
}

// writes keeps how the last write went: an error's text and when that was, or "" and the zero time.
func (j *Journal) writes(failure string, at time.Time) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if failure != "" || !j.failedAt.IsZero() {
		j.setFull(failure)
	}
	j.failedAt = at
}

// tryAgain is how long after a failed write the journal counts as usable again if nobody writes.
const tryAgain = 10 * time.Second

// look finds out that there is room again when nobody appends: who is not ready is sent nothing, and would never become ready.
func (j *Journal) look() {
	j.mu.Lock()
	full := j.fullReason != ""
	if d := j.o.Now().Sub(j.failedAt); full && !j.failedAt.IsZero() && (d >= tryAgain || d < 0) {
		j.failedAt = time.Time{}
	}
	j.mu.Unlock()
	if full {
		j.refusal()
	}
}

// diskBytes is the size of WAL and segments. j.mu is held.
func (j *Journal) diskBytes() int64 {
	var n int64
	for _, s := range j.segments {
		n += s.file.Meta().FileBytes
	}
	for _, f := range j.files {
		n += f.size
	}
	return n
}
