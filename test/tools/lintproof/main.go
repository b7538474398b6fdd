// Command lintproof shows that the import rules of .golangci.yml fire: a rule that matches no file looks exactly like a rule that
// is kept. It builds two small modules beside each other, one with every import that the rules are to refuse and one with imports
// that they must let pass, and runs the linter with the real configuration over both.
//
//	go run ./test/tools/lintproof GOLANGCI-LINT
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// edge is one import: from a folder to a folder, both below the module's root, or to a path with a dot, outside of it.
type edge struct{ from, to string }

// refused must each give exactly one finding. No cycle may run through them, or the module does not load.
func refused() []edge {
	return []edge{
		{"internal/audit", "internal/finding"},
		{"internal/match", "internal/store"},
		{"internal/envelope", "internal/redact"},
		{"internal/journal", "internal/rule"},
		{"internal/journal/wal", "internal/journal/segment"},
		{"internal/source", "internal/query"},
		{"internal/source/file", "internal/source/webhook"},
		{"internal/rule/native", "internal/rule/falco"},
		{"internal/rule", "internal/rule/sigma"},
		{"internal/store", "internal/store/opensearch"},
		{"internal/store/segment", "internal/source"},
		{"internal/explain", "internal/policy"},
		{"internal/explain", "internal/store/segment"},
		{"internal/store/file", "internal/source/webhook"},
		{"internal/rbac", "internal/store"},
		{"internal/detect", "internal/alert"},
		{"internal/alert/manager", "internal/alert/incident"},
		{"internal/alert/incident", "internal/store"},
		{"internal/act", "internal/alert/manager"},
		{"internal/detect", "internal/scan"},
		{"internal/correlate", "internal/detect"},
		{"internal/coverage", "internal/detect"},
		{"internal/detect", "internal/store/segment"},
		{"internal/api", "internal/app"},
		{"internal/api", "internal/ui"},
		{"internal/ui", "internal/journal"},
		{"internal/app", "internal/cli"},
		{"internal/app", "test/kit"},
		{"internal/newcomer", "internal/audit"},
		{"internal/store/segment_test", "internal/app"},
		{"cmd/whodunit", "internal/store"},
		{"internal/auth", "io/ioutil"},
	}
}

// allowed must give none.
func allowed() []edge {
	return []edge{
		{"internal/match", "internal/audit"},
		{"internal/journal/wal", "internal/atomicfile"},
		{"internal/auth", "internal/atomicfile"},
		{"internal/source/file", "internal/atomicfile"},
		{"internal/journal", "internal/journal/segment"},
		{"internal/journal", "internal/journal/wal"},
		{"internal/rule", "internal/finding"},
		{"internal/rule/native", "internal/rule"},
		{"internal/source/webhook", "internal/source"},
		{"internal/source/webhook", "internal/journal"},
		{"internal/detect", "internal/correlate"},
		{"internal/scan", "internal/detect"},
		{"internal/scan", "internal/envelope"},
		{"internal/coverage", "internal/rule"},
		{"internal/store/segment", "internal/store"},
		{"internal/store/segment", "internal/journal/segment"},
		{"internal/source/webhook", "internal/source/lines"},
		{"internal/store/file", "internal/source/lines"},
		{"internal/store/remote", "internal/store/wire"},
		{"internal/store/remote", "internal/auth/certs"},
		{"internal/api", "internal/store/wire"},
		{"internal/alert/incident", "internal/alert"},
		{"internal/alert/webhook", "internal/alert/post"},
		{"internal/act", "internal/alert/post"},
		{"internal/explain", "internal/store"},
		{"internal/detect", "internal/rule"},
		{"internal/api", "internal/explain"},
		{"internal/app", "internal/store/segment"},
		{"internal/cli", "internal/app"},
		{"internal/store/storetest", "internal/store"},
		{"internal/explain_test", "internal/store/segment"},
		{"cmd/whodunit", "internal/cli"},
	}
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: lintproof GOLANGCI-LINT")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := prove(ctx, os.Args[1], ".golangci.yml"); err != nil {
		fmt.Fprintf(os.Stderr, "lintproof: %v\n", err)
		os.Exit(1) //nolint:gocritic // the program ends here, with or without stop
	}
	fmt.Printf("lintproof: %d imports refused, %d let pass, as .golangci.yml says\n", len(refused()), len(allowed()))
}

