package manager

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/prometheus/alertmanager/config"
	"github.com/prometheus/alertmanager/featurecontrol"
	"github.com/prometheus/alertmanager/matcher/compat"
	"github.com/prometheus/alertmanager/template"
	"go.yaml.in/yaml/v3"
)

// DefaultReceiver is the receiver of the routing that is used if there is no configuration file.
const DefaultReceiver = "default"

// defaultConfig is for somebody on call: ten seconds put into one message what one attack raises at once; what a running attack adds is
// told after a minute, for a group tells nothing unless something is new; what is still open is repeated every four hours.
const defaultConfig = `route:
  receiver: ` + DefaultReceiver + `
  group_by: [alertname, cluster]
  group_wait: 10s
  group_interval: 1m
  repeat_interval: 4h
receivers:
- name: ` + DefaultReceiver + `
`

const maxConfigFile = 16 << 20

// matchers makes Alertmanager's packages read matchers and label names as its own process does; they keep that for the whole process.
var matchers = sync.OnceFunc(func() {
	compat.InitFromFlags(discard, featurecontrol.NoopFlags{})
})

// loaded is a configuration that is known to be good.
type loaded struct {
	conf   *config.Config
	tmpl   *template.Template
	sec    *secrets
	passed []string // sections that have no effect here
}

// source is the text of a configuration.
type source struct {
	file string // for messages
	text string
	root yaml.Node
	sec  *secrets
}

// load reads and checks a configuration file; "" is the default configuration. No error shows a secret.
func load(file string, external *url.URL) (*loaded, error) {
	matchers()
	src := &source{file: file, text: defaultConfig, sec: &secrets{}}
	read := func() (*config.Config, error) { return config.Load(defaultConfig) }
	if file != "" {
		b, err := readFile(file)
		if err != nil {
			return nil, fmt.Errorf("cannot read alertmanager configuration: %w", err)
		}
		src.text = string(b)
		read = func() (*config.Config, error) { return config.LoadFile(file) }
	}
	if err := yaml.Unmarshal([]byte(src.text), &src.root); err != nil {
		// The error has no value of the file in it, but it may have what was taken for the name of an anchor.
		return nil, src.fail(collectLines(src.text), "", errors.New(anchor.ReplaceAllString(err.Error(), "anchor")))
	}
	src.sec = collect(&src.root, filepath.Dir(file))
	conf, err := read()
	if err != nil {
		return nil, src.fail(src.sec, src.blame(err), err)
	}
	if file != "" {
		if b, err := readFile(file); err != nil || string(b) != src.text {
			return nil, fmt.Errorf("%s: it was changed while it was read; try again", file)
		}
	}
	tmpl, err := checkTemplates(src, conf, external)
	if err != nil {
		return nil, errors.New(src.sec.redact(err.Error()))
	}
	l := &loaded{conf: conf, tmpl: tmpl, sec: src.sec}
	for _, section := range []string{"tracing", "event_recorder"} {
		if child(&src.root, section) != nil {
			l.passed = append(l.passed, section)
		}
	}
	return l, nil
}

func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxConfigFile+1))
	if err == nil && len(b) > maxConfigFile {
		err = fmt.Errorf("%s: more than %d bytes", name, maxConfigFile)
	}
	return b, err
}

var anchor = regexp.MustCompile(`anchor '[^']*'`)

var lineOf = regexp.MustCompile(`(?:yaml: )?(?:unmarshal errors:)?\s*line (\d+): `)

// fail is err with the file and, if it is known, the line, and without secrets.
func (s *source) fail(sec *secrets, where string, err error) error {
	text := sec.redact(err.Error())
	if lineOf.MatchString(text) {
		text = strings.TrimSpace(strings.TrimPrefix(strings.TrimPrefix(text, "yaml:"), " unmarshal errors:"))
		lines := strings.Split(lineOf.ReplaceAllString(text, "\n"+s.file+":$1: "), "\n")
		return errors.New(strings.Join(slices.DeleteFunc(lines, func(l string) bool { return strings.TrimSpace(l) == "" }), "\n"))
	}
	if where == "" {
		where = s.file
	}
	return fmt.Errorf("%s: %s", where, text)
}

func (s *source) at(n *yaml.Node) string { return fmt.Sprintf("%s:%d", s.file, n.Line) }

var quotedName = regexp.MustCompile(`"([^"]+)"`)

