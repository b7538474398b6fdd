package api

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

type operation struct {
	Parameters []struct {
		Ref string `json:"$ref"`
	}
	Responses map[string]any
	Security  *[]any
	Summary   string
}

// TestOpenAPI holds the description against the routes: every route and every parameter, both ways.
func TestOpenAPI(t *testing.T) {
	f := start(t, nil)
	_, body := f.do(t, "GET", "/api/v1/openapi.json", "", "")
	var doc struct {
		Info       struct{ Version string }
		Paths      map[string]map[string]operation
		Components struct {
			Parameters map[string]struct{ Name, In string }
		}
	}
	if err := json.Unmarshal([]byte(body), &doc); err != nil {
		t.Fatal(err)
	}
	if doc.Info.Version != "v1.2.3" {
		t.Errorf("version %s", doc.Info.Version)
	}
	var described, served []string
	used := map[string]bool{}
	for path, ops := range doc.Paths {
		for method, op := range ops {
			line := strings.ToUpper(method) + " " + path
			var params []string
			for _, p := range op.Parameters {
				name := strings.TrimPrefix(p.Ref, "#/components/parameters/")
				def, ok := doc.Components.Parameters[name]
				if !ok {
					t.Errorf("%s: no parameter %s", line, p.Ref)
				}
				used[name] = true
				params = append(params, def.In+" "+def.Name)
			}
			slices.Sort(params)
			public := op.Security != nil && len(*op.Security) == 0
			if op.Summary == "" || len(op.Responses) == 0 {
				t.Errorf("%s has no summary or response", line)
			}
			described = append(described, line+" ["+strings.Join(params, ", ")+"]"+map[bool]string{true: " public"}[public])
		}
	}
	inPath := regexp.MustCompile(`\{(\w+)\}`)
	for _, rt := range f.api.routes {
		var params []string
		for _, m := range inPath.FindAllStringSubmatch(rt.path, -1) {
			params = append(params, "path "+m[1])
		}
		for _, p := range rt.params {
			params = append(params, "query "+p)
		}
		slices.Sort(params)
		served = append(served, rt.method+" "+rt.path+" ["+strings.Join(params, ", ")+"]"+map[bool]string{true: " public"}[rt.public])
	}
	slices.Sort(described)
	slices.Sort(served)
	if diff := cmp.Diff(described, served); diff != "" {
		t.Errorf("described (-) and served (+) differ:\n%s", diff)
	}
	for name := range doc.Components.Parameters {
		if !used[name] {
			t.Errorf("parameter %s is used nowhere", name)
		}
	}
	for _, m := range regexp.MustCompile(`"\$ref":"#/components/(\w+)/(\w+)"`).FindAllStringSubmatch(body, -1) {
		var parts struct {
			Components map[string]map[string]any
		}
		if err := json.Unmarshal([]byte(body), &parts); err != nil || parts.Components[m[1]][m[2]] == nil {
			t.Errorf("%s leads nowhere", m[0])
		}
	}
}
