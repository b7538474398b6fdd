package falco

import (
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"whodunit/internal/finding"
	"whodunit/internal/rule"
)

// Bounds on one item once others have been appended to it.
const (
	maxItem       = 1 << 20 // bytes of a condition or an output
	maxDesc       = 1 << 14
	maxTags       = 1000
	maxExceptions = 5000
)

// place is where a YAML scalar stands, as far as its node tells.
type place struct {
	file         string
	line, column int
	key          int  // the column of its key
	one          bool // it has one line
	style        yaml.Style
}

// snippet is a text of a rules file, or several that were appended to each other with a blank between them.
type snippet struct {
	parts []snippetPart
	size  int
}

type snippetPart struct {
	s    string
	from int // where it begins in the whole
	at   place
}

func (t *snippet) add(s string, at place) {
	if len(t.parts) > 0 {
		t.size++
	}
	t.parts = append(t.parts, snippetPart{s, t.size, at})
	t.size += len(s)
}

// String is the whole text.
func (t *snippet) String() string {
	if len(t.parts) == 1 {
		return t.parts[0].s
	}
	var b strings.Builder
	for i, p := range t.parts {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(p.s)
	}
	return b.String()
}

// where is the file's place of byte i of the text. A block's indentation is not in its node: two columns are taken for it. Text that was
// folded has lost its lines, so the place is that of the whole.
func (t *snippet) where(i int) (file string, line, column int) {
	p := t.parts[0]
	for _, q := range t.parts[1:] {
		if q.from <= i {
			p = q
		}
	}
	i = min(max(0, i-p.from), len(p.s))
	before, at := p.s[:i], p.at
	switch {
	case at.style&yaml.LiteralStyle != 0:
		last := strings.LastIndexByte(before, '\n')
		return at.file, at.line + 1 + strings.Count(before, "\n"), at.key + 2 + len(before) - last - 1
	case at.style&yaml.FoldedStyle != 0 && at.one:
		return at.file, at.line + 1, at.key + 2 + i
	case at.style&yaml.FoldedStyle != 0 || !at.one:
		return at.file, at.line, at.column
	case at.style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) != 0:
		i++
	}
	return at.file, at.line, at.column + i
}

// ruleDef is a rule as the files have it so far.
type ruleDef struct {
	name, desc  string
	at          place // of the item that defined it
	layer       int
	source      string
	condition   snippet
	output      snippet
	priority    int
	tags        []string
	exceptions  []*exception
	disabled    bool
	skipUnknown bool
}

type macroDef struct {
	name      string
	at        place
	condition snippet
	done      *compiled     // what it compiled to
	err       *rule.Problem // why not: of this macro, or of one that it names
	busy      bool
}

type listDef struct {
	name  string
	at    place
	items []string

	done   []string
	solved bool
	busy   bool
	cut    bool // it, or one that it names, holds more than may be or leads on too far
}

// priorities are Falco's, from most to least, and what they are here.
var priorities = [...]struct {
	word     string
	severity finding.Severity
}{
	{"Emergency", finding.Critical}, {"Alert", finding.Critical}, {"Critical", finding.Critical}, {"Error", finding.High},
	{"Warning", finding.Medium}, {"Notice", finding.Low}, {"Informational", finding.Info}, {"Debug", finding.Info},
}

// parsePriority reads a priority in any case.
func parsePriority(s string) (int, bool) {
	if strings.EqualFold(s, "info") {
		s = "Informational"
	}
	for i, p := range priorities {
		if strings.EqualFold(s, p.word) {
			return i, true
		}
	}
	return 0, false
}

// Keys that items may have.
var (
	ruleKeys = []string{"rule", "desc", "condition", "output", "priority", "source", "tags", "enabled", "exceptions", "append", "override",
		"warn_evttypes", "skip-if-unknown-filter", "capture", "capture_duration"}
	macroKeys = []string{"macro", "condition", "append", "override"}
	listKeys  = []string{"list", "items", "append", "override"}
	// What override may name, for rules.
	appendable  = []string{"condition", "output", "desc", "tags", "exceptions"}
	replaceable = []string{"condition", "output", "desc", "priority", "tags", "exceptions", "enabled", "warn_evttypes", "skip-if-unknown-filter",
		"capture", "capture_duration"}
)

// item is one item of a file while it is read.
type item struct {
	l        *loader
	at       rule.Place
	node     *yaml.Node
	end      int // the line of the next item, 0 behind the last
	name     string
	values   map[string]*yaml.Node
	keys     map[string]*yaml.Node
	override map[string]string
	appends  bool
	bad      bool // a problem was found
}

func (it *item) place(n *yaml.Node) place {
	return place{file: it.at.File, line: n.Line, column: n.Column, style: n.Style, one: true}
}

// shortText is how long a text may be that is taken to stand on one line where its node does not tell.
const shortText = 100

