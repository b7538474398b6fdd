package native

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/fstest"

	"whodunit/internal/rule"
)

// manyRules are n rules such as people write, 1,000 a file: half of them about the header alone.
func manyRules(n int) fstest.MapFS {
	fsys := fstest.MapFS{}
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "id: rule-%d\ntitle: Rule number %d\ndescription: What to do when rule %d was found.\nseverity: high\ntags: [attack.t1552.007, ms-ta9025]\nlevel: Request\n", i, i, i)
		fmt.Fprintf(&b, "params: {allowed: [\"system:node:*\", \"user-%d\"]}\n", i)
		switch i % 4 {
		case 0:
			fmt.Fprintf(&b, "condition: objectRef.resource == \"secrets\" && verb in [\"get\", \"list\"] && objectRef.namespace == \"ns-%d\" && !glob(user.username, params.allowed)\n", i)
		case 1:
			fmt.Fprintf(&b, "condition: >\n  verb == \"create\" && objectRef.subresource == \"exec\" && responseStatus.code < 300 &&\n  user.username.startsWith(\"user-%d\")\n", i)
		case 2:
			fmt.Fprintf(&b, "condition: >\n  verb in [\"create\", \"update\", \"patch\"] && containers(requestObject).exists(c, c.image.startsWith(\"evil-%d\")) && !glob(user.username, params.allowed)\n", i)
		case 3:
			fmt.Fprintf(&b, "condition: objectRef.resource == \"pods\" && podSpecs(requestObject).exists(s, s.hostNetwork == true || s.nodeName == \"n%d\")\n", i)
		}
		b.WriteString("message: \"{user.username|nobody} did {verb} {objectRef.name|(all)} in {objectRef.namespace|the whole cluster}\"\ngroup_by: [user.username]\n---\n")
		if i%1000 == 999 {
			fsys[fmt.Sprintf("f%05d.yaml", i)] = &fstest.MapFile{Data: []byte(b.String())}
			b.Reset()
		}
	}
	return fsys
}

// BenchmarkLoad20000 reports, beside the time, what the rules hold in memory.
func BenchmarkLoad20000(b *testing.B) {
	fsys, f := manyRules(20_000), format(b)
	var before, after runtime.MemStats
	for b.Loop() {
		runtime.GC()
		runtime.ReadMemStats(&before)
		loaded := rule.Load([]rule.Layer{{FS: fsys}}, f)
		if len(loaded.Rules) != 20_000 || len(loaded.Problems) > 0 {
			b.Fatal(len(loaded.Rules), loaded.Problems)
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/(1<<20), "MiB-held")
		b.ReportMetric(float64(after.Sys)/(1<<20), "MiB-sys")
		runtime.KeepAlive(loaded)
	}
}
