package docs

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRepository(t *testing.T) {
	broken, err := Check(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range broken {
		t.Error(b)
	}
}

func TestCheck(t *testing.T) {
	root := t.TempDir()
	files := map[string]string{
		"README.md": "# A `code` heading, twice\n## Same\n## Same\n[a](docs/a.md) [b](docs/none.md \"title\") [c](#same-1)\n" +
			"[d](#a-code-heading-twice) [e](#nope) ![f](docs) [g](https://example.org/x#y) [h](/docs/a.md)\n" +
			"`[not](a-link.md)`\n```\n[nor](this.md)\n```\n[i](docs/a.md#deep) [j](docs#x) [k](<docs/a.md>)\n",
		"docs/a.md":          "### Deep\n[up](../README.md#same)\n",
		"testdata/ignore.md": "[x](none.md)\n",
	}
	for name, content := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := Check(root)
	if err != nil {
		t.Fatal(err)
	}
	want := []Broken{
		{"README.md", 4, "docs/none.md", "no such file"},
		{"README.md", 5, "#nope", "no such heading"},
		{"README.md", 5, "/docs/a.md", "write it relative to this file"},
		{"README.md", 10, "docs#x", "only Markdown files have headings to point at"},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("broken links (-want +got):\n%s", d)
	}
}
