package native

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"cel.dev/cel-go/common/types/ref"

	"whodunit/internal/finding"
	"whodunit/internal/rule"
)

// maxListBytes bounds a list's file.
const maxListBytes = 16 << 20

// givenList is a list of the user's.
type givenList struct {
	entries []string
	layer   int
	name    string
	at      rule.Problem // with the place of its name
}

// override changes a rule that is written elsewhere.
type override struct {
	id       string
	at       rule.Place
	node     *yaml.Node // the id in its document; a scalar
	params   map[string]ref.Val
	nodes    map[string]*yaml.Node // of params
	severity finding.Severity
	enabled  *bool
}

// settings reads a document of lists and overrides.
func (s *loads) settings(l *loader, d *yaml.Node) {
	l.fields(d, "lists and overrides", []field{
		{"lists", func(n *yaml.Node) { s.readLists(l, n) }},
		{"overrides", func(n *yaml.Node) { s.readOverrides(l, n) }},
	})
}

func (s *loads) readLists(l *loader, n *yaml.Node) {
	if n.Kind != yaml.MappingNode {
		l.fail(n, "lists: a mapping of names to lists is expected, not %s", kind(n))
		return
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := resolve(n.Content[i]), resolve(n.Content[i+1])
		if !isIdentifier(k.Value) {
			l.fail(k, "lists: the name %.60q: letters, digits and _ are expected", k.Value)
			continue
		}
		if old := s.lists[k.Value]; old != nil && old.layer == l.at.Layer {
			l.fail(k, "list %s is given already at %s:%d:%d", k.Value, old.at.File, old.at.Line, old.at.Column)
			continue
		}
		before := len(l.problems)
		g := &givenList{layer: l.at.Layer, name: k.Value, at: rule.Problem{File: l.at.File, Line: k.Line, Column: k.Column}}
		if v.Kind == yaml.MappingNode {
			l.fields(v, "list "+k.Value, []field{{"file", func(n *yaml.Node) { g.entries = l.listFile(n) }}})
		} else {
			g.entries = l.texts(v)
		}
		if len(l.problems) > before {
			continue // a list of an earlier layer stays
		}
		if s.lists == nil {
			s.lists = map[string]*givenList{}
		}
		s.lists[k.Value] = g
	}
}

// listFile reads a text file of the layer: one entry a line, blank lines and all after a # that begins a line or follows white space
// left out.
func (l *loader) listFile(n *yaml.Node) []string {
	name, ok := l.text(n)
	if !ok {
		return nil
	}
	p := path.Join(path.Dir(l.at.Path), name)
	if l.at.FS == nil || path.IsAbs(name) || !fs.ValidPath(p) {
		l.fail(n, "file %.200q: a path below the rules' folder is expected, as seen from this file", name)
		return nil
	}
	b, err := readListFile(l.at.FS, p)
	if err != nil {
		l.fail(n, "cannot read list: %v", err)
		return nil
	}
	if l.loads.listBytes += int64(len(b)); l.loads.listBytes > maxAllListBytes {
		l.fail(n, "cannot read list: all lists' files have more than %d bytes", maxAllListBytes)
		return nil
	}
	var out []string
	lines := bufio.NewScanner(bytes.NewReader(bytes.TrimPrefix(b, []byte("\xef\xbb\xbf"))))
	lines.Buffer(nil, maxListBytes+1)
	for lines.Scan() {
		s := lines.Text()
		for i := range len(s) {
			if s[i] == '#' && (i == 0 || s[i-1] == ' ' || s[i-1] == '\t') {
				s = s[:i]
				break
			}
		}
		if s = strings.TrimSpace(s); s != "" {
			out = append(out, s)
		}
	}
	return out
}

func readListFile(fsys fs.FS, p string) ([]byte, error) {
	if st, err := fs.Stat(fsys, p); err != nil { // before it is opened: a pipe waits for a writer
		return nil, err
	} else if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", p)
	}
	f, err := fsys.Open(p)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxListBytes+1))
	if err == nil && len(b) > maxListBytes {
		err = fmt.Errorf("%s is larger than %d bytes", p, maxListBytes)
	}
	return b, err
}

func (s *loads) readOverrides(l *loader, n *yaml.Node) {
	if n.Kind != yaml.MappingNode {
		l.fail(n, "overrides: a mapping of rules' ids is expected, not %s", kind(n))
		return
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k := resolve(n.Content[i])
		if seen[k.Value] {
			l.fail(k, "overrides: %.60q stands twice", k.Value)
			continue
		}
		seen[k.Value] = true
		o := &override{id: k.Value, at: l.at, node: k, nodes: map[string]*yaml.Node{}}
		before := len(l.problems)
		l.fields(n.Content[i+1], "override", []field{
			{"params", func(n *yaml.Node) {
				o.params = l.readParams(n)
				for j := 0; j+1 < len(n.Content); j += 2 {
					o.nodes[paramPrefix+n.Content[j].Value] = n.Content[j]
				}
			}},
			{"severity", func(n *yaml.Node) { o.severity = oneOfWords(l, n, severities) }},
			{"enabled", func(n *yaml.Node) { b := l.boolean(n); o.enabled = &b }},
		})
		if len(l.problems) == before {
			s.overrides = append(s.overrides, o)
		}
	}
}

// override applies the overrides in their order, each to the rule of its id that is in force: that of the last layer which has one. The
// drafts are replaced by copies; base keeps the params as they were written.
func (s *loads) override() {
	last := map[string][]int{}
	for i, d := range s.drafts {
		if at := last[d.rule.ID]; len(at) == 0 || s.drafts[at[0]].rule.Layer == d.rule.Layer {
			last[d.rule.ID] = append(at, i)
		} else {
			last[d.rule.ID] = []int{i}
		}
	}
	for _, o := range s.overrides {
		l := loader{at: o.at}
		at, ok := last[o.id]
		if !ok {
			ids := slices.Collect(maps.Keys(last))
			slices.Sort(ids)
			l.failNear(o.node, rule.Nearest(o.id, ids), "overrides: no native rule has the id %.140q", o.id)
		}
		for _, i := range at {
			s.drafts[i] = o.apply(&l, s.drafts[i])
		}
		s.problems = append(s.problems, l.problems...)
	}
}

// apply gives d with the override, or d itself where the two do not fit.
func (o *override) apply(l *loader, d *draft) *draft {
	r := *d.rule
	out := *d
	out.rule = &r
	if out.written == nil {
		out.written = d
	}
	if o.severity != "" {
		r.Severity = o.severity
	}
	if o.enabled != nil {
		if r.Off = ""; !*o.enabled {
			r.Off = switchedOff
		} else if d.condition == nil && d.corr == nil {
			l.fail(o.node, "overrides: rule %s has no condition, so it cannot be enabled", o.id)
		}
	}
	out.params = maps.Clone(d.params)
	names := slices.Sorted(maps.Keys(d.params))
	for _, name := range slices.Sorted(maps.Keys(o.params)) {
		was, at := d.params[name], o.nodes[name]
		if was == nil {
			l.failNear(at, strings.TrimPrefix(rule.Nearest(name, names), paramPrefix), "overrides: rule %s has no param %q", o.id, strings.TrimPrefix(name, paramPrefix))
		} else if v := o.params[name]; v.Type() != was.Type() {
			l.fail(at, "overrides: param %q of rule %s is a %s, not a %s", strings.TrimPrefix(name, paramPrefix), o.id, was.Type().TypeName(), v.Type().TypeName())
		} else {
			out.params[name] = v
		}
	}
	if len(l.problems) > 0 {
		return d
	}
	return &out
}
