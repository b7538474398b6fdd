package app

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"whodunit/internal/config"
)

// How rules are read is configured: at the start, and by a reload.
func TestRuleReading(t *testing.T) {
	dir := t.TempDir()
	path, rules := filepath.Join(dir, "w.yaml"), filepath.Join(dir, "rules")
	if err := os.Mkdir(rules, 0o700); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(rules, "any.yaml"), anyDeletion)
	writeFile(t, filepath.Join(rules, "sigma.yml"), "title: Terminal\nid: sigma-terminal\nlogsource: {product: kubernetes, service: audit}\n"+
		"detection: {s: {verb: create, objectRef.subresource: exec}, condition: s}\n")
	writeFile(t, filepath.Join(rules, "falco.yaml"), "- {rule: From outside, desc: d, condition: ka.target.subresource=exec and ka.sourceips intersects (203.0.113.9), output: o, priority: WARNING, source: k8s_audit}\n")
	c := settings(t)
	base := "data_dir: " + c.DataDir + "\nserver: {listen: \"127.0.0.1:0\", tls: {mode: \"off\"}}\nwebhook: {listen: \"127.0.0.1:0\", tls: {mode: \"off\"}}\n" +
		"journal: {min_free: 1B}\nalerts: {log: false}\nrules: {default_pack: false, paths: [" + rules + "]"
	writeFile(t, path, base+", falco_compat: upstream, websocket_verbs: false}\n")
	loaded, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, Options{Config: loaded, Path: path})
	exec := func(id int) string {
		return strings.NewReplacer(`"verb":"delete"`, `"verb":"get","sourceIPs":["203.0.113.9"]`, `"name":"c"`, `"name":"c","subresource":"exec"`).Replace(event(id, "alice"))
	}
	found := func(rule, severity, n string) bool {
		return strings.Contains(s.get("/metrics"), `whodunit_findings_total{rule="`+rule+`",severity="`+severity+`"} `+n+"\n")
	}
	s.send(exec(1), event(2, "alice"))
	poll(t, "the deletion", func() bool { return found("any-deletion", "high", "1") })
	if found("sigma-terminal", "medium", "1") || found("falco.from-outside", "medium", "1") {
		t.Error("falco_compat and websocket_verbs were not taken from the configuration")
	}
	writeFile(t, path, base+"}\n")
	if err := s.Reload(); err != nil {
		t.Fatal(err)
	}
	s.send(exec(3))
	poll(t, "the exec as the defaults read it", func() bool {
		return found("sigma-terminal", "medium", "1") && found("falco.from-outside", "medium", "1")
	})
}
