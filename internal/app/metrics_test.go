package app

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"whodunit/internal/config"
)

// kubeconfig names an API server that nobody answers for.
func kubeconfig(t *testing.T) string {
	file := filepath.Join(t.TempDir(), "kubeconfig")
	writeFile(t, file, "apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters: [{name: c, cluster: {server: \"http://127.0.0.1:1\"}}]\n"+
		"users: [{name: u, user: {token: t}}]\ncontexts: [{name: c, context: {cluster: c, user: u}}]\n")
	return file
}

// A metric that the documents name is there: an alert on one that does not exist never fires.
func TestDocumentedMetrics(t *testing.T) {
	known := map[string]bool{}
	name := regexp.MustCompile(`whodunit_[a-z_]+`)
	for _, change := range []func(*config.Config){
		func(c *config.Config) { c.Server.TLS.Mode = "generated" }, // the certificates have metrics, too
		func(c *config.Config) { c.Alerts.AlertmanagerURL = config.URLs{"http://127.0.0.1:1"} },
		func(c *config.Config) {
			c.Actions.Enabled = true
			c.Actions.Clusters = []config.ActionCluster{{Name: "c", Kubeconfig: kubeconfig(t)}}
		},
	} {
		s := settings(t)
		change(&s)
		a := start(t, Options{Config: s, Version: "test"})
		descs := make(chan *prometheus.Desc)
		go func() { a.reg.Describe(descs); close(descs) }()
		for d := range descs {
			known[name.FindString(d.String())] = true
		}
	}
	files, err := filepath.Glob("../../docs/*/*.md")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range name.FindAllString(string(b), -1) {
			base := regexp.MustCompile(`_(bucket|count|sum)$`).ReplaceAllString(n, "")
			if !known[n] && !known[base] {
				t.Errorf("%s names the metric %s, which is not registered", filepath.Base(file), n)
			}
		}
	}
}
