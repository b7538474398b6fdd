package falco

import (
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"whodunit/internal/rule"
)

// loader keeps what the files define, in their order, and makes rules of it at the end. It implements rule.Loader.
type loader struct {
	read reader

	rules  []*ruleDef
	byName map[string]*ruleDef
	macros map[string]*macroDef
	order  []*macroDef
	lists  map[string]*listDef
	broken map[string]bool // items, as "rule x", that were left out: what is appended to them says nothing more

	problems []*rule.Problem
	compiler *compiler
	copied   int // values of lists
	chain    int // of lists that are being read
	looked   int // nearest names
}

func newLoader(r reader) *loader {
	l := &loader{read: r, byName: map[string]*ruleDef{}, macros: map[string]*macroDef{}, lists: map[string]*listDef{}, broken: map[string]bool{}}
	l.compiler = newCompiler(l)
	return l
}

func (l *loader) problem(p *rule.Problem, format string, a ...any) {
	p.Text = fmt.Sprintf(format, a...)
	l.problems = append(l.problems, p)
}

// Add implements rule.Loader.
func (l *loader) Add(at rule.Place, doc *yaml.Node) {
	doc = rule.Resolve(doc)
	if doc.Kind != yaml.SequenceNode {
		l.problem(&rule.Problem{File: at.File, Line: doc.Line, Column: doc.Column}, "a list of rules, macros and lists is expected")
		return
	}
	for i, n := range doc.Content {
		n = rule.Resolve(n)
		it := &item{l: l, at: at, node: n}
		if i+1 < len(doc.Content) {
			it.end = doc.Content[i+1].Line
		}
		switch kindOf(n) {
		case "rule":
			l.addRule(it)
		case "macro":
			l.addMacro(it)
		case "list":
			l.addList(it)
		case "required_engine_version", "required_plugin_versions":
		default:
			l.unknownItem(it)
		}
	}
}

// unknownItem says what is wrong with an item that is none.
func (l *loader) unknownItem(it *item) {
	n := it.node
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		return
	}
	near := ""
	if n.Kind == yaml.MappingNode && len(n.Content) > 0 {
		near = rule.Nearest(n.Content[0].Value, itemKeys)
	}
	it.failNear(n, near, "a mapping with one of %s is expected", strings.Join(itemKeys, ", "))
}

// isIdentifier says whether s can name a macro.
func isIdentifier(s string) bool {
	p := &parser{s: s}
	return s != "" && p.identifier() == s
}

// isBare says whether s can name a list.
func isBare(s string) bool {
	p := &parser{s: s}
	return s != "" && p.bare() == s
}

func (l *loader) addList(it *item) {
	it.keysOf("list", listKeys)
	name := it.text("list")
	if !it.bad && !isBare(name) {
		it.fail(it.values["list"], "list %.60q: a name without blanks, quotes, parentheses, commas and = is expected", name)
	}
	it.readOverride([]string{"items"}, []string{"items"})
	if it.values["items"] == nil {
		it.fail(it.node, "no items; a list needs them")
	}
	items := it.texts("items")
	d := l.lists[name]
	switch {
	case it.bad:
		l.broken["list "+name] = true
	case it.appends || it.override["items"] == "append":
		if d == nil {
			l.nothingBefore(it, "list", name, maps.Keys(l.lists))
			return
		}
		d.items = append(d.items, items...)
	case d == nil:
		l.lists[name] = &listDef{name: name, at: it.place(it.node), items: items}
	default:
		d.items, d.at = items, it.place(it.node)
	}
}

// nothingBefore says that an item appends to nothing.
func (l *loader) nothingBefore(it *item, kind, name string, known iter.Seq[string]) {
	if l.broken[kind+" "+name] {
		return
	}
	it.failNear(it.values[kind], l.nearest(name, known), "there is no %s %.100q before this one that it could change", kind, name)
}

// nearest is the name most like name. Only the first unknown names of a load are looked for: a hostile file has many, of many.
func (l *loader) nearest(name string, known iter.Seq[string]) string {
	if l.looked++; l.looked > 100 {
		return ""
	}
	return rule.Nearest(name, slices.Sorted(known))
}

func (l *loader) addMacro(it *item) {
	it.keysOf("macro", macroKeys)
	name := it.text("macro")
	if !it.bad && !isIdentifier(name) {
		it.fail(it.values["macro"], "macro %.60q: a name of letters, digits and _ is expected", name)
	}
	it.readOverride([]string{"condition"}, []string{"condition"})
	condition := it.text("condition")
	d := l.macros[name]
	switch {
	case it.bad:
		l.broken["macro "+name] = true
	case it.appends || it.override["condition"] == "append":
		if d == nil {
			l.nothingBefore(it, "macro", name, maps.Keys(l.macros))
			return
		}
		if it.fits(&d.condition, condition) {
			d.condition.add(condition, it.textPlace("condition"))
		}
	default:
		if d == nil {
			d = &macroDef{name: name}
			l.macros[name] = d
			l.order = append(l.order, d)
		}
		d.at, d.condition = it.place(it.node), snippet{}
		d.condition.add(condition, it.textPlace("condition"))
	}
}

