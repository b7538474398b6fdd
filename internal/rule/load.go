package rule

import (
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"

	"go.yaml.in/yaml/v3"
)

// Limits on rule files. They keep a hostile or mistaken file from taking the process down; real packs stay far below.
const (
	MaxFileBytes = 32 << 20
	MaxFiles     = 100_000
	MaxDocuments = 100_000   // in one file
	MaxNodes     = 1_000_000 // of one document once its aliases are expanded

	maxMarks = 4_000_000 // commas, colons, brackets and lines of a document, before it is parsed into some 100 bytes for each
)

// Format is one rule language. Implementations are safe for concurrent use.
type Format interface {
	Name() string // "native"; it becomes Rule.Format
	// Claims reports whether a document is of this format.
	Claims(doc *yaml.Node) bool
	// Loader begins one load.
	Loader() Loader
}

// Loader makes rules of documents. It is used by one goroutine.
type Loader interface {
	// Add takes the next document; documents come in the order of layers, then of paths, then of their place in the file. A loader
	// that needs no other document makes its rule at once and lets go of doc.
	Add(at Place, doc *yaml.Node)
	// Finish gives the rules and all problems. A bad rule is a Problem and never stops the others.
	Finish() ([]*Rule, []*Problem)
}

// Place says where a document comes from.
type Place struct {
	Layer int
	File  string // the layer's name and the path in it
	FS    fs.FS  // the layer's files, for those that the document names; nil: none
	Path  string // the file's path in FS
}

// Loaded is what a Load found.
type Loaded struct {
	Files    []string // that were read, in order, named as in Place
	Rules    []*Rule  // in the order of formats, then as the format gave them
	Problems []*Problem
}

// Set puts the rules in force: a rule of a later layer replaces one of the same id in an earlier layer.
func (l *Loaded) Set() (*Set, []*Problem) {
	byLayer := map[int][]*Rule{}
	last := 0
	for _, r := range l.Rules {
		byLayer[r.Layer] = append(byLayer[r.Layer], r)
		last = max(last, r.Layer)
	}
	var set *Set
	var problems []*Problem
	for i := range last + 1 {
		var twice []*Problem
		set, twice = Over(set, byLayer[i])
		problems = append(problems, twice...)
	}
	return set, problems
}

// Load reads every *.yaml, *.yml and *.json of the layers. A document goes to the first format that claims it. One that looks a little like
// a native rule goes to the first of all, whose problems then say what is wrong with it; any other is one problem. Parsing uses all processors, and few documents are held at a time.
func Load(layers []Layer, formats ...Format) *Loaded {
	out := &Loaded{}
	loaders := make([]Loader, len(formats))
	for i, f := range formats {
		loaders[i] = f.Loader()
	}
	for d := range parsed(layers, out) {
		if d.problem != nil {
			out.Problems = append(out.Problems, d.problem)
		}
		if d.node == nil {
			continue
		}
		switch i := slices.IndexFunc(formats, func(f Format) bool { return f.Claims(d.node) }); {
		case i >= 0:
			loaders[i].Add(d.at, d.node)
		case nearNative(d.node):
			loaders[0].Add(d.at, d.node)
		default:
			out.Problems = append(out.Problems, &Problem{File: d.at.File, Line: d.node.Line, Column: d.node.Column, Text: foreign(d.node, formats)})
		}
	}
	for _, l := range loaders {
		rules, problems := l.Finish()
		out.Rules = append(out.Rules, rules...)
		out.Problems = append(out.Problems, problems...)
	}
	return out
}

// nearNative reports whether somebody may have meant doc as a native rule: it has an id or a condition, or nearly.
func nearNative(doc *yaml.Node) bool {
	if doc.Kind != yaml.MappingNode {
		return false
	}
	for i := 0; i+1 < len(doc.Content); i += 2 {
		if k := doc.Content[i].Value; k == "id" || k == "condition" || Nearest(k, []string{"condition"}) != "" {
			return true
		}
	}
	return false
}

// foreign is what is wrong with a document that is of no format: a manifest, say, that came to stand among rules.
func foreign(doc *yaml.Node, formats []Format) string {
	names := make([]string, len(formats))
	for i, f := range formats {
		names[i] = f.Name()
	}
	has := "a list"
	switch doc.Kind {
	case yaml.ScalarNode:
		has = "a plain value"
	case yaml.MappingNode:
		const most = 6
		var keys []string
		for i := 0; i+1 < len(doc.Content) && len(keys) <= most; i += 2 {
			keys = append(keys, fmt.Sprintf("%.40s", doc.Content[i].Value))
		}
		if len(keys) > most {
			keys[most] = "…"
		}
		if has = "an empty mapping"; len(keys) > 0 {
			has = "a mapping of " + strings.Join(keys, ", ")
		}
	}
	return fmt.Sprintf("no rule of any format (%s): it is %s", strings.Join(names, ", "), has)
}

// Parse loads the rules of one file's bytes.
func Parse(file string, b []byte, formats ...Format) *Loaded {
	dir, name := path.Split(file)
	return Load([]Layer{{Name: path.Clean(dir), FS: bytesFS{name, b}, File: name}}, formats...)
}

// document is one piece of a file, parsed.
type document struct {
	at      Place
	node    *yaml.Node
	problem *Problem
}

