package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/klauspost/compress/zstd"

	"whodunit/internal/audit"
)

// template is one recorded event with the places of what differs in each repetition.
type template struct {
	raw            []byte // as in an EventList: without kind and apiVersion
	id             int    // where its 36 characters of auditID begin
	received, done int    // where its timestamps begin
	t0, t1         time.Time
}

// corpus is repeated with new auditIDs, and later by its own length each time.
type corpus struct {
	events []template
	length time.Duration
}

const stampForm = "2006-01-02T15:04:05.000000Z"

func loadCorpus(path string) (*corpus, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	z, err := zstd.NewReader(f)
	if err != nil {
		return nil, err
	}
	defer z.Close()
	s := bufio.NewScanner(z)
	s.Buffer(nil, audit.MaxEventBytes)
	c := &corpus{}
	first, last := time.Time{}, time.Time{}
	for s.Scan() {
		line := bytes.Replace(bytes.Clone(s.Bytes()), []byte(`"kind":"Event","apiVersion":"audit.k8s.io/v1",`), nil, 1)
		e, err := audit.Parse("", bytes.Clone(line))
		if err != nil {
			return nil, err
		}
		t := template{raw: line, id: place(line, "auditID"), received: place(line, "requestReceivedTimestamp"), done: place(line, "stageTimestamp"),
			t0: time.UnixMicro(e.ReceivedMicros).UTC(), t1: time.UnixMicro(e.StageMicros).UTC()}
		if len(e.AuditID) != 36 || t.id < 0 || t.received < 0 || t.done < 0 {
			continue
		}
		if first.IsZero() || t.t0.Before(first) {
			first = t.t0
		}
		if t.t1.After(last) {
			last = t.t1
		}
		c.events = append(c.events, t)
	}
	c.length = last.Sub(first)
	if len(c.events) == 0 {
		return nil, fmt.Errorf("%s has no events", path)
	}
	return c, s.Err()
}

// place is where the text of a top-level member begins; the envelope's members come once or before and behind the bodies.
func place(line []byte, name string) int {
	key := []byte(`"` + name + `":"`)
	find := bytes.Index
	if name != "auditID" {
		find = bytes.LastIndex
	}
	if i := find(line, key); i >= 0 {
		return i + len(key)
	}
	return -1
}

func (c *corpus) mean() int {
	n := 0
	for _, t := range c.events {
		n += len(t.raw)
	}
	return n / len(c.events)
}

// auditID is that of the i-th event sent.
func auditID(i int) string { return fmt.Sprintf("%08x-bbbb-4bbb-8bbb-%012x", uint32(i)*2654435761, i) }

// append writes the i-th event of the repeated corpus.
func (c *corpus) append(dst []byte, i int) []byte {
	t := &c.events[i%len(c.events)]
	shift := time.Duration(i/len(c.events)) * c.length
	at := len(dst)
	dst = append(dst, t.raw...)
	copy(dst[at+t.id:], auditID(i))
	copy(dst[at+t.received:], t.t0.Add(shift).Format(stampForm))
	copy(dst[at+t.done:], t.t1.Add(shift).Format(stampForm))
	return dst
}

// list is an EventList of events from to to-1.
func (c *corpus) list(dst []byte, from, to int) []byte {
	dst = append(dst, `{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":[`...)
	for i := from; i < to; i++ {
		if i > from {
			dst = append(dst, ',')
		}
		dst = c.append(dst, i)
	}
	return append(dst, `]}`...)
}

// file writes the first n events of the repeated corpus as an audit log.
func (c *corpus) file(path string, n int) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(f, 1<<20)
	var line []byte
	for i := range n {
		line = append(c.append(line[:0], i), '\n')
		if _, err := w.Write(line); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	return errors.Join(w.Flush(), f.Close())
}
