package config

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write docs/reference/config.md and whodunit.yaml anew")

// comments reads the doc comments of the fields of this package's structs, by "Type.Field".
func comments(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	look := func(n ast.Node) bool {
		spec, ok := n.(*ast.TypeSpec)
		if !ok {
			return true
		}
		if st, ok := spec.Type.(*ast.StructType); ok {
			for _, field := range st.Fields.List {
				doc := strings.TrimSpace(field.Doc.Text())
				if doc == "" {
					t.Errorf("%s.%s has no doc comment: the reference is made of them", spec.Name, field.Names[0])
				}
				out[spec.Name.Name+"."+field.Names[0].Name] = doc
			}
		}
		return true
	}
	for _, name := range []string{"config.go", "alerts.go"} {
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, look)
	}
	return out
}

func elem(v reflect.Value) (reflect.Value, bool) {
	if v.Kind() != reflect.Slice || v.Type().Elem().Kind() != reflect.Struct {
		return reflect.Value{}, false
	}
	el := reflect.New(v.Type().Elem())
	entry(el.Interface())
	return el.Elem(), true
}

func typeName(f reflect.StructField) string {
	switch f.Type {
	case reflect.TypeFor[Duration]():
		return "duration"
	case reflect.TypeFor[Size]():
		return "size"
	case reflect.TypeFor[[]string]():
		return "list of texts"
	case reflect.TypeFor[URLs]():
		return "text, or a list of texts"
	}
	if f.Type.Kind() == reflect.String {
		return "text"
	}
	return f.Type.Kind().String()
}

type docs struct {
	comments map[string]string
	md       strings.Builder
}

func (d *docs) section(v reflect.Value, path string, live bool) {
	for i := range v.NumField() {
		f, fv := v.Type().Field(i), v.Field(i)
		p, live := join(path, f.Tag.Get("yaml")), live || f.Tag.Get("reload") == "live"
		doc := strings.Join(strings.Fields(d.comments[v.Type().Name()+"."+f.Name]), " ")
		el, isList := elem(fv)
		if fv.Kind() == reflect.Struct || isList {
			level := "##"
			if path != "" {
				level = "###"
			}
			fmt.Fprintf(&d.md, "%s `%s`\n\n%s\n\n", level, p, doc)
			if isList {
				d.md.WriteString("A list; the defaults below are those of each entry. Default: empty.\n\n")
				d.section(el, p+"[]", live)
			} else {
				d.section(fv, p, live)
			}
			continue
		}
		facts := []string{typeName(f)}
		if f.Name != "DataDir" && !fv.IsZero() || fv.Kind() == reflect.Bool || f.Tag.Get("min") == "0" {
			facts = append(facts, "default `"+show(f, fv)+"`")
		}
		if w := f.Tag.Get("oneof"); w != "" {
			facts = append(facts, "one of `"+strings.ReplaceAll(w, " ", "`, `")+"`")
		}
		if lo := f.Tag.Get("min"); lo != "" {
			facts = append(facts, "`"+lo+"` to `"+f.Tag.Get("max")+"`")
		}
		if !live {
			facts = append(facts, "needs a restart")
		}
		fmt.Fprintf(&d.md, "- **`%s`** (%s). %s\n\n", p, strings.Join(facts, ", "), doc)
	}
}

const head = `# Configuration reference

Generated from the doc comments in internal/config by ` + "`go test ./internal/config -update`" + `; do not edit.

No file is needed: the defaults below are a working configuration. A file is read strictly: an unknown field, a value of
another type or out of range is an error with its file, line and column, and all errors are shown at once. Anchors and
aliases are not supported. [whodunit.yaml](whodunit.yaml) is a complete file with every default.

A **duration** is written as ` + "`90s`, `1h30m`, `7d` or `2w`" + `; a **size** as ` + "`512MB` (powers of 1000) or `1GiB`" + ` (powers
of 1024). Environment variables are replaced (` + "`${NAME}`" + `) in the names of secret files alone (` + "`token_file`, `password_file`, `hmac_secret_file`" + `);
secrets themselves are never written in this file. A field that does not say "needs a restart" is taken over by a reload.

`

