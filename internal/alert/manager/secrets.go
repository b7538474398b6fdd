package manager

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"go.yaml.in/yaml/v3"
)

const (
	hidden = "<secret>"
	// shortestSecret is in bytes: what is shorter would tear holes into all text and hide nothing.
	shortestSecret = 4
	maxSecretFile  = 64 << 10
)

// secrets are the secret values of one configuration, and the files that hold more of them.
type secrets struct {
	values []string
	files  []string // read again whenever an error is shown: they may be replaced while we run
}

// collect finds the secrets of a configuration. Relative names of files count from the working folder and from dir: integrations differ.
func collect(root *yaml.Node, dir string) *secrets {
	s := &secrets{}
	walk(root, func(key, parent string, n *yaml.Node) {
		base, isFile := strings.CutSuffix(key, "_file")
		switch {
		case isFile && (isSecret(base, parent) || isURL(base)), key == "files" && secretMaps[parent]:
			s.files = append(s.files, n.Value)
			if !filepath.IsAbs(n.Value) {
				s.files = append(s.files, filepath.Join(dir, n.Value))
			}
		case isURL(key):
			s.addURL(n.Value)
		case isSecret(key, parent):
			s.add(n.Value)
		}
	})
	return s
}

// collectLines finds secrets in a text that is no YAML, for the error that says so.
func collectLines(text string) *secrets {
	s := &secrets{}
	for _, m := range keyLine.FindAllStringSubmatch(text, -1) {
		if isSecret(m[1], "") || isURL(m[1]) || strings.Contains(m[1], "header") {
			s.add(strings.Trim(m[2], `*&!'" `))
		}
	}
	return s
}

var keyLine = regexp.MustCompile(`(?m)^[\s-]*"?([A-Za-z_]+)"?\s*:[ \t]*(\S.*)$`)

// secretMaps are the keys whose whole content is secret.
var secretMaps = map[string]bool{"http_headers": true, "proxy_connect_header": true, "endpoint_params": true, "claims": true, "secrets": true}

// isSecret tells by its key whether a value is secret. parent is the nearest key above that is in secretMaps, or "tracing", or "".
func isSecret(key, parent string) bool {
	if secretMaps[parent] || secretMaps[key] || parent == "tracing" && key == "headers" {
		return true
	}
	for _, end := range []string{"password", "secret", "token", "token_id", "credentials", "_key"} {
		if strings.HasSuffix(key, end) {
			return true
		}
	}
	return key == "key" || key == "authorization"
}

func isURL(key string) bool { return key == "url" || strings.HasSuffix(key, "_url") }

// walk calls f for each scalar of the parts that can hold secrets, with the key it stands under (that of the list, for an item of one).
func walk(root *yaml.Node, f func(key, parent string, n *yaml.Node)) {
	for _, part := range []string{"global", "receivers", "tracing", "event_recorder"} {
		walkUnder(child(root, part), part, "", 0, f)
	}
}

// child is the value of a key of a mapping, or of the mapping of a document; nil: there is none.
func child(n *yaml.Node, key string) *yaml.Node {
	if n != nil && n.Kind == yaml.DocumentNode && len(n.Content) > 0 {
		n = n.Content[0]
	}
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}

func walkUnder(n *yaml.Node, key, parent string, depth int, f func(key, parent string, n *yaml.Node)) {
	if n == nil || depth > 100 {
		return
	}
	if secretMaps[key] || key == "tracing" {
		parent = key
	}
	switch n.Kind {
	case yaml.ScalarNode:
		f(key, parent, n)
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			k := n.Content[i].Value
			if parent == "tracing" && key == "headers" {
				k = key // its own keys are names of headers
			}
			walkUnder(n.Content[i+1], k, parent, depth+1, f)
		}
	case yaml.AliasNode:
		if n.Alias.Kind == yaml.ScalarNode { // a larger part is walked where it stands: following it could take for ever
			f(key, parent, n.Alias)
		}
	case yaml.DocumentNode, yaml.SequenceNode:
		for _, c := range n.Content {
			walkUnder(c, key, parent, depth+1, f)
		}
	}
}

// add takes a secret, its lines if it has several, and the forms that it has in URLs, in quotes and in JSON.
func (s *secrets) add(v string) {
	v = strings.TrimSpace(v)
	if len(v) < shortestSecret || v == hidden {
		return
	}
	if strings.Contains(v, "\n") {
		for l := range strings.Lines(v) {
			if len(l) > 16 && !strings.HasPrefix(l, "-----") {
				s.values = append(s.values, strings.TrimSpace(l))
			}
		}
	}
	quoted := strconv.Quote(v)
	inJSON, _ := json.Marshal(v) //nolint:errchkjson // a string
	s.values = append(s.values, v, url.QueryEscape(v), url.PathEscape(v), url.UserPassword("", v).String()[1:],
		quoted[1:len(quoted)-1], string(inJSON[1:len(inJSON)-1]))
	if len(v) > 10 {
		s.values = append(s.values, "`"+v[:7]+"...`") // the YAML decoder shows that much of a value
	}
}

// addURL takes what is secret of a URL: credentials, the query, and a path that looks like more than a name.
func (s *secrets) addURL(v string) {
	v = strings.TrimSpace(v)
	u, err := url.Parse(v)
	if err != nil || strings.Contains(v, "{{") {
		s.add(v)
		return
	}
	if pw, ok := u.User.Password(); ok {
		s.add(pw)
	} else if u.User != nil {
		s.add(u.User.Username())
	}
	for _, vs := range u.Query() {
		for _, q := range vs {
			s.add(q)
		}
	}
	if u.RawQuery != "" {
		s.add(u.RawQuery)
	}
	if len(u.Path) > 1 || u.User != nil || u.RawQuery != "" {
		s.add(v)
	}
	if len(u.Path) >= 16 {
		s.add(u.Path)
	}
	for part := range strings.SplitSeq(u.Path, "/") {
		if len(part) >= 16 || len(part) >= 8 && strings.ContainsAny(part, "0123456789") {
			s.add(part)
		}
	}
}

