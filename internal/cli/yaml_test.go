package cli

import (
	"bufio"
	"bytes"
	"fmt"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"whodunit/internal/audit"
)

// An event nested as deep as the API server takes it stays of about its size as YAML, and readable as such.
func TestDeepEventAsYAML(t *testing.T) {
	const n = 9_900
	raw := fmt.Appendf(nil, `{"auditID":"1","stage":"Panic","requestObject":%s1%s}`, strings.Repeat(`{"a":`, n), strings.Repeat("}", n))
	e, err := audit.Parse("c", raw)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	p := &printer{w: bufio.NewWriter(&b), form: "yaml"}
	if err := p.show(&audit.Record{Event: e}); err != nil {
		t.Fatal(err)
	}
	if err := p.w.Flush(); err != nil {
		t.Fatal(err)
	}
	if b.Len() > 10*len(raw) {
		t.Errorf("%d bytes of %d", b.Len(), len(raw))
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(b.Bytes(), &doc); err != nil {
		t.Errorf("no YAML: %v", err)
	}
}
