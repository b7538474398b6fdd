package match

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/klauspost/compress/zstd"

	"whodunit/internal/audit"
)

// recordedLines is every step-th line of a recorded log.
func recordedLines(t testing.TB, name string, step int) [][]byte {
	dir := os.Getenv("WHODUNIT_SHARED")
	if dir == "" {
		dir = "../../../shared"
	}
	f, err := os.Open(filepath.Join(dir, "data", "audit", name))
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip("SKIPPED: no recorded events: ", err)
	}
	defer f.Close()
	z, err := zstd.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	lines := bufio.NewScanner(z)
	lines.Buffer(nil, audit.MaxEventBytes)
	var out [][]byte
	for i := 0; lines.Scan(); i++ {
		if i%step == 0 {
			out = append(out, bytes.Clone(lines.Bytes()))
		}
	}
	if lines.Err() != nil {
		t.Fatal(lines.Err())
	}
	return out
}

func questions() []Expr {
	return []Expr{
		And{p("verb", Equal, "delete"), p("objectRef.resource", Equal, "secrets"), Not{p("user.username", Prefix, "system:")}},
		p("responseStatus.code", GreaterEqual, "400"),
		p("requestObject.spec.template.spec.containers.image", Contains, "nginx"),
		p("requestObject.spec.containers.securityContext.privileged", Equal, "true"),
		p("annotations.authorization.k8s.io/decision", Equal, "forbid"),
		p("impersonatedUser.username", Exists),
		p("requestURI", Glob, "*/pods/*/exec?*"),
		fold("userAgent", Prefix, "KUBECTL/"),
		p("requestReceivedTimestamp", Less, "2026-11-21T13:26:00+00:00"),
		p("responseObject.items.metadata.name", Glob, "*-?????"),
		p("requestObject.op", Equal, "replace"),
		&Text{Word: "mallory"}, &Text{Word: "mall", Open: true}, &Text{Word: "/etc/shadow"}, &Text{Word: "rbac: allowed by"}, &Text{Word: "403"},
		&Text{Word: "cluster-admin"}, &Text{Word: "lusterrole"},
	}
}

func TestEvalIsTheOracleOnRecordedEvents(t *testing.T) {
	hits := make([]int, len(questions()))
	for _, line := range recordedLines(t, "apiserver-1.36.log.zst", 5) {
		ev, err := audit.Parse("", line)
		if err != nil {
			t.Fatal(err)
		}
		var tree any
		d := json.NewDecoder(bytes.NewReader(line))
		d.UseNumber()
		if err := d.Decode(&tree); err != nil {
			t.Fatal(err)
		}
		for i, e := range questions() {
			want := Eval(e, &ev)
			if want {
				hits[i]++
			}
			if _, text := e.(*Text); text && len(line) > 20_000 {
				continue // the oracle is too slow for these
			}
			if naive(e, tree) != want {
				t.Errorf("%v on %s: got %v", e, ev.AuditID, want)
			}
		}
	}
	for i, e := range questions() {
		t.Logf("%5d %v", hits[i], e)
	}
}

func BenchmarkEval(b *testing.B) {
	var events []audit.Event
	size := int64(0)
	for _, line := range recordedLines(b, "apiserver-1.36.log.zst", 20) {
		ev, err := audit.Parse("", line)
		if err != nil {
			b.Fatal(err)
		}
		events = append(events, ev)
		size += int64(len(line))
	}
	for _, e := range questions() {
		b.Run(e.String(), func(b *testing.B) {
			b.SetBytes(size / int64(len(events)))
			b.ReportAllocs()
			for i := range b.N {
				Eval(e, &events[i%len(events)])
			}
		})
	}
}
