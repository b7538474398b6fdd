package config

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Error is one thing wrong with the configuration, at a place in its file.
type Error struct {
	File         string // as given to Load; "" where there is no file
	Line, Column int    // from 1; 0 where unknown
	Path         string // the field, e.g. alerts.webhooks[0].url
	Message      string
}

// Error is file:line:column: path: message.
func (e *Error) Error() string {
	var b strings.Builder
	if e.File != "" {
		b.WriteString(e.File + ":")
		if e.Line > 0 {
			fmt.Fprintf(&b, "%d:%d:", e.Line, e.Column)
		}
		b.WriteString(" ")
	}
	if e.Path != "" {
		b.WriteString(e.Path + ": ")
	}
	return b.String() + e.Message
}

// decoder reads YAML nodes into the configuration and remembers where each field stands, for errors found later.
type decoder struct {
	file   string
	at     map[string]*yaml.Node
	errs   []error
	failed map[string]bool // fields with an error already: not validated again
}

func (d *decoder) fail(n *yaml.Node, path, format string, args ...any) {
	e := &Error{File: d.file, Path: path, Message: fmt.Sprintf(format, args...)}
	if n != nil {
		e.Line, e.Column = n.Line, n.Column
	}
	d.failed[path] = true
	d.errs = append(d.errs, e)
}

// invalid reports what validation found, at the field or at the nearest one around it that is in the file.
func (d *decoder) invalid(path, message string) {
	if d.failed[path] {
		return
	}
	p := path
	for d.at[p] == nil && p != "" {
		p = p[:max(strings.LastIndexAny(p, ".["), 0)]
	}
	d.fail(d.at[p], path, "%s", message)
}

func kindName(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a group of fields"
	case yaml.SequenceNode:
		return "a list"
	}
	switch n.ShortTag() {
	case "!!int", "!!float":
		return "the number " + strconv.Quote(n.Value)
	case "!!bool":
		return "the truth value " + n.Value
	case "!!null":
		return "nothing"
	}
	return fmt.Sprintf("the text %.60q", n.Value)
}

// value reads n into v. A field without a value (null) keeps its default.
func (d *decoder) value(n *yaml.Node, v reflect.Value, path string) {
	if path != "" {
		d.at[path] = n
	}
	if n.Kind == yaml.AliasNode || n.Anchor != "" {
		d.fail(n, path, "anchors and aliases are not supported: write the value out")
		return
	}
	if n.ShortTag() == "!!null" {
		return
	}
	switch p := v.Addr().Interface().(type) {
	case *Duration:
		parsed(d, n, path, p, ParseDuration)
		return
	case *Size:
		parsed(d, n, path, p, ParseSize)
		return
	case *URLs:
		if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!str" {
			*p = URLs{n.Value}
			return
		}
	}
	switch v.Kind() {
	case reflect.Struct:
		d.group(n, v, path)
	case reflect.Slice:
		d.list(n, v, path)
	default:
		d.scalar(n, v, path)
	}
}

func parsed[T any](d *decoder, n *yaml.Node, path string, into *T, parse func(string) (T, error)) {
	if n.Kind != yaml.ScalarNode {
		d.fail(n, path, "a value such as %v is wanted, not %s", *into, kindName(n))
		return
	}
	v, err := parse(n.Value)
	if err != nil {
		d.fail(n, path, "%s", err)
		return
	}
	*into = v
}

func (d *decoder) group(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.MappingNode {
		d.fail(n, path, "a group of fields is wanted, not %s", kindName(n))
		return
	}
	names := map[string]int{}
	for i := range v.NumField() {
		names[v.Type().Field(i).Tag.Get("yaml")] = i
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		p := join(path, key.Value)
		field, known := names[key.Value]
		switch line := seen[key.Value]; {
		case !known || key.Kind != yaml.ScalarNode:
			d.fail(key, p, "unknown field%s", suggestion(key.Value, names))
		case line > 0:
			d.fail(key, p, "given a second time; the first is on line %d", line)
		default:
			d.value(value, v.Field(field), p)
		}
		seen[key.Value] = key.Line
	}
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

func (d *decoder) list(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.SequenceNode {
		d.fail(n, path, "a list is wanted, not %s: write [%s] or one `- …` a line", kindName(n), "…")
		return
	}
	out := reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content))
	for i, el := range n.Content {
		entry(out.Index(i).Addr().Interface())
		d.value(el, out.Index(i), fmt.Sprintf("%s[%d]", path, i))
	}
	v.Set(out)
}

