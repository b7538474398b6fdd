package incident

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"whodunit/internal/atomicfile"
)

const (
	stateVersion = 1
	// saveEvery is how far the state on disk is behind, where writing it takes less than a tenth of that.
	saveEvery = 2 * time.Second
	saveAgain = 20 * time.Second // after a failure
	// grace is how long the alerts of a state last at least, so that those that findings read again belong to are still there.
	grace = time.Minute
)

// state is the file of a Tracker: JSON, replaced as a whole, mode 0600. docs/reference/alert-state.md specifies it.
//
//	{"version":1, "next":N, "alerts":[…]}
//
// next is the sequence in the findings' journal of the first finding that is not counted in alerts. The two are of one moment: whoever
// reads the journal from next and counts what comes gets what the program would have had without a restart. The alerts are the open ones
// and those that ended in the last 15 minutes. Members may be added under this version; a file of another version, one that is no such
// JSON, and one whose next is beyond the journal, are renamed to NAME.bad, and the program begins without.
type state struct {
	Version int      `json:"version"`
	Next    uint64   `json:"next"`
	Alerts  []record `json:"alerts"`
}

// record is an alert as the state keeps it. Its texts are clean and bounded; Labels is not changed once it is there.
type record struct {
	Labels     map[string]string `json:"labels"` // its identity
	Count      uint64            `json:"count"`  // findings
	Starts     time.Time         `json:"startsAt"`
	Ends       time.Time         `json:"endsAt"`
	Over       bool              `json:"over,omitempty"` // it ended at Ends
	Told       bool              `json:"told,omitempty"` // somebody was told of it
	First      time.Time         `json:"firstTime"`      // of the event of the first finding that was read
	FirstEvent string            `json:"firstEvent"`     // audit id, space, identity
	// Of the last finding that was read:
	Last      time.Time `json:"lastTime"`
	LastEvent string    `json:"lastEvent"`
	Summary   string    `json:"summary,omitempty"`
	Command   string    `json:"command,omitempty"`
	User      string    `json:"user,omitempty"`
	Namespace string    `json:"namespace,omitempty"`
	Resource  string    `json:"resource,omitempty"`
	SourceIP  string    `json:"sourceIP,omitempty"`
}

func (r *record) isOverflow() bool { return r.Labels[overflowLabel] == "true" }

// load reads the state. Every alert is put again: takers may have forgotten it.
func (t *Tracker) load() error {
	if t.o.StateFile == "" {
		return nil
	}
	b, err := os.ReadFile(t.o.StateFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot read alerts: %w", err)
	}
	s, err := parseState(b)
	if err != nil {
		return t.setAside("damaged", err)
	}
	if end := t.o.JournalEnd; end > 0 && s.Next > end {
		return t.setAside("foreign", fmt.Errorf("its next is %d, and the journal's %d", s.Next, end))
	}
	now := t.o.Now().UTC()
	t.next = s.Next
	for _, r := range s.Alerts {
		r.Told = true // the notification log knows; its receivers that are down hold up no others
		e := &entry{record: r, key: identityOf(r.Labels).key(), fresh: true}
		if r.Over {
			t.over[e.key] = e
			continue
		}
		if least := now.Add(min(grace, t.o.ResolveAfter)); e.Ends.Before(least) {
			e.Ends = least
		}
		t.add(e)
	}
	return nil
}

func parseState(b []byte) (state, error) {
	var s state
	if err := json.Unmarshal(b, &s); err != nil {
		return s, err
	}
	if s.Version != stateVersion {
		return s, fmt.Errorf("version %d is not known", s.Version)
	}
	for i := range s.Alerts {
		if s.Alerts[i].Labels["alertname"] == "" || s.Alerts[i].Starts.IsZero() {
			return s, fmt.Errorf("alert %d has no name or no start", i)
		}
	}
	return s, nil
}

// setAside renames a state that cannot be used. Its alerts are lost, and begin anew with their next finding.
func (t *Tracker) setAside(reason string, cause error) error {
	bad := t.o.StateFile + ".bad"
	if err := os.Rename(t.o.StateFile, bad); err != nil {
		return fmt.Errorf("cannot set damaged alerts aside: %w", err)
	}
	t.m.state.WithLabelValues(reason).Inc()
	t.o.Logger.Error("file of alerts cannot be used; it is set aside and the alerts begin anew", "file", bad, "error", cause)
	return nil
}

// persist writes the state, and then tells Saved. Without now, that is not before its time.
func (t *Tracker) persist(now bool) error {
	t.saving.Lock()
	defer t.saving.Unlock()
	t.mu.Lock()
	start := t.o.Now()
	if !t.dirty || !now && start.Before(t.nextSave) {
		t.mu.Unlock()
		return nil
	}
	s := t.snapshot()
	t.dirty, t.ended = false, false // ended even if writing fails: a full disk is not written to for each new alert
	t.mu.Unlock()

	reason, err := "write", t.write(s)
	if err == nil {
		reason, err = "cursor", t.o.Saved(s.Next)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	end := t.o.Now()
	t.nextSave = end.Add(max(saveEvery, 9*end.Sub(start)))
	if err == nil {
		return nil
	}
	t.dirty, t.nextSave = true, end.Add(saveAgain)
	t.m.state.WithLabelValues(reason).Inc()
	err = fmt.Errorf("cannot save alerts: %w", err)
	t.o.Logger.Error("alerts are not saved; they are tried again", "step", reason, "error", err)
	return err
}

func (t *Tracker) snapshot() state {
	s := state{Version: stateVersion, Next: t.next, Alerts: make([]record, 0, len(t.active)+len(t.over))}
	for _, of := range []map[string]*entry{t.active, t.over} {
		for _, e := range of {
			s.Alerts = append(s.Alerts, e.record)
		}
	}
	return s
}

func (t *Tracker) write(s state) error {
	if t.o.StateFile == "" {
		return nil
	}
	b, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return atomicfile.Write(t.o.StateFile, 0o600, b)
}
