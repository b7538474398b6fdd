package segment

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"
)

// Verify reads the whole file and says what is damaged. The error is ctx's or the file system's; damage is in the report.
func (f *File) Verify(ctx context.Context) (Report, error) {
	r := Report{Meta: f.meta}
	for _, l := range f.lost {
		r.problem("%s", l)
	}
	if err := f.verifyEnds(&r); err != nil {
		return r, err
	}
	for i := range f.groups {
		g := &f.groups[i]
		if err := g.verify(ctx, &r); err != nil {
			return r, fmt.Errorf("cannot verify %s: %w", f.path, err)
		}
		records, damaged, err := g.Records(ctx)
		if err != nil {
			return r, fmt.Errorf("cannot verify %s: %w", f.path, err)
		}
		r.Rows += int64(len(records))
		r.DamagedRows += damaged
		for i := range records {
			if rec := &records[i]; rec.Event.Identity() != rec.Identity {
				r.problem("event %d: its content is not that of its identity", rec.Seq)
			}
		}
	}
	return r, nil
}

// verifyEnds checks both copies of the index, and the Parquet footer against what the index makes of it.
func (f *File) verifyEnds(r *Report) error {
	frame, err := f.index.frame()
	if err != nil {
		return err
	}
	footer, err := f.index.footer(f.start, int64(len(frame)))
	if err != nil {
		return err
	}
	st, err := f.f.Stat()
	if err != nil {
		return err
	}
	if x, _, err := f.second(st.Size()); err != nil {
		r.problem("second index: %v", err)
	} else if x.meta.MaxSeq != f.index.meta.MaxSeq || len(x.groups) != len(f.index.groups) {
		r.problem("the copies of the index differ")
	}
	var magic [4]byte
	if _, err := f.f.ReadAt(magic[:], 0); err != nil || string(magic[:]) != parquetMagic {
		r.problem("no Parquet magic at the start")
	}
	got := make([]byte, len(footer)+8)
	if _, err := f.f.ReadAt(got, max(0, st.Size()-int64(len(got)))); err != nil {
		r.problem("Parquet footer: %v", err)
		return nil
	}
	// What another version of this program wrote may be encoded otherwise, so the text decides only with checksum and magic.
	if string(got[len(footer):]) != string(size32(len(footer)))+parquetMagic || !bytes.Equal(got[:len(footer)], footer) {
		var m format.FileMetaData
		var err error
		func() {
			defer recovered(&err)
			err = thrift.Unmarshal(&thrift.CompactProtocol{}, got[:len(footer)], &m)
		}()
		r.problem("Parquet footer: not what was written (%v)", err)
	}
	return nil
}

func (g *Group) verify(ctx context.Context, r *Report) error {
	bad := func(c Column, what string, err error) error {
		if err == nil {
			return nil
		}
		if !errors.Is(err, ErrCorrupt) {
			return err
		}
		r.DamagedPages++
		s := schema()
		r.problem("column %s: %s: %v", s[c].name, what, err)
		return nil
	}
	for c := range numColumns {
		if err := ctx.Err(); err != nil {
			return err
		}
		ch := &g.g.columns[c]
		pages := ch.pages
		if ch.dict != nil {
			pages = append([]page{*ch.dict}, pages...)
		}
		for i := range pages {
			p := pages[i]
			r.Pages++
			copies := []int64{p.off}
			if p.spare > 0 {
				copies = append(copies, p.spare)
			}
			for _, off := range copies {
				p.off, p.spare = off, 0
				if _, err := g.page(&p); err != nil {
					if err := bad(c, "page", err); err != nil {
						return err
					}
				}
			}
		}
		if ch.bloom.size > 0 {
			_, err := g.read(ch.bloom, ch.bloom.off)
			if err := bad(c, "bloom filter", err); err != nil {
				return err
			}
		}
	}
	for _, t := range g.g.tokens {
		_, err := g.read(t.blob, t.off)
		if err := bad(Raw, "word filter", err); err != nil {
			return err
		}
	}
	return nil
}

// Salvage writes to dst whatever events of src can still be read, checked and encoded afresh, and says how many are lost. It
// holds one row group at a time; its intermediate files stand beside dst and are removed.
func Salvage(dst, src string) (m Meta, lost int64, err error) {
	f, err := Open(src)
	if err != nil {
		return Meta{}, 0, fmt.Errorf("cannot salvage segment: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	var parts []string
	defer func() {
		for _, p := range parts {
			_ = os.Remove(p)
		}
	}()
	from := f.meta.MinSeq
	for i := range f.groups {
		records, damaged, err := f.groups[i].Records(context.Background())
		if err != nil {
			return Meta{}, lost, fmt.Errorf("cannot salvage segment: %w", err)
		}
		lost += damaged
		to := f.groups[i].g.maxSeq
		if i == len(f.groups)-1 {
			to = f.meta.MaxSeq
		}
		part := fmt.Sprintf("%s.part%d", dst, i)
		parts = append(parts, part)
		if _, err := Write(part, records, from, to); err != nil {
			return Meta{}, lost, err
		}
		from = to + 1
	}
	if len(parts) == 0 {
		m, err = Write(dst, nil, f.meta.MinSeq, f.meta.MaxSeq)
		return m, lost, err
	}
	m, err = Merge(dst, parts)
	return m, lost, err
}
