package manager

import (
	"errors"
	"fmt"
	htmltemplate "html/template"
	"net/url"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	texttemplate "text/template"
	"text/template/parse"
	"time"

	amalert "github.com/prometheus/alertmanager/alert"
	"github.com/prometheus/alertmanager/config"
	"github.com/prometheus/alertmanager/notify"
	"github.com/prometheus/alertmanager/template"
	"github.com/prometheus/common/model"
	"go.yaml.in/yaml/v3"
)

// checker finds what is wrong with templates before an alert does.
type checker struct {
	src     *source
	files   map[string]string // path by the name that errors have
	all     *texttemplate.Template
	tmpl    *template.Template
	samples []*template.Data
}

// checkTemplates reads the template files and tries them and the templates in the configuration on sample alerts.
func checkTemplates(src *source, conf *config.Config, external *url.URL) (*template.Template, error) {
	c := &checker{src: src, files: map[string]string{}}
	var parsed []*texttemplate.Template
	for _, pattern := range conf.Templates {
		names, err := filepath.Glob(pattern)
		if err != nil {
			return nil, fmt.Errorf("%s: templates: %q: %w", src.file, pattern, err)
		}
		for _, name := range names {
			t, err := c.file(name)
			if err != nil {
				return nil, err
			}
			parsed = append(parsed, t)
		}
	}
	tmpl, err := template.FromGlobs(conf.Templates, func(text *texttemplate.Template, _ *htmltemplate.Template) { c.all = text })
	if err != nil {
		return nil, fmt.Errorf("%s: templates: %w", src.file, err)
	}
	tmpl.ExternalURL = external
	for _, t := range parsed {
		for _, d := range t.Templates() {
			if err := c.references(d.Tree, ""); err != nil {
				return nil, err
			}
		}
	}
	c.tmpl, c.samples = tmpl, samples(tmpl)
	return tmpl, c.config()
}

func (c *checker) file(name string) (*texttemplate.Template, error) {
	b, err := readFile(name)
	if err != nil {
		return nil, fmt.Errorf("cannot read template: %w", err)
	}
	base := filepath.Base(name)
	c.files[base] = name
	t, err := texttemplate.New(base).Funcs(texttemplate.FuncMap(template.DefaultFuncs)).Parse(string(b))
	if err != nil {
		return nil, c.place(err, "") // it has the file's name
	}
	return t, nil
}

var templateError = regexp.MustCompile(`(?s)^(?:html/)?template: ?([^:]*):(\d+):(\d+:)?\s*(.*)$`)

// place puts the path of a template's file, or the place in the configuration, into an error of a template.
func (c *checker) place(err error, where string) error {
	m := templateError.FindStringSubmatch(err.Error())
	if m == nil {
		return fmt.Errorf("%s: %w", where, err)
	}
	name, line, column, text := m[1], m[2], m[3], m[4]
	if path, ok := c.files[name]; ok {
		if where != "" {
			text += " (used at " + where + ")"
		}
		return fmt.Errorf("%s:%s:%s %s", path, line, column, text)
	}
	if name != "" {
		text = fmt.Sprintf("%s:%s: %s", name, line, text)
	} else if file, first, ok := cutLast(where); ok {
		n, _ := strconv.Atoi(line)
		where = fmt.Sprintf("%s:%d", file, first+n-1)
	}
	return fmt.Errorf("%s: template: %s", where, text)
}

// cutLast takes the line off a place.
func cutLast(where string) (file string, line int, ok bool) {
	i := strings.LastIndexByte(where, ':')
	if i < 0 {
		return "", 0, false
	}
	line, err := strconv.Atoi(where[i+1:])
	return where[:i], line, err == nil
}

// references refuses those to templates that are not there.
func (c *checker) references(tree *parse.Tree, where string) (err error) {
	if tree == nil || tree.Root == nil {
		return nil
	}
	visit(tree.Root, func(n *parse.TemplateNode) {
		if err == nil && c.all.Lookup(n.Name) == nil {
			at, _ := tree.ErrorContext(n)
			err = c.place(fmt.Errorf("template: %s: template %q is not defined", at, n.Name), where)
		}
	})
	return err
}

