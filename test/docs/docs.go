// Package docs holds the repository's own documents to what they say: every link between files leads somewhere.
package docs

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// Broken is a link that leads nowhere.
type Broken struct {
	File string // relative to the root, with slashes
	Line int
	Link string
	Why  string
}

func (b Broken) String() string {
	return fmt.Sprintf("%s:%d: link %q: %s", b.File, b.Line, b.Link, b.Why)
}

// Check looks at every Markdown file below root. Links to other sites are not followed: they are not ours, and may be out of reach.
func Check(root string) ([]Broken, error) {
	c := checker{
		root:     root,
		anchors:  map[string]map[string]bool{},
		link:     regexp.MustCompile(`!?\[[^\]]*\]\(\s*<?([^)\s>]+)>?(?:\s+"[^"]*")?\s*\)`),
		code:     regexp.MustCompile("`[^`]*`"),
		absolute: regexp.MustCompile(`^[a-z][a-z0-9+.-]*:`),
		notInID:  regexp.MustCompile(`[^\p{L}\p{N}\s_-]`),
	}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() {
			if path != root && (strings.HasPrefix(name, ".") || name == "node_modules" || name == "testdata" || name == "bin") {
				return filepath.SkipDir
			}
			return nil
		}
		if filepath.Ext(name) == ".md" {
			return c.file(path)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("cannot check links: %w", err)
	}
	return c.broken, nil
}

type checker struct {
	root                          string
	broken                        []Broken
	anchors                       map[string]map[string]bool // by file
	link, code, absolute, notInID *regexp.Regexp
}

// prose gives the file's lines with those inside fenced code emptied, so that line numbers stay.
func prose(path string) ([]string, error) {
	src, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	lines := strings.Split(string(src), "\n")
	fenced := false
	for i, l := range lines {
		fence := strings.HasPrefix(strings.TrimSpace(l), "```")
		if fence {
			fenced = !fenced
		}
		if fenced || fence {
			lines[i] = ""
		}
	}
	return lines, nil
}

func (c *checker) file(path string) error {
	lines, err := prose(path)
	if err != nil {
		return err
	}
	rel, err := filepath.Rel(c.root, path)
	if err != nil {
		return err
	}
	for i, l := range lines {
		for _, m := range c.link.FindAllStringSubmatch(c.code.ReplaceAllString(l, ""), -1) {
			if why := c.follow(path, m[1]); why != "" {
				c.broken = append(c.broken, Broken{filepath.ToSlash(rel), i + 1, m[1], why})
			}
		}
	}
	return nil
}

// follow says what is wrong with a link, or nothing.
func (c *checker) follow(from, link string) string {
	if c.absolute.MatchString(link) {
		return ""
	}
	target, anchor, _ := strings.Cut(link, "#")
	path := from
	switch {
	case strings.HasPrefix(target, "/"):
		return "write it relative to this file"
	case target != "":
		path = filepath.Join(filepath.Dir(from), filepath.FromSlash(target))
	}
	info, err := os.Stat(path)
	if err != nil {
		return "no such file"
	}
	if anchor == "" {
		return ""
	}
	if info.IsDir() || filepath.Ext(path) != ".md" {
		return "only Markdown files have headings to point at"
	}
	ids, err := c.ids(path)
	if err != nil {
		return err.Error()
	}
	if !ids[anchor] {
		return "no such heading"
	}
	return ""
}

// ids are the anchors of a file's headings, as code hosts make them: lower case, spaces to hyphens, other signs dropped.
func (c *checker) ids(path string) (map[string]bool, error) {
	if ids := c.anchors[path]; ids != nil {
		return ids, nil
	}
	lines, err := prose(path)
	if err != nil {
		return nil, err
	}
	ids := map[string]bool{}
	for _, l := range lines {
		text := strings.TrimLeft(l, "#")
		if text == l || !strings.HasPrefix(text, " ") {
			continue
		}
		base := strings.ReplaceAll(c.notInID.ReplaceAllString(strings.ToLower(strings.TrimSpace(text)), ""), " ", "-")
		id := base
		for n := 1; ids[id]; n++ {
			id = fmt.Sprintf("%s-%d", base, n)
		}
		ids[id] = true
	}
	c.anchors[path] = ids
	return ids, nil
}