// blame finds where the configuration has the error that Alertmanager's own reader does not say the place of: it reads the parts alone.
// An address that cannot be read is blamed by itself, because its error shows pieces of it.
func (s *source) blame(err error) string {
	bad := ""
	walk(&s.root, func(key, _ string, n *yaml.Node) {
		if !isURL(key) || bad != "" || n.Value == "" || strings.Contains(n.Value, "{{") || !strings.Contains(err.Error(), "URL") &&
			!strings.Contains(err.Error(), "parse ") {
			return
		}
		if u, err := url.Parse(n.Value); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			s.sec.add(n.Value)
			s.sec.values = append(s.sec.values, pieces(err)...)
			bad = fmt.Sprintf("%s: %s", s.at(n), key)
		}
	})
	if bad != "" {
		return bad
	}
	for _, p := range s.parts() {
		if b, merr := yaml.Marshal(p.doc); merr == nil {
			if _, lerr := config.Load(string(b)); lerr != nil {
				if n := named(p.node, err); n != nil {
					return s.at(n)
				}
				return s.at(p.node)
			}
		}
	}
	keys := []string{"route", "receivers", "inhibit_rules", "mute_time_intervals", "time_intervals", "global"}
	if strings.Contains(err.Error(), "unique") {
		keys = keys[1:] // a route may use a name as often as it likes
	}
	for _, key := range keys {
		if n := named(child(&s.root, key), err); n != nil {
			return s.at(n)
		}
	}
	return ""
}

// named looks for the first value that an error quotes; for the last, if the error is that it is there twice.
func named(in *yaml.Node, err error) (found *yaml.Node) {
	twice := strings.Contains(err.Error(), "unique")
	for _, m := range quotedName.FindAllStringSubmatch(err.Error(), -1) {
		walkUnder(in, "", "", 0, func(_, _ string, n *yaml.Node) {
			if n.Value == m[1] && (found == nil || twice) {
				found = n
			}
		})
	}
	return found
}

// pieces are what the error about an address shows of it: they may be parts of a password.
func pieces(err error) []string {
	var bad *url.Error
	if !errors.As(err, &bad) {
		return nil
	}
	return quotedName.FindAllString(bad.Err.Error(), -1)
}

// part is a configuration with one part of the file in it, and otherwise nothing that can be wrong.
type part struct {
	node *yaml.Node
	doc  map[string]any
}

func (s *source) parts() []part {
	var out []part
	names := []any{map[string]any{"name": DefaultReceiver}}
	doc := func(more map[string]any) map[string]any {
		d := map[string]any{"route": map[string]any{"receiver": DefaultReceiver}, "receivers": names}
		for k, v := range more {
			d[k] = v
		}
		return d
	}
	alone := func(key string, n *yaml.Node, v any) { out = append(out, part{n, doc(map[string]any{key: v})}) }
	global := child(&s.root, "global")
	if global != nil {
		alone("global", global, global)
	}
	for _, r := range items(child(&s.root, "receivers")) {
		for i := 0; r.Kind == yaml.MappingNode && i+1 < len(r.Content); i += 2 {
			for _, c := range items(r.Content[i+1]) {
				more := map[string]any{"receivers": append(slices.Clone(names), map[string]any{"name": "x", r.Content[i].Value: []any{c}})}
				if global != nil {
					more["global"] = global
				}
				out = append(out, part{c, doc(more)})
			}
		}
	}
	for _, key := range []string{"inhibit_rules", "time_intervals", "mute_time_intervals"} {
		for _, n := range items(child(&s.root, key)) {
			alone(key, n, []any{n})
		}
	}
	for _, r := range routes(child(&s.root, "route")) {
		own := map[string]any{}
		for i := 0; i+1 < len(r.Content); i += 2 {
			if k := r.Content[i].Value; !slices.Contains([]string{"routes", "receiver", "mute_time_intervals", "active_time_intervals"}, k) {
				own[k] = r.Content[i+1]
			}
		}
		alone("route", r, map[string]any{"receiver": DefaultReceiver, "routes": []any{own}})
	}
	return out
}

func items(n *yaml.Node) []*yaml.Node {
	if n == nil || n.Kind != yaml.SequenceNode {
		return nil
	}
	return n.Content
}

// routes are a route and those below it.
func routes(n *yaml.Node) []*yaml.Node {
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	out := []*yaml.Node{n}
	for _, c := range items(child(n, "routes")) {
		out = append(out, routes(c)...)
	}
	return out
}

// Check reads and checks a configuration file without starting anything; "" is the default configuration. own are the names of the
// receivers that have receivers of our own kinds: each has to be in the configuration. Errors say file and line where they are known,
// and show no secret.
func Check(configFile string, own []string) error {
	l, err := load(configFile, &url.URL{})
	if err != nil {
		return err
	}
	for _, name := range own {
		if !slices.ContainsFunc(l.conf.Receivers, func(r config.Receiver) bool { return r.Name == name }) {
			return fmt.Errorf("%s: there is no receiver %q", configName(configFile), name)
		}
	}
	g, err := build(l, buildOptions{own: func(string) []Own { return nil }, logger: discard, book: newBook(nil, newRedactor(), nil)})
	if err != nil {
		return fmt.Errorf("%s: %s", configName(configFile), l.sec.redact(err.Error()))
	}
	g.conns.close()
	return nil
}

func configName(file string) string {
	if file == "" {
		return "default alertmanager configuration"
	}
	return file
}
