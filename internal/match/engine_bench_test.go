package match

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"whodunit/internal/audit"
)

// realistic makes n different rules of the shapes that public rule sets have: a resource and verb, a user or namespace that is let
// pass, addresses and paths by text and pattern, what the body holds, and now and then a condition of its own. A few of the constants are ones that the recorded
// events have.
func realistic(n int, seed uint64) []Expr {
	r := rand.New(rand.NewPCG(seed, 1))
	one := func(l ...string) string { return l[r.IntN(len(l))] }
	resources := strings.Fields("pods secrets configmaps deployments services serviceaccounts nodes roles rolebindings clusterroles clusterrolebindings " +
		"daemonsets statefulsets cronjobs jobs replicasets events endpoints ingresses networkpolicies persistentvolumes namespaces " +
		"mutatingwebhookconfigurations validatingwebhookconfigurations customresourcedefinitions certificatesigningrequests leases tokenreviews")
	verbs := strings.Fields("create update patch delete get list watch deletecollection")
	stage := p("stage", Equal, "ResponseComplete", "Panic")
	user := func() Expr {
		u := fmt.Sprintf("%s-%d", one("alice", "bob", "ci", "deployer", "intruder", "robot", "admin"), r.IntN(4000))
		switch r.IntN(6) {
		case 0:
			return p("user.username", Glob, "system:serviceaccount:"+u+":*")
		case 1:
			return fold("user.username", Contains, u)
		case 2:
			return p("user.username", Regex, "^"+u+"@[a-z]+\\.(example|test)$")
		case 3:
			return Not{p("user.username", Prefix, "system:", "eks:", u)}
		}
		return p("user.username", Equal, u, u+"@example.test")
	}
	body := func() Expr {
		switch r.IntN(6) {
		case 0:
			return p("requestObject.spec.containers.image", Prefix, fmt.Sprintf("registry-%d.example/", r.IntN(500)))
		case 1:
			return p("requestObject.spec.containers.securityContext.privileged", Equal, "true")
		case 2:
			return p("requestObject.spec.template.spec.containers.image", Contains, fmt.Sprintf("miner%d", r.IntN(500)))
		case 3:
			return p("requestObject.spec.volumes.hostPath.path", Glob, fmt.Sprintf("/var/%d*", r.IntN(200)))
		case 4:
			return p("requestObject.roleRef.name", Equal, "cluster-admin", fmt.Sprintf("admin-%d", r.IntN(500)))
		}
		return And{p("requestObject.metadata.labels.app", Exists), p("requestObject.spec.hostNetwork", Equal, "true")}
	}
	uri := func() Expr {
		switch r.IntN(4) {
		case 0:
			return p("requestURI", Contains, fmt.Sprintf("/namespaces/team-%d/", r.IntN(1000)))
		case 1:
			return p("requestURI", Regex, fmt.Sprintf("^/api/v1/namespaces/[^/]+/(pods|services)/x%d-[0-9]+/(exec|proxy)", r.IntN(1000)))
		case 2:
			return fold("requestURI", Glob, fmt.Sprintf("*/proxy/*%d*", r.IntN(1000)))
		}
		return p("requestURI", Contains, "command=", fmt.Sprintf("limit=%d", r.IntN(1000)))
	}
	out := make([]Expr, n)
	for i := range out {
		verb := p("verb", Equal, one(verbs...), one(verbs...))
		parts := And{stage, verb, p("objectRef.resource", Equal, one(resources...))}
		ns := p("objectRef.namespace", Equal, one("kube-system", "default", "prod", fmt.Sprintf("team-%d", r.IntN(1000))))
		switch r.IntN(12) {
		case 0:
			parts = append(parts, user())
		case 1:
			parts = append(parts, ns, user())
		case 2, 3:
			parts = append(parts, user(), body())
		case 4:
			parts = append(parts, Not{ns}, body(), p("objectRef.subresource", Equal, one("exec", "attach", "portforward", "log", "status")))
		case 5:
			parts = append(parts, uri())
		case 6:
			parts = And{stage, p("responseStatus.code", GreaterEqual, one("400", "500")), user(), fold("userAgent", Contains, fmt.Sprintf("%s/%d.", one("curl", "python-requests", "nmap", "hydra"), r.IntN(300)))}
		case 7:
			parts = And{stage, p("sourceIPs", CIDR, fmt.Sprintf("%d.%d.0.0/16", 11+r.IntN(180), r.IntN(256))), user()}
		case 8:
			parts = append(parts, Or{p("user.groups", Equal, "system:masters"), p("impersonatedUser.username", Exists)}, p("objectRef.name", Glob, fmt.Sprintf("*-%d-?", r.IntN(2000))))
		case 9:
			parts = append(parts, p("objectRef.name", Regex, fmt.Sprintf("(?i)^(back|front)door-%d", r.IntN(2000))))
		case 10:
			parts = append(parts, p("annotations.authorization.k8s.io/decision", Equal, "forbid"), ns)
		case 11:
			parts = append(parts, user(), &Func{Name: fmt.Sprint("longer than ", i), Eval: func(ev *audit.Event) bool { return len(ev.Raw) > i }})
		}
		out[i] = parts
	}
	return out
}

