package segment

import (
	"io"
	"path/filepath"
	"testing"

	"github.com/parquet-go/parquet-go"

	"whodunit/internal/audit"
)

// parquetRow is the file as another reader sees it, by its Parquet footer alone.
type parquetRow struct {
	Seq      int64    `parquet:"seq"`
	Identity [16]byte `parquet:"identity"`
	Flags    int32    `parquet:"flags"`
	Cluster  string   `parquet:"cluster"`
	Time     *int64   `parquet:"time,timestamp(microsecond)"`
	Verb     string   `parquet:"verb"`
	AuditID  string   `parquet:"audit_id"`
	Username string   `parquet:"username"`
	Groups   []string `parquet:"user_groups,list"`
	IPs      []string `parquet:"source_ips,list"`
	Resource string   `parquet:"resource"`
	Name     string   `parquet:"name"`
	Code     int32    `parquet:"code"`
	Size     int64    `parquet:"size"`
	Raw      []byte   `parquet:"raw"`
}

// TestParquet reads a file with a general Parquet reader.
func TestParquet(t *testing.T) {
	records := recorded(t, "apiserver-1.36.log.zst", 3000)
	dir := t.TempDir()
	a, b, path := filepath.Join(dir, "a.parquet"), filepath.Join(dir, "b.parquet"), filepath.Join(dir, "c.parquet")
	for p, rs := range map[string][]audit.Record{a: records[:1000], b: records[1000:]} {
		if _, err := Write(p, rs, rs[0].Seq, rs[len(rs)-1].Seq); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Merge(path, []string{a, b}); err != nil {
		t.Fatal(err)
	}
	f := open(t, path)
	pf, err := parquet.OpenFile(f.f, f.meta.FileBytes)
	if err != nil {
		t.Fatal(err)
	}
	if v, ok := pf.Lookup("whodunit.max_seq"); !ok || v != "3000" {
		t.Errorf("whodunit.max_seq is %q", v)
	}
	bySeq := map[int64]*audit.Record{}
	for i := range records {
		bySeq[int64(records[i].Seq)] = &records[i]
	}
	r := parquet.NewGenericReader[parquetRow](pf)
	defer func() { _ = r.Close() }()
	rows := make([]parquetRow, 500)
	total := 0
	for {
		n, err := r.Read(rows)
		for _, p := range rows[:n] {
			w := bySeq[p.Seq]
			ev := &w.Event
			if string(p.Raw) != string(ev.Raw) || p.Identity != w.Identity || p.Verb != ev.Verb || p.AuditID != ev.AuditID || p.Username != ev.User.Username ||
				p.Resource != ev.ObjectRef.Resource || p.Name != ev.ObjectRef.Name || int(p.Code) != ev.Response.Code || p.Cluster != "prod" ||
				len(p.Groups) != len(ev.User.Groups) || len(p.IPs) != len(ev.SourceIPs) || p.Time == nil || *p.Time != ev.Micros() || p.Size != int64(len(ev.Raw)) {
				t.Fatalf("row of seq %d is %+v, want %s", p.Seq, p, ev.Raw)
			}
			for i := range p.Groups {
				if p.Groups[i] != ev.User.Groups[i] {
					t.Fatalf("groups of seq %d are %q", p.Seq, p.Groups)
				}
			}
		}
		total += n
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if total != len(records) {
		t.Errorf("%d rows, want %d", total, len(records))
	}
	for _, rg := range pf.RowGroups() {
		filter := rg.ColumnChunks()[AuditID].BloomFilter()
		if filter == nil {
			t.Fatal("no bloom filter on audit_id")
		}
		false1 := 0
		for i := range records {
			in := records[i].Seq <= 1000 == (rg.NumRows() == 1000)
			ok, err := filter.Check(parquet.ByteArrayValue([]byte(records[i].Event.AuditID)))
			if err != nil || in && !ok {
				t.Fatalf("bloom filter of audit_id: %v, %v", ok, err)
			}
			if ok && !in {
				false1++
			}
		}
		if false1 > 150 { // the stages of one request share an auditID
			t.Errorf("%d false positives", false1)
		}
	}
}