// example writes the commented file. Fields without a default, and lists, are commented out.
func (d *docs) example(b *strings.Builder, v reflect.Value, indent, off string) {
	for i := range v.NumField() {
		f, fv := v.Type().Field(i), v.Field(i)
		name := f.Tag.Get("yaml")
		for _, line := range strings.Split(d.comments[v.Type().Name()+"."+f.Name], "\n") {
			b.WriteString(indent + "## " + line + "\n")
		}
		el, isList := elem(fv)
		switch {
		case fv.Kind() == reflect.Struct:
			b.WriteString(indent + off + name + ":\n")
			d.example(b, fv, indent+"  ", off)
		case isList:
			b.WriteString(indent + "#" + name + ":\n")
			var s strings.Builder
			d.example(&s, el, indent+"    ", "#")
			b.WriteString(dash(s.String(), indent))
		case off == "" && f.Name != "DataDir" && (!fv.IsZero() || f.Tag.Get("example") == ""):
			fmt.Fprintf(b, "%s%s: %s\n", indent, name, show(f, fv))
		default:
			ex := f.Tag.Get("example")
			if ex == "" {
				ex = show(f, fv)
			}
			fmt.Fprintf(b, "%s#%s: %s\n", indent, name, ex)
		}
		if indent == "" {
			b.WriteString("\n")
		}
	}
}

// dash turns the first field line of an entry into `- field`.
func dash(s, indent string) string {
	lines := strings.SplitAfter(s, "\n")
	for i, l := range lines {
		if rest, ok := strings.CutPrefix(l, indent+"    #"); ok && !strings.HasPrefix(rest, "#") {
			lines[i] = indent + "  #- " + rest
			break
		}
	}
	return strings.Join(lines, "")
}

func TestReferenceIsCurrent(t *testing.T) {
	none := func(string) string { return "" }
	d := &docs{comments: comments(t)}
	d.md.WriteString(head)
	d.section(reflect.ValueOf(defaults(none)), "", false)
	var ex strings.Builder
	ex.WriteString("## A complete configuration with every default. Lines that begin with one # are fields without one.\n" +
		"## The reference is config.md; this file is generated beside it.\n\n")
	d.example(&ex, reflect.ValueOf(defaults(none)), "", "")
	for name, want := range map[string]string{"config.md": strings.TrimRight(d.md.String(), "\n") + "\n", "whodunit.yaml": strings.TrimRight(ex.String(), "\n") + "\n"} {
		path := filepath.Join("..", "..", "docs", "reference", name)
		if *update {
			if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		got, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, string(got)); diff != "" {
			t.Errorf("%s is not current (go test ./internal/config -update):\n%s", path, diff)
		}
	}
}

func TestExampleIsTheDefaults(t *testing.T) {
	path := filepath.Join("..", "..", "docs", "reference", "whodunit.yaml")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	none := func(string) string { return "" }
	got, err := Parse(path, data, none)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(defaults(none), got); diff != "" {
		t.Errorf("the example is not the defaults (-want +got):\n%s", diff)
	}
	// With every field switched on, it must still load but for the two certificate modes, which exclude the files.
	on := regexp.MustCompile(`(?m)^( *)#([^#\n]*)$`).ReplaceAllString(string(data), "$1$2")
	on = strings.ReplaceAll(on, "mode: generated", "mode: files")
	on = regexp.MustCompile(`(?m)^ *alertmanager_url:.*$`).ReplaceAllString(on, "") // not together with alertmanager_config
	c, err := Parse(path, []byte(on), func(string) string { return "/run/credentials" })
	if err != nil {
		t.Fatalf("with every line switched on: %v\n%s", err, on)
	}
	if len(c.Files) != 1 || len(c.Alerts.Webhooks) != 1 || c.Alerts.Webhooks[0].TokenFile != "/run/credentials/alert-token" ||
		len(c.Alerts.Receivers) != 1 || len(c.Alerts.Elasticsearch) != 1 || len(c.Actions.Clusters) != 1 || len(c.Actions.List) != 1 {
		t.Errorf("with every line switched on: %+v", c)
	}
}