// fits refuses texts that grow too large.
func (it *item) fits(t *snippet, more string) bool {
	if t.size+len(more) > maxItem {
		it.fail(it.node, "the text becomes longer than %d bytes", maxItem)
		return false
	}
	return true
}

func (l *loader) addRule(it *item) {
	it.keysOf("rule", ruleKeys)
	name := it.text("rule")
	it.readOverride(appendable, replaceable)
	d := l.byName[name]
	define := it.values["condition"] != nil || it.values["output"] != nil || it.values["desc"] != nil || it.values["priority"] != nil
	switch {
	case it.bad:
	case it.appends, len(it.override) > 0:
		if d == nil {
			l.nothingBefore(it, "rule", name, maps.Keys(l.byName))
			return
		}
		it.change(d)
	case !define:
		if it.values["enabled"] == nil {
			it.fail(it.node, "no condition, output, desc and priority; or enabled, for a rule that came before")
		} else if on := it.boolean("enabled", true); d == nil {
			l.nothingBefore(it, "rule", name, maps.Keys(l.byName))
		} else if !it.bad {
			d.disabled = !on
		}
	default:
		it.define(d, name)
	}
	if it.bad && d == nil {
		l.broken["rule "+name] = true
	}
}

// define makes a rule, or makes it anew: then it keeps its position.
func (it *item) define(before *ruleDef, name string) {
	d := &ruleDef{name: name, at: it.place(it.node), layer: it.at.Layer, source: "syscall"}
	condition, output := it.text("condition"), it.text("output")
	d.desc = it.text("desc")
	if p := it.text("priority"); p != "" {
		d.priority = it.priority(p)
	}
	if it.values["source"] != nil {
		d.source = it.text("source")
	}
	d.disabled = !it.boolean("enabled", true)
	d.skipUnknown = it.boolean("skip-if-unknown-filter", false)
	d.tags = it.texts("tags")
	d.exceptions = it.exceptions(d.source == Source, false)
	if before != nil && before.source != d.source {
		it.fail(it.node, "rule is defined again with source %.60q; it was %.60q", d.source, before.source)
	}
	if it.bad {
		return
	}
	d.condition.add(condition, it.textPlace("condition"))
	d.output.add(strings.TrimSpace(output), it.textPlace("output"))
	if before != nil {
		*before = *d
		return
	}
	it.l.byName[name] = d
	it.l.rules = append(it.l.rules, d)
}

func (it *item) priority(s string) int {
	i, ok := parsePriority(s)
	if !ok {
		words := make([]string, len(priorities))
		for i, p := range priorities {
			words[i] = p.word
		}
		it.failNear(it.values["priority"], rule.Nearest(s, words), "%.60q: one of %s is expected", s, strings.Join(words, ", "))
	}
	return i
}

// change appends to a rule or overrides parts of it. Nothing is changed where anything is wrong.
func (it *item) change(d *ruleDef) {
	if it.appends {
		it.override = map[string]string{}
		for _, k := range [...]string{"condition", "exceptions"} {
			if it.values[k] != nil {
				it.override[k] = "append"
			}
		}
		if len(it.override) == 0 {
			it.fail(it.node, "append without condition and exceptions changes nothing")
		}
	} else {
		for i := 0; i+1 < len(it.node.Content); i += 2 {
			if k := it.node.Content[i]; slices.Contains(replaceable, k.Value) && it.override[k.Value] == "" {
				it.fail(k, "%s stands here, but override says nothing of it", k.Value)
			}
		}
	}
	next := *d
	for _, k := range replaceable {
		if op := it.override[k]; op != "" {
			it.changeKey(&next, k, op == "append")
		}
	}
	if !it.bad {
		*d = next
	}
}

func (it *item) changeKey(d *ruleDef, key string, appends bool) {
	put := func(t *snippet) {
		s := it.text(key)
		if it.bad {
			return
		}
		if !appends {
			*t = snippet{}
		}
		if it.fits(t, s) {
			t.add(s, it.textPlace(key))
		}
	}
	switch key {
	case "condition":
		put(&d.condition)
	case "output":
		put(&d.output)
	case "desc":
		s := it.text(key)
		if appends {
			s = d.desc + " " + s
		}
		if d.desc = s; len(s) > maxDesc {
			it.fail(it.values[key], "desc is longer than %d bytes", maxDesc)
		}
	case "priority":
		if p := it.text(key); p != "" {
			d.priority = it.priority(p)
		}
	case "tags":
		t := it.texts(key)
		if appends {
			t = append(d.tags, t...)
		}
		if d.tags = t; len(t) > maxTags {
			it.fail(it.values[key], "more than %d tags", maxTags)
		}
	case "enabled":
		d.disabled = !it.boolean(key, true)
	case "skip-if-unknown-filter":
		d.skipUnknown = it.boolean(key, false)
	case "exceptions":
		if e := it.exceptions(d.source == Source, appends); appends {
			it.mergeExceptions(d, e)
		} else {
			d.exceptions = e
		}
	}
}
