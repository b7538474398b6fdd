package rule

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Limits on rule files. They keep a hostile or mistaken file from taking the process down; real packs stay far below.
const (
	MaxFileBytes = 1 << 20
	MaxFiles     = 10_000
	MaxDocuments = 1000    // in one file
	MaxNodes     = 200_000 // of one document once its aliases are expanded
)

// Format is one rule language. Implementations are safe for concurrent use.
type Format interface {
	// Claims reports whether a document is of this format.
	Claims(doc *yaml.Node) bool
	// Load makes rules of one file's documents. A bad rule is a Problem and never stops the others.
	Load(file string, docs []*yaml.Node) ([]*Rule, []*Problem)
}

// File is what one file held.
type File struct {
	Path     string
	Rules    []*Rule
	Problems []*Problem
}

// Load reads every *.yaml and *.yml below the root of fsys, in the order of their paths. Names that begin with a dot are
// passed over: in a mounted ConfigMap they hold a second copy of each file. A document goes to the first format that claims
// it, or to the first of all, whose problems then say what is wrong with it.
func Load(fsys fs.FS, formats ...Format) []File {
	var files []File
	err := fs.WalkDir(fsys, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			files = append(files, failed(p, err))
			return nil
		}
		if p != "." && strings.HasPrefix(d.Name(), ".") {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if ext := path.Ext(p); d.IsDir() || ext != ".yaml" && ext != ".yml" {
			return nil
		}
		if len(files) >= MaxFiles {
			files = append(files, failed(p, fmt.Errorf("more than %d rule files; the rest is not read", MaxFiles)))
			return fs.SkipAll
		}
		files = append(files, LoadFile(fsys, p, formats...))
		return nil
	})
	if err != nil {
		files = append(files, failed(".", err))
	}
	return files
}

func failed(p string, err error) File {
	return File{Path: p, Problems: []*Problem{{File: p, Text: "cannot read: " + err.Error()}}}
}

// LoadFile reads one file.
func LoadFile(fsys fs.FS, p string, formats ...Format) File {
	f, err := fsys.Open(p)
	if err != nil {
		return failed(p, err)
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.IsDir() {
		return File{Path: p} // a link to a folder
	}
	b, err := readLimited(f)
	if err != nil {
		return failed(p, err)
	}
	return Parse(p, b, formats...)
}

// Parse reads the rules of one file's bytes.
func Parse(file string, b []byte, formats ...Format) File {
	out := File{Path: file}
	docs, problems := documents(file, b)
	out.Problems = problems
	byFormat := make([][]*yaml.Node, len(formats))
	for _, d := range docs {
		i := max(0, slices.IndexFunc(formats, func(f Format) bool { return f.Claims(d) }))
		byFormat[i] = append(byFormat[i], d)
	}
	for i, f := range formats {
		if len(byFormat[i]) == 0 {
			continue
		}
		rules, problems := f.Load(file, byFormat[i])
		for _, r := range rules {
			out.Rules = append(out.Rules, r.Compile())
		}
		out.Problems = append(out.Problems, problems...)
	}
	return out
}

// documents splits a file at its `---` lines, which begin a document wherever they stand, and parses each part by itself:
// so a syntax error costs one document, not the rest of the file. Line numbers are those of the file.
func documents(file string, b []byte) ([]*yaml.Node, []*Problem) {
	var docs []*yaml.Node
	var problems []*Problem
	parts := splitDocuments(string(b))
	for i, p := range parts {
		if i == MaxDocuments {
			return docs, append(problems, &Problem{File: file, Line: p.line, Text: fmt.Sprintf("more than %d documents; the rest is not read", MaxDocuments)})
		}
		n, err := parseDocument(p.text)
		if err != nil {
			line, text := yamlError(err)
			problems = append(problems, &Problem{File: file, Line: p.line + max(line-1, 0), Text: text})
			continue
		}
		if n == nil {
			continue
		}
		shift(n, p.line-1)
		if err := checkSize(n); err != nil {
			problems = append(problems, &Problem{File: file, Line: n.Line, Text: err.Error()})
			continue
		}
		docs = append(docs, n)
	}
	return docs, problems
}

type piece struct {
	text string
	line int // of its first line, from 1
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
			out = append(out, piece{s[start:at], first})
			start, first = at, line
		}
		at = end
	}
	return append(out, piece{s[start:], first})
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

// yamlError takes the line out of the YAML parser's message ("yaml: line 3: …").
func yamlError(err error) (line int, text string) {
	text = strings.TrimPrefix(err.Error(), "yaml: ")
	if _, e := fmt.Sscanf(text, "line %d:", &line); e == nil {
		_, text, _ = strings.Cut(text, ": ")
	}
	return line, "not valid YAML: " + text
}

func shift(n *yaml.Node, lines int) {
	n.Line += lines
	for _, c := range n.Content { // aliases point to nodes that are reached as content
		shift(c, lines)
	}
}

var errTooLarge = errors.New("document is too large: its aliases expand to more than 200000 values")

// checkSize bounds the number of values that n stands for, so that whoever follows its aliases ends, and ends soon.
func checkSize(n *yaml.Node) error {
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