func corpusBytes(lines [][]byte) (n int64) {
	for _, l := range lines {
		n += int64(len(l))
	}
	return n
}

func mustEngine(tb testing.TB, exprs []Expr) *Engine {
	e, err := NewEngine(exprs, EngineOptions{})
	if err != nil {
		tb.Fatal(err)
	}
	return e
}

// scanAll is one pass over the lines; it gives the number of hits.
func scanAll(tb testing.TB, m *Matcher, lines [][]byte, hits []int) ([]int, int) {
	n := 0
	for _, l := range lines {
		var err error
		if hits, err = m.MatchRaw("", l, hits[:0]); err != nil {
			tb.Fatal(err)
		}
		n += len(hits)
	}
	return hits, n
}

// Throughput of one core over all recorded events. The first pass, in which the diagram is built, is shown by itself.
func BenchmarkScan(b *testing.B) {
	lines := recordedLines(b, "apiserver-1.36.log.zst", 1)
	for _, n := range []int{100, 1000, 5000, 20000} {
		e := mustEngine(b, realistic(n, 7))
		b.Run(fmt.Sprintf("%drules", n), func(b *testing.B) { scanBench(b, e.Matcher(), lines, true) })
		b.Run(fmt.Sprintf("%drules-cold", n), func(b *testing.B) { scanBench(b, nil, lines, false, e) })
	}
}

// cpuTime is what the process has used so far: on a machine that does other work as well it tells more than the clock.
func cpuTime(tb testing.TB) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func scanBench(b *testing.B, m *Matcher, lines [][]byte, warm bool, e ...*Engine) {
	b.SetBytes(corpusBytes(lines))
	b.ReportAllocs()
	var hits []int
	total := 0
	if warm {
		hits, _ = scanAll(b, m, lines, hits)
		b.ResetTimer()
	}
	was := cpuTime(b)
	for b.Loop() {
		if !warm {
			m = e[0].Matcher()
		}
		hits, total = scanAll(b, m, lines, hits)
	}
	b.ReportMetric(float64(cpuTime(b)-was)/float64(b.N)/float64(len(lines)), "cpu-ns/event")
	s := m.Stats()
	b.ReportMetric(float64(total), "hits")
	b.ReportMetric(float64(s.States), "states")
	b.ReportMetric(float64(s.Flushes), "flushes")
	b.ReportMetric(float64(s.Bytes)/1e6, "MB")
	b.ReportMetric(float64(s.Parses)/float64(s.Events), "parses/event")
}