// entry sets the defaults of an entry of a list, which is what to points to.
func entry(to any) {
	switch p := to.(type) {
	case *File:
		*p = p.defaults()
	case *AlertReceiver:
		*p = p.defaults()
	case *AlertWebhook:
		*p = p.defaults()
	case *Falcosidekick:
		*p = p.defaults()
	case *AlertIndex:
		*p = p.defaults()
	case *AlertFile:
		*p = p.defaults()
	case *ActionCluster:
		*p = p.defaults()
	case *Action:
		*p = p.defaults()
	}
}

func (d *decoder) scalar(n *yaml.Node, v reflect.Value, path string) {
	tag := n.ShortTag()
	switch {
	case v.Kind() == reflect.String && n.Kind == yaml.ScalarNode && tag == "!!str":
		v.SetString(n.Value)
	case v.Kind() == reflect.String && n.Kind == yaml.ScalarNode:
		d.fail(n, path, "text is wanted, not %s: put it in quotes", kindName(n))
	case v.Kind() == reflect.String:
		d.fail(n, path, "text is wanted, not %s", kindName(n))
	case v.Kind() == reflect.Bool && n.Kind == yaml.ScalarNode && (n.Value == "true" || n.Value == "false") && tag == "!!bool":
		v.SetBool(n.Value == "true")
	case v.Kind() == reflect.Bool:
		d.fail(n, path, "true or false is wanted, not %s", kindName(n))
	case v.Kind() == reflect.Int:
		i, err := strconv.Atoi(strings.ReplaceAll(n.Value, "_", ""))
		if n.Kind != yaml.ScalarNode || tag != "!!int" || err != nil {
			d.fail(n, path, "a whole number is wanted, not %s", kindName(n))
			return
		}
		v.SetInt(int64(i))
	default:
		d.fail(n, path, "cannot read into a %s", v.Type())
	}
}

// suggestion names the known field nearest to name, or all of them where none is near.
func suggestion(name string, names map[string]int) string {
	best, dist := "", 1+len(name)/2
	var all []string
	for known := range names {
		all = append(all, known)
		if d := distance(strings.ToLower(name), known); d < dist || (d == dist && best != "" && known < best) {
			best, dist = known, d
		}
	}
	if best != "" {
		return fmt.Sprintf("; did you mean %s?", best)
	}
	slices.Sort(all)
	return "; known here: " + strings.Join(all, ", ")
}

// distance is Levenshtein's, and 1 where the underscores alone differ.
func distance(a, b string) int {
	if strings.ReplaceAll(a, "-", "") == strings.ReplaceAll(b, "_", "") {
		return 1
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		prev := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := prev
			if a[i] != b[j] {
				cost++
			}
			prev = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// decode reads the one document in data over into.
func (d *decoder) decode(data []byte, into *Config) {
	var doc yaml.Node
	dec := yaml.NewDecoder(strings.NewReader(string(data)))
	if err := dec.Decode(&doc); err != nil {
		if err.Error() != "EOF" {
			d.syntax(err)
		}
		return // an empty file is the default configuration
	}
	var second yaml.Node
	if dec.Decode(&second) == nil {
		d.fail(&second, "", "a second document begins here: only one is read")
	}
	d.value(doc.Content[0], reflect.ValueOf(into).Elem(), "")
}

// syntax turns "yaml: line 3: …" into an error with the line in our form.
func (d *decoder) syntax(err error) {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	n := &yaml.Node{Column: 1}
	if rest, ok := strings.CutPrefix(text, "line "); ok {
		if num, msg, ok := strings.Cut(rest, ": "); ok {
			if n.Line, _ = strconv.Atoi(num); n.Line > 0 {
				text = msg
			}
		}
	}
	d.fail(n, "", "%s", text)
}

func (d *decoder) err() error { return errors.Join(d.errs...) }