func prove(ctx context.Context, linter, config string) error {
	yml, err := os.ReadFile(config)
	if err != nil {
		return fmt.Errorf("cannot read linter configuration: %w", err)
	}
	bad, err := lint(ctx, linter, yml, refused())
	if err != nil {
		return err
	}
	good, err := lint(ctx, linter, yml, allowed())
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range refused() {
		if n := bad[file(e)]; n != 1 {
			errs = append(errs, fmt.Errorf("import of %s by %s: %d findings, want 1", e.to, e.from, n))
		}
	}
	for _, e := range allowed() {
		if n := good[file(e)]; n != 0 {
			errs = append(errs, fmt.Errorf("import of %s by %s: refused, must pass", e.to, e.from))
		}
	}
	return errors.Join(errs...)
}

// file is where an edge's import stands. A folder that ends in _test means a test file of the folder without it.
func file(e edge) string {
	name := "imports_" + strings.NewReplacer("/", "_", ".", "_").Replace(e.to)
	if dir, ok := strings.CutSuffix(e.from, "_test"); ok {
		return path.Join(dir, name+"_test.go")
	}
	return path.Join(e.from, name+".go")
}

// lint counts the findings by file.
func lint(ctx context.Context, linter string, yml []byte, edges []edge) (map[string]int, error) {
	dir, err := os.MkdirTemp("", "lintproof-")
	if err != nil {
		return nil, fmt.Errorf("cannot make the module to lint: %w", err)
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary folder left behind harms nobody
	if err := module(dir, yml, edges); err != nil {
		return nil, fmt.Errorf("cannot make the module to lint: %w", err)
	}
	cmd := exec.CommandContext(ctx, linter, "run", "--enable-only=depguard", "--output.json.path=stdout", "--show-stats=false",
		"--allow-parallel-runners", "./...")
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 1) { // 1: there are findings
		return nil, fmt.Errorf("cannot run %s: %w: %s", linter, err, stderr.Bytes())
	}
	var result struct {
		Issues []struct {
			FromLinter, Text string
			Pos              struct{ Filename string }
		}
	}
	if err := json.Unmarshal(out, &result); err != nil {
		return nil, fmt.Errorf("cannot read the linter's findings: %w: %s", err, stderr.Bytes())
	}
	counts := map[string]int{}
	for _, i := range result.Issues {
		if i.FromLinter != "depguard" {
			return nil, fmt.Errorf("cannot lint %s: %s", i.Pos.Filename, i.Text)
		}
		counts[filepath.ToSlash(i.Pos.Filename)]++
	}
	return counts, nil
}

// module writes one package for every folder named, and the files that hold the imports.
func module(dir string, yml []byte, edges []edge) error {
	files := map[string]string{"go.mod": "module whodunit\n\ngo 1.26.0\n", ".golangci.yml": string(yml)}
	for _, e := range edges {
		from, target := strings.TrimSuffix(e.from, "_test"), e.to
		for _, folder := range []string{from, e.to} {
			if slices.Contains([]string{"internal", "cmd", "test"}, strings.Split(folder, "/")[0]) {
				files[path.Join(folder, "doc.go")] = "package " + packageName(folder) + "\n"
			}
		}
		if !strings.HasPrefix(target, "io/") {
			target = "whodunit/" + target
		}
		files[file(e)] = fmt.Sprintf("package %s\n\nimport _ %q\n", packageName(from), target)
	}
	for name, content := range files {
		full := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(full, []byte(content), 0o600); err != nil {
			return err
		}
	}
	return nil
}

func packageName(folder string) string {
	if strings.HasPrefix(folder, "cmd/") {
		return "main"
	}
	return path.Base(folder)
}