// parsed gives the documents of all layers in order; workers parse ahead of the consumer.
func parsed(layers []Layer, out *Loaded) iter.Seq[document] {
	return func(yield func(document) bool) {
		workers := runtime.GOMAXPROCS(0)
		queue := make(chan chan document, 4*workers) // results in order, each filled by its worker
		jobs := make(chan func(), 4*workers)
		stop := make(chan struct{})
		var wg sync.WaitGroup
		for range workers {
			wg.Go(func() {
				for f := range jobs {
					f()
				}
			})
		}
		wg.Go(func() {
			defer close(jobs)
			defer close(queue)
			r := reader{put: func(at Place, p piece, json bool) bool {
				c := make(chan document, 1)
				select {
				case queue <- c:
				case <-stop:
					return false
				}
				jobs <- func() { c <- parsePiece(at, p, json) }
				return true
			}}
			for i, l := range layers {
				r.layer(i, l)
			}
			out.Files = r.files
		})
		defer wg.Wait()
		defer close(stop)
		for c := range queue {
			if !yield(<-c) {
				return
			}
		}
	}
}

func parsePiece(at Place, p piece, json bool) document {
	if p.problem != "" {
		return document{at: at, problem: &Problem{File: at.File, Line: p.line, Text: p.problem}}
	}
	if marks := strings.Count(p.text, ",") + strings.Count(p.text, "\n") + strings.Count(p.text, ": ") + strings.Count(p.text, "["); marks > maxMarks {
		return document{at: at, problem: &Problem{File: at.File, Line: p.line, Text: "document is too large: split it"}}
	}
	parse, form := parseDocument, "YAML"
	if json {
		parse, form = parseJSON, "JSON"
	}
	n, err := parse(p.text)
	if err != nil {
		line, text := syntaxError(form, err)
		return document{at: at, problem: &Problem{File: at.File, Line: p.line + max(line-1, 0), Text: text}}
	}
	if n == nil {
		return document{at: at}
	}
	if p.line > 1 {
		shift(n, p.line-1)
	}
	if err := checkSize(n); err != nil {
		return document{at: at, problem: &Problem{File: at.File, Line: n.Line, Text: err.Error()}}
	}
	return document{at: at, node: n}
}

type piece struct {
	text string
	line int // of its first line, from 1

	problem string // in place of text
}

func splitDocuments(s string) []piece {
	s = strings.TrimPrefix(s, "\ufeff")
	var out []piece
	start, first, line := 0, 1, 0
	for at := 0; at < len(s); {
		line++
		end := len(s)
		if i := strings.IndexByte(s[at:], '\n'); i >= 0 {
			end = at + i + 1
		}
		if l := s[at:end]; strings.HasPrefix(l, "---") && (len(l) == 3 || strings.ContainsRune(" \t\r\n", rune(l[3]))) && at > start {
			if !onlyDirectives(s[start:at]) {
				out = append(out, piece{text: s[start:at], line: first})
			}
			start, first = at, line
		}
		at = end
	}
	return append(out, piece{text: s[start:], line: first})
}

// onlyDirectives reports whether s is what may stand before a document's ---: %YAML 1.2, which the parser refuses though it reads most of it.
func onlyDirectives(s string) bool {
	for l := range strings.Lines(s) {
		if l = strings.TrimRight(l, " \t\r\n"); l != "" && l[0] != '%' && l[0] != '#' {
			return false
		}
	}
	return true
}

// parseDocument gives the document's content, nil for an empty one.
func parseDocument(s string) (*yaml.Node, error) {
	var n yaml.Node
	if err := yaml.Unmarshal([]byte(s), &n); err != nil {
		return nil, err
	}
	if n.Kind != yaml.DocumentNode || len(n.Content) == 0 {
		return nil, nil
	}
	c := n.Content[0]
	if c.Kind == yaml.ScalarNode && c.Tag == "!!null" {
		return nil, nil
	}
	return c, nil
}

// syntaxError takes the line out of a parser's message ("yaml: line 3: …").
func syntaxError(form string, err error) (line int, text string) {
	text = strings.TrimPrefix(err.Error(), "yaml: ")
	if _, e := fmt.Sscanf(text, "line %d:", &line); e == nil {
		_, text, _ = strings.Cut(text, ": ")
	}
	return line, "not valid " + form + ": " + text
}

func shift(n *yaml.Node, lines int) {
	n.Line += lines
	for _, c := range n.Content { // aliases point to nodes that are reached as content
		shift(c, lines)
	}
}

var errTooLarge = errors.New("document is too large: its aliases expand to more than 1000000 values")

// checkSize bounds the number of values that n stands for, so that whoever follows its aliases ends, and ends soon.
func checkSize(n *yaml.Node) error {
	if total, plain := countNodes(n); plain && total <= MaxNodes {
		return nil
	}
	sizes := map[*yaml.Node]int{}
	var size func(*yaml.Node) (int, error)
	size = func(n *yaml.Node) (int, error) {
		if s, ok := sizes[n]; ok {
			if s < 0 {
				return 0, errors.New("an alias contains itself")
			}
			return s, nil
		}
		sizes[n] = -1
		total := 1
		if n.Kind == yaml.AliasNode {
			s, err := size(n.Alias)
			if err != nil {
				return 0, err
			}
			total += s
		}
		for _, c := range n.Content {
			s, err := size(c)
			if err != nil {
				return 0, err
			}
			if total += s; total > MaxNodes {
				return 0, errTooLarge
			}
		}
		sizes[n] = total
		return total, nil
	}
	_, err := size(n)
	return err
}

// countNodes counts the values of a document without aliases, which nearly all are; plain is false of others.
func countNodes(n *yaml.Node) (total int, plain bool) {
	if n.Kind == yaml.AliasNode {
		return 0, false
	}
	total = 1
	for _, c := range n.Content {
		t, ok := countNodes(c)
		if !ok {
			return 0, false
		}
		total += t
	}
	return total, true
}
