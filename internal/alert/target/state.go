package target

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"whodunit/internal/atomicfile"
)

const stateVersion = 1

// state is the file: what is to be posted when, and the first finding that is not in it. It names rules and places among their targets, so
// no address and no password is in it. docs/reference/alert-state.md specifies it.
type state struct {
	Version int    `json:"version"`
	Next    uint64 `json:"next"`
	Runs    []*run `json:"runs"`
}

// load reads the file, if there is one.
func (n *Notifier) load() error {
	if n.o.StateFile == "" {
		return nil
	}
	b, err := os.ReadFile(n.o.StateFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot read the targets' schedule: %w", err)
	}
	if err := n.read(b); err != nil { // better no schedule than no server
		bad := n.o.StateFile + ".bad"
		if err := os.Rename(n.o.StateFile, bad); err != nil {
			return fmt.Errorf("cannot set the targets' damaged schedule aside: %w", err)
		}
		n.m.damaged.Inc()
		n.o.Logger.Error("the targets' schedule cannot be used; it is set aside, and alerts begin anew", "file", bad, "error", err)
	}
	return nil
}

func (n *Notifier) read(b []byte) error {
	var s state
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	if s.Version != stateVersion {
		return fmt.Errorf("version %d is not known", s.Version)
	}
	n.nextSeq, n.known = s.Next, true
	for _, r := range s.Runs {
		if r == nil || r.Target < 0 || r.Sent < 0 || len(n.s.runs) >= n.s.most {
			continue
		}
		if r.Again { // whether the end was told before nobody knows
			r.Again, r.Sent = false, 0
		}
		n.s.runs[r.key()] = r
	}
	return nil
}

// snapshot is the file's content as of now.
func (n *Notifier) snapshot() ([]byte, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := state{Version: stateVersion, Next: n.nextSeq, Runs: make([]*run, 0, len(n.s.runs))}
	for _, r := range n.s.runs {
		s.Runs = append(s.Runs, r)
	}
	slices.SortFunc(s.Runs, func(a, b *run) int {
		if c := strings.Compare(a.Rule, b.Rule); c != 0 {
			return c
		}
		if c := strings.Compare(a.Cluster, b.Cluster); c != 0 {
			return c
		}
		return a.Target - b.Target
	})
	return json.Marshal(s)
}

// write makes the schedule durable.
func (n *Notifier) write() error {
	if n.o.StateFile == "" {
		return nil
	}
	n.saving.Lock() // so that an older snapshot never replaces a newer one
	defer n.saving.Unlock()
	b, err := n.snapshot()
	if err == nil {
		err = atomicfile.Write(n.o.StateFile, 0o600, b)
	}
	if err != nil {
		n.m.unsaved.Inc()
		return fmt.Errorf("cannot write the targets' schedule: %w", err)
	}
	return nil
}