// textPlace is the place of the text under key. Whether it has several lines shows in where the next key stands, blank lines and comments
// aside.
func (it *item) textPlace(key string) place {
	v := it.values[key]
	p := it.place(v)
	p.key = it.keys[key].Column
	next, lines := it.end, 1
	for _, k := range it.keys {
		if k.Line > v.Line && (next == 0 || k.Line < next) {
			next = k.Line
		}
	}
	if p.style&yaml.FoldedStyle != 0 {
		lines++
	}
	p.one = next > 0 && next <= v.Line+lines || len(v.Value) <= shortText && !strings.Contains(strings.TrimRight(v.Value, "\n"), "\n")
	return p
}

func (it *item) fail(n *yaml.Node, format string, a ...any) { it.failNear(n, "", format, a...) }

func (it *item) failNear(n *yaml.Node, near, format string, a ...any) {
	it.bad = true
	id := ""
	if it.values["rule"] != nil {
		id = slug(it.name)
	}
	it.l.problem(&rule.Problem{File: it.at.File, Line: n.Line, Column: n.Column, Rule: id, Nearest: near}, format, a...)
}

// keysOf reads the item's keys and refuses unknown and repeated ones.
func (it *item) keysOf(kind string, known []string) {
	it.values, it.keys = map[string]*yaml.Node{}, map[string]*yaml.Node{}
	for i := 0; i+1 < len(it.node.Content); i += 2 {
		if k := it.node.Content[i]; k.Value == kind {
			it.name = rule.Resolve(it.node.Content[i+1]).Value
		}
	}
	for i := 0; i+1 < len(it.node.Content); i += 2 {
		k, v := rule.Resolve(it.node.Content[i]), rule.Resolve(it.node.Content[i+1])
		if it.values[k.Value] != nil {
			it.fail(k, "key %.60q stands twice in %s", k.Value, kind)
			continue
		}
		if it.values[k.Value] = v; !slices.Contains(known, k.Value) {
			it.failNear(k, rule.Nearest(k.Value, known), "unknown key %.60q in %s; one of %s is expected", k.Value, kind, strings.Join(known, ", "))
		}
		it.keys[k.Value] = k
	}
}

// text reads the text under key, which is required.
func (it *item) text(key string) string {
	v := it.values[key]
	switch {
	case v == nil:
		it.fail(it.node, "no %s; a rule, macro or list needs all of its keys", key)
	case v.Kind != yaml.ScalarNode || v.Tag == "!!null":
		it.fail(v, "%s: a text is expected", key)
	case v.Value == "":
		it.fail(v, "%s is empty", key)
	default:
		return v.Value
	}
	return ""
}

func (it *item) boolean(key string, absent bool) bool {
	v := it.values[key]
	if v == nil {
		return absent
	}
	if v.Kind == yaml.ScalarNode {
		switch strings.ToLower(v.Value) {
		case "true", "yes", "on", "y":
			return true
		case "false", "no", "off", "n":
			return false
		}
	}
	it.fail(v, "%s: true or false is expected", key)
	return absent
}

// texts reads a list of texts.
func (it *item) texts(key string) []string {
	v := it.values[key]
	if v == nil {
		return nil
	}
	if v.Kind != yaml.SequenceNode {
		it.fail(v, "%s: a list is expected", key)
		return nil
	}
	out := make([]string, 0, len(v.Content))
	for _, c := range v.Content {
		if c = rule.Resolve(c); c.Kind != yaml.ScalarNode || c.Tag == "!!null" {
			it.fail(c, "%s: a list of texts is expected", key)
			return nil
		}
		out = append(out, c.Value)
	}
	return out
}

// readOverride reads append and override. Both at once are refused.
func (it *item) readOverride(appendable, replaceable []string) {
	it.appends = it.boolean("append", false)
	v := it.values["override"]
	if v == nil || v.Tag == "!!null" {
		return
	}
	if v.Kind != yaml.MappingNode {
		it.fail(v, "override: a mapping is expected")
		return
	}
	it.override = map[string]string{}
	for i := 0; i+1 < len(v.Content); i += 2 {
		k, op := rule.Resolve(v.Content[i]), rule.Resolve(v.Content[i+1])
		switch {
		case op.Value != "append" && op.Value != "replace":
			it.failNear(op, rule.Nearest(op.Value, []string{"append", "replace"}), "override: %.60q: append or replace is expected", op.Value)
		case !slices.Contains(appendable, k.Value) && !slices.Contains(replaceable, k.Value):
			it.failNear(k, rule.Nearest(k.Value, replaceable), "override: %.60q cannot be overridden", k.Value)
		case op.Value == "append" && !slices.Contains(appendable, k.Value):
			it.fail(op, "override: %s cannot be appended to; replace is expected", k.Value)
		case it.values[k.Value] == nil:
			it.fail(k, "override: %s is to be overridden, but it is not there", k.Value)
		default:
			it.override[k.Value] = op.Value
		}
	}
	if it.appends && len(it.override) > 0 {
		it.fail(v, "append and override cannot stand together")
	}
}
