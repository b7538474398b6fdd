package main

import (
	"bytes"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// report is the outcome of one check. Failures and Notes are whole lines for people.
type report struct {
	Files    int
	Failures []string
	Notes    []string
}

// checker gathers one run's findings.
type checker struct {
	report
	except map[string]string
	used   map[string]bool
	fset   *token.FileSet
	ifaces map[string]map[string]*ast.InterfaceType // by folder and package, then by type name
	later  []namedInterface                         // measured when every file of a package is known
}

type namedInterface struct {
	pkg, file, name string
	line            int
	typ             *ast.InterfaceType
}

// check walks root. It fails for a Go file that does not parse: what cannot be read cannot be held to anything.
func check(root string, except map[string]string) (report, error) {
	c := &checker{
		except: except, used: map[string]bool{}, fset: token.NewFileSet(),
		ifaces: map[string]map[string]*ast.InterfaceType{},
	}
	var errs []error
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		if d.IsDir() {
			if rel != "." && skippedDir(d.Name()) {
				return filepath.SkipDir
			}
			return nil
		}
		if !d.Type().IsRegular() || !measured(d.Name()) {
			return nil
		}
		// One file of another's unfinished work must not hide the rest.
		if err := c.file(path, rel); err != nil {
			errs = append(errs, err)
		}
		return nil
	})
	if err != nil {
		return c.report, fmt.Errorf("cannot walk %s: %w", root, err)
	}
	for _, i := range c.later {
		if n := c.methods(i.pkg, i.typ, nil); n > maxMethods {
			c.fail(i.file+":"+i.name, "%s:%d: interface %s has %d methods, the budget is %d", i.file, i.line, i.name, n, maxMethods)
		}
	}
	for key := range except {
		if !c.used[key] {
			c.Failures = append(c.Failures, fmt.Sprintf("%s: the exception for it is no longer needed, remove it from sizecheck", key))
		}
	}
	return c.report, errors.Join(errs...)
}

// skippedDir leaves out what nobody here wrote: test data, built and fetched files, hidden folders but .ci.
func skippedDir(name string) bool {
	switch name {
	case "testdata", "node_modules", "vendor", "bin", "dist":
		return true
	}
	return strings.HasPrefix(name, ".") && name != ".ci"
}

func measured(name string) bool {
	switch filepath.Ext(name) {
	case ".go", ".ts", ".tsx", ".css", ".sh":
		return !strings.HasSuffix(name, ".d.ts")
	}
	return false
}

func (c *checker) file(path, rel string) error {
	src, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("cannot read source file: %w", err)
	}
	var tree *ast.File
	if strings.HasSuffix(rel, ".go") {
		if tree, err = parser.ParseFile(c.fset, rel, src, parser.ParseComments|parser.SkipObjectResolution); err != nil {
			return fmt.Errorf("cannot parse source file: %w", err)
		}
		if ast.IsGenerated(tree) {
			return nil
		}
	}
	c.Files++
	if n := lines(src); n > maxFileLines {
		c.fail(rel, "%s: %d lines, the budget is %d", rel, n, maxFileLines)
	}
	if tree != nil {
		c.tree(rel, tree)
	}
	return nil
}

func lines(src []byte) int {
	n := bytes.Count(src, []byte("\n"))
	if len(src) > 0 && src[len(src)-1] != '\n' {
		n++
	}
	return n
}

func (c *checker) tree(rel string, tree *ast.File) {
	pkg := filepath.Dir(rel) + " " + tree.Name.Name
	if c.ifaces[pkg] == nil {
		c.ifaces[pkg] = map[string]*ast.InterfaceType{}
	}
	ast.Inspect(tree, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			c.function(rel, n)
		case *ast.TypeSpec:
			if it, ok := n.Type.(*ast.InterfaceType); ok {
				c.ifaces[pkg][n.Name.Name] = it
				c.later = append(c.later, namedInterface{pkg, rel, n.Name.Name, c.fset.Position(n.Pos()).Line, it})
			}
		}
		return true
	})
}

// function measures from the line of func to that of the closing brace, without the doc comment.
func (c *checker) function(rel string, f *ast.FuncDecl) {
	if f.Body == nil {
		return
	}
	first, last := c.fset.Position(f.Pos()), c.fset.Position(f.End())
	n, name := last.Line-first.Line+1, funcName(f)
	switch {
	case n > maxFuncLines:
		c.fail(rel+":"+name, "%s:%d: function %s has %d lines, the budget is %d", rel, first.Line, name, n, maxFuncLines)
	case n > noteFuncLines:
		c.Notes = append(c.Notes, fmt.Sprintf("%s:%d: function %s has %d lines", rel, first.Line, name, n))
	}
}

func funcName(f *ast.FuncDecl) string {
	if f.Recv == nil || len(f.Recv.List) == 0 {
		return f.Name.Name
	}
	t := f.Recv.List[0].Type
	for {
		switch x := t.(type) {
		case *ast.StarExpr:
			t = x.X
		case *ast.IndexExpr:
			t = x.X
		case *ast.IndexListExpr:
			t = x.X
		case *ast.Ident:
			return x.Name + "." + f.Name.Name
		default:
			return f.Name.Name
		}
	}
}

// methods counts an interface's own methods and those of the interfaces of the same package that it embeds. One embedded from
// elsewhere counts as one: its source is not at hand. seen guards against a cycle, which the compiler reports.
func (c *checker) methods(pkg string, it *ast.InterfaceType, seen []string) int {
	total := 0
	for _, m := range it.Methods.List {
		total += len(m.Names)
		if len(m.Names) > 0 {
			continue
		}
		switch t := m.Type.(type) {
		case *ast.Ident:
			in, ok := c.ifaces[pkg][t.Name]
			if ok && !slices.Contains(seen, t.Name) {
				total += c.methods(pkg, in, append(seen, t.Name))
			}
		case *ast.SelectorExpr:
			total++
		}
	}
	return total
}

func (c *checker) fail(key, format string, args ...any) {
	if _, ok := c.except[key]; ok {
		c.used[key] = true
		return
	}
	c.Failures = append(c.Failures, fmt.Sprintf(format, args...))
}
