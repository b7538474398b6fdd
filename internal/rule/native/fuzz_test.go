package native

import (
	"testing"
	"testing/fstest"

	"whodunit/internal/audit"
	"whodunit/internal/rule"
)

// FuzzLoad: no document, whatever it holds, takes the process down; a rule that loads can be written and read again.
func FuzzLoad(f *testing.F) {
	nf := format(f)
	f.Add(torRule + "---\nlists: {tor_exits: [a, '1.2.3.4']}\n---\noverrides: {tor: {severity: low, enabled: true, params: {a: [x]}}}\n")
	f.Add("id: x\nparams: {a: [b], n: 1.5, t: true}\ncondition: verb in params.a && responseStatus.code > params.n || params.t\nmessage: '{? in {objectRef.name}} {object} {command} {images|-}'\n")
	f.Add("id: x\ncondition: verb == 'get'\ncount: {over: 1d2h, by: [peer], at_least: 2, quiet: 1w}\ntests: [{name: a, match: true, repeat: 3, every: 1m, events: [{verb: 'g{n}'}, {wait: 2h}, {repeat: 2, events: [{}]}]}]\n")
	f.Add("id: x\nsequence: {over: 5m, ordered: false, by: peer, steps: [{condition: idReused}, {rule: y, name: z}]}\nmessage: '{correlation.number}'\n---\nid: z\nenabled: false\n")
	f.Add("id: x\nfirst_seen: {of: [user.username, userAgent], within: 7d, learn: 0s}\ncondition: values('a.b').exists(v, fold(v) == 'x') || text('a', true) || compares(verb, '<', '3')\n")
	f.Add("id: x\nlists: [l]\ncondition: inCIDR(peer, lists.l) || verb.matches('(')\n---\nlists: {l: {file: f.txt}}\n")
	ev, err := audit.Parse("c", []byte(podCreate[:len(podCreate)-1]+`,"auditID":"a","stage":"ResponseComplete"}`))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 4096 {
			return
		}
		fsys := fstest.MapFS{"a.yaml": {Data: []byte(text)}, "f.txt": {Data: []byte("10.0.0.0/8 # x\nbad\n")}}
		loaded := rule.Load([]rule.Layer{{FS: fsys}}, nf)
		for _, p := range loaded.Problems {
			if p.File != "a.yaml" || p.Text == "" {
				t.Errorf("problem %+v says too little", p)
			}
		}
		for _, r := range loaded.Rules {
			r.RunTests()
			_ = r.Text(&ev)
			if r.Correlation != nil && len(r.Correlation.Of) == 0 {
				t.Errorf("rule %s looks at nothing", r.ID)
			}
			b, err := nf.Encode(r)
			if err != nil {
				continue
			}
			again := rule.Parse("b.yaml", b, nf)
			if len(again.Problems) > 0 {
				t.Fatalf("%s\n%v", b, again.Problems)
			}
			if r.Correlation == nil && r.Off == "" {
				want, _ := r.Match(&ev)
				if got, err := again.Rules[0].Match(&ev); got != want {
					t.Errorf("%s\nis %t, %v, want %t", b, got, err, want)
				}
			}
		}
	})
}