func visit(n parse.Node, f func(*parse.TemplateNode)) {
	branch := func(b *parse.BranchNode) {
		visit(b.List, f)
		if b.ElseList != nil {
			visit(b.ElseList, f)
		}
	}
	switch n := n.(type) {
	case *parse.TemplateNode:
		f(n)
	case *parse.ListNode:
		for _, c := range n.Nodes {
			visit(c, f)
		}
	case *parse.IfNode:
		branch(&n.BranchNode)
	case *parse.RangeNode:
		branch(&n.BranchNode)
	case *parse.WithNode:
		branch(&n.BranchNode)
	}
}

// noTemplates are the parts of a receiver that Alertmanager takes as they are.
var noTemplates = map[string]bool{"http_config": true, "tls_config": true, "sigv4": true, "name": true}

// config checks the templates in receivers and in the labels of routes.
func (c *checker) config() error {
	for _, r := range items(child(&c.src.root, "receivers")) {
		for i := 0; r.Kind == yaml.MappingNode && i+1 < len(r.Content); i += 2 {
			kind := strings.TrimSuffix(r.Content[i].Value, "_configs")
			for _, n := range items(r.Content[i+1]) {
				mode := child(n, "parse_mode")
				html := kind == "telegram" && (mode == nil || mode.Value == "HTML")
				if err := c.scalars(n, "", html); err != nil {
					return err
				}
			}
		}
	}
	for _, r := range routes(child(&c.src.root, "route")) {
		if err := c.scalars(child(r, "labels"), "", false); err != nil {
			return err
		}
	}
	return nil
}

func (c *checker) scalars(n *yaml.Node, key string, html bool) error {
	if n == nil || noTemplates[key] || strings.HasSuffix(key, "_file") {
		return nil
	}
	if n.Kind == yaml.AliasNode && n.Alias.Kind == yaml.ScalarNode {
		n = n.Alias // a larger part is checked where it stands
	}
	switch n.Kind {
	case yaml.ScalarNode:
		if strings.Contains(n.Value, "{{") {
			return c.scalar(n, key, html && key == "message" || key == "html")
		}
	case yaml.SequenceNode:
		for _, e := range n.Content {
			if err := c.scalars(e, key, html); err != nil {
				return err
			}
		}
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			if err := c.scalars(n.Content[i+1], n.Content[i].Value, html); err != nil {
				return err
			}
		}
	}
	return nil
}

// templatedSecrets are the secrets that some integration takes for a template; a password is none, whatever is in it.
var templatedSecrets = map[string]bool{"routing_key": true, "service_key": true, "user_key": true, "token": true, "api_key": true}

func (c *checker) scalar(n *yaml.Node, key string, html bool) error {
	where := c.src.at(n)
	if n.Style == yaml.LiteralStyle || n.Style == yaml.FoldedStyle {
		where = fmt.Sprintf("%s:%d", c.src.file, n.Line+1)
	}
	secret := isSecret(key, "")
	if secret && !templatedSecrets[key] {
		return nil
	}
	all, err := c.all.Clone()
	if err != nil {
		return fmt.Errorf("%s: %w", where, err)
	}
	t, err := all.New("").Parse(n.Value)
	if err != nil && (secret || isURL(key)) {
		return fmt.Errorf("%s: %s: not a template", where, key) // the error would show a piece of it
	}
	if err != nil {
		return c.place(err, where)
	}
	if err := c.references(t.Tree, where); err != nil {
		return err
	}
	for _, d := range c.samples {
		if html {
			_, err = c.tmpl.ExecuteHTMLString(n.Value, d)
		} else {
			_, err = c.tmpl.ExecuteTextString(n.Value, d)
		}
		var inHTML *htmltemplate.Error
		if err != nil && (errors.As(err, &inHTML) || strings.Contains(err.Error(), "can't evaluate field")) {
			return c.place(err, where)
		}
	}
	return nil
}

// samples are what a template gets, of a group that fires and of one that is over.
func samples(tmpl *template.Template) []*template.Data {
	now := time.Now()
	sample := func(ends time.Time) *template.Data {
		labels := model.LabelSet{"alertname": "Sample", "cluster": "sample", "severity": "high"}
		a := &amalert.Alert{Alert: model.Alert{Labels: labels, Annotations: model.LabelSet{"summary": "sample", "description": "sample"},
			StartsAt: now.Add(-time.Minute), EndsAt: ends, GeneratorURL: "http://sample.invalid/"}}
		d := tmpl.Data("sample", labels, nil, notify.ReasonFirstNotification.String(), a)
		template.MarkRouteLabelsRendered(d)
		return d
	}
	return []*template.Data{sample(time.Time{}), sample(now.Add(-time.Second))}
}
