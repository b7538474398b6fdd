package segment

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"whodunit/internal/audit"
)

// scanBytes is about how many raw bytes Scan hands out at once.
const scanBytes = 4 << 20

// Keeper is what a record has beside its event: the columns that cannot be had from raw.
type Keeper struct {
	seq, ingested   []int64
	source, cluster Texts
	flags           []uint32
	identity        []audit.Identity // nil where the column is damaged: it is computed then
}

// Keeper reads what Record needs beside the raw events.
func (g *Group) Keeper() (k *Keeper, err error) {
	k = &Keeper{}
	if k.seq, err = g.Numbers(Seq); err != nil {
		return nil, err
	}
	if k.ingested, err = g.Numbers(Ingested); err != nil {
		return nil, err
	}
	if k.source, err = g.Texts(Source); err != nil {
		return nil, err
	}
	if k.cluster, err = g.Texts(Cluster); err != nil {
		return nil, err
	}
	if k.flags, err = g.FlagBits(); err != nil {
		return nil, err
	}
	if k.identity, err = g.Identities(); err != nil {
		if !errors.Is(err, ErrCorrupt) {
			return nil, err
		}
		k.identity = nil
	}
	return k, nil
}

// Record makes the record of row i from its raw event, which it takes.
func (k *Keeper) Record(i int, raw []byte) (audit.Record, error) {
	ev, err := audit.Parse(k.cluster.At(i), raw)
	if err != nil {
		return audit.Record{}, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	ev.Flags = audit.Flags(k.flags[i])
	r := audit.Record{Seq: uint64(k.seq[i]), IngestedMicros: k.ingested[i], Source: k.source.At(i), Event: ev}
	if k.identity != nil {
		r.Identity = k.identity[i]
	} else {
		r.Identity = ev.Identity()
	}
	return r, nil
}

// Records reads all events of the group, in the order of their sequence numbers, with damaged ones left out and counted.
// Events of one page share memory.
func (g *Group) Records(ctx context.Context) (records []audit.Record, damaged int64, err error) {
	k, err := g.Keeper()
	if errors.Is(err, ErrCorrupt) {
		return nil, int64(g.g.rows), nil
	}
	if err != nil {
		return nil, 0, err
	}
	records = make([]audit.Record, 0, g.g.rows)
	for i, p := range g.RawPages() {
		if err := ctx.Err(); err != nil {
			return nil, 0, err
		}
		raws, err := g.RawPage(i)
		if errors.Is(err, ErrCorrupt) {
			damaged += int64(p.Rows)
			continue
		}
		if err != nil {
			return nil, 0, err
		}
		for j, raw := range raws {
			r, err := k.Record(p.First+j, raw)
			if err != nil {
				damaged++
				continue
			}
			records = append(records, r)
		}
	}
	slices.SortFunc(records, func(x, y audit.Record) int { return cmp.Compare(x.Seq, y.Seq) })
	return records, damaged, nil
}

// Scan hands out the records whose sequence number is at least from, in the order of their sequence numbers, some megabytes at
// a time; yield may keep them. Events that cannot be read are left out and counted: all of a row group that begins before
// from, too. It holds one row group's events at a time. The error is yield's, ctx's or the file system's.
func (f *File) Scan(ctx context.Context, from uint64, yield func([]audit.Record) error) (damaged int64, err error) {
	for i := range f.groups {
		g := &f.groups[i]
		if g.g.maxSeq < from {
			continue
		}
		records, lost, err := g.Records(ctx)
		damaged += lost
		if err != nil {
			return damaged, err
		}
		at, _ := slices.BinarySearchFunc(records, from, func(r audit.Record, seq uint64) int { return cmp.Compare(r.Seq, seq) })
		for records = records[at:]; len(records) > 0; {
			n, size := 0, 0
			for n < len(records) && size < scanBytes {
				size += len(records[n].Event.Raw)
				n++
			}
			if err := yield(records[:n:n]); err != nil {
				return damaged, err
			}
			records = records[n:]
		}
	}
	return damaged, nil
}
