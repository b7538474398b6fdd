package app

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// A metric that the documents name is there: an alert on one that does not exist never fires.
func TestDocumentedMetrics(t *testing.T) {
	s := settings(t)
	s.Server.TLS.Mode = "generated" // the certificates have metrics, too
	a := start(t, Options{Config: s, Version: "test"})
	known := map[string]bool{}
	descs := make(chan *prometheus.Desc)
	go func() { a.reg.Describe(descs); close(descs) }()
	name := regexp.MustCompile(`whodunit_[a-z_]+`)
	for d := range descs {
		known[name.FindString(d.String())] = true
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
