package segment

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"whodunit/internal/atomicfile"
	"whodunit/internal/audit"
)

// Contains reports whether an event of that identity is in the file. It asks each row group's bloom filter first and reads
// identities only where that says maybe, or where it is damaged.
func (f *File) Contains(id audit.Identity) (bool, error) {
	for i := range f.groups {
		g := &f.groups[i]
		if !g.MayHold(Identity, string(id[:])) {
			continue
		}
		ids, err := g.Identities()
		if errors.Is(err, ErrCorrupt) {
			records, _, err := g.Records(context.Background())
			if err != nil {
				return false, err
			}
			if slices.ContainsFunc(records, func(r audit.Record) bool { return r.Identity == id }) {
				return true, nil
			}
			continue
		}
		if err != nil {
			return false, err
		}
		if slices.Contains(ids, id) {
			return true, nil
		}
	}
	return false, nil
}

// Identities gives sequence number, identity and audit.Event.RequestKey of every event from a sequence number on, in rising order
// of sequence numbers. It reads small columns; only where one is damaged does it go to the raw events, and leaves out what cannot be
// read there either.
func (f *File) Identities(ctx context.Context, from uint64, yield func(seq uint64, id audit.Identity, key [8]byte)) error {
	for i := range f.groups {
		g := &f.groups[i]
		if g.g.maxSeq < from {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		es, err := g.entries()
		if errors.Is(err, ErrCorrupt) {
			es, err = g.slowEntries(ctx)
		}
		if err != nil {
			return err
		}
		slices.SortFunc(es, func(x, y entry) int { return cmp.Compare(x.seq, y.seq) })
		for _, e := range es {
			if e.seq >= from {
				yield(e.seq, e.id, e.key)
			}
		}
	}
	return nil
}

type entry struct {
	seq uint64
	id  audit.Identity
	key [8]byte
}

func (g *Group) entries() ([]entry, error) {
	seqs, err := g.Numbers(Seq)
	if err != nil {
		return nil, err
	}
	ids, err := g.Identities()
	if err != nil {
		return nil, err
	}
	var columns [3]Texts
	for i, c := range [...]Column{Cluster, AuditID, Stage} {
		if columns[i], err = g.Texts(c); err != nil {
			return nil, err
		}
	}
	out := make([]entry, len(seqs))
	for i := range out {
		ev := audit.Event{Cluster: columns[0].At(i), AuditID: columns[1].At(i), Stage: audit.Stage(columns[2].At(i))}
		if strings.Contains(ev.AuditID, "\uFFFD") || strings.Contains(string(ev.Stage), "\uFFFD") { // perhaps not what raw says
			return g.slowEntries(context.Background())
		}
		out[i] = entry{uint64(seqs[i]), ids[i], ev.RequestKey()}
	}
	return out, nil
}

func (g *Group) slowEntries(ctx context.Context) ([]entry, error) {
	records, _, err := g.Records(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]entry, len(records))
	for i := range records {
		out[i] = entry{records[i].Seq, records[i].Identity, records[i].Event.RequestKey()}
	}
	return out, nil
}

// Remove deletes a segment. One that is gone already is no error.
func Remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("cannot remove segment: %w", err)
	}
	return atomicfile.SyncDir(filepath.Dir(path))
}

// Move puts a segment into another folder of the same file system, under its own name.
func Move(path, dir string) error {
	if err := os.Rename(path, filepath.Join(dir, filepath.Base(path))); err != nil {
		return fmt.Errorf("cannot move segment: %w", err)
	}
	return errors.Join(atomicfile.SyncDir(dir), atomicfile.SyncDir(filepath.Dir(path)))
}