// withFiles is s and what its files hold now.
func (s *secrets) withFiles() []string {
	all := &secrets{values: slices.Clone(s.values)}
	for _, name := range s.files {
		f, err := os.Open(name)
		if err != nil {
			continue // who needs it says so
		}
		b, err := io.ReadAll(io.LimitReader(f, maxSecretFile))
		f.Close()
		if err == nil {
			all.add(string(b))
			all.addURL(string(b))
		}
	}
	return all.values
}

// redact replaces the secrets in a text, those in files as well.
func (s *secrets) redact(text string) string { return replacer(s.withFiles()).Replace(text) }

// replacer replaces the longest first: one secret may be part of another.
func replacer(values []string) *strings.Replacer {
	slices.SortFunc(values, func(a, b string) int {
		if len(a) != len(b) {
			return len(b) - len(a)
		}
		return strings.Compare(a, b)
	})
	var pairs []string
	for _, v := range slices.Compact(values) {
		if len(v) >= shortestSecret {
			pairs = append(pairs, v, hidden)
		}
	}
	return strings.NewReplacer(pairs...)
}

// redactor hides the secrets of the configuration in use and of the one before it, whose last attempts may still be under way.
// It is safe for concurrent use.
type redactor struct {
	mu       sync.Mutex
	now, old *secrets
	replace  atomic.Pointer[strings.Replacer]
}

func newRedactor() *redactor {
	r := &redactor{now: &secrets{}, old: &secrets{}}
	r.refresh()
	return r
}

func (r *redactor) use(s *secrets) {
	r.mu.Lock()
	r.now, r.old = s, r.now
	r.mu.Unlock()
	r.refresh()
}

// refresh reads the files again.
func (r *redactor) refresh() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.replace.Store(replacer(append(r.now.withFiles(), r.old.withFiles()...)))
}

func (r *redactor) text(s string) string { return r.replace.Load().Replace(s) }

// redacting is a slog.Handler that hides secrets in all it passes on.
type redacting struct {
	slog.Handler
	r *redactor
}

// Handle implements slog.Handler.
func (h redacting) Handle(ctx context.Context, rec slog.Record) error {
	out := slog.NewRecord(rec.Time, rec.Level, h.r.text(rec.Message), rec.PC)
	rec.Attrs(func(a slog.Attr) bool {
		out.AddAttrs(h.attr(a))
		return true
	})
	return h.Handler.Handle(ctx, out)
}

// WithAttrs implements slog.Handler.
func (h redacting) WithAttrs(attrs []slog.Attr) slog.Handler {
	out := make([]slog.Attr, len(attrs))
	for i, a := range attrs {
		out[i] = h.attr(a)
	}
	return redacting{h.Handler.WithAttrs(out), h.r}
}

// WithGroup implements slog.Handler.
func (h redacting) WithGroup(name string) slog.Handler {
	return redacting{h.Handler.WithGroup(name), h.r}
}

func (h redacting) attr(a slog.Attr) slog.Attr {
	v := a.Value.Resolve()
	switch v.Kind() {
	case slog.KindString:
		a.Value = slog.StringValue(h.r.text(v.String()))
	case slog.KindAny:
		a.Value = slog.StringValue(h.r.text(fmt.Sprint(v.Any())))
	case slog.KindGroup:
		out := make([]slog.Attr, 0, len(v.Group()))
		for _, g := range v.Group() {
			out = append(out, h.attr(g))
		}
		a.Value = slog.GroupValue(out...)
	default:
		a.Value = v
	}
	return a
}

// hideInConfig hides what Alertmanager shows of a configuration although it is secret: headers, keys, credentials in URLs. The result
// is still a configuration that its tools can read; it is the same text if there was nothing to hide.
func hideInConfig(text string) string {
	var root yaml.Node
	if yaml.Unmarshal([]byte(text), &root) != nil {
		return hidden
	}
	changed := false
	walk(&root, func(key, parent string, n *yaml.Node) {
		v := n.Value
		switch base, isFile := strings.CutSuffix(key, "_file"); {
		case isFile && base != "", key == "files":
		case isURL(key):
			v = hideInURL(v)
		case isSecret(key, parent) && v != "":
			v = hidden
		}
		if v != n.Value {
			n.SetString(v)
			changed = true
		}
	})
	if !changed {
		return text
	}
	out, err := yaml.Marshal(&root)
	if err != nil {
		return hidden
	}
	return string(out)
}

// hideInURL is a URL still: that is why it has no angle brackets.
func hideInURL(v string) string {
	u, err := url.Parse(v)
	if err != nil || v == hidden || strings.Contains(v, "{{") {
		return v
	}
	const mask = "xxxxx"
	if _, ok := u.User.Password(); ok {
		u.User = url.UserPassword(u.User.Username(), mask)
	} else if u.User != nil {
		u.User = url.User(mask)
	}
	q := u.Query()
	for k := range q {
		q[k] = []string{mask}
	}
	if len(q) > 0 {
		u.RawQuery = q.Encode()
	}
	if out := u.String(); u.User != nil || len(q) > 0 {
		return out
	}
	return v
}