// hostile is the lines with another user, agent, URI, namespace and name in each.
func hostile(lines [][]byte) [][]byte {
	r := rand.New(rand.NewPCG(3, 4))
	word := func() string { return fmt.Sprintf("%x-%x", r.Uint64(), r.Uint32()) }
	replace := func(l []byte, name string) []byte {
		at := bytes.Index(l, []byte(`"`+name+`":"`))
		if at < 0 {
			return l
		}
		at += len(name) + 4
		end := bytes.IndexByte(l[at:], '"')
		return append(append(append(bytes.Clone(l[:at]), word()...), l[at:][max(0, end-20):end]...), l[at+end:]...)
	}
	out := make([][]byte, len(lines))
	for i, l := range lines {
		for _, name := range []string{"username", "userAgent", "requestURI", "namespace", "name"} {
			l = replace(l, name)
		}
		out[i] = l
	}
	return out
}

func BenchmarkHostile(b *testing.B) {
	lines := hostile(recordedLines(b, "apiserver-1.36.log.zst", 1))
	for _, n := range []int{1000, 5000} {
		e := mustEngine(b, realistic(n, 7))
		b.Run(fmt.Sprintf("%drules", n), func(b *testing.B) { scanBench(b, e.Matcher(), lines, true) })
	}
}

// Nothing matches: no allocation for an event.
func BenchmarkNoMatch(b *testing.B) {
	lines := recordedLines(b, "apiserver-1.36.log.zst", 10)
	exprs := realistic(1000, 7)
	for i := range exprs {
		exprs[i] = And{exprs[i], p("auditID", Equal, "nobody")}
	}
	m := mustEngine(b, exprs).Matcher()
	hits, n := scanAll(b, m, lines, nil)
	if n > 0 {
		b.Fatal("something matches")
	}
	b.SetBytes(corpusBytes(lines) / int64(len(lines)))
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		hits, _ = m.MatchRaw("", lines[i%len(lines)], hits[:0])
		i++
	}
}

func BenchmarkCompile20000(b *testing.B) {
	exprs := realistic(20_000, 7)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	e := mustEngine(b, exprs)
	m := e.Matcher()
	runtime.GC()
	runtime.ReadMemStats(&after)
	held := float64(after.HeapAlloc-before.HeapAlloc) / 1e6
	runtime.KeepAlive(m)
	for b.Loop() {
		mustEngine(b, exprs)
	}
	b.ReportMetric(held, "MB-held")
}

// Rules without a condition that is cheap: a thousand patterns on texts that differ from event to event, a thousand words anywhere.
func BenchmarkPatterns(b *testing.B) {
	lines := recordedLines(b, "apiserver-1.36.log.zst", 4)
	for name, create := range map[string]func(i int) Expr{
		"regexes": func(i int) Expr {
			return p("requestURI", Regex, fmt.Sprintf(`^/api/.*/(pods|nodes)/x%d[a-z]+/exec\?`, i))
		},
		"contains": func(i int) Expr {
			return And{fold("requestURI", Contains, fmt.Sprintf("team-%d", i)), p("userAgent", Contains, fmt.Sprintf("/v%d.", i))}
		},
		"words":     func(i int) Expr { return &Text{Word: fmt.Sprintf("malware%d", i)} },
		"images":    func(i int) Expr { return p("requestObject.spec.containers.image", Glob, fmt.Sprintf("*/miner%d:*", i)) },
		"unguarded": func(i int) Expr { return p("objectRef.name", Regex, fmt.Sprintf(`^[a-z]{%d}[0-9]+$`, 1+i%500)) },
	} {
		n := 1000
		if name == "unguarded" {
			n = 50
		}
		exprs := []Expr{}
		for i := range n {
			exprs = append(exprs, create(i))
		}
		b.Run(fmt.Sprintf("%d%s", n, name), func(b *testing.B) { scanBench(b, mustEngine(b, exprs).Matcher(), lines, true) })
	}
}
